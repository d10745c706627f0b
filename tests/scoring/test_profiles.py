"""The memory as a thing: labels in force, digests, snapshots, room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scoring import snapshots
from scoring.features import advance, events_from_facts, label_events
from scoring.profiles import FRAUD, KINDS, LABEL_ROW, LEGITIMATE, NONE, WIDTHS, Profiles, bytes_each
from scoring.snapshots import BadSnapshot
from tests.scoring.test_features import random_events

IMPORT, CUSTOMER, INVESTIGATOR, CHARGEBACK = 1, 2, 3, 4
WITHDRAWN = 3


def rows(*labels: tuple[int, int, int, int, int]) -> np.ndarray:
    """Label rows (id, transaction, known_at, verdict, source)."""
    return np.array(list(labels), LABEL_ROW)


def grown(n: int = 600) -> Profiles:
    """A memory with something of everything."""
    profiles = Profiles(lane=3)
    facts, labels = random_events(n)
    advance(profiles, events_from_facts(facts, 1))
    advance(profiles, label_events(profiles, labels, facts[labels["transaction_id"] - 1]))
    profiles.epoch, profiles.seq, profiles.token = 2, n, bytes(range(16))
    return profiles


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([(1, 9, 50, FRAUD, INVESTIGATOR)], [(NONE, FRAUD)]),
        ([(1, 9, 50, FRAUD, INVESTIGATOR), (2, 9, 60, FRAUD, CHARGEBACK)], [(NONE, FRAUD), (FRAUD, FRAUD)]),
        ([(1, 9, 50, FRAUD, CHARGEBACK), (2, 9, 60, LEGITIMATE, CUSTOMER)], [(NONE, FRAUD), (FRAUD, FRAUD)]),
        ([(1, 9, 50, FRAUD, CUSTOMER), (2, 9, 40, LEGITIMATE, CUSTOMER)], [(NONE, FRAUD), (FRAUD, FRAUD)]),
        ([(1, 9, 50, FRAUD, CUSTOMER), (2, 9, 50, LEGITIMATE, CUSTOMER)], [(NONE, FRAUD), (FRAUD, LEGITIMATE)]),
        ([(1, 9, 50, FRAUD, CUSTOMER), (2, 9, 60, WITHDRAWN, CUSTOMER)], [(NONE, FRAUD), (FRAUD, NONE)]),
        ([(1, 9, 50, FRAUD, IMPORT), (2, 8, 60, FRAUD, IMPORT)], [(NONE, FRAUD), (NONE, FRAUD)]),
    ],
)
def test_the_label_in_force_goes_by_rank_then_time_then_id(labels: list, expected: list):
    at_once, one_by_one = Profiles(), Profiles()
    old, new = at_once.take_labels(rows(*labels))
    assert list(zip(old.tolist(), new.tolist(), strict=True)) == expected
    single = [one_by_one.take_labels(rows(label)) for label in labels]
    assert [(int(old[0]), int(new[0])) for old, new in single] == expected
    assert at_once.digest() == one_by_one.digest()


def test_the_order_of_arrival_does_not_change_which_label_ends_in_force():
    labels = [(1, 9, 50, FRAUD, CUSTOMER), (2, 9, 70, LEGITIMATE, INVESTIGATOR), (3, 9, 60, FRAUD, INVESTIGATOR)]
    ends = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)):
        _, new = Profiles().take_labels(rows(*(labels[i] for i in order)))
        ends.add(int(new[-1]))
    assert ends == {LEGITIMATE}


def test_the_digest_does_not_know_the_capacity():
    lean, roomy = Profiles(), Profiles()
    roomy.reserve(50_000)
    facts, labels = random_events(500)
    for profiles in (lean, roomy):
        for start in range(0, 500, 50):
            advance(profiles, events_from_facts(facts[start : start + 50]))
        profiles.take_labels(labels)
    assert len(lean.arrays.words) < len(roomy.arrays.words)
    assert lean.digest() == roomy.digest()


def test_the_digest_does_not_know_the_order_in_which_strangers_came():
    facts, _ = random_events(2)
    for kind in ("customer", "card", "account", "device", "ip", "merchant", "terminal", "counterparty"):
        facts[kind] = [11, 22]
    facts["mcc"], facts["stage"], facts["occurred_at"], facts["type"], facts["direction"] = [5, 6], 1, 10**15, 1, 1
    digests = set()
    for order in ([0, 1], [1, 0]):
        profiles = Profiles()
        advance(profiles, events_from_facts(facts[order]))
        digests.add(profiles.digest())
    assert len(digests) == 1


def test_one_payment_more_is_another_digest():
    facts, _ = random_events(50)
    facts["stage"], facts["type"] = 1, 1
    profiles = Profiles()
    seen = set()
    for i in range(50):
        advance(profiles, events_from_facts(facts[i : i + 1]))
        seen.add(profiles.digest())
    assert len(seen) == 50


def test_a_snapshot_brings_back_the_same_memory_and_goes_on_the_same(tmp_path: Path):
    before = grown()
    sha256 = snapshots.save(before, tmp_path / "folder" / "a.profiles")
    after = snapshots.load(tmp_path / "folder" / "a.profiles", sha256)
    assert (after.lane, after.epoch, after.seq, after.token) == (3, 2, 600, bytes(range(16)))
    assert after.digest() == before.digest() and after.memory() == before.memory()
    facts, labels = random_events(700, seed=9)
    for profiles in (before, after):
        advance(profiles, label_events(profiles, labels, facts[labels["transaction_id"] - 1]))
    events = events_from_facts(facts)
    assert advance(after, events).matrix.tobytes() == advance(before, events).matrix.tobytes()
    assert after.digest() == before.digest()
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder" / "a.profiles"]


def test_an_empty_memory_can_be_saved(tmp_path: Path):
    snapshots.save(Profiles(1), tmp_path / "empty")
    assert snapshots.load(tmp_path / "empty").digest() == Profiles(1).digest()


@pytest.mark.parametrize("damage", ["bit", "torn", "foreign", "header"])
def test_a_damaged_snapshot_is_refused(tmp_path: Path, damage: str):
    path = tmp_path / "a.profiles"
    snapshots.save(grown(50), path)
    raw = bytearray(path.read_bytes())
    if damage == "bit":
        raw[-2000] ^= 1
    elif damage == "torn":
        raw = raw[:-500]
    elif damage == "foreign":
        raw[0] = 0
    else:
        raw = raw.replace(b'"layout": 2', b'"layout": 9', 1)
    path.write_bytes(raw)
    with pytest.raises(BadSnapshot):
        snapshots.load(path)


def test_another_snapshot_than_the_one_asked_for_is_refused(tmp_path: Path):
    snapshots.save(grown(50), tmp_path / "a")
    with pytest.raises(BadSnapshot):
        snapshots.load(tmp_path / "a", "0" * 64)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.profiles"
    profiles = grown(50)
    snapshots.save(profiles, path)
    before = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        snapshots.save(profiles, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_memory_is_counted_by_kind():
    profiles = grown()
    used = profiles.memory()
    assert set(used) == {*KINDS, "pairs", "marks"}
    assert used["customer"] == profiles.count("customer") * bytes_each()["customer"]
    assert max(WIDTHS) * 8 < 2500
