"""A lane's owner: its session and lock, its memory, what it claims, and the sweep that proves nothing was missed.

One process owns a lane at a time, by a session lock on a connection of its own, and commits only on that connection,
so that no commit outlives the lock. The profiles in its memory are a pure function of a base and the lane's log;
(epoch, seq, token) say which. If they differ from the cursor row, the memory is dropped and rebuilt.
`docs/lane-protocol.md` has every step and the reason for it; the numbers in the comments are its steps.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg2
from django.conf import settings

from scoring import epochs, features, snapshots
from scoring.profiles import Profiles
from scoring.ranges import Ids, Range, first_of, runs
from scoring.snapshots import BadSnapshot, Snapshot
from transactions import binary, few, ring
from transactions.binary import Column
from transactions.codes import INTAKE
from transactions.services import Inserted, Prepared, key_order

log = logging.getLogger(__name__)

MOST_ROWS = 4_000  # payments in one commit
MOST_MESSAGES = 512  # messages taken from the ring at once
NEWEST_SECONDS = 1.0  # between sweeps over the newest ids
WHOLE_SECONDS = 60.0  # between sweeps over everything above the mark
NEWEST_WINDOW = 15.0  # ids drawn in the last so many seconds are the newest
STAND_BY_SECONDS = 0.2  # between looks whether the lane's owner has gone
LOCK_MILLISECONDS = 100  # how long the lane waits for a key that another ingest holds
POLL_SECONDS = 0.1  # between looks into Postgres while Valkey is gone
SNAPSHOT_SECONDS = 300.0  # or settings.SNAPSHOT_ROWS: replaying 200,000 takes about 3 s
SNAPSHOTS_KEPT = 3  # the oldest is written over by the next
LONGEST_SAVING = 60.0  # a snapshot that is being written for so long meets a disk that hangs
DISK_SECONDS = 30.0  # before a file that could not be written is written again
STEP = 20_000  # ids looked at in one statement of a sweep
LIVE, HISTORY = INTAKE.code("live"), INTAKE.code("history")

# Two sequences, two marks, one proof: what the sweep of payments does, the sweep of labels does with other words.
# OFFSET 0 fixes the plan, a look into an index for each row: at every size and whatever the statistics believe.
DECIDED = "EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1 OFFSET 0)"
OF_LANE = f"t.lane = %(lane)s AND t.intake = {LIVE}"
# Labels that came with imports stand in the epoch's base and need no row of the log.
LOGGED = f"""
    (EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id OFFSET 0)
     OR (l.import_job IS NOT NULL AND {epochs.IMPORTED_LABEL}))"""
# A label is taken in only after its payment: judged by the log, or in the epoch's base.
TAKEN_IN = """
    (EXISTS (SELECT FROM decision d WHERE d.id = l.transaction_id * 64 + 1 OFFSET 0)
     OR EXISTS (SELECT FROM transaction b
                 WHERE b.id = l.transaction_id AND b.import_job = ANY(%(imports)s) OFFSET 0))"""
# What only the next epoch can take in: labels of history that is not in this epoch's base.
ASLEEP = f"""
    EXISTS (SELECT FROM transaction b WHERE b.id = l.transaction_id AND b.intake = {HISTORY}
               AND NOT b.import_job = ANY(%(imports)s::int[]) OFFSET 0)"""
# What is owed of everything, for `verify`, in words of its own.
PAYMENTS_OWED = f"""
    FROM transaction t WHERE t.lane = %(lane)s AND t.intake = {LIVE} AND t.id > %(above)s AND t.id <= %(upto)s
     AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1 AND d.id > %(above)s::bigint * 64)"""
LABELS_OWED = f"""
    FROM label l WHERE l.lane = %(lane)s AND l.id > %(above)s AND l.id <= %(upto)s
     AND NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)
     AND (l.import_job IS NULL OR NOT ({epochs.IMPORTED_LABEL}))"""
# Rows between ranges of ids, one after the other.
_IN_GAPS = """
    FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS gap (first, last)
   CROSS JOIN LATERAL (SELECT * FROM {table} WHERE id BETWEEN gap.first AND gap.last OFFSET 0) {name}
   WHERE {where}"""
SEEN = np.dtype([("id", "i8"), ("done", "b1"), ("claimable", "b1"), ("asleep", "b1")])

# Statements of the lane's session. A cursor that another owner moved is a division by zero: an error, not an answer, so
# that what follows in the same message is not run.
_RELEASE = "(SELECT r.id FROM scoring_release r WHERE r.lane_id = c.lane ORDER BY r.id DESC LIMIT 1)"
PREPARED = f"""
    SET plan_cache_mode = force_generic_plan;
    PREPARE lane_open (smallint) AS
        SELECT c.epoch, c.seq, uuid_send(c.token), {_RELEASE} FROM lane_cursor c WHERE c.lane = $1 FOR UPDATE;
    PREPARE lane_move (smallint, uuid, integer, bigint, uuid) AS
        WITH moved AS (
            UPDATE lane_cursor SET epoch = $3, seq = $4, token = $5 WHERE lane = $1 AND token = $2 RETURNING 1)
        SELECT 1 / count(*) FROM moved"""
OPENED_AND_KEPT = f"""
    SELECT c.epoch, c.seq, uuid_send(c.token), {_RELEASE}, sent.id, won.id IS NOT NULL
      FROM lane_cursor c, sent LEFT JOIN won USING (id) WHERE c.lane = $1 ORDER BY sent.place"""


class LaneTaken(Exception):
    """Another session owns the lane: there is nothing to do here."""


class LaneLost(Exception):
    """The session or the history is not what the memory thinks it is: close, own again, rebuild."""


class UnknownLane(Exception):
    """There is no such lane."""


class NotNow(Exception):
    """This claim cannot be taken in as it is; nothing was touched, the session and the memory stand."""


class KeysHeld(NotNow):
    """Another ingest holds a key of a waiting request's payment: its web process will keep the payment itself."""


class Standing(NamedTuple):
    """A point of a lane's history; equal numbers with another token are another history."""

    epoch: int
    seq: int
    token: bytes


@dataclass
class Claim:
    """What the owner wants to take in with one commit. Ids may be decided already, or another lane's: judging looks."""

    payments: np.ndarray
    labels: np.ndarray
    bodies: list[ring.Body] = field(default_factory=list)
    tries: int = 0  # how often judging it failed
    fallback: bool = False  # judged without features, model and rules, because it failed twice

    def __bool__(self) -> bool:
        return bool(len(self.payments) or len(self.labels) or self.bodies)


@dataclass
class Commit:
    """One commit under way: the memory is its own until it is answered; `to` says where the cursor will stand."""

    cursor: Any
    few: few.Few
    memory: Profiles
    before: Standing
    release_id: int | None  # in force, read under the lane's lock
    inserted: Inserted | None = None  # what keeping the payments of waiting requests came to
    token: bytes = field(default_factory=lambda: os.urandom(16))
    after: Standing | None = None  # None: there was nothing to take in, roll back
    writes: list[str] = field(default_factory=list)  # statements that are sent together with COMMIT
    payments: np.ndarray = field(default_factory=lambda: np.empty(0, "i8"))  # decided by this commit
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, "i8"))  # taken in by it

    def store(self, table: str, columns: Mapping[str, Column], *, beside: Callable[[], None] | None = None) -> None:
        """Append rows, see `binary.store`: many by COPY now, few by a statement that goes with the COMMIT.

        `beside` is done in any case, and while Postgres takes the rows in where these are many.
        """
        n = next(len(values) for _, values in columns.values() if not binary.is_scalar(values))
        if n > few.FEW:
            binary.store(self.cursor, table, columns, beside=beside)
            return
        if n:
            self.writes.append(self.few.insert(table, columns))
        if beside is not None:
            beside()

    def to(self, seq: int, *, epoch: int | None = None) -> None:
        """Move the cursor to `seq` at the end."""
        self.after = Standing(self.before.epoch if epoch is None else epoch, seq, self.token)


class Fence(NamedTuple):
    """All ids up to `last` belong to ingests whose xids are below `xid`."""

    last: int
    xid: str


@dataclass
class Sweep:
    """Finds what no ring told, in one id sequence, and moves its mark when nothing below the fence is owed.

    `known` are ids above the mark that this owner knows to be dealt with, because it did so or saw it: that never
    changes again, so only the gaps between them are looked at. Under load there is next to nothing in them. What is
    owed but `asleep`, because only the next epoch can take it in, holds the mark, but need not be looked at again.
    """

    column: str  # of lane_cursor
    sequence: str
    seen: str  # what is visible between ranges of ids, as SEEN
    owed: str  # what of it is owed
    mark: int = 0
    fence: Fence | None = None
    resume: int | None = None  # how far the whole sweep that is under way has come
    whole_at: float = -math.inf
    whole_took: float = 0.0
    newest: list[tuple[float, int]] = field(default_factory=list)
    known: Ids = field(default_factory=Ids)
    asleep: Ids = field(default_factory=Ids)

    @property
    def due(self) -> bool:
        """Whether everything above the mark must be looked at (again, or further); at most a tenth of the time."""
        return self.resume is not None or time.monotonic() - self.whole_at >= max(WHOLE_SECONDS, 10 * self.whole_took)

    def find(self, cursor: Any, lane_id: int, imports: list[int], waiting: Iterable[Range] = ()) -> np.ndarray:
        """Ids that are visible and owed, ascending: among the newest, and of one step of a whole sweep if one is due.

        Those of `waiting`, which will be claimed anyway, are left out.
        """
        last, whole = self._last(cursor), self.due
        newest = self._newest(last)
        gaps = self._gaps((self.mark if self.resume is None else self.resume) if whole else newest, last, waiting)
        step = first_of(gaps, STEP) if whole else gaps
        began = time.monotonic()
        ids = self._look(cursor, lane_id, imports, step + self._beyond(step, newest, last, waiting) if whole else step)
        if whole:
            self.whole_took = (self.whole_took if self.resume is not None else 0.0) + time.monotonic() - began
            self.resume = step[-1][1] if step and step[-1] != gaps[-1] else None
            self.whole_at = time.monotonic()
        return ids

    def _beyond(self, step: list[Range], newest: int, last: int, waiting: Iterable[Range]) -> list[Range]:
        """The newest gaps, where a step of a whole sweep ends before them: a mark far behind delays nobody."""
        return self._gaps(max(newest, step[-1][1] if step else newest), last, waiting)

    def _gaps(self, above: int, upto: int, waiting: Iterable[Range]) -> list[Range]:
        """The ranges of (above, upto] that are neither known nor waiting nor asleep."""
        expected = Ids()
        for first, last in (*waiting, *zip(self.asleep.firsts, self.asleep.lasts, strict=True)):
            expected.add(first, last)
        return [part for first, last in self.known.gaps(above, upto) for part in expected.gaps(first - 1, last)]

    def _look(self, cursor: Any, lane_id: int, imports: list[int], gaps: list[Range]) -> np.ndarray:
        """What is owed and may be claimed between `gaps`; what is found to be dealt with is known from now on."""
        if not gaps:
            return np.empty(0, "i8")
        seen = binary.fetch(cursor, self.seen, _between(gaps, lane_id, imports), SEEN)
        self.known.add_all(seen["id"][seen["done"]])
        self.asleep.add_all(seen["id"][seen["asleep"] & ~seen["done"]])
        return np.sort(seen["id"][seen["claimable"] & ~seen["done"]])

    def move_mark(self, cursor: Any, lane_id: int, imports: list[int], token: bytes) -> None:
        """Draw a fence, or move the mark towards the one that was drawn once it is passed and nothing below is owed.

        Not before the gaps are few: a look at millions of ids would stand in the way of decisions. A mark that is lost
        in a crash is found again, so that nobody waits for its commit.
        """
        if self.fence is None:
            self.fence = self._draw(cursor)
            return
        gaps = self.known.gaps(self.mark, self.fence.last)
        near = first_of(gaps, STEP)
        upto = self.fence.last if near == gaps else near[-1][1]
        cursor.execute(
            f"SET LOCAL synchronous_commit = off; UPDATE lane_cursor SET {self.column} = greatest({self.column},"
            " %(upto)s) WHERE lane = %(lane)s AND token = %(token)s::uuid"
            " AND pg_snapshot_xmin(pg_current_snapshot()) >= %(xid)s::xid8"
            f" AND NOT EXISTS (SELECT {self.owed}) RETURNING {self.column}",
            {
                **_between(near, lane_id, imports),
                "upto": upto,
                "token": str(UUID(bytes=token)),
                "xid": self.fence.xid,
            },
        )
        if row := cursor.fetchone():
            self.mark = row[0]
            self.fence = self.fence if self.mark < self.fence.last else None
            self.known.forget(self.mark)
            self.asleep.forget(self.mark)

    def _draw(self, cursor: Any) -> Fence | None:
        """The last id drawn, and only then, in a statement of its own, a fresh xid; None if the mark is there."""
        last = self._last(cursor)
        if last <= self.mark:
            return None
        cursor.execute("SELECT pg_current_xact_id()::text")
        return Fence(last, cursor.fetchone()[0])

    def _last(self, cursor: Any) -> int:
        """The last id drawn. A fresh sequence says 1 before 1 is drawn; that id must not count as drawn."""
        cursor.execute(f"SELECT last_value - (NOT is_called)::int FROM {self.sequence}")
        return cursor.fetchone()[0]

    def _newest(self, last: int) -> int:
        """The id above which all were drawn a moment ago, or since the sweep before; at first, the last few."""
        now = time.monotonic()
        self.newest.append((now, last if self.newest else last - STEP))
        while len(self.newest) > 1 and self.newest[1][0] < now - NEWEST_WINDOW:
            self.newest.pop(0)
        return max(self.mark, self.newest[0][1])


def _between(gaps: list[Range], lane_id: int, imports: list[int]) -> dict[str, Any]:
    """Parameters of `_IN_GAPS`."""
    firsts, lasts = [gap[0] for gap in gaps], [gap[1] for gap in gaps]
    return {"lane": lane_id, "imports": imports, "firsts": firsts, "lasts": lasts}


def _gap_queries(table: str, name: str, where: str, done: str, claimable: str, asleep: str) -> tuple[str, str]:
    """The two selects of a sweep over `table`: what is seen, and what is owed."""
    inside = _IN_GAPS.format(table=table, name=name, where=where)
    return f"SELECT {name}.id, {done}, {claimable}, {asleep} {inside}", f"{inside} AND NOT {done}"


def payments_sweep() -> Sweep:
    """The sweep over payments without a decision."""
    queries = _gap_queries("transaction", "t", OF_LANE, DECIDED, "true", "false")
    return Sweep("mark", "transaction_id_seq", *queries)


def labels_sweep() -> Sweep:
    """The sweep over labels without a row of the log."""
    queries = _gap_queries("label", "l", "l.lane = %(lane)s", LOGGED, TAKEN_IN, ASLEEP)
    return Sweep("label_mark", "label_id_seq", *queries)


class Lane:
    """One lane in the hands of its owner. Made by `own_lane`; useless after its session ended."""

    def __init__(self, lane_id: int, connection: Any, memory: Profiles | None) -> None:
        self.id = lane_id
        self.connection = connection
        self.cursor = connection.cursor()
        self.few = few.Few(self.cursor)
        self.memory = memory  # None while it does not equal the cursor
        self._imports: list[int] = []
        self.payments = payments_sweep()
        self.labels = labels_sweep()
        self.backlog: list[ring.Range] = []
        self.ringing = True  # whether Valkey answered last
        self.swept_at = 0.0
        self.saved = (time.monotonic(), 0)
        self.saving: Snapshot | None = None
        self.save_again_at = self.switch_again_at = -math.inf  # after the disk failed: left alone until then

    @property
    def imports(self) -> list[int]:
        """The import jobs whose payments stand in the epoch's base."""
        return self._imports

    @imports.setter
    def imports(self, jobs: list[int]) -> None:
        self._imports = jobs
        self.labels.known.clear()  # which labels need no row of the log, or must wait, hangs on them
        self.labels.asleep.clear()

    # --- taking over --------------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Steps "Owner" 2 and 3: the lock, then the cursor, then a memory that equals it."""
        self.cursor.execute("SELECT pg_try_advisory_lock(1, %s)", [self.id])
        if not self.cursor.fetchone()[0]:
            raise LaneTaken(f"lane {self.id} has an owner")
        self.cursor.execute(PREPARED)
        self.few.prepare_keeping(OPENED_AND_KEPT)
        standing = self._standing()
        if self.memory is None or standing_of(self.memory) != standing:
            self.memory = None
            self.memory = self.rebuild(standing)
        else:
            self.saved = (time.monotonic(), standing.seq)
        self.imports = epochs.imports_of(self.cursor, self.id, standing.epoch)

    def let_go(self) -> None:
        """Give the lock back. Postgres does when a session is over, but a moment after its client has gone: whoever
        comes in that moment would be told that the lane is taken.
        """
        with suppress(psycopg2.Error):  # of a session that is lost, the lock is given back already
            self.cursor.execute(LET_GO, [self.id])

    def _standing(self) -> Standing:
        self.cursor.execute(
            "INSERT INTO lane_cursor (lane, epoch, seq, token, mark, label_mark)"
            " SELECT id, 0, 0, gen_random_uuid(), 0, 0 FROM transactions_lane WHERE id = %s ON CONFLICT DO NOTHING",
            [self.id],
        )
        self.cursor.execute(
            "SELECT epoch, seq, uuid_send(token), mark, label_mark FROM lane_cursor WHERE lane = %s", [self.id]
        )
        row = self.cursor.fetchone()
        if row is None:
            raise UnknownLane(f"there is no lane {self.id}")
        self.payments.mark, self.labels.mark = row[3], row[4]
        return Standing(row[0], row[1], bytes(row[2]))

    def rebuild(self, standing: Standing) -> Profiles:
        """The profiles at `standing`: the newest snapshot of this history, else the epoch's base; then the log."""
        started = time.monotonic()
        memory = newest_snapshot(self.cursor, self.id, standing) or epochs.base(self.cursor, self.id, standing.epoch)
        found = memory.seq
        self.saved = (time.monotonic(), found)  # after a long replay a snapshot is due: the next one shall be short
        epochs.log_replay(self.cursor, memory, self.id, upto=standing.seq)
        if standing.seq == 0:
            memory.token = standing.token
        if standing_of(memory) != standing:
            raise LaneLost(f"the log of lane {self.id} does not lead to its cursor")
        seconds = time.monotonic() - started
        log.info("lane %s rebuilt from seq %s to %s in %.1f s", self.id, found, memory.seq, seconds)
        return memory

    # --- one commit ---------------------------------------------------------------------------------------------------

    @contextmanager
    def commit(self, keeping: Prepared | None = None) -> Iterator[Commit]:
        """Steps "Judge" 1, 2 and 5 around the work: the cursor row locked and compared, then moved on, then COMMIT.

        The few payments of waiting requests that are to be kept go in with the same message. Whatever is raised in
        between ends the session, for only the cursor tells then whether the commit happened; the memory is dropped,
        since the kernel may have advanced it. `NotNow`, raised before the kernel runs, keeps both.
        """
        memory, self.memory = self.memory, None
        try:
            commit = self._begin(memory, keeping)
            yield commit
            self._end(commit)
        except NotNow:
            self.cursor.execute("ROLLBACK")
            self.memory = memory
            raise
        except BaseException:
            with suppress(psycopg2.Error):
                self.connection.close()
            raise
        self.memory = commit.memory

    def _begin(self, memory: Profiles | None, keeping: Prepared | None) -> Commit:
        """One message, one round trip: BEGIN, the xid, the cursor row locked, and then what was to be kept.

        The xid stands before the ids, as "Ingest" wants, since statements of one message run one after the other. That
        the cursor is compared only after the payments went in loses nothing: if it differs, all of it is rolled back.
        """
        order: list[int] = []
        message = f"BEGIN; SELECT pg_current_xact_id(); EXECUTE lane_open ({self.id})"
        if keeping is not None:
            order = key_order(keeping)
            message += f"; SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'; {self.few.keep(keeping, order)}"
        try:
            self.cursor.execute(message)
        except psycopg2.errors.LockNotAvailable as error:
            raise KeysHeld(str(error)) from error
        rows = self.cursor.fetchall()
        epoch, seq, token, release_id = rows[0][:4] if rows else (0, 0, b"", None)
        if memory is None or standing_of(memory) != (epoch, seq, bytes(token)):
            raise LaneLost(f"lane {self.id} went on without this owner")
        commit = Commit(self.cursor, self.few, memory, standing_of(memory), release_id)
        if keeping is not None:
            commit.inserted = few.kept(self.cursor, keeping, order, [row[4:] for row in rows])
            commit.writes.append("SET LOCAL lock_timeout = 0")
        return commit

    def _end(self, commit: Commit) -> None:
        """One message: what is still to be written, the cursor compared and moved, COMMIT.

        `lane_move` raises when it finds no row with the old token, and no statement runs after one that raised: so the
        answer to the comparison is heard before COMMIT is, though both were said in one breath.
        """
        if commit.after is None:
            self.cursor.execute("ROLLBACK")
            return
        after, old, new = commit.after, commit.before.token.hex(), commit.after.token.hex()
        move = f"EXECUTE lane_move ({self.id}, '{old}', {after.epoch}, {after.seq}, '{new}')"
        try:
            self.cursor.execute("; ".join([*commit.writes, move, "COMMIT"]))
        except psycopg2.errors.DivisionByZero as error:
            raise LaneLost(f"the cursor of lane {self.id} was moved by somebody else") from error
        if self.cursor.statusmessage != "COMMIT":
            raise LaneLost(f"lane {self.id} could not commit: {self.cursor.statusmessage}")
        commit.memory.epoch, commit.memory.seq, commit.memory.token = after
        self.payments.known.add_all(commit.payments)
        self.labels.known.add_all(commit.labels)

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self, *, patience: float) -> Claim:
        """What to take in next: what was rung and what the sweep finds; waits up to `patience` seconds for a ring."""
        bodies = self._listen(0.0 if self.backlog or self._stepping else patience)
        if self._sweep_due():
            self.sweep()
        return Claim(self._take("payments"), self._take("labels"), bodies)

    def sweep(self) -> int:
        """Put what is owed and was not told on the backlog, and move the marks; how many ids were found."""
        self.swept_at = time.monotonic()
        found = 0
        for kind, sweep in (("payments", self.payments), ("labels", self.labels)):
            waiting = [(each.first, each.last) for each in self.backlog if each.kind == kind]
            ids = sweep.find(self.cursor, self.id, self.imports, waiting)
            self.backlog += [ring.Range(kind, first, last) for first, last in runs(ids)]
            found += len(ids)
        self.backlog = _merged(self.backlog)
        self.move_marks()
        return found

    def sweep_all(self) -> None:
        """Sweep everything above the marks, now, in steps."""
        self.forget_sweeps()
        self.sweep()
        while self._stepping:
            self.sweep()

    def forget_sweeps(self) -> None:
        """Look at everything above the marks again soon: a claim was not taken in, or more may be taken in now."""
        self.payments.whole_at = self.labels.whole_at = -math.inf

    @property
    def _stepping(self) -> bool:
        return self.payments.resume is not None or self.labels.resume is not None

    def _sweep_due(self) -> bool:
        """Each second; at once where a whole sweep has more to look at, and often while nobody rings."""
        if self._stepping and not self.backlog:
            return True
        return time.monotonic() - self.swept_at >= (NEWEST_SECONDS if self.ringing else POLL_SECONDS)

    def move_marks(self) -> None:
        """Draw or pass the fences of payments and labels."""
        if self.memory is None:
            raise LaneLost(f"lane {self.id} has no memory")
        if self._stepping:
            return  # what is above the marks is not known yet
        for kind, sweep in (("payments", self.payments), ("labels", self.labels)):
            if sweep.fence is None or not self._waits_below(kind, sweep, sweep.fence.last):
                sweep.move_mark(self.cursor, self.id, self.imports, self.memory.token)

    def _waits_below(self, kind: str, sweep: Sweep, fence: int) -> bool:
        """Whether the backlog holds something that is still to be dealt with up to `fence`: no need to ask Postgres."""
        own = [each for each in self.backlog if each.kind == kind]
        return any(sweep.known.gaps(each.first - 1, min(each.last, fence)) for each in own)

    def _listen(self, patience: float) -> list[ring.Body]:
        """Take what was rung: ranges go to the backlog, bodies whose askers still wait are returned."""
        try:
            took = ring.pop(self.id, patience=patience, most=MOST_MESSAGES) if patience else self._rung()
            self.ringing = True
        except ring.RingGone:
            self.ringing = False
            time.sleep(min(patience, POLL_SECONDS))
            return []
        now = time.time()
        self.backlog += [message for message in took if isinstance(message, ring.Range)]
        return [message for message in took if isinstance(message, ring.Body) and message.deadline > now]

    def _rung(self) -> list[ring.Message]:
        """What was rung already, without waiting."""
        return ring.drain(self.id, most=MOST_MESSAGES)

    def _take(self, kind: str) -> np.ndarray:
        """Up to MOST_ROWS distinct ids off the backlog, in its order."""
        taken, left, room = [], [], MOST_ROWS
        for each in self.backlog:
            if each.kind != kind or not room:
                left.append(each)
                continue
            last = min(each.last, each.first + room - 1)
            taken.append(np.arange(each.first, last + 1))
            room -= last + 1 - each.first
            if last < each.last:
                left.append(ring.Range(kind, last + 1, each.last))
        self.backlog = left
        return np.unique(np.concatenate(taken)) if taken else np.empty(0, "i8")

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def save_if_due(self, *, now: bool = False) -> None:
        """Begin a snapshot every so many rows or SNAPSHOT_SECONDS, or write one `now`, if anything happened since.

        It is copied and written beside the work, see `go_on_saving`; `now` here, and only then does it block.
        """
        if not now:
            self.heed()
        self.end_saving(LONGEST_SAVING if now else 0.0)
        if self.memory is None or self.memory.seq == self.saved[1] or self.saving is not None:
            return
        at, seq = self.saved
        old = self.memory.seq - seq >= settings.SNAPSHOT_ROWS or time.monotonic() - at >= SNAPSHOT_SECONDS
        if now:
            self._save(self.memory)
        elif old and time.monotonic() >= self.save_again_at:
            try:
                self.saving = Snapshot(self.memory, snapshot_folder(self.id), spare=_spare(self.id))
            except OSError as error:
                self._not_saved(str(error))
            self.go_on_saving()

    def go_on_saving(self) -> None:
        """Between two commits: hand what changed to the snapshot under way, or take note of its end."""
        if self.saving is None or self.memory is None:
            return
        self.saving.step(self.memory)
        if self.saving.over:
            self._saved(self.saving)

    def end_saving(self, patience: float) -> None:
        """Take note of the snapshot under way if it ends within `patience` seconds.

        With patience, nothing more is handed to it: unless its moment is past already, it is dropped.
        """
        if self.saving is None:
            return
        if patience:
            self.saving.drop()
            self.saving.thread.join(patience)
        if self.saving.over:
            self._saved(self.saving)
        elif time.monotonic() - self.saving.began > LONGEST_SAVING and self.save_again_at < time.monotonic():
            self._not_saved("it is still being written")

    def _save(self, memory: Profiles) -> None:
        """A snapshot only shortens a rebuild: where the disk is full, the lane goes on without."""
        try:
            save_snapshot(self.id, memory)
        except OSError as error:
            self._not_saved(str(error))
        else:
            self.saved = (time.monotonic(), memory.seq)

    def _saved(self, snapshot: Snapshot) -> None:
        self.saving = None
        if snapshot.error is not None:
            self._not_saved(str(snapshot.error))
        elif snapshot.seq is not None:
            self.saved = (time.monotonic(), snapshot.seq)
            _drop_old(self.id)

    def _not_saved(self, why: str) -> None:
        log.error("no snapshot of lane %s could be written: %s", self.id, why)
        self.save_again_at = time.monotonic() + DISK_SECONDS

    def heed(self) -> None:
        """Do what an operator wished by a file beside the snapshots: save the memory now, or drop it and rebuild it."""
        save, rebuild = (wish_file(self.id, wish) for wish in (SAVE, REBUILD))
        if self.memory is not None and save.exists():
            self._save(self.memory)
            save.unlink(missing_ok=True)
        if rebuild.exists():
            drop_snapshots(self.id)
            rebuild.unlink(missing_ok=True)
            self.memory = None
            raise LaneLost(f"lane {self.id} was asked to rebuild its memory")


def standing_of(memory: Profiles) -> Standing:
    """Which point of which history the profiles are."""
    return Standing(memory.epoch, memory.seq, bytes(memory.token))


def connect() -> Any:
    """A lane's own connection: outside Django's care, so that nothing reconnects it silently; autocommit between
    commits.

    Postgres itself ends the session, and with it the lock, of an owner that hangs or vanished.
    """
    db = settings.DATABASES["default"]
    connection = psycopg2.connect(
        dbname=db["NAME"],
        user=db["USER"] or None,
        password=db["PASSWORD"] or None,
        host=db["HOST"] or None,
        port=db["PORT"] or None,
        application_name=f"lane of {os.getpid()}",
        keepalives=1,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
        **db.get("OPTIONS", {}),
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            "SET idle_session_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s';"
            " SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'; SET timezone = 'UTC'"
        )
    return connection


@cache
def _warm_kernel() -> None:
    """Compile the kernel, once for each process, before a lane is taken: its session must not idle for a minute."""
    features.warm_up()


LET_GO = "SELECT pg_advisory_unlock(1, %s)"

OWNER = """
    SELECT substring(a.application_name FROM '[0-9]+')::int FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.classid = 1 AND l.objid = %s AND l.granted"""


def owner_of(cursor: Any, lane_id: int) -> int | None:
    """The id of the process that owns the lane, on whichever machine; None while nobody does."""
    cursor.execute(OWNER, [lane_id])
    row = cursor.fetchone()
    return row[0] if row else None


def stand_by(lane_id: int, until: threading.Event, patience: float = 30.0) -> None:
    """Wait until nobody owns the lane, at most `patience` seconds or until `until` is set.

    One session asks again and again: waiting inside Postgres would hold a snapshot, and so its clean-up, back. A lost
    session ends the wait: whoever tries to own the lane then meets the trouble, and knows how to rest.
    """
    end = time.monotonic() + patience
    lost = psycopg2.OperationalError, psycopg2.InterfaceError
    with suppress(*lost), closing(connect()) as connection, connection.cursor() as cursor:
        while not until.is_set() and time.monotonic() < end:
            cursor.execute("SELECT pg_try_advisory_lock(1, %s)", [lane_id])
            if cursor.fetchone()[0]:
                cursor.execute(LET_GO, [lane_id])
                return
            until.wait(STAND_BY_SECONDS)


@contextmanager
def own_lane(lane_id: int, *, memory: Profiles | None = None) -> Iterator[Lane]:
    """Own the lane for the length of the block; `memory` of an earlier ownership is kept if it still equals the cursor.

    Raises LaneTaken, UnknownLane, LaneLost, psycopg2.Error.
    """
    _warm_kernel()
    connection = connect()
    try:
        lane = Lane(lane_id, connection, memory)
        lane.take_over()
        try:
            yield lane
        finally:
            lane.end_saving(LONGEST_SAVING)
            lane.let_go()
    finally:
        connection.close()


# --- snapshots on disk ------------------------------------------------------------------------------------------------


def snapshot_folder(lane_id: int) -> Path:
    """Where the lane's snapshots lie."""
    return settings.PROFILE_DIR / f"lane-{lane_id}" / "snapshots"


SAVE, REBUILD = "save", "rebuild"  # what an operator may wish of a running owner


def wish_file(lane_id: int, wish: str) -> Path:
    """The file whose being there tells the owner a wish; gone once it is fulfilled."""
    return snapshot_folder(lane_id) / f"{wish}.wish"


def drop_snapshots(lane_id: int) -> int:
    """Delete the lane's snapshots; how many there were. Its memory is then rebuilt from the base and the log."""
    found = list(snapshot_folder(lane_id).glob("*.profiles"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def save_snapshot(lane_id: int, memory: Profiles) -> Path:
    """Write the memory aside and put it in place whole; older snapshots than the last few go."""
    path = snapshot_folder(lane_id) / snapshots.name_of(memory)
    snapshots.save(memory, path, spare=_spare(lane_id))
    _drop_old(lane_id)
    return path


def _spare(lane_id: int) -> Path | None:
    """The oldest snapshot, once there are as many as are kept."""
    found = sorted(snapshot_folder(lane_id).glob("*.profiles"))
    return found[0] if len(found) >= SNAPSHOTS_KEPT else None


def _drop_old(lane_id: int) -> None:
    folder = snapshot_folder(lane_id)
    torn = [aside for aside in folder.glob("*.aside") if time.time() - aside.stat().st_mtime > LONGEST_SAVING]
    for old in (*sorted(folder.glob("*.profiles"))[:-SNAPSHOTS_KEPT], *torn):
        old.unlink(missing_ok=True)


def newest_snapshot(cursor: Any, lane_id: int, standing: Standing) -> Profiles | None:
    """The newest snapshot on this disk that belongs to this history, loaded; None if there is none."""
    for path in sorted(snapshot_folder(lane_id).glob("*.profiles"), reverse=True):
        found = _named(path)
        if found is None or found.epoch != standing.epoch or not belongs(cursor, lane_id, found):
            continue
        try:
            memory = snapshots.load(path)
        except (OSError, BadSnapshot) as error:  # torn, or of another layout: an older one or the base will do
            log.warning("snapshot %s cannot be used: %s", path.name, error)
            continue
        if standing_of(memory) == found:
            return memory
    return None


def _named(path: Path) -> Standing | None:
    try:
        epoch, seq, token = path.stem.split("-")
        return Standing(int(epoch), int(seq), bytes.fromhex(token))
    except ValueError:
        return None


def belongs(cursor: Any, lane_id: int, standing: Standing) -> bool:
    """Whether `standing` is the last row of a commit in the lane's log: only then is it a point of this history."""
    cursor.execute(
        "SELECT 1 FROM lane_log g WHERE g.lane = %(lane)s AND g.seq = %(seq)s AND g.epoch = %(epoch)s"
        " AND g.token = %(token)s::uuid"
        " AND NOT EXISTS (SELECT FROM lane_log n WHERE (n.lane, n.seq, n.token) = (g.lane, g.seq + 1, g.token))",
        {
            "lane": lane_id,
            "epoch": standing.epoch,
            "seq": standing.seq,
            "token": str(UUID(bytes=standing.token)),
        },
    )
    return cursor.fetchone() is not None


def _merged(backlog: list[ring.Range]) -> list[ring.Range]:
    """The same ids, each once, ascending within a kind."""
    merged: list[ring.Range] = []
    for each in sorted(backlog, key=lambda one: (one.kind, one.first)):
        before = merged[-1] if merged else None
        if before and before.kind == each.kind and each.first <= before.last + 1:
            merged[-1] = ring.Range(each.kind, before.first, max(before.last, each.last))
        else:
            merged.append(each)
    return merged
