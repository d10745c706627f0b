"""How the API on the ground floor answers with decisions, which are made two floors up.

Imports go downwards only, so the upper floors hang their functions in here when the house starts
(`fraudsite/apps.py` calls `provide`). Without them every payment is kept and answered with 202.

`judge_now(prepared, patience)` hands the payments of a waiting request to the lane and waits `patience` seconds for its
reply. It returns None when the patience is out or Valkey is gone, else one dict for the (one) payment:

    {"id": 4711,                  the payment's id
     "created": True,             False: it was there before, with the same body
     "conflict": False,           True: it was there before with another body; then no decision is given
     "received_at": "2026-…Z",    optional
     "decision": {…} | None}      the decision object of the API; None: kept, but not judged yet

`find(ids)` returns the decision objects of those payments that have one: `{id: decision object}`.

`count(ids)` is how many of those payments are decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transactions.services import Prepared

Reply = dict[str, Any]
JudgeNow = Callable[["Prepared", float], Reply | None]
Find = Callable[[list[int]], dict[int, Reply]]
Count = Callable[[list[int]], int]


def _nobody_judges(prepared: Prepared, patience: float) -> Reply | None:
    return None


def _nothing_decided(transaction_ids: list[int]) -> dict[int, Reply]:
    return {}


def _none_decided(transaction_ids: list[int]) -> int:
    return 0


_judge_now: JudgeNow = _nobody_judges
_find: Find = _nothing_decided
_count: Count = _none_decided


def provide(*, judge_now: JudgeNow | None = None, find: Find | None = None, count: Count | None = None) -> None:
    """Hang in the upper floors' functions; one that is not given stays as it is."""
    global _judge_now, _find, _count
    _count = count or _count
    _judge_now = judge_now or _judge_now
    _find = find or _find


def judge_now(prepared: Prepared, patience: float) -> Reply | None:
    """Have a waiting request judged, see the module's text. Holds no database transaction."""
    return _judge_now(prepared, patience)


def find(transaction_ids: list[int]) -> dict[int, Reply]:
    """The decision objects of those payments that are decided."""
    return _find(transaction_ids)


def count(transaction_ids: list[int]) -> int:
    """How many of those payments are decided."""
    return _count(transaction_ids)
