"""What becomes of a case: the next thing that happens to it, when, and by whom.

The next step follows from where the case is, its status and its history, and from random numbers drawn for just that
state. So a seed that was interrupted goes on with the step that was due, and a case whose next step lies ahead of the
past's end is simply open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from cases import approvals, notes, services
from cases.models import Case, Queue
from cases.workflow import Status
from fraudsite.demo_desk import words
from fraudsite.demo_desk.hands import Hand
from fraudsite.demo_desk.team import Team
from transactions import clock

MINUTE = timedelta(minutes=1)
LONGEST_VISIT = timedelta(minutes=80)  # the longest is one whose lease runs out
LONGEST_LOOK = 30 * MINUTE
# What somebody does with a case at the first visit, in per cent.
FATES = {"close": 86, "wait": 6, "escalate": 3, "release": 3, "lapse": 2}
LATE_FATES = {"close": 58, "wait": 25, "escalate": 14, "release": 2, "lapse": 1}
FATES_OF_ANALYSTS = {"escalate": 60, "wait": 40}
BY_ANALYSTS = 0.1  # of first visits
UNTOUCHED, LEFT = timedelta(hours=30), 0.75  # before the past's end, and the share of its new cases that nobody took


@dataclass(frozen=True)
class Step:
    """Something that happens to a case, all in one commit, and by when all of it has."""

    at: datetime
    ends: datetime
    act: Callable[[], object]


class Life:
    """One open case as it stands; `frauds` is the truth, a fraud type by the payment's external id.

    Nothing happens to it before `earliest`; one that `is_late` is more often left to somebody else.
    """

    def __init__(
        self,
        case: Case,
        team: Team,
        frauds: Mapping[str, str],
        earliest: datetime | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        rows = list(case.case_alerts.order_by("pk").values_list("pk", "alert__transaction__external_id"))
        lines = case.events.exclude(kind="overdue").order_by("pk")
        self.case, self.team = case, team
        self.frauds = {pk: frauds.get(external_id, "") for pk, external_id in rows}
        self.lines: list[tuple[str, datetime]] = list(lines.values_list("kind", "at"))
        self.first = str(rows[0][1])
        self.rng = Random(f"{self.first} {len(self.lines)}")
        self.earliest, self.is_late = earliest, is_late

    def is_left(self, end: datetime) -> bool:
        """Whether it lies untouched at the past's end: many of those that came last do."""
        return self.case.opened_at > end - UNTOUCHED and Random(self.first).random() < LEFT

    def next(self) -> Step | None:
        """What happens next, if anything."""
        steps = {
            Status.NEW: self._visit,
            Status.WAITING: self._waking,
            Status.ESCALATED: self._visit_of_a_lead,
            Status.PENDING_APPROVAL: self._answer,
        }
        return steps[self.case.status]() if self.case.status in steps else None

    def _count(self, kind: str) -> int:
        return sum(line[0] == kind for line in self.lines)

    def _after(self, wait: timedelta) -> datetime:
        """So long after what happened last; what should have happened earlier than can be, happens soon."""
        at = max(self.lines[-1][1], self.case.last_alert_at) + wait
        return at if self.earliest is None or at > self.earliest else self.earliest + self.rng.uniform(1, 30) * MINUTE

    def hand(self, by: Any, at: datetime) -> Hand:
        """The case in somebody's hands."""
        return Hand(self.case, by, at, self.team, self.frauds, self.rng)

    # --- new ----------------------------------------------------------------------------------------------------------

    def _visit(self) -> Step:
        is_first = not self._count("claimed")
        at = self._after(self._delay(is_first))
        by = self._visitor(at, is_first)
        usual = LATE_FATES if self.is_late else FATES
        fates = FATES_OF_ANALYSTS if by in self.team.analysts else usual
        fate = self.rng.choices(list(fates), list(fates.values()))[0] if is_first and not self._is_incident else "close"
        return Step(at, at + LONGEST_VISIT, partial(self._work, by, at, fate))

    def _visitor(self, at: datetime, is_first: bool) -> Any:
        """Who takes it; where others escalate to, those who lead."""
        if self.case.queue.escalates_to_id is None:
            return self.rng.choice(self.team.leads)
        if is_first and self.team.analysts and not self._is_incident and self.rng.random() < BY_ANALYSTS:
            return self.rng.choice(self.team.analysts)
        return self.team.on_duty(at, self.rng)

    @property
    def _is_incident(self) -> bool:
        return self.case.queue.grouping != Queue.Grouping.CUSTOMER

    def _delay(self, is_first: bool) -> timedelta:
        """Mostly well within the time that the priority gives; an incident rests until no payment joins any more."""
        if self._is_incident:
            return self.rng.uniform(480, 960) * MINUTE
        if not is_first:
            return self.rng.uniform(10, 120) * MINUTE
        due = max(10.0, (self.case.due_at - self.case.opened_at) / MINUTE)
        return min(max(2.0, due * self.rng.lognormvariate(-1.2, 0.75)), 2.5 * due) * MINUTE

    def _work(self, by: Any, at: datetime, fate: str) -> None:
        hand = self.hand(by, at)
        hand.claim()
        hand.look_into()
        getattr(hand, fate)()

    # --- waiting, escalated, awaiting a second person -----------------------------------------------------------------

    def _waking(self) -> Step:
        at = max(self.case.wake_at or self._after(MINUTE), self.earliest or self.case.opened_at)
        return Step(at, at, partial(_at, at, services.wake_cases))

    def _visit_of_a_lead(self) -> Step:
        at = self._after(self.rng.lognormvariate(6.2 if self.is_late else 4.2, 0.7) * MINUTE)
        return Step(at, at + LONGEST_LOOK, partial(self._lead, self.rng.choice(self.team.leads), at))

    def _lead(self, by: Any, at: datetime) -> None:
        hand = self.hand(by, at)
        hand.claim()
        hand.do(notes.add_note, self.case.pk, self.rng.choice(words.LEADS), by=by)
        hand.close(words.certain(self.frauds, self.rng))

    def _answer(self) -> Step | None:
        asked: Any = self.case.approvals.filter(answer="").select_related("maker").first()
        checker = self.team.lead(self.rng, but=[asked.maker]) if asked else None
        if checker is None:
            return None
        at = self._after(self.rng.lognormvariate(5.5 if self.is_late else 4.0, 0.8) * MINUTE)
        return Step(at, at + LONGEST_LOOK, partial(self._decide, asked, checker, at))

    def _decide(self, asked: Any, checker: Any, at: datetime) -> None:
        """Agreed mostly; once in ten the maker has to look again."""
        if self.rng.random() < 0.1 and not self._count("rejected"):
            self._send_back(asked, checker, at, self.rng.choice(words.REJECTIONS))
            return
        try:
            _at(at, approvals.approve, asked.pk, by=checker, reason=self.rng.choice(words.APPROVALS))
        except approvals.Outdated:
            self._send_back(asked, checker, at, "Another payment joined meanwhile. Please judge it too.")

    def _send_back(self, asked: Any, checker: Any, at: datetime, reason: str) -> None:
        _at(at, approvals.reject, asked.pk, by=checker, reason=reason)
        hand = self.hand(asked.maker, at)
        hand.do(notes.add_note, self.case.pk, "Reached the customer now, see the rationale.", by=asked.maker, minutes=6)
        hand.close(words.certain(self.frauds, self.rng))


def _at(moment: datetime, service: Callable[..., object], *args: Any, **named: Any) -> object:
    with clock.standing_at(moment):
        return service(*args, **named)
