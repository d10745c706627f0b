"""Run a lane in the foreground, without Celery and without a broker."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fraudsite import pipeline
from scoring.lanes import LaneTaken, UnknownLane


class Command(BaseCommand):
    requires_system_checks = ()  # they load every page of the desk: a killed owner must be back in seconds
    help = "Own a lane and judge its payments until Ctrl-C; with --once only what is owed now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("lane", type=int, help="the lane's id")
        parser.add_argument("--once", action="store_true", help="judge what is owed, then end")

    def handle(self, *args: Any, **options: Any) -> None:
        lane = options["lane"]
        try:
            if options["once"]:
                self.stdout.write(f"lane {lane}: {pipeline.drain(lane)} taken in")
                return
            until = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: until.set())
            pipeline.run(lane, until=until)
            if not until.is_set():
                raise LaneTaken
        except LaneTaken as error:
            raise CommandError(f"Lane {lane} has an owner already.") from error
        except UnknownLane as error:
            raise CommandError(f"There is no lane {lane}.") from error
