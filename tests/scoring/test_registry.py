"""Artefacts come back with the same bits or not at all; the public score is a fixed reading of the probability."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost

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


@pytest.fixture(scope="module")
def crowd(model) -> tuple[registry.Scorer, np.ndarray]:
    """A scorer and 100,000 vectors: noise, unknown values, and numbers that are thresholds themselves."""
    scorer, n = registry.scorer_of(model, features.NAMES), 100_000
    rng = np.random.default_rng(11)
    matrix = np.tile(telling_matrix(np.zeros(2_000, bool), seed=12), (n // 2_000, 1))
    asked = scorer.boosted.nodes[scorer.boosted.nodes["feature"] != trees.LEAF]
    for node in rng.choice(asked, 200):
        if node["feature"] < features.N_FEATURES:
            matrix[rng.integers(0, n, 500), node["feature"]] = node["value"]
    matrix[rng.integers(0, n, 9_000), rng.integers(0, features.N_FEATURES, 9_000)] = np.nan
    return scorer, matrix


def test_100_000_payments_score_the_same_bits_in_batches_of_every_size_and_by_every_walker(crowd):
    scorer, matrix = crowd
    margins = scorer.booster.inplace_predict(scorer.widen(matrix)[:, scorer.columns], predict_type="margin")
    walked = np.empty(len(matrix), "f4")
    trees.score_walking(scorer.forest, scorer.boosted, scorer.usual, matrix, walked)
    assert (walked.view("i4") == margins.view("i4")).all()
    probabilities, _ = scorer.score(matrix)
    mixed = np.resize([1, 2, 7, 64, 1_000, 5_000, 3, 65], 200)
    for sizes in ([1] * 2_000, [2] * 2_000, [7] * 2_000, [64] * 1_563, [1_000] * 100, [5_000] * 20, mixed):
        at = 0
        for size in sizes:
            probability, margin = scorer.score(matrix[at : at + size])
            assert margin.tobytes() == margins[at : at + size].tobytes()
            assert probability.tobytes() == probabilities[at : at + size].tobytes()
            at += size


def test_contributions_to_100_000_payments_add_up_to_the_margin(crowd):
    scorer, matrix = crowd
    assert scorer.names == (*features.NAMES, trees.ANOMALY)
    for at in range(0, len(matrix), 10_000):
        parts = scorer.contributions(matrix[at : at + 10_000])
        assert parts.shape == (10_000, features.N_FEATURES + 2)
        assert np.abs(parts.sum(axis=1) - scorer.score(matrix[at : at + 10_000])[1]).max() < 1e-5


def test_contributions_are_those_of_xgboost(crowd):
    scorer, matrix = crowd
    some = matrix[:: len(matrix) // 150]
    rows = xgboost.DMatrix(scorer.widen(some)[:, scorer.columns], nthread=1)
    assert np.abs(scorer.contributions(some) - scorer.booster.predict(rows, pred_contribs=True)).max() < 1e-5


def test_trees_too_deep_for_shares_kept_ready_are_explained_by_xgboost(model, crowd, monkeypatch):
    monkeypatch.setattr(trees, "MOST_SHARES", 10)
    scorer, matrix = registry.scorer_of(model, features.NAMES), crowd[1][:5]
    assert scorer.paths is None
    assert np.abs(scorer.contributions(matrix) - crowd[0].contributions(matrix)).max() < 1e-5


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
