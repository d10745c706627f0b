"""Payments as columns: the NumPy layout of the fixed-width part of `Transaction`, and its clock.

One batch is one structured array; one payment is a batch of one. Times are micro-seconds since 2000-01-01 UTC, which is
what Postgres itself stores, so that COPY BINARY needs no conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
from django.db import models

from transactions.models import ABSENT, ABSENT_DAY, Transaction

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def micros(at: datetime) -> int:
    """`at` (aware) as micro-seconds since 2000-01-01 UTC, exact."""
    delta = at - EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def moment(value: int) -> datetime:
    """The aware UTC datetime of `value` micro-seconds since 2000-01-01."""
    return EPOCH + timedelta(microseconds=int(value))


def days(day: date) -> int:
    """`day` as days since 2000-01-01."""
    return (day - EPOCH.date()).days


_WIDTHS: list[tuple[type[models.Field], str]] = [
    (models.BigIntegerField, "i8"),
    (models.DateTimeField, "i8"),
    (models.SmallIntegerField, "i2"),
    (models.IntegerField, "i4"),
    (models.FloatField, "f4"),
]


def _layout() -> list[tuple[str, str]]:
    columns = []
    for field in Transaction._meta.fields:
        for kind, width in _WIDTHS:
            if isinstance(field, kind):
                columns.append((field.attname, width))
                break
    return columns


FACTS = np.dtype(_layout())
FACT_COLUMNS: tuple[str, ...] = FACTS.names or ()

# What a column holds when a payment did not say: everything else is 0.
NOT_SENT: dict[str, float] = {
    "balance_before": ABSENT,
    "customer_since": ABSENT_DAY,
    "account_opened": ABSENT_DAY,
    "session_age": -1,
    "mcc": -1,
    "lat": np.nan,
    "lon": np.nan,
}


def blank(n: int) -> np.ndarray:
    """`n` payments that say nothing: shape (n,), dtype FACTS."""
    facts = np.zeros(n, FACTS)
    for name, value in NOT_SENT.items():
        facts[name] = value
    return facts


def together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Payments one after the other, dtype FACTS; cheaper than NumPy's own, which compares all fields each time."""
    return parts[0] if len(parts) == 1 else np.frombuffer(bytearray().join(part.tobytes() for part in parts), FACTS)
