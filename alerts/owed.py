"""What alerts still owe, a case or an explanation, worked off in batches, and how far back a worker looks for it.

A bell rings twice a second while alerts come, and each time only what came since the last look can be owed. Looking at
all of the last hour each time would cost more the more alerts there are. What was missed all the same, a sweep finds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.utils import timezone

SLACK = timedelta(seconds=60)  # an alert is stamped before its commit; no commit takes so long
BRISK = timedelta(seconds=5)  # hardly one takes longer than this
THOROUGH_EVERY = timedelta(seconds=20)  # looks with all of the slack
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
    """In one process: everything raised earlier was found done. At first that is only what lies `furthest` back.

    Now and then a look goes back with all of the slack, the others with little: alerts come by the hundred a second
    when they come, and each look asks again for all that it reaches back to.
    """

    def __init__(self, furthest: timedelta) -> None:
        self.furthest = furthest
        self.done_until: datetime | None = None
        self.thorough_at: datetime | None = None

    def work_off(self, step: Callable[[timedelta], int], batch: int) -> int:
        """Work off what was raised since the last look that left nothing over; `step` is told how far back to go."""
        began = timezone.now()
        thorough = self._is_due(began)
        within = self.within(began, SLACK if thorough else BRISK)
        done, is_all = work_off(lambda: step(within), batch)
        if is_all:
            self.done_until = began
            self.thorough_at = began if thorough else self.thorough_at
        return done

    def _is_due(self, now: datetime) -> bool:
        return self.thorough_at is None or not timedelta(0) <= now - self.thorough_at < THOROUGH_EVERY

    def within(self, now: datetime, slack: timedelta) -> timedelta:
        """How far back from `now` to look; never less than the slack, also when the clock was set back."""
        if self.done_until is None:
            return self.furthest
        return min(self.furthest, max(now - self.done_until, timedelta(0)) + slack)
