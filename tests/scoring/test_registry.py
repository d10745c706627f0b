"""Artefacts come back with the same bits or not at all; the public score is a fixed reading of the probability."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scoring import features, registry, trees
from scoring.estimators import Detector, NotTrainable, build_pipeline
from scoring.registry import Tampered, WrongKernel
from tests.scoring.learning import FAST, telling_matrix


@pytest.fixture(scope="module")
def model() -> Detector:
    frauds = np.random.default_rng(5).random(1_500) < 0.1
    matrix = telling_matrix(frauds)
    fitted = build_pipeline(**FAST).fit(matrix, frauds)
    later = np.random.default_rng(6).random(600) < 0.1
    return fitted.calibrate(fitted.margin(telling_matrix(later, seed=2)), later)


@pytest.fixture
def artefact(model, tmp_path):
    folder = tmp_path / "models" / "v1"
    folder.parent.mkdir()
    digest = registry.save(model, folder, version="v1", used=features.NAMES, card={"metrics": {}})
    return folder, digest


def test_a_saved_model_scores_with_the_same_bits(model, artefact):
    fresh = telling_matrix(np.zeros(700, bool), seed=3)
    before = registry.scorer_of(model, features.NAMES).score(fresh)
    after = registry.load_folder(*artefact).score(fresh)
    assert (before[0] == after[0]).all()
    assert (before[1].view("i4") == after[1].view("i4")).all()
    assert (after[1].view("i4") == model.margin(fresh).view("i4")).all()


def test_a_payment_scores_the_same_alone_and_in_a_large_batch(artefact):
    scorer = registry.load_folder(*artefact)
    fresh = telling_matrix(np.zeros(2_300, bool), seed=4)
    probability, margin = scorer.score(fresh)
    for row in (0, 999, 1_000, 2_299):
        alone = scorer.score(fresh[row : row + 1])
        assert (alone[0][0], alone[1][0]) == (probability[row], margin[row])


def test_contributions_add_up_to_the_margin_and_name_the_anomaly(artefact):
    scorer = registry.load_folder(*artefact)
    fresh = telling_matrix(np.ones(20, bool), seed=5)
    parts = scorer.contributions(fresh)
    assert parts.shape == (20, features.N_FEATURES + 2)
    assert scorer.names == (*features.NAMES, trees.ANOMALY)
    assert np.allclose(parts.sum(axis=1), scorer.score(fresh)[1], atol=1e-4)


@pytest.mark.parametrize("name", ["trees.ubj", "arrays.npz", "card.json"])
def test_a_changed_file_is_refused(artefact, name):
    folder, digest = artefact
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(bytes(raw))
    with pytest.raises(Tampered):
        registry.load_folder(folder, digest)


def test_a_model_of_another_kernel_is_refused(model, tmp_path, monkeypatch):
    digest = registry.save(model, tmp_path / "v2", version="v2", used=features.NAMES, card={})
    monkeypatch.setattr(features, "KERNEL_VERSION", features.KERNEL_VERSION + 1)
    with pytest.raises(WrongKernel):
        registry.load_folder(tmp_path / "v2", digest)


def test_an_interrupted_save_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry.np, "savez", fail)
    with pytest.raises(KeyboardInterrupt):
        registry.save(model, tmp_path / "v3", version="v3", used=features.NAMES, card={})
    assert list(tmp_path.iterdir()) == []


def test_an_artefact_is_never_overwritten(model, artefact):
    with pytest.raises(FileExistsError):
        registry.save(model, artefact[0], version="v1", used=features.NAMES, card={})


def test_the_card_tells_features_hashes_and_libraries(artefact):
    card = json.loads((artefact[0] / "card.json").read_text())
    assert card["features"] == list(features.NAMES)
    assert card["kernel_version"] == features.KERNEL_VERSION
    assert set(card["files"]) == {"trees.ubj", "arrays.npz"}
    assert {"xgboost", "numpy", "scikit-learn"} <= set(card["libraries"])


def test_the_public_score_rises_with_the_probability_and_only_with_it():
    rising = np.linspace(0, 1, 5_001)
    scores = registry.to_score(rising)
    assert (np.diff(scores) >= 0).all()
    assert (scores[0], scores[-1]) == (0, 1000)
    for probability, score in registry.SCALE[1:]:
        assert registry.to_score(probability) == pytest.approx(score, abs=1)
    for score in (1, 500, 700, 900, 1000):
        assert registry.to_score(registry.to_probability(score)) == score


def test_too_few_frauds_teach_nothing():
    with pytest.raises(NotTrainable):
        build_pipeline(**FAST).fit(telling_matrix(np.zeros(100, bool)), np.zeros(100, bool))


def test_margins_that_do_not_rise_with_fraud_are_no_model(model):
    frauds = np.array([True] * 20 + [False] * 200)
    with pytest.raises(NotTrainable):
        model.calibrate(np.where(frauds, -5.0, 5.0), frauds)
