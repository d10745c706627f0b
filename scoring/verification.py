"""What must hold of a lane, asked of the database: the invariants of the protocol, and the replay of its log.

Each check gives the first difference it finds, as a sentence, or nothing. They only read, and may run beside live
traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from django.db.transaction import atomic

from scoring import epochs, features
from scoring.lanes import LABELS_OWED, PAYMENTS_OWED, Standing, newest_snapshot
from scoring.models import LOG_KIND, SCREENINGS
from transactions import binary
from transactions.codes import INTAKE, OUTCOME

JUDGED, PROFILED, LABEL = (LOG_KIND.code(kind) for kind in ("judged", "profiled", "label"))
RECORDED, APPROVE = OUTCOME.code("recorded"), OUTCOME.code("approve")
HISTORY = INTAKE.code("history")


class Check(NamedTuple):
    """An invariant: its name, the query whose first row breaks it, and what to say of that row."""

    name: str
    query: str
    broken: str


CHECKS = [
    Check(
        "nothing below the mark is owed", f"SELECT id {PAYMENTS_OWED}", "payment {} is below the mark and not decided"
    ),
    Check("no label below its mark is owed", f"SELECT id {LABELS_OWED}", "label {} is below the mark and not taken in"),
    Check(
        "each decision stands in the log at its seq",
        f"""SELECT d.transaction_id FROM decision d
              LEFT JOIN lane_log g ON (g.lane, g.seq) = (d.lane, d.seq) AND g.transaction_id = d.transaction_id
             WHERE d.lane = %(lane)s AND d.screening = 1
               AND g.kind IS DISTINCT FROM CASE d.outcome WHEN {RECORDED} THEN {PROFILED} ELSE {JUDGED} END""",
        "payment {} is decided otherwise than the log says",
    ),
    Check(
        "each payment of the log is decided",
        f"""SELECT g.transaction_id FROM lane_log g WHERE g.lane = %(lane)s AND g.kind IN ({JUDGED}, {PROFILED})
               AND NOT EXISTS (SELECT FROM decision d WHERE d.id = g.transaction_id * {SCREENINGS} + 1)""",
        "payment {} stands in the log without a decision",
    ),
    Check(
        "no payment is decided twice",
        f"""SELECT transaction_id FROM lane_log WHERE lane = %(lane)s AND kind IN ({JUDGED}, {PROFILED})
             GROUP BY 1 HAVING count(*) > 1""",
        "payment {} stands in the log twice",
    ),
    Check(
        "the log has no gap",
        """SELECT seq FROM (SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) p FROM lane_log
                             WHERE lane = %(lane)s) x WHERE seq <> p + 1""",
        "before seq {} of the log something is missing",
    ),
    Check(
        "the cursor is the last row of the log",
        """SELECT c.seq FROM lane_cursor c WHERE c.lane = %(lane)s AND
             (c.seq > 0 AND NOT EXISTS (SELECT FROM lane_log g
                 WHERE (g.lane, g.seq, g.epoch, g.token) = (c.lane, c.seq, c.epoch, c.token))
              OR EXISTS (SELECT FROM lane_log g WHERE g.lane = c.lane AND g.seq > c.seq))""",
        "the cursor stands at seq {}, which is not the last row of the log",
    ),
    Check(
        "labels chain for each payment",
        f"""SELECT seq FROM (
                SELECT seq, transaction_id, old, lag(new) OVER (PARTITION BY transaction_id ORDER BY seq) p
                  FROM lane_log WHERE lane = %(lane)s AND kind = {LABEL}) x
             WHERE old IS DISTINCT FROM coalesce(p, 0)
               AND (p IS NOT NULL OR NOT EXISTS (
                   SELECT FROM transaction t WHERE t.id = x.transaction_id AND t.intake = {HISTORY}))""",
        "the label at seq {} does not go on from the one before",
    ),
    Check(
        "no label precedes its payment",
        f"""SELECT b.seq FROM lane_log b JOIN lane_log j USING (lane, transaction_id)
             WHERE lane = %(lane)s AND b.kind = {LABEL} AND j.kind IN ({JUDGED}, {PROFILED}) AND j.seq > b.seq""",
        "the label at seq {} precedes its payment",
    ),
    Check(
        "keys and payments pair up",
        """SELECT id FROM transaction_key k FULL JOIN transaction t USING (id)
            WHERE k.lane IS DISTINCT FROM t.lane AND coalesce(k.lane, t.lane) = %(lane)s""",
        "payment {} and its key do not pair up",
    ),
    Check(
        "the marks are not ahead of the sequences",
        """SELECT mark FROM lane_cursor WHERE lane = %(lane)s AND (mark > (SELECT last_value FROM transaction_id_seq)
             OR label_mark > (SELECT last_value FROM label_id_seq))""",
        "the mark {} is ahead of its sequence",
    ),
    Check(
        "stopped payments and alerts pair up",
        f"""SELECT coalesce(d.transaction_id, a.id) FROM
                (SELECT * FROM decision WHERE lane = %(lane)s AND screening = 1
                    AND outcome NOT IN ({APPROVE}, {RECORDED})) d
              FULL JOIN (SELECT * FROM alert WHERE lane = %(lane)s) a ON a.id = d.transaction_id
             WHERE (a.decision_id, a.seq, a.outcome) IS DISTINCT FROM (d.id, d.seq, d.outcome)""",
        "payment {} and its alert do not pair up",
    ),
]


def broken(cursor: Any, lane_id: int) -> Iterator[tuple[str, str]]:
    """Every check with what breaks it ("" = it holds), as the database is now."""
    for check in CHECKS:
        cursor.execute(
            "SELECT c.epoch, greatest(c.mark, 0), greatest(c.label_mark, 0) FROM lane_cursor c WHERE c.lane = %s",
            [lane_id],
        )
        epoch, mark, label_mark = cursor.fetchone() or (0, 0, 0)
        params = {
            "lane": lane_id,
            "above": 0,
            "upto": label_mark if check.query.endswith(LABELS_OWED) else mark,
            "imports": epochs.imports_of(cursor, lane_id, epoch),
        }
        cursor.execute(f"{check.query} LIMIT 1", params)
        row = cursor.fetchone()
        yield check.name, check.broken.format(row[0]) if row else ""


@atomic
def replayed(cursor: Any, lane_id: int) -> tuple[int, str]:
    """Replay the log of the running epoch from its base: how many vectors were compared, and the first difference.

    Compares every stored feature vector bit for bit, and the newest snapshot with the memory at its seq.
    """
    cursor.execute("SELECT epoch, seq, uuid_send(token) FROM lane_cursor WHERE lane = %s", [lane_id])
    row = cursor.fetchone()
    if row is None:
        return 0, ""
    standing = Standing(row[0], row[1], bytes(row[2]))
    comparison = Comparison(cursor)
    memory = epochs.base(cursor, lane_id, standing.epoch)
    snapshot = newest_snapshot(cursor, lane_id, standing)
    try:
        if snapshot is not None and snapshot.seq >= memory.seq:
            epochs.log_replay(cursor, memory, lane_id, upto=snapshot.seq, on_batch=comparison)
            if memory.digest() != snapshot.digest():
                return comparison.compared, f"the snapshot at seq {snapshot.seq} differs from the replay of the log"
        epochs.log_replay(cursor, memory, lane_id, upto=standing.seq, on_batch=comparison)
    except (VectorDiffers, epochs.LogDiffers) as difference:
        return comparison.compared, str(difference)
    if standing.seq > 0 and bytes(memory.token) != standing.token:
        return comparison.compared, "the log does not lead to the cursor"
    return comparison.compared, ""


class VectorDiffers(Exception):
    """A stored feature vector is not the one that the log's replay gives."""


class Comparison:
    """Holds replayed feature rows against stored ones."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor
        self.compared = 0
        self.stored = np.dtype([("id", "i8"), ("features", "u4", (features.N_FEATURES,))])

    def __call__(self, events: np.ndarray, matrix: np.ndarray) -> None:
        """Raises VectorDiffers at the first row that is not the same bits."""
        judged = events["kind"] == features.JUDGED
        ids, rows = events["id"][judged], np.ascontiguousarray(matrix[judged], "<f4").view("u4")
        found = binary.fetch(
            self.cursor,
            "SELECT transaction_id, features FROM decision WHERE id = ANY(%s::bigint[]) AND kernel_version = %s",
            [(ids * SCREENINGS + 1).tolist(), features.KERNEL_VERSION],
            self.stored,
        )
        order = np.argsort(ids)
        places = order[np.searchsorted(ids, found["id"], sorter=order)]
        differ = np.flatnonzero((rows[places] != found["features"]).any(axis=1))
        if len(differ):
            raise VectorDiffers(self._sentence(found[differ[0]], rows[places[differ[0]]]))
        self.compared += len(found)

    def _sentence(self, stored: np.void, row: np.ndarray) -> str:
        column = int(np.flatnonzero(stored["features"] != row)[0])
        was, is_now = stored["features"].view("f4")[column], row.view("f4")[column]
        return f"payment {stored['id']}: {features.NAMES[column]} was {was}, the log's replay gives {is_now}"
