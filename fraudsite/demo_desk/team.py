"""Who works at the demo's desk: the people one can sign in as, and colleagues who only appear in its past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from cases.seeds import seed_queues
from fraudsite.roles import seed_groups
from transactions.models import Lane

# Nobody can sign in as one of these: they have no password.
COLLEAGUES: dict[str, tuple[str, str, str]] = {
    "amara": ("Amara", "Osei", "investigator"),
    "jonas": ("Jonas", "Weidner", "investigator"),
    "noor": ("Noor", "Rahimi", "analyst"),
    "petra": ("Petra", "Holm", "team_lead"),
}
FIRST = "investigator2"  # of those one can sign in as; without this person nobody worked in the past


@dataclass(frozen=True)
class Team:
    """The people of the desk by what they may do."""

    investigators: Sequence[Any]
    analysts: Sequence[Any]
    leads: Sequence[Any]

    def named(self, username: str) -> Any:
        """Somebody of the team. Raises StopIteration."""
        return next(each for each in self.everybody if each.username == username)

    @property
    def everybody(self) -> list[Any]:
        return [*self.investigators, *self.analysts, *self.leads]

    def on_duty(self, moment: datetime, rng: Random) -> Any:
        """Who takes a case at that hour: two by day and two in the evening, one of them at night."""
        shift = 0 if 5 <= moment.hour < 14 else 1
        there = [each for n, each in enumerate(self.investigators) if n % 2 == shift] or list(self.investigators)
        return there[0] if moment.hour < 5 else rng.choice(there)

    def lead(self, rng: Random, *, but: Sequence[Any] = ()) -> Any:
        """One of those who lead, none of those named; None if there is no other."""
        others = [each for each in self.leads if each.pk not in {person.pk for person in but if person is not None}]
        return rng.choice(others) if others else None


def seed(lane: Lane) -> Team | None:
    """The colleagues, members of the lane's queues like the others; None if nobody can sign in as the first one."""
    if not get_user_model().objects.filter(username=FIRST).exists():
        return None
    seed_groups()
    for username, (first, last, role) in COLLEAGUES.items():
        _seed_person(username, first, last, role)
    people = get_user_model().objects.filter(groups__name__in=("investigator", "analyst", "team_lead"))
    seed_queues(lane, people)
    return of_desk()


def of_desk() -> Team:
    """The team as it is."""
    return Team(_in("investigator"), _in("analyst"), _in("team_lead"))


def _in(role: str) -> list[Any]:
    return list(get_user_model().objects.filter(groups__name=role, is_active=True).order_by("pk"))


def _seed_person(username: str, first: str, last: str, role: str) -> None:
    about = {"first_name": first, "last_name": last, "email": f"{username}@desk.invalid", "is_staff": True}
    user, made = get_user_model().objects.get_or_create(username=username, defaults=about)
    if made:
        user.set_unusable_password()
        user.save()
        user.groups.set([Group.objects.get(name=role)])
