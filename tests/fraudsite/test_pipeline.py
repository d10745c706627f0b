"""The climb of a batch: once, in one commit, answered after it, and never stopped by what one payment breaks."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg2
import pytest
from django.core.management import call_command
from django.db import connections

from alerts.models import Alert
from fraudsite import answering, pipeline
from fraudsite.pipeline import NoRelease, Trouble, drain
from scoring import epochs, features, lanes, releases, services, tasks
from scoring.lanes import Claim, own_lane
from scoring.models import Decision, HoldResolution, LaneLog, LaneStatus, Release
from tests.judging import keep, label, live_rule, payments, prepared, rows, wait_for
from transactions import binary, few, ring
from transactions.models import ApiClient, Transaction
from transactions.services import ingest, insert

NONE = np.empty(0, "i8")


def decided() -> list[int]:
    return [row[0] for row in rows("SELECT transaction_id FROM decision ORDER BY seq")]


def log_rows() -> list[tuple[int, ...]]:
    return rows("SELECT seq, kind, transaction_id, old, new FROM lane_log ORDER BY seq")


def body(bank: ApiClient, *names: str, token: bytes = b"t" * 16, **changes: object) -> ring.Body:
    return ring.Body(token, time.time() + 5, prepared(bank, *names, **changes).dump())


# --- once -------------------------------------------------------------------------------------------------------------


def test_what_is_owed_is_decided_once_and_logged_in_order(bank: ApiClient):
    ids = keep(bank, *(f"pay-{n}" for n in range(5)))
    assert drain(bank.lane_id) == 5
    assert drain(bank.lane_id) == 0
    assert sorted(decided()) == ids
    assert [(seq, kind) for seq, kind, *_ in log_rows()] == [(n, 1) for n in range(1, 6)]
    decision = Decision.objects.get(transaction_id=ids[0])
    assert (decision.outcome, decision.score, decision.screening, decision.id) == ("approve", -1, 1, ids[0] * 64 + 1)
    assert len(decision.features) == features.N_FEATURES * 4


def test_a_batch_is_decided_in_stretches_while_postgres_takes_in_what_went_before(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []

    def decide(facts, matrix, judge):
        sizes.append(len(facts))
        return services.decide(facts, matrix, judge)

    monkeypatch.setattr(pipeline, "decide", decide)
    monkeypatch.setattr(pipeline, "STRETCH", 40)
    monkeypatch.setattr(binary, "MANY", 30)
    live_rule(bank.lane, "amount > 100")
    held = keep(bank, *(f"held-{n}" for n in range(3)), amount__value=500_00)
    ids = held + keep(bank, *(f"pay-{n}" for n in range(99)), amount__value=5_00)
    assert drain(bank.lane_id) == 102
    assert sizes == [40, 40, 22]
    assert sorted(decided()) == sorted(ids)
    assert sorted(Alert.objects.values_list("pk", flat=True)) == sorted(held)
    odd = "SELECT 1 FROM lane_log g JOIN decision d USING (transaction_id) WHERE g.seq <> d.seq"
    assert rows(odd) == [] and len(rows("SELECT DISTINCT decided_at FROM decision")) == 1
    call_command("verify", bank.lane_id, replay=True, verbosity=0)


def test_doubled_and_overlapping_rings_decide_nothing_twice(bank: ApiClient):
    ids = keep(bank, "pay-1", "pay-2", "pay-3")
    for _ in range(3):
        ring.push_range(bank.lane_id, ids[0], ids[2])
        ring.push_range(bank.lane_id, ids[1], ids[1])
    with own_lane(bank.lane_id) as lane:
        for _ in range(3):
            pipeline.judge(lane, lane.claim(patience=0.01))
            ring.push_range(bank.lane_id, ids[0], ids[2])
    assert sorted(decided()) == ids
    assert len(log_rows()) == 3


def test_a_lost_ring_is_found_by_the_sweep(bank: ApiClient):
    ids = keep(bank, "pay-1")
    ring.drain(bank.lane_id, most=100)
    with own_lane(bank.lane_id) as lane:
        claim = lane.claim(patience=0.01)
        assert claim.payments.tolist() == ids


def test_the_same_payment_as_body_and_as_ring_is_judged_once(bank: ApiClient):
    one = prepared(bank, "pay-1")
    with own_lane(bank.lane_id) as lane:
        bodies = [ring.Body(token, time.time() + 5, one.dump()) for token in (b"a" * 16, b"b" * 16)]
        [known] = keep(bank, "pay-2")
        done = pipeline.judge(lane, Claim(np.array([known]), NONE, bodies))
        assert len(done) == 2
        again = pipeline.judge(lane, Claim(np.array(decided()), NONE, bodies))
        assert len(again) == 0
    assert len(decided()) == len(set(decided())) == 2


def test_history_is_owed_no_decision(bank: ApiClient):
    ingest(payments("old"), client=bank, intake="history")
    assert drain(bank.lane_id) == 0
    assert decided() == []


def test_a_clearing_is_recorded_but_not_judged(bank: ApiClient):
    live_rule(bank.lane, "amount >= 0", "decline")
    [payment] = keep(bank, "clear-1", stage="clearing")
    drain(bank.lane_id)
    decision = Decision.objects.get(transaction_id=payment)
    assert (decision.outcome, decision.score, decision.degraded) == ("recorded", -1, 0)
    assert (LaneLog.objects.get(transaction_id=payment).kind, Alert.objects.count()) == (pipeline.PROFILED, 0)


def test_a_batch_is_judged_in_order_of_time(bank: ApiClient):
    now = datetime.now(UTC)
    texts = [(now - timedelta(minutes=n)).isoformat(timespec="milliseconds") for n in (1, 3, 2)]
    ids = [keep(bank, f"pay-{n}", occurred_at=text)[0] for n, text in enumerate(texts)]
    drain(bank.lane_id)
    assert decided() == [ids[1], ids[2], ids[0]]


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_an_error_before_the_commit_leaves_nothing_and_the_next_try_equals_a_first_one(bank: ApiClient, monkeypatch):
    live_rule(bank.lane, "amount >= 0")
    [payment] = keep(bank, "pay-1")
    store, failures = lanes.Commit.store, iter([True])

    def fail_once(commit, table, columns, **beside):
        if table == "alert" and next(failures, False):
            raise ValueError("a bad day")
        return store(commit, table, columns, **beside)

    monkeypatch.setattr(lanes.Commit, "store", fail_once)
    assert drain(bank.lane_id) == 1
    assert log_rows() == [(1, 1, payment, None, None)]
    vector = np.frombuffer(Decision.objects.get(transaction_id=payment).features, "<f4")
    assert vector[features.NAMES.index("customer_count_24h")] == 0


def test_a_session_cut_in_the_commit_is_no_fault_of_the_payment(bank: ApiClient, monkeypatch):
    [payment] = keep(bank, "pay-1")
    decide, cuts = services.decide, iter([True])

    def cut(facts, matrix, judge):
        if next(cuts, False):
            rows("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name ^@ 'lane of'")
        return decide(facts, matrix, judge)

    monkeypatch.setattr(pipeline, "decide", cut)
    with pytest.raises(psycopg2.OperationalError):
        drain(bank.lane_id)
    assert drain(bank.lane_id) == 1
    assert Decision.objects.get(transaction_id=payment).degraded == 2  # judged in full, but for a model there is none


def test_a_payment_that_fails_twice_is_decided_by_the_fallback_and_the_others_as_ever(bank: ApiClient, monkeypatch):
    ids = keep(bank, *(f"pay-{n}" for n in range(6)))
    advance = features.advance

    def choke(profiles, events, **named):
        if ids[3] in events["id"].tolist():
            raise ArithmeticError("cannot be profiled")
        return advance(profiles, events, **named)

    monkeypatch.setattr(features, "advance", choke)
    assert drain(bank.lane_id) == 6
    poisoned = Decision.objects.get(transaction_id=ids[3])
    assert (poisoned.outcome, poisoned.degraded) == ("review", services.FAILED_TWICE)
    assert [alert.pk for alert in Alert.objects.all()] == [ids[3]]
    assert sorted(decided()) == ids
    assert {row[3] for row in log_rows() if row[2] == ids[3]} == {epochs.LEFT_OUT}


def test_a_claim_that_failed_is_tried_again_whole_then_in_halves_then_alone():
    trouble, whole = Trouble(), Claim(np.arange(3), NONE)
    trouble.note(whole)
    again = trouble.next()
    assert again is not None and again.payments.tolist() == [0, 1, 2]
    trouble.note(again)
    left, right = trouble.next(), trouble.next()
    assert left is not None and right is not None
    assert (left.payments.tolist(), right.payments.tolist(), left.tries, right.tries) == ([0, 1], [2], 1, 0)
    trouble.note(right)
    trouble.note(trouble.next() or left)
    alone = trouble.next()
    assert alone is not None and alone.fallback
    trouble.note(alone)
    assert trouble.next() is None


def test_without_a_release_payments_stay_owed(bank: ApiClient):
    ids = keep(bank, "pay-1")
    releases = list(Release.objects.filter(lane=bank.lane_id))
    Release.objects.all().delete()
    with pytest.raises(NoRelease):
        drain(bank.lane_id)
    Release.objects.bulk_create(releases)
    assert drain(bank.lane_id) == 1
    assert decided() == ids


def test_the_next_payment_is_judged_by_the_new_release(bank: ApiClient):
    first, second = keep(bank, "pay-1"), None
    drain(bank.lane_id)
    release = live_rule(bank.lane, "amount >= 0", "challenge")
    second = keep(bank, "pay-2")
    drain(bank.lane_id)
    outcomes = dict(Decision.objects.values_list("transaction_id", "outcome"))
    assert outcomes == {first[0]: "approve", second[0]: "challenge"}
    assert Decision.objects.get(transaction_id=second[0]).release_id == release.pk


# --- alerts, labels, links --------------------------------------------------------------------------------------------


def test_a_stopped_payment_raises_its_alert_in_the_same_commit(bank: ApiClient):
    live_rule(bank.lane, "amount >= 0")
    [payment] = keep(bank, "pay-1", amount__value=4970_00)
    drain(bank.lane_id)
    alert, decision = Alert.objects.get(), Decision.objects.get()
    assert (alert.pk, alert.decision_id, alert.seq, alert.customer_ref) == (payment, decision.pk, 1, "cus-81c2")
    assert (alert.outcome, alert.reasons[0]["code"], alert.rules[0]["values"]["amount"]) == (
        "review",
        "VELOCITY",
        4970.0,
    )
    assert alert.hold_until == decision.decided_at + timedelta(minutes=120)
    assert bytes(decision.rule_hits) == b"\x01"


def test_labels_chain_from_old_to_new_in_memory(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    drain(bank.lane_id)
    label(payment, "fraud", "investigator")
    label(payment, "fraud", "chargeback")
    drain(bank.lane_id)
    label(payment, "legitimate", "customer")
    label(payment, "withdrawn", "chargeback")
    drain(bank.lane_id)
    assert [row[3:] for row in log_rows() if row[1] == pipeline.LABEL] == [(0, 2), (2, 2), (2, 2), (2, 0)]


def test_a_label_may_come_in_one_claim_with_its_payment(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    label(payment)
    drain(bank.lane_id)
    assert [(kind, id_) for _, kind, id_, *_ in log_rows()] == [(pipeline.JUDGED, payment), (pipeline.LABEL, payment)]


def test_a_label_that_fails_twice_gets_a_row_that_changes_nothing_and_the_others_go_in(bank: ApiClient, monkeypatch):
    ids = keep(bank, "pay-1", "pay-2")
    drain(bank.lane_id)
    bad, good = label(ids[0], "fraud"), label(ids[1], "fraud")
    events = features.label_events

    def choke(profiles, labels, *rest):
        if bad in labels["id"].tolist():
            raise ArithmeticError("cannot be profiled")
        return events(profiles, labels, *rest)

    monkeypatch.setattr(features, "label_events", choke)
    assert drain(bank.lane_id) == 2
    found = {row.label_id: (row.old, row.new) for row in LaneLog.objects.filter(kind=pipeline.LABEL)}
    assert found == {bad: (epochs.LEFT_OUT, epochs.LEFT_OUT), good: (0, 2)}
    monkeypatch.undo()
    label(ids[0], "legitimate", "chargeback")
    assert drain(bank.lane_id) == 1
    call_command("verify", bank.lane_id, replay=True, verbosity=0)
    assert epochs.build(bank.lane_id).labels == 2
    drain(bank.lane_id)
    call_command("verify", bank.lane_id, replay=True, all_epochs=True, verbosity=0)


def test_first_sightings_become_links_once(bank: ApiClient):
    keep(bank, "pay-1", "pay-2")
    drain(bank.lane_id)
    with own_lane(bank.lane_id) as lane:  # a memory that forgot the pairs, as after an epoch
        links = np.zeros(1, features.LINK)
        links["left_kind"], links["right_kind"] = 1, 3
        for doubled in (np.repeat(links, 2), np.repeat(links, few.FEW + 1)):
            with lane.commit() as commit:
                pipeline._link(commit, bank.lane_id, doubled)
                commit.to(commit.before.seq)
    found = rows("SELECT left_kind, left_key, right_kind, right_key, seen_at FROM entity_link")
    assert len({row[:4] for row in found}) == len(found) == 6
    assert min(row[4] for row in found).year == 2000


def test_a_new_release_is_loaded_while_no_transaction_is_open(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    keep(bank, "pay-1")
    assemble, states = releases._assemble, []

    def watch(release: Release) -> releases.Judge:
        states.extend(rows("SELECT state FROM pg_stat_activity WHERE application_name ^@ 'lane of'"))
        return assemble(release)

    monkeypatch.setattr(releases, "_assemble", watch)
    release = live_rule(bank.lane, "amount >= 0")
    assert drain(bank.lane_id) == 1
    assert states == [("idle",)]
    assert Decision.objects.get().release_id == release.pk


# --- waiting requests -------------------------------------------------------------------------------------------------


def test_a_waiting_request_is_answered_with_its_decision(running: ApiClient):
    reply = answering.judge_now(prepared(running, "pay-1"), 5.0)
    assert reply is not None and (reply["created"], reply["conflict"]) == (True, False)
    assert reply["decision"] == answering.find([reply["id"]])[reply["id"]]
    assert reply["decision"]["outcome"] == "approve" and reply["decision"]["threshold_set"] == "policy-1"


def test_a_retry_gets_the_same_decision_and_another_body_a_conflict(running: ApiClient):
    one = prepared(running, "pay-1")
    first, again = answering.judge_now(one, 5.0), answering.judge_now(one, 5.0)
    other = answering.judge_now(prepared(running, "pay-1", amount__value=1), 5.0)
    assert first and again and other
    assert (again["id"], again["created"], again["decision"]) == (first["id"], False, first["decision"])
    assert (other["id"], other["conflict"], other["decision"]) == (first["id"], True, None)
    assert Transaction.objects.count() == 1


def test_many_waiting_requests_are_answered_each_with_its_own(running: ApiClient):
    replies: dict[str, dict] = {}

    def ask(name: str) -> None:
        reply = answering.judge_now(prepared(running, name), 10.0)
        replies[name] = reply or {}
        connections.close_all()

    threads = [threading.Thread(target=ask, args=(f"pay-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = dict(rows("SELECT external_id, id FROM transaction"))
    assert {name: reply["id"] for name, reply in replies.items()} == names


def test_without_an_owner_patience_ends_and_the_web_keeps_the_payment(bank: ApiClient):
    one = prepared(bank, "pay-1")
    ring.say_alive(bank.lane_id)  # killed a moment ago
    started = time.monotonic()
    assert answering.judge_now(one, 0.2) is None
    assert 0.15 < time.monotonic() - started < 10
    ring.say_gone(bank.lane_id)
    [payment] = [receipt.id for receipt in ingest([*payments("pay-1")], client=bank)]
    with own_lane(bank.lane_id) as lane:
        claim = lane.claim(patience=0.01)
        assert claim.bodies == [], "its asker has gone"
        pipeline.judge(lane, claim)
    assert decided() == [payment]


def test_nobody_waits_for_a_lane_that_nobody_owns(bank: ApiClient):
    started = time.monotonic()
    assert answering.judge_now(prepared(bank, "pay-1"), 20.0) is None
    assert time.monotonic() - started < 10


def test_a_key_that_another_ingest_holds_is_left_to_it(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    replies: dict[bytes, bytes] = {}
    monkeypatch.setattr(ring, "reply", replies.update)
    with closing(lanes.connect()) as stuck:
        cursor = stuck.cursor()
        cursor.execute("BEGIN")
        insert(cursor, prepared(bank, "held"))
        [free] = keep(bank, "free")
        with own_lane(bank.lane_id) as lane:
            done = pipeline.judge(lane, Claim(np.array([free]), NONE, [body(bank, "held")]))
            assert len(done) == 1 and lane.memory is not None and lane.memory.seq == 1
    assert decided() == [free] and replies == {}


def test_a_body_that_cannot_be_read_is_left_aside(bank: ApiClient):
    with own_lane(bank.lane_id) as lane:
        garbage = ring.Body(b"g" * 16, time.time() + 5, b"\x93garbage")
        done = pipeline.judge(lane, Claim(NONE, NONE, [garbage, body(bank, "pay-1")]))
    assert len(done) == 1


def test_a_connection_cut_after_the_commit_costs_one_reply_and_not_the_next(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    reply = pipeline._reply

    def cut(_: pipeline.Done) -> None:
        monkeypatch.setattr(pipeline, "_reply", reply)
        rows("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(pipeline, "_reply", cut)
    with own_lane(bank.lane_id) as lane:
        done = pipeline.judge(lane, Claim(NONE, NONE, [body(bank, "pay-1")]))
        assert len(done) == 1 and lane.memory is not None and lane.memory.seq == 1
    assert len(decided()) == 1


# --- without Valkey ---------------------------------------------------------------------------------------------------


def test_a_running_lane_polls_postgres_when_valkey_is_gone(running: ApiClient, monkeypatch: pytest.MonkeyPatch):
    def gone(*_, **__):
        raise ring.RingGone("gone")

    monkeypatch.setattr(ring, "_call", gone)
    ids = keep(running, "pay-1", "pay-2")
    assert answering.judge_now(prepared(running, "pay-3"), 1.0) is None
    wait_for(lambda: sorted(decided()) == ids)


def test_the_owner_says_how_it_goes(running: ApiClient):
    keep(running, "pay-1")
    wait_for(lambda: LaneStatus.objects.filter(figures__seq=1).exists())
    status = LaneStatus.objects.get()
    assert (status.state, status.degraded) == ("running", "model_off")
    assert status.figures["p50_ms"] > 0 and status.figures["backlog_age_s"] == 0 and status.figures["ring"] is True


# --- held payments ----------------------------------------------------------------------------------------------------


def test_a_held_payment_is_resolved_once(bank: ApiClient):
    live_rule(bank.lane, "amount > 100")
    held, free = keep(bank, "held", amount__value=500_00)[0], keep(bank, "free", amount__value=5_00)[0]
    drain(bank.lane_id)
    assert answering.find([held])[held]["resolution"] == "pending"
    assert services.resolve_held([held, free], "blocked", by="ines", source="case") == [held]
    assert services.resolve_held([held], "released", by="ines", source="case") == []
    said = answering.find([held, free])
    assert (said[held]["resolution"], said[free]["resolution"]) == ("blocked", None)
    assert said[held]["resolved_at"] is not None


def test_nobody_deciding_in_time_means_the_policys_default(bank: ApiClient):
    live_rule(bank.lane, "amount >= 0")
    one, two = keep(bank, "pay-1", "pay-2")
    drain(bank.lane_id)
    assert services.resolve_overdue_holds() == []
    Alert.objects.filter(pk=one).update(hold_until=datetime.now(UTC) - timedelta(seconds=1))
    assert services.resolve_overdue_holds() == [one]
    assert services.resolve_overdue_holds() == []
    resolution = HoldResolution.objects.get()
    assert (resolution.resolution, resolution.source) == ("released", "default")
    Alert.objects.filter(pk=two).update(hold_until=datetime.now(UTC) - timedelta(days=3))
    assert (tasks.resolve_overdue_holds(), tasks.sweep_holds(), tasks.sweep_holds()) == (0, 1, 0)
