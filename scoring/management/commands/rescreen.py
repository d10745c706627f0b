"""Ask for payments to be judged again; a worker does it."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scoring import screening
from scoring.models import DEGRADED
from transactions.models import Lane


class Command(BaseCommand):
    help = (
        "Have payments judged again from their stored vectors by what is in force now: those named, or all that fit "
        "the options. The decision is added; the first one stays."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("payments", nargs="*", type=int, help="ids of payments")
        parser.add_argument("--lane", required=True, help="the lane's name")
        parser.add_argument("--reason", required=True, help="why; it stays with the decisions")
        parser.add_argument("--degraded", action="append", default=[], choices=list(DEGRADED), help="live decisions so")
        parser.add_argument("--release", type=int, help="live decisions by this release")
        parser.add_argument("--since", type=_moment, help="decided from then on (ISO 8601)")
        parser.add_argument("--until", type=_moment, help="decided before then")

    def handle(self, *args: Any, **options: Any) -> None:
        lane = Lane.objects.filter(name=options["lane"]).first()
        if lane is None:
            raise CommandError(f"There is no lane {options['lane']}.")
        try:
            request = screening.ask(
                lane,
                reason=options["reason"],
                by=getpass.getuser(),
                payments=options["payments"] or None,
                **{name: options[name] for name in ("degraded", "release", "since", "until")},
            )
        except screening.CannotRescreen as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Re-screening {request.pk} is asked for; a worker does it.")


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else timezone.make_aware(at)
