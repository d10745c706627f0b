"""The roll-up of case work: how long cases waited and were worked, how they ended, by queue and hour.

A million closed cases are not read for a median. A beat follows the history (`case_event`) and recounts each case it
speaks of: its old times are taken back from `work_tally`, the new ones added, so a reopened case or a late label
changes what was counted at its close. Lengths of time go into steps of 9 per cent, so that p50 and p90 of any range
come from a few hundred numbers, each within 4.5 per cent.

Handling time is the sum of a case's leases, from claim to release, hand-over or close; a lease that lapsed counts up to
the last thing its holder did.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from math import log2

from django.db import connection
from django.db.transaction import atomic

from cases.models import Case
from cases.workflow import LABEL, Status
from fraudsite import tallies
from transactions.alone import alone
from transactions.codes import VERDICT

(
    OPENED,
    CLOSED,
    TOUCH,
    HANDLING,
    DECISION,
    KEPT,
    REOPENED,
    SECONDS,
    HANDLED,
    ALERTS,
    PERSON_SECONDS,
    PERSON_CLOSED,
    PERSON_HANDLED,
    CONTRADICTED,
    CLOSES,
) = range(1, 16)
"""The measures. Their parts: OPENED, TOUCH, DECISION and KEPT the priority, CLOSED, HANDLING and CONTRADICTED the
disposition's place, PERSON_… the person's id. KEPT has bucket 1 for kept, 0 for late."""
STEPS = 8  # of the scale of times, in each doubling
DISPOSITIONS = ["", *Case.Disposition.values]
CASES = 20_000  # recounted at once
EVENTS = "SELECT id, case_id FROM case_event WHERE id > %s ORDER BY id LIMIT %s"
CASES_OF = "SELECT DISTINCT case_id FROM case_alert WHERE alert_id = ANY(%s)"


def _places(words: Iterable[str]) -> str:
    return ", ".join(str(DISPOSITIONS.index(word)) for word in words)


_DISPOSITION = " ".join(f"WHEN '{word}' THEN {place}" for place, word in enumerate(DISPOSITIONS) if word)
_SAID = {**LABEL, "suspected_fraud": "fraud"}
_SAYS = " ".join(f"WHEN '{word}' THEN {VERDICT.code(label)}" for word, label in _SAID.items())
_STATUSES = ", ".join(f"'{word}'" for word in Status.values)
_NO_MOVES = "'tagged', 'assigned'"  # their `after` is a word of people's

RECOUNT = f"""
WITH edges AS (
        SELECT case_id, id, kind, at, actor_id,
               kind = 'taken_over' OR after = '{Status.IN_REVIEW}' AND kind NOT IN ({_NO_MOVES}) AS starts,
               after IN ({_STATUSES}) AND after <> '{Status.IN_REVIEW}' AND kind NOT IN ({_NO_MOVES}) AS ends
          FROM case_event WHERE case_id = ANY(%(ids)s)),
     pieces AS (
        SELECT *, count(*) FILTER (WHERE starts OR ends) OVER (PARTITION BY case_id ORDER BY id) AS piece FROM edges),
     spans AS (
        SELECT case_id, piece, bool_or(starts) AS starts, (array_agg(actor_id ORDER BY id))[1] AS actor,
               (array_agg(kind ORDER BY id))[1] AS kind, min(at) AS began,
               max(at) FILTER (WHERE actor_id IS NOT NULL) AS last_act
          FROM pieces GROUP BY 1, 2),
     leases AS (
        SELECT *, lead(began) OVER w AS ended, lead(kind) OVER w AS ended_by
          FROM spans WINDOW w AS (PARTITION BY case_id ORDER BY piece)),
     hands AS (
        SELECT case_id, actor, sum(greatest(extract(epoch FROM
               CASE ended_by WHEN 'lease_expired' THEN coalesce(last_act, began) ELSE ended END - began), 0)) AS seconds
          FROM leases WHERE starts AND actor IS NOT NULL AND ended IS NOT NULL GROUP BY 1, 2),
     handled AS (
        SELECT case_id, round(sum(seconds)) AS seconds, jsonb_object_agg(actor, round(seconds)) AS hands
          FROM hands GROUP BY 1),
     moments AS (
        SELECT case_id, min(at) FILTER (WHERE starts AND actor_id IS NOT NULL) AS touched_at,
               max(at) FILTER (WHERE kind = 'reopened') AS reopened_at,
               count(*) FILTER (WHERE kind = 'reopened') AS reopens
          FROM edges GROUP BY 1)
INSERT INTO worked_case (case_id, queue_id, priority, disposition, alerts, opened_at, touched_at, closed_at, closed_by,
                         reopened_at, reopens, handling, hands, kept, contradicted)
SELECT c.id, c.queue_id, c.priority, CASE c.status WHEN 'closed' THEN CASE c.disposition {_DISPOSITION} ELSE 0 END
       ELSE 0 END, c.alert_count, c.opened_at, m.touched_at, CASE c.status WHEN 'closed' THEN c.closed_at END,
       c.closed_by_id, m.reopened_at, coalesce(m.reopens, 0), h.seconds, coalesce(h.hands, '{{}}'),
       CASE c.status WHEN 'closed' THEN c.closed_at <= c.due_at END,
       c.status = 'closed' AND EXISTS (
           SELECT FROM case_alert a JOIN labelled_payment l ON l.transaction_id = a.alert_id
            WHERE a.case_id = c.id
              AND l.verdict <> CASE coalesce(nullif(a.verdict, ''), c.disposition) {_SAYS} ELSE l.verdict END)
  FROM "case" c LEFT JOIN moments m ON m.case_id = c.id LEFT JOIN handled h ON h.case_id = c.id
 WHERE c.id = ANY(%(ids)s)
"""
_SCALE = f"CASE WHEN {{0}} < 1 THEN 0 ELSE floor({STEPS} * log(2, {{0}}::numeric))::int + 1 END"
_WAITED = "extract(epoch FROM {0} - opened_at)"


def _bucket(seconds: str) -> str:
    return _SCALE.format(f"({seconds})")


_ROWS = f"""
    SELECT {OPENED} AS measure, opened_at AS at, queue_id, priority::int AS part, 0 AS bucket, 1::bigint AS n FROM w
    UNION ALL SELECT {TOUCH}, touched_at, queue_id, priority, {_bucket(_WAITED.format("touched_at"))}, 1 FROM w
               WHERE touched_at IS NOT NULL
    UNION ALL SELECT {CLOSED}, closed_at, queue_id, disposition, 0, 1 FROM w WHERE closed_at IS NOT NULL
    UNION ALL SELECT {ALERTS}, closed_at, queue_id, 0, 0, alerts FROM w WHERE closed_at IS NOT NULL
    UNION ALL SELECT {CLOSES}, closed_at, queue_id, 0, 0, 1 FROM w WHERE closed_at IS NOT NULL
    UNION ALL SELECT {CLOSES}, reopened_at, queue_id, 0, 0, reopens FROM w WHERE reopens > 0
    UNION ALL SELECT {REOPENED}, reopened_at, queue_id, 0, 0, reopens FROM w WHERE reopens > 0
    UNION ALL SELECT {DECISION}, closed_at, queue_id, priority, {_bucket(_WAITED.format("closed_at"))}, 1 FROM w
               WHERE closed_at IS NOT NULL
    UNION ALL SELECT {KEPT}, closed_at, queue_id, priority, kept::int, 1 FROM w WHERE closed_at IS NOT NULL
    UNION ALL SELECT {HANDLING}, closed_at, queue_id, disposition, {_bucket("handling")}, 1 FROM w
               WHERE closed_at IS NOT NULL AND handling IS NOT NULL
    UNION ALL SELECT {HANDLED}, closed_at, queue_id, 0, 0, 1 FROM w WHERE closed_at IS NOT NULL AND handling IS NOT NULL
    UNION ALL SELECT {SECONDS}, closed_at, queue_id, 0, 0, handling FROM w
               WHERE closed_at IS NOT NULL AND handling IS NOT NULL
    UNION ALL SELECT {PERSON_CLOSED}, closed_at, queue_id, closed_by, 0, 1 FROM w
               WHERE closed_at IS NOT NULL AND closed_by IS NOT NULL
    UNION ALL SELECT {PERSON_HANDLED}, closed_at, queue_id, closed_by, 0, 1 FROM w
               WHERE closed_at IS NOT NULL AND closed_by IS NOT NULL AND handling IS NOT NULL
    UNION ALL SELECT {PERSON_SECONDS}, closed_at, queue_id, hand.key::int, 0, hand.value::bigint
                FROM w CROSS JOIN LATERAL jsonb_each_text(hands) AS hand WHERE closed_at IS NOT NULL
    UNION ALL SELECT {CONTRADICTED}, closed_at, queue_id, disposition, 0, 1 FROM w WHERE contradicted
"""
COUNT = f"""
WITH w AS (SELECT * FROM worked_case WHERE case_id = ANY(%(ids)s)), r AS ({_ROWS})
INSERT INTO work_tally AS k (measure, grain, at, queue_id, part, bucket, n)
SELECT measure, grain.letter, date_trunc(grain.unit, at, 'UTC'), queue_id, part, bucket, sum(%(sign)s * n)
  FROM r CROSS JOIN (VALUES ('h', 'hour'), ('d', 'day')) AS grain (letter, unit) GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (measure, grain, at, queue_id, part, bucket) DO UPDATE SET n = k.n + excluded.n
"""
FORGET = "DELETE FROM worked_case WHERE case_id = ANY(%(ids)s)"


def advance(until: float) -> None:
    """Recount the cases that something happened to."""
    for rows in tallies.unread("events", "case_event_id_seq", EVENTS, until):
        recount(sorted({case for _, case in rows}))


def relabelled(payments: list[int]) -> int:
    """Recount the cases of payments whose label may have changed; how many."""
    return recount(_cases_of(payments)) if payments else 0


def _cases_of(payments: list[int]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(CASES_OF, [payments])
        return sorted(row[0] for row in cursor.fetchall())


def recount(ids: list[int]) -> int:
    """Count these cases anew, whatever they were counted as before."""
    for first in range(0, len(ids), CASES):
        _recount(ids[first : first + CASES])
    return len(ids)


@atomic
def _recount(ids: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")
        cursor.execute(COUNT, {"ids": ids, "sign": -1})
        cursor.execute(FORGET, {"ids": ids})
        cursor.execute(RECOUNT, {"ids": ids})
        cursor.execute(COUNT, {"ids": ids, "sign": 1})


# --- lengths of time --------------------------------------------------------------------------------------------------


def bucket_of(seconds: float) -> int:
    """The step of the scale that a length of time falls into, as the roll-up counts it."""
    return 0 if seconds < 1 else int(STEPS * log2(seconds)) + 1


def middle(bucket: int) -> float:
    """The length of time in the middle of a step, in seconds."""
    return 0.5 if bucket == 0 else float(2 ** ((bucket - 0.5) / STEPS))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The length of time, in seconds, that `share` of those counted do not exceed; None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, passed = share * total, 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed >= wanted:
            return middle(bucket)
    return None


# --- everything -------------------------------------------------------------------------------------------------------


def tally(seconds: float = tallies.SECONDS) -> bool:
    """Bring all roll-ups up to date, for `seconds` at most; False if another process is at it."""
    with alone(tallies.LOCK) as mine:
        if mine:
            _advance(seconds)
        return mine


def _advance(seconds: float) -> None:
    until = time.monotonic() + seconds
    advance(until)
    tallies.advance(until, relabelled)


TABLES = "decision_tally, labelled_payment, returned_money, worked_case, work_tally, tally_cursor"
LONGEST_REBUILD = 24 * 3600.0


def rebuild() -> bool:
    """Forget all roll-ups and count again from the first row; False if another process is at it."""
    with alone(tallies.LOCK) as mine:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM tally_sheet")  # no TRUNCATE: lanes write here
                cursor.execute(f"TRUNCATE {TABLES}")
            _advance(LONGEST_REBUILD)
        return mine
