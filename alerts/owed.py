"""How far back a worker looks for alerts that still owe something: a case, an explanation.

A bell rings twice a second while alerts come, and each time only what came since the last look can be owed. Looking at
all of the last hour each time would cost more the more alerts there are. What was missed all the same, a sweep finds.
"""

from __future__ import annotations

from datetime import datetime, timedelta

SLACK = timedelta(seconds=60)  # an alert is stamped before its commit; no commit takes so long


class Horizon:
    """In one process: everything raised earlier was found done. At first that is only what lies `furthest` back."""

    def __init__(self, furthest: timedelta) -> None:
        self.furthest = furthest
        self.done_until: datetime | None = None

    def within(self, now: datetime) -> timedelta:
        """How far back from `now` to look."""
        return self.furthest if self.done_until is None else min(self.furthest, now - self.done_until + SLACK)

    def reached(self, began: datetime) -> None:
        """A look that began then left nothing over."""
        self.done_until = began
