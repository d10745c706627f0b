"""Check what must hold of a lane, and name the first difference."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from scoring import verification
from transactions.models import Lane


class Command(BaseCommand):
    help = "Check the invariants of a lane (or of all lanes); --replay also replays its log against the stored vectors."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("lane", nargs="?", type=int, help="the lane's id; without it every lane")
        parser.add_argument(
            "--replay", action="store_true", help="base + log give the stored feature vectors, bit for bit"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        lanes = [options["lane"]] if options["lane"] else list(Lane.objects.order_by("pk").values_list("pk", flat=True))
        with connection.cursor() as cursor:
            for lane in lanes:
                self._check(cursor, lane)
                if options["replay"]:
                    self._replay(cursor, lane)

    def _check(self, cursor: Any, lane: int) -> None:
        for name, difference in verification.broken(cursor, lane):
            if difference:
                raise CommandError(f"Lane {lane}: {difference}.")
            self.stdout.write(f"lane {lane}: {name}")

    def _replay(self, cursor: Any, lane: int) -> None:
        compared, difference = verification.replayed(cursor, lane)
        if difference:
            raise CommandError(f"Lane {lane}: {difference}.")
        self.stdout.write(f"lane {lane}: the log's replay gives all {compared} stored vectors")
