"""Which alerts the live page shows: its filters and its place, both in its address. Bounded reads, keyset pages.

Filters look through the newest alerts only, `LOOKED_THROUGH` of them a page: one that little fits may not read all
there is. "Older" goes on from where the looking stopped, so every alert can be reached.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet

from alerts.models import Alert
from alerts.services import STOPPED
from transactions.codes import CHANNEL, EXPONENT
from transactions.models import Lane

SEVERITIES = (1, 2, 3, 4)
CHANNELS = tuple(CHANNEL)
ROWS = 40
LOOKED_THROUGH = 2000


@dataclass(frozen=True)
class Address:
    """The live page's address, understood; what cannot be understood is left out."""

    severity: int = 0  # this severity or worse; 0: all
    outcome: str = ""
    channel: str = ""
    amount: int = 0  # whole units of the base currency, at least
    before: tuple[datetime, int] | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Address:
        """From the query string."""
        severity, amount = _number(query.get("severity", "")), _number(query.get("amount", ""))
        outcome, channel = query.get("outcome", ""), query.get("channel", "")
        return cls(
            severity=severity if severity in SEVERITIES else 0,
            outcome=outcome if outcome in STOPPED else "",
            channel=channel if channel in CHANNELS else "",
            amount=amount,
            before=_place(query.get("before", "")),
        )

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that are set."""
        every = {"severity": self.severity, "outcome": self.outcome, "channel": self.channel, "amount": self.amount}
        return {name: value for name, value in every.items() if value}

    def url(self, before: str = "") -> str:
        """The query string of these filters at a place."""
        return "?" + urlencode({**self.filters, **({"before": before} if before else {})})


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0


def _place(text: str) -> tuple[datetime, int] | None:
    at, _, alert_id = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return None
    return (moment, _number(alert_id)) if moment.tzinfo else None


def place_of(alert: Alert) -> str:
    """The place right after an alert, as the address has it."""
    return f"{alert.raised_at.isoformat()}~{alert.pk}"


def base_currency() -> str:
    """The currency that amounts of all kinds are compared in."""
    return Lane.objects.order_by("pk").values_list("base_currency", flat=True).first() or "EUR"


@dataclass(frozen=True)
class Rows:
    """One page of the stream: its alerts, newest first, and where the next one begins (empty: nothing older)."""

    alerts: list[Alert]
    older: str


def rows(address: Address, unit: int, without: Collection[int] = ()) -> Rows:
    """The newest alerts at the address's place that pass its filters; `unit`: minor units of 1 of the base currency;
    `without`: customers of whom the reader sees nothing."""
    past = Alert.objects.order_by("-raised_at", "-pk").defer("reasons", "rules")
    if without:
        past = past.exclude(customer__in=without)
    if address.before:
        at, alert_id = address.before
        past = past.filter(raised_at__lte=at).filter(Q(raised_at__lt=at) | Q(pk__lt=alert_id))
    if not address.filters:
        return _page(list(past[: ROWS + 1]))
    looked = list(past.values_list("pk", "raised_at")[:LOOKED_THROUGH])
    if not looked:
        return Rows([], "")
    fitting = list(_fitting(past.filter(pk__in=[pk for pk, _ in looked]), address, unit)[: ROWS + 1])
    if len(fitting) > ROWS:
        return _page(fitting)
    last, at = looked[-1]
    return Rows(fitting, f"{at.isoformat()}~{last}" if len(looked) == LOOKED_THROUGH else "")


def _page(found: list[Alert]) -> Rows:
    return Rows(found[:ROWS], place_of(found[ROWS - 1]) if len(found) > ROWS else "")


def _fitting(alerts: QuerySet[Alert], address: Address, unit: int) -> QuerySet[Alert]:
    if address.severity:
        alerts = alerts.filter(severity__lte=address.severity)
    if address.outcome:
        alerts = alerts.filter(outcome=address.outcome)
    if address.channel:
        alerts = alerts.filter(channel=address.channel)
    return alerts.filter(amount_base__gte=address.amount * unit) if address.amount else alerts


def unit_of(currency: str) -> int:
    """Minor units of one of a currency."""
    return 10 ** EXPONENT.get(currency, 2)


def as_said(address: Address, unit: int) -> dict[str, Any]:
    """The filters as the page's script applies them to what is pushed."""
    return {**address.filters, "amount": address.amount * unit, "older": bool(address.before)}
