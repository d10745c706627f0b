"""Without the model rules go on alone, and what they decided is judged again when it is back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fraudsite import degrading, doorbell, pipeline, reporting
from fraudsite.tasks import rescreen
from scoring import features, registry, releases
from scoring.estimators import build_pipeline
from scoring.models import Decision, LaneStatus, ModelVersion, Release
from tests.judging import keep, live_rule
from tests.scoring.learning import FAST, telling_matrix
from transactions.models import ApiClient


@pytest.fixture
def artefact(bank: ApiClient, tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lane that judges by a model and one rule; the folder of its artefact."""
    monkeypatch.setattr(doorbell, "ring", lambda *_, **__: None)
    settings.MODEL_DIR = tmp_path
    frauds = np.random.default_rng(5).random(800) < 0.1
    fitted = build_pipeline(**FAST).fit(telling_matrix(frauds), frauds)
    fitted.calibrate(fitted.margin(telling_matrix(frauds)), frauds)
    digest = registry.save(fitted, tmp_path / "v1", version="v1", used=features.NAMES, card={"metrics": {}})
    model = ModelVersion.objects.create(
        lane=bank.lane, version="v1", artefact="v1", sha256=digest, kernel_version=1, card={}, stage="champion"
    )
    release = live_rule(bank.lane, "amount > 1000")
    Release.objects.filter(pk=release.pk).update(model=model)
    releases._judges.clear()
    return tmp_path / "v1"


def judged(bank: ApiClient, name: str, **changes) -> Decision:
    [payment] = keep(bank, name, **changes)
    pipeline.drain(bank.lane_id)
    return Decision.objects.get(transaction_id=payment)


def test_a_damaged_artefact_costs_the_score_never_the_decision(bank: ApiClient, artefact: Path, monkeypatch):
    assert judged(bank, "before").degraded == 0
    trees = artefact / registry.TREES
    whole = trees.read_bytes()
    trees.write_bytes(whole[:-7] + b"damaged")
    assert judged(bank, "while-it-runs").score >= 0, "what is in memory goes on judging"
    releases._judges.clear()  # the scorer starts again
    small, large = judged(bank, "small"), judged(bank, "large", amount__value=5000_00)
    assert [(each.outcome, each.score, each.degraded) for each in (small, large)] == [
        ("approve", -1, 1),
        ("review", -1, 1),
    ]
    assert rescreen() == 0, "the model is not back"
    trees.write_bytes(whole)
    monkeypatch.setattr(releases, "RETRY", 0.0)
    assert judged(bank, "after").degraded == 0
    assert rescreen() == 2
    again = Decision.objects.filter(screening=2).order_by("id")
    assert [(each.transaction_id, each.degraded, each.score >= 0) for each in again] == [
        (small.transaction_id, 0, True),
        (large.transaction_id, 0, True),
    ]


def test_a_running_lane_says_that_its_model_is_gone_and_at_its_end_that_it_stopped(bank, artefact: Path, monkeypatch):
    monkeypatch.setattr(reporting, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(pipeline, "IDLE_SECONDS", 0.05)
    (artefact / registry.CARD).unlink()
    releases._judges.clear()
    keep(bank, "pay-1")
    over = threading.Event()
    owner = threading.Thread(target=pipeline.run, args=(bank.lane_id,), kwargs={"until": over})
    owner.start()
    until = time.monotonic() + 30
    while not LaneStatus.objects.filter(degraded="model_unavailable").exists():
        assert time.monotonic() < until, "it never said so"
        time.sleep(0.05)
    assert [(each.check, each.word) for each in degrading.found()] == [
        ("model", "degraded"),
        ("rescreening", "waiting"),
    ]
    over.set()
    owner.join(20)
    assert ("scorer", "stopped") in [(each.check, each.word) for each in degrading.found()]
