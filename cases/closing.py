"""Closing a case: the loop's return. What a person decided becomes labels and ends the holds, in one commit.

The commit also carries the label rows, so a case is never closed without its labels, nor the other way round; the lane
takes the labels in as its next log entries (`record_labels` takes the transaction id of the commit before it draws the
labels' ids, as the protocol demands).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet
from django.db.transaction import atomic
from django.utils import timezone

from cases.history import admit, check_holder, check_version, locked, move
from cases.leases import _lease_to
from cases.models import Case, CaseAlert, CloseReason
from cases.notes import refuse_card_numbers
from cases.workflow import FRAUD, LABEL, RESOLUTION, SHORTEST_RATIONALE, CaseError, Disposition, Status
from scoring.services import resolve_held
from transactions.codes import FRAUD_TYPE
from transactions.models import Label
from transactions.services import LabelIn, record_labels


class IncompleteClose(CaseError):
    """Something that closing demands is missing or wrong; `errors` says what: {field: sentence}."""

    def __init__(self, errors: dict[str, str]):
        super().__init__(" ".join(errors.values()))
        self.errors = errors


class AnotherIsOpen(CaseError):
    """The customer has another open case in this queue; two cannot be."""

    def __init__(self) -> None:
        super().__init__("Another case of this customer is open in this queue. Work that one.")


@dataclass(frozen=True)
class Verdict:
    """What a person decided of a case: the disposition, why, and where a payment differs ({alert id: disposition})."""

    disposition: str
    fraud_type: str = ""
    close_reason: str = ""
    rationale: str = ""
    exceptions: Mapping[int, str] = field(default_factory=dict)

    def of(self, alert_id: int) -> str:
        """The disposition of one payment."""
        return self.exceptions.get(alert_id) or self.disposition

    @property
    def says_fraud(self) -> bool:
        return bool(FRAUD & {self.disposition, *self.exceptions.values()})


def close_case(
    case_id: int,
    disposition: str,
    *,
    by: Any,
    fraud_type: str = "",
    close_reason: str = "",
    rationale: str = "",
    verdicts: Mapping[int, str] | None = None,
    version: int | None = None,
) -> Case:
    """Close a case, label its alerting payments and end their holds, all in one commit.

    `verdicts` sets single payments otherwise than the case: {alert id: disposition}. `version` is what the person's
    page showed. Closing again in the same words changes nothing. Raises IncompleteClose, StaleCase, NotYours,
    LeaseLapsed, NotAllowed, NoSuchCase, IllegalMove.
    """
    differing = {alert: each for alert, each in (verdicts or {}).items() if each and each != disposition}
    verdict = Verdict(disposition, fraud_type, close_reason, rationale.strip(), differing)
    with atomic():
        case = locked(case_id)
        admit(case, by, "close_case")
        if _is_repeat(case, verdict, by):
            return case
        check_version(case, version)
        check_holder(case, by)
        alerts = list(case.case_alerts.select_related("alert__decision__release__policy").order_by("pk"))
        _check(verdict, alerts)
        _close(case, verdict, alerts, by)
    return case


def _is_repeat(case: Case, verdict: Verdict, by: Any) -> bool:
    """A double click, or a retry after a lost answer."""
    told = (verdict.disposition, verdict.rationale)
    return case.status == Status.CLOSED and case.closed_by_id == by.pk and (case.disposition, case.rationale) == told


def _check(verdict: Verdict, alerts: list[CaseAlert]) -> None:
    errors: dict[str, str] = {}
    if verdict.disposition not in Disposition:
        errors["disposition"] = "Say what it was."
    if verdict.says_fraud and verdict.fraud_type not in FRAUD_TYPE:
        errors["fraud_type"] = "Fraud needs a fraud type."
    if not CloseReason.objects.filter(pk=verdict.close_reason, dispositions__contains=[verdict.disposition]).exists():
        errors["close_reason"] = "Choose a reason that fits the disposition."
    if len(verdict.rationale) < SHORTEST_RATIONALE:
        errors["rationale"] = f"Needs {SHORTEST_RATIONALE} characters; {len(verdict.rationale)} so far."
    if not set(verdict.exceptions) <= {each.pk for each in alerts} or not set(verdict.exceptions.values()) <= set(
        Disposition
    ):
        errors["exceptions"] = "An exception names a payment that is not in this case."
    if errors:
        raise IncompleteClose(errors)
    refuse_card_numbers(verdict.rationale)


def _close(case: Any, verdict: Verdict, alerts: list[CaseAlert], by: Any) -> None:
    for each in alerts:
        each.verdict = verdict.exceptions.get(each.pk, "")
    CaseAlert.objects.bulk_update(alerts, ["verdict"])
    labels = _label(case, verdict, alerts, by)
    holds = _end_holds(verdict, alerts, by)
    data = {"disposition": verdict.disposition, "fraud_type": verdict.fraud_type, "labels": labels, "holds": holds}
    move(case, Status.CLOSED, "closed", by=by, note=verdict.rationale, data=data)
    case.disposition, case.rationale = verdict.disposition, verdict.rationale
    case.fraud_type = verdict.fraud_type if verdict.says_fraud else ""
    case.close_reason_id = verdict.close_reason
    case.closed_at, case.closed_by = timezone.now(), by
    case.lease_until = case.wake_at = None
    case.save()


def _label(case: Case, verdict: Verdict, alerts: list[CaseAlert], by: Any) -> dict[str, int]:
    """Label the payments; a payment that an investigator labelled before and nobody now vouches for is withdrawn."""
    before = _last_labels([each.pk for each in alerts])
    now = timezone.now()
    rows = []
    for each in alerts:
        label = LABEL.get(verdict.of(each.pk)) or (
            "withdrawn" if before.get(each.pk, "withdrawn") != "withdrawn" else ""
        )
        if label:
            rows.append(
                LabelIn(
                    transaction_id=each.pk,
                    verdict=label,
                    source="investigator",
                    fraud_type=verdict.fraud_type if label == "fraud" else "",
                    known_at=now,
                    happened_at=now,
                    author=by.get_username(),
                    reason=f"{case.number}: {Disposition(verdict.of(each.pk)).label}",
                )
            )
    record_labels(rows)
    return _counted(row.verdict for row in rows)


def _last_labels(transaction_ids: list[int]) -> dict[int, str]:
    """What investigators last said of each payment."""
    rows = Label.objects.filter(transaction_id__in=transaction_ids, source="investigator").order_by("pk")
    return dict(rows.values_list("transaction_id", "verdict"))


def _end_holds(verdict: Verdict, alerts: list[CaseAlert], by: Any) -> dict[str, int]:
    """Release or block what is still held; how many of each were. What was resolved before stays so."""
    wanted: dict[str, list[int]] = {}
    for each in alerts:
        if each.alert.hold_until is not None:
            wanted.setdefault(resolution_of(each, verdict.of(each.pk)), []).append(each.pk)
    made = {word: resolve_held(ids, word, by=by.get_username(), source="case") for word, ids in wanted.items()}
    return {word: len(ids) for word, ids in made.items() if ids}


def resolution_of(each: CaseAlert, disposition: str) -> str:
    """What becomes of a held payment; where the disposition does not say, what its policy declares."""
    return RESOLUTION.get(disposition) or each.alert.decision.release.policy.default_resolution


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def reopen_case(case_id: int, *, by: Any, note: str) -> Case:
    """Take a closed case back in hand. Its labels and resolutions stand until it is closed again."""
    try:
        with atomic():
            case: Any = locked(case_id)
            admit(case, by, "close_case")
            if len(note.strip()) < SHORTEST_RATIONALE:
                raise IncompleteClose({"note": "Say in a sentence why the case is opened again."})
            move(case, Status.IN_REVIEW, "reopened", by=by, note=note, data={"disposition": case.disposition})
            case.disposition = case.rationale = case.fraud_type = ""
            case.close_reason = case.closed_at = case.closed_by = None
            _lease_to(case, by)
            case.save()
    except IntegrityError:
        raise AnotherIsOpen from None
    return case


def reasons_to_close() -> QuerySet[CloseReason]:
    """The structured reasons, with the dispositions each fits."""
    return CloseReason.objects.all()
