"""Tags on a case: a few plain words by which people find it again. Every change has its line of history."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.db.transaction import atomic

from cases.history import admit, check_version, locked, write
from cases.models import Case
from cases.notes import refuse_card_numbers
from cases.workflow import CaseError

MOST_TAGS = 10
_TAG = re.compile(r"[^\W_][\w-]{0,29}")


class RefusedTag(CaseError):
    """A tag that is none, or one too many."""


def tags_in(text: str) -> list[str]:
    """The tags that a person typed, between blanks or commas, in lower case, each once. Raises RefusedTag."""
    words = [word.lstrip("#").lower() for word in re.split(r"[\s,;]+", text) if word.strip("#")]
    for word in words:
        if not _TAG.fullmatch(word):
            raise RefusedTag(f"“{word[:30]}” is no tag: letters, digits and dashes, at most 30.")
        refuse_card_numbers(word)
    return list(dict.fromkeys(words))


def add_tags(case_id: int, tags: Iterable[str], *, by: Any, version: int | None = None) -> Case:
    """Put tags on a case; those it has already change nothing."""
    return change_tags(case_id, by=by, add=tags, version=version)


def remove_tags(case_id: int, tags: Iterable[str], *, by: Any, version: int | None = None) -> Case:
    """Take tags off a case; those it lacks change nothing."""
    return change_tags(case_id, by=by, remove=tags, version=version)


@atomic
def change_tags(
    case_id: int, *, by: Any, add: Iterable[str] = (), remove: Iterable[str] = (), version: int | None = None
) -> Case:
    """Put tags on a case and take others off, in one line of history; nothing to change, no line.

    Raises RefusedTag, NotAllowed, StaleCase, NoSuchCase.
    """
    added, removed = tags_in(" ".join(add)), set(tags_in(" ".join(remove)))
    case: Any = locked(case_id)
    admit(case, by)
    before: list[str] = list(case.tags)
    after = list(dict.fromkeys([tag for tag in before if tag not in removed] + added))
    if after == before:
        return case
    check_version(case, version)
    if len(after) > MOST_TAGS:
        raise RefusedTag(f"A case has at most {MOST_TAGS} tags.")
    data = {
        "added": [tag for tag in after if tag not in before],
        "removed": [tag for tag in before if tag not in after],
    }
    write(case, "tagged", by=by, before=", ".join(before)[:40], after=", ".join(after)[:40], data=data)
    case.tags = after
    case.save()
    return case
