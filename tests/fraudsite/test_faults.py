"""Faults of sessions, rings, clocks, brokers and neighbours: each test tries to break one line of the protocol.

The letters after a test's sentence name the place in `docs/lane-protocol.md` that it attacks. What every fault must
leave behind is asked by `sound`: each payment decided once, each label taken in once, every invariant of `verify`, and
the stored vectors equal to the log's replay bit for bit.
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import psycopg2
import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from cases.models import Case, CaseAlert
from cases.services import CaseError, claim_next, close_case, open_cases
from fraudsite import answering, celery, doorbell, pipeline, tasks
from scoring import features, lanes, services
from scoring.lanes import Claim, own_lane
from scoring.models import Decision
from tests.factories import WORK, make_close_reason, make_queue, make_user
from tests.judging import keep, label, live_rule, prepared, rows, wait_for
from transactions import binary, few, ring
from transactions.models import ApiClient, Label
from transactions.services import LabelIn, insert_labels
from transactions.services import keep as keep_prepared

NONE = np.empty(0, "i8")


def sound(bank: ApiClient) -> None:
    """Drain what is owed; then nothing is, every invariant holds, and the log's replay gives all stored vectors."""
    pipeline.drain(bank.lane_id)
    assert rows(UNDECIDED) == [(0,)] and rows(NOT_TAKEN_IN) == [(0,)]
    said = io.StringIO()
    call_command("verify", bank.lane_id, "--replay", stdout=said)
    fallen = f"degraded = {services.FAILED_TWICE}"
    [(judged,)] = rows(f"SELECT count(*) FROM decision WHERE lane = %s AND NOT {fallen}", bank.lane_id)
    assert f"all {judged} stored vectors" in said.getvalue()


UNDECIDED = "SELECT count(*) FROM transaction t WHERE NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1)"
NOT_TAKEN_IN = "SELECT count(*) FROM label l WHERE NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)"


def at_once(*jobs: Callable[[], object]) -> None:
    """Run the jobs in threads that start together; what one raises is raised here."""
    start, errors = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], object]) -> None:
        try:
            start.wait(10)
            job()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def decided() -> list[int]:
    return [row[0] for row in rows("SELECT transaction_id FROM decision ORDER BY seq")]


# --- doorbells --------------------------------------------------------------------------------------------------------


def test_rings_doubled_reordered_lost_and_of_things_that_are_not_there_change_nothing(bank: ApiClient):
    """Sweep ("claims come from the ring; the sweep proves completeness"); trap "same id twice in one claim"."""
    dice = random.Random(5)
    ids = [each for n in range(6) for each in keep(bank, *(f"pay-{n}-{i}" for i in range(n + 1)))]
    labels = [label(each) for each in dice.sample(ids, 8)]
    ring.drain(bank.lane_id, most=1000)
    rung = [("payments", each, each) for each in ids[::2]] + [("labels", each, each) for each in labels]
    rung += [*rung, ("payments", ids[0] - 50, ids[-1] + 5000), ("labels", 1, labels[-1] + 5000), ("payments", 10, 3)]
    dice.shuffle(rung)
    for kind, first, last in rung:
        ring.push_range(bank.lane_id, first, last, kind=kind)
    with own_lane(bank.lane_id) as lane:
        for _ in range(4):
            pipeline.judge(lane, lane.claim(patience=0.01))
    sound(bank)
    assert sorted(decided()) == ids


def test_a_label_that_commits_late_under_a_smaller_id_is_not_lost(bank: ApiClient):
    """Trap "id > last seen … the same for label ids": the fence of labels."""
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    with closing(lanes.connect()) as slow, slow.cursor() as cursor:
        cursor.execute("BEGIN")
        said = LabelIn(payment, "fraud", "chargeback", timezone.now())
        late = int(insert_labels(cursor, [said], np.array([bank.lane_id], "i2"))[0])
        early = label(payment, "legitimate", "customer")
        assert late < early
        with own_lane(bank.lane_id) as lane:
            lane.sweep_all()
            pipeline.judge(lane, lane.claim(patience=0))
            for _ in range(4):
                lane.sweep()
            assert lane.labels.mark < late, "the mark passed a label that may still appear"
            cursor.execute("COMMIT")
            lane.forget_sweeps()
            lane.sweep()
            pipeline.judge(lane, lane.claim(patience=0))
            for _ in range(3):
                lane.sweep()
            assert lane.labels.mark >= early
    assert rows("SELECT label_id FROM lane_log WHERE kind = 3 ORDER BY seq") == [(early,), (late,)]
    sound(bank)


def test_labels_of_payments_that_nobody_judged_yet_are_drained_with_them_though_every_ring_is_lost(bank: ApiClient):
    """Sweep: a label is owed once its payment is taken in, so that what a drain judges lets more be owed."""
    ids = keep(bank, "pay-1", "pay-2", "pay-3")
    labels = [label(each) for each in ids]
    ring.drain(bank.lane_id, most=1000)
    assert pipeline.drain(bank.lane_id) == len(ids) + len(labels)
    sound(bank)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_commit_whose_answer_is_lost_counts_once(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """Owner 4 ("the cursor tells whether it committed"): COMMIT arrives, its answer does not."""
    replies: dict[bytes, bytes] = {}
    ids = keep(bank, "pay-1", "pay-2")
    monkeypatch.setattr(ring, "reply", replies.update)
    end, losses = lanes.Lane._end, iter([True])

    def lose_the_answer(lane: lanes.Lane, commit: lanes.Commit) -> None:
        end(lane, commit)
        if commit.after is not None and next(losses, False):
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(lanes.Lane, "_end", lose_the_answer)
    keeper = pipeline.Keeper(bank.lane_id, lambda: False, once=True)
    with pytest.raises(psycopg2.OperationalError):
        keeper.work()
    assert sorted(decided()) == ids and keeper.memory is None and replies == {}
    keeper.work()
    sound(bank)
    assert sorted(decided()) == ids


@pytest.mark.parametrize("n", [3, few.FEW + 10])
@pytest.mark.parametrize("step", ["_log", "decide", "_store", "_link"])
def test_a_lock_lost_midway_lets_the_other_worker_decide_and_the_first_commit_nothing(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch, step: str, n: int
):
    """Owner ("a commit cannot outlive its lock"); trap "two owners, one seq"."""
    live_rule(bank.lane, "amount >= 0")
    ids = keep(bank, *(f"pay-{place}" for place in range(n)))
    monkeypatch.setattr(binary, "MANY", few.FEW + 1)
    taken, cuts = getattr(pipeline, step), iter([True])
    with own_lane(bank.lane_id) as first:

        def overtaken(*arguments: Any, **named: Any) -> Any:
            if next(cuts, False):
                rows("SELECT pg_terminate_backend(%s, 5000)", first.connection.get_backend_pid())
                with own_lane(bank.lane_id) as second:
                    pipeline.judge(second, Claim(np.array(ids[::-1]), NONE))
            return taken(*arguments, **named)

        monkeypatch.setattr(pipeline, step, overtaken)
        with pytest.raises(psycopg2.OperationalError):
            pipeline.judge(first, Claim(np.array(ids), NONE))
        assert first.memory is None
    assert sorted(decided()) == ids
    sound(bank)


def test_workers_that_fight_for_one_lane_decide_everything_once(bank: ApiClient):
    """Owner 2 ("false: return"), 3 (takeover after the lock): sessions end at random while four processes claim."""
    over = threading.Event()
    names = iter(range(10_000))

    def work() -> None:
        while not over.is_set():
            try:
                pipeline.drain_if_free(bank.lane_id)
            except pipeline.LOST:
                continue

    def send() -> None:
        for _ in range(12):
            ids = keep(bank, *(f"pay-{next(names)}" for _ in range(5)))
            label(ids[0])
            rows("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ^@ 'lane of'
                       AND datname = current_database() AND random() < 0.4""")
        over.set()

    at_once(work, work, work, send)
    sound(bank)
    assert len(decided()) == 60


# --- the broker and Valkey --------------------------------------------------------------------------------------------


def test_a_task_that_the_broker_delivers_again_returns_at_once(running: ApiClient):
    """Owner 2; Celery gives a long task to somebody else when its visibility time-out is over."""
    ids = keep(running, "pay-1")
    for _ in range(2):
        tasks.run_lane(running.lane_id)
        ring.say_gone(running.lane_id)  # as if the owner had hung: now only the lock keeps the second one out
    wait_for(lambda: decided() == ids)
    assert rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND granted") == [(1,)]


def test_without_a_broker_bells_cost_nothing_and_the_lane_judges(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """Trap "lane started only by a broker that is gone"; Ingest 5 ("lost: the sweep finds the rows")."""

    def gone(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("the broker is gone")

    monkeypatch.setattr(doorbell.app, "send_task", gone)
    monkeypatch.setattr(ring, "_call", lambda *_, **__: (_ for _ in ()).throw(ring.RingGone("gone")))
    live_rule(bank.lane, "amount >= 0")
    ids = keep(bank, "pay-1", "pay-2")
    started = time.monotonic()
    assert pipeline.drain(bank.lane_id) == 2
    assert time.monotonic() - started < 10
    assert sorted(decided()) == ids


def test_valkey_wiped_while_requests_wait_ends_in_a_kept_payment_that_is_decided_once(bank: ApiClient):
    """Waiting request 2; trap "202 trusting the body in Valkey"."""
    server = redis.Redis.from_url(settings.VALKEY_URL)
    ring.say_alive(bank.lane_id)
    replies: list[Any] = []
    ones = [prepared(bank, f"pay-{n}") for n in range(3)]
    asked = [lambda one=one: replies.append(answering.judge_now(one, 0.5)) for one in ones]

    def wipe() -> None:
        wait_for(lambda: ring.waiting(bank.lane_id) == 3)
        server.flushdb()

    at_once(*asked, wipe)
    assert replies == [None, None, None]
    kept = [keep_prepared(one)[0] for one in ones]
    assert all(receipt.created for receipt in kept)
    sound(bank)
    assert sorted(decided()) == sorted(receipt.id for receipt in kept)


def test_a_reply_that_is_lost_after_the_commit_is_found_by_the_retry(bank: ApiClient):
    """Judge 6 ("replies are owed by rows"): the body was judged, then Valkey was wiped before the asker read."""
    one = prepared(bank, "pay-1")
    body = ring.Body(b"r" * 16, time.time() + 5, one.dump())
    with own_lane(bank.lane_id) as lane:
        pipeline.judge(lane, Claim(NONE, NONE, [body]))
    redis.Redis.from_url(settings.VALKEY_URL).flushdb()
    [receipt] = keep_prepared(one)
    assert not receipt.created and answering.find([receipt.id])[receipt.id]["outcome"] == "approve"
    sound(bank)
    assert decided() == [receipt.id]


# --- the clock --------------------------------------------------------------------------------------------------------


class Clock:
    """The module `time` with a wall clock that is wrong."""

    def __init__(self, jump: timedelta) -> None:
        self.jump = jump

    def time(self) -> float:
        return time.time() + self.jump.total_seconds()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize("jump", [timedelta(hours=6), -timedelta(hours=6)])
def test_a_clock_that_jumps_costs_at_most_an_answer(bank: ApiClient, monkeypatch: pytest.MonkeyPatch, jump: timedelta):
    """Order is the lane's `seq`, patience is monotonic: wall time decides nothing but a body's deadline."""
    before, waiting, replies = keep(bank, "before"), prepared(bank, "waiting"), []
    ring.drain(bank.lane_id, most=100)
    ring.say_alive(bank.lane_id)

    def judge_at_the_wrong_time() -> None:
        wait_for(lambda: ring.waiting(bank.lane_id))
        with own_lane(bank.lane_id) as lane:
            pipeline.judge(lane, lane.claim(patience=0.01))

    monkeypatch.setattr(lanes, "time", Clock(jump))
    monkeypatch.setattr(pipeline.clock, "now", lambda: datetime.now(UTC) + jump)
    at_once(lambda: replies.append(answering.judge_now(waiting, 1.0)), judge_at_the_wrong_time)
    monkeypatch.undo()
    [kept] = keep_prepared(waiting)
    assert kept.created == (replies == [None])
    sound(bank)
    assert sorted(decided()) == sorted([*before, kept.id])
    assert not Decision.objects.filter(latency__lt=0).exists()


def test_payments_from_a_clock_that_jumps_are_profiled_the_same_in_every_replay(bank: ApiClient):
    """Invariant "base + log replayed gives the stored vectors bit for bit", with times in no order at all."""
    dice, now = random.Random(3), datetime.now(UTC)
    for n in range(8):
        at = now + timedelta(hours=dice.choice([-1500, -30, -1, 0]), seconds=-dice.randrange(9000))
        keep(bank, f"a{n}", f"b{n}", occurred_at=at.isoformat(timespec="milliseconds"), amount__value=n * 100)
        if n % 3:
            pipeline.drain(bank.lane_id)
    sound(bank)


# --- people and labels at the same moment -----------------------------------------------------------------------------


def test_labels_closes_and_alerts_of_one_case_at_the_same_moment_lose_nothing(bank: ApiClient):
    """Labels 1–4 (each row logged once, old → new chains) and the case's lock: many rounds of everything at once."""
    live_rule(bank.lane, "amount > 100")
    ines = make_user("ines", *WORK)
    make_queue(ines, lane=bank.lane)
    make_close_reason("denies")
    said: list[int] = []

    def close() -> None:
        try:
            if (case := claim_next(ines)) is not None:
                close_case(case.pk, "confirmed_fraud", by=ines, fraud_type="account_takeover", close_reason="denies",
                           rationale="Customer denies the payment.")  # fmt: skip
        except CaseError:
            return

    def send(*names: str) -> None:
        keep(bank, *names, amount__value=700_00)

    def report(payment: int) -> None:
        said.append(label(payment, "legitimate", "chargeback"))

    for n in range(6):
        [payment] = keep(bank, f"pay-{n}", amount__value=500_00)
        pipeline.drain(bank.lane_id)
        open_cases()
        at_once(
            close,
            partial(send, f"more-{n}-1", f"more-{n}-2"),
            partial(pipeline.drain_if_free, bank.lane_id),
            partial(report, payment),
            open_cases,
        )
    pipeline.drain(bank.lane_id)
    open_cases()
    sound(bank)
    assert CaseAlert.objects.count() == len(decided()) == 18
    for case in Case.objects.filter(status="closed"):
        alerts = set(case.case_alerts.values_list("pk", flat=True))
        told = list(Label.objects.filter(reason__startswith=f"{case.number}:").values_list("transaction_id", flat=True))
        assert sorted(told) == sorted(alerts), "closed with its labels, each payment once"
    assert rows("SELECT count(*) FROM lane_log WHERE label_id = ANY(%s)", said) == [(len(said),)]


# --- what breaks the judging itself -----------------------------------------------------------------------------------


def test_a_fallen_out_payment_is_left_out_of_every_replay_also_when_it_is_labelled(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    """Judge ("its log row has old = -1, and every replay leaves it out"), with a label of it and payments after it."""
    ids = keep(bank, "pay-1", "poison", "pay-2")
    advance = features.advance

    def choke(profiles: Any, events: np.ndarray, **named: Any) -> Any:
        if ids[1] in events["id"][events["kind"] != features.LABEL].tolist():
            raise ArithmeticError("cannot be profiled")
        return advance(profiles, events, **named)

    monkeypatch.setattr(features, "advance", choke)
    pipeline.drain(bank.lane_id)
    monkeypatch.undo()
    label(ids[1])
    keep(bank, "pay-3")
    pipeline.drain(bank.lane_id)
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None
        digest = lane.memory.digest()
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None and lane.memory.digest() == digest
    sound(bank)


# --- the scorer's own thread ------------------------------------------------------------------------------------------


def test_a_scorer_that_finds_its_lane_taken_has_it_as_soon_as_the_owner_goes(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    """Owner 2: standing by is no failure, or a lane nobody owns any more would wait for a back-off to end."""
    pauses: list[float] = []

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return super().wait(0.01)

    stop = Impatient()
    monkeypatch.setattr(celery, "_stop", stop)
    thread = threading.Thread(target=celery._run_lane, args=(bank.lane_id,))
    with own_lane(bank.lane_id):
        thread.start()
        wait_for(lambda: len(pauses) > 8)
    wait_for(lambda: ring.is_alive(bank.lane_id))
    stop.set()
    thread.join(20)
    assert not thread.is_alive() and set(pauses) == {lanes.STAND_BY_SECONDS, 0.0}


def test_standing_by_ends_with_the_owner_with_the_process_and_with_its_patience(bank: ApiClient):
    until = threading.Event()
    with own_lane(bank.lane_id):
        began = time.monotonic()
        lanes.stand_by(bank.lane_id, until, patience=0.3)
        assert 0.3 <= time.monotonic() - began < 5
        stands_by = threading.Thread(target=lanes.stand_by, args=(bank.lane_id, until))
        stands_by.start()
        time.sleep(0.3)
        assert stands_by.is_alive()
    stands_by.join(20)
    assert not stands_by.is_alive()
    with own_lane(bank.lane_id):  # standing by left no lock behind
        until.set()
        lanes.stand_by(bank.lane_id, until)


def test_standing_by_ends_where_its_session_is_cut(bank: ApiClient):
    with own_lane(bank.lane_id) as lane:
        stands_by = threading.Thread(target=lanes.stand_by, args=(bank.lane_id, threading.Event()))
        stands_by.start()
        lane.cursor.execute("SELECT pg_backend_pid()")
        [own] = lane.cursor.fetchone()
        cut = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name ^@ 'lane of' AND datname = current_database() AND pid <> {own}"""
        wait_for(lambda: rows(cut))
        stands_by.join(20)
        assert not stands_by.is_alive() and lanes.owner_of(lane.cursor, bank.lane_id) == os.getpid()


def test_a_bell_never_takes_the_lane_from_the_scorers_own_thread(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """Seen with kill -9: bells judged with memories of their own, one after the other, and the thread never got in."""
    ids = keep(bank, "pay-1")
    monkeypatch.setitem(celery._lanes, bank.lane_id, threading.current_thread())
    tasks.run_lane(bank.lane_id)
    assert decided() == []
    monkeypatch.delitem(celery._lanes, bank.lane_id)
    tasks.run_lane(bank.lane_id)
    assert decided() == ids


def test_valkey_killed_under_a_reader_is_the_rings_one_error(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    """Ring ("the one error is RingGone"): redis-py itself may say ValueError then, which was a 500 once."""

    def closed(*_: Any, **__: Any) -> None:
        raise ValueError("I/O operation on closed file.")

    monkeypatch.setattr(ring, "_exchange", closed)
    monkeypatch.setattr(ring, "_rest_until", 0.0)
    with pytest.raises(ring.RingGone):
        ring.push_range(bank.lane_id, 1, 1)
    monkeypatch.setattr(ring, "_rest_until", 0.0)
