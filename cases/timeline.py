"""A case's timeline: payments with decisions, labels, other cases, notes, list changes and its own events, in one list.

One statement over tables that are each read by an index on the customer; newest first, older ones by cursor. A case
that gathers a merchant's or a device's alerts has many customers: its payments are those of its own alerts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from alerts.live import amount_text
from cases import cursors
from cases.factsheet import decoded
from cases.markup import plain
from cases.models import Case, Queue
from scoring.entries import NAMES
from transactions.codes import CHANNEL, CURRENCY, FRAUD_TYPE, LABEL_SOURCE, OUTCOME, TYPE, VERDICT
from transactions.masks import masked

PAGE = 30
NEWEST = 5000  # payments of a customer among which the timeline looks, so that a huge one stays fast

# What the reader may ask for alone, and the branches that answer.
KINDS = {
    "payments": ("payment",),
    "alerts": ("payment",),
    "labels": ("label",),
    "cases": ("case",),
    "case": ("event",),
    "notes": ("note", "remark"),
    "lists": ("list",),
}
SHOWS = {
    "": "All",
    "payments": "Payments",
    "alerts": "Alerts",
    "labels": "Labels",
    "cases": "Other cases",
    "case": "This case",
    "notes": "Notes",
    "lists": "Lists",
}

RECENT = """
recent AS MATERIALIZED (
  SELECT id, occurred_at, amount, currency, channel, type FROM transaction
   WHERE customer = %(customer)s AND lane = %(lane)s ORDER BY id DESC LIMIT %(newest)s)"""
OWN = """
recent AS MATERIALIZED (
  SELECT p.id, p.occurred_at, p.amount, p.currency, p.channel, p.type
    FROM case_alert c JOIN transaction p ON p.id = c.alert_id
   WHERE c.case_id = %(case)s ORDER BY p.id DESC LIMIT %(newest)s)"""
ENTITIES = """
named AS MATERIALIZED (
  SELECT DISTINCT unnest(ARRAY[p.customer, p.account, p.card, p.device, p.merchant, p.counterparty]) AS key
    FROM (SELECT alert_id FROM case_alert WHERE case_id = %(case)s ORDER BY alert_id DESC LIMIT 20) c
    JOIN transaction p ON p.id = c.alert_id)"""

BRANCHES = {
    "payment": """
  SELECT p.occurred_at AS at, 'payment' AS kind, p.id AS ref, jsonb_build_object(
      'amount', p.amount, 'currency', p.currency, 'channel', p.channel, 'type', p.type, 'outcome', d.outcome,
      'score', d.score, 'resolution', h.resolution, 'by', h.source, 'held', a.hold_until, 'case', c.case_id,
      'merchant', x.document::jsonb #>> '{merchant,name}', 'payee', x.document::jsonb #>> '{counterparty,id}') AS data
    FROM (SELECT * FROM recent WHERE (occurred_at, 'payment', id) < (%(at)s, %(kind)s, %(ref)s) {alerted}
           ORDER BY occurred_at DESC, id DESC LIMIT %(limit)s) p
    LEFT JOIN LATERAL (SELECT l.outcome, l.score FROM decision l WHERE l.id BETWEEN p.id * 64 + 1 AND p.id * 64 + 63
                        ORDER BY l.id DESC LIMIT 1) d ON true
    LEFT JOIN transaction_detail x ON x.id = p.id
    LEFT JOIN alert a ON a.id = p.id
    LEFT JOIN case_alert c ON c.alert_id = p.id
    LEFT JOIN hold_resolution h ON h.transaction_id = p.id""",
    "label": """
  SELECT l.recorded_at, 'label', l.id, jsonb_build_object('verdict', l.verdict, 'source', l.source,
      'fraud_type', l.fraud_type, 'author', l.author, 'of', p.occurred_at, 'amount', p.amount, 'currency', p.currency)
    FROM recent p JOIN label l ON l.transaction_id = p.id
   WHERE (l.recorded_at, 'label', l.id) < (%(at)s, %(kind)s, %(ref)s)""",
    "event": """
  SELECT e.at, 'event', e.id, jsonb_build_object('event', e.kind, 'before', e.before, 'after', e.after, 'note', e.note,
      'name', coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.username), 'data', e.data)
    FROM case_event e LEFT JOIN {users} u ON u.id = e.actor_id
   WHERE e.case_id = %(case)s AND (e.at, 'event', e.id) < (%(at)s, %(kind)s, %(ref)s)""",
    "case": """
  SELECT coalesce(o.closed_at, o.opened_at), 'case', o.id, jsonb_build_object('disposition', o.disposition,
      'alerts', o.alert_count, 'reason', o.top_reason, 'member', o.queue_id = ANY(%(queues)s))
    FROM "case" o WHERE o.customer = %(customer)s AND o.lane_id = %(lane)s AND o.id <> %(case)s
     AND (coalesce(o.closed_at, o.opened_at), 'case', o.id) < (%(at)s, %(kind)s, %(ref)s)""",
    "note": """
  SELECT n.at, 'note', n.id, jsonb_build_object('text', left(n.text, 400), 'case', n.case_id,
      'name', coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.username))
    FROM note n JOIN "case" o ON o.id = n.case_id JOIN {users} u ON u.id = n.author_id
   WHERE o.customer = %(customer)s AND o.lane_id = %(lane)s AND o.queue_id = ANY(%(queues)s)
     AND (n.at, 'note', n.id) < (%(at)s, %(kind)s, %(ref)s)""",
    "remark": """
  SELECT n.at, 'note', n.id, jsonb_build_object('text', left(n.text, 400), 'case', 0,
      'name', coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.username))
    FROM note n JOIN {users} u ON u.id = n.author_id
   WHERE n.entity_kind = 'customer' AND n.entity_key = %(customer)s AND n.case_id IS NULL
     AND (n.at, 'note', n.id) < (%(at)s, %(kind)s, %(ref)s)""",
    "list": """
  SELECT c.at, 'list', c.ref, c.data FROM (
      SELECT e.added_at AS at, e.id * 2 AS ref, jsonb_build_object('list', l.name, 'of', l.kind, 'subject', l.subject,
          'by', e.author, 'reason', e.reason, 'until', e.expires_at, 'gone', false) AS data
        FROM scoring_list l JOIN scoring_listentry e ON e.list_id = l.id AND e.key IN (SELECT key FROM named)
       WHERE l.lane_id = %(lane)s AND e.key <> 0
      UNION ALL
      SELECT r.removed_at, e.id * 2 + 1, jsonb_build_object('list', l.name, 'of', l.kind, 'subject', l.subject,
          'by', r.removed_by, 'reason', r.reason, 'until', NULL, 'gone', true)
        FROM scoring_list l JOIN scoring_listentry e ON e.list_id = l.id AND e.key IN (SELECT key FROM named)
        JOIN scoring_listremoval r ON r.entry_id = e.id
       WHERE l.lane_id = %(lane)s AND e.key <> 0) c
   WHERE (c.at, 'list', c.ref) < (%(at)s, %(kind)s, %(ref)s)""",
}
# The same for a case of many customers: only what was written of this case.
BRANCHES_OF_MANY = BRANCHES | {
    "note": BRANCHES["note"].replace(
        "o.customer = %(customer)s AND o.lane_id = %(lane)s AND o.queue_id = ANY(%(queues)s)", "n.case_id = %(case)s"
    ),
}
del BRANCHES_OF_MANY["case"], BRANCHES_OF_MANY["remark"]
NOTHING = "SELECT now(), ''::text, 0::bigint, NULL::jsonb WHERE false"

TOLD = {
    "opened": ("inbox", "Case opened"),
    "claimed": ("user-round", "{name} claimed the case"),
    "taken_over": ("hand", "{name} took the case over from {before}"),
    "released": ("undo-2", "{name} gave the case back"),
    "lease_expired": ("clock", "The lease of {assignee} expired"),
    "alert_added": ("triangle-alert", "{alerts} joined the case"),
    "priority_raised": ("arrow-up", "Priority raised from {before} to {after}"),
    "priority_set": ("flag", "{name} set the priority from {before} to {after}"),
    "waiting": ("alarm-clock", "{name} let the case wait"),
    "woken": ("alarm-clock", "The case woke"),
    "escalated": ("arrow-up", "{name} escalated the case"),
    "pending_approval": ("shield-check", "{name} asked for a second approval"),
    "overdue": ("circle-alert", "The case was not done in time"),
    "closed": ("st-closed", "{name} closed the case"),
    "reopened": ("undo-2", "{name} opened the case again"),
    "close_undone": ("undo-2", "{name} took the close back"),
    "reopen_asked": ("shield-check", "{name} asked a second person to open the case again"),
    "approved": ("circle-check", "{name} approved it as the second person"),
    "rejected": ("circle-x", "{name} rejected it as the second person"),
    "approval_withdrawn": ("undo-2", "{name} withdrew the request for a second approval"),
    "approval_expired": ("clock", "Nobody answered the request for a second approval"),
    "handed_over": ("users", "{from} handed the case over to {to}"),
    "moved": ("arrow-right", "{name} moved the case from {from} to {to}"),
    "verdicts_set": ("list-checks", "{name} set single payments otherwise"),
    "checked": ("check", "{name} ticked a step"),
    "unchecked": ("undo-2", "{name} took a tick off"),
    "listed": ("list", "{name} put it on a list"),
    "payments_released": ("check", "{name} released {payments}"),
    "payments_blocked": ("ban", "{name} blocked {payments}"),
    "payments_held": ("clock", "{name} held {payments} longer"),
    "file_added": ("paperclip", "{name} attached {file}"),
    "file_removed": ("paperclip", "{name} removed {file}"),
    "late_label": ("tag", "A later label says otherwise: {after}"),
    "assigned": ("user-round", "The case was given to {after}"),
    "unassigned": ("user-round", "{name} took the case from {before}"),
    "reviewed": ("scale", "{name} looked at the close again: {after}"),
    "tagged": ("tag", "{name} changed the tags"),
    "left_closed": ("st-closed", "{name} left the case closed"),
}


@dataclass(frozen=True)
class Entry:
    """One line of the timeline, ready to be shown."""

    at: datetime
    kind: str
    ref: int
    icon: str
    title: str
    hint: str = ""
    amount: str = ""
    outcome: str = ""
    disposition: str = ""
    case_id: int = 0
    is_alert: bool = False
    new_day: bool = False

    @property
    def utc(self) -> str:
        """The same moment in UTC."""
        return self.at.astimezone(UTC).strftime("%H:%M:%S UTC")


def timeline(case: Case, *, queues: list[int], show: str = "", before: str = "") -> tuple[list[Entry], str]:
    """A page of the timeline of the case's customer, newest first, and the cursor of the next ("" at the end).

    `queues`: those whose cases and notes the person may read; `show`: one of KINDS or everything.
    """
    at, kind, ref = cursors.place_of(before)
    values = {"customer": case.customer, "lane": case.lane_id, "case": case.pk, "queues": queues, "newest": NEWEST}
    of_one = case.queue.grouping == Queue.Grouping.CUSTOMER
    with connection.cursor() as cursor:
        cursor.execute(_statement(show, of_one), values | {"at": at, "kind": kind, "ref": ref, "limit": PAGE + 1})
        rows = cursor.fetchall()
    more = cursors.text_of(rows[PAGE - 1][:3]) if len(rows) > PAGE else ""
    return _entries(rows[:PAGE]), more


def _statement(show: str, of_one: bool) -> str:
    """The statement that reads what is asked for; `of_one`: the case is about one customer."""
    given = BRANCHES if of_one else BRANCHES_OF_MANY
    kinds = [kind for kind in KINDS.get(show) or given if kind in given]
    alerted = "AND EXISTS (SELECT FROM alert f WHERE f.id = recent.id)" if show == "alerts" else ""
    users = get_user_model()._meta.db_table
    branches = [given[kind].replace("{users}", users).replace("{alerted}", alerted) for kind in kinds]
    ordered = [f"({branch} ORDER BY 1 DESC, 3 DESC LIMIT %(limit)s)" for branch in branches] or [NOTHING]
    before = [RECENT if of_one else OWN] * bool({"payment", "label"} & set(kinds)) + [ENTITIES] * ("list" in kinds)
    head = f"WITH {', '.join(before)}" if before else ""
    newest = "ORDER BY at DESC, kind DESC, ref DESC LIMIT %(limit)s"
    return f"{head} SELECT * FROM ({' UNION ALL '.join(ordered)}) AS line (at, kind, ref, data) {newest}"


def _entries(rows: list[tuple[datetime, str, int, Any]]) -> list[Entry]:
    entries, day = [], timezone.localdate()
    for at, kind, ref, data in rows:
        there = timezone.localdate(at)
        data = decoded(data)
        entries.append(Entry(at=at, kind=kind, ref=ref, new_day=there != day, **SHOWN[kind](data | {"ref": ref})))
        day = there
    return entries


def _payment(data: dict[str, Any]) -> dict[str, Any]:
    outcome = OUTCOME.text(data["outcome"]) if data["outcome"] else ""
    currency = CURRENCY.text(data["currency"])
    name = TYPE.text(data["type"]).replace("_", " ") or "payment"
    other = data["merchant"] or masked(data["payee"], "payee")
    stopped = outcome in ("challenge", "review", "decline")
    return {
        "icon": "triangle-alert" if stopped else "send" if data["payee"] else "credit-card",
        "title": f"{name.capitalize()}, {other}" if other else name.capitalize(),
        "hint": ", ".join(filter(None, [_channel(data["channel"]), _score(data), _hold(data)])),
        "amount": f"{amount_text(data['amount'], currency)} {currency}",
        "outcome": outcome if outcome != "recorded" else "",
        "case_id": data["case"] or 0,
        "is_alert": stopped,
    }


def _channel(code: int) -> str:
    return CHANNEL.text(code).replace("_", " ")


def _score(data: dict[str, Any]) -> str:
    if data["outcome"] is None:
        return "not decided yet"
    return f"score {data['score']}" if (data["score"] or -1) >= 0 else "not scored"


def _hold(data: dict[str, Any]) -> str:
    if data["resolution"]:
        return f"{data['resolution']} by {'the policy' if data['by'] == 'default' else data['by']}"
    return "held" if data["held"] else ""


def _label(data: dict[str, Any]) -> dict[str, Any]:
    verdict, source = VERDICT.text(data["verdict"]), LABEL_SOURCE.text(data["source"])
    currency, kind = CURRENCY.text(data["currency"]), FRAUD_TYPE.text(data["fraud_type"]).replace("_", " ")
    return {
        "icon": "tag",
        "title": f"Labelled {verdict}" + (f": {kind}" if kind else ""),
        "hint": f"by {data['author'] or source}, payment of {amount_text(data['amount'], currency)} {currency}",
    }


def _event(data: dict[str, Any]) -> dict[str, Any]:
    glyph, sentence = TOLD.get(data["event"], ("history", data["event"].replace("_", " ").capitalize()))
    told = data["data"] or {}
    alerts = len(told.get("alerts", []))
    words = {
        "name": data["name"] or "The system",
        "before": data["before"],
        "after": data["after"],
        "assignee": told.get("assignee", ""),
        "file": told.get("name", "a file"),
        "from": told.get("from", "somebody"),
        "to": told.get("to", "somebody"),
        "payments": _payments(len(told.get("payments", []))),
        "alerts": "1 alert" if alerts == 1 else f"{alerts} alerts",
    }
    return {
        "icon": glyph,
        "title": sentence.format(**words),
        "hint": data["note"] or (_change(data) if data["event"] not in TOLD else ""),
        "disposition": told.get("disposition", "") if data["event"] == "closed" else "",
        "is_alert": data["event"] == "alert_added",
    }


def _payments(n: int) -> str:
    return "1 payment" if n == 1 else f"{n} payments"


def _change(data: dict[str, Any]) -> str:
    """Both values of a change that has no sentence of its own."""
    return f"{data['before'] or 'nothing'} → {data['after'] or 'nothing'}" if data["before"] or data["after"] else ""


def _list(data: dict[str, Any]) -> dict[str, Any]:
    subject = NAMES.get(data["subject"], data["subject"].capitalize())
    moved = "taken off" if data["gone"] else "put on"
    until = f", until {data['until'][:10]}" if data["until"] else ""
    return {
        "icon": "list-checks",
        "title": f"{subject} {moved} the {data['of']} list “{data['list']}”",
        "hint": f"by {data['by']}: {data['reason']}{until}",
    }


def _case(data: dict[str, Any]) -> dict[str, Any]:
    closed = bool(data["disposition"])
    return {
        "icon": "st-closed" if closed else "inbox",
        "title": "Another case closed" if closed else "Another case is open",
        "hint": data["reason"] if data["member"] else "in a queue that is not yours",
        "disposition": data["disposition"] if closed else "",
        "case_id": data["ref"] if data["member"] else 0,
    }


def _note(data: dict[str, Any]) -> dict[str, Any]:
    return {"icon": "message-square", "title": plain(data["text"]), "hint": data["name"], "case_id": data["case"]}


SHOWN = {"payment": _payment, "label": _label, "event": _event, "case": _case, "note": _note, "list": _list}
