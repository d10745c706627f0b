"""Saved views: the filters and the order of the queue page under a name, a person's own or shared with the team.

A view keeps an address, not rows: whoever opens it sees what their own rights show. "Mine" in a shared view is the
reader's own.
"""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError
from django.db.models import Case as Choice
from django.db.models import Q, QuerySet, Value, When
from django.db.transaction import atomic
from django.http import QueryDict

from cases import listing
from cases.listing import Address
from cases.models import Queue, SavedView
from cases.workflow import CaseError

MOST_VIEWS = 50
MOST_COUNTED = 1000
LONGEST_NAME = 60


class RefusedView(CaseError):
    """A view without a name, of a name that is taken, or one too many."""


def views_for(user: Any) -> QuerySet[SavedView]:
    """The person's own views, then those that colleagues of a common queue share; at most 50."""
    queues = Queue.objects.filter(members=user).values("pk")
    shared = Q(is_shared=True, owner__queues__in=queues)
    own_first = Choice(When(owner=user, then=Value(0)), default=Value(1))
    found = SavedView.objects.filter(Q(owner=user) | shared).select_related("owner")
    return found.annotate(theirs=own_first).order_by("theirs", "position", "name", "pk").distinct()[:MOST_VIEWS]


def address_of(view: SavedView) -> Address:
    """The view's address, understood as of today: a part that is no longer known is left out."""
    return Address.read(QueryDict(view.address))


def default_of(user: Any) -> SavedView | None:
    """The view with which the queue page opens for this person."""
    return SavedView.objects.filter(owner=user, is_default=True).first()


def save_view(name: str, address: Address, *, by: Any, shared: bool = False, default: bool = False) -> SavedView:
    """Keep an address under a name; the person's own view of that name is replaced. Raises RefusedView."""
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise RefusedView(f"A view needs a name of at most {LONGEST_NAME} characters.")
    text = address.plain.url()[1:]
    if len(text) > 1000:
        raise RefusedView("These filters are too long to be kept. Take some away.")
    try:
        return _store(name, text, by, shared, default)
    except IntegrityError:
        raise RefusedView("You have just saved a view of this name.") from None


@atomic
def _store(name: str, text: str, by: Any, shared: bool, default: bool) -> SavedView:
    own = list(SavedView.objects.select_for_update().filter(owner=by))
    if len(own) >= MOST_VIEWS and name not in {view.name for view in own}:
        raise RefusedView(f"{MOST_VIEWS} views are the most one person keeps. Delete one first.")
    if default:
        SavedView.objects.filter(owner=by, is_default=True).update(is_default=False)
    fields = {"address": text, "is_shared": shared, "is_default": default}
    view, _ = SavedView.objects.update_or_create(owner=by, name=name, defaults=fields)
    return view


@atomic
def make_default(view_id: int, *, by: Any) -> SavedView:
    """Open the queue page with this view; asked again, no longer. A colleague's shared view is copied first."""
    view = _visible(view_id, by)
    if view.owner_id != by.pk:
        view = _store(view.name, view.address, by, False, False)
    turned_on = not view.is_default
    SavedView.objects.filter(owner=by, is_default=True).update(is_default=False)
    view.is_default = turned_on
    view.save(update_fields=["is_default"])
    return view


@atomic
def share_view(view_id: int, *, by: Any) -> SavedView:
    """Share an own view with the team; asked again, keep it to oneself."""
    view = _own(view_id, by)
    view.is_shared = not view.is_shared
    view.save(update_fields=["is_shared"])
    return view


@atomic
def delete_view(view_id: int, *, by: Any) -> None:
    """Delete an own view. One that is gone already changes nothing."""
    SavedView.objects.filter(pk=view_id, owner=by).delete()


def _visible(view_id: int, user: Any) -> SavedView:
    found = next((view for view in views_for(user) if view.pk == view_id), None)
    if found is None:
        raise RefusedView("There is no such view.")
    return found


def _own(view_id: int, user: Any) -> SavedView:
    view = SavedView.objects.select_for_update().filter(pk=view_id, owner=user).first()
    if view is None:
        raise RefusedView("There is no such view of yours.")
    return view


def count_words(address: Address, user: Any) -> str:
    """How many cases a view shows, counted up to a bound: "38", "1000+"."""
    found = listing.count(listing.matching(address, user), MOST_COUNTED)
    return f"{MOST_COUNTED}+" if found > MOST_COUNTED else str(found)
