"""The side panel of the queue: one case in short, without claiming it. Everything in it stands on the case page too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from cases import dossier, factsheet
from cases.models import Case
from cases.timeline import Entry, timeline
from transactions.masks import masked

MOST_REASONS = 5
MOST_PAYMENTS = 5
# The entities whose newness is news: name in the document, words, prefix of the mask.
PARTIES = (
    ("counterparty", "Payee", ""),
    ("merchant", "Merchant", ""),
    ("card", "Card", ""),
    ("device", "Device", ""),
)


@dataclass(frozen=True)
class Party:
    """An entity of the payment: masked, and when the customer was first seen with it."""

    name: str
    value: str
    first: datetime | None = None
    is_new: bool = False


@dataclass(frozen=True)
class Payment:
    """A line of the last payments: a time today, else a day; who was paid rather than how."""

    at: datetime
    when: str
    name: str
    amount: str
    outcome: str


def context(case: Case, queues: list[int]) -> dict[str, Any]:
    """What the panel shows of a case; `queues`: those whose cases the person may read."""
    chosen = dossier.in_full(case)
    alerts = dossier.flagged(case) if case.alert_count > 1 else [each for each in [chosen] if each]
    parts = dossier.sums(alerts, dossier.beyond(case, alerts))
    entries, _ = timeline(case, queues=queues, show="payments")
    return {
        "case": case,
        "at_risk": dossier.at_risk(case, parts),
        "money": dossier.money(parts),
        "payments": [_payment(entry) for entry in entries if entry.kind == "payment"][:MOST_PAYMENTS],
        **(_why(case, chosen, queues) if chosen else {}),
    }


def _payment(entry: Entry) -> Payment:
    local = timezone.localtime(entry.at)
    when = f"{local:%H:%M}" if local.date() == timezone.localdate() else f"{local:%d %b}".lstrip("0")
    return Payment(entry.at, when, entry.title.partition(", ")[2] or entry.title, entry.amount, entry.outcome)


def _why(case: Case, chosen: dossier.Flagged, queues: list[int]) -> dict[str, Any]:
    said = [*chosen.rules, *chosen.listed, *chosen.factors]
    return {
        "chosen": chosen,
        "short": dossier.in_short(chosen),
        "reasons": said[:MOST_REASONS],
        "hits": len(chosen.rules) + len(chosen.listed),
        "factors": len(chosen.factors),
        "gauge": dossier.gauge(chosen),
        "parties": _parties(case, chosen, queues),
    }


def _parties(case: Case, chosen: dossier.Flagged, queues: list[int]) -> list[Party]:
    payment, document = chosen.alert.transaction, chosen.document
    seen = factsheet.past(case, payment, queues).seen
    found = []
    for kind, words, prefix in PARTIES:
        part = document.get(kind) or {}
        if not part:
            continue
        first, times = seen.get(kind, (None, 0))
        found.append(Party(words, _value(kind, part, prefix), first, times == 1))
    return found


def _value(kind: str, part: dict[str, Any], prefix: str) -> str:
    if kind == "merchant" and part.get("name"):
        return part["name"]
    if kind == "card" and part.get("last4"):
        return f"•••• {part['last4']}"
    return masked(part.get("id"), part.get("country", "") or prefix)
