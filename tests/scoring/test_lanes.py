"""Owning a lane: one owner, a memory that equals the cursor, and a sweep that loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest
from django.db import connection

from fraudsite import pipeline
from scoring import lanes, snapshots
from scoring.lanes import Claim, LaneLost, LaneTaken, UnknownLane, own_lane
from scoring.models import LaneCursor
from scoring.profiles import Profiles
from tests.judging import keep, label, payments, prepared, rows
from transactions import ring
from transactions.models import ApiClient
from transactions.ring import Range
from transactions.services import ingest, insert


def cursor_of(bank: ApiClient) -> LaneCursor:
    return LaneCursor.objects.get(pk=bank.lane_id)


def claim(*ids: int) -> Claim:
    return Claim(np.array(ids, "i8"), np.empty(0, "i8"))


def memory_of(lane: lanes.Lane) -> Profiles:
    assert lane.memory is not None
    return lane.memory


# --- owner ------------------------------------------------------------------------------------------------------------


def test_a_lane_has_one_owner(bank: ApiClient):
    with own_lane(bank.lane_id), pytest.raises(LaneTaken), own_lane(bank.lane_id):
        pass
    with own_lane(bank.lane_id) as lane:
        assert memory_of(lane).seq == 0


def test_nobody_owns_a_lane_that_is_not_there(bank: ApiClient):
    with pytest.raises(UnknownLane), own_lane(31_000):
        pass


def test_a_cut_session_frees_the_lock_and_can_commit_nothing_more(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    with own_lane(bank.lane_id) as lane:
        rows("SELECT pg_terminate_backend(%s, 5000)", lane.connection.get_backend_pid())
        with own_lane(bank.lane_id) as other:
            pipeline.judge(other, claim(payment))
        with pytest.raises(psycopg2.OperationalError):
            pipeline.judge(lane, claim(payment))
        assert lane.memory is None
    assert rows("SELECT count(*) FROM decision") == [(1,)]


def test_a_commit_is_refused_when_the_cursor_moved_under_the_owner(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    with own_lane(bank.lane_id) as lane:
        rows("UPDATE lane_cursor SET token = gen_random_uuid() WHERE lane = %s RETURNING 1", bank.lane_id)
        with pytest.raises(LaneLost):
            pipeline.judge(lane, claim(payment))
    assert rows("SELECT count(*) FROM decision") == [(0,)]


def test_a_memory_of_another_history_with_the_same_seq_is_not_trusted(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    one, two = keep(bank, "pay-1", "pay-2")
    with own_lane(bank.lane_id) as lane:
        monkeypatch.setattr(pipeline, "settle", lambda *_: None)
        with lane.commit() as commit:  # judged, but the answer to COMMIT never came: rolled back in truth
            commit.memory.seq, commit.memory.token = 1, b"x" * 16
            foreign = commit.memory
    with own_lane(bank.lane_id) as other:
        pipeline.judge(other, claim(two))
    with own_lane(bank.lane_id, memory=foreign) as lane:
        assert lane.memory is not foreign
        assert memory_of(lane).seq == 1 and memory_of(lane).count("customer") == 1
        pipeline.judge(lane, claim(one))
    assert rows("SELECT seq, transaction_id FROM lane_log ORDER BY seq") == [(1, two), (2, one)]


def test_a_memory_that_equals_the_cursor_is_kept(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(payment))
        memory = lane.memory
    with own_lane(bank.lane_id, memory=memory) as lane:
        assert lane.memory is memory


def test_a_rebuild_gives_the_memory_that_was_lost(bank: ApiClient):
    ids = keep(bank, *(f"pay-{n}" for n in range(20)))
    label(ids[3])
    with own_lane(bank.lane_id) as lane:
        lane.sweep_all()
        pipeline.judge(lane, lane.claim(patience=0))
        digest = memory_of(lane).digest()
    with own_lane(bank.lane_id) as lane:
        assert memory_of(lane).seq == 21
        assert memory_of(lane).digest() == digest


# --- snapshots --------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapshots_here(tmp_path: Path, settings) -> Path:
    settings.PROFILE_DIR = tmp_path
    return tmp_path


def test_a_snapshot_shortens_the_rebuild(bank: ApiClient, snapshots_here: Path):
    one, two = keep(bank, "pay-1", "pay-2")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(one))
        lane.save_if_due(now=True)
        pipeline.judge(lane, claim(two))
        standing = lanes.standing_of(memory_of(lane))
        found = lanes.newest_snapshot(lane.cursor, bank.lane_id, standing)
        digest = memory_of(lane).digest()
    assert found is not None and found.seq == 1
    with own_lane(bank.lane_id) as lane:
        assert memory_of(lane).digest() == digest


def test_snapshots_of_another_history_or_torn_ones_are_left_aside(bank: ApiClient, snapshots_here: Path):
    [one] = keep(bank, "pay-1")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(one))
        standing = lanes.standing_of(memory_of(lane))
        path = lanes.save_snapshot(bank.lane_id, memory_of(lane))
        whole = path.read_bytes()
        path.write_bytes(whole[:-10])
        assert lanes.newest_snapshot(lane.cursor, bank.lane_id, standing) is None
        path.write_bytes(whole)
        memory_of(lane).token = b"y" * 16
        lanes.save_snapshot(bank.lane_id, memory_of(lane))
        found = lanes.newest_snapshot(lane.cursor, bank.lane_id, standing)
        assert found is not None and lanes.standing_of(found) == standing


def test_a_snapshot_within_a_commit_does_not_count(bank: ApiClient, snapshots_here: Path):
    ids = keep(bank, "pay-1", "pay-2")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(*ids))
        standing = lanes.standing_of(memory_of(lane))
        assert lanes.belongs(lane.cursor, bank.lane_id, standing)
        assert not lanes.belongs(lane.cursor, bank.lane_id, standing._replace(seq=1))


def test_only_the_last_few_snapshots_are_kept(bank: ApiClient, snapshots_here: Path):
    with own_lane(bank.lane_id) as lane:
        for n in range(5):
            pipeline.judge(lane, claim(*keep(bank, f"pay-{n}")))
            lane.save_if_due(now=True)
            lane.save_if_due(now=True)
    names = sorted(path.name for path in lanes.snapshot_folder(bank.lane_id).iterdir())
    assert [int(name.split("-")[1]) for name in names] == [3, 4, 5]


def test_a_snapshot_is_of_a_moment_between_two_commits_while_the_lane_goes_on(
    bank: ApiClient, snapshots_here: Path, settings: Any
):
    settings.SNAPSHOT_ROWS = 1
    digests = {}
    with own_lane(bank.lane_id) as lane:
        lane.save_if_due()
        for n in range(100):
            pipeline.judge(lane, claim(*keep(bank, f"pay-{n}")))
            digests[memory_of(lane).seq] = memory_of(lane).digest()
            lane.save_if_due()
            lane.go_on_saving()
            if lane.saved[1]:
                break
        found = [(lanes.standing_of(each).seq, each.digest()) for each in all_snapshots(bank)]
    assert lane.saved[1] and found and all(digests[seq] == digest for seq, digest in found)


def test_a_snapshot_under_way_is_dropped_with_its_session_and_its_memory(
    bank: ApiClient, snapshots_here: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.SNAPSHOT_ROWS = 1
    monkeypatch.setattr(snapshots.Snapshot, "_is_little", lambda *_: False)
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(*keep(bank, "pay-1")))
        lane.save_if_due()
        assert lane.saving is not None
        first = lane.saving
        lane.memory = Profiles(bank.lane_id)  # as after a switch to another epoch
        first.idle.wait(5)
        lane.go_on_saving()
        first.thread.join(5)
        lane.go_on_saving()
        assert first.over and lane.saving is None
        lane.memory.seq = 1
        lane.save_if_due()
        assert lane.saving is not None
    assert list(lanes.snapshot_folder(bank.lane_id).iterdir()) == []


def all_snapshots(bank: ApiClient) -> list[Profiles]:
    return [snapshots.load(path) for path in lanes.snapshot_folder(bank.lane_id).glob("*.profiles")]


def test_a_lane_is_free_at_once_when_its_owner_lets_go_or_who_stood_by_leaves(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    """Also before Postgres has noticed that the session is over: here none ends before the test does."""
    monkeypatch.setattr(lanes, "connect", partial(Open, lanes.connect))
    with own_lane(bank.lane_id):
        pass
    lanes.stand_by(bank.lane_id, threading.Event())
    with own_lane(bank.lane_id):
        pass


class Open:
    """A connection whose end is not noticed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.connection = connect()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def close(self) -> None:
        pass


def wait_until_free(cursor, lane_id: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        cursor.execute("SELECT pg_try_advisory_lock(1, %s)", [lane_id])
        if cursor.fetchone()[0]:
            return
        time.sleep(0.05)
    raise AssertionError("the lock outlived its owner")


# --- the sweep --------------------------------------------------------------------------------------------------------


def sweep_until(lane: lanes.Lane, mark: int) -> bool:
    """Sweep a few times; whether the mark came as far as `mark`."""
    for _ in range(4):
        lane.sweep()
    return lane.payments.mark >= mark


def test_an_id_that_commits_late_is_not_lost(bank: ApiClient):
    with closing(lanes.connect()) as slow:
        cursor = slow.cursor()
        cursor.execute("BEGIN")
        late = int(insert(cursor, prepared(bank, "late")).ids[0])
        [early] = keep(bank, "early")
        assert late < early
        with own_lane(bank.lane_id) as lane:
            lane.sweep_all()
            pipeline.judge(lane, lane.claim(patience=0))
            assert not sweep_until(lane, late), "the mark passed an id that may still appear"
            cursor.execute("COMMIT")
            lane.forget_sweeps()
            lane.sweep()
            pipeline.judge(lane, lane.claim(patience=0))
            assert sweep_until(lane, early)
    assert rows("SELECT transaction_id FROM decision ORDER BY seq") == [(early,), (late,)]
    assert cursor_of(bank).mark >= early


def test_a_payment_that_nobody_rang_for_is_found_among_the_newest(bank: ApiClient):
    with own_lane(bank.lane_id) as lane:
        lane.sweep_all()
        [payment] = keep(bank, "pay-1")
        ring.drain(bank.lane_id, most=100)
        assert not lane.payments.due
        lane.sweep()
        assert lane._take("payments").tolist() == [payment]


def test_the_mark_waits_for_what_is_owed(bank: ApiClient):
    one, two = keep(bank, "pay-1", "pay-2")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(two))
        assert not sweep_until(lane, one)
        pipeline.judge(lane, claim(one))
        assert sweep_until(lane, two)


def test_a_long_writer_elsewhere_keeps_the_mark_back_but_no_decision(bank: ApiClient):
    with closing(lanes.connect()) as elsewhere:
        cursor = elsewhere.cursor()
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        [payment] = keep(bank, "pay-1")
        assert pipeline.drain(bank.lane_id) == 1
        with own_lane(bank.lane_id) as lane:
            assert not sweep_until(lane, payment)
        cursor.execute("ROLLBACK")
    with own_lane(bank.lane_id) as lane:
        assert sweep_until(lane, payment)


def test_a_sequence_that_was_never_used_has_no_last_id(bank: ApiClient):
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE untouched AS bigint CACHE 1")
        sweep = lanes.Sweep("mark", "untouched", "", "")
        assert sweep._last(cursor) == 0
        cursor.execute("SELECT nextval('untouched')")
        assert sweep._last(cursor) == 1
        cursor.execute("DROP SEQUENCE untouched")


def test_a_whole_sweep_goes_in_steps_and_looks_at_the_newest_in_each(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lanes, "STEP", 3)
    ids = keep(bank, *(f"pay-{n}" for n in range(7)))
    with own_lane(bank.lane_id) as lane:
        lane.payments.mark = ids[0] - 1
        found = []
        while lane.payments.due:
            found.append((lane.payments.find(lane.cursor, bank.lane_id, []) - ids[0]).tolist())
    assert found == [[0, 1, 2, 4, 5, 6], [3, 4, 5, 6], [6]]


def test_a_sweep_looks_only_at_what_its_owner_does_not_know(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    ids = keep(bank, *(f"pay-{n}" for n in range(4)))
    looked: list[list[tuple[int, int]]] = []
    look = lanes.Sweep._look

    def watch(sweep: lanes.Sweep, cursor, lane_id, imports, gaps):
        if sweep.column == "mark":
            looked.append(gaps)
        return look(sweep, cursor, lane_id, imports, gaps)

    monkeypatch.setattr(lanes.Sweep, "_look", watch)
    with own_lane(bank.lane_id) as lane:
        lane.payments.mark = ids[0] - 1
        pipeline.judge(lane, claim(ids[0], ids[2]))
        assert lane.sweep() == 2
        assert lane.sweep() == 0, "what waits to be claimed was found again"
        pipeline.judge(lane, lane.claim(patience=0))
        lane.sweep()
    assert looked[0] == [(ids[1], ids[1]), (ids[3], ids[3])]
    assert looked[1:] == [[], []]


def test_a_new_owner_learns_what_is_decided_by_looking_once(bank: ApiClient):
    ids = keep(bank, "pay-1", "pay-2", "pay-3")
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, claim(ids[0], ids[1]))
    with own_lane(bank.lane_id) as lane:
        lane.payments.mark = ids[0] - 1
        assert lane.sweep() == 1
        assert lane.payments.known.gaps(ids[0] - 1, ids[2]) == [(ids[2], ids[2])]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_label_stays_owed_until_its_payment_is_taken_in(bank: ApiClient):
    [history] = [receipt.id for receipt in ingest(payments("old"), client=bank, intake="history")]
    [live] = keep(bank, "new")
    label(history)
    second = label(live)
    assert pipeline.drain(bank.lane_id) == 2
    assert rows("SELECT label_id FROM lane_log WHERE kind = 3") == [(second,)]
    with own_lane(bank.lane_id) as lane:
        for _ in range(4):
            lane.sweep()
        assert lane.labels.mark < second


def test_the_mark_of_labels_moves_when_all_are_taken_in(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    last = label(payment)
    assert pipeline.drain(bank.lane_id) == 2
    with own_lane(bank.lane_id) as lane:
        for _ in range(3):
            lane.sweep()
        assert lane.labels.mark >= last


# --- the backlog ------------------------------------------------------------------------------------------------------


def test_ranges_that_overlap_are_claimed_once():
    merged = lanes._merged(
        [Range("payments", 5, 9), Range("payments", 1, 3), Range("payments", 4, 6), Range("labels", 2, 2)]
    )
    assert merged == [Range("labels", 2, 2), Range("payments", 1, 9)]


def test_a_claim_takes_no_more_than_one_commit_may_hold(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lanes, "MOST_ROWS", 4)
    with own_lane(bank.lane_id) as lane:
        lane.backlog = [Range("payments", 1, 3), Range("labels", 8, 8), Range("payments", 3, 9)]
        assert lane._take("payments").tolist() == [1, 2, 3]
        assert lane._take("payments").tolist() == [4, 5, 6, 7]
        assert lane._take("labels").tolist() == [8]
        assert lane.backlog == [Range("payments", 8, 9)]
