"""What can be done with a case: one name for each act. Doors call these, and nothing else writes to a case.

Every act locks the case, checks right, queue membership, lease and version, moves by the table of `workflow`, and adds
a line of history in the same commit. Refusals are `CaseError`s whose text can be shown.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.transaction import atomic
from django.utils import timezone

from cases.closing import AnotherIsOpen, IncompleteClose, close_case, reopen_case
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
from cases.models import Case
from cases.notes import RefusedText, add_note
from cases.opening import open_cases
from cases.querysets import case_ids_of
from cases.workflow import CaseError, IllegalMove, Status

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
    "WrongTime",
    "add_note",
    "case_ids_of",
    "claim",
    "claim_next",
    "close_case",
    "escalate",
    "lapse_leases",
    "mark_breaches",
    "move_case",
    "open_cases",
    "release",
    "renew_lease",
    "reopen_case",
    "set_priority",
    "take_over",
    "wait",
    "wake_cases",
]

LONGEST_WAIT = timedelta(days=30)


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


@atomic
def escalate(case_id: int, *, by: Any, note: str, version: int | None = None) -> Case:
    """Hand a case to those who lead its queue; it leaves the person's hands."""
    case = move_case(case_id, Status.ESCALATED, by=by, note=note, version=version)
    free(case)
    case.save()
    return case


@atomic
def wait(case_id: int, until: datetime, *, by: Any, note: str = "", version: int | None = None) -> Case:
    """Let a case sleep until a moment (a customer's answer, say). It keeps its priority and its due time."""
    if not timezone.now() < until <= timezone.now() + LONGEST_WAIT:
        raise WrongTime(f"A case can wait for up to {LONGEST_WAIT.days} days, from now on.")
    case = move_case(case_id, Status.WAITING, by=by, note=note, version=version)
    free(case)
    case.wake_at = until
    case.save()
    return case


@atomic
def wake_cases(limit: int = 200) -> int:
    """Wake the cases whose time has come; how many."""
    due = Case.objects.filter(status=Status.WAITING, wake_at__lte=timezone.now())
    cases = due.select_for_update(skip_locked=True).order_by("pk")[:limit]
    for case in cases:
        move(case, Status.NEW, "woken")
        case.wake_at = None
        case.save()
    return len(cases)


@atomic
def mark_breaches(limit: int = 500) -> int:
    """Write, once for each case, that it was not done in time; how many."""
    late = Case.objects.exclude(status=Status.CLOSED).filter(breached_at__isnull=True, due_at__lt=timezone.now())
    cases = late.select_for_update(skip_locked=True).order_by("pk")[:limit]
    for case in cases:
        write(case, "overdue", data={"due_at": case.due_at.isoformat()})
        case.breached_at = timezone.now()
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
    write(case, "priority_set", by=by, before=f"P{case.priority}", after=f"P{level}", note=note)
    case.priority = level
    case.save()
    return case
