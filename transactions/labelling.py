"""A label as a bank reports it: the same rules for the API and for files.

`known_at` is when the bank knew, which is what training goes by; it is never in the future and never before the fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Meta, UnsetType

from transactions import codes, schema
from transactions.conditions import AHEAD
from transactions.problems import FieldError, invalid
from transactions.reading import Part
from transactions.schema import ExternalId, Moment
from transactions.services import LabelIn

if TYPE_CHECKING:
    Verdict: TypeAlias = str
    FraudType: TypeAlias = str
    Source: TypeAlias = str
else:
    Verdict, FraudType = Literal[tuple(codes.VERDICT)], Literal[tuple(codes.FRAUD_TYPE)]
    Source = Literal[tuple(codes.LABEL_SOURCE)]


class ReportedLabel(Part):
    """What became known of one payment, named by the bank's own id or by ours."""

    verdict: Verdict
    external_id: ExternalId | UnsetType = UNSET
    transaction_id: Annotated[int, Meta(ge=1, le=2**63 - 1)] | UnsetType = UNSET
    # Banks report what customers and card schemes say; investigators judge on the desk.
    source: Literal["customer", "chargeback"] = "chargeback"
    fraud_type: FraudType | UnsetType = UNSET
    happened_at: Moment | UnsetType = UNSET
    known_at: Moment | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=500)] = ""

    def about(self, transaction_id: int, *, author: str, now: datetime) -> LabelIn:
        """The label row to record; without a time of its own it became known `now`."""
        return label_row(self, transaction_id, author=author, now=now)


class ImportedLabel(Part):
    """A row of a file of labels: any source, `import` where none is named."""

    verdict: Verdict
    external_id: ExternalId | UnsetType = UNSET
    transaction_id: Annotated[int, Meta(ge=1, le=2**63 - 1)] | UnsetType = UNSET
    source: Source = "import"
    fraud_type: FraudType | UnsetType = UNSET
    happened_at: Moment | UnsetType = UNSET
    known_at: Moment | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=500)] = ""


def label_row(label: ReportedLabel | ImportedLabel, transaction_id: int, *, author: str, now: datetime) -> LabelIn:
    """The row to record for a payment; a label without a time of its own became known `now`."""
    known_at = min(label.known_at or now, now)
    return LabelIn(
        transaction_id=transaction_id,
        verdict=label.verdict,
        source=label.source,
        fraud_type=label.fraud_type or "",
        known_at=known_at,
        happened_at=label.happened_at or known_at,
        author=author,
        reason=label.reason,
    )


def imported_label(document: dict[str, Any], *, now: datetime) -> ImportedLabel:
    """A file's label. Raises Problem with every fault."""
    label, errors = schema.part_from_document(ImportedLabel, document)
    return _faultless(label, errors, now)


def read_label(body: bytes, *, now: datetime) -> ReportedLabel:
    """The label in a JSON body. Raises Problem with every fault."""
    label, errors = schema.read_part(ReportedLabel, body)
    return _faultless(label, errors, now)


L = TypeVar("L", ReportedLabel, ImportedLabel)


def _faultless(label: L | None, errors: list[FieldError], now: datetime) -> L:
    if label is not None:
        known = {error.pointer for error in errors}
        errors += (error for error in faults(label, now) if error.pointer not in known)
    if errors or label is None:
        raise invalid(errors)
    return label


def faults(label: ReportedLabel | ImportedLabel, now: datetime) -> Iterator[FieldError]:
    """What no single field can tell."""
    if not label.external_id and not label.transaction_id:
        yield FieldError("/external_id", "required", "Name the payment by external_id or transaction_id.")
    if label.external_id and label.transaction_id:
        yield FieldError("/transaction_id", "invalid-value", "Name the payment in one way only.")
    if label.fraud_type and label.verdict != "fraud":
        yield FieldError("/fraud_type", "invalid-value", "Only for the verdict fraud.")
    if label.known_at and label.known_at > now + AHEAD:
        yield FieldError("/known_at", "invalid-time", "More than 5 minutes in the future.")
    if label.happened_at and label.happened_at > (label.known_at or now) + AHEAD:
        yield FieldError("/happened_at", "invalid-time", "Later than it became known.")
