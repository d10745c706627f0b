"""The desk at this hour: cases in every state a case can be in, as the running shift would have left them.

What the past left open is the material. Nothing is done twice: each part looks first how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from cases import approvals, handover, late_labels, services
from cases.models import Approval, Case, Queue
from cases.verdicts import Verdict, alerts_of
from cases.workflow import Status
from fraudsite.demo_desk import words
from fraudsite.demo_desk.attempts import attempt
from fraudsite.demo_desk.hands import Hand
from fraudsite.demo_desk.lives import Life
from fraudsite.demo_desk.team import Team
from transactions import clock
from transactions.services import LabelIn, record_labels

# Of so many open cases, how many are at least in that state.
SHARES = {Status.WAITING: 6, Status.ESCALATED: 9, Status.PENDING_APPROVAL: 12, Status.IN_REVIEW: 9}
MOST = 8  # that are brought into one state
AT_WORK = ("amara", "jonas", "petra")  # who has something in hand; those one can sign in as take their own
BULK, DISPUTED = 3, 2


class Today:
    """The open cases of a lane, and the people of this hour."""

    def __init__(self, lane_id: int, team: Team, frauds: Mapping[str, str], now: datetime | None = None) -> None:
        self.cases: QuerySet[Case] = Case.objects.filter(lane=lane_id).select_related("queue")
        self.team, self.frauds, self.now = team, frauds, now or timezone.now()
        self.rng = Random(f"today {lane_id}")

    def lay_out(self) -> None:
        """Bring open cases into every state; the incident into somebody's hands."""
        self._incident()
        self._fill(Status.IN_REVIEW, self._take)
        self._fill(Status.PENDING_APPROVAL, self._ask)
        self._fill(Status.ESCALATED, lambda case: self._visit(case, "escalate"))
        self._fill(Status.WAITING, lambda case: self._visit(case, "wait"))
        self._assign()
        self._ask_for_many()
        self._ask_to_reopen()
        self._dispute_some()

    # --- whose turn it is ---------------------------------------------------------------------------------------------

    def _fresh(self) -> Iterator[Case]:
        """New cases that nobody has, the oldest first; each is looked at once."""
        new = self.cases.filter(status=Status.NEW, assignee__isnull=True, queue__grouping=Queue.Grouping.CUSTOMER)
        return iter(list(new.order_by("pk")[:200]))

    def _fill(self, status: str, act: Callable[[Case], object]) -> None:
        """Let cases come into a state until there are enough in it."""
        wanted = self._wanted(status)
        missing = wanted - self.cases.filter(status=status).count()
        fresh = self._fresh()
        while missing > 0 and (case := next(fresh, None)) is not None:
            missing -= attempt(case, partial(act, case))

    def _wanted(self, status: str) -> int:
        there = self.cases.exclude(status=Status.CLOSED).count()
        return min(MOST, max(1, there // SHARES[status])) if there > 2 else 0

    def _hand(self, case: Case, by: Any, *, ago: float) -> Hand:
        """In somebody's hands since some minutes ago, or since what happened to it last."""
        life = Life(case, self.team, self.frauds)
        return life.hand(by, max(life.lines[-1][1], self.now - timedelta(minutes=ago)))

    # --- the states ---------------------------------------------------------------------------------------------------

    def _visit(self, case: Case, fate: str) -> None:
        by = self.team.on_duty(self.now, self.rng)
        hand = self._hand(case, by, ago=self.rng.uniform(20, 240))
        hand.claim()
        hand.look_into()
        getattr(hand, fate)()

    def _take(self, case: Case) -> None:
        """Taken minutes ago, so that the lease still runs."""
        by = self.team.named(self.rng.choice(AT_WORK))
        hand = self._hand(case, by, ago=self.rng.uniform(1, 5))
        hand.claim()
        hand.look_into()

    def _ask(self, case: Case) -> bool:
        """A close that needs a second person, where this case can be closed so."""
        said = self._needing_two(case)
        if said is None:
            return False
        hand = self._hand(case, self.team.named("jonas"), ago=self.rng.uniform(15, 90))
        hand.claim()
        hand.look_into()
        hand.close(said)
        return True

    def _needing_two(self, case: Case) -> dict[str, Any] | None:
        """What is said of the case if saying so needs a second person: of much money, or against a block."""
        truth = Life(case, self.team, self.frauds).frauds
        for said in (words.certain(truth, self.rng), words.genuine(self.rng)):
            verdict = Verdict(said["disposition"], said.get("fraud_type", ""), exceptions=said.get("verdicts", {}))
            if approvals.needs(case, verdict, alerts_of(case)):
                return said
        return None

    def _incident(self) -> None:
        """The shop that charges too much is one case with all its payments, in a lead's hands."""
        incidents = self.cases.filter(status=Status.NEW).exclude(queue__grouping=Queue.Grouping.CUSTOMER)
        case = incidents.order_by("-alert_count", "pk").first()
        if case is not None:
            attempt(case, partial(self._gather, case))

    def _gather(self, case: Case) -> None:
        hand = self._hand(case, self.team.named("petra"), ago=8)
        hand.claim()
        for text in words.INCIDENT:
            hand.note(text)
        hand.tag("incident")
        hand.attach()

    # --- asked and assigned -------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Some are given to people one can sign in as: theirs, not in hand yet."""
        lead, given = self.team.named("petra"), ("investigator", "investigator", "investigator2", "lead")
        fresh = self._fresh()
        for username in given[: self._wanted(Status.WAITING)]:
            to = self.team.named(username)
            if self.cases.filter(assignee=to, status=Status.NEW).count() < given.count(username):
                case = next(fresh, None)
                if case is not None:
                    handover.assign(case.pk, to, by=lead, note="You know this customer from last month.")

    def _ask_for_many(self) -> None:
        """A close of several genuine cases at once waits for a second lead."""
        petra = self.team.named("petra")
        if Approval.objects.filter(maker=petra, kind=Approval.Kind.BULK_CLOSE).exists():
            return
        genuine = [case for case in self._fresh() if not any(self._truth(case))][:BULK]
        if len(genuine) == BULK:
            reason, text = words.GENUINE[-1]
            ids = [case.pk for case in genuine]
            approvals.ask_bulk(ids, by=petra, disposition="legitimate", close_reason=reason, rationale=text)

    def _truth(self, case: Case) -> list[str]:
        return list(Life(case, self.team, self.frauds).frauds.values())

    def _ask_to_reopen(self) -> None:
        """Somebody wants to open an own close again, which needs a second person."""
        asks = Approval.objects.filter(kind=Approval.Kind.REOPEN, answer="")
        own = self.cases.filter(status=Status.CLOSED, closed_by__in=self.team.investigators, contradicted_at=None)
        case = own.order_by("-closed_at").first()
        if case is not None and not asks.exists():
            attempt(case, partial(self._reopen, case))

    def _reopen(self, case: Case) -> None:
        with clock.standing_at(self.now - timedelta(minutes=40)):
            services.reopen_case(case.pk, by=case.closed_by, note=words.REOPENS[0])

    # --- late labels --------------------------------------------------------------------------------------------------

    def _dispute_some(self) -> None:
        """Chargebacks came on payments that were called genuine: a lead has to look at these cases."""
        ended = self.cases.filter(status=Status.CLOSED, disposition="legitimate", contradicted_at=None)
        old = list(ended.filter(closed_at__lt=self.now - timedelta(days=2)).order_by("-closed_at")[: 20 * DISPUTED])
        there = self.cases.filter(contradicted_at__isnull=False).count()
        for case in old[: max(0, min(DISPUTED, len(old) // 10) - there)]:
            attempt(case, partial(self._dispute, case))

    def _dispute(self, case: Case) -> None:
        at = self.now - timedelta(hours=self.rng.uniform(2, 20))
        payment = case.case_alerts.order_by("pk").values_list("pk", flat=True)[0]
        label = LabelIn(
            transaction_id=payment,
            verdict="fraud",
            source="chargeback",
            fraud_type="other",
            known_at=at,
            happened_at=at,
            reason="simulated",
        )
        with clock.standing_at(at):
            record_labels([label])
            late_labels.mark_of([case.pk])
