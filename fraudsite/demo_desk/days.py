"""The past of the desk, day by day: alerts become cases, people work them, and what was not done in time is noted.

All of a stretch is one agenda in the order of time, so that an alert joins the case that was open when it came.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from alerts.models import Alert
from cases import late_labels, services
from cases.models import Case
from cases.workflow import Status
from fraudsite.demo_desk.afterwards import Afterwards
from fraudsite.demo_desk.attempts import attempt
from fraudsite.demo_desk.lives import Life, Step
from fraudsite.demo_desk.team import Team
from scoring.services import resolve_overdue_holds
from transactions import clock

LATE = timedelta(days=4)  # before the past's end: of what was opened since then more is still open
SWEEP = timedelta(hours=4)  # how often it is looked for what ran out
TOGETHER = timedelta(hours=1)  # alerts within so long get their cases in one go
OPENING = timedelta(seconds=3)  # from the last of them to their cases
MOST_STEPS = 20  # of one case in one stretch


class Desk:
    """A lane's desk in the past that ends at `end`; `frauds` is the truth, a fraud type by a payment's external id."""

    def __init__(self, lane_id: int, team: Team, frauds: Mapping[str, str], end: datetime) -> None:
        self.lane_id, self.team, self.frauds, self.end = lane_id, team, frauds, end
        self.afterwards = Afterwards(lane_id, team, frauds)
        self.swept: datetime | None = None

    def work(self, begin: datetime, until: datetime) -> None:
        """Everything that happens at the desk in a stretch of time and has not happened yet."""
        with without_waiting_for_the_disk():
            Stretch(self, begin, until).pass_by()
            self.afterwards.stretch(begin, until)
            self.sweep(until)
            with clock.standing_at(until):
                late_labels.mark_contradictions()

    def open_cases(self) -> QuerySet[Case]:
        return Case.objects.filter(lane=self.lane_id).exclude(status=Status.CLOSED).select_related("queue")

    def sweep(self, at: datetime) -> None:
        """What the beat does in life: holds that ran out, cases that became late, answers that came."""
        if self.swept is None or at - self.swept >= SWEEP:
            self.swept = at
            with clock.standing_at(at):
                resolve_overdue_holds()
                services.mark_breaches()
                services.wake_cases()

    def catch_up(self, before: datetime) -> None:
        """Work, at this hour, the cases of payments made before that moment which only now were judged."""
        late = Case.objects.filter(case_alerts__alert__occurred_at__gte=before).values("pk")
        for case in self.open_cases().filter(status=Status.NEW).exclude(pk__in=late).order_by("pk"):
            step = Life(case, self.team, self.frauds).next()
            if step is not None:
                attempt(case, step.act)


class Stretch:
    """The agenda of a stretch of time. What would end after it is for another one."""

    def __init__(self, desk: Desk, begin: datetime, until: datetime) -> None:
        self.desk, self.begin, self.until = desk, begin, until
        self.agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self.order, self.steps = count(1), Counter[int]()
        self.planned: dict[int, int] = {}  # of each case the place of its next step

    def pass_by(self) -> None:
        """Plan, then let happen what is next until nothing is left."""
        for case in self.desk.open_cases().order_by("pk"):
            self._plan(case, self.begin)
        rows = Alert.objects.filter(lane=self.desk.lane_id, in_case__isnull=True, raised_at__lte=self.until)
        for batch in batches(rows.order_by("pk").values_list("raised_at", "pk")):
            self._note(batch[-1][0] + OPENING, partial(self._open, batch))
        while self.agenda:
            at, _, act = heapq.heappop(self.agenda)
            self.desk.sweep(at)
            act()

    def _note(self, at: datetime, act: Callable[[], None], place: int = 0) -> None:
        heapq.heappush(self.agenda, (at, place or next(self.order), act))

    def _open(self, batch: list[tuple[datetime, int]]) -> None:
        moment = batch[-1][0] + OPENING
        with clock.standing_at(moment):
            services.open_cases(len(batch), since=None)
        touched = self.desk.open_cases().filter(case_alerts__in=[pk for _, pk in batch])
        for case in touched.order_by("pk").distinct():
            self._plan(case, moment)

    def _plan(self, case: Case, earliest: datetime) -> None:
        is_late = case.opened_at > self.desk.end - LATE
        life = Life(case, self.desk.team, self.desk.frauds, earliest, is_late=is_late)
        step = None if life.is_left(self.desk.end) else life.next()
        place = self.planned[case.pk] = next(self.order)
        if step is not None and step.ends <= self.until:
            self._note(step.at, partial(self._live, case, place, step), place)

    def _live(self, planned: Case, place: int, step: Step) -> None:
        """The step, if the case is still as it was planned for; then the next one."""
        if self.planned[planned.pk] != place:
            return
        case: Any = self.desk.open_cases().filter(pk=planned.pk).first()
        if case is None or self.steps[case.pk] >= MOST_STEPS:
            return
        self.steps[case.pk] += 1
        if case.version == planned.version:
            if not attempt(case, step.act):
                return
            case = self.desk.open_cases().filter(pk=case.pk).first()
        if case is not None:
            self._plan(case, step.at)


def batches(alerts: Iterable[tuple[datetime, int]]) -> Iterator[list[tuple[datetime, int]]]:
    """Alerts in order of time, gathered while they lie within TOGETHER."""
    batch: list[tuple[datetime, int]] = []
    for alert in alerts:
        if batch and alert[0] - batch[0][0] > TOGETHER:
            yield batch
            batch = []
        batch.append(alert)
    if batch:
        yield batch


@contextmanager
def without_waiting_for_the_disk() -> Iterator[None]:
    """Commits are durable a moment later: a seed that is cut off goes on from what is there, whatever that is."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET synchronous_commit")
