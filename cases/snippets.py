"""Texts to start a note with: a person's own, and the team's, which those who lead keep."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.db.transaction import atomic

from cases.history import NotAllowed
from cases.models import Snippet
from cases.notes import RefusedText, refuse_card_numbers

LONGEST = 2000
MOST = 100  # of a person, and of the team


def offered(user: Any) -> QuerySet[Snippet]:
    """The person's own texts and the team's, by title."""
    return Snippet.objects.filter(Q(owner=user) | Q(owner__isnull=True)).order_by("title", "pk")[: 2 * MOST]


@atomic
def keep(title: str, text: str, *, by: Any, team: bool = False, snippet_id: int | None = None) -> Snippet:
    """Add a text, or change one of those the person may change. Raises RefusedText, NotAllowed."""
    title, text = " ".join(title.split()), text.replace("\r\n", "\n").strip()
    if not 0 < len(title) <= 60 or not 0 < len(text) <= LONGEST:
        raise RefusedText(f"A snippet has a title of up to 60 and a text of up to {LONGEST:,} characters.")
    refuse_card_numbers(f"{title}\n{text}")
    _check(by, team=team)
    owner = None if team else by
    snippet = _changeable(snippet_id, by) if snippet_id else Snippet()
    if snippet_id is None and Snippet.objects.filter(owner=owner).count() >= MOST:
        raise RefusedText(f"There are {MOST} snippets already. Remove one first.")
    snippet.owner, snippet.title, snippet.text = owner, title, text
    snippet.save()
    return snippet


@atomic
def remove(snippet_id: int, *, by: Any) -> None:
    """Remove a text that the person may change; removing it again changes nothing. Raises NotAllowed."""
    if Snippet.objects.filter(pk=snippet_id).exists():
        _changeable(snippet_id, by).delete()


def may_change(snippet: Snippet, user: Any) -> bool:
    """One's own; the team's are changed by those who lead."""
    return snippet.owner_id == user.pk or (snippet.owner_id is None and user.has_perm("cases.lead_queue"))


def _changeable(snippet_id: int, by: Any) -> Snippet:
    snippet = Snippet.objects.select_for_update().filter(pk=snippet_id).first()
    if snippet is None or not may_change(snippet, by):
        raise NotAllowed("That snippet is not yours to change.")
    return snippet


def _check(by: Any, *, team: bool) -> None:
    if not by.has_perm("cases.work_case"):
        raise NotAllowed("Your role does not allow this.")
    if team and not by.has_perm("cases.lead_queue"):
        raise NotAllowed("Those who lead keep the team's snippets.")
