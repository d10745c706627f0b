"""Millions of decided payments, stored in minutes: `python -m benchmarks.fill --state FOLDER --stored 10_000_000`.

Rows go straight into the tables by COPY, as the lane would have left them: key, payment, detail, decision with the
kernel's own feature vectors, log, first sightings of pairs, cursor, mark, and the profiles as a snapshot. Only the
scores are made up: all low, so that nobody gets ten thousand cases to work on. `manage.py verify` finds nothing amiss,
with `--replay` too. Nothing else may run on the folder meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import crowd
from benchmarks.ground import Ground
from benchmarks.kit import numbers, options, say

BATCH = 40_000
PER_DAY = 150_000  # payments of the crowd in a day of its own clock: three by each customer
APPROVE_SCORES = 40
BANDS_FROM = (500, 700, 900)


@dataclass
class Batch:
    """Payments as facts with their ids, their documents, and the run number in their external ids."""

    facts: np.ndarray
    sheet: np.ndarray
    external_ids: np.ndarray
    customer_refs: np.ndarray


class Judge:
    """What is said of the payments that are filled in: nothing is stopped."""

    busy = 0.0  # share of the payments that a few customers make

    def outcomes(self, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outcome and score of each, as stored: made up, since the model knows nothing of the crowd."""
        from transactions.codes import OUTCOME

        scores = (facts["id"] * 7919 % APPROVE_SCORES).astype("i2")
        return np.full(len(facts), OUTCOME.code("approve"), "i2"), scores

    def also(self, cursor: Any, batch: Batch, seqs: np.ndarray, outcomes: np.ndarray, scores: np.ndarray) -> None:
        """What else belongs into the commit of the decisions."""


class Filler:
    """Makes payments of the crowd, with ids and times that go on from the last stored one."""

    def __init__(
        self, ground: Ground, *, payload: str = "minimal", seed: int = 1, ahead: int = 0, busy: float = 0.0
    ) -> None:
        self.ground, self.payload, self.busy = ground, crowd.Payload(payload), busy
        self.keys, self.rng = crowd.Keys(), np.random.default_rng(seed)
        self.lane_id, self.client_id = ground.lane.pk, ground.client.pk
        from transactions.facts import DAY

        self.step = DAY // PER_DAY
        self.clock = last_moment(ground, ahead)

    def make(self, cursor: Any, n: int) -> Batch:
        """`n` new payments, in order of id and time, a step of the crowd's clock after each other."""
        from transactions.facts import moment

        first = _draw_ids(cursor, n)
        picks = crowd.draw(n, self.rng, busy=self.busy)
        rows = crowd.facts(picks, self.keys, self.payload.name)
        rows["id"] = np.arange(first, first + n)
        rows["lane"], rows["client"] = self.lane_id, self.client_id
        rows["occurred_at"] = rows["received_at"] = self.clock + self.step * np.arange(1, n + 1)
        self.clock = int(rows["occurred_at"][-1])
        sheet = self.payload.sheet(picks, self.rng)
        at, span = (moment(int(rows["occurred_at"][place])) for place in (0, -1))
        # Runs of the HTTP benchmarks begin with an a, these do not.
        self.payload.stamp(sheet, 26**7 + first, at, span=span - at)
        places = self.payload.places
        (at_id, wide), (at_ref, wide_ref) = places["external_id"], places["customer/id"]
        ids, refs = sheet[:, at_id : at_id + wide].copy(), sheet[:, at_ref : at_ref + wide_ref].copy()
        return Batch(rows, sheet, ids, refs)

    def store(self, cursor: Any, batch: Batch) -> None:
        """The batch's payments, keys and details, in the caller's transaction."""
        from transactions import binary

        n, ids = len(batch.facts), batch.facts["id"]
        columns = binary.fixed(batch.facts)
        for name in ("occurred_at", "received_at", "original_at"):
            if name in columns:
                columns[name] = ("timestamptz", batch.facts[name])
        # A bytea of fixed width goes over the wire as a text does: no row is touched by Python.
        columns["external_id"], columns["customer_ref"] = ("bytea", batch.external_ids), ("bytea", batch.customer_refs)
        binary.store(cursor, "transaction", columns)
        hashes = np.frombuffer(self.rng.bytes(16 * n), "u1").reshape(n, 16)
        keys = {"id": ("int8", ids), "lane": ("int2", self.lane_id), "client": ("int4", self.client_id),
                "external_id": ("bytea", batch.external_ids), "body_hash": ("bytea", hashes)}  # fmt: skip
        binary.store(cursor, "transaction_key", keys)
        binary.store(cursor, "transaction_detail", {"id": ("int8", ids), "document": ("bytea", batch.sheet)})

    def owed(self, n: int) -> tuple[int, int]:
        """Store `n` payments that nobody was told of and that are owed a decision; their first and last id."""
        first = last = 0
        with self.ground.cursor() as cursor:
            for start in range(0, n, BATCH):
                cursor.execute("BEGIN")
                batch = self.make(cursor, min(BATCH, n - start))
                self.store(cursor, batch)
                cursor.execute("COMMIT")
                first, last = first or int(batch.facts["id"][0]), int(batch.facts["id"][-1])
        return first, last


def last_moment(ground: Ground, ahead: int) -> int:
    """Where the crowd's clock stands: at the last payment; at first, so that `ahead` more end a few minutes ago.

    Its clock is not ours: at tens of thousands a second each customer would pay every other second, which no
    fraud desk should let pass. So the crowd lives its days faster, three payments of each customer in one.
    """
    from datetime import UTC, datetime

    from transactions.facts import DAY, MINUTE, micros

    with ground.cursor() as cursor:
        cursor.execute("SELECT id, occurred_at FROM transaction ORDER BY id DESC LIMIT 1")
        newest = cursor.fetchone()
    begun = ground.state / "crowd-began-after"
    if not begun.exists():
        begun.write_text(str(newest[0] if newest else 0))
    if newest and newest[0] > int(begun.read_text()):
        return micros(newest[1])
    return micros(datetime.now(UTC)) - 10 * MINUTE - ahead * (DAY // PER_DAY)


def last_id(ground: Ground) -> int:
    """The last payment id drawn."""
    with ground.cursor() as cursor:
        cursor.execute("SELECT last_value FROM transaction_id_seq")
        return cursor.fetchone()[0]


def _draw_ids(cursor: Any, n: int) -> int:
    """`n` ids in a row; the first. The xid comes first, as the protocol wants."""
    cursor.execute("SELECT pg_current_xact_id()")
    cursor.execute("SELECT nextval('transaction_id_seq')")
    first = cursor.fetchone()[0]
    if n > 1:
        cursor.execute("SELECT setval('transaction_id_seq', %s)", [first + n - 1])
    return first


def fill(ground: Ground, stored: int, *, payload: str = "minimal", ahead: int = 0, judge: Judge | None = None) -> int:
    """Bring the lane to `stored` decided payments; how many were added. The desk must not be running.

    `ahead`: payments that will still follow by the crowd's own clock; the first fill of a folder leaves days for them.
    `judge`: what is said of them, if not that all are approved.
    """
    with ground.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM decision WHERE lane = %s", [ground.lane.pk])
        missing = stored - cursor.fetchone()[0]
    if missing <= 0:
        return 0
    from fraudsite import worked
    from transactions import partitions

    partitions.extend()
    say(f"filling up to {stored:,} decided payments ({missing:,} more) …")
    judge = judge or Judge()
    filler = Filler(ground, payload=payload, seed=stored, ahead=missing + ahead, busy=judge.busy)
    accounts, began = ground.accounts(), time.monotonic()
    ready: queue.Queue[Batch | None] = queue.Queue(maxsize=2)
    failed: list[BaseException] = []
    over = threading.Event()
    maker = threading.Thread(target=_make_all, args=(filler, missing, ready, failed, over), daemon=True)
    maker.start()
    try:
        _decide_all(ground, judge, ready, missing, began)
    finally:
        over.set()
        _empty(ready, maker)
    if failed:
        raise failed[0]
    partitions.extend()
    took = time.monotonic() - began
    cpu = accounts.each(missing)["all"]
    say(f"filled {missing:,} in {took:.0f} s = {missing / took:,.0f} a second, {cpu} µs of CPU each; statistics …")
    with ground.cursor() as cursor:
        for name in ("transaction", "transaction_key", "transaction_detail", "decision", "lane_log"):
            cursor.execute(f"VACUUM (ANALYZE) {name}")
        cursor.execute("CHECKPOINT")
    say("the dashboards' roll-ups …")
    worked.tally(worked.LONGEST_REBUILD)
    return missing


def _make_all(
    filler: Filler, missing: int, ready: queue.Queue[Batch | None], failed: list[BaseException], over: threading.Event
) -> None:
    """One thread: payments with keys and details, a commit for each batch, until nobody wants more."""
    try:
        with filler.ground.cursor(asynchronous=True) as cursor:
            for start in range(0, missing, BATCH):
                if over.is_set():
                    break
                cursor.execute("BEGIN")
                batch = filler.make(cursor, min(BATCH, missing - start))
                filler.store(cursor, batch)
                cursor.execute("COMMIT")
                ready.put(batch)
    except BaseException as error:  # told to the thread that waits
        failed.append(error)
    finally:
        ready.put(None)


def _empty(ready: queue.Queue[Batch | None], maker: threading.Thread) -> None:
    """Let the maker end, also when nobody takes what it made."""
    while maker.is_alive():
        try:
            ready.get(timeout=0.1)
        except queue.Empty:
            continue


def _decide_all(ground: Ground, judge: Judge, ready: queue.Queue[Batch | None], missing: int, began: float) -> None:
    """The other thread: the lane's own part, with the lane's lock, a commit for each batch; then mark and snapshot."""
    from scoring import lanes

    done, told = 0, began
    with lanes.own_lane(ground.lane.pk) as lane, ground.cursor(asynchronous=True) as cursor:
        memory = lane.memory
        assert memory is not None
        while (batch := ready.get()) is not None:
            _decide(cursor, lane.id, memory, batch, ground.release_id, judge)
            lane.cursor.execute("SELECT 1")  # the lane's session must not idle away
            done += len(batch.facts)
            if time.monotonic() - told > 15:
                told = time.monotonic()
                say(f"  {done:,} of {missing:,}, {done / (told - began):,.0f} a second")
        if done:
            marked = [last_id(ground), lane.id]
            cursor.execute("UPDATE lane_cursor SET mark = greatest(mark, %s) WHERE lane = %s", marked)
            lanes.save_snapshot(lane.id, memory)


def _decide(cursor: Any, lane_id: int, memory: Any, batch: Batch, release_id: int, judge: Judge) -> None:
    """Decisions, log, pairs and cursor of a batch in one commit; the memory is moved on by the kernel."""
    from scoring import features
    from transactions import binary

    facts, before, token = batch.facts, memory.seq, os.urandom(16)
    n = len(facts)
    seqs = np.arange(before + 1, before + n + 1)
    matrix, links = features.advance(memory, features.events_from_facts(facts, before + 1))
    outcomes, scores = judge.outcomes(facts)
    cursor.execute("BEGIN")
    binary.store(cursor, "decision", _decisions(facts, matrix, seqs, release_id, outcomes, scores))
    judge.also(cursor, batch, seqs, outcomes, scores)
    log: dict[str, Any] = {
        "lane": ("int2", lane_id), "seq": ("int8", seqs), "epoch": ("int4", memory.epoch), "token": ("uuid", token),
        "kind": ("int2", 1), "transaction_id": ("int8", facts["id"]),
    }  # fmt: skip
    binary.store(cursor, "lane_log", log)
    if len(links):
        _link(cursor, lane_id, links)
    cursor.execute(
        "UPDATE lane_cursor SET seq = %s, token = %s::uuid WHERE lane = %s AND seq = %s",
        [int(seqs[-1]), token.hex(), lane_id, before],
    )
    if cursor.rowcount != 1:
        raise SystemExit("somebody else moved the lane's cursor while it was filled")
    cursor.execute("COMMIT")
    memory.seq, memory.token = int(seqs[-1]), token


def _decisions(
    facts: np.ndarray, matrix: np.ndarray, seqs: np.ndarray, release_id: int, outcomes: np.ndarray, scores: np.ndarray
) -> dict[str, Any]:
    from scoring import features

    n = len(facts)
    bands = np.searchsorted(BANDS_FROM, scores, side="right").astype("i2")
    vectors = np.ascontiguousarray(matrix, "<f4").view("u1").reshape(n, -1)
    return {
        "id": ("int8", facts["id"] * 64 + 1), "transaction_id": ("int8", facts["id"]), "seq": ("int8", seqs),
        "decided_at": ("timestamptz", facts["received_at"] + 10_000), "latency": ("int4", 10_000),
        "release_id": ("int4", release_id), "probability": ("float8", scores / 1000.0),
        "margin": ("float8", np.log(np.maximum(scores, 1) / 1000.0)), "lane": ("int2", facts["lane"]),
        "screening": ("int2", 1), "outcome": ("int2", outcomes), "score": ("int2", scores),
        "band": ("int2", bands), "degraded": ("int2", 0),
        "kernel_version": ("int2", features.KERNEL_VERSION), "rule_hits": ("bytea", np.zeros((n, 30), "u1")),
        "features": ("bytea", vectors),
    }  # fmt: skip


def _link(cursor: Any, lane_id: int, links: np.ndarray) -> None:
    from transactions import binary

    cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS new_link (LIKE entity_link) ON COMMIT DELETE ROWS")
    kinds = {"left_kind": "int2", "left_key": "int8", "right_kind": "int2", "right_key": "int8"}
    columns: dict[str, Any] = {name: (kind, links[name]) for name, kind in kinds.items()}
    columns |= {"lane": ("int2", lane_id), "transaction_id": ("int8", links["transaction_id"]),
                "seen_at": ("timestamptz", links["seen_at"])}  # fmt: skip
    binary.store(cursor, "new_link", columns)
    cursor.execute("INSERT INTO entity_link SELECT * FROM new_link ON CONFLICT DO NOTHING")


def main() -> None:
    """Fill the folder named by --state."""
    parser = options(__doc__, stored="1_000_000")
    parser.add_argument("--payload", choices=["minimal", "full"], default="minimal")
    parser.add_argument("--verify", action="store_true", help="Ask `manage.py verify` afterwards.")
    parser.add_argument("--replay", action="store_true", help="With the replay of the whole log.")
    asked = parser.parse_args()
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload)
        if asked.verify:
            say(ground.manage("verify", *(["--replay"] if asked.replay else [])))


if __name__ == "__main__":
    main()
