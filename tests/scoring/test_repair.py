"""Profiles that are wrong or lost come back from base and log, or from the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from fraudsite import pipeline
from scoring import epochs, lanes, repair
from scoring.lanes import own_lane
from scoring.models import Epoch, LaneCursor
from scoring.profiles import LABEL_ROW
from tests.judging import keep, label
from transactions.models import ApiClient


@pytest.fixture
def judged(bank: ApiClient, tmp_path: Path, settings) -> ApiClient:
    """A lane that judged four payments and took in a label; its profiles lie in a folder of their own."""
    settings.PROFILE_DIR = tmp_path
    ids = keep(bank, *(f"pay-{n}" for n in range(4)))
    pipeline.drain(bank.lane_id)
    label(ids[1])
    pipeline.drain(bank.lane_id)
    return bank


def rebuilt(bank: ApiClient) -> tuple[bool, str]:
    """Whether the memory was right, and all that was said."""
    said: list[str] = []
    same = repair.rebuild_profiles(bank.lane_id, said.append, patience=20)
    return same, "; ".join(said)


def digest(bank: ApiClient) -> bytes:
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None
        return lane.memory.digest()


def spoil(bank: ApiClient) -> None:
    """A snapshot that says it is the memory, and is not."""
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None
        lane.memory.take_labels(np.array([(999, 999, 0, 2, 3)], LABEL_ROW))
        lanes.save_snapshot(bank.lane_id, lane.memory)


def test_a_sound_memory_is_said_to_be_sound(judged: ApiClient):
    with own_lane(judged.lane_id) as lane:
        assert lane.memory is not None
        lanes.save_snapshot(judged.lane_id, lane.memory)
    same, said = rebuilt(judged)
    assert same and "at seq 5" in said and "is what base and log give" in said


def test_a_wrong_snapshot_is_told_dropped_and_replaced(judged: ApiClient):
    right = digest(judged)
    spoil(judged)
    assert digest(judged) != right
    same, said = rebuilt(judged)
    assert not same and "DIFFERS" in said
    assert digest(judged) == right
    call_command("verify", judged.lane_id, replay=True, verbosity=0)


def until_owned(bank: ApiClient) -> None:
    for _ in range(600):
        if repair._is_owned(bank.lane_id):
            return
        time.sleep(0.05)
    raise AssertionError("nobody owns the lane")


@pytest.fixture
def owner(judged: ApiClient) -> Iterator[ApiClient]:
    """The lane in the hands of a running owner."""
    over = threading.Event()
    thread = threading.Thread(target=pipeline.run, args=(judged.lane_id,), kwargs={"until": over})
    spoil(judged)
    thread.start()
    yield judged
    over.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_running_owner_is_asked_for_its_memory_and_rebuilds_it(owner: ApiClient):
    until_owned(owner)
    same, said = rebuilt(owner)
    assert not same and "the owner rebuilds its memory" in said
    until_owned(owner)
    again, told = rebuilt(owner)
    assert again and "is what base and log give" in told


def test_a_wish_granted_while_its_owner_leaves_is_granted(judged: ApiClient, monkeypatch: pytest.MonkeyPatch):
    wish = lanes.wish_file(judged.lane_id, lanes.REBUILD)

    def owned(lane_id: int) -> bool:
        if not wish.exists():
            return True
        wish.unlink()
        return False

    monkeypatch.setattr(repair, "_is_owned", owned)
    assert repair._wish(judged.lane_id, lanes.REBUILD, patience=20)
    monkeypatch.setattr(repair, "_is_owned", lambda _: False)
    assert not repair._wish(judged.lane_id, lanes.REBUILD, patience=20)


def test_where_the_base_is_lost_the_rows_give_a_new_epoch(judged: ApiClient, settings):
    epochs.build(judged.lane_id)
    pipeline.drain(judged.lane_id)
    [lost] = Epoch.objects.all()
    (Path(settings.PROFILE_DIR) / lost.base_file).unlink()
    lanes.drop_snapshots(judged.lane_id)
    keep(judged, "later")
    with pytest.raises(epochs.NoBase):
        pipeline.drain(judged.lane_id)
    same, said = rebuilt(judged)
    assert not same and "epoch 2 is built from 4 payments and 1 labels" in said
    assert pipeline.drain(judged.lane_id) == 1
    assert LaneCursor.objects.get().epoch == 2
    call_command("verify", judged.lane_id, replay=True, verbosity=0)
    with pytest.raises(CommandError, match="epoch 1: Lane"):
        call_command("verify", judged.lane_id, replay=True, all_epochs=True, verbosity=0)


def test_an_owner_that_does_not_react_is_named(judged: ApiClient):
    with own_lane(judged.lane_id), pytest.raises(repair.CannotRepair, match="does not react"):
        repair.rebuild_profiles(judged.lane_id, lambda _: None, patience=0.2)
    assert not lanes.wish_file(judged.lane_id, lanes.SAVE).exists()
