"""Brings a bank's own history in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transactions.files import BadFile
from transactions.imports import ImportTaken, import_transactions
from transactions.management.progress import client_named, report, shown
from transactions.mapping import BadMapping


class Command(BaseCommand):
    help = "Import payments from CSV (also gzipped) or Parquet. Run it again after a break: it goes on where it was."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--mapping", type=Path, help="TOML file that names columns, constants and units.")
        parser.add_argument("--client", help="Whose payments these are; default: the only or first API client.")
        parser.add_argument(
            "--decide", action="store_true", help="Score them as if they had arrived when they happened; raises alerts."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        client = client_named(options["client"])
        try:
            with shown(f"Payments of {client}") as progress:
                job = import_transactions(
                    options["file"],
                    client=client,
                    mapping=options["mapping"],
                    decide=options["decide"],
                    progress=progress,
                )
        except (BadFile, BadMapping, ImportTaken) as trouble:
            raise CommandError(str(trouble)) from trouble
        report(self.stdout, job, options["file"])
        if not job.decide and job.accepted:
            self.stdout.write("They enter the profiles with the next epoch: manage.py build_epoch")
