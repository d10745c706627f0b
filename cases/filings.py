"""Reports of suspicious activity to the authorities: what was decided, when it is due, what was filed and when.

They stand in a table of their own and leave no line in the case's history, for that is read by people who must not know
that there is one. Whoever opens them leaves a sighting, which in turn is shown only to those with the right.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.db.transaction import atomic
from django.utils import timezone

from cases.history import admit, locked
from cases.models import Case, Filing
from cases.notes import refuse_card_numbers
from cases.workflow import CaseError

SEE, KEEP = "view_filing", "add_filing"
CLOCK = timedelta(days=30)  # from the detection to the filing
LONGEST_NOTE = 4000
MOST_SHOWN = 50
Decision: Any = Filing.Decision


class IncompleteFiling(CaseError):
    """Something is missing or cannot be; `errors` says what: {field: sentence}."""

    def __init__(self, errors: dict[str, str]):
        super().__init__(" ".join(errors.values()))
        self.errors = errors


def may_see(user: Any) -> bool:
    """Whether the person may know of reports at all."""
    return bool(user.has_perm(f"cases.{SEE}"))


def of(case: Case, reader: Any) -> list[Filing]:
    """What was decided about reporting the case, newest first; nothing for who may not know."""
    return list(case.filings.select_related("author")[:MOST_SHOWN]) if may_see(reader) else []


def due_on(filing: Filing) -> date | None:
    """The last day for filing; None where there is nothing (more) to file."""
    return filing.detected_on + CLOCK if filing.decision == Decision.PREPARING else None


@atomic
def keep(
    case_id: int,
    *,
    by: Any,
    decision: str,
    detected_on: date | None,
    filed_on: date | None = None,
    reference: str = "",
    note: str = "",
) -> Filing:
    """Add what holds from now on. The same again changes nothing. Raises IncompleteFiling, NotAllowed, RefusedText."""
    case = locked(case_id)
    admit(case, by, KEEP)
    wanted = {
        "decision": decision,
        "detected_on": detected_on,
        "filed_on": filed_on if decision == Decision.FILED else None,
        "reference": " ".join(reference.split()),
        "note": note.strip(),
    }
    _check(wanted)
    refuse_card_numbers(f"{wanted['reference']}\n{wanted['note']}")
    newest = case.filings.first()
    if newest is not None and all(getattr(newest, name) == value for name, value in wanted.items()):
        return newest
    return Filing.objects.create(case=case, author=by, **wanted)


def _check(wanted: dict[str, Any]) -> None:
    errors, today = {}, timezone.localdate()
    if wanted["decision"] not in Decision:
        errors["decision"] = "Say whether it is filed."
    if wanted["detected_on"] is None or wanted["detected_on"] > today:
        errors["detected_on"] = "Say when it was detected; today at the latest."
    if wanted["decision"] == Decision.FILED:
        if wanted["filed_on"] is None or wanted["filed_on"] > today:
            errors["filed_on"] = "Say when it was filed; today at the latest."
        if not wanted["reference"]:
            errors["reference"] = "Give the number under which the authority has it."
    if len(wanted["reference"]) > 60 or len(wanted["note"]) > LONGEST_NOTE:
        errors["note"] = f"A number has up to 60 characters, a note up to {LONGEST_NOTE:,}."
    if wanted["decision"] == Decision.NOT_FILED and not wanted["note"]:
        errors["note"] = "Say why it is not to be filed."
    if errors:
        raise IncompleteFiling(errors)
