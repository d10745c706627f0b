"""Rebuild the profiles of a lane from what cannot be wrong, and say whether they had been right."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scoring import repair
from transactions.models import Lane


class Command(BaseCommand):
    help = (
        "Drop a lane's snapshots and rebuild its profiles from base and log (from the rows, as a new epoch, where the "
        "base is lost); compares them with the running owner's memory first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("lane_id", nargs="?", type=int, metavar="lane", help="the lane's id; without it every lane")
        parser.add_argument("--lane", type=int, help="the same")
        parser.add_argument("--patience", type=float, default=repair.PATIENCE, help="seconds that an owner may take")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = options["lane_id"] or options["lane"]
        for lane in [chosen] if chosen else Lane.objects.order_by("pk").values_list("pk", flat=True):
            try:
                repair.rebuild_profiles(lane, self._says(lane), patience=options["patience"])
            except repair.CannotRepair as error:
                raise CommandError(str(error)) from error

    def _says(self, lane: int) -> repair.Say:
        return lambda text: self.stdout.write(f"lane {lane}: {text}")
