"""What a person decides of a case, written down in one commit: labels, ends of holds, list entries and the close.

The commit also carries the label rows, so a case is never closed without its labels, nor the other way round; the lane
takes the labels in as its next log entries (`record_labels` takes the transaction id of the commit before it draws the
labels' ids, as the protocol demands).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from cases import calendar, checklists, quality, world
from cases.history import move
from cases.leases import _lease_to
from cases.models import Case, CaseAlert, CloseReason
from cases.notes import refuse_card_numbers
from cases.workflow import FRAUD, GENUINE, LABEL, RESOLUTION, SHORTEST_RATIONALE, CaseError, Disposition, Status, due
from scoring.services import resolve_held
from transactions import clock
from transactions.codes import FRAUD_TYPE
from transactions.models import Label
from transactions.services import LabelIn, record_labels

UNDO = timedelta(seconds=10)  # a close can be taken back so long
FINAL = UNDO + timedelta(seconds=2)  # after that its resolutions are told outside: an undo under way has ended by then


class IncompleteClose(CaseError):
    """Something that closing demands is missing or wrong; `errors` says what: {field: sentence}."""

    def __init__(self, errors: dict[str, str]):
        super().__init__(" ".join(errors.values()))
        self.errors = errors


@dataclass(frozen=True)
class Verdict:
    """What a person decided of a case: the disposition, why, where a payment differs ({alert id: disposition}), and
    what shall be put on lists with it."""

    disposition: str
    fraud_type: str = ""
    close_reason: str = ""
    rationale: str = ""
    exceptions: Mapping[int, str] = field(default_factory=dict)
    listings: tuple[world.Listing, ...] = ()

    def of(self, alert_id: int) -> str:
        """The disposition of one payment."""
        return self.exceptions.get(alert_id) or self.disposition

    @property
    def says_fraud(self) -> bool:
        return bool(FRAUD & {self.disposition, *self.exceptions.values()})

    def over(self, alerts: Iterable[CaseAlert]) -> Verdict:
        """The same with what was set of single payments before; what is said now counts, "" meaning as the case."""
        said = {each.pk: each.verdict for each in alerts if each.verdict} | dict(self.exceptions)
        return replace(self, exceptions={pk: word for pk, word in said.items() if word and word != self.disposition})

    def as_data(self) -> dict[str, Any]:
        """As a request keeps it."""
        return {
            "disposition": self.disposition,
            "fraud_type": self.fraud_type,
            "close_reason": self.close_reason,
            "rationale": self.rationale,
            "exceptions": {str(pk): word for pk, word in self.exceptions.items()},
            "listings": [each.as_data() for each in self.listings],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Verdict:
        """The other way round."""
        return cls(
            data["disposition"],
            data["fraud_type"],
            data["close_reason"],
            data["rationale"],
            {int(pk): word for pk, word in data["exceptions"].items()},
            tuple(world.Listing.from_data(each) for each in data["listings"]),
        )


def alerts_of(case: Case) -> list[CaseAlert]:
    """All alerts of a case with the policies that judged them, also of an incident with hundreds."""
    return list(case.case_alerts.select_related("alert__decision__release__policy").order_by("pk"))


def check(verdict: Verdict, alerts: Sequence[CaseAlert]) -> None:
    """Raise IncompleteClose or RefusedText for what the record cannot do without."""
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


def goes_against_a_block(verdict: Verdict, alerts: Iterable[CaseAlert]) -> bool:
    """True if a payment that a live rule or a block list declined is called genuine."""
    return any(verdict.of(each.pk) in GENUINE and was_blocked(each.alert) for each in alerts)


def was_blocked(alert: Any) -> bool:
    """True if a live rule or a block list declined the payment, not its score alone."""
    if alert.outcome != "decline":
        return False
    by_rule = any(hit.get("mode", "live") == "live" and hit.get("outcome") == "decline" for hit in alert.rules)
    return by_rule or any(each.get("source") == "list" for each in alert.reasons)


def finish(
    case: Any, verdict: Verdict, alerts: Sequence[CaseAlert], *, by: Any, bulk: bool = False, checker: Any = None
) -> None:
    """Close a locked, checked case for good. What nobody approved (`checker`) can be taken back for UNDO."""
    now, is_undoable = clock.now(), checker is None and not bulk
    _keep_exceptions(verdict, alerts)
    labels = _label(case, verdict, alerts, by, now)
    holds = _end_holds(verdict, alerts, by, FINAL if is_undoable else timedelta())
    listed = world.put_on_lists(case, verdict.listings, by=by)
    override = goes_against_a_block(verdict, alerts)
    draw = quality.sample(case, disposition=verdict.disposition, closed_at=now, by=by, bulk=bulk, override=override)
    data = {
        "disposition": verdict.disposition,
        "fraud_type": verdict.fraud_type,
        "labels": labels,
        "holds": holds,
        "lists": listed,
        "exceptions": len(verdict.exceptions),
        "open_checks": checklists.missing(case, verdict.fraud_type) if verdict.says_fraud else [],
        "quality": draw.as_data(),
        "approved_by": checker.get_username() if checker else "",
    }
    move(case, Status.CLOSED, "closed", by=by, note=verdict.rationale, data=data)
    case.disposition, case.rationale = verdict.disposition, verdict.rationale
    case.fraud_type = verdict.fraud_type if verdict.says_fraud else ""
    case.close_reason_id = verdict.close_reason
    case.closed_at, case.closed_by, case.closed_in_bulk = now, by, bulk
    case.undo_until = now + UNDO if is_undoable else None
    case.lease_until = case.wake_at = None
    case.wake_on = ""
    case.save()


def _keep_exceptions(verdict: Verdict, alerts: Sequence[CaseAlert]) -> None:
    changed = [each for each in alerts if each.verdict != verdict.exceptions.get(each.pk, "")]
    for each in changed:
        each.verdict = verdict.exceptions.get(each.pk, "")
    CaseAlert.objects.bulk_update(changed, ["verdict"])


def _label(case: Case, verdict: Verdict, alerts: Sequence[CaseAlert], by: Any, now: datetime) -> dict[str, int]:
    """Label the payments; a payment that an investigator labelled before and nobody now vouches for is withdrawn."""
    before = _last_labels([each.pk for each in alerts])
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


def _end_holds(verdict: Verdict, alerts: Sequence[CaseAlert], by: Any, after: timedelta) -> dict[str, int]:
    """Release or block what is still held; how many of each were. What was resolved before stays so."""
    wanted: dict[str, list[int]] = {}
    for each in alerts:
        if each.alert.hold_until is not None:
            wanted.setdefault(resolution_of(each, verdict.of(each.pk)), []).append(each.pk)
    made = {
        word: resolve_held(ids, word, by=by.get_username(), source="case", after=after) for word, ids in wanted.items()
    }
    return {word: len(ids) for word, ids in made.items() if ids}


def resolution_of(each: CaseAlert, disposition: str) -> str:
    """What becomes of a held payment; where the disposition does not say, what its policy declares."""
    return RESOLUTION.get(disposition) or each.alert.decision.release.policy.default_resolution


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def take_in_hand(case: Any, kind: str, *, by: Any, note: str, data: dict[str, Any] | None = None) -> None:
    """Bring a locked, closed case back into the person's hands; opened again, its clock begins anew.

    IntegrityError: the customer has another open one.
    """
    move(case, Status.IN_REVIEW, kind, by=by, note=note, data={"disposition": case.disposition, **(data or {})})
    case.disposition = case.rationale = case.fraud_type = ""
    case.close_reason = case.closed_at = case.closed_by = case.undo_until = case.contradicted_at = None
    case.closed_in_bulk = False
    if kind == "reopened":
        case.due_at = due(clock.now(), case.priority, case.queue.sla, None, calendar.of(case.queue))
    _lease_to(case, by)
    case.save()


def reasons_to_close() -> QuerySet[CloseReason]:
    """The structured reasons, with the dispositions each fits."""
    return CloseReason.objects.all()
