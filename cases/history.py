"""How every service changes a case: locked, admitted, checked against what the person saw, with a line of history.

Each line carries the case's version after it (`data["version"]`), so that a stale form can be told what it missed.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, Q

from cases.models import Case, CaseAlert, CaseEvent, Exclusion
from cases.provenance import provenance
from cases.workflow import CaseError, Status, check_move
from transactions import clock


class NoSuchCase(CaseError):
    """There is no case of that number, or none that this person may know of."""

    def __init__(self) -> None:
        super().__init__("There is no such case.")


class NotAllowed(CaseError):
    """The person lacks the right, or is no member of the case's queue."""


class NotYours(CaseError):
    """Somebody else, or nobody, has the case in hand."""


class LeaseLapsed(CaseError):
    """The person had the case but let the lease run out."""

    def __init__(self) -> None:
        super().__init__("Your lease has lapsed. Claim the case again; what you wrote is kept.")


class StaleCase(CaseError):
    """The case changed since the person's page was made; nothing was overwritten. `case` and `missed` say how."""

    def __init__(self, case: Case, seen: int):
        super().__init__("This case changed since you opened it. Nothing was overwritten.")
        self.case = case
        self.missed = list(case.events.filter(data__version__gt=seen).select_related("actor"))


def locked(case_id: int) -> Case:
    """The case, its row locked until the commit. Raises NoSuchCase."""
    try:
        return Case.objects.select_for_update(of=("self",)).select_related("queue", "assignee").get(pk=case_id)
    except Case.DoesNotExist:
        raise NoSuchCase from None


def admit(case: Case, by: Any, right: str = "work_case") -> None:
    """Raise NotAllowed unless the person holds the right, is a member of the case's queue and not kept from it."""
    if not by.has_perm(f"cases.{right}"):
        raise NotAllowed("Your role does not allow this.")
    if not case.queue.members.filter(pk=by.pk).exists():
        raise NotAllowed(f"You are not a member of the queue {case.queue.name}.")
    if is_excluded(case, by):
        raise NotAllowed("You are kept from the cases of this customer.")


def is_excluded(case: Case, user: Any) -> bool:
    """True if the person must not work the case: it, or one of its alerts, concerns a relative or an own account."""
    theirs = CaseAlert.objects.filter(case=case, alert__customer=OuterRef("customer"))
    return Exclusion.objects.filter(Q(customer=case.customer) | Exists(theirs), user=user.pk).exists()


def check_holder(case: Case, by: Any) -> None:
    """Raise NotYours or LeaseLapsed unless the person has the case in hand. Nobody has one that awaits approval."""
    if case.status == Status.PENDING_APPROVAL:
        raise NotYours("It awaits approval by a second person.")
    if case.assignee_id != by.pk or case.status != Status.IN_REVIEW:
        raise NotYours(
            f"{case.assignee.get_full_name() or case.assignee} has this case."
            if case.assignee_id and case.assignee_id != by.pk
            else "Claim the case first."
        )
    if case.lease_until is not None and case.lease_until <= clock.now():
        raise LeaseLapsed


def check_version(case: Case, version: int | None) -> None:
    """Raise StaleCase if the person's page shows an older state. None: the caller vouches for being current."""
    if version is not None and version != case.version:
        raise StaleCase(case, version)


def write(
    case: Case,
    kind: str,
    *,
    by: Any = None,
    before: str = "",
    after: str = "",
    note: str = "",
    data: dict[str, Any] | None = None,
) -> CaseEvent:
    """Count the change and add its line. The caller saves the case in the same commit."""
    case.version += 1
    return CaseEvent.objects.create(
        case=case,
        kind=kind,
        at=clock.now(),
        actor=by,
        before=before,
        after=after,
        note=note,
        data={"version": case.version, **provenance(by), **(data or {})},
    )


def move(
    case: Case, target: str, kind: str, *, by: Any = None, note: str = "", data: dict[str, Any] | None = None
) -> None:
    """Move a locked case by the table, with its line. Raises IllegalMove."""
    check_move(case.status, target)
    write(case, kind, by=by, before=case.status, after=target, note=note, data=data)
    case.status = target


def free(case: Case) -> None:
    """Nobody has it any more."""
    case.assignee = None
    case.claimed_at = case.lease_until = None
