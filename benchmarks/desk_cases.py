"""From alerts to a desk's past in a few statements: cases, histories, labels, resolutions, notes; open and closed.

The alerts are grouped and everything that differs is drawn as columns (`Plan`), which go into two temporary tables by
COPY; the rows themselves are then made by INSERT … SELECT, with indexes and foreign keys out of the way, in one commit.
The same alerts and seed give the same past.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.kit import say

JOINED = 0.15  # share of a customer's further alerts that join the case of the one before
INCIDENT = (250, 0.6, 1_500)  # alerts of an incident: median, spread (log), most
EACH_INCIDENT = {"open": 250, "closed": 2_500}  # so many cases for one incident
MOVED = 0.3  # share of the customers whose cases lie in the queue of payments
# Minutes: median and spread (log) of waiting for somebody, and of the work.
WAITING, WORKING = (25.0, 1.3), (6.0, 0.8)
OPEN_STATUS = {"new": 0.74, "in_review": 0.04, "waiting": 0.10, "escalated": 0.08, "pending_approval": 0.04}
# disposition: share, close reason, fraud type, what was found
FOUND = {
    "confirmed_fraud": (0.12, "FR-05", "card_not_present", "The customer did not make this payment; card blocked."),
    "suspected_fraud": (0.04, "FR-07", "counterfeit", "Matches the pattern of the week; the customer was not reached."),
    "legitimate": (0.62, "LG-01", "", "Reached by phone; the customer made the payment."),
    "legitimate_useful": (0.12, "LG-03", "", "Travelling, as the customer says; right to ask."),
    "inconclusive": (0.08, "IN-01", "", "Not reached in three days."),
    "duplicate": (0.02, "DU-01", "", "Worked in another case of the same customer."),
}
TAGGED, TAGS = 0.05, ("mule", "chargeback", "call back", "card testing")
NOTED = {"open": 0.2, "closed": 0.03}
TABLES = ("case", "case_alert", "case_card", "case_event", "note")

ALERT = np.dtype([
    ("id", "i8"), ("customer", "i8"), ("merchant", "i8"), ("amount_base", "i8"), ("raised_at", "i8"),
    ("score", "i2"), ("severity", "i2"),
])  # fmt: skip
UNWORKED = """
SELECT id, customer, merchant, amount_base, raised_at, score, severity FROM alert a
 WHERE lane = %s AND NOT EXISTS (SELECT FROM case_alert c WHERE c.alert_id = a.id) ORDER BY id"""


@dataclass
class Desk:
    """Where the cases belong: the lane's queues by slug, and who works in them."""

    lane: int
    queues: dict[str, Any]
    people: list[int]

    @classmethod
    def of(cls, lane: Any) -> Desk:
        """The lane's own. Needs Django."""
        from cases.models import Queue

        queues = {queue.slug.removesuffix(f"-{lane.name}"): queue for queue in Queue.objects.filter(lane=lane)}
        people = queues["cards"].members.order_by("pk")
        return cls(lane.pk, queues, [user.pk for user in people if user.has_perm("cases.close_case")])


# --- grouping ---------------------------------------------------------------------------------------------------------


def chance(keys: np.ndarray, salt: int) -> np.ndarray:
    """A number in [0, 1) for each key: always the same one for the same key and salt."""
    x = keys.astype("u8") * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt * 0xD1B54A32D192ED03 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def grouped(alerts: np.ndarray, wanted: int, incidents: int, rng: np.random.Generator) -> np.ndarray:
    """The group of each alert, from 0: first the incidents of the busiest merchants, then cases of one customer each.

    As many as `wanted` in all if the alerts suffice for it; more where customers have too few of them to be joined.
    """
    group = np.full(len(alerts), -1)
    _take_incidents(alerts, group, incidents, rng)
    incidents = int(group.max(initial=-1)) + 1
    rest = np.flatnonzero(group < 0)
    rest = rest[np.lexsort([alerts["id"][rest], alerts["customer"][rest]])]
    customer = alerts["customer"][rest]
    begins = np.ones(len(rest), bool)
    begins[1:] = customer[1:] != customer[:-1]
    may_join = ~begins
    begins[may_join] = rng.random(int(may_join.sum())) >= JOINED
    spare = max(0, int(begins.sum()) - (wanted - incidents))
    joinable = np.flatnonzero(begins & may_join)
    begins[rng.permutation(joinable)[:spare]] = False
    group[rest] = incidents + np.cumsum(begins) - 1
    return group


def _take_incidents(alerts: np.ndarray, group: np.ndarray, incidents: int, rng: np.random.Generator) -> None:
    """The newest alerts of each of the merchants with most of them."""
    order = np.argsort(alerts["merchant"], kind="stable")  # within a merchant by id
    _, starts, counts = np.unique(alerts["merchant"][order], return_index=True, return_counts=True)
    median, spread, most = INCIDENT
    sizes = np.clip(rng.lognormal(np.log(median), spread, incidents), 2, most).astype(int)
    for number, place in enumerate(np.argsort(-counts, kind="stable")[:incidents]):
        end = starts[place] + counts[place]
        group[order[max(starts[place], end - sizes[number]) : end]] = number


def incidents_of(open_cases: int, closed_cases: int, merchants: int) -> tuple[int, int]:
    """How many of the open and of the closed cases are incidents."""
    most = merchants // 4
    return min(open_cases // EACH_INCIDENT["open"], most), min(closed_cases // EACH_INCIDENT["closed"], most)


def alerts_needed(cases: int, customers: int, incidents: int) -> int:
    """How many alerts give so many cases, with some to spare: the more alerts a customer has, the more of them join."""
    spare = 1.03 + 3 / max(1, cases) ** 0.5
    alerts = cases
    for _ in range(50):
        distinct = customers * (1 - np.exp(-alerts / customers))
        alerts = int(spare * cases + JOINED * max(0.0, alerts - distinct))
    return alerts + incidents * INCIDENT[0] * 6 // 5


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """One row for each case as columns, in order of opening; and the case of each alert."""

    cases: dict[str, np.ndarray]
    alerts: np.ndarray
    of_alert: np.ndarray

    def __len__(self) -> int:
        return len(self.cases["id"])


def plan(alerts: np.ndarray, desk: Desk, *, open_cases: int, closed_cases: int, first_id: int, now: int, seed: int = 1
         ) -> Plan:  # fmt: skip
    """What becomes of the alerts: times in micro-seconds since 2000, 0 for none."""
    rng = np.random.default_rng([seed, len(alerts)])
    incidents = incidents_of(open_cases, closed_cases, len(np.unique(alerts["merchant"])))
    group = grouped(alerts, open_cases + closed_cases, sum(incidents), rng)
    order = np.lexsort([alerts["id"], alerts["amount_base"], alerts["score"], group])
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    worst = order[np.append(starts[1:], len(order)) - 1]
    raised = alerts["raised_at"][order]
    first, last = np.minimum.reduceat(raised, starts), np.maximum.reduceat(raised, starts)
    is_incident = np.arange(len(starts)) < sum(incidents)
    is_open = _open(alerts["customer"][worst], last, is_incident, incidents[0], open_cases, rng)
    columns = {
        "worst": alerts["id"][worst], "customer": alerts["customer"][worst], "merchant": alerts["merchant"][worst],
        "alert_count": np.diff(np.append(starts, len(order))).astype("i4"),
        "amount_base": np.add.reduceat(alerts["amount_base"][order], starts),
        "severity": np.minimum.reduceat(alerts["severity"][order], starts),
        "opened_at": first + 200_000, "last_alert_at": last, "is_open": is_open, "is_incident": is_incident,
    }  # fmt: skip
    columns |= _worked(columns, desk, now, rng)
    by_opening = np.argsort(columns["opened_at"], kind="stable")
    rank = np.empty(len(starts), "i8")
    rank[by_opening] = first_id + np.arange(len(starts))
    cases = {name: values[by_opening] for name, values in columns.items()} | {"id": np.sort(rank)}
    return Plan(cases, alerts["id"], rank[group])


def _open(
    customer: np.ndarray, last: np.ndarray, is_incident: np.ndarray, incidents: int, wanted: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Which cases are still open: some incidents, and of the customers' newest cases some of the newest."""
    is_open = np.zeros(len(customer), bool)
    is_open[:incidents] = True
    by_customer = np.lexsort([last, customer])
    newest = by_customer[np.append(customer[by_customer][1:] != customer[by_customer][:-1], True)]
    newest = newest[~is_incident[newest]]
    newest = newest[np.argsort(-last[newest], kind="stable")][: 3 * wanted]
    is_open[rng.permutation(newest)[: wanted - incidents]] = True
    return is_open


def _worked(cases: dict[str, np.ndarray], desk: Desk, now: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Queue, status, people and times of the cases."""
    from transactions.facts import DAY, HOUR, MINUTE, SECOND

    n, is_open, opened = len(cases["worst"]), cases["is_open"], cases["opened_at"]
    status = np.where(is_open, 1 + rng.choice(len(OPEN_STATUS), n, p=list(OPEN_STATUS.values())), 0).astype("i2")
    queue = _queue(cases, desk, status)
    level = _priority(cases)
    due = opened + _sla(desk)[queue, level] * MINUTE
    waits, works = (rng.lognormal(np.log(middle), spread, n) * MINUTE for middle, spread in (WAITING, WORKING))
    claimed = np.minimum(cases["last_alert_at"] + waits, now - rng.uniform(1, 30, n) * MINUTE).astype("i8")
    claimed = np.maximum(claimed, cases["last_alert_at"] + SECOND)
    closed = np.maximum(np.minimum(claimed + works.astype("i8"), now - SECOND), claimed)
    is_taken = status != 1  # everything but new cases was in somebody's hands once
    is_late = np.where(is_open, due < now, due < closed)
    person = np.array(desk.people, "i4")[rng.integers(0, len(desk.people), n)]
    in_hand = status == 2
    return {
        "queue": np.array([desk.queues[slug].pk for slug in QUEUES], "i4")[queue],
        "grouping_key": np.where(cases["is_incident"], cases["merchant"], cases["customer"]),
        "status": status, "priority": level.astype("i2"), "due_at": due,
        "breached_at": np.where(is_late, np.minimum(due, now), 0),
        "claimed_at": np.where(is_taken, claimed, 0),
        "closed_at": np.where(is_open, 0, closed), "moved_at": np.where(is_open & (status > 2), closed, 0),
        "lease_until": np.where(in_hand, now + 12 * HOUR, 0),
        "wake_at": np.where(status == 3, now + rng.integers(2 * HOUR, 3 * DAY, n), 0),
        "person": person, "found": _found(n, rng), "tag": _tag(n, rng),
        "noted": rng.random(n) < np.where(is_open, NOTED["open"], NOTED["closed"]),
    }  # fmt: skip


QUEUES = ("cards", "payments", "escalations", "incidents")


def _queue(cases: dict[str, np.ndarray], desk: Desk, status: np.ndarray) -> np.ndarray:
    queue = np.where(chance(cases["customer"], 3) < MOVED, 1, 0)
    queue = np.where(cases["is_incident"], 3, queue)
    return np.where(cases["is_open"] & (status == 4), 2, queue)


def _priority(cases: dict[str, np.ndarray]) -> np.ndarray:
    """As `cases.workflow.priority` says, for money with two decimals."""
    total = cases["amount_base"] / 100
    by_amount = np.where(total >= 5000, 1, np.where(total < 50, -1, 0))
    return np.clip(cases["severity"] - by_amount - cases["is_incident"], 1, 4)


def _sla(desk: Desk) -> np.ndarray:
    """Minutes to due by queue and priority."""
    return np.array([[desk.queues[slug].sla.get(str(level), 1440) for level in range(5)] for slug in QUEUES], "i8")


def _found(n: int, rng: np.random.Generator) -> np.ndarray:
    shares = np.array([row[0] for row in FOUND.values()])
    return (1 + rng.choice(len(FOUND), n, p=shares / shares.sum())).astype("i2")


def _tag(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(n) < TAGGED, rng.integers(1, len(TAGS) + 1, n), 0).astype("i2")


# --- the rows ---------------------------------------------------------------------------------------------------------

TIMES = ("opened_at", "last_alert_at", "due_at", "breached_at", "claimed_at", "closed_at", "moved_at", "lease_until",
         "wake_at")  # fmt: skip
PLANNED = """
CREATE TEMPORARY TABLE new_case (
    id bigint, worst bigint, grouping_key bigint, amount_base bigint, alert_count int, queue int, person int,
    status smallint, priority smallint, found smallint, tag smallint, noted boolean, opened_at timestamptz,
    last_alert_at timestamptz, due_at timestamptz, breached_at timestamptz, claimed_at timestamptz,
    closed_at timestamptz, moved_at timestamptz, lease_until timestamptz, wake_at timestamptz) ON COMMIT DROP;
CREATE TEMPORARY TABLE new_place (alert_id bigint, case_id bigint) ON COMMIT DROP"""
_AT = {name: f"nullif(n.{name}, '2000-01-01Z')" for name in TIMES}
_CLOSED = "n.status = 0"
_LATE = "n.status <> 0 AND n.breached_at > '2000-01-01Z'"
_LINES = "1 + (n.status <> 1)::int + (n.moved_at > '2000-01-01Z' OR n.status = 0)::int"
CASES = f"""
INSERT INTO "case" (id, lane_id, queue_id, grouping_key, customer, customer_ref, status, disposition, fraud_type,
    close_reason_id, rationale, priority, score, top_reason, amount, currency, amount_base, alert_count, channel,
    country, opened_at, last_alert_at, due_at, breached_at, assignee_id, claimed_at, lease_until, wake_at, wake_on,
    tags, closed_at, closed_by_id, closed_in_bulk, version)
SELECT n.id, a.lane, n.queue, n.grouping_key, a.customer, a.customer_ref, (%(statuses)s::text[])[n.status + 1],
       CASE WHEN {_CLOSED} THEN (%(dispositions)s::text[])[n.found] ELSE '' END,
       CASE WHEN {_CLOSED} THEN (%(fraud_types)s::smallint[])[n.found] ELSE 0 END,
       CASE WHEN {_CLOSED} THEN (%(reasons)s::text[])[n.found] END,
       CASE WHEN {_CLOSED} THEN (%(rationales)s::text[])[n.found] ELSE '' END,
       n.priority, a.score, a.top_reason, a.amount, a.currency, n.amount_base, n.alert_count, a.channel, a.country,
       n.opened_at, n.last_alert_at, n.due_at, {_AT["breached_at"]},
       CASE WHEN n.status IN (0, 2, 3, 5) THEN n.person END,
       CASE WHEN n.status IN (0, 2) THEN {_AT["claimed_at"]} END, {_AT["lease_until"]}, {_AT["wake_at"]},
       CASE n.status WHEN 3 THEN 'customer' ELSE '' END,
       CASE n.tag WHEN 0 THEN '{{}}' ELSE ARRAY[(%(tags)s::text[])[n.tag]] END, {_AT["closed_at"]},
       CASE WHEN {_CLOSED} THEN n.person END, false, {_LINES} + ({_LATE})::int
  FROM new_case n JOIN alert a ON a.id = n.worst ORDER BY n.id"""
PLACES = "INSERT INTO case_alert (alert_id, case_id, added_at, verdict) SELECT p.alert_id, p.case_id, n.opened_at, ''" \
         " FROM new_place p JOIN new_case n ON n.id = p.case_id ORDER BY p.alert_id"  # fmt: skip
EVENTS = f"""
INSERT INTO case_event (case_id, kind, at, actor_id, before, after, note, data)
SELECT n.id, e.kind, e.at, e.actor, e.before, e.after, e.note, e.data || jsonb_build_object('version', e.place)
  FROM new_case n
  JOIN (SELECT case_id, jsonb_agg(alert_id) AS alerts FROM new_place GROUP BY 1) p ON p.case_id = n.id
 CROSS JOIN LATERAL (VALUES
    (1, 'opened', n.opened_at, NULL, '', 'new', '', jsonb_build_object('alerts', p.alerts, 'priority', n.priority)),
    (2, 'claimed', {_AT["claimed_at"]}, n.person, 'new', 'in_review', '', '{{"lease_minutes": 15}}'),
    (3, (%(statuses)s::text[])[n.status + 1], {_AT["moved_at"]}, n.person, 'in_review',
        (%(statuses)s::text[])[n.status + 1], 'Asked for more.', '{{}}'),
    (3, 'closed', {_AT["closed_at"]}, n.person, 'in_review', 'closed', (%(rationales)s::text[])[n.found],
        jsonb_build_object('disposition', (%(dispositions)s::text[])[n.found])),
    ({_LINES} + 1, 'overdue', CASE WHEN {_LATE} THEN n.breached_at END, NULL, '', '', '', '{{}}')
  ) AS e (place, kind, at, actor, before, after, note, data)
 WHERE e.at IS NOT NULL ORDER BY n.id, e.place"""
NOTES = """
INSERT INTO note (case_id, entity_kind, entity_key, author_id, at, text)
SELECT id, '', 0, person, opened_at + interval '7 minutes', 'Called the number on file; waits for the customer.'
  FROM new_case WHERE noted ORDER BY id"""
APPROVALS = """
INSERT INTO case_approval (kind, queue_id, case_id, request, causes, maker_id, made_at, expires_at, answer, reason)
SELECT 'close', queue, id, jsonb_build_object('disposition', 'legitimate', 'fraud_type', '', 'close_reason', 'LG-01',
       'rationale', 'Reached by phone; the customer made the payment.', 'exceptions', '{}'::jsonb,
       'listings', '[]'::jsonb), '{amount}', person, moved_at, now() + interval '72 hours', '', ''
  FROM new_case WHERE status = 5 ORDER BY id"""
LABELS = """
INSERT INTO label (id, lane, transaction_id, verdict, source, fraud_type, happened_at, known_at, recorded_at, author,
                   reason)
SELECT nextval('label_id_seq'), %(lane)s, l.alert_id, l.verdict, 3, CASE l.verdict WHEN 2 THEN l.fraud_type ELSE 0 END,
       l.closed_at, l.closed_at, l.closed_at, u.username, 'C-' || l.id || ': ' || l.disposition
  FROM (SELECT p.alert_id, n.id, n.closed_at, n.person, (%(dispositions)s::text[])[n.found] AS disposition,
               (%(fraud_types)s::smallint[])[n.found] AS fraud_type, (%(verdicts)s::smallint[])[n.found] AS verdict
          FROM new_place p JOIN new_case n ON n.id = p.case_id
         WHERE n.status = 0 AND (%(verdicts)s::smallint[])[n.found] > 0 ORDER BY n.closed_at, p.alert_id) l
  JOIN fraudsite_user u ON u.id = l.person"""
RESOLUTIONS = """
INSERT INTO hold_resolution (transaction_id, lane, resolution, source, by, resolved_at, final_at)
SELECT r.id, r.lane, CASE WHEN by_person THEN r.word ELSE 'released' END,
       CASE WHEN by_person THEN 'case' ELSE 'default' END, CASE WHEN by_person THEN u.username ELSE '' END, r.at, r.at
  FROM (SELECT a.id, a.lane, n.person, (%(resolutions)s::text[])[n.found] AS word,
               n.status = 0 AND n.closed_at <= a.hold_until AND (%(resolutions)s::text[])[n.found] <> '' AS by_person,
               CASE n.status WHEN 0 THEN least(n.closed_at, a.hold_until) ELSE a.hold_until END AS at
          FROM new_place p JOIN new_case n ON n.id = p.case_id JOIN alert a ON a.id = p.alert_id
         WHERE a.hold_until IS NOT NULL AND (n.status = 0 OR a.hold_until < now())) r
  JOIN fraudsite_user u ON u.id = r.person ORDER BY r.id"""


MADE = {
    "cases": CASES, "alerts in them": PLACES, "lines of history": EVENTS, "notes": NOTES,
    "requests for a second person": APPROVALS, "labels": LABELS, "ends of holds": RESOLUTIONS,
}  # fmt: skip
ONLY_PLANNED = {"customer", "merchant", "severity", "is_open", "is_incident"}


def store(cursor: Any, made: Plan, desk: Desk, cards: np.ndarray) -> None:
    """All rows of the plan, in the caller's transaction; `cards`: the last four digits of each alert's card, (n, 4)."""
    from transactions import binary

    cursor.execute(PLANNED)
    columns = {name: ("timestamptz" if name in TIMES else binary.OF_WIDTH[values.dtype.str[1:]], values)
               for name, values in made.cases.items() if name not in ONLY_PLANNED}  # fmt: skip
    binary.store(cursor, "new_case", columns)
    binary.store(cursor, "new_place", {"alert_id": ("int8", made.alerts), "case_id": ("int8", made.of_alert)})
    cursor.execute("ANALYZE new_case; ANALYZE new_place; SELECT pg_current_xact_id()")
    with without_indexes(cursor):
        words = _words(desk)
        for name, statement in MADE.items():
            cursor.execute(statement, words)
            say(f"  {cursor.rowcount:,} {name}")
        binary.store(cursor, "case_card", {"row_id": ("int8", made.alerts), "last4": ("bytea", cards)})
    cursor.execute("""SELECT setval(pg_get_serial_sequence('"case"', 'id'), (SELECT max(id) FROM "case"))""")


def _words(desk: Desk) -> dict[str, Any]:
    """What the plan's numbers stand for."""
    from cases.workflow import LABEL, RESOLUTION
    from transactions.codes import FRAUD_TYPE, VERDICT

    return {
        "lane": desk.lane,
        "statuses": ["closed", *OPEN_STATUS],
        "dispositions": list(FOUND),
        "reasons": [row[1] for row in FOUND.values()],
        "fraud_types": [FRAUD_TYPE.code(row[2]) for row in FOUND.values()],
        "rationales": [row[3] for row in FOUND.values()],
        "verdicts": [VERDICT.code(LABEL[name]) if name in LABEL else 0 for name in FOUND],
        "resolutions": [RESOLUTION.get(name, "") for name in FOUND],
        "tags": list(TAGS),
    }


INDEXES = """
SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = ANY(%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)"""


@contextmanager
def without_indexes(cursor: Any) -> Iterator[None]:
    """Indexes of the tables that grow are dropped and made again at the end; foreign keys are not checked row by row.

    Only for a superuser, inside a transaction: whatever fails, everything stands as before.
    """
    cursor.execute(INDEXES, [[f'"{name}"' for name in TABLES]])
    indexes = cursor.fetchall()
    cursor.execute("SET LOCAL session_replication_role = replica; SET LOCAL maintenance_work_mem = '512MB'")
    cursor.execute("SET LOCAL work_mem = '256MB'")
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute("SET LOCAL session_replication_role = origin")
