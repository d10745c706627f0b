"""Every invariant is seen to hold, and seen to be broken."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from fraudsite import pipeline
from scoring import lanes
from scoring.lanes import own_lane
from scoring.profiles import LABEL_ROW
from tests.judging import keep, label, live_rule
from transactions.models import ApiClient


@pytest.fixture
def lane(bank: ApiClient, tmp_path: Path, settings) -> int:
    """A lane that judged five payments, one of them stopped, and took in two labels."""
    settings.PROFILE_DIR = tmp_path
    live_rule(bank.lane, "amount > 1000")
    ids = keep(bank, *(f"pay-{n}" for n in range(4)), amount__value=5_00) + keep(bank, "large", amount__value=2000_00)
    pipeline.drain(bank.lane_id)
    label(ids[0], "fraud", "investigator")
    label(ids[0], "legitimate", "chargeback")
    pipeline.drain(bank.lane_id)
    with own_lane(bank.lane_id) as owned:
        for _ in range(3):
            owned.sweep()
        assert owned.memory is not None
        lanes.save_snapshot(bank.lane_id, owned.memory)
    return bank.lane_id


def test_a_sound_lane_is_verified_with_its_vectors(lane: int):
    said = StringIO()
    call_command("verify", lane, "--replay", stdout=said)
    assert "the log's replay gives all 5 stored vectors" in said.getvalue()


BREAKS = [
    ("DELETE FROM decision WHERE seq = 2", "is below the mark and not decided"),
    ("DELETE FROM decision WHERE seq = 2; UPDATE lane_cursor SET mark = 0", "stands in the log without a decision"),
    ("UPDATE decision SET seq = 77 WHERE seq = 2", "is decided otherwise than the log says"),
    ("UPDATE decision SET outcome = 5 WHERE seq = 2", "is decided otherwise than the log says"),
    ("DELETE FROM lane_log WHERE seq = 6; UPDATE lane_cursor SET label_mark = 0", "before seq 7"),
    ("DELETE FROM lane_log WHERE seq = 6", "is below the mark and not taken in"),
    ("UPDATE lane_cursor SET token = gen_random_uuid()", "the cursor stands at seq 7"),
    ("UPDATE lane_log SET old = 1 WHERE seq = 7", "the label at seq 7"),
    (
        "UPDATE lane_log SET transaction_id = 3, old = 0 WHERE seq = 7; UPDATE lane_log SET seq = 8 WHERE seq = 7",
        "before seq 8",
    ),
    ("DELETE FROM transaction_key WHERE external_id = 'large'", "and its key do not pair up"),
    ("UPDATE lane_cursor SET mark = 1000000", "is ahead of its sequence"),
    ("DELETE FROM alert", "and its alert do not pair up"),
]


@pytest.mark.parametrize(("damage", "sentence"), BREAKS)
def test_a_broken_lane_is_named(lane: int, damage: str, sentence: str):
    with connection.cursor() as cursor:
        cursor.execute(damage)
    with pytest.raises(CommandError, match=sentence):
        call_command("verify", lane, stdout=StringIO())


def test_a_vector_that_was_touched_is_named_with_its_feature(lane: int):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE decision SET features = set_byte(features, 1, get_byte(features, 1) # 1) WHERE seq = 3")
    with pytest.raises(CommandError, match=r"payment \d+: amount was .*, the log's replay gives"):
        call_command("verify", lane, "--replay", stdout=StringIO())


def test_a_snapshot_that_differs_is_named(lane: int):
    with own_lane(lane) as owned:
        assert owned.memory is not None
        owned.memory.take_labels(np.array([(999, 999, 0, 2, 3)], LABEL_ROW))
        lanes.save_snapshot(lane, owned.memory)
    with pytest.raises(CommandError, match="snapshot at seq 7 differs"):
        call_command("verify", lane, "--replay", stdout=StringIO())
