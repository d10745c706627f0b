"""Who looked at what: every look at a case or an entity, every unmasked value, search and export leaves a row.

A look is not an act: it has no line in a case's history, takes no lock and moves no version. The rows are append-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from redis.exceptions import RedisError

from cases.history import NotAllowed
from cases.models import Case, Sighting
from cases.provenance import address_of, roles_of
from transactions import pan
from transactions.problems import request_id

AGAIN = timedelta(minutes=10)  # a page that is loaded again within this is the same look
UNMASKED_FOR = timedelta(minutes=10)
SHORTEST_REASON = 10
LOOKS = ("case_viewed", "entity_viewed", "report_viewed")


class RefusedReason(ValueError):
    """A reason for unmasking that says too little, or too much."""


def saw(
    request: HttpRequest,
    act: str,
    *,
    case: Case | None = None,
    entity: tuple[str, int] | None = None,
    reason: str = "",
    **data: Any,
) -> Sighting | None:
    """Write down that the person of `request` looked; None if the same look was written in the last ten minutes.

    `act`: case_viewed, entity_viewed, unmasked, searched, exported; `entity`: (kind, key). `data` never holds what was
    seen, only what was asked for, and the person's roles. Only looks are told once; searches, exports and unmasked
    values are told each time.
    """
    kind, key = entity or ("", 0)
    row = Sighting(
        actor_id=request.user.pk,
        act=act,
        case=case,
        entity_kind=kind,
        entity_key=key,
        reason=reason,
        ip=address_of(request),
        request_id=request_id(request)[:64],
    )
    if act in LOOKS and _was_told(row):
        return None
    row.data = {"role": roles_of(request.user), **data}
    row.save(force_insert=True)
    return row


def looked(request: HttpRequest, case: Case) -> None:
    """Write down that the person looked at a case, from whatever page; Valkey spares the statements of another look."""
    try:
        is_new = cache.add(f"looked:{request.user.pk}:{case.pk}", 1, AGAIN.total_seconds())
    except (RedisError, OSError):
        is_new = True
    if is_new:
        saw(request, "case_viewed", case=case)


def _was_told(row: Sighting) -> bool:
    """The same person, the same thing, just now; by the index of the case or of the entity."""
    same = Sighting.objects.filter(act=row.act, actor=row.actor_id, at__gt=timezone.now() - AGAIN)
    if row.case_id is not None:
        same = same.filter(case=row.case_id)
    if row.entity_kind:
        same = same.filter(entity_kind=row.entity_kind, entity_key=row.entity_key)
    return same.exists()


def check_reason(reason: str) -> str:
    """A reason to unmask as it is kept. Raises RefusedReason."""
    reason = " ".join(reason.split())
    if len(reason) < SHORTEST_REASON:
        raise RefusedReason(f"Say why, in at least {SHORTEST_REASON} characters: an auditor reads it.")
    if len(reason) > 200:
        raise RefusedReason("A reason has at most 200 characters.")
    if pan.in_free_text(reason):
        raise RefusedReason("The reason holds what looks like a card number. Nothing was kept.")
    return reason


def unmask(request: HttpRequest, entity: tuple[str, int], reason: str, case: Case | None = None) -> datetime:
    """Show this person the entity's value for ten minutes; until when. Raises NotAllowed, RefusedReason."""
    if not request.user.has_perm("cases.unmask"):
        raise NotAllowed("Your role does not allow this.")
    row = saw(request, "unmasked", case=case, entity=entity, reason=check_reason(reason))
    assert row is not None  # unmasking is told each time
    return row.at + UNMASKED_FOR


def unmasked(user: Any, entities: Iterable[tuple[str, int]]) -> dict[tuple[str, int], datetime]:
    """Which of these entities the person has unmasked, and until when. One statement; none without the right."""
    wanted = set(entities)
    if not wanted or not user.has_perm("cases.unmask"):
        return {}
    any_of = Q()
    for kind, key in wanted:
        any_of |= Q(entity_kind=kind, entity_key=key)
    since = timezone.now() - UNMASKED_FOR
    rows = Sighting.objects.filter(any_of, actor=user.pk, act="unmasked", at__gt=since)
    shown: dict[tuple[str, int], datetime] = {}
    for kind, key, at in rows.values_list("entity_kind", "entity_key", "at"):
        shown[kind, key] = max(at + UNMASKED_FOR, shown.get((kind, key), at))
    return shown
