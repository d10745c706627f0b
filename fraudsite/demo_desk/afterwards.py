"""What comes after a close: cases opened again, late labels that contradict it, second looks at a sample."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from django.db.models import QuerySet

from cases import late_labels, quality, services
from cases.models import Case, QualityReview
from cases.workflow import Status
from fraudsite.demo_desk import words
from fraudsite.demo_desk.attempts import attempt
from fraudsite.demo_desk.hands import Hand
from fraudsite.demo_desk.team import Team
from transactions import clock

DAY = timedelta(days=1)
OPENED_AGAIN = 0.03  # of the closes
SAMPLED = 0.08  # of the closes, beside what the queues' own rules choose
# What second looks find, in per cent.
FINDINGS = {"agree": 80, "disagree": 14, "process_error": 6}
SETTLED = 0.3  # of the contradicted cases on each later day
LEFT_CLOSED = 0.35  # of the contradicted cases; the others are opened again


class Afterwards:
    """The closed cases of a lane and those who look at them again."""

    def __init__(self, lane_id: int, team: Team, frauds: Mapping[str, str]) -> None:
        self.closed: QuerySet[Case] = Case.objects.filter(lane=lane_id, status=Status.CLOSED).select_related("queue")
        self.team, self.frauds = team, frauds

    def stretch(self, begin: datetime, until: datetime) -> None:
        """The second looks of a stretch of time; reviews in its first half, what is opened again in its second."""
        whole = until - begin
        self._sample(begin, until)
        self._review(until, whole)
        self._open_some_again(begin, until)
        for case in self.closed.filter(contradicted_at__lt=until - 2 * DAY).order_by("pk"):
            rng = self._rng(case, f"settled by {until:%d %H}")
            if rng.random() < SETTLED * (whole / DAY):
                attempt(case, partial(self._settle, case, until - rng.uniform(0.1, 0.4) * whole))

    def _rng(self, case: Case, what: str) -> Random:
        first = case.case_alerts.order_by("pk").values_list("alert__transaction__external_id", flat=True).first()
        return Random(f"{first} {case.closed_at and case.closed_at.date()} {what}")

    # --- opened again -------------------------------------------------------------------------------------------------

    def _open_some_again(self, begin: datetime, until: datetime) -> None:
        rested = self.closed.filter(closed_at__gt=begin - 2 * DAY, closed_at__lte=until - 2 * DAY)
        for case in rested.order_by("pk"):
            rng = self._rng(case, "again")
            if rng.random() < OPENED_AGAIN:
                attempt(case, partial(self._open_again, case, until - rng.uniform(0.1, 0.4) * (until - begin)))

    def _open_again(self, case: Case, at: datetime) -> None:
        if case.events.filter(kind="reopened").exists():
            return
        rng = self._rng(case, "opened")
        self._work_again(case, at, rng, rng.choice(words.REOPENS))

    def _settle(self, case: Case, at: datetime) -> None:
        """A lead deals with what a later label said."""
        rng = self._rng(case, "late")
        if rng.random() < LEFT_CLOSED:
            lead = rng.choice(self.team.leads)
            with clock.standing_at(at):
                late_labels.leave_closed(case.pk, by=lead, reason=rng.choice(words.LEFT_CLOSED))
            return
        self._work_again(case, at, rng, rng.choice(words.LATE))

    def _work_again(self, case: Case, at: datetime, rng: Random, why: str) -> None:
        lead = self.team.lead(rng, but=[case.closed_by])
        if lead is None:
            return
        rows = case.case_alerts.values_list("pk", "alert__transaction__external_id")
        frauds = {pk: self.frauds.get(external_id, "") for pk, external_id in rows}
        hand = Hand(case, lead, at, self.team, frauds, rng)
        hand.do(services.reopen_case, case.pk, by=lead, note=why, minutes=0.0)
        hand.close(words.certain(frauds, rng))

    # --- second looks -------------------------------------------------------------------------------------------------

    def _sample(self, begin: datetime, until: datetime) -> None:
        """Choose some of the closes; the queues' own rules have chosen others in the commit of the close."""
        chosen = self.closed.filter(closed_at__gt=begin, closed_at__lte=until)
        for case in chosen.exclude(reviews__isnull=False).select_related("closed_by").order_by("pk"):
            if self._rng(case, "sample").random() < SAMPLED and case.closed_at:
                with clock.standing_at(case.closed_at):
                    quality.sample(
                        case, disposition=case.disposition, closed_at=case.closed_at, by=case.closed_by, seed=0.0
                    )

    def _review(self, until: datetime, whole: timedelta) -> None:
        """What was chosen a day ago is looked at by somebody else."""
        waiting = QualityReview.objects.filter(finding="", sampled_at__lt=until - DAY, case__in=self.closed)
        for review in waiting.select_related("case", "decided_by").order_by("pk"):
            rng = self._rng(review.case, "review")
            lead = self.team.lead(rng, but=[review.decided_by])
            if lead is not None:
                attempt(review.case, partial(_look_again, review.pk, lead, until - rng.uniform(0.5, 0.8) * whole, rng))


def _look_again(review_id: int, lead: Any, at: datetime, rng: Random) -> None:
    finding = rng.choices(list(FINDINGS), list(FINDINGS.values()))[0]
    with clock.standing_at(at):
        quality.review(review_id, finding, by=lead, comment=rng.choice(words.REVIEWS[finding]))
