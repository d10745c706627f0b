"""The roll-up of decisions: what was judged each hour, along the cuts that dashboards ask for, exact to the row.

`decision` grows by millions a day, so no page adds it up. A beat follows the lane's log from where it stopped (its seqs
have no gaps and are committed in order), adds the payments judged since to `decision_tally`, and the label that counts
of each payment to `labelled_payment`. Of a commit of many payments the lane has left a sheet (`tally_sheets.py`), which
is added as it stands; of others the rows are read. When a label or a resolution changes, the payment's old share is
taken back and the new one added, in one commit: the tallies are at any time what counting the rows again would give.
`rebuild` forgets everything and reads again from the start.

An hour is that of the decision; of an imported payment that of the payment, as it was judged as if it came then. The
first decision counts: it is what the bank was told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection
from django.db.transaction import atomic
from django.utils import timezone

from fraudsite import tally_sheets
from fraudsite.models import TallyCursor
from fraudsite.tally_sheets import (
    CHANNEL,
    COUNTRY,
    DEGRADED,
    FATE,
    LATENCY,
    LATENCY_STEPS,
    NO_SCORE,
    RULE,
    SCORE,
    SCORE_STEP,
    TOTAL,
    Sheet,
)
from scoring.models import LOG_KIND, SCREENINGS, LaneCursor
from transactions.codes import OUTCOME, STAGE, TYPE, VERDICT

BLOCKED, LOST, RECOVERED, WRONGLY_BLOCKED, WRONGLY_STOPPED = FATES = range(1, 6)

BATCH = 50_000  # entries of a log read at once
SHEETS = 500  # of the lane's commits added at once
LOCK = 7_011_005
SECONDS = 20.0  # that one beat works

_FRAUD, _LEGITIMATE = VERDICT.code("fraud"), VERDICT.code("legitimate")
_APPROVE, _CHALLENGE = OUTCOME.code("approve"), OUTCOME.code("challenge")
_REVIEW, _DECLINE, _RECORDED = OUTCOME.code("review"), OUTCOME.code("decline"), OUTCOME.code("recorded")
_COUNTRY = (
    "coalesce(nullif(t.counterparty_country, 0::smallint), nullif(t.merchant_country, 0::smallint), t.location_country)"
)
_AT = "CASE WHEN t.import_job > 0 THEN t.occurred_at ELSE d.decided_at END"

# The judged payments of `p` (id, the seq of a decision or null for any, and three figures), with what the cuts need.
_JUDGED = f"""
    SELECT p.*, d.lane, {_AT} AS at, t.channel, {_COUNTRY} AS country, t.amount_base, d.outcome, d.score, d.latency,
           d.degraded, d.release_id, d.rule_hits, t.import_job
      FROM p JOIN decision d ON d.id = p.id * {SCREENINGS} + 1 AND d.seq = coalesce(p.seq, d.seq)
      JOIN transaction t ON t.id = p.id
     WHERE d.outcome <> {_RECORDED}
"""
_SHARES = "sum(n), sum(n_value), sum(f), sum(f_value), sum(g), sum(g_value)"
_EACH = "n, n * amount_base, f, f * amount_base, g, g * amount_base"
# Most payments of a batch are alike in what the cuts ask: they are added up once by all of it, then along each cut.
_ALIKE = f"""
    SELECT lane, date_trunc('hour', at, 'UTC') AS at, channel, country, outcome, degraded, release_id,
           CASE WHEN score < 0 THEN {NO_SCORE} ELSE least(score / {SCORE_STEP}, 19) END AS step,
           sum(n) AS n, sum(n * amount_base) AS n_value, sum(f) AS f, sum(f * amount_base) AS f_value,
           sum(g) AS g, sum(g * amount_base) AS g_value
      FROM j GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_SUMS = "n, n_value, f, f_value, g, g_value"
LATENCY_STEP = f"floor({LATENCY_STEPS} / ln(2) * ln(greatest(latency, 1)) + 1e-9)::bigint"
# A row for each cut and key that payments count under; n, f, g: payments, fraud, legitimate, each ±1 or 0 a payment.
_CUTS = f"""
    SELECT {TOTAL} AS cut, 0::bigint AS key, outcome, lane, at, {_SUMS} FROM a
    UNION ALL SELECT {CHANNEL}, channel, outcome, lane, at, {_SUMS} FROM a
    UNION ALL SELECT {COUNTRY}, country, outcome, lane, at, {_SUMS} FROM a
    UNION ALL SELECT {SCORE}, coalesce(r.model_id, 0) * 32::bigint + step, outcome, lane, at, {_SUMS}
                FROM a JOIN scoring_release r ON r.id = a.release_id
    UNION ALL SELECT {DEGRADED}, degraded, outcome, lane, at, {_SUMS} FROM a WHERE degraded <> 0
    UNION ALL SELECT {LATENCY}, {LATENCY_STEP}, 0::smallint, lane,
                     date_trunc('hour', at, 'UTC'), sum(n), sum(n * amount_base), 0, 0, 0, 0
                FROM j WHERE n <> 0 AND latency > 0 AND import_job = 0 GROUP BY 2, 4, 5
    UNION ALL SELECT {RULE}, (e.rule->>'version')::bigint * 2 + CASE e.rule->>'mode' WHEN 'live' THEN 0 ELSE 1 END,
                     outcome, j.lane, at, {_EACH}
                FROM j JOIN scoring_release r ON r.id = j.release_id
                CROSS JOIN LATERAL jsonb_array_elements(r.rules) WITH ORDINALITY AS e (rule, place)
               WHERE position('\\x01'::bytea IN j.rule_hits) > 0 AND e.place <= length(j.rule_hits)
                 AND get_byte(j.rule_hits, (e.place - 1)::int) = 1
"""
_INTO = """
INSERT INTO decision_tally AS k (cut, grain, at, lane, key, outcome,
                                 payments, value, fraud, fraud_value, legitimate, legitimate_value)
"""
_ADD = """
ON CONFLICT (cut, grain, at, lane, key, outcome) DO UPDATE SET
    payments = k.payments + excluded.payments, value = k.value + excluded.value, fraud = k.fraud + excluded.fraud,
    fraud_value = k.fraud_value + excluded.fraud_value, legitimate = k.legitimate + excluded.legitimate,
    legitimate_value = k.legitimate_value + excluded.legitimate_value
"""
_GRAINS = "CROSS JOIN (VALUES ('h', 'hour'), ('d', 'day')) AS grain (letter, unit)"
_BY = "date_trunc(grain.unit, at, 'UTC')"
_TALLY = f"""
{_INTO}
SELECT cut, grain.letter, {_BY}, lane, key, outcome, {_SHARES} FROM c {_GRAINS} GROUP BY 1, 2, 3, 4, 5, 6
{_ADD}
"""

# A batch's payments have ids close to each other. Saying so lets Postgres read a stretch of both tables at once.
BOUNDS = """
SELECT coalesce(min(transaction_id), 0), coalesce(max(transaction_id), 0) FROM lane_log
 WHERE lane = %(lane)s AND seq > %(after)s AND seq <= %(upto)s
"""
_NEAR = f"""t.id BETWEEN %(first)s AND %(last)s
   AND d.id BETWEEN %(first)s * {SCREENINGS}::bigint AND %(last)s * {SCREENINGS}::bigint + 1"""
COUNT_JUDGED = f"""
WITH p AS (SELECT transaction_id AS id, seq, 1 AS n, 0 AS f, 0 AS g FROM lane_log
            WHERE lane = %(lane)s AND seq > %(after)s AND seq <= %(upto)s AND kind = {LOG_KIND.code("judged")}),
     j AS MATERIALIZED ({_JUDGED} AND {_NEAR}), a AS MATERIALIZED ({_ALIKE}), c AS ({_CUTS})
{_TALLY}
"""
LABELLED_AMONG = f"""
SELECT DISTINCT l.transaction_id FROM lane_log g JOIN label l ON l.transaction_id = g.transaction_id
 WHERE g.lane = %(lane)s AND g.seq > %(after)s AND g.seq <= %(upto)s AND g.kind = {LOG_KIND.code("judged")}
"""
BRINGING_BACK = f"""
SELECT t.id
  FROM lane_log g JOIN transaction t ON t.id = g.transaction_id
 WHERE g.lane = %(lane)s AND g.seq > %(after)s AND g.seq <= %(upto)s AND g.kind IN ({LOG_KIND.code("judged")},
       {LOG_KIND.code("profiled")}) AND t.original <> 0 AND t.id BETWEEN %(first)s AND %(last)s
   AND (t.stage = {STAGE.code("reversal")} OR t.type IN ({TYPE.code("refund")}, {TYPE.code("reversal")}))
"""
# Money that refunds and reversals bring back, by the payment they name.
RETURNED = """
INSERT INTO returned_money AS r (transaction_id, amount_base)
SELECT original, sum(amount_base) FROM transaction WHERE id = ANY(%(ids)s) GROUP BY 1
ON CONFLICT (transaction_id) DO UPDATE SET amount_base = r.amount_base + excluded.amount_base
RETURNING transaction_id
"""

NEXT_SHEETS = """
SELECT since, upto, release_id, first_id, last_id, lines, bringing_back FROM tally_sheet
 WHERE lane = %s AND upto > %s AND upto <= %s ORDER BY upto LIMIT %s
"""
ADD_SHEETS = f"""
WITH c AS (SELECT cut, timestamptz '2000-01-01Z' + hour * interval '1 hour' AS at, %(lane)s::smallint AS lane, key,
                  outcome, n, n_value, 0 AS f, 0 AS f_value, 0 AS g, 0 AS g_value
             FROM unnest(%(cut)s::smallint[], %(hour)s::int[], %(key)s::bigint[], %(outcome)s::smallint[],
                         %(payments)s::bigint[], %(value)s::bigint[]) AS x (cut, hour, key, outcome, n, n_value))
{_TALLY}
"""
LABELLED_IN = f"""
SELECT DISTINCT l.transaction_id
  FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS sheet (first_id, last_id)
  JOIN label l ON l.transaction_id BETWEEN sheet.first_id AND sheet.last_id
  JOIN decision d ON d.id = l.transaction_id * {SCREENINGS} + 1 AND d.lane = %(lane)s
   AND d.seq > %(after)s AND d.seq <= %(upto)s
"""
USED_UP = "DELETE FROM tally_sheet WHERE lane = %(lane)s AND upto <= %(upto)s"

# What the marks `ids` count for, added (sign 1) or taken back (sign -1).
COUNT_LABELLED = f"""
WITH p AS (SELECT transaction_id AS id, NULL::bigint AS seq, 0 AS n,
                  CASE verdict WHEN {_FRAUD} THEN %(sign)s ELSE 0 END AS f,
                  CASE verdict WHEN {_LEGITIMATE} THEN %(sign)s ELSE 0 END AS g
             FROM labelled_payment WHERE transaction_id = ANY(%(ids)s)),
     j AS MATERIALIZED ({_JUDGED}), a AS MATERIALIZED ({_ALIKE}), c AS ({_CUTS})
{_TALLY}
"""
# Fraud is blocked if declined, or held and then blocked; everything else let it through.
_STOPPED_FOR_GOOD = f"(outcome = {_DECLINE} OR outcome = {_REVIEW} AND resolution = 2)"
COUNT_FATES = f"""
WITH m AS (SELECT *, {_STOPPED_FOR_GOOD} AS held_back FROM labelled_payment WHERE transaction_id = ANY(%(ids)s)),
     c AS (
        SELECT CASE WHEN held_back THEN {BLOCKED} ELSE {LOST} END AS outcome, lane, channel, at, amount_base
          FROM m WHERE verdict = {_FRAUD}
        UNION ALL SELECT {RECOVERED}, lane, channel, at, least(returned, amount_base)
          FROM m WHERE verdict = {_FRAUD} AND NOT held_back AND returned > 0
        UNION ALL SELECT CASE WHEN held_back THEN {WRONGLY_BLOCKED} ELSE {WRONGLY_STOPPED} END, lane, channel, at,
               amount_base
          FROM m WHERE verdict = {_LEGITIMATE} AND outcome IN ({_CHALLENGE}, {_REVIEW}, {_DECLINE}))
{_INTO}
SELECT {FATE}, grain.letter, {_BY}, lane, channel, outcome, sum(%(sign)s), sum(%(sign)s * amount_base), 0, 0, 0, 0
  FROM c {_GRAINS} GROUP BY 1, 2, 3, 4, 5, 6
{_ADD}
"""
MARK = f"""
INSERT INTO labelled_payment (transaction_id, lane, verdict, at, channel, country, merchant, device, customer, outcome,
                              score, fraud_type, amount_base, resolution, returned)
SELECT t.id, d.lane, e.verdict, {_AT}, t.channel, {_COUNTRY}, t.merchant, t.device, t.customer, d.outcome, d.score,
       e.fraud_type, t.amount_base, CASE h.resolution WHEN 'released' THEN 1 WHEN 'blocked' THEN 2 ELSE 0 END,
       coalesce(r.amount_base, 0)
  FROM (SELECT DISTINCT ON (transaction_id) transaction_id, verdict, fraud_type FROM label
         WHERE transaction_id = ANY(%(ids)s)
         ORDER BY transaction_id, source DESC, known_at DESC, id DESC) e
  JOIN transaction t ON t.id = e.transaction_id
  JOIN decision d ON d.id = t.id * {SCREENINGS} + 1
  LEFT JOIN hold_resolution h ON h.transaction_id = t.id
  LEFT JOIN returned_money r ON r.transaction_id = t.id
 WHERE e.verdict IN ({_FRAUD}, {_LEGITIMATE}) AND d.outcome <> {_RECORDED}
"""
UNMARK = "DELETE FROM labelled_payment WHERE transaction_id = ANY(%(ids)s)"
LABELS = "SELECT id, transaction_id FROM label WHERE id > %s ORDER BY id LIMIT %s"
RESOLVED = """
SELECT m.transaction_id FROM labelled_payment m JOIN hold_resolution h ON h.transaction_id = m.transaction_id
 WHERE m.outcome = %s AND m.resolution = 0 LIMIT %s
"""
FENCE = """
UPDATE tally_cursor SET fence = (SELECT last_value FROM {sequence}), fence_at = now(),
       fence_xid = pg_current_xact_id()::text::bigint
 WHERE source = %(source)s
"""
PASSED = """
SELECT fence FROM tally_cursor
 WHERE source = %(source)s AND position < fence AND fence_at < clock_timestamp() - interval '2 seconds'
   AND pg_snapshot_xmin(pg_current_snapshot())::text::bigint > fence_xid
"""


Told = Callable[[list[int]], object]


def advance(until: float, told: Told) -> None:
    """Read on in every source until nothing is left or the clock (monotonic) says `until`.

    `told` hears of the payments whose label may have changed, before the source's position moves past them.
    """
    for lane, seq in LaneCursor.objects.values_list("lane_id", "seq"):
        _judged(lane, seq, until, told)
    _labels(until, told)
    _resolutions(until)


def cursor_of(source: str) -> TallyCursor:
    """Where a source was left, made at its start if it was never read."""
    return TallyCursor.objects.get_or_create(source=source)[0]


def read_to(source: str, position: int | None = None) -> None:
    """Note that everything committed before now is counted; `position` for sources without a fence."""
    told: dict[str, Any] = {"as_of": timezone.now()} | ({} if position is None else {"position": position})
    TallyCursor.objects.filter(source=source).update(**told)


# --- payments ---------------------------------------------------------------------------------------------------------


def _judged(lane: int, last: int, until: float, told: Told) -> None:
    """Count what the lane judged since."""
    source = f"judged:{lane}"
    after = cursor_of(source).position
    sheets: list[Sheet] = []
    while after < last and time.monotonic() < until:
        sheets = [each for each in sheets if each.upto > after] or _next_sheets(lane, after, last)
        whole = _without_gap(sheets, after)
        if whole:
            upto = whole[-1].upto
        else:
            upto = min([after + BATCH, last, *(each.since for each in sheets if each.since > after)])
        _count(lane, after, upto, whole, told)
        after = upto
    if after >= last:
        read_to(source)


def _next_sheets(lane: int, after: int, last: int) -> list[Sheet]:
    with connection.cursor() as cursor:
        cursor.execute(NEXT_SHEETS, [lane, after, last, SHEETS])
        return [Sheet(*row) for row in cursor.fetchall()]


def _without_gap(sheets: list[Sheet], after: int) -> list[Sheet]:
    """Those that follow upon each other from the seq `after` on."""
    found: list[Sheet] = []
    for sheet in sheets:
        if sheet.since != after:
            break
        found.append(sheet)
        after = sheet.upto
    return found


@atomic
def _count(lane: int, after: int, upto: int, sheets: list[Sheet], told: Told) -> None:
    """Add what was judged from `after` to `upto`: the lane's own sheets, or where there are none the rows."""
    values: dict[str, Any] = {"lane": lane, "after": after, "upto": upto}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")
        back, labelled = _add_sheets(cursor, values, sheets) if sheets else _add_rows(cursor, values)
        touched: set[int] = set()
        if back:
            cursor.execute(RETURNED, {"ids": back})
            touched = {row[0] for row in cursor.fetchall()}
        cursor.execute(USED_UP, values)
    mark(sorted(touched | labelled))
    told(sorted(labelled))
    TallyCursor.objects.filter(pk=f"judged:{lane}").update(position=upto)


Found = tuple[list[int], set[int]]  # payments that bring money back; those with a label


def _add_sheets(cursor: Any, values: dict[str, Any], sheets: list[Sheet]) -> Found:
    lines = tally_sheets.added(sheets)
    if len(lines):
        cursor.execute(ADD_SHEETS, values | {name: lines[name].tolist() for name in tally_sheets.LINES.names or ()})
    bounds = {"firsts": [each.first_id for each in sheets], "lasts": [each.last_id for each in sheets]}
    cursor.execute(LABELLED_IN, values | bounds)
    return tally_sheets.brought_back(sheets), {row[0] for row in cursor.fetchall()}


def _add_rows(cursor: Any, values: dict[str, Any]) -> Found:
    cursor.execute(BOUNDS, values)
    values["first"], values["last"] = cursor.fetchone()
    cursor.execute(COUNT_JUDGED, values)
    cursor.execute(BRINGING_BACK, values)
    back = [row[0] for row in cursor.fetchall()]
    cursor.execute(LABELLED_AMONG, values)
    return back, {row[0] for row in cursor.fetchall()}


# --- labels -----------------------------------------------------------------------------------------------------------


@atomic
def mark(ids: list[int]) -> None:
    """Count payments by the label that counts now, whatever they were counted by before."""
    if not ids:
        return
    with connection.cursor() as cursor:
        for sql, sign in ((COUNT_LABELLED, -1), (COUNT_FATES, -1), (UNMARK, 0), (MARK, 0), (COUNT_FATES, 1)):
            cursor.execute(sql, {"ids": ids, "sign": sign})
        cursor.execute(COUNT_LABELLED, {"ids": ids, "sign": 1})


def _labels(until: float, told: Told) -> None:
    for rows in unread("labels", "label_id_seq", LABELS, until):
        ids = sorted({payment for _, payment in rows})
        mark(ids)
        told(ids)


def unread(source: str, sequence: str, sql: str, until: float) -> Iterator[list[tuple[int, int]]]:
    """Batches of (id, what it is about) beyond the position. It moves once a fence says that no id below can appear.

    What lies between position and fence is read again next time: whoever reads must not mind.
    """
    seen = cursor_of(source).position
    _draw(source, sequence)
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(PASSED, {"source": source})  # asked before the rows are read, or some might be missed
            passed = cursor.fetchone()
            cursor.execute(sql, [seen, BATCH])
            rows = cursor.fetchall()
        if rows:
            yield rows
            seen = rows[-1][0]
        whole = len(rows) < BATCH
        if passed:
            TallyCursor.objects.filter(pk=source).update(position=passed[0] if whole else min(passed[0], seen))
        if whole:
            read_to(source)
            return


def _draw(source: str, sequence: str) -> None:
    """A new fence, unless one still waits to be passed."""
    standing = cursor_of(source)
    if standing.fence <= standing.position:
        with connection.cursor() as cursor:
            cursor.execute(FENCE.format(sequence=sequence), {"source": source})


def _resolutions(until: float) -> None:
    """Held payments that were labelled before they were resolved."""
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(RESOLVED, [_REVIEW, BATCH])
            ids = [row[0] for row in cursor.fetchall()]
        mark(ids)
        if len(ids) < BATCH:
            return
