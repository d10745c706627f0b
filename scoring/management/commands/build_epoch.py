"""manage.py build_epoch: rebuild a lane's profiles beside live traffic, from its log and the imports listed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scoring import epochs
from transactions.models import Lane


class Command(BaseCommand):
    help = "Build the next epoch of a lane by time replay. The lane's owner switches to it by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("lane", help="name of the lane")
        parser.add_argument(
            "--imports", default="all", help="ids of finished imports, with commas; all (default) or none"
        )
        parser.add_argument("--reason", default="", help="why, for the record")

    def handle(self, *args: Any, **options: Any) -> None:
        lane = Lane.objects.filter(name=options["lane"]).first()
        if lane is None:
            raise CommandError(f"There is no lane {options['lane']}.")
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True
        ) as bar:
            task = bar.add_task("replaying payments", total=None)
            try:
                epoch = epochs.build(
                    lane.pk,
                    imports=_imports(options["imports"]),
                    reason=options["reason"],
                    progress=lambda at: bar.update(task, completed=at.done, total=at.total),
                )
            except epochs.UnknownImport as error:
                raise CommandError(str(error)) from error
        self.stdout.write(
            f"Epoch {epoch.number} of {lane.name} is ready: {epoch.payments} payments and {epoch.labels} labels."
            " The lane switches to it between two claims."
        )


def _imports(text: str) -> list[int] | None:
    if text == "all":
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip() and part != "none"]
    except ValueError:
        raise CommandError("--imports takes ids of imports with commas between them, all, or none.") from None
