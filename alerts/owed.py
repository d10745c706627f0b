"""What alerts still owe, a case or an explanation, worked off in batches, and how far back a worker looks for it.

A bell rings twice a second while alerts come, and each time only what came since the last look can be owed. Looking at
all of the last hour each time would cost more the more alerts there are. What was missed all the same, a sweep finds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.utils import timezone

SLACK = timedelta(seconds=60)  # an alert is stamped before its commit; no commit takes so long
ROUNDS = 20  # batches that one message works off; the next beat goes on


def work_off(step: Callable[[], int], batch: int) -> tuple[int, bool]:
    """Repeat `step`, which does up to `batch` and tells how many: how many in all, and whether nothing is left."""
    done = 0
    for _ in range(ROUNDS):
        did = step()
        done += did
        if did < batch:
            return done, True
    return done, False


class Horizon:
    """In one process: everything raised earlier was found done. At first that is only what lies `furthest` back."""

    def __init__(self, furthest: timedelta) -> None:
        self.furthest = furthest
        self.done_until: datetime | None = None

    def work_off(self, step: Callable[[timedelta], int], batch: int) -> int:
        """Work off what was raised since the last look that left nothing over; `step` is told how far back to go."""
        began = timezone.now()
        within = self.within(began)
        done, is_all = work_off(lambda: step(within), batch)
        if is_all:
            self.done_until = began
        return done

    def within(self, now: datetime) -> timedelta:
        """How far back from `now` to look; never less than the slack, also when the clock was set back."""
        if self.done_until is None:
            return self.furthest
        return min(self.furthest, max(now - self.done_until, timedelta(0)) + SLACK)
