"""What time it is for acts that are written down: the machine's clock, unless a demo lives through its past.

Whatever dates a row asks here. A demo's history is made by the same services as any day's work, so nothing of it is
written in another way; all that differs is the time at which the seeding thread stands. Outside of a demo nobody can
stand anywhere else: no record of a bank is ever dated back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

import numpy as np
from django.conf import settings
from django.utils import timezone

_standing: ContextVar[datetime | None] = ContextVar("standing", default=None)


class NotADemo(RuntimeError):
    """Only a demo has a past to be lived through."""


def now() -> datetime:
    """The time to write down."""
    return _standing.get() or timezone.now()


def each(came: np.ndarray, decided: int) -> np.ndarray | int:
    """When each payment of a batch was decided: all at once; of a past that is lived through, each when it came.

    Micro-seconds since 2000, as the facts have them.
    """
    return decided if _standing.get() is None else came


@contextmanager
def standing_at(moment: datetime) -> Iterator[None]:
    """Let this thread's acts be dated to a moment that has passed; one to come is taken for now. Raises NotADemo."""
    if not settings.DEMO:
        raise NotADemo("Only a demo (FRAUD_MODE=demo) has a past to be lived through.")
    token = _standing.set(min(moment, timezone.now()))
    try:
        yield
    finally:
        _standing.reset(token)
