"""What must hold of a lane, asked of the database: the protocol's invariants, the ledger, and the replay of its log.

Each walk goes once over its rows in steps by a key (ids, or seqs of the log) and asks everything that can be asked of
them in one aggregate: totals, and for each invariant the first row that breaks it. So the memory is that of one step,
whatever the number of rows. What the walks count must add up at the end: payments kept are decided or owed, and each
decision stands in the log. Nothing is written; all of it sees one snapshot, and may run beside live traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from django.db.transaction import atomic

from scoring import epochs, features
from scoring.lanes import Standing, newest_snapshot
from scoring.models import LOG_KIND, SCREENINGS
from scoring.profiles import Profiles
from scoring.snapshots import BadSnapshot
from transactions import binary
from transactions.codes import INTAKE, OUTCOME, VERDICT

JUDGED, PROFILED, LABEL, EPOCH = (LOG_KIND.code(kind) for kind in ("judged", "profiled", "label", "epoch"))
RECORDED, APPROVE, REVIEW = (OUTCOME.code(text) for text in ("recorded", "approve", "review"))
LIVE, HISTORY = INTAKE.code("live"), INTAKE.code("history")
WITHDRAWN = VERDICT.code("withdrawn")
STEP = 200_000  # keys in one statement
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
ROOM = "SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"


class Fault(NamedTuple):
    """An invariant: the condition of a row that breaks it, what names that row, and what to say of it."""

    condition: str
    subject: str
    sentence: str


class Walk(NamedTuple):
    """One pass over rows by a key: `last` ends it, `rows` are those of a step, `totals` are summed up."""

    name: str
    last: str
    rows: str
    totals: dict[str, str]
    faults: list[Fault]

    @property
    def query(self) -> str:
        """All totals and the first subject of each fault, of one step."""
        told = [f"count(*) FILTER (WHERE {condition})" for condition in self.totals.values()]
        told += [f"min({fault.subject}) FILTER (WHERE {fault.condition})" for fault in self.faults]
        return f"SELECT {', '.join(told)} FROM ({self.rows}) rows"


LAST_PAYMENT = "SELECT last_value FROM transaction_id_seq"
STOPPED = f"outcome NOT IN ({APPROVE}, {RECORDED})"
IN_STEP = "id > %(after)s AND id <= %(upto)s"
OF_STEP = f"id >= (%(after)s::bigint + 1) * {SCREENINGS} AND id < (%(upto)s::bigint + 1) * {SCREENINGS}"

PAYMENTS = Walk(
    "payments, keys, decisions and alerts pair up; nothing below the mark is owed",
    LAST_PAYMENT,
    f"""SELECT coalesce(t.id, k.id, d.payment, a.id) AS id, t.id AS kept, k.id AS keyed, t.intake, d.decision, d.seq,
               d.screening, d.outcome, r.id AS release, d.whole, a.id AS alert, a.decision_id, a.seq AS alert_seq,
               a.outcome AS alert_outcome
          FROM (SELECT id, intake FROM transaction WHERE {IN_STEP} AND lane = %(lane)s) t
          FULL JOIN (SELECT id FROM transaction_key WHERE {IN_STEP} AND lane = %(lane)s) k ON k.id = t.id
          FULL JOIN (SELECT id AS decision, transaction_id AS payment, seq, screening, outcome, release_id,
                            kernel_version <> %(kernel)s OR octet_length(features) = %(width)s AS whole
                       FROM decision WHERE {OF_STEP} AND lane = %(lane)s) d ON d.payment = t.id
          FULL JOIN (SELECT id, decision_id, seq, outcome FROM alert WHERE {IN_STEP} AND lane = %(lane)s) a
                 ON a.id = d.payment
          LEFT JOIN (SELECT id FROM scoring_release WHERE lane_id = %(lane)s) r ON r.id = d.release_id""",
    {
        "kept": f"kept IS NOT NULL AND intake = {LIVE} AND coalesce(screening, 1) = 1",
        "history": f"kept IS NOT NULL AND intake = {HISTORY}",
        "decided": "screening = 1",
        "owed": f"kept IS NOT NULL AND intake = {LIVE} AND decision IS NULL",
        "judged again": "screening > 1",
    },
    [
        Fault("(kept IS NULL) <> (keyed IS NULL)", "id", "payment {} and its key do not pair up"),
        Fault("kept IS NULL AND decision IS NOT NULL", "id", "payment {} is decided but not there"),
        Fault(
            f"intake = {LIVE} AND decision IS NULL AND id <= %(mark)s",
            "id",
            "payment {} is below the mark and not decided",
        ),
        Fault(f"intake = {HISTORY} AND decision IS NOT NULL", "id", "payment {} is history, and was decided"),
        Fault("decision IS NOT NULL AND release IS NULL", "id", "payment {} was judged by no release of this lane"),
        Fault("NOT whole", "id", "the vector of payment {} has not the length of its kernel"),
        Fault(
            f"screening = 1 AND {STOPPED} AND (decision_id, alert_seq, alert_outcome)"
            " IS DISTINCT FROM (decision, seq, outcome)"
            f" OR screening = 1 AND NOT {STOPPED} AND decision_id = decision"
            f" OR screening > 1 AND {STOPPED} AND (alert IS NULL OR decision_id > decision)"
            " OR decision IS NULL AND alert IS NOT NULL",
            "id",
            "payment {} and its alert do not pair up",
        ),
    ],
)
LABELS = Walk(
    "no label below its mark is owed",
    "SELECT last_value FROM label_id_seq",
    f"""SELECT l.id, g.seq, g.lane, CASE WHEN g.label_id IS NULL AND l.import_job IS NOT NULL
                 THEN {epochs.IMPORTED_LABEL} ELSE false END AS in_base
          FROM (SELECT * FROM label WHERE {IN_STEP} AND lane = %(lane)s) l
          LEFT JOIN lane_log g ON g.label_id = l.id""",
    {"taken in": "seq IS NOT NULL", "in the base": "in_base", "owed": "seq IS NULL AND NOT in_base"},
    [
        Fault(
            "seq IS NULL AND NOT in_base AND id <= %(label_mark)s", "id", "label {} is below the mark and not taken in"
        ),
        Fault("lane <> %(lane)s", "id", "label {} stands in the log of another lane"),
    ],
)
LOG = Walk(
    "the log has no gap and each of its payments is decided at its seq",
    "SELECT coalesce(max(seq), 0) FROM lane_log WHERE lane = %(lane)s",
    f"""SELECT g.*, d.id AS decision, d.seq AS judged_at, d.lane AS judged_in, d.outcome FROM (
            SELECT seq, kind, epoch, transaction_id AS payment, lag(seq, 1, %(after)s::bigint) OVER later AS before,
                   lag(epoch, 1, epoch) OVER later AS epoch_before
              FROM lane_log WHERE lane = %(lane)s AND seq > %(after)s AND seq <= %(upto)s WINDOW later AS (ORDER BY seq)
            ) g LEFT JOIN decision d ON d.id = g.payment * {SCREENINGS} + 1 AND g.kind IN ({JUDGED}, {PROFILED})
             AND d.id >= %(low)s::bigint * {SCREENINGS} AND d.id < (%(high)s::bigint + 1) * {SCREENINGS}""",
    {"payments": f"kind IN ({JUDGED}, {PROFILED})", "labels": f"kind = {LABEL}", "epochs": f"kind = {EPOCH}"},
    [
        Fault("before <> seq - 1", "seq", "before seq {} of the log something is missing"),
        Fault(
            f"kind IN ({JUDGED}, {PROFILED}) AND decision IS NULL",
            "payment",
            "payment {} stands in the log without a decision",
        ),
        Fault(
            "judged_at <> seq OR judged_in <> %(lane)s"
            f" OR decision IS NOT NULL AND kind <> CASE outcome WHEN {RECORDED} THEN {PROFILED} ELSE {JUDGED} END",
            "payment",
            "payment {} is decided otherwise than the log says, or stands in it twice",
        ),
        Fault("epoch < epoch_before", "seq", "the epoch goes back at seq {}"),
    ],
)
LABELLED = Walk(
    "labels chain for each payment, none precedes it, and the last says what is in force",
    LAST_PAYMENT,
    f"""SELECT g.seq, l.id, l.transaction_id AS payment, g.transaction_id AS told, g.old, g.new, t.intake,
               d.seq AS judged_at, lag(g.new) OVER (PARTITION BY l.transaction_id ORDER BY g.seq) AS before,
               lead(g.seq) OVER (PARTITION BY l.transaction_id ORDER BY g.seq) AS later,
               first_value(CASE l.verdict WHEN {WITHDRAWN} THEN 0 ELSE l.verdict END) OVER (
                   PARTITION BY l.transaction_id ORDER BY l.source DESC, l.known_at DESC, l.id DESC) AS in_force
          FROM (SELECT * FROM label WHERE transaction_id > %(after)s AND transaction_id <= %(upto)s
                   AND lane = %(lane)s) l
          JOIN lane_log g ON g.label_id = l.id AND g.old <> {epochs.LEFT_OUT}
          LEFT JOIN (SELECT id, intake FROM transaction WHERE {IN_STEP}) t ON t.id = l.transaction_id
          LEFT JOIN (SELECT transaction_id, seq FROM decision WHERE {OF_STEP} AND screening = 1) d
                 ON d.transaction_id = l.transaction_id""",
    {},
    [
        Fault("told <> payment", "seq", "the label at seq {} stands in the log for another payment"),
        Fault(
            f"old <> coalesce(before, 0) AND (before IS NOT NULL OR intake <> {HISTORY})",
            "seq",
            "the label at seq {} does not go on from the one before",
        ),
        Fault(
            f"judged_at > seq OR judged_at IS NULL AND intake = {LIVE} OR intake IS NULL",
            "seq",
            "the label at seq {} precedes its payment",
        ),
        Fault(
            f"later IS NULL AND intake = {LIVE} AND new <> in_force",
            "seq",
            "the label at seq {} leaves another verdict in force than the labels say",
        ),
    ],
)
ALERTS = Walk(
    "alerts, cases and holds agree",
    LAST_PAYMENT,
    f"""SELECT a.id, a.lane, a.hold_until, x.screening, k.id AS in_case, k.lane_id, k.status,
               h.transaction_id AS resolved,
               (x.transaction_id, x.seq, x.outcome) IS DISTINCT FROM (a.id, a.seq, a.outcome) AS astray
          FROM (SELECT * FROM alert WHERE {IN_STEP} AND lane = %(lane)s) a
          LEFT JOIN (SELECT id, transaction_id, seq, outcome, screening FROM decision WHERE {OF_STEP}) x
                 ON x.id = a.decision_id
          LEFT JOIN case_alert c ON c.alert_id = a.id
          LEFT JOIN "case" k ON k.id = c.case_id
          LEFT JOIN hold_resolution h ON h.transaction_id = a.id""",
    {
        "alerts": "true",
        "in cases": "in_case IS NOT NULL",
        "held": "hold_until IS NOT NULL AND resolved IS NULL",
    },
    [
        Fault("astray", "id", "alert {} does not agree with the decision that it names"),
        Fault("lane_id <> lane", "id", "alert {} lies in a case of another lane"),
        Fault("hold_until IS NOT NULL AND screening > 1", "id", "alert {} holds a payment that was let go before"),
        Fault(
            "hold_until IS NOT NULL AND resolved IS NULL AND status = 'closed'",
            "id",
            "payment {} is still held though its case is closed",
        ),
    ],
)
HOLDS = Walk(
    "only held payments were released or blocked",
    LAST_PAYMENT,
    f"""SELECT h.transaction_id AS id, d.outcome FROM hold_resolution h
          LEFT JOIN decision d ON d.id = h.transaction_id * {SCREENINGS} + 1
         WHERE h.transaction_id > %(after)s AND h.transaction_id <= %(upto)s AND h.lane = %(lane)s""",
    {"resolved": "true"},
    [Fault(f"outcome IS DISTINCT FROM {REVIEW}", "id", "payment {} was resolved but never held")],
)
CASES = Walk(
    "each case counts its alerts and their money",
    'SELECT coalesce(max(id), 0) FROM "case"',
    f"""SELECT k.id, k.alert_count, k.amount_base, coalesce(c.alerts, 0) AS alerts, coalesce(c.amount, 0) AS amount
          FROM (SELECT * FROM "case" WHERE {IN_STEP} AND lane_id = %(lane)s) k LEFT JOIN (
            SELECT c.case_id, count(a.id) AS alerts, sum(a.amount_base) AS amount FROM case_alert c
              LEFT JOIN alert a ON a.id = c.alert_id
             WHERE c.case_id > %(after)s AND c.case_id <= %(upto)s GROUP BY 1) c ON c.case_id = k.id""",
    {"cases": "true"},
    [
        Fault("alert_count <> alerts", "id", "case C-{} counts other alerts than it has"),
        Fault("amount_base <> amount", "id", "case C-{} sums up other money than its alerts"),
    ],
)
RESCREENED = Walk(
    "re-screenings follow one another, from the same vector and at the same seq",
    LAST_PAYMENT,
    f"""SELECT r.transaction_id AS id, d.id AS decision, p.id AS previous,
               (d.transaction_id, d.seq, d.features) IS DISTINCT FROM (r.transaction_id, f.seq, f.features) AS differs
          FROM rescreened r JOIN rescreening q ON q.id = r.request_id LEFT JOIN decision d ON d.id = r.decision_id
          LEFT JOIN decision p ON p.id = r.decision_id - 1
          LEFT JOIN decision f ON f.id = r.transaction_id * {SCREENINGS} + 1
         WHERE r.decision_id >= (%(after)s::bigint + 1) * {SCREENINGS}
           AND r.decision_id < (%(upto)s::bigint + 1) * {SCREENINGS} AND q.lane_id = %(lane)s""",
    {"judged again": "true"},
    [
        Fault("decision IS NULL", "id", "payment {} was judged again, but that decision is not there"),
        Fault("previous IS NULL", "id", "payment {} lacks a decision between two others"),
        Fault("differs", "id", "payment {} was judged again from another vector or at another seq"),
    ],
)
WALKS = [PAYMENTS, LABELS, LOG, LABELLED, ALERTS, HOLDS, CASES, RESCREENED]


class Sum(NamedTuple):
    """Two totals that must be equal, and the search for a row to name when they are not."""

    name: str
    left: tuple[str, str]
    right: tuple[str, str]
    culprit: str
    sentence: str


SUMS = [
    Sum(
        "each decision stands in the log",
        (PAYMENTS.name, "decided"),
        (LOG.name, "payments"),
        f"""SELECT d.transaction_id FROM decision d WHERE d.lane = %(lane)s AND d.screening = 1 AND NOT EXISTS (
                SELECT FROM lane_log g WHERE (g.lane, g.seq, g.transaction_id) = (d.lane, d.seq, d.transaction_id)
                   AND g.kind IN ({JUDGED}, {PROFILED})) LIMIT 1""",
        "payment {} is decided but does not stand in the log",
    ),
    Sum(
        "each label taken in stands in the log",
        (LABELS.name, "taken in"),
        (LOG.name, "labels"),
        f"""SELECT g.seq FROM lane_log g WHERE g.lane = %(lane)s AND g.kind = {LABEL} AND NOT EXISTS (
                SELECT FROM label l WHERE l.id = g.label_id AND l.lane = g.lane) LIMIT 1""",
        "the label at seq {} is not there",
    ),
    Sum(
        "each later decision belongs to a request",
        (PAYMENTS.name, "judged again"),
        (RESCREENED.name, "judged again"),
        """SELECT d.transaction_id FROM decision d WHERE d.lane = %(lane)s AND d.screening > 1 AND NOT EXISTS (
                SELECT FROM rescreened r WHERE r.decision_id = d.id) LIMIT 1""",
        "payment {} was judged again by no request",
    ),
]


class Check(NamedTuple):
    """What is asked once: the query whose first row breaks it."""

    name: str
    query: str
    sentence: str


CHECKS = [
    Check(
        "the cursor is the last row of the log",
        """SELECT c.seq FROM lane_cursor c WHERE c.lane = %(lane)s AND
             (c.seq > 0 AND NOT EXISTS (SELECT FROM lane_log g
                 WHERE (g.lane, g.seq, g.epoch, g.token) = (c.lane, c.seq, c.epoch, c.token))
              OR EXISTS (SELECT FROM lane_log g WHERE g.lane = c.lane AND g.seq > c.seq))""",
        "the cursor stands at seq {}, which is not the last row of the log",
    ),
    Check(
        "the marks are not ahead of the sequences",
        """SELECT mark FROM lane_cursor WHERE lane = %(lane)s AND (mark > (SELECT last_value FROM transaction_id_seq)
             OR label_mark > (SELECT last_value FROM label_id_seq))""",
        "the mark {} is ahead of its sequence",
    ),
    Check(
        "each epoch that went live stands in the log",
        f"""SELECT e.number FROM scoring_epoch e WHERE e.lane_id = %(lane)s AND e.status = 'live' AND NOT EXISTS (
                SELECT FROM lane_log g WHERE (g.lane, g.seq, g.epoch, g.kind)
                     = (e.lane_id, e.switched_seq, e.number, {EPOCH}))""",
        "epoch {} is live, but the log has no such row",
    ),
    Check(
        "each request counts its decisions",
        """SELECT q.id FROM rescreening q WHERE q.lane_id = %(lane)s
              AND q.judged <> (SELECT count(*) FROM rescreened r WHERE r.request_id = q.id)""",
        "re-screening {} counts other decisions than it made",
    ),
]

Ledger = dict[tuple[str, str], int]


class Broken(Exception):
    """The first difference that was found, as a sentence."""


def broken(cursor: Any, lane_id: int, ledger: Ledger | None = None) -> Iterator[tuple[str, str]]:
    """Every invariant with what breaks it ("" = it holds). Call it in a transaction of its own, opened by `SNAPSHOT`.

    `ledger`, if given, is filled with all totals by (walk, what).
    """
    totals: Ledger = {} if ledger is None else ledger
    cursor.execute(ROOM)
    params = _params(cursor, lane_id)
    for walk in WALKS:
        yield walk.name, _walked(cursor, walk, params, totals)
    for each in SUMS:
        yield each.name, _summed(cursor, each, params, totals)
    for check in CHECKS:
        cursor.execute(f"{check.query} LIMIT 1", params)
        row = cursor.fetchone()
        yield check.name, check.sentence.format(row[0]) if row else ""


def _params(cursor: Any, lane_id: int) -> dict[str, Any]:
    cursor.execute("SELECT epoch, mark, label_mark FROM lane_cursor WHERE lane = %s", [lane_id])
    epoch, mark, label_mark = cursor.fetchone() or (0, 0, 0)
    return {
        "lane": lane_id,
        "mark": mark,
        "label_mark": label_mark,
        "imports": epochs.imports_of(cursor, lane_id, epoch),
        "kernel": features.KERNEL_VERSION,
        "width": features.N_FEATURES * 4,
    }


def _walked(cursor: Any, walk: Walk, params: dict[str, Any], totals: Ledger) -> str:
    """The first difference of a walk; its totals are added up."""
    cursor.execute(walk.last, params)
    last = cursor.fetchone()[0]
    totals |= {(walk.name, what): 0 for what in walk.totals}
    for after in range(0, last, STEP):
        step = params | {"after": after, "upto": min(after + STEP, last)}
        if walk is LOG:
            step |= _payments_of(cursor, step)
        cursor.execute(walk.query, step)
        found = cursor.fetchone()
        for what, count in zip(walk.totals, found, strict=False):
            totals[walk.name, what] += count
        for fault, subject in zip(walk.faults, found[len(walk.totals) :], strict=True):
            if subject is not None:
                return fault.sentence.format(subject)
    return ""


def _payments_of(cursor: Any, step: dict[str, Any]) -> dict[str, int]:
    """Between which ids the payments of a step of the log lie: then their decisions are a range, too."""
    cursor.execute(
        "SELECT coalesce(min(transaction_id), 1), coalesce(max(transaction_id), 0) FROM lane_log"
        f" WHERE lane = %(lane)s AND seq > %(after)s AND seq <= %(upto)s AND kind IN ({JUDGED}, {PROFILED})",
        step,
    )
    return dict(zip(("low", "high"), cursor.fetchone(), strict=True))


def _summed(cursor: Any, each: Sum, params: dict[str, Any], totals: Ledger) -> str:
    if totals[each.left] == totals[each.right]:
        return ""
    cursor.execute(each.culprit, params)
    row = cursor.fetchone()
    return each.sentence.format(row[0]) if row else f"{totals[each.left]} and {totals[each.right]} differ: {each.name}"


def told(totals: Ledger) -> str:
    """The ledger in a line."""
    kept, decided, owed = (totals[PAYMENTS.name, what] for what in ("kept", "decided", "owed"))
    alerts, cased, held = (totals[ALERTS.name, what] for what in ("alerts", "in cases", "held"))
    taken, base, due = (totals[LABELS.name, what] for what in ("taken in", "in the base", "owed"))
    return "; ".join(
        [
            f"{kept} payments kept = {decided} decided + {owed} owed",
            f"{totals[PAYMENTS.name, 'history']} of history",
            f"{totals[PAYMENTS.name, 'judged again']} judged again",
            f"{alerts} alerts, {cased} in {totals[CASES.name, 'cases']} cases, {held} held",
            f"{taken + base + due} labels = {taken} taken in + {base} in the base + {due} owed",
        ]
    )


# --- replay -----------------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """The part of the log that one epoch judged: from its base to the row before the next epoch's."""

    epoch: int
    upto: int
    is_running: bool


class Replayed(NamedTuple):
    """What replaying one epoch came to: vectors compared, and the difference; or why it could not be replayed."""

    epoch: int
    compared: int = 0
    difference: str = ""
    left_out: str = ""
    digest: bytes = b""


def segments(cursor: Any, lane_id: int, *, since: int = 0) -> list[Segment]:
    """The lane's epochs from `since` on, oldest first, each with the last seq it judged."""
    cursor.execute("SELECT epoch, seq FROM lane_cursor WHERE lane = %s", [lane_id])
    row = cursor.fetchone()
    if row is None:
        return []
    cursor.execute(
        "SELECT number, switched_seq FROM scoring_epoch WHERE lane_id = %s AND status = 'live' ORDER BY number",
        [lane_id],
    )
    starts = {0: 1, **dict(cursor.fetchall())}
    ends = {number: starts.get(number + 1, row[1] + 1) - 1 for number in starts}
    return [Segment(number, ends[number], number == row[0]) for number in sorted(starts) if number >= since]


@atomic
def replayed(cursor: Any, lane_id: int, segment: Segment) -> Replayed:
    """Replay the log of one epoch from its base, and hold every stored vector of this kernel against it, bit for bit.

    For the running epoch also the newest snapshot, which is the owner's own memory, at its (seq, token).
    """
    comparison = Comparison(cursor)
    try:
        memory = epochs.base(cursor, lane_id, segment.epoch)
    except (epochs.NoBase, BadSnapshot) as error:
        return Replayed(segment.epoch, left_out=str(error))
    try:
        difference = _replay(cursor, lane_id, segment, memory, comparison)
    except (VectorDiffers, epochs.LogDiffers) as error:
        difference = str(error)
    return Replayed(segment.epoch, comparison.compared, difference, digest=b"" if difference else memory.digest())


def _replay(cursor: Any, lane_id: int, segment: Segment, memory: Profiles, comparison: Comparison) -> str:
    if not segment.is_running:
        epochs.log_replay(cursor, memory, lane_id, upto=segment.upto, on_batch=comparison)
        return ""
    cursor.execute("SELECT epoch, seq, uuid_send(token) FROM lane_cursor WHERE lane = %s", [lane_id])
    epoch, seq, token = cursor.fetchone()
    snapshot = newest_snapshot(cursor, lane_id, Standing(epoch, seq, bytes(token)))
    if snapshot is not None and snapshot.seq >= memory.seq:
        epochs.log_replay(cursor, memory, lane_id, upto=snapshot.seq, on_batch=comparison)
        if memory.digest() != snapshot.digest():
            return f"the snapshot at seq {snapshot.seq} differs from the replay of the log"
    epochs.log_replay(cursor, memory, lane_id, upto=seq, on_batch=comparison)
    return "" if seq == 0 or bytes(memory.token) == bytes(token) else "the log does not lead to the cursor"


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
