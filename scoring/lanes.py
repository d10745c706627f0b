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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg2
from django.conf import settings

from scoring import epochs, features
from scoring.profiles import BadSnapshot, Profiles
from transactions import ring
from transactions.codes import INTAKE

log = logging.getLogger(__name__)

MOST_ROWS = 4_000  # payments in one commit
MOST_MESSAGES = 512  # messages taken from the ring at once
NEWEST_SECONDS = 1.0  # between sweeps over the newest ids
WHOLE_SECONDS = 60.0  # between sweeps over everything above the mark
NEWEST_WINDOW = 15.0  # ids drawn in the last so many seconds are the newest
POLL_SECONDS = 0.1  # between looks into Postgres while Valkey is gone
SNAPSHOT_ROWS = 250_000
SNAPSHOT_SECONDS = 300.0
SNAPSHOTS_KEPT = 2
LIVE = INTAKE.code("live")

# Two sequences, two marks, one proof: what the sweep of payments does, the sweep of labels does with other words.
PAYMENTS_OWED = f"""
    FROM transaction t WHERE t.lane = %(lane)s AND t.intake = {LIVE} AND t.id > %(above)s AND t.id <= %(upto)s
     AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1 AND d.id > %(above)s::bigint * 64)"""
# Labels that came with imports stand in the epoch's base and need no row of the log.
LABELS_OWED = f"""
    FROM label l WHERE l.lane = %(lane)s AND l.id > %(above)s AND l.id <= %(upto)s
     AND NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)
     AND (l.import_job IS NULL OR NOT ({epochs.IMPORTED_LABEL}))"""
# A label is taken in only after its payment: judged by the log, or in the epoch's base.
TAKEN_IN = """
     AND (EXISTS (SELECT FROM decision d WHERE d.id = l.transaction_id * 64 + 1)
       OR EXISTS (SELECT FROM transaction b WHERE b.id = l.transaction_id AND b.import_job = ANY(%(imports)s)))"""
NEVER = 2**62


class LaneTaken(Exception):
    """Another session owns the lane: there is nothing to do here."""


class LaneLost(Exception):
    """The session or the history is not what the memory thinks it is: close, own again, rebuild."""


class UnknownLane(Exception):
    """There is no such lane."""


class NotNow(Exception):
    """This claim cannot be taken in as it is; nothing was touched, the session and the memory stand."""


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
    memory: Profiles
    before: Standing
    token: bytes = field(default_factory=lambda: os.urandom(16))
    after: Standing | None = None  # None: there was nothing to take in, roll back

    def to(self, seq: int, *, epoch: int | None = None) -> None:
        """Move the cursor to `seq` at the end."""
        self.after = Standing(self.before.epoch if epoch is None else epoch, seq, self.token)


class Fence(NamedTuple):
    """All ids up to `last` belong to ingests whose xids are below `xid`."""

    last: int
    xid: str


@dataclass
class Sweep:
    """Finds what no ring told, in one id sequence, and moves its mark when nothing below the fence is owed."""

    column: str  # of lane_cursor
    sequence: str
    owed: str
    claimable: str
    step: int  # ids looked at in one statement of a whole sweep
    mark: int = 0
    fence: Fence | None = None
    resume: int | None = None  # how far the whole sweep that is under way has come
    whole_at: float = -math.inf
    newest: list[tuple[float, int]] = field(default_factory=list)

    @property
    def due(self) -> bool:
        """Whether everything above the mark must be looked at (again, or further)."""
        return self.resume is not None or time.monotonic() - self.whole_at >= WHOLE_SECONDS

    def find(self, cursor: Any, lane_id: int, imports: list[int]) -> np.ndarray:
        """Ids that are visible and owed, ascending: one step of a whole sweep if one is due, else among the newest."""
        last, whole = self._last(cursor), self.due
        newest = self._newest(last)
        above = (self.mark if self.resume is None else self.resume) if whole else newest
        upto = above + self.step if whole else NEVER
        query = f"SELECT id {self.owed} {self.claimable} ORDER BY id"
        cursor.execute(query, {"lane": lane_id, "above": above, "upto": upto, "imports": imports})
        ids = np.array([row[0] for row in cursor.fetchall()], "i8")
        if whole:
            self.resume = upto if upto < last else None
            self.whole_at = time.monotonic()
        return ids

    def move_mark(self, cursor: Any, lane_id: int, imports: list[int], token: bytes) -> None:
        """Draw a fence, or move the mark to the one that was drawn once it is passed and nothing below is owed."""
        if self.fence is None:
            self.fence = self._draw(cursor)
            return
        cursor.execute(
            f"UPDATE lane_cursor SET {self.column} = greatest({self.column}, %(upto)s) WHERE lane = %(lane)s"
            f" AND token = %(token)s::uuid AND pg_snapshot_xmin(pg_current_snapshot()) >= %(xid)s::xid8"
            f" AND NOT EXISTS (SELECT {self.owed}) RETURNING {self.column}",
            {
                "lane": lane_id,
                "imports": imports,
                "above": self.mark,
                "upto": self.fence.last,
                "token": str(UUID(bytes=token)),
                "xid": self.fence.xid,
            },
        )
        if row := cursor.fetchone():
            self.mark, self.fence = row[0], None

    def _draw(self, cursor: Any) -> Fence | None:
        """The last id drawn, and only then, in a commit of its own, a fresh xid; None if the mark is there."""
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
        """The id above which all were drawn a moment ago, or since the sweep before this one."""
        now = time.monotonic()
        self.newest.append((now, last))
        while len(self.newest) > 1 and self.newest[1][0] < now - NEWEST_WINDOW:
            self.newest.pop(0)
        return max(self.mark, self.newest[0][1])


def payments_sweep() -> Sweep:
    """The sweep over payments without a decision."""
    return Sweep("mark", "transaction_id_seq", PAYMENTS_OWED, "", step=50_000)


def labels_sweep() -> Sweep:
    """The sweep over labels without a row of the log."""
    return Sweep("label_mark", "label_id_seq", LABELS_OWED, TAKEN_IN, step=10_000)


class Lane:
    """One lane in the hands of its owner. Made by `own_lane`; useless after its session ended."""

    def __init__(self, lane_id: int, connection: Any, memory: Profiles | None) -> None:
        self.id = lane_id
        self.connection = connection
        self.cursor = connection.cursor()
        self.memory = memory  # None while it does not equal the cursor
        self.imports: list[int] = []  # the import jobs whose payments stand in the epoch's base
        self.payments = payments_sweep()
        self.labels = labels_sweep()
        self.backlog: list[ring.Range] = []
        self.ringing = True  # whether Valkey answered last
        self.swept_at = 0.0
        self.saved = (time.monotonic(), 0)

    # --- taking over --------------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Steps "Owner" 2 and 3: the lock, then the cursor, then a memory that equals it."""
        self.cursor.execute("SELECT pg_try_advisory_lock(1, %s)", [self.id])
        if not self.cursor.fetchone()[0]:
            raise LaneTaken(f"lane {self.id} has an owner")
        standing = self._standing()
        if self.memory is None or standing_of(self.memory) != standing:
            self.memory = None
            self.memory = self.rebuild(standing)
        self.saved = (time.monotonic(), self.memory.seq)
        self.imports = epochs.imports_of(self.cursor, self.id, standing.epoch)

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
    def commit(self) -> Iterator[Commit]:
        """Steps "Judge" 1 and 5 around the work: the cursor row locked and compared, then moved on, then COMMIT.

        Whatever is raised in between ends the session, for only the cursor tells then whether the commit happened; the
        memory is dropped, since the kernel may have advanced it. `NotNow`, raised before the kernel runs, keeps both.
        """
        memory, self.memory = self.memory, None
        try:
            commit = self._begin(memory)
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

    def _begin(self, memory: Profiles | None) -> Commit:
        self.cursor.execute(
            "BEGIN; SELECT pg_current_xact_id();"
            " SELECT epoch, seq, uuid_send(token) FROM lane_cursor WHERE lane = %s FOR UPDATE",
            [self.id],
        )
        epoch, seq, token = self.cursor.fetchone()
        if memory is None or standing_of(memory) != (epoch, seq, bytes(token)):
            raise LaneLost(f"lane {self.id} went on without this owner")
        return Commit(self.cursor, memory, standing_of(memory))

    def _end(self, commit: Commit) -> None:
        if commit.after is None:
            self.cursor.execute("ROLLBACK")
            return
        before, after = commit.before, commit.after
        self.cursor.execute(
            "UPDATE lane_cursor SET epoch = %s, seq = %s, token = %s::uuid WHERE lane = %s AND token = %s::uuid",
            [after.epoch, after.seq, str(UUID(bytes=after.token)), self.id, str(UUID(bytes=before.token))],
        )
        if self.cursor.rowcount != 1:
            raise LaneLost(f"the cursor of lane {self.id} was moved by somebody else")
        self.cursor.execute("COMMIT")
        commit.memory.epoch, commit.memory.seq, commit.memory.token = after

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
            ids = sweep.find(self.cursor, self.id, self.imports)
            self.backlog += _ranges(kind, ids)
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
        self.payments.move_mark(self.cursor, self.id, self.imports, self.memory.token)
        self.labels.move_mark(self.cursor, self.id, self.imports, self.memory.token)

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
        """Write a snapshot every SNAPSHOT_ROWS or SNAPSHOT_SECONDS, or `now`, if anything happened since."""
        if self.memory is None or self.memory.seq == self.saved[1]:
            return
        at, seq = self.saved
        if now or self.memory.seq - seq >= SNAPSHOT_ROWS or time.monotonic() - at >= SNAPSHOT_SECONDS:
            save_snapshot(self.id, self.memory)
            self.saved = (time.monotonic(), self.memory.seq)


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
        application_name="lane",
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
        yield lane
    finally:
        connection.close()


# --- snapshots on disk ------------------------------------------------------------------------------------------------


def snapshot_folder(lane_id: int) -> Path:
    """Where the lane's snapshots lie."""
    return settings.PROFILE_DIR / f"lane-{lane_id}" / "snapshots"


def save_snapshot(lane_id: int, memory: Profiles) -> Path:
    """Write the memory aside and put it in place whole; older snapshots than the last few go."""
    folder = snapshot_folder(lane_id)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{memory.epoch:06d}-{memory.seq:014d}-{bytes(memory.token).hex()}.profiles"
    memory.save(path)
    for old in sorted(folder.glob("*.profiles"))[:-SNAPSHOTS_KEPT]:
        old.unlink(missing_ok=True)
    return path


def newest_snapshot(cursor: Any, lane_id: int, standing: Standing) -> Profiles | None:
    """The newest snapshot on this disk that belongs to this history, loaded; None if there is none."""
    for path in sorted(snapshot_folder(lane_id).glob("*.profiles"), reverse=True):
        found = _named(path)
        if found is None or found.epoch != standing.epoch or not belongs(cursor, lane_id, found):
            continue
        try:
            memory = Profiles.load(path)
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


def _ranges(kind: str, ids: np.ndarray) -> list[ring.Range]:
    """Sorted ids as ranges without gaps."""
    if not len(ids):
        return []
    cuts = np.flatnonzero(np.diff(ids) != 1) + 1
    return [ring.Range(kind, int(run[0]), int(run[-1])) for run in np.split(ids, cuts)]


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
