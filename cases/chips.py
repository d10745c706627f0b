"""The filters of a queue address as people read them: one chip each, which can be taken away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib.auth import get_user_model

from cases.listing import Address
from cases.templatetags.cases import CHANNELS, name_of
from cases.workflow import Disposition, Status

ASSIGNEES = {"me": "Me", "none": "Nobody", "any": "Somebody"}
DUE = {"late": "Late", "today": "Later today", "later": "After today"}


@dataclass(frozen=True)
class Chip:
    """A filter in words, and the address without it."""

    name: str
    value: str
    without: str


def chips(address: Address, queues: dict[str, str]) -> list[Chip]:
    """The chips of an address; `queues`: names by slug."""
    found = [*_search(address), *_lists(address, queues), *_single(address), *_ranges(address)]
    return [Chip(name, value, address.url(**dict.fromkeys(parts, ""))) for name, value, *parts in found]


def _search(address: Address) -> list[tuple[str, ...]]:
    return [("Found for", address.q, "q")] if address.q else []


def _lists(address: Address, queues: dict[str, str]) -> list[tuple[str, ...]]:
    words: dict[str, tuple[str, Any]] = {
        "queue": ("Queue is", lambda value: queues.get(value, value)),
        "status": ("Status is", lambda value: Status(value).label),
        "outcome": ("Outcome is", lambda value: Disposition(value).label),
        "channel": ("Channel is", lambda value: CHANNELS.get(value, value)),
        "country": ("Country is", str),
        "mcc": ("Merchant code is", str),
    }
    return [
        (title, ", ".join(say(value) for value in address.several(name)), name)
        for name, (title, say) in words.items()
        if getattr(address, name)
    ]


def _single(address: Address) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    if address.assignee:
        found.append(("Assignee is", ASSIGNEES.get(address.assignee) or _person(address.assignee), "assignee"))
    if address.due:
        found.append(("Due", DUE[address.due], "due"))
    if address.snoozed:
        found.append(("Snoozed", address.snoozed.capitalize(), "snoozed"))
    if address.reason:
        found.append(("Reason is", address.reason, "reason"))
    if address.tag:
        found.append(("Tag is", address.tag, "tag"))
    return found


def _person(pk: str) -> str:
    user = get_user_model().objects.filter(pk=int(pk)).first()
    return name_of(user) if user else "Nobody known"


def _ranges(address: Address) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    if address.score_from or address.score_to:
        found.append(("Score", _span(address.score_from, address.score_to), "score_from", "score_to"))
    if address.amount_from or address.amount_to or address.currency:
        span = _span(_grouped(address.amount_from), _grouped(address.amount_to))
        found.append(("Amount", f"{span} {address.currency}".strip(), "amount_from", "amount_to", "currency"))
    if address.since or address.until:
        title = "Closed" if address.only_closed else "Opened"
        found.append((title, _span(_day(address.since), _day(address.until)), "since", "until"))
    return found


def _span(low: str, high: str) -> str:
    if low and high:
        return f"{low}–{high}"
    return f"from {low}" if low else f"up to {high}" if high else "any"


def _grouped(amount: str) -> str:
    whole, _, rest = amount.partition(".")
    return f"{int(whole):,}" + (f".{rest}" if rest else "") if amount else ""


def _day(text: str) -> str:
    return f"{date.fromisoformat(text):%d %b}".lstrip("0") if text else ""
