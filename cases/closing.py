"""Closing a case and opening it again: at once, or, where the rules demand four eyes, once a second person agreed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError
from django.db.transaction import atomic

from cases import approvals
from cases.history import NotAllowed, admit, check_holder, check_version, locked, write
from cases.models import Approval, Case
from cases.notes import refuse_card_numbers
from cases.verdicts import (
    IncompleteClose,
    Verdict,
    alerts_of,
    check,
    finish,
    reasons_to_close,
    resolution_of,
    take_in_hand,
)
from cases.workflow import SHORTEST_RATIONALE, CaseError, Disposition, Status, check_move
from cases.world import Listing

__all__ = [
    "AnotherIsOpen",
    "IncompleteClose",
    "Verdict",
    "close_case",
    "reasons_to_close",
    "reopen_case",
    "resolution_of",
    "set_verdicts",
]


class AnotherIsOpen(CaseError):
    """The customer has another open case in this queue; two cannot be."""

    def __init__(self) -> None:
        super().__init__("Another case of this customer is open in this queue. Work that one.")


def close_case(
    case_id: int,
    disposition: str,
    *,
    by: Any,
    fraud_type: str = "",
    close_reason: str = "",
    rationale: str = "",
    verdicts: Mapping[int, str] | None = None,
    listings: Iterable[Listing] = (),
    second: bool = False,
    version: int | None = None,
) -> Case:
    """Close a case, label its alerting payments and end their holds, all in one commit; or ask for a second person.

    `verdicts` sets single payments otherwise than the case: {alert id: disposition}, "" for as the case. `second`: the
    person wants a second one to look, whatever the rules say. `version` is what their page showed. The case that comes
    back is closed, or awaits approval. Closing again in the same words changes nothing. Raises IncompleteClose,
    StaleCase, NotYours, LeaseLapsed, NotAllowed, NoSuchCase.
    """
    said = Verdict(disposition, fraud_type, close_reason, rationale.strip(), verdicts or {}, tuple(listings))
    with atomic():
        case = locked(case_id)
        admit(case, by, "close_case")
        if _is_repeat(case, said, by):
            return case
        check_version(case, version)
        check_holder(case, by)
        alerts = alerts_of(case)
        verdict = said.over(alerts)
        check(verdict, alerts)
        causes = approvals.needs(case, verdict, alerts) + (["wish"] if second else [])
        if causes:
            approvals.ask_to_close(case, verdict, alerts, causes, by=by)
        else:
            finish(case, verdict, alerts, by=by)
    return case


def _is_repeat(case: Case, verdict: Verdict, by: Any) -> bool:
    """A double click, or a retry after a lost answer."""
    told = (verdict.disposition, verdict.rationale)
    if case.status == Status.CLOSED:
        return case.closed_by_id == by.pk and (case.disposition, case.rationale) == told
    if case.status == Status.PENDING_APPROVAL:
        asked = case.approvals.filter(answer="", maker=by).first()
        return asked is not None and (asked.request["disposition"], asked.request["rationale"]) == told
    return False


def set_verdicts(case_id: int, verdicts: Mapping[int, str], *, by: Any, version: int | None = None) -> Case:
    """Note, before the close, which payments differ from the case ("" for as the case). Raises as `close_case`."""
    with atomic():
        case = locked(case_id)
        admit(case, by)
        check_version(case, version)
        check_holder(case, by)
        rows = list(case.case_alerts.filter(pk__in=verdicts))
        if len(rows) != len(verdicts) or not set(verdicts.values()) <= {"", *Disposition}:
            raise IncompleteClose({"exceptions": "An exception names a payment that is not in this case."})
        changed = [each for each in rows if each.verdict != verdicts[each.pk]]
        if changed:
            for each in changed:
                each.verdict = verdicts[each.pk]
            case.case_alerts.bulk_update(changed, ["verdict"])
            write(case, "verdicts_set", by=by, data={"payments": {str(each.pk): each.verdict for each in changed}})
            case.save()
    return case


def reopen_case(case_id: int, *, by: Any, note: str) -> Case:
    """Take a closed case back in hand. Its labels and resolutions stand until it is closed again.

    One's own close is opened again only with a second person: the case that comes back is still closed then, and a
    request is pending. Raises IncompleteClose, AnotherIsOpen, NotAllowed, NoSuchCase, IllegalMove.
    """
    try:
        with atomic():
            case = locked(case_id)
            admit(case, by, "close_case")
            if len(note.strip()) < SHORTEST_RATIONALE:
                raise IncompleteClose({"note": "Say in a sentence why the case is opened again."})
            refuse_card_numbers(note)
            check_move(case.status, Status.IN_REVIEW)
            if case.status != Status.CLOSED:
                raise NotAllowed("The case is not closed.")
            if case.closed_by_id == by.pk:
                _ask_once(case, note.strip(), by)
            else:
                _refuse_while_asked(case)
                take_in_hand(case, "reopened", by=by, note=note)
    except IntegrityError:
        raise AnotherIsOpen from None
    return case


def _ask_once(case: Case, note: str, by: Any) -> None:
    """A double click asks once."""
    if not case.approvals.filter(answer="", kind=Approval.Kind.REOPEN, maker=by).exists():
        approvals.ask_to_reopen(case, note, by=by)


def _refuse_while_asked(case: Case) -> None:
    for each in case.approvals.filter(answer=""):
        approvals.drop(each, "The case was opened again by somebody else.")
