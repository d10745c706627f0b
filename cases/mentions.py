"""Who is named in a note is told: a row until they have seen it, counted on the bell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils import timezone

from cases.markup import names_in
from cases.models import Case, Mention, Note
from cases.querysets import concerning_kept, for_member, queues_of
from cases.workflow import CaseError

MOST_NAMED = 20
PAGE = 50


class RefusedMention(CaseError):
    """Somebody is named who could not read what they are called to."""


def unseen(user: Any) -> QuerySet[Mention]:
    """The mentions that the person has not seen, for the bell."""
    return _readable(user).filter(seen_at__isnull=True)


def named_in(text: str, case: Case | None) -> list[Any]:
    """The people whom a text names. Raises RefusedMention if one of them may not read the case."""
    names = names_in(text)
    if len(names) > MOST_NAMED:
        raise RefusedMention(f"A note names at most {MOST_NAMED} people.")
    people = list(get_user_model().objects.filter(username__in=names, is_active=True, is_staff=True)) if names else []
    kept_out = [person.get_username() for person in people if not may_read(person, case)]
    if kept_out:
        raise RefusedMention(f"{', '.join(kept_out)} cannot read this, so nobody was told. Leave the @ out.")
    return people


def may_read(person: Any, case: Case | None) -> bool:
    """Whether somebody may read the notes of a case; of an entity, whoever sees cases at all."""
    if case is None:
        return person.has_perm("cases.view_case")
    return for_member(person).filter(pk=case.pk).exists() and person.has_perm("cases.view_case")


def tell(note: Note, people: Iterable[Any]) -> None:
    """A row for each person named, in the note's commit. Nobody is told of what they wrote themselves."""
    rows = [Mention(note=note, user=person) for person in people if person.pk != note.author_id]
    Mention.objects.bulk_create(rows, ignore_conflicts=True)


def _readable(user: Any) -> QuerySet[Mention]:
    """The person's mentions, but for those in queues that they have left since or of whom they are kept from."""
    theirs = Q(note__case__queue__in=queues_of(user)) & ~Q(note__case__in=concerning_kept(user))
    return user.mentions.filter(Q(note__case__isnull=True) | theirs)


def of(user: Any, before: int = 0) -> tuple[list[Mention], int]:
    """A page of the person's mentions, newest first, and the place of the next page (0 at the end)."""
    rows = _readable(user).select_related("note__author", "note__case").order_by("-pk")
    found = list((rows.filter(pk__lt=before) if before else rows)[: PAGE + 1])
    return found[:PAGE], found[PAGE - 1].pk if len(found) > PAGE else 0


def mark_seen(user: Any, ids: Iterable[int] | None = None) -> int:
    """Mark the person's mentions, these or all, as seen; how many were not yet."""
    mine: QuerySet[Mention] = user.mentions.filter(seen_at__isnull=True)
    if ids is not None:
        mine = mine.filter(pk__in=list(ids))
    return mine.update(seen_at=timezone.now())


def people_of(case: Case, start: str = "", limit: int = 8) -> list[Any]:
    """Members of the case's queue whose user name or name begins so, for the writer of a note."""
    begins = Q(username__istartswith=start) | Q(first_name__istartswith=start) if start else Q()
    return list(case.queue.members.filter(begins, is_active=True).order_by("username")[:limit])
