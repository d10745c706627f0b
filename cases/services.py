"""What can be done with a case: one name for each act. Doors call these, and nothing else writes to a case.

Every act locks the case, checks right, queue membership, lease and version, moves by the table of `workflow`, and adds
a line of history in the same commit. Refusals are `CaseError`s whose text can be shown.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import Exists, OuterRef, Subquery
from django.db.transaction import atomic

from cases.closing import AnotherIsOpen, IncompleteClose, close_case, reopen_case, set_verdicts
from cases.history import (
    LeaseLapsed,
    NoSuchCase,
    NotAllowed,
    NotYours,
    StaleCase,
    admit,
    check_holder,
    check_version,
    free,
    locked,
    move,
    write,
)
from cases.leases import claim, claim_next, lapse_leases, release, renew_lease, take_over
from cases.models import Case, CaseAlert, CaseEvent, Queue
from cases.notes import RefusedText, add_note, refuse_card_numbers
from cases.opening import open_cases
from cases.querysets import case_ids_of
from cases.undo import TooLate, undo_close
from cases.workflow import CaseError, IllegalMove, Status
from cases.world import hold_longer, put_on_list, resolve_payments
from transactions import clock
from transactions.models import Label

__all__ = [
    "AnotherIsOpen",
    "CaseError",
    "IllegalMove",
    "IncompleteClose",
    "LeaseLapsed",
    "NoSuchCase",
    "NotAllowed",
    "NotYours",
    "RefusedText",
    "StaleCase",
    "TooLate",
    "WrongTime",
    "add_note",
    "case_ids_of",
    "claim",
    "claim_next",
    "close_case",
    "escalate",
    "hold_longer",
    "into_queue",
    "lapse_leases",
    "mark_breaches",
    "move_case",
    "open_cases",
    "put_on_list",
    "release",
    "renew_lease",
    "reopen_case",
    "resolve_payments",
    "set_priority",
    "set_verdicts",
    "snooze",
    "take_over",
    "undo_close",
    "wait",
    "wake_cases",
]

LONGEST_WAIT = timedelta(days=30)
WAKING = {"customer": "The customer answered.", "chargeback": "A chargeback came."}  # sources of labels that wake


class WrongTime(CaseError):
    """A case can only wait for a moment that is to come, and not for ever."""


@atomic
def move_case(case_id: int, target: str, *, by: Any, note: str = "", version: int | None = None) -> Case:
    """Move a case that the person has in hand to another open status."""
    case = locked(case_id)
    admit(case, by)
    check_version(case, version)
    check_holder(case, by)
    move(case, target, target, by=by, note=note)
    case.save()
    return case


def escalate(case_id: int, *, by: Any, note: str, version: int | None = None) -> Case:
    """Hand a case to the queue that its own escalates to, else to those who lead its queue; it leaves one's hands.

    In another queue only its members see the case. Raises AnotherIsOpen where that queue has an open case of the same
    customer.
    """
    try:
        with atomic():
            case = locked(case_id)
            admit(case, by)
            check_version(case, version)
            check_holder(case, by)
            if not note.strip():
                raise CaseError("Say what those who take it over should know.")
            refuse_card_numbers(note)
            target = case.queue.escalates_to or case.queue
            moved = {"from": case.queue.name, "to": target.name}
            move(case, Status.ESCALATED, "escalated", by=by, note=note, data=moved)
            free(case)
            into_queue(case, target)
            case.save()
    except IntegrityError:
        raise AnotherIsOpen from None
    return case


def into_queue(case: Case, queue: Queue) -> None:
    """Lay a locked case into a queue; where that groups by something else, under the key of its highest payment."""
    if queue.grouping != case.queue.grouping:
        worst = case.case_alerts.select_related("alert").order_by("-alert__score", "-alert__amount_base").first()
        case.grouping_key = (int(getattr(worst.alert, queue.grouping)) if worst else 0) or case.customer
    case.queue = queue


@atomic
def wait(
    case_id: int, until: datetime, *, by: Any, note: str = "", wake_on: str = "", version: int | None = None
) -> Case:
    """Let a case sleep until a moment, or an event before it. It keeps its priority, its due time and its owner's name.

    `wake_on`: "customer" or "chargeback", a label from there on one of its payments; "" for the moment alone.
    """
    if not clock.now() < until <= clock.now() + LONGEST_WAIT:
        raise WrongTime(f"A case can wait for up to {LONGEST_WAIT.days} days, from now on.")
    if wake_on not in ("", *WAKING):
        raise WrongTime("A case wakes at a time, when the customer answers, or with a chargeback.")
    refuse_card_numbers(note)
    case = locked(case_id)
    admit(case, by)
    check_version(case, version)
    check_holder(case, by)
    move(case, Status.WAITING, Status.WAITING, by=by, note=note, data={"until": until.isoformat(), "event": wake_on})
    case.lease_until = case.claimed_at = None
    case.wake_at, case.wake_on = until, wake_on
    case.save()
    return case


@atomic
def snooze(case_id: int, until: datetime, *, by: Any, note: str = "", wake_on: str = "") -> Case:
    """Take a case that is free, or one's own, and let it wait, in one commit."""
    claim(case_id, by)
    return wait(case_id, until, by=by, note=note, wake_on=wake_on)


@atomic
def wake_cases(limit: int = 200) -> int:
    """Wake the cases whose time has come or whose event has happened; how many."""
    asleep = Case.objects.filter(status=Status.WAITING)
    due = list(asleep.filter(wake_at__lte=clock.now()).order_by("pk").values_list("pk", flat=True)[:limit])
    told = {**dict.fromkeys(due, ""), **_answered(limit)}
    cases = asleep.filter(pk__in=told).select_for_update(skip_locked=True).order_by("pk")
    for case in cases:
        move(case, Status.NEW, "woken", note=WAKING.get(told[case.pk], ""))
        free(case)
        case.wake_at, case.wake_on = None, ""
        case.save()
    return len(cases)


def _answered(limit: int) -> dict[int, str]:
    """Sleeping cases with a label from where they wait for, stored since they fell asleep: {case id: source}."""
    since = CaseEvent.objects.filter(case=OuterRef("case"), kind="waiting").order_by("-pk").values("at")[:1]
    found: dict[int, str] = {}
    for source in WAKING:
        rows = CaseAlert.objects.filter(case__status=Status.WAITING, case__wake_on=source).annotate(
            since=Subquery(since)
        )
        told = Label.objects.filter(transaction=OuterRef("pk"), source=source, recorded_at__gte=OuterRef("since"))
        ids = rows.filter(Exists(told)).order_by("case").values_list("case", flat=True).distinct()[:limit]
        found |= dict.fromkeys(ids, source)
    return found


@atomic
def mark_breaches(limit: int = 500) -> int:
    """Write, once for each case, that it was not done in time; how many."""
    late = Case.objects.exclude(status=Status.CLOSED).filter(breached_at__isnull=True, due_at__lt=clock.now())
    cases = late.select_for_update(skip_locked=True).order_by("pk")[:limit]
    for case in cases:
        write(case, "overdue", data={"due_at": case.due_at.isoformat()})
        case.breached_at = clock.now()
        case.save()
    return len(cases)


@atomic
def set_priority(case_id: int, level: int, *, by: Any, note: str, version: int | None = None) -> Case:
    """A person's own priority (1–4), with the reason."""
    case = locked(case_id)
    admit(case, by)
    check_version(case, version)
    if level not in (1, 2, 3, 4) or not note.strip():
        raise CaseError("A priority is 1, 2, 3 or 4, and needs a reason.")
    refuse_card_numbers(note)
    if case.status == Status.CLOSED:
        raise CaseError("A closed case has no priority any more.")
    if case.priority == level:
        return case
    write(case, "priority_set", by=by, before=f"P{case.priority}", after=f"P{level}", note=note)
    case.priority = level
    case.save()
    return case
