"""My day: a person's own open work, what is due, what they wait for, and how long their own cases take them.

Figures are a person's own and shown to them alone; nothing here compares people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import quantiles
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from cases.models import Case, CaseEvent
from cases.querysets import by_urgency, without_kept
from cases.workflow import Status

SHIFT = timedelta(hours=8)
PERIOD = timedelta(days=7)
MOST_SHOWN = 50
MOST_MEASURED = 500  # newest own closes that handling times are taken from
TAKES = frozenset({"claimed", "taken_over", "reopened", "close_undone"})
LEAVES = frozenset(
    {
        "released",
        "lease_expired",
        "closed",
        "escalated",
        "waiting",
        "pending_approval",
        "assigned",
        "moved",
        "handed_over",
    }
)


def own_open(user: Any) -> QuerySet[Case]:
    """The person's cases, in hand or given to them, most urgent first."""
    mine = Case.objects.filter(assignee=user).exclude(status__in=[Status.CLOSED, Status.WAITING])
    return by_urgency(without_kept(mine, user).select_related("queue", "lane"))


def waiting_for(user: Any) -> QuerySet[Case]:
    """The sleeping cases that the person put to sleep, first to wake first."""
    slept = CaseEvent.objects.filter(case=OuterRef("pk"), kind__in=("waiting", "snoozed"), actor=user)
    sleeping = Case.objects.filter(Q(assignee=user) | Exists(slept), status=Status.WAITING)
    return without_kept(sleeping, user).select_related("queue", "lane").order_by("wake_at", "pk")


@dataclass(frozen=True)
class Times:
    """Half of them took no longer than p50, nine in ten no longer than p90 (seconds); `count` of how many."""

    count: int
    p50: float | None = None
    p90: float | None = None


def times_of(seconds: Sequence[float]) -> Times:
    """The percentiles of some lengths of time."""
    if not seconds:
        return Times(0)
    if len(seconds) == 1:
        return Times(1, seconds[0], seconds[0])
    cuts = quantiles(seconds, n=10, method="inclusive")
    return Times(len(seconds), cuts[4], cuts[8])


@dataclass(frozen=True)
class Line:
    """What a handling time needs of a line of history."""

    kind: str
    at: datetime
    actor: int | None


def in_hand(lines: Iterable[Line], user_id: int) -> float:
    """How many seconds a person had a case in hand, by its lines of history in order."""
    total, since = 0.0, None
    for line in lines:
        if since is not None and (line.kind in LEAVES or line.kind in TAKES):
            total += (line.at - since).total_seconds()
            since = None
        if line.kind in TAKES and line.actor == user_id:
            since = line.at
    return total


@dataclass(frozen=True)
class Own:
    """A person's own figures of the last days."""

    closed: int
    handling: Times
    decision: Times
    kept: int
    by_disposition: dict[str, int] = field(default_factory=dict)


def own_figures(user: Any) -> Own:
    """Handling time and time to decision of what the person closed in the last seven days."""
    closed = Case.objects.filter(closed_by=user, status=Status.CLOSED, closed_at__gte=timezone.now() - PERIOD)
    cases = list(closed.order_by("-closed_at").only(*FIELDS)[:MOST_MEASURED])
    handling = [in_hand(lines, user.pk) for lines in _histories([case.pk for case in cases])]
    decided = [(case.closed_at - case.opened_at).total_seconds() for case in cases if case.closed_at]
    kept = sum(case.closed_at <= case.due_at for case in cases if case.closed_at)
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.disposition] = counts.get(case.disposition, 0) + 1
    return Own(len(cases), times_of([s for s in handling if s > 0]), times_of(decided), kept, counts)


FIELDS = ("opened_at", "closed_at", "due_at", "disposition")


def _histories(case_ids: list[int]) -> list[list[Line]]:
    """The lines of history of each case, in order, by their index."""
    rows = CaseEvent.objects.filter(case__in=case_ids, kind__in=TAKES | LEAVES).order_by("case", "pk")
    found: dict[int, list[Line]] = {}
    for case, kind, at, actor in rows.values_list("case", "kind", "at", "actor"):
        found.setdefault(case, []).append(Line(kind, at, actor))
    return list(found.values())


@dataclass(frozen=True)
class Shift:
    """What a person would tell the next shift: open, waiting for, due in the next eight hours."""

    open: list[Case]
    waiting: list[Case]
    due: list[Case]
    late: list[Case]

    def text(self) -> str:
        """As plain text, to copy into a message. Case numbers only; no names, no amounts."""
        now = timezone.localtime()
        parts = [f"Shift summary, {now:%d %b %H:%M}".replace(" 0", " ")]
        for title, cases in (("Open", self.open), ("Late", self.late), ("Due in 8 h", self.due)):
            parts.append(f"{title} ({len(cases)}): {', '.join(case.number for case in cases) or 'none'}")
        sleeping = ", ".join(f"{case.number} until {_clock(case.wake_at)}" for case in self.waiting) or "none"
        return "\n".join([*parts, f"Waiting for ({len(self.waiting)}): {sleeping}"])


def _clock(at: datetime | None) -> str:
    return timezone.localtime(at).strftime("%d %b %H:%M").lstrip("0") if at else "an event"


def shift(user: Any) -> Shift:
    """The person's shift as it stands (three bounded lists)."""
    now = timezone.now()
    mine, waiting = list(own_open(user)[:MOST_SHOWN]), list(waiting_for(user)[:MOST_SHOWN])
    late = [case for case in mine if case.due_at < now]
    due = [case for case in mine if now <= case.due_at <= now + SHIFT]
    return Shift(mine, waiting, due, late)
