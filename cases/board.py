"""The lead board: what waits where and how long already, who is there, what comes in and what goes out.

Everything goes by an index: open cases have partial ones, what was opened or closed lately is found by its time. The
million closed cases are never read. Figures are of whole queues; nobody is ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone

from alerts import charts, online
from cases import absence
from cases.models import Case, Queue
from cases.querysets import by_urgency, open_ones, without_kept
from cases.workflow import Status

HOURS = 24  # of inflow, outflow and kept due times
MOST_LISTED = 100  # cases of a cell that are listed, and moved at once
AGES: tuple[tuple[str, float, float | None], ...] = (  # name, hours from, hours to
    ("0–4 h", 0, 4),
    ("4–24 h", 4, 24),
    ("1–3 d", 24, 72),
    ("3–10 d", 72, 240),
    ("over 10 d", 240, None),
)
FORMULAS = {
    "open": "cases that are not closed",
    "late": "open cases whose due time has passed",
    "oldest": "now − opening of the oldest open case",
    "sla": "closed by their due time ÷ closed, of the last 24 hours",
    "ratio": "opened ÷ closed, of the last 24 hours",
}

# Both halves go by an index: (queue, opened_at), and closed_at among the closed.
FLOW_SQL = """
SELECT date_bin('1 hour', opened_at, %(start)s), queue_id, count(*), 0, 0 FROM "case"
WHERE queue_id = ANY(%(queues)s) AND opened_at >= %(start)s GROUP BY 1, 2
UNION ALL
SELECT date_bin('1 hour', closed_at, %(start)s), queue_id, 0, count(*),
       count(*) FILTER (WHERE closed_at <= due_at AND breached_at IS NULL) FROM "case"
WHERE status = 'closed' AND closed_at >= %(start)s AND queue_id = ANY(%(queues)s) GROUP BY 1, 2
"""


@dataclass
class Row:
    """One queue on the board."""

    queue: Queue
    ages: list[int]
    open: int = 0
    late: int = 0
    unassigned: int = 0
    oldest: datetime | None = None
    opened: int = 0
    closed: int = 0
    kept: int = 0

    @property
    def sla(self) -> float | None:
        """Per cent of the day's closed cases that were done in time; None where none was closed."""
        return 100 * self.kept / self.closed if self.closed else None

    @property
    def seconds(self) -> float | None:
        """The age of the oldest open case."""
        return (timezone.now() - self.oldest).total_seconds() if self.oldest else None


@dataclass(frozen=True)
class Hour:
    """One hour of flow over all queues shown."""

    at: datetime
    opened: int
    closed: int


@dataclass(frozen=True)
class Colleague:
    """A member of the queues: there or not, and what is in their name."""

    user: Any
    is_online: bool
    away_until: datetime | None
    in_hand: int
    given: int
    late: int
    next_due: datetime | None

    @property
    def open(self) -> int:
        """All that is theirs."""
        return self.in_hand + self.given


def rows(queues: Sequence[Queue]) -> list[Row]:
    """The queues with their backlog by age; what is closed lately is added by `flow`."""
    now = timezone.now()
    found = {queue.pk: Row(queue, [0] * len(AGES)) for queue in queues}
    ages = {f"age_{i}": Count("pk", filter=_aged(i, now)) for i in range(len(AGES))}
    counted = open_ones(Case.objects.filter(queue__in=found)).order_by().values("queue")
    for each in counted.annotate(
        open=Count("pk"),
        late=Count("pk", filter=Q(due_at__lt=now)),
        unassigned=Count("pk", filter=Q(assignee__isnull=True, status=Status.NEW)),
        oldest=Min("opened_at"),
        **ages,
    ):
        row = found[each["queue"]]
        row.ages = [each[name] for name in ages]
        row.open, row.late, row.unassigned, row.oldest = (
            each[name] for name in ("open", "late", "unassigned", "oldest")
        )
    return list(found.values())


def _aged(age: int, now: datetime) -> Q:
    """Opened as long ago as the bucket says."""
    _, least, most = AGES[age]
    younger = Q(opened_at__lte=now - timedelta(hours=least)) if least else Q()
    return younger if most is None else younger & Q(opened_at__gt=now - timedelta(hours=most))


def flow(found: Iterable[Row]) -> list[Hour]:
    """Opened and closed in each of the last 24 hours, oldest first; adds the day's sums to the rows."""
    by_queue = {row.queue.pk: row for row in found}
    start = timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hours = {start + timedelta(hours=i): [0, 0] for i in range(HOURS)}
    with connection.cursor() as cursor:
        cursor.execute(FLOW_SQL, {"start": start, "queues": list(by_queue)})
        for at, queue, opened, closed, kept in cursor.fetchall():
            row, hour = by_queue[queue], hours.get(at.astimezone(UTC))
            row.opened, row.closed, row.kept = row.opened + opened, row.closed + closed, row.kept + kept
            if hour is not None:
                hour[0] += opened
                hour[1] += closed
    return [Hour(at, *counts) for at, counts in hours.items()]


def total(found: Sequence[Row]) -> dict[str, Any]:
    """The figures over all queues shown."""
    names = ("open", "late", "unassigned", "opened", "closed", "kept")
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in found) for name in names}
    sums["oldest"] = min((row.oldest for row in found if row.oldest), default=None)
    sums["ages"] = [sum(row.ages[i] for row in found) for i in range(len(AGES))]
    sums["seconds"] = (timezone.now() - sums["oldest"]).total_seconds() if sums["oldest"] else None
    return sums


@dataclass(frozen=True)
class Flow:
    """Two lines over one grid: opened and closed per hour, in a box of 100 × 100."""

    grid: list[charts.Mark]
    ticks: list[charts.Mark]
    opened: str
    closed: str
    plot: int = charts.PLOT

    @property
    def height(self) -> int:
        return charts.TOP + self.plot + charts.AXIS

    @property
    def label_y(self) -> int:
        return charts.TOP + self.plot + 16


def drawn(hours: Sequence[Hour]) -> Flow:
    """The flow as a chart, its hours in the reader's zone."""
    grid, top = charts.grid_to(max((max(hour.opened, hour.closed) for hour in hours), default=0))
    pitch = 100 / max(len(hours) - 1, 1)
    names = [timezone.localtime(hour.at).strftime("%H:%M") for hour in hours]
    opened, closed = (
        "M" + " L".join(f"{i * pitch:.2f} {100 - 100 * value / top:.1f}" for i, value in enumerate(values))
        for values in ([hour.opened for hour in hours], [hour.closed for hour in hours])
    )
    return Flow(grid, charts.ticks(names, 4, pitch, 0.0), opened, closed)


def people(queues: Sequence[Queue]) -> list[Colleague]:
    """The members of these queues by name: who is there, who is away, and what is in each one's name (all queues)."""
    through = Queue.members.through.objects.filter(queue__in=queues, user__is_active=True)
    users = {row.user_id: row.user for row in through.select_related("user")}
    here, gone, now = online.among(users), absence.away(users), timezone.now()
    open_counts = {each["assignee"]: each for each in _loads(users, now)}
    found = [
        _colleague(user, user.pk in here, gone.get(user.pk), open_counts.get(user.pk, {})) for user in users.values()
    ]
    return sorted(found, key=lambda each: (not each.is_online, str(each.user.get_full_name() or each.user)))


def _loads(users: Iterable[int], now: datetime) -> QuerySet[Any]:
    mine = Case.objects.filter(assignee__in=list(users)).exclude(status__in=[Status.CLOSED, Status.WAITING])
    given = Q(status=Status.NEW)
    return (
        mine.order_by()
        .values("assignee")
        .annotate(
            given=Count("pk", filter=given),
            in_hand=Count("pk", filter=~given),
            late=Count("pk", filter=Q(due_at__lt=now)),
            next_due=Min("due_at"),
        )
    )


def _colleague(user: Any, is_online: bool, away_until: datetime | None, counts: dict[str, Any]) -> Colleague:
    in_hand, given, late = (counts.get(name, 0) for name in ("in_hand", "given", "late"))
    return Colleague(user, is_online, away_until, in_hand, given, late, counts.get("next_due"))


def cell(
    queue: Queue | None, age: int | None, queues: Sequence[Queue], holder: int | None = None, *, reader: Any
) -> QuerySet[Case]:
    """The open cases of a cell of the board (a queue, an age, a person, or any of them), most urgent first; none of
    customers the reader is kept from."""
    cases = without_kept(open_ones(Case.objects.filter(queue__in=[queue] if queue else list(queues))), reader)
    if age is not None:
        cases = cases.filter(_aged(age, timezone.now()))
    if holder is not None:
        cases = cases.filter(assignee=holder)
    return by_urgency(cases.select_related("queue", "assignee", "lane"))
