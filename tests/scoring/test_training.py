"""From stored history to a candidate: registered whole or not at all, and never promoted by itself."""

from __future__ import annotations

import csv
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import call_command
from django.utils import timezone

from fraudsite import demo
from scoring import dataset, features, registry, training
from scoring.models import ModelVersion, Release
from scoring.training import Recipe, TrainingRunning
from scoring.training_tasks import retrain
from tests.scoring.learning import FAST
from transactions.models import Label, Transaction
from transactions.services import LabelIn, record_labels
from transactions.simulator import Bank

RECIPE = Recipe(days=24, maturity_days=3, test_days=6)

pytestmark = pytest.mark.django_db


@pytest.fixture
def history(settings, tmp_path, monkeypatch):
    """Twenty-four days of a small bank with many frauds; artefacts go to a folder of the test's own."""
    settings.MODEL_DIR = tmp_path / "models"
    settings.PROFILE_DIR = tmp_path / "profiles"

    def bank(seed):
        made = Bank(seed, customers=250, merchants=150)
        made.frauds = 8.0
        return made

    monkeypatch.setattr(demo, "Bank", bank)
    _, client = demo.seed_basics()
    return demo.seed_history(client, days=24, per_day=120)


def test_a_candidate_is_trained_measured_kept_and_not_promoted(history):
    version = training.train(history.lane, as_of=history.started_at, recipe=RECIPE, choices=FAST)
    assert version.stage == ModelVersion.Stage.CANDIDATE
    assert version.metrics["test"]["auc"] > 0.7
    assert version.card["training"]["frauds"] > 20
    assert "baseline" not in version.card
    assert not Release.objects.exists()
    scorer = registry.load(version)
    probability, _ = scorer.score(np.zeros((1, features.N_FEATURES), "f4"))
    assert 0 < probability[0] < 1


def test_an_interrupted_training_registers_nothing(history, settings, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.ModelVersion.objects, "create", stop)
    with pytest.raises(KeyboardInterrupt):
        training.train(history.lane, as_of=history.started_at, recipe=RECIPE, choices=FAST)
    assert not ModelVersion.objects.exists()
    monkeypatch.undo()
    settings.MODEL_DIR.mkdir(exist_ok=True)
    again = training.train(history.lane, as_of=history.started_at, recipe=RECIPE, choices=FAST)
    assert registry.load(again).version == again.version


def test_the_schedule_trains_only_when_something_became_known(history, monkeypatch):
    made: list[int] = []
    monkeypatch.setattr(training, "train", lambda lane, **given: made.append(lane.pk))
    ModelVersion.objects.create(
        lane=history.lane, version="1", artefact="x", sha256="", kernel_version=1, card={}, created_at=timezone.now()
    )
    assert retrain(history.lane_id) == []
    assert made == []
    payment = Transaction.objects.order_by("-id")[0]
    record_labels([LabelIn(payment.pk, "fraud", "chargeback", timezone.now())])
    training.retrain(history.lane_id)
    assert made == [history.lane_id]


def test_one_training_at_a_time(history, monkeypatch):
    from django.db import connections

    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [training.LOCK, history.lane_id])
        with pytest.raises(TrainingRunning):
            training.train(history.lane, recipe=RECIPE)
    finally:
        other.close()


def test_evaluating_prints_the_figures_and_writes_the_scores(history, tmp_path, capsys):
    start = (history.started_at - timedelta(days=20)).date()
    path = tmp_path / "scores.csv"
    call_command(
        "evaluate_model",
        train_start=start,
        train_days=8,
        delay_days=3,
        test_days=4,
        folds=2,
        fold_step_days=4,
        scores=path,
        lane=history.lane.name,
    )
    printed = capsys.readouterr().out
    for words in ("AUC ROC", "average precision", "card precision@100", "recall at 2.1%", "alerts a day at 0.5%"):
        assert words in printed
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["external_id", "occurred_at", "score", "label"]
    assert {row["label"] for row in rows} == {"0", "1"}
    assert len(rows) > 800


def test_a_label_without_a_known_time_is_taken_as_known_after_the_delay(history):
    label = Label.objects.order_by("id").first()
    Label.objects.filter(pk=label.pk).update(known_at=label.recorded_at)
    rows = dataset.labels_of(history.lane_id, assumed_delay=5 * dataset.DAY)
    [row] = rows[rows["id"] == label.pk]
    assert row["known_at"] - row["happened"] == 5 * dataset.DAY


def test_seeding_goes_on_where_it_stopped(history):
    payments = Transaction.objects.count()
    history.status, history.finished_at = "running", None
    history.save()
    demo.seed_history(history.client, days=24, per_day=120)
    assert Transaction.objects.count() == payments
