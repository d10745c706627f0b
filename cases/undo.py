"""Taking back a close within seconds: reopened, labels as they were, resolutions that nobody was told of yet undone."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError
from django.db.transaction import atomic
from django.utils import timezone

from cases import quality, world
from cases.closing import AnotherIsOpen
from cases.history import NotAllowed, admit, locked
from cases.models import Case, CaseEvent
from cases.verdicts import take_in_hand
from cases.workflow import CaseError, Status
from scoring.services import take_back
from transactions.models import Label
from transactions.services import LabelIn, record_labels


class TooLate(CaseError):
    """The seconds are over: the close is final. It can be opened again, with its reason."""

    def __init__(self) -> None:
        super().__init__("Too late to take it back: the close is final. Open the case again instead.")


def undo_close(case_id: int, *, by: Any) -> Case:
    """Take back one's own close of a moment ago. A second click changes nothing.

    Raises TooLate, NotAllowed, NoSuchCase, and AnotherIsOpen where a new alert has opened the next case meanwhile.
    """
    try:
        with atomic():
            case = locked(case_id)
            admit(case, by, "close_case")
            last = case.events.first()
            if last is not None and last.kind == "close_undone" and last.actor_id == by.pk:
                return case
            _check(case, by)
            _undo(case, _line_of_the_close(case), by)
    except IntegrityError:
        raise AnotherIsOpen from None
    return case


def _check(case: Case, by: Any) -> None:
    if case.status != Status.CLOSED or case.undo_until is None:
        raise TooLate
    if case.closed_by_id != by.pk:
        raise NotAllowed("Only who closed the case can take it back.")
    if case.undo_until <= timezone.now():
        raise TooLate


def _line_of_the_close(case: Case) -> CaseEvent:
    return case.events.filter(kind="closed").order_by("-pk")[0]


def _undo(case: Case, line: CaseEvent, by: Any) -> None:
    ids = list(case.case_alerts.values_list("pk", flat=True))
    freed = take_back(ids, source="case", since=case.closed_at)
    if len(freed) != sum(line.data["holds"].values()):
        raise TooLate
    labels = _as_before(case, ids, by)
    world.take_off_lists(line.data.get("lists", []), by=by, reason=f"{case.number}: the close was taken back")
    quality.unsample(case)
    data = {"labels": labels, "held_again": len(freed)}
    take_in_hand(case, "close_undone", by=by, note="", data=data)


def _as_before(case: Case, ids: list[int], by: Any) -> int:
    """Append what was known of each payment before the close labelled it; how many were appended."""
    said: dict[int, list[Label]] = {}
    for label in Label.objects.filter(transaction_id__in=ids, source="investigator").order_by("pk"):
        said.setdefault(label.transaction_id, []).append(label)
    now, rows = timezone.now(), []
    for pk, labels in said.items():
        if labels[-1].known_at != case.closed_at:
            continue
        before = labels[-2] if len(labels) > 1 else None
        rows.append(
            LabelIn(
                transaction_id=pk,
                verdict=before.verdict if before else "withdrawn",
                source="investigator",
                fraud_type=before.fraud_type if before else "",
                known_at=now,
                happened_at=now,
                author=by.get_username(),
                reason=f"{case.number}: the close was taken back",
            )
        )
    record_labels(rows)
    return len(rows)
