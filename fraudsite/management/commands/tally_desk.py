"""Brings the dashboards' roll-ups up to date, or counts them anew from the first row."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fraudsite import worked


class Command(BaseCommand):
    """`tally_desk` does what the clock does each half minute; `--rebuild` forgets all counts first."""

    help = "Bring the dashboards' roll-ups up to date; with --rebuild, from the first row."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rebuild", action="store_true", help="forget every count and read all rows again")

    def handle(self, *args: Any, **options: Any) -> None:
        done = worked.rebuild() if options["rebuild"] else worked.tally(worked.LONGEST_REBUILD)
        if not done:
            raise CommandError("Another process is counting. Try again in a minute.")
        self.stdout.write("The roll-ups are up to date.")
