"""Labels that come after a case was closed and say otherwise: a chargeback on what was called legitimate, say.

A task looks at labels lately recorded and marks the cases they contradict; a lead then opens the case again or leaves
it closed, with a reason. What was decided is never changed by a label alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.transaction import atomic
from django.utils import timezone

from cases.closing import reopen_case
from cases.history import admit, locked, write
from cases.models import Case, CaseEvent
from cases.notes import refuse_card_numbers
from cases.querysets import for_member
from cases.workflow import FRAUD, GENUINE, SHORTEST_RATIONALE, CaseError, Disposition, Status
from transactions import clock
from transactions.codes import CURRENCY, FRAUD_TYPE, LABEL_SOURCE, VERDICT

SOURCES = ("chargeback", "customer")
MOST_LISTED = 200
BATCH = 50_000  # numbers of labels looked at in one statement
AGAIN = 10_000  # numbers looked at once more: labels draw theirs before they are committed
ROUNDS = 20
CASES = 200  # looked at in one statement
_PLACE = "cases.late_labels.after"

# Of each payment of a closed case what each source said last; `after` bounds the labels that start the look.
_LATE = """
SELECT c.id, l.id, l.transaction_id, l.verdict, l.source, l.fraud_type, l.known_at, l.recorded_at, l.author,
       coalesce(nullif(a.verdict, ''), c.disposition), p.amount, p.currency
  FROM "case" c JOIN case_alert a ON a.case_id = c.id
  JOIN LATERAL (SELECT DISTINCT ON (o.source) o.* FROM label o WHERE o.transaction_id = a.alert_id
                 AND o.source = ANY(%(sources)s) ORDER BY o.source, o.id DESC) l ON l.recorded_at > c.closed_at
  JOIN transaction p ON p.id = a.alert_id
 WHERE c.status = 'closed' AND c.id = ANY(%(cases)s) ORDER BY l.id LIMIT 5000"""
_TOUCHED = """
SELECT DISTINCT a.case_id FROM label l JOIN case_alert a ON a.alert_id = l.transaction_id
  JOIN "case" c ON c.id = a.case_id AND c.status = 'closed' AND l.recorded_at > c.closed_at
 WHERE l.id > %(after)s AND l.id <= %(upto)s AND l.source = ANY(%(sources)s)"""


@dataclass(frozen=True)
class LateLabel:
    """One label that came after the close, beside what the case said of that payment."""

    label_id: int
    transaction_id: int
    verdict: str
    source: str
    fraud_type: str
    known_at: datetime
    recorded_at: datetime
    author: str
    said: str
    amount: int
    currency: str

    @property
    def contradicts(self) -> bool:
        """Whether it says otherwise than the case; of an open question nothing is otherwise."""
        return (self.verdict == "fraud" and self.said in GENUINE) or (
            self.verdict == "legitimate" and self.said in FRAUD
        )

    @property
    def said_words(self) -> str:
        """What the case said, as people read it."""
        return Disposition(self.said).label


def of(case: Case) -> list[LateLabel]:
    """The labels that contradict a closed case, in the order of their coming; none of an open one."""
    if case.status != Status.CLOSED:
        return []
    return _contradictions([case.pk]).get(case.pk, [])


def mark_contradictions() -> int:
    """Look at the labels recorded since the last look and mark the cases they contradict; how many.

    The place of the last look is only a shortcut: without it the look starts at yesterday's labels, and marking twice
    changes nothing.
    """
    newest, marked = _newest_label(), 0
    after = cache.get(_PLACE)
    after = _label_before(timezone.now() - timedelta(days=1)) if after is None else min(after, newest)
    for _ in range(ROUNDS):
        upto = min(newest, after + BATCH)
        marked += mark_of(_touched(after, upto))
        cache.set(_PLACE, max(0, upto - AGAIN), 7 * 86_400)
        if upto == newest:
            break
        after = upto
    return marked


def mark_of(case_ids: Iterable[int]) -> int:
    """Mark those of the closed cases that a later label contradicts; how many were marked now."""
    ids, marked = sorted(case_ids), 0
    for first in range(0, len(ids), CASES):
        found = _contradictions(ids[first : first + CASES])
        marked += sum(_mark(case_id, labels) for case_id, labels in sorted(found.items()))
    return marked


@atomic
def _mark(case_id: int, labels: list[LateLabel]) -> bool:
    """One line for labels that the history does not know yet; and a lead's list, until they dealt with it."""
    case = locked(case_id)
    if case.status != Status.CLOSED:
        return False
    told = CaseEvent.objects.filter(case=case, kind="late_label").values_list("data__labels", flat=True)
    known = {label for labels_told in told for label in labels_told or []}
    new = [each for each in labels if each.label_id not in known]
    if not new:
        return False
    first = new[0]
    write(
        case,
        "late_label",
        before=case.disposition,
        after=f"{first.verdict} ({first.source})",
        note=f"{first.source.capitalize()} says {first.verdict} of a payment that was closed as "
        f"{first.said_words.lower()}.",
        data={"labels": [each.label_id for each in new], "transactions": [each.transaction_id for each in new]},
    )
    case.contradicted_at = case.contradicted_at or clock.now()
    case.save()
    return True


def waiting(user: Any) -> list[Case]:
    """Closed cases that a later label contradicts and no lead has dealt with, the oldest first; bounded."""
    found = for_member(user).filter(contradicted_at__isnull=False, status=Status.CLOSED)
    return list(found.select_related("queue", "closed_by").order_by("contradicted_at")[:MOST_LISTED])


def labels_of(cases: Iterable[Case]) -> dict[int, list[LateLabel]]:
    """The contradicting labels of several cases, by case; one statement."""
    return _contradictions([case.pk for case in cases])


@atomic
def leave_closed(case_id: int, *, by: Any, reason: str) -> Case:
    """A lead has looked and the case stays as it was decided. A second click changes nothing."""
    case: Any = locked(case_id)
    admit(case, by, "lead_queue")
    if case.contradicted_at is None:
        return case
    write(case, "left_closed", by=by, note=_checked(reason), data={"disposition": case.disposition})
    case.contradicted_at = None
    case.save()
    return case


@atomic
def reopen(case_id: int, *, by: Any, reason: str) -> Case:
    """A lead opens the case again, in their own hands; the contradiction is dealt with.

    One's own close comes back still closed, with a request to a second person; until then the contradiction stands.
    """
    admit(locked(case_id), by, "lead_queue")
    case: Any = reopen_case(case_id, by=by, note=_checked(reason))
    if case.status != Status.CLOSED and case.contradicted_at is not None:
        case.contradicted_at = None
        case.save(update_fields=["contradicted_at"])
    return case


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not SHORTEST_RATIONALE <= len(reason) <= 1000:
        raise CaseError(f"Say why, in {SHORTEST_RATIONALE} to 1,000 characters.")
    refuse_card_numbers(reason)
    return reason


def _contradictions(case_ids: list[int]) -> dict[int, list[LateLabel]]:
    found: dict[int, list[LateLabel]] = {}
    if not case_ids:
        return found
    with connection.cursor() as cursor:
        cursor.execute(_LATE, {"cases": case_ids, "sources": _sources()})
        for row in cursor.fetchall():
            label = _late_label(row[1:])
            if label.contradicts:
                found.setdefault(row[0], []).append(label)
    return found


def _late_label(row: tuple[Any, ...]) -> LateLabel:
    label, payment, verdict, source, fraud_type, known_at, recorded_at, author, said, amount, currency = row
    return LateLabel(
        label_id=label,
        transaction_id=payment,
        verdict=VERDICT.text(verdict),
        source=LABEL_SOURCE.text(source),
        fraud_type=FRAUD_TYPE.text(fraud_type),
        known_at=known_at,
        recorded_at=recorded_at,
        author=author,
        said=said,
        amount=amount,
        currency=CURRENCY.text(currency),
    )


def _touched(after: int, upto: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, {"after": after, "upto": upto, "sources": _sources()})
        return [row[0] for row in cursor.fetchall()]


def _newest_label() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM label")
        return int(cursor.fetchone()[0])


def _label_before(moment: datetime) -> int:
    """The newest label recorded before that moment, found by halving: ids grow with the time of recording."""
    low, high = 0, _newest_label()
    with connection.cursor() as cursor:
        while high - low > BATCH:
            middle = (low + high) // 2
            cursor.execute("SELECT recorded_at FROM label WHERE id > %s ORDER BY id LIMIT 1", [middle])
            row = cursor.fetchone()
            low, high = (middle, high) if row and row[0] < moment else (low, middle)
    return low


def _sources() -> list[int]:
    return [LABEL_SOURCE.codes[source] for source in SOURCES]
