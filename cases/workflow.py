"""Where a case may go from where it is, what closing it means, and how urgent it is. Plain Python, no queries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cases.calendar import ALWAYS, Hours
from cases.models import Case

# Texts. Without Django's stubs a type checker takes their members for pairs of value and label.
Status: Any = Case.Status
Disposition: Any = Case.Disposition

OPEN = frozenset(Status) - {Status.CLOSED}
CLAIMABLE = frozenset({Status.NEW, Status.WAITING, Status.ESCALATED})
HELD_BY_A_PERSON = frozenset({Status.IN_REVIEW, Status.PENDING_APPROVAL})

MOVES: dict[str, frozenset[str]] = {
    Status.NEW: frozenset({Status.IN_REVIEW}),
    Status.IN_REVIEW: frozenset({Status.NEW, Status.WAITING, Status.ESCALATED, Status.PENDING_APPROVAL, Status.CLOSED}),
    Status.WAITING: frozenset({Status.NEW, Status.IN_REVIEW, Status.ESCALATED}),
    Status.ESCALATED: frozenset({Status.IN_REVIEW}),
    Status.PENDING_APPROVAL: frozenset({Status.NEW, Status.ESCALATED, Status.IN_REVIEW, Status.CLOSED}),
    Status.CLOSED: frozenset({Status.IN_REVIEW}),
}

# What a disposition says of the payments it covers: the label, and what becomes of a held payment (not named:
# the policy's default decides).
LABEL: dict[str, str] = {
    Disposition.CONFIRMED_FRAUD: "fraud",
    Disposition.LEGITIMATE: "legitimate",
    Disposition.LEGITIMATE_USEFUL: "legitimate",
}
RESOLUTION: dict[str, str] = {
    Disposition.CONFIRMED_FRAUD: "blocked",
    Disposition.SUSPECTED_FRAUD: "blocked",
    Disposition.LEGITIMATE: "released",
    Disposition.LEGITIMATE_USEFUL: "released",
}
FRAUD = frozenset({Disposition.CONFIRMED_FRAUD, Disposition.SUSPECTED_FRAUD})
GENUINE = frozenset({Disposition.LEGITIMATE, Disposition.LEGITIMATE_USEFUL})

SHORTEST_RATIONALE = 10


class CaseError(Exception):
    """A refusal that a door can show: its text is a sentence for people."""


class IllegalMove(CaseError):
    """The case cannot go there from where it is."""

    def __init__(self, before: str, after: str):
        super().__init__(f"A case that is {words(before)} cannot become {words(after)}.")


def words(status: str) -> str:
    """A status as it reads in a sentence."""
    return Status(status).label.lower()


def check_move(before: str, after: str) -> None:
    """Raise IllegalMove unless the table allows it."""
    if after not in MOVES[before]:
        raise IllegalMove(before, after)


def priority(*, severity: int, amount: float, weight: int) -> int:
    """1 (most urgent) to 4, by severity, amount (in units of the base currency) and the queue's weight."""
    by_amount = 1 if amount >= 5000 else -1 if amount < 50 else 0
    return max(1, min(4, severity - by_amount - weight))


def due(
    opened_at: datetime, level: int, sla: dict[str, int], hold_until: datetime | None, hours: Hours = ALWAYS
) -> datetime:
    """When a case of that priority must be done: after its queue's minutes, which count only in its working hours, and
    before a held payment resolves itself."""
    by_queue = hours.add(opened_at, sla.get(str(level), 1440))
    return min(by_queue, hold_until) if hold_until else by_queue
