"""Labels that only an epoch can take in hold their mark, but nobody looks at them again and again."""

from __future__ import annotations

import pytest

from scoring.lanes import Sweep, own_lane
from tests.judging import label, payments, rows
from transactions.models import ApiClient
from transactions.services import ingest


def test_labels_of_history_rest_until_their_epoch(bank: ApiClient, monkeypatch: pytest.MonkeyPatch):
    ids = [each.id for each in ingest(payments("old-1", "old-2"), client=bank, intake="history")]
    rows("UPDATE transaction SET import_job = 7 WHERE id = ANY(%s) RETURNING 1", ids)
    labels = [label(each) for each in ids]
    looked: list[int] = []
    look = Sweep._look

    def spy(sweep, cursor, lane_id, imports, gaps):
        if sweep.column == "label_mark":
            looked.extend(each for each in labels if any(first <= each <= last for first, last in gaps))
        return look(sweep, cursor, lane_id, imports, gaps)

    monkeypatch.setattr(Sweep, "_look", spy)
    with own_lane(bank.lane_id) as lane:
        lane.sweep_all()
        for _ in range(3):
            lane.sweep_all()
        assert looked == labels, "they are looked at once"
        assert lane.labels.mark < labels[0], "they hold the mark"
        lane.imports = [7]
        lane.sweep_all()
        assert lane.claim(patience=0).labels.tolist() == labels
