"""Moving many cases at once from the lead board: each by the service that moves one, with its own line of history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model

from cases import handover
from cases.cursors import number
from cases.models import Queue
from cases.workflow import CaseError

MOST = 100  # cases at once


class WrongTarget(CaseError):
    """Cases go to a person or a queue that is there."""


@dataclass(frozen=True)
class Moved:
    """Where the cases went, how many, and which stayed with the reason."""

    to: str
    done: int
    skipped: dict[int, str]


def rebalance(case_ids: Iterable[int], target: str, *, by: Any, note: str = "") -> Moved:
    """Give cases to "person:<id>" or "queue:<id>". One that cannot go stays where it is and says why.

    Each is a commit of its own: what is locked by others for a moment does not hold up the rest.
    """
    wanted = sorted(set(case_ids))[:MOST]
    if not wanted:
        raise WrongTarget("Choose at least one case.")
    kind, _, key = target.partition(":")
    found = _target(kind, number(key))
    if kind == "queue" and not note.strip():
        raise WrongTarget("Say why they move to another queue.")
    skipped: dict[int, str] = {}
    for case_id in wanted:
        try:
            _move(case_id, kind, found, by, note)
        except CaseError as error:
            skipped[case_id] = str(error)
    return Moved(_named(found), len(wanted) - len(skipped), skipped)


def _target(kind: str, key: int) -> Any:
    if kind == "person":
        found = get_user_model().objects.filter(pk=key, is_active=True).first()
    else:
        found = Queue.objects.filter(pk=key).first() if kind == "queue" else None
    if found is None:
        raise WrongTarget("Choose a person or a queue.")
    return found


def _move(case_id: int, kind: str, target: Any, by: Any, note: str) -> None:
    if kind == "person":
        handover.assign(case_id, target, by=by, note=note)
    else:
        handover.move_to_queue(case_id, target, by=by, note=note)


def _named(target: Any) -> str:
    return target.name if isinstance(target, Queue) else target.get_full_name() or target.get_username()
