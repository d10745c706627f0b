"""The checklist of a case: what should be done before it is called this sort of fraud. Ticks are lines of history."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.db.transaction import atomic
from redis.exceptions import RedisError

from alerts.desk import remembered
from cases.history import admit, check_holder, locked, write
from cases.models import Case, CaseCheck, CheckItem
from cases.workflow import CaseError
from transactions import clock

KEPT = 60  # seconds that the items, which people change rarely, are remembered


@dataclass(frozen=True)
class Step:
    """One item of the list in one case; without a tick it is still to be done."""

    item: CheckItem
    tick: CaseCheck | None

    @property
    def is_open(self) -> bool:
        return self.tick is None


def items() -> list[CheckItem]:
    """Every active item, those of every case first, then by fraud type and position."""
    found: list[CheckItem] = remembered("checklist", KEPT, lambda: list(CheckItem.objects.filter(is_active=True)))
    return found


def forget() -> None:
    """The items changed: read them anew."""
    with suppress(RedisError, OSError):  # then nothing was remembered either
        cache.delete("checklist")


def steps(case: Case) -> list[Step]:
    """All items with this case's ticks: the page shows those of the fraud type at hand."""
    ticks = {tick.item_id: tick for tick in case.checks.select_related("done_by")}
    return [Step(item, ticks.get(item.pk)) for item in items()]


def missing(case: Case, fraud_type: str) -> list[str]:
    """The required items of a fraud type that nobody ticked."""
    done = set(case.checks.values_list("item", flat=True))
    return [
        item.text
        for item in items()
        if item.is_required and item.fraud_type in ("", fraud_type) and item.pk not in done
    ]


@atomic
def tick(case_id: int, item_id: int, *, done: bool, by: Any) -> Case:
    """Tick an item, or take the tick off; doing it again changes nothing. Only who has the case in hand."""
    case = locked(case_id)
    admit(case, by)
    check_holder(case, by)
    item = CheckItem.objects.filter(pk=item_id, is_active=True).first()
    if item is None:
        raise CaseError("There is no such step any more.")
    there = case.checks.filter(item=item).first()
    if done == (there is not None):
        return case
    if there is None:
        CaseCheck.objects.create(case=case, item=item, done_by=by, done_at=clock.now())
    else:
        there.delete()
    write(case, "checked" if done else "unchecked", by=by, note=item.text, data={"item": item.pk})
    case.save()
    return case
