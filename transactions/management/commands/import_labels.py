"""Brings in what a bank knows of its payments: frauds, chargebacks, customers' words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transactions.files import BadFile
from transactions.imports import ImportTaken, import_labels
from transactions.management.progress import client_named, report, shown
from transactions.mapping import BadMapping


class Command(BaseCommand):
    help = "Import labels from CSV (also gzipped) or Parquet, by external_id. Run it again after a break."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--mapping", type=Path, help="TOML file that names columns, constants and units.")
        parser.add_argument("--client", help="Whose payments are meant; default: the only or first API client.")

    def handle(self, *args: Any, **options: Any) -> None:
        client = client_named(options["client"])
        try:
            with shown(f"Labels of {client}") as progress:
                job = import_labels(options["file"], client=client, mapping=options["mapping"], progress=progress)
        except (BadFile, BadMapping, ImportTaken) as trouble:
            raise CommandError(str(trouble)) from trouble
        report(self.stdout, job, options["file"])
