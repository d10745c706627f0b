"""Everything a demo starts from: roles, queues, rules, a client, a simulated past, and a first model in force."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from fraudsite import demo
from transactions.clock import NotADemo

T = TypeVar("T")
EACH_SECONDS = 2.0  # between two lines of progress where nobody watches a terminal


class Command(BaseCommand):
    help = "Seed the demo: idempotent, goes on where it was interrupted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=demo.DAYS, help="Length of the simulated history.")
        parser.add_argument("--per-day", type=int, default=demo.PER_DAY, help="Payments a day in it.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._seed(options["days"], options["per_day"])
        except (demo.NoModel, NotADemo) as reason:
            raise CommandError(str(reason)) from None

    def _seed(self, days: int, per_day: int) -> None:
        recent = demo.recent_days(days)
        lane, client = self._step("Roles, queues, reason codes, rates", demo.seed_basics)
        plan = {"days": days, "per_day": per_day, "recent": recent}
        past = demo.Past(demo.history_job(client, **plan).started_at, days, per_day)
        job = self._step("Simulated history", lambda show: demo.seed_history(client, **plan, past=past, progress=show))
        if demo.needs_epoch(lane, job):
            self._step("Profiles from the history", lambda show: demo.seed_profiles(lane, show))
        version = self._step(
            "First model", lambda show: demo.seed_model(lane, job, self._say, show, days=days, recent=recent)
        )
        self._step("Rules, policy and model in force", lambda: demo.seed_release(lane, version))
        self._step(
            f"The last {recent} days, judged and worked",
            lambda show: demo.seed_recent(client, **plan, past=past, progress=show),
        )
        self._step("The desk of this hour", lambda: demo.seed_today(client, **plan, past=past))

    def _step(self, name: str, work: Callable[..., T]) -> T:
        """Do one step and say how long it took; steps that take an argument get a function that shows progress."""
        began = time.monotonic()
        takes_progress = work.__code__.co_argcount > 0
        result = work(self._progress(name)) if takes_progress else work()
        took = time.monotonic() - began
        if took > 0.5:
            self._say(f"{name}: done in {took:.1f} s")
        return result

    def _progress(self, name: str) -> Callable[[int, int], None]:
        last = time.monotonic()

        def show(done: int, whole: int) -> None:
            nonlocal last
            if time.monotonic() - last < (0.2 if sys.stdout.isatty() else EACH_SECONDS):
                return
            last = time.monotonic()
            share = min(99, 100 * done // max(1, whole))
            self.stdout.write(f"  {name}: {share} %", ending="\r" if sys.stdout.isatty() else "\n")
            self.stdout.flush()

        return show

    def _say(self, text: str) -> None:
        self.stdout.write(f"  {text}")
        self.stdout.flush()
