"""Who is away, and when: nothing is assigned to them, and what waits untouched in their name goes back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.transaction import atomic
from django.utils import timezone

from cases.history import NotAllowed
from cases.models import Absence, Queue
from cases.workflow import CaseError

LONGEST = timedelta(days=366)


class WrongAbsence(CaseError):
    """The times of an absence cannot be; `errors` says what: {field: sentence}."""

    def __init__(self, errors: dict[str, str]):
        super().__init__(" ".join(errors.values()))
        self.errors = errors


def away(user_ids: Iterable[int], at: datetime | None = None) -> dict[int, datetime]:
    """Which of these people are away at a moment (now), each with the end of it."""
    now = at or timezone.now()
    rows = Absence.objects.filter(user__in=list(user_ids), starts_at__lte=now, ends_at__gt=now)
    return dict(rows.order_by("ends_at").values_list("user", "ends_at"))


def upcoming(users: Iterable[Any]) -> QuerySet[Absence]:
    """Absences of these people that are not over, soonest first."""
    rows = Absence.objects.filter(user__in=list(users), ends_at__gt=timezone.now())
    return rows.select_related("user").order_by("starts_at", "pk")


def colleagues(by: Any) -> QuerySet[Any]:
    """Whose absences a person may plan: their own; a lead's, of everybody in the lead's queues."""
    people = get_user_model().objects.filter(is_active=True)
    mine = Q(pk=by.pk)
    if by.has_perm("cases.lead_queue"):
        mine |= Q(pk__in=Queue.members.through.objects.filter(queue__members=by).values("user"))
    return people.filter(mine).order_by("first_name", "last_name", "username")


@atomic
def plan(user: Any, starts_at: datetime, ends_at: datetime, *, by: Any, note: str = "") -> Absence:
    """Note that a person will be away. The same again is the same one. Raises WrongAbsence, NotAllowed."""
    _admit(user, by)
    errors = {}
    if ends_at <= starts_at:
        errors["ends_at"] = "An absence ends after it starts."
    elif ends_at <= timezone.now():
        errors["ends_at"] = "This is over already."
    elif ends_at - starts_at > LONGEST:
        errors["ends_at"] = f"An absence has up to {LONGEST.days} days."
    if len(note) > 200:
        errors["note"] = "A note has up to 200 characters."
    if errors:
        raise WrongAbsence(errors)
    found, _ = Absence.objects.get_or_create(
        user=user, starts_at=starts_at, ends_at=ends_at, defaults={"note": note.strip()}
    )
    return found


@atomic
def cancel(absence_id: int, *, by: Any) -> None:
    """Take an absence back; one that is running ends now. Gone already is fine."""
    found = Absence.objects.select_for_update(of=("self",)).select_related("user").filter(pk=absence_id).first()
    if found is None:
        return
    _admit(found.user, by)
    if found.starts_at < timezone.now() < found.ends_at:
        found.ends_at = timezone.now()
        found.save(update_fields=["ends_at"])
    elif found.starts_at >= timezone.now():
        found.delete()


def _admit(user: Any, by: Any) -> None:
    if not colleagues(by).filter(pk=user.pk).exists():
        raise NotAllowed("You plan your own absences; those who lead a queue, also their people’s.")
