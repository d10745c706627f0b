"""Check what must hold of a lane, and name the first difference."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.transaction import atomic

from scoring import verification
from transactions.models import Lane


class Command(BaseCommand):
    help = (
        "Check every invariant of a lane (or of all lanes) and that its ledger adds up; --replay also replays its log "
        "against the stored vectors. Names the first difference and ends with 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("lane_id", nargs="?", type=int, metavar="lane", help="the lane's id; without it every lane")
        parser.add_argument("--lane", type=int, help="the same")
        parser.add_argument(
            "--replay",
            action="store_true",
            help="base + log give the stored vectors, bit for bit, in every epoch whose base is on this disk",
        )
        parser.add_argument("--since-epoch", type=int, default=0, metavar="N", help="replay from that epoch on only")
        parser.add_argument(
            "--all-epochs", action="store_true", help="an epoch that cannot be replayed is a difference"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = options["lane_id"] or options["lane"]
        lanes = [chosen] if chosen else list(Lane.objects.order_by("pk").values_list("pk", flat=True))
        for lane in lanes:
            self._check(lane)
            if options["replay"]:
                self._replay(lane, options["since_epoch"], whole=options["all_epochs"])

    @atomic
    def _check(self, lane: int) -> None:
        ledger: verification.Ledger = {}
        with connection.cursor() as cursor:
            cursor.execute(verification.SNAPSHOT)
            for name, difference in verification.broken(cursor, lane, ledger):
                if difference:
                    raise CommandError(f"Lane {lane}: {difference}.")
                self.stdout.write(f"lane {lane}: {name}")
        self.stdout.write(f"lane {lane}: {verification.told(ledger)}")

    def _replay(self, lane: int, since: int, *, whole: bool) -> None:
        total = 0
        with connection.cursor() as cursor:
            for segment in verification.segments(cursor, lane, since=since):
                found = verification.replayed(cursor, lane, segment)
                total += found.compared
                if found.difference or (whole and found.left_out):
                    raise CommandError(f"Lane {lane}, epoch {found.epoch}: {found.difference or found.left_out}.")
                said = f"cannot be replayed: {found.left_out}" if found.left_out else f"{found.compared} vectors"
                self.stdout.write(f"lane {lane}, epoch {found.epoch}: {said}")
        self.stdout.write(f"lane {lane}: the log's replay gives all {total} stored vectors")
