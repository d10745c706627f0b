"""Acts beyond the case: its held payments are released, blocked or held longer; what it is about goes on lists.

Lists keep their own four eyes: a watch list obeys at once, a block or allow list gets a proposal that another person
approves. What goes on a list is read from the payment itself; the browser only names the payment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.transaction import atomic
from django.utils import timezone

from alerts.desk import remembered
from alerts.models import Alert
from cases.history import admit, check_holder, check_version, locked, write
from cases.models import Case
from cases.notes import refuse_card_numbers
from cases.workflow import CaseError
from scoring import entries, governance, lists
from scoring.models import List, ListEntry, Proposal
from scoring.refusals import GovernanceError, NoChange
from scoring.services import resolve_held

# Where a payment's document names what can go on a list; the customer stands in the alert itself.
SUBJECTS = {"customer": (), "card": ("card", "token"), "device": ("device", "id"), "merchant": ("merchant", "id")}
DAYS = (7, 30, 90, 180)  # how long an entry may stand
LONGEST_HOLD = timedelta(hours=72)
WORDS = {"released": "payments_released", "blocked": "payments_blocked"}
MOST_LISTS = 100
KEPT = 30  # seconds that the choice of lists is remembered


class NotThere(CaseError):
    """The act names payments that are not in this case, or not held (any more)."""


class ListRefused(CaseError):
    """The list does not take the entry; the text says why."""


@dataclass(frozen=True)
class Listing:
    """A wish to put what a payment of the case carries on a list, for some days."""

    list_id: int
    alert_id: int
    days: int

    def as_data(self) -> dict[str, int]:
        """As a request keeps it."""
        return {"list": self.list_id, "alert": self.alert_id, "days": self.days}

    @classmethod
    def from_data(cls, data: Mapping[str, int]) -> Listing:
        """The other way round."""
        return cls(data["list"], data["alert"], data["days"])


@dataclass(frozen=True)
class Choice:
    """What a case could put on lists: one customer, card, device or merchant, and the lists that take such."""

    subject: str
    shown: str
    alert_id: int
    lists: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return entries.NAMES[self.subject]


# --- payments ---------------------------------------------------------------------------------------------------------


@atomic
def resolve_payments(
    case_id: int, alert_ids: Iterable[int], resolution: str, *, by: Any, note: str, version: int | None = None
) -> Case:
    """Release or block held payments of a case before it is closed, for good. Asking again changes nothing.

    Raises NotThere, StaleCase, NotYours, LeaseLapsed, NotAllowed, NoSuchCase.
    """
    if resolution not in WORDS:
        raise NotThere("A held payment is released or blocked.")
    case = _in_hand(case_id, by, version, "close_case")
    alerts = _of_case(case, alert_ids)
    note = _reason(note)
    made = resolve_held([each.pk for each in alerts], resolution, by=by.get_username(), source="case")
    if made:
        write(case, WORDS[resolution], by=by, note=note, data=_told(alerts, made))
        case.save()
    return case


@atomic
def hold_longer(
    case_id: int, alert_ids: Iterable[int], until: datetime, *, by: Any, note: str, version: int | None = None
) -> Case:
    """Keep held payments held beyond the time their policy gave. Only longer, and at most LONGEST_HOLD from now on."""
    now = timezone.now()
    if not now < until <= now + LONGEST_HOLD:
        raise NotThere(f"A payment can be held for up to {LONGEST_HOLD.total_seconds() / 3600:.0f} h, from now on.")
    case = _in_hand(case_id, by, version, "work_case")
    alerts = _of_case(case, alert_ids)
    note = _reason(note)
    held = Alert.objects.filter(pk__in=[each.pk for each in alerts], hold_until__gt=now, hold_until__lt=until)
    ids = list(
        held.filter(transaction__resolution__isnull=True).select_for_update(of=("self",)).values_list("pk", flat=True)
    )
    if ids:
        Alert.objects.filter(pk__in=ids).update(hold_until=until)
        write(case, "payments_held", by=by, note=note, data=_told(alerts, ids) | {"until": until.isoformat()})
        case.save()
    return case


def _in_hand(case_id: int, by: Any, version: int | None, right: str) -> Case:
    case = locked(case_id)
    admit(case, by, right)
    check_version(case, version)
    check_holder(case, by)
    return case


def _of_case(case: Case, alert_ids: Iterable[int]) -> list[Alert]:
    wanted = set(alert_ids)
    found = [row.alert for row in case.case_alerts.filter(pk__in=wanted).select_related("alert").order_by("pk")]
    if not wanted or len(found) != len(wanted):
        raise NotThere("Name held payments of this case.")
    return found


def _reason(note: str) -> str:
    if not note.strip():
        raise NotThere("Say why: it stays in the history.")
    refuse_card_numbers(note)
    return note.strip()


def _told(alerts: Sequence[Alert], ids: Iterable[int]) -> dict[str, Any]:
    """Which payments, and their money, for the line of history."""
    done = set(ids)
    return {"payments": sorted(done), "amount_base": sum(each.amount_base for each in alerts if each.pk in done)}


# --- lists ------------------------------------------------------------------------------------------------------------


@atomic
def put_on_list(case_id: int, wishes: Sequence[Listing], *, by: Any, note: str) -> Case:
    """Put what payments carry on lists, with an end; of a block or allow list, propose it. Raises ListRefused."""
    case = _in_hand(case_id, by, None, "work_case")
    note = _reason(note)
    made = [each for each in put_on_lists(case, wishes, by=by, note=note) if not each.get("already")]
    if made:
        write(case, "listed", by=by, note=note, data={"lists": made})
        case.save()
    return case


def put_on_lists(case: Case, wishes: Sequence[Listing], *, by: Any, note: str = "") -> list[dict[str, Any]]:
    """Carry out wishes in the caller's commit; what became of each, without the values. Raises ListRefused."""
    return [_put(case, wish, by, note) for wish in wishes]


def _put(case: Case, wish: Listing, by: Any, note: str) -> dict[str, Any]:
    held = List.objects.select_related("lane").filter(pk=wish.list_id, lane=case.lane_id, subject__in=SUBJECTS).first()
    row = case.case_alerts.select_related("alert__transaction__detail").filter(pk=wish.alert_id).first()
    value = value_of(row.alert, held.subject) if held and row else ""
    if held is None or not value or not 1 <= wish.days <= max(DAYS):
        raise ListRefused("Choose what goes on which list, and for how long.")
    until = timezone.now() + timedelta(days=wish.days)
    told = {
        "list": held.name,
        "kind": held.kind,
        "subject": held.subject,
        "shown": entries.masked(value),
        "until": until.isoformat(),
    }
    reason = f"{case.number}: {note or case.top_reason}"[:200]
    try:
        with atomic():
            made = lists.put_on(held, value, by=by, reason=reason, expires_at=until, origin=case.number)
    except NoChange:
        return told | {"already": True}
    except GovernanceError as error:
        raise ListRefused(f"{held.name}: {error}") from None
    return told | {"proposal" if isinstance(made, Proposal) else "entry": made.pk}


def take_off_lists(made: Iterable[Mapping[str, Any]], *, by: Any, reason: str) -> None:
    """Take back what `put_on_lists` did, as far as nobody has approved it meanwhile."""
    for each in made:
        try:
            with atomic():
                if "entry" in each:
                    lists.take_off(ListEntry.objects.get(pk=each["entry"]), by=by, reason=reason)
                elif "proposal" in each:
                    governance.withdraw(Proposal.objects.get(pk=each["proposal"]), by=by, note=reason)
        except (NoChange, governance.AlreadyDecided):
            continue  # somebody was faster; the list's own record says who


def value_of(alert: Alert, subject: str) -> str:
    """The customer, card token, device or merchant that a payment carries; "" where it carries none."""
    if subject == "customer":
        return str(alert.customer_ref)
    detail = getattr(alert.transaction, "detail", None)
    value: Any = detail.document if detail else {}
    for name in SUBJECTS[subject]:
        value = value.get(name) if isinstance(value, dict) else None
    return str(value or "")


def choices(case: Case, alerts: Iterable[Alert], most: int = 6) -> list[Choice]:
    """What of these payments could go on which list, the first payment's things first."""
    takers = _lists(case.lane_id)
    found: dict[tuple[str, str], Choice] = {}
    for alert in alerts:
        for subject in SUBJECTS:
            value = value_of(alert, subject)
            if value and takers.get(subject) and (subject, value) not in found:
                found[subject, value] = Choice(subject, entries.masked(value), alert.pk, takers[subject])
    return list(found.values())[:most]


def _lists(lane_id: int) -> dict[str, list[dict[str, Any]]]:
    """The lane's lists that take such subjects, by subject."""
    rows: list[dict[str, Any]] = remembered(f"case-lists:{lane_id}", KEPT, lambda: _read_lists(lane_id))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["subject"], []).append(row)
    return found


def _read_lists(lane_id: int) -> list[dict[str, Any]]:
    rows = List.objects.filter(lane=lane_id, subject__in=SUBJECTS).order_by("kind", "name")
    return list(rows.values("id", "name", "kind", "subject")[:MOST_LISTS])
