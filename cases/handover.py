"""From shift to shift: all my open work to a colleague with one note; one case to somebody, or to another queue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.db.models import QuerySet
from django.db.transaction import atomic

from cases.closing import AnotherIsOpen
from cases.history import NotAllowed, admit, check_holder, is_excluded, locked, move, write
from cases.leases import may_take_escalated, resting
from cases.models import Case, Queue
from cases.notes import refuse_card_numbers
from cases.services import into_queue
from cases.tags import change_tags
from cases.workflow import CaseError, Status, words

MOST = 500  # cases that one person can have and hand over
LONGEST_NOTE = 1000


@dataclass(frozen=True)
class HandOver:
    """What a colleague took, and what stayed with its owner and why ([(case, cause)])."""

    taken: list[Case]
    kept: list[tuple[Case, str]]


def colleagues(user: Any) -> QuerySet:
    """Who could take over: active members of the person's queues."""
    queues = Queue.objects.filter(members=user).values("pk")
    people = get_user_model().objects.filter(queues__in=queues, is_active=True).exclude(pk=user.pk)
    return people.order_by("first_name", "last_name", "username").distinct()


def _of(user: Any) -> QuerySet[Case]:
    return Case.objects.filter(assignee=user).exclude(status=Status.CLOSED)


@atomic
def hand_over(to: Any, *, by: Any, note: str) -> HandOver:
    """Give all one's open work to a colleague, in one commit and with one note. What they may not work stays.

    Raises NotAllowed, CaseError, RefusedText. Doing it again finds nothing left to give.
    """
    note = note.strip()
    if to.pk == by.pk or not to.is_active:
        raise NotAllowed("Choose a colleague.")
    if not 0 < len(note) <= LONGEST_NOTE:
        raise CaseError(f"A note of 1 to {LONGEST_NOTE:,} characters goes with it.")
    refuse_card_numbers(note)
    if not to.has_perm("cases.work_case"):
        raise NotAllowed(f"{_name(to)} does not work cases.")
    cases = _of(by).select_related("queue", "assignee").select_for_update(of=("self",)).order_by("pk")[:MOST]
    theirs = set(Queue.objects.filter(members=to).values_list("pk", flat=True))
    done = HandOver([], [])
    for case in cases:
        cause = _cause_to_keep(case, to, theirs)
        if cause:
            done.kept.append((case, cause))
        else:
            done.taken.append(_give(case, to, by, note))
    return done


def _cause_to_keep(case: Case, to: Any, queues: set[int]) -> str:
    if case.queue_id not in queues:
        return f"{_name(to)} is not a member of {case.queue.name}."
    if is_excluded(case, to):
        return f"{_name(to)} is kept from this customer."
    escalated = case.status == Status.ESCALATED or (
        case.status == Status.IN_REVIEW and resting(case) == Status.ESCALATED
    )
    return "It was escalated; a lead has to take it." if escalated and not may_take_escalated(case.queue, to) else ""


def _give(case: Case, to: Any, by: Any, note: str, kind: str = "handed_over") -> Case:
    """Theirs, but not in hand: opening it claims it."""
    data = {"from": _name(case.assignee) if case.assignee else "", "to": _name(to), "user": to.pk}
    if case.status == Status.IN_REVIEW:
        move(case, resting(case), kind, by=by, note=note, data=data)
    else:
        write(case, kind, by=by, after=_name(to)[:40], note=note, data=data)
    case.assignee = to
    case.claimed_at = case.lease_until = None
    case.save()
    return case


@atomic
def assign(case_id: int, to: Any, *, by: Any, note: str = "") -> Case:
    """Give an open case to somebody: it is theirs, but not in hand until they claim it. To whom it is, stays so.

    Taking a free one for oneself needs the right to work; giving to others, or from others, the right to lead.
    """
    case = locked(case_id)
    for_oneself = to.pk == by.pk and case.assignee_id in (None, by.pk)
    admit(case, by, "work_case" if for_oneself else "lead_queue")
    if case.assignee_id == to.pk:
        return case
    if case.status in (Status.CLOSED, Status.PENDING_APPROVAL):
        raise CaseError(f"A case that is {words(case.status)} is given to nobody.")
    cause = _cause_to_keep(case, to, set(Queue.objects.filter(members=to).values_list("pk", flat=True)))
    if cause or not to.has_perm("cases.work_case"):
        raise NotAllowed(cause or f"{_name(to)} does not work cases.")
    refuse_card_numbers(note)
    return _give(case, to, by, note, kind="assigned")


def tag(case_id: int, *, by: Any, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Case:
    """Put tags on a case and take others off."""
    return change_tags(case_id, by=by, add=add, remove=remove)


def move_to_queue(case_id: int, queue: Queue, *, by: Any, note: str) -> Case:
    """A lead lays an open case into another queue of the lane; it is nobody's there. Raises AnotherIsOpen."""
    try:
        with atomic():
            case = locked(case_id)
            admit(case, by, "lead_queue")
            if case.status == Status.IN_REVIEW:
                check_holder(case, by)
            if case.status in (Status.CLOSED, Status.PENDING_APPROVAL) or queue.lane_id != case.lane_id:
                raise CaseError("Only an open case moves, and only within its lane.")
            if not note.strip():
                raise CaseError("Say why it moves.")
            refuse_card_numbers(note)
            if case.queue_id != queue.pk:
                _lay(case, queue, by, note.strip())
    except IntegrityError:
        raise AnotherIsOpen from None
    return case


def _lay(case: Case, queue: Queue, by: Any, note: str) -> None:
    data = {"from": case.queue.name, "to": queue.name}
    if case.status == Status.IN_REVIEW:
        move(case, Status.NEW, "moved", by=by, note=note, data=data)
    else:
        write(case, "moved", by=by, note=note, data=data)
    case.assignee = case.claimed_at = case.lease_until = None
    into_queue(case, queue)
    case.save()


def _name(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())
