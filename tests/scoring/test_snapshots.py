"""A snapshot is the memory of one moment, although the kernel goes on writing into what is being copied."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from scoring import snapshots
from scoring.features import advance, events_from_facts, label_events
from scoring.profiles import LAYOUT_VERSION, WIDTHS, Profiles
from scoring.snapshots import Snapshot
from tests.scoring.test_features import random_events
from tests.scoring.test_profiles import grown

SEEDS = range(6)


class Stream:
    """Payments, reversals and labels of random people, taken in a few at a time."""

    def __init__(self, memory: Profiles, dice: random.Random) -> None:
        self.memory, self.dice, self.at = memory, dice, 0
        self.facts, self.labels = random_events(4_000, seed=dice.randrange(1_000))
        for name in ("customer", "merchant", "device"):  # many people, so that tables grow again and again
            some = self.facts[name] != 0
            self.facts[name][some] += np.arange(len(self.facts))[some] % 700

    def flow(self, most: int = 120) -> bool:
        """A batch; False when there is no more."""
        n = self.dice.randrange(1, most)
        part = self.facts[self.at : self.at + n]
        known = self.labels[
            (self.labels["transaction_id"] > self.at) & (self.labels["transaction_id"] <= self.at + len(part))
        ]
        advance(self.memory, events_from_facts(part, self.at + 1))
        advance(self.memory, label_events(self.memory, known, self.facts[known["transaction_id"] - 1]))
        self.at += len(part)
        self.memory.seq = self.at
        return self.at < len(self.facts)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_written_while_the_kernel_goes_on_is_the_memory_of_its_moment(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
):
    dice = random.Random(seed)
    monkeypatch.setattr(snapshots, "LITTLE", dice.choice([0, 20, 500]))
    monkeypatch.setattr(snapshots, "STEP", dice.choice([1, 7, 1_024]))
    memory = Profiles(1)
    stream = Stream(memory, dice)
    digests = {}
    snapshot: Snapshot | None = None
    made = 0
    while stream.flow():
        digests[memory.seq] = memory.digest()
        if snapshot is None:
            spare = min(tmp_path.glob("*.profiles"), default=None)
            snapshot = Snapshot(memory, tmp_path, spare=spare)
        if dice.random() < 0.5:
            snapshot.idle.wait(5)
        snapshot.step(memory)
        if snapshot.seq is not None:
            snapshot.drop()
            snapshot.thread.join(20)
            assert snapshot.error is None
            found = snapshots.load(tmp_path / f"000000-{snapshot.seq:014d}-{'0' * 32}.profiles")
            assert (found.seq, found.digest()) == (snapshot.seq, digests[snapshot.seq])
            made, snapshot = made + 1, None
    assert made >= 2
    if snapshot is not None:
        snapshot.drop()


def test_a_memory_read_back_goes_on_as_the_one_it_was_written_from(tmp_path: Path):
    memory = grown()
    snapshot = Snapshot(memory, tmp_path)
    facts, _ = random_events(900, seed=5)
    for start in range(0, 600, 60):
        snapshot.idle.wait(5)
        snapshot.step(memory)
        advance(memory, events_from_facts(facts[start : start + 60]))
    assert snapshot.seq is not None
    snapshot.thread.join(20)
    [path] = tmp_path.iterdir()
    found = snapshots.load(path, snapshot.sha256)
    twin = snapshots.load(path)
    rest = events_from_facts(facts[600:])
    assert advance(found, rest).matrix.tobytes() == advance(twin, rest).matrix.tobytes()
    assert found.digest() == twin.digest()


def test_a_second_snapshot_of_a_memory_takes_over_and_the_first_leaves_no_file(tmp_path: Path):
    memory = grown(50)
    first = Snapshot(memory, tmp_path / "first")
    first.step(memory)
    snapshots.save(memory, tmp_path / "second.profiles")
    first.idle.wait(5)
    first.step(memory)
    first.thread.join(20)
    assert first.over and first.seq is None and list((tmp_path / "first").iterdir()) == []
    assert snapshots.load(tmp_path / "second.profiles").digest() == memory.digest()


def test_a_file_that_is_written_over_leaves_nothing_of_itself(tmp_path: Path):
    old, new = grown(), grown(50)
    new.seq = 50
    spare = tmp_path / "spare.profiles"
    snapshots.save(old, spare)
    snapshot = Snapshot(new, tmp_path, spare=spare)
    snapshot.finish()
    [path] = tmp_path.iterdir()
    assert path.name == snapshots.name_of(new) and snapshots.load(path, snapshot.sha256).digest() == new.digest()
    again = Snapshot(new, tmp_path, spare=spare)  # somebody deleted it meanwhile
    again.finish()
    assert again.sha256 == snapshot.sha256


def test_a_dropped_snapshot_ends_its_thread_whatever_it_waits_for(tmp_path: Path):
    memory = grown(50)
    for steps in range(3):
        snapshot = Snapshot(memory, tmp_path)
        for _ in range(steps):
            snapshot.idle.wait(5)
            snapshot.step(memory)
        snapshot.drop()
        snapshot.thread.join(20)
        assert snapshot.over
    assert threading.active_count() < 20


def test_files_of_former_releases_are_still_read(tmp_path: Path):
    memory = grown()
    path = tmp_path / "old.profiles"
    written = in_the_old_way(memory, path)
    found = snapshots.load(path, written)
    assert found.digest() == memory.digest() and found.seq == memory.seq and found.memory() == memory.memory()
    events = events_from_facts(random_events(300, seed=3)[0])
    assert advance(found, events).matrix.tobytes() == advance(memory, events).matrix.tobytes()
    raw = bytearray(path.read_bytes())
    raw[-200] ^= 1
    path.write_bytes(raw)
    with pytest.raises(snapshots.BadSnapshot):
        snapshots.load(path)


def in_the_old_way(memory: Profiles, path: Path) -> str:
    """Entries without their places, as releases before this one wrote them."""
    tables = memory.tables()
    parts = [("used", np.array(memory.used)[:, None])]
    for name, columns, key in (("entities", 2, 1), ("words", 1, None), ("pairs", 2, 0), ("marks", 4, 0)):
        rows = tables[name].reshape(-1, columns)
        parts.append((name, rows[: memory.used[-1]] if key is None else rows[rows[:, key] != 0]))
    header = {
        "layout": LAYOUT_VERSION, "widths": WIDTHS, "lane": memory.lane, "epoch": memory.epoch, "seq": memory.seq,
        "token": bytes(memory.token).hex(), "parts": [[name, *part.shape] for name, part in parts],
    }  # fmt: skip
    content = snapshots.ENTRIES + json.dumps(header).encode() + b"\n"
    content += b"".join(np.ascontiguousarray(part).tobytes() for _, part in parts)
    digest = hashlib.sha256(content)
    path.write_bytes(content + digest.digest())
    return digest.hexdigest()
