"""Who has a case in hand, and until when: claims, leases and what ends them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.db.transaction import atomic

from cases.history import LeaseLapsed, NotAllowed, NotYours, admit, check_holder, free, locked, move, write
from cases.models import Case, CaseEvent, Queue
from cases.querysets import by_urgency, open_ones, without_conflicts
from cases.workflow import CLAIMABLE, Status
from transactions import clock


def claim_next(user: Any) -> Case | None:
    """Take the most urgent case the person may work; None if there is none.

    Never one of a customer the person is kept from, nor one whose last approval they asked for. Rows that others are
    taking at this moment are skipped, so two people never wait for, or get, the same case.
    """
    if not user.has_perm("cases.work_case"):
        return None
    with atomic():
        queues = Queue.objects.filter(members=user).values("pk")
        free = Q(assignee__isnull=True) | Q(assignee=user)  # handed to the person, not yet taken in hand
        waiting = without_conflicts(open_ones().filter(_for_the_taking(user), free, queue__in=queues), user)
        case = by_urgency(waiting.select_for_update(skip_locked=True, of=("self",)).select_related("queue")).first()
        if case is None:
            return None
        return _hand_to(case, user)


def _for_the_taking(user: Any) -> Q:
    """New cases for everybody; escalated ones for those who lead, and in queues that others escalate to."""
    if user.has_perm("cases.lead_queue"):
        return Q(status__in=[Status.NEW, Status.ESCALATED])
    targets = Queue.objects.filter(escalates_to__isnull=False).values("escalates_to")
    return Q(status=Status.NEW) | Q(status=Status.ESCALATED, queue__in=targets)


def may_take_escalated(queue: Queue, user: Any) -> bool:
    """Escalated cases are for those who lead, and for every member of a queue that others escalate to."""
    return user.has_perm("cases.lead_queue") or Queue.objects.filter(escalates_to=queue).exists()


@atomic
def claim(case_id: int, user: Any) -> Case:
    """Take this case. Taking one's own again renews the lease. Raises NotYours if another person has it."""
    case = locked(case_id)
    admit(case, user)
    if case.status == Status.IN_REVIEW:
        if case.assignee_id == user.pk and not _has_lapsed(case):
            return _extend(case)
        if not _has_lapsed(case):
            check_holder(case, user)
        _lapse(case)
    if case.status not in CLAIMABLE:
        raise NotYours(
            "A closed case is reopened, not claimed." if case.status == Status.CLOSED else "It awaits approval."
        )
    if case.status == Status.ESCALATED and not may_take_escalated(case.queue, user):
        raise NotAllowed("It was escalated: those who lead the queue take it.")
    return _hand_to(case, user)


@atomic
def take_over(case_id: int, user: Any, *, note: str = "") -> Case:
    """A lead takes a case out of somebody's hands; the history says from whom."""
    case = locked(case_id)
    admit(case, user, "lead_queue")
    if case.status != Status.IN_REVIEW or case.assignee_id == user.pk:
        return claim(case_id, user)
    write(case, "taken_over", by=user, before=str(case.assignee), after=str(user), note=note)
    _lease_to(case, user)
    case.save()
    return case


def renew_lease(case_id: int, user: Any) -> datetime:
    """Push the lease's end out; the new end. No line of history: a page that is open and used does this each minute."""
    with atomic():
        case = locked(case_id)
        check_holder(case, user)
        end = _extend(case).lease_until
    assert end is not None  # a case in hand has a lease
    return end


@atomic
def release(case_id: int, user: Any, *, note: str = "") -> Case:
    """Give a case back to its queue."""
    case = locked(case_id)
    check_holder(case, user)
    move(case, resting(case), "released", by=user, note=note)
    free(case)
    case.save()
    return case


@atomic
def lapse_leases(limit: int = 200) -> int:
    """Give back the cases whose leases ran out; how many. Cases being changed at this moment are left for next time."""
    late = Case.objects.filter(status=Status.IN_REVIEW, lease_until__lte=clock.now())
    cases = (
        late.select_for_update(skip_locked=True, of=("self",))
        .select_related("queue", "assignee")
        .order_by("pk")[:limit]
    )
    for case in cases:
        _lapse(case)
        case.save()
    return len(cases)


def _hand_to(case: Case, user: Any) -> Case:
    move(case, Status.IN_REVIEW, "claimed", by=user, data={"lease_minutes": case.queue.lease_minutes})
    _lease_to(case, user)
    case.wake_at, case.wake_on = None, ""
    case.save()
    return case


def _lease_to(case: Case, user: Any) -> None:
    case.assignee = user
    case.claimed_at = clock.now()
    case.lease_until = case.claimed_at + timedelta(minutes=case.queue.lease_minutes)


def _extend(case: Case) -> Case:
    case.lease_until = clock.now() + timedelta(minutes=case.queue.lease_minutes)
    case.save(update_fields=["lease_until"])
    return case


def _has_lapsed(case: Case) -> bool:
    return case.lease_until is not None and case.lease_until <= clock.now()


def _lapse(case: Case) -> None:
    if not _has_lapsed(case):
        raise LeaseLapsed
    move(case, resting(case), "lease_expired", data={"assignee": str(case.assignee)})
    free(case)


def resting(case: Case) -> str:
    """Where a case goes back to when it leaves a person's hands: an escalated one stays escalated."""
    taken = CaseEvent.objects.filter(case=case, kind="claimed").first()
    return Status.ESCALATED if taken and taken.before == Status.ESCALATED else Status.NEW
