"""Replays and epochs: history as it would have been seen, and a lane that switches to it without losing a step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from fraudsite import pipeline
from scoring import epochs, features
from scoring.lanes import own_lane
from scoring.models import EntityLink, Epoch, LaneCursor, LaneLog
from scoring.profiles import FRAUDS, LABEL_ROW, NEVER, PAYMENTS, Profiles
from tests.judging import keep, label, rows
from tests.scoring.test_features import DAY, HOUR, START, payment, random_events
from transactions.models import ApiClient, ImportJob, Label

# --- time replay ------------------------------------------------------------------------------------------------------


def replayed(facts: np.ndarray, labels: np.ndarray, size: int = 10_000, **options: Any) -> tuple[np.ndarray, Profiles]:
    """The rows of a time replay in batches of `size`, and the memory after it."""
    profiles = Profiles()
    batches = (facts[at : at + size] for at in range(0, len(facts), size))
    return np.concatenate([matrix for _, matrix in epochs.time_replay(batches, labels, profiles, **options)]), profiles


def feature(matrix: np.ndarray, name: str) -> list[float]:
    return matrix[:, features.NAMES.index(name)].tolist()


def known(*labels: tuple[int, int, int]) -> np.ndarray:
    """Fraud labels (id, transaction, known after START; NEVER is kept)."""
    return np.array([(i, t, k if k == NEVER else START + k, 2, 1) for i, t, k in labels], LABEL_ROW)


def test_a_label_enters_a_time_replay_when_it_was_known():
    facts = np.concatenate([payment(i + 1, i * HOUR) for i in range(6)])
    matrix, _ = replayed(facts, known((1, 1, 3 * HOUR)))
    assert feature(matrix, "customer_fraud_total") == [0, 0, 0, 0, 1, 1]  # not yet in the payment of that very moment


def test_a_label_known_before_its_payment_enters_after_it():
    facts = np.concatenate([payment(i + 1, i * HOUR) for i in range(4)])
    matrix, _ = replayed(facts, known((1, 3, -DAY)))
    assert feature(matrix, "customer_fraud_total") == [0, 0, 0, 1]


def test_a_label_without_a_known_time_waits_for_the_delay():
    facts = np.concatenate([payment(i + 1, i * DAY) for i in range(10)])
    matrix, _ = replayed(facts, known((1, 2, NEVER)), delay=7 * DAY)
    assert feature(matrix, "customer_fraud_total") == [0] * 9 + [1]


def test_a_time_replay_is_the_same_bits_however_it_is_cut():
    facts, labels = random_events(2000)
    facts = np.sort(facts, order=("occurred_at", "id"))
    whole, memory = replayed(facts, labels)
    for size in (1, 97, 1000):
        cut, again = replayed(facts[: 400 if size == 1 else None], labels, size)
        assert cut.tobytes() == whole[: len(cut)].tobytes()
        assert size == 1 or again.digest() == memory.digest()


def test_labels_of_unknown_payments_are_left_out_and_late_ones_still_enter_at_the_end():
    facts = np.concatenate([payment(i + 1, i * HOUR) for i in range(3)])
    _, profiles = replayed(facts, known((1, 2, 40 * DAY), (2, 99, HOUR)))
    assert profiles.arrays.used[features.PAIRS + 1] == 1
    assert profiles.arrays.words[8 + FRAUDS] == 1  # frauds of the first record, the customer's


def test_payments_out_of_order_are_refused():
    facts = np.concatenate([payment(1, HOUR), payment(2, 0)])
    with pytest.raises(ValueError, match="ordered"):
        replayed(facts, known(), size=1)


# --- a lane and its epochs --------------------------------------------------------------------------------------------


def imported(bank: ApiClient, n: int = 40, **facts: Any) -> ImportJob:
    """A finished import of `n` payments of one customer and device, a day apart, the last one a month ago."""
    job = ImportJob.objects.create(
        kind="transactions", lane=bank.lane, client=bank, file_name="h.csv", fingerprint=f"{ImportJob.objects.count()}"
    )
    start = datetime.now(UTC) - timedelta(days=30 + n)
    with connection.cursor() as cursor:
        for i in range(n):
            at = start + timedelta(days=i)
            values = {
                "id": ("nextval('transaction_id_seq')"),
                "occurred_at": f"'{at.isoformat()}'",
                "amount_base": "1000",
            }
            values |= {"customer": "4711", "device": "815", "lane": str(bank.lane_id), "client": str(bank.pk)}
            values |= {"intake": "2", "import_job": str(job.pk), "stage": "1", "lat": "'NaN'", "lon": "'NaN'"}
            columns = [*epochs.FACT_COLUMNS, "external_id", "customer_ref"]
            times = ("received_at", "original_at")
            given = [values.get(name, f"'{at.isoformat()}'" if name in times else "0") for name in columns[:-2]]
            names = ", ".join(f'"{name}"' for name in columns)
            cursor.execute(f"INSERT INTO transaction ({names}) VALUES ({', '.join(given)}, 'h-{job.pk}-{i}', '4711')")
    job.status, job.finished_at = "finished", datetime.now(UTC)
    job.save()
    return job


def imported_label(job: ImportJob, place: int, known_at: datetime) -> ImportJob:
    """A finished import of one fraud label, for the `place`-th payment of `job`."""
    ids = [row[0] for row in rows("SELECT id FROM transaction WHERE import_job = %s ORDER BY id", job.pk)]
    labels = ImportJob.objects.create(
        kind="labels", lane=job.lane, client=job.client, file_name="l.csv", fingerprint=f"{ImportJob.objects.count()}",
        status="finished", finished_at=datetime.now(UTC),
    )  # fmt: skip
    fraud = label(ids[place], at=known_at)
    Label.objects.filter(pk=fraud).update(import_job=labels.pk)
    return labels


def memory_of(bank: ApiClient) -> Profiles:
    """The lane's memory at its cursor, rebuilt from what is stored."""
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None
        return lane.memory


def switched(bank: ApiClient) -> bool:
    with own_lane(bank.lane_id) as lane:
        return epochs.switch_if_ready(lane)


def test_log_replay_gives_the_memory_and_the_stored_vectors_bit_for_bit(bank: ApiClient):
    ids = keep(bank, *[f"p-{i}" for i in range(30)])
    pipeline.drain(bank.lane_id)
    label(ids[3])
    keep(bank, "q-1", "q-2")
    pipeline.drain(bank.lane_id)
    stored = {seq: bytes(vector) for seq, vector in rows("SELECT seq, features FROM decision")}
    seen: dict[int, bytes] = {}

    def compare(events: np.ndarray, matrix: np.ndarray) -> None:
        judged = events["kind"] == features.JUDGED
        seen.update(zip(events["seq"][judged].tolist(), (row.tobytes() for row in matrix[judged]), strict=True))

    profiles = Profiles(bank.lane_id)
    with connection.cursor() as cursor:
        upto = LaneCursor.objects.get(lane=bank.lane_id).seq
        epochs.log_replay(cursor, profiles, bank.lane_id, upto=upto, on_batch=compare, rows=7)
    assert seen == stored and len(seen) == 32
    assert profiles.seq == upto == 33
    assert profiles.digest() == memory_of(bank).digest()


def a_busy_day(bank: ApiClient, seed: int) -> None:
    """Live traffic judged in random cuts: authorisations, clearings with and without one, reversals, labels."""
    rng = np.random.default_rng(seed)
    for turn in range(14):
        names = [f"p-{turn}-{i}" for i in range(rng.integers(1, 7))]
        ids = keep(bank, *names, customer__id=f"c-{rng.integers(3)}", merchant__id=f"m-{rng.integers(2)}",
                   amount__value=int(rng.integers(100, 90_000)))  # fmt: skip
        keep(bank, f"clear-{turn}", stage="clearing", original_external_id=names[0])
        if turn % 3 == 0:
            keep(bank, f"back-{turn}", stage="reversal", original_external_id=names[-1], type="reversal")
            keep(bank, f"unknown-{turn}", stage="clearing")
        if rng.random() < 0.6:
            pipeline.drain(bank.lane_id)
        for verdict in ("fraud", "legitimate", "withdrawn")[: rng.integers(0, 4)]:
            label(ids[0], verdict)
    pipeline.drain(bank.lane_id)


@pytest.mark.parametrize("size", [7, 1000])
def test_live_traffic_with_reversals_and_labels_is_replayed_bit_for_bit(bank: ApiClient, size: int):
    a_busy_day(bank, size)
    stored = {seq: bytes(vector) for seq, vector in rows("SELECT seq, features FROM decision WHERE outcome < 5")}
    seen: dict[int, bytes] = {}

    def compare(events: np.ndarray, matrix: np.ndarray) -> None:
        judged = events["kind"] == features.JUDGED
        seen.update(zip(events["seq"][judged].tolist(), (row.tobytes() for row in matrix[judged]), strict=True))

    upto, profiles, silent = (
        LaneCursor.objects.get(lane=bank.lane_id).seq,
        Profiles(bank.lane_id),
        Profiles(bank.lane_id),
    )
    with connection.cursor() as cursor:
        epochs.log_replay(cursor, profiles, bank.lane_id, upto=upto, on_batch=compare, rows=size)
        epochs.log_replay(cursor, silent, bank.lane_id, upto=upto, rows=size)
    assert rows("SELECT count(*) FROM transaction WHERE original <> 0")[0][0] >= 14
    assert seen == stored and len(seen) > 25
    assert profiles.digest() == silent.digest() == memory_of(bank).digest()
    epochs.build(bank.lane_id)
    assert switched(bank)


def test_payments_come_in_order_of_time_out_of_pieces_in_any_order():
    facts, _ = random_events(5000)
    facts["occurred_at"] = facts["occurred_at"] // DAY * DAY  # many at one moment
    order = np.random.default_rng(1).permutation(len(facts))
    runs = epochs.Runs(facts.dtype)
    for start in range(0, 5000, 1500):
        runs.add(facts[order[start : start + 1500]])
    batches = list(runs.batches(1024))
    assert len(runs) == 5000 and len(batches) > 1
    assert np.array_equal(np.concatenate(batches)["id"], facts["id"][np.lexsort((facts["id"], facts["occurred_at"]))])
    runs.close()


def test_an_epoch_brings_imported_history_into_the_lane(bank: ApiClient):
    keep(bank, "live-1", "live-2")
    pipeline.drain(bank.lane_id)
    job = imported(bank)
    imported_label(job, 5, datetime.now(UTC) - timedelta(days=20))
    call_command("build_epoch", bank.lane.name, reason="day one")
    ready = Epoch.objects.get()
    assert (ready.number, ready.status, ready.payments, ready.labels, ready.seq) == (1, "ready", 42, 1, 2)
    keep(bank, "live-3")
    pipeline.drain(bank.lane_id)  # judged by epoch 0 or 1: the switch comes between claims
    switched(bank)
    cursor, live = LaneCursor.objects.get(lane=bank.lane_id), Epoch.objects.get()
    assert (cursor.epoch, cursor.seq, live.status) == (1, 4, "live")
    assert [entry.seq for entry in LaneLog.objects.filter(kind=4)] == [live.switched_seq]
    memory = memory_of(bank)
    place = memory.arrays.entities[memory.arrays.entities[:, 0] == 4711][0, 1] >> 4
    assert memory.arrays.words[place + PAYMENTS] == 40 and memory.arrays.words[place + FRAUDS] == 1
    assert EntityLink.objects.filter(left_key=4711, right_key=815).count() == 1
    assert not switched(bank)


def test_what_came_between_the_build_and_the_switch_is_caught_up(bank: ApiClient):
    ids = keep(bank, *[f"p-{i}" for i in range(10)])
    pipeline.drain(bank.lane_id)
    epochs.build(bank.lane_id)
    keep(bank, "later-1", "later-2")
    label(ids[0])
    pipeline.drain(bank.lane_id)
    before = memory_of(bank).digest()
    switched(bank)
    after = memory_of(bank)
    assert after.epoch == 1 and after.digest() == before  # all live and in order: time replay and log replay agree
    keep(bank, "later-3")
    pipeline.drain(bank.lane_id)
    assert memory_of(bank).seq == LaneCursor.objects.get(lane=bank.lane_id).seq == 15


def test_imports_that_are_not_listed_stay_out(bank: ApiClient):
    first, _ = imported(bank, 5), imported(bank, 7)
    epoch = epochs.build(bank.lane_id, imports=[first.pk])
    assert (epoch.payments, epoch.imports) == (5, [first.pk])
    assert epochs.build(bank.lane_id).payments == 12  # built anew before the lane switched: the same number
    assert Epoch.objects.count() == 1


def test_a_running_import_cannot_be_listed(bank: ApiClient):
    job = imported(bank, 1)
    ImportJob.objects.filter(pk=job.pk).update(status="running", finished_at=None)
    with pytest.raises(CommandError, match=f"Import {job.pk} is not a finished import"):
        call_command("build_epoch", bank.lane.name, imports=str(job.pk))
    with pytest.raises(CommandError, match="There is no lane nowhere"):
        call_command("build_epoch", "nowhere")


def test_committed_but_unjudged_payments_do_not_enter_the_base(bank: ApiClient):
    keep(bank, "p-1")
    pipeline.drain(bank.lane_id)
    keep(bank, "p-2")
    assert epochs.build(bank.lane_id).payments == 1


def test_a_damaged_file_fails_its_epoch_and_the_lane_goes_on(bank: ApiClient, settings: Any):
    keep(bank, "p-1")
    pipeline.drain(bank.lane_id)
    epoch = epochs.build(bank.lane_id)
    (Path(settings.PROFILE_DIR) / epoch.file).write_bytes(b"nothing")
    assert not switched(bank)
    assert Epoch.objects.get().status == "failed"
    keep(bank, "p-2")
    assert pipeline.drain(bank.lane_id) == 1
    assert epochs.build(bank.lane_id).status == "ready" and switched(bank)


def test_an_epoch_that_was_built_anew_while_its_file_was_loaded_is_switched_to_next_time(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    keep(bank, "p-1")
    pipeline.drain(bank.lane_id)
    epochs.build(bank.lane_id)
    load = epochs._caught_up

    def built_anew_meanwhile(*args: Any) -> Profiles:
        fresh = load(*args)
        monkeypatch.undo()
        epochs.build(bank.lane_id)
        return fresh

    monkeypatch.setattr(epochs, "_caught_up", built_anew_meanwhile)
    assert not switched(bank) and LaneCursor.objects.get().epoch == 0
    assert switched(bank) and LaneCursor.objects.get().epoch == 1


def test_a_base_that_is_gone_is_named(bank: ApiClient, settings: Any):
    epochs.build(bank.lane_id)
    switched(bank)
    (Path(settings.PROFILE_DIR) / Epoch.objects.get().base_file).unlink()
    with pytest.raises(epochs.NoBase, match="base"):
        memory_of(bank)


def test_history_is_streamed_in_pieces(bank: ApiClient):
    imported(bank, 10)
    select = "SELECT id, amount_base FROM transaction WHERE lane = %(lane)s ORDER BY id"
    dtype = np.dtype([("id", "i8"), ("amount", "i8")])
    with connection.cursor() as cursor:
        pieces = list(epochs.stream(cursor, select, {"lane": bank.lane_id}, dtype, rows=4))
        assert [len(piece) for piece in pieces] == [4, 4, 2]
        assert not list(epochs.stream(cursor, select, {"lane": -1}, dtype))
