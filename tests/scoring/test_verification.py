"""Every invariant is seen to hold, and seen to be broken."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.transaction import atomic, set_rollback

from fraudsite import pipeline
from scoring import lanes, verification
from scoring.lanes import own_lane
from scoring.profiles import LABEL_ROW
from tests.judging import keep, label, live_rule
from transactions.models import ApiClient


@pytest.fixture
def lane(bank: ApiClient, tmp_path: Path, settings) -> int:
    """A lane that judged five payments, one of them stopped, and took in two labels."""
    settings.PROFILE_DIR = tmp_path
    with connection.cursor() as cursor:  # small ids, however many other tests drew: a walk in small steps ends
        cursor.execute("ALTER SEQUENCE transaction_id_seq RESTART; ALTER SEQUENCE label_id_seq RESTART")
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


COLUMNS = "transaction_id, decided_at, latency, release_id, probability, margin, lane, outcome, score, band, degraded"
DECIDED_AGAIN = (
    f"INSERT INTO decision ({COLUMNS}, kernel_version, rule_hits, id, screening, seq, features)"
    f" SELECT {COLUMNS}, kernel_version, rule_hits, id + 1, 2, seq, features FROM decision WHERE seq = 2;"
)
REQUEST = """
    INSERT INTO rescreening (lane_id, reason, author, is_automatic, filter, after, upto, requested_at, judged, changed,
                             alerts, left_out) VALUES ({lane}, 'x', 'x', false, '{}', 1, 1, now(), 1, 0, 0, '{}');
    INSERT INTO rescreened (decision_id, request_id, transaction_id) SELECT {two} * 64 + 2, max(id), {two}
      FROM rescreening;"""
BREAKS = [
    ("DELETE FROM decision WHERE seq = 2", "payment {two} is below the mark and not decided"),
    ("DELETE FROM transaction WHERE id = {two}", "payment {two} and its key do not pair up"),
    (
        "DELETE FROM transaction WHERE id = {two}; DELETE FROM transaction_key WHERE id = {two}",
        "payment {two} is decided but not",
    ),
    ("UPDATE transaction SET intake = 2 WHERE id = {two}", "payment {two} is history, and was decided"),
    ("UPDATE decision SET release_id = 999 WHERE seq = 2", "payment {two} was judged by no release"),
    ("UPDATE decision SET features = 'x' WHERE seq = 2", "the vector of payment {two} has not the length"),
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
    (
        "UPDATE lane_log SET transaction_id = {two} WHERE seq = 7",
        "the label at seq 7 stands in the log for another payment",
    ),
    ("UPDATE lane_log SET new = 2 WHERE seq = 7", "the label at seq 7 leaves another verdict in force"),
    (
        "UPDATE lane_log SET seq = 0 WHERE seq = 6; UPDATE lane_log SET seq = 6 WHERE seq = 1;"
        " UPDATE lane_log SET seq = 1 WHERE seq = 0; UPDATE decision SET seq = 6 WHERE seq = 1",
        "the label at seq 1 precedes its payment",
    ),
    (
        "UPDATE lane_log SET kind = 4, transaction_id = NULL WHERE seq = 2",
        "payment {two} is decided but does not stand in the log",
    ),
    (
        "INSERT INTO hold_resolution VALUES ({two}, {lane}, 'released', 'api', '', now())",
        "payment {two} was resolved but never",
    ),
    ("UPDATE alert SET score = 1, decision_id = decision_id + 1", "and its alert do not pair up"),
    (DECIDED_AGAIN, "payment {two} was judged again by no request"),
    (REQUEST, "judged again, but that decision is not there"),
    (
        REQUEST + DECIDED_AGAIN.replace("seq, features FROM", "seq + 1, features FROM"),
        "from another vector or at another seq",
    ),
    (REQUEST + DECIDED_AGAIN + "UPDATE rescreening SET judged = 7", "counts other decisions than it made"),
]


def test_each_breach_is_named(lane: int):
    for damage, sentence in BREAKS:
        found, wanted = named(lane, damage, sentence)
        assert wanted in found, damage


def named(lane: int, damage: str, sentence: str) -> tuple[str, str]:
    """The first difference after the damage, which is then undone; and the sentence with its ids filled in."""
    with atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT transaction_id FROM decision WHERE seq = 2")
        for name, value in {"{lane}": lane, "{two}": cursor.fetchone()[0]}.items():
            damage, sentence = damage.replace(name, str(value)), sentence.replace(name, str(value))
        cursor.execute(damage)
        found = next((difference for _, difference in verification.broken(cursor, lane) if difference), "nothing")
        set_rollback(True)
    return found, sentence


def test_the_command_names_the_first_difference_and_fails(lane: int):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM alert")
    with pytest.raises(CommandError, match="and its alert do not pair up"):
        call_command("verify", lane=lane, stdout=StringIO())


def test_a_walk_in_small_steps_says_the_same(lane: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verification, "STEP", 2)
    said = StringIO()
    call_command("verify", lane, stdout=said)
    assert "5 payments kept = 5 decided + 0 owed; 0 of history; 0 judged again" in said.getvalue()
    assert "1 alerts, 0 in 0 cases, 1 held; 2 labels = 2 taken in + 0 in the base + 0 owed" in said.getvalue()
    damages = [each for each in BREAKS if "before seq" not in each[1]]
    assert [wanted in found for found, wanted in (named(lane, *each) for each in damages)] == [True] * len(damages)


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
