"""From alerts to cases: an alert without a case is the to-do entry, and one open case gathers what belongs together.

A worker does this in a commit of its own, never the lane: it takes the lock of the case it joins, so that no alert
lands on a case that is being closed. Workers go one at a time (an advisory lock), the unique constraint "one open case
per queue and grouping key" guards against everybody else, and a violation means: look again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import IntegrityError, connection
from django.db.models import Exists, OuterRef
from django.db.transaction import atomic

from alerts.models import Alert
from cases import calendar, routing, workflow
from cases.cards import note_cards
from cases.models import Case, CaseAlert, CaseEvent, Queue
from cases.workflow import Status
from transactions import binary, clock
from transactions.codes import EXPONENT
from transactions.facts import micros

OPENERS = 3  # class of the advisory lock that lets one worker open cases at a time
RECENT = timedelta(hours=1)
TRIES = 3
BATCH = 500

# What an alert that joins a case may change of it.
JOINING = (
    "version",
    "status",
    "assignee",
    "wake_at",
    "wake_on",
    "priority",
    "score",
    "top_reason",
    "amount",
    "currency",
    "channel",
    "country",
    "alert_count",
    "amount_base",
    "last_alert_at",
    "due_at",
)

Key = tuple[int, int]  # queue, grouping key
Queues = dict[int, list[Queue]]  # of each lane


def open_cases(limit: int = BATCH, *, since: timedelta | None = RECENT) -> int:
    """Give up to `limit` alerts that have no case their case; how many were. Safe to run twice and at once.

    `since` bounds the search to alerts raised lately, by their index on time; None searches them all (the sweep).
    """
    for _ in range(TRIES - 1):
        try:
            return _open_batch(limit, since)
        except IntegrityError:  # a case of that key was reopened between our look and our insert
            continue
    return _open_batch(limit, since)


@atomic
def _open_batch(limit: int, since: timedelta | None) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [OPENERS])
    queues = _queues()
    alerts = list(_without_case(queues, since)[:limit])
    groups = _grouped(alerts, queues)
    known = _locked_cases(groups)
    cases = {key: known.get(key) or _new_case(key, members, queues) for key, members in groups.items()}
    Case.objects.bulk_create([case for key, case in cases.items() if key not in known])
    lines: list[CaseEvent] = []
    for key, members in groups.items():
        lines += _join(cases[key], members, queues) if key in known else [_opened(cases[key], members)]
    _save_joined([cases[key] for key in groups if key in known])
    _append(groups, cases, lines)
    note_cards(alert.pk for alert in alerts)
    return len(alerts)


def _save_joined(cases: list[Case]) -> None:
    """The cases that alerts joined, in one statement: an hour of a storm is thousands of them."""
    if not cases:
        return
    fields = [Case._meta.get_field(name) for name in ("id", *JOINING)]
    columns = [[field.get_db_prep_save(getattr(c, field.attname), connection) for c in cases] for field in fields]
    arrays = ", ".join(f"%s::{field.db_type(connection)}[]" for field in fields)
    sets = ", ".join(f"{field.column} = new.{field.column}" for field in fields[1:])
    names = ", ".join(field.column for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "case" c SET {sets} FROM unnest({arrays}) AS new ({names}) WHERE c.id = new.id', columns
        )


def _append(groups: dict[Key, list[Alert]], cases: dict[Key, Case], lines: list[CaseEvent]) -> None:
    """The alerts' places in their cases, and the cases' new lines of history. Raises IntegrityError."""
    places = [(alert.pk, cases[key].pk) for key, members in groups.items() for alert in members]
    if not places:
        return
    now = micros(clock.now())
    with connection.wrap_database_errors, connection.cursor() as cursor:
        binary.store(
            cursor,
            "case_alert",
            {
                "alert_id": ("int8", np.array([place[0] for place in places], "i8")),
                "case_id": ("int8", np.array([place[1] for place in places], "i8")),
                "added_at": ("timestamptz", now),
                "verdict": ("text", ""),
            },
        )
        binary.store(
            cursor,
            "case_event",
            {
                "case_id": ("int8", np.array([line.case_id for line in lines], "i8")),
                "at": ("timestamptz", now),
                "kind": ("text", [line.kind for line in lines]),
                "before": ("text", [line.before for line in lines]),
                "after": ("text", [line.after for line in lines]),
                "note": ("text", [line.note for line in lines]),
                "data": ("jsonb", [json.dumps(line.data) for line in lines]),
            },
        )


def _queues() -> Queues:
    found: Queues = {}
    for queue in Queue.objects.select_related("lane").order_by("pk"):
        found.setdefault(queue.lane_id, []).append(queue)
    return found


def _without_case(queues: Queues, since: timedelta | None) -> Any:
    alerts = Alert.objects.filter(~Exists(CaseAlert.objects.filter(pk=OuterRef("pk"))), lane__in=list(queues))
    if since is not None:
        alerts = alerts.filter(raised_at__gte=clock.now() - since)
    return alerts.order_by("pk")


def grouping_key(alert: Alert, queue: Queue) -> int:
    """What the queue groups by, as an entity key; by customer where the payment did not say."""
    return int(getattr(alert, queue.grouping)) or alert.customer


def _grouped(alerts: Iterable[Alert], queues: Queues) -> dict[Key, list[Alert]]:
    groups: dict[Key, list[Alert]] = {}
    tables = routing.tables(queues)
    for alert in alerts:
        queue = tables[alert.lane].queue_of(alert)
        groups.setdefault((queue.pk, grouping_key(alert, queue)), []).append(alert)
    return dict(sorted(groups.items()))


def _locked_cases(groups: dict[Key, list[Alert]]) -> dict[Key, Case]:
    """The open cases of these keys, locked in order of id. One that is being closed drops out after the wait."""
    cases = Case.objects.select_for_update().filter(
        queue_id__in={queue for queue, _ in groups}, grouping_key__in={key for _, key in groups}
    )
    found = {(case.queue_id, case.grouping_key): case for case in cases.exclude(status=Status.CLOSED).order_by("pk")}
    return {key: case for key, case in found.items() if key in groups}


def _queue(key: Key, lane_id: int, queues: Queues) -> Queue:
    return next(queue for queue in queues[lane_id] if queue.pk == key[0])


def _worst(alerts: list[Alert]) -> Alert:
    return max(alerts, key=lambda alert: (alert.score, alert.amount_base, alert.pk))


def _level(alerts: list[Alert], queue: Queue, *, already: int = 0) -> int:
    """The priority of these alerts, by their severity and all the money of the case (`already`: what it had before)."""
    unit = 10 ** EXPONENT[queue.lane.base_currency]
    total = (already + sum(alert.amount_base for alert in alerts)) / unit
    return min(workflow.priority(severity=alert.severity, amount=total, weight=queue.weight) for alert in alerts)


def _hold_end(alerts: list[Alert], now: datetime) -> datetime | None:
    return min((a.hold_until for a in alerts if a.hold_until and a.hold_until > now), default=None)


def _new_case(key: Key, alerts: list[Alert], queues: Queues) -> Case:
    worst, now = _worst(alerts), clock.now()
    queue = _queue(key, worst.lane, queues)
    level = _level(alerts, queue)
    return Case(
        lane_id=worst.lane,
        queue=queue,
        grouping_key=key[1],
        customer=worst.customer,
        customer_ref=worst.customer_ref,
        priority=level,
        opened_at=now,
        last_alert_at=max(alert.raised_at for alert in alerts),
        due_at=workflow.due(now, level, queue.sla, _hold_end(alerts, now), calendar.of(queue)),
        alert_count=len(alerts),
        amount_base=sum(alert.amount_base for alert in alerts),
        **_face(worst),
    )


def _face(worst: Alert) -> dict[str, Any]:
    """What a case shows of its highest alert."""
    names = ("score", "top_reason", "amount", "currency", "channel", "country")
    return {name: getattr(worst, name) for name in names}


def _opened(case: Case, alerts: list[Alert]) -> CaseEvent:
    data = {"version": case.version, "alerts": [alert.pk for alert in alerts], "priority": case.priority}
    return CaseEvent(case=case, kind="opened", after=Status.NEW, data=data)


def _join(case: Case, alerts: list[Alert], queues: Queues) -> list[CaseEvent]:
    """Add alerts to an open case: it may become more urgent, never less; a sleeping one wakes."""
    worst, now = _worst(alerts), clock.now()
    queue = _queue((case.queue_id, case.grouping_key), worst.lane, queues)
    level = min(case.priority, _level(alerts, queue, already=case.amount_base))
    before = {"score": case.score, "amount_base": case.amount_base}
    case.version += 1
    lines = [_line(case, "alert_added", data={"alerts": [alert.pk for alert in alerts], "before": before})]
    if level < case.priority:
        lines.append(_line(case, "priority_raised", before=f"P{case.priority}", after=f"P{level}"))
    if case.status == Status.WAITING:
        lines.append(_line(case, "woken", before=case.status, after=Status.NEW, note="A new alert came."))
        case.status, case.assignee, case.wake_at, case.wake_on = Status.NEW, None, None, ""
    if worst.score > case.score:
        for name, value in _face(worst).items():
            setattr(case, name, value)
    case.priority = level
    case.alert_count += len(alerts)
    case.amount_base += sum(alert.amount_base for alert in alerts)
    case.last_alert_at = max(alert.raised_at for alert in alerts)
    due = workflow.due(now, level, queue.sla, _hold_end(alerts, now), calendar.of(queue))
    case.due_at = min(case.due_at, due)
    return lines


def _line(
    case: Case, kind: str, *, before: str = "", after: str = "", note: str = "", data: dict | None = None
) -> CaseEvent:
    return CaseEvent(
        case=case, kind=kind, before=before, after=after, note=note, data={"version": case.version, **(data or {})}
    )
