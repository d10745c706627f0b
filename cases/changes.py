"""What changed on a case since a person's page was made: what the page says, and what is true now, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cases.models import Case, CaseEvent
from cases.templatetags.cases import name_of
from cases.workflow import Disposition, Status

MOST = 20  # lines of history that are compared
FIELDS = {
    "alert_added": "Alerts",
    "priority_raised": "Priority",
    "priority_set": "Priority",
    "taken_over": "Assignee",
    "assigned": "Assignee",
    "moved": "Queue",
}


@dataclass
class Change:
    """One field: the page's value, the value now, and who changed it last, by which act."""

    field: str
    yours: str
    theirs: str
    act: str
    by: str
    at: datetime


def since(case: Case, version: int) -> list[Change]:
    """What changed after the version that a page shows; one statement."""
    events = case.events.filter(data__version__gt=version).select_related("actor")[:MOST]
    return compared(events, case.alert_count)


def compared(events: Iterable[CaseEvent], alerts_now: int) -> list[Change]:
    """The events (newest first) as changes of fields: from the oldest value to the newest, one line for each field."""
    changes: dict[str, Change] = {}
    joined = 0
    for event in events:
        field = FIELDS.get(event.kind) or ("Status" if event.after in Status else _spoken(event.kind))
        yours, theirs = _value(event.before), _value(event.after)
        if event.kind == "alert_added":
            joined += len(event.data.get("alerts", [])) or 1
            yours, theirs = str(alerts_now - joined), str(alerts_now)
        if field in changes:
            changes[field].yours = yours
        else:
            changes[field] = Change(field, yours, theirs, _spoken(event.kind), name_of(event.actor), event.at)
    return list(changes.values())


def _spoken(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def _value(stored: str) -> str:
    for names in (Status, Disposition):
        if stored in names:
            return str(names(stored).label)
    return stored


def for_page(change: Change) -> dict[str, Any]:
    """A change for the page's script."""
    return {"field": change.field, "yours": change.yours, "theirs": change.theirs, "act": change.act, "by": change.by}
