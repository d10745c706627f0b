"""The walked trees give XGBoost's own bits, the walked forest scikit-learn's own scores."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from sklearn.ensemble import IsolationForest

from scoring import trees


def data(rows: int, *, seed: int = 1, columns: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)).astype("f4")
    matrix[:, 3] = np.round(matrix[:, 3])  # ties with thresholds
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix[:, 5] = np.nan  # a column that is never sent
    return matrix, (np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1]) > 1.5).astype("i4")


@pytest.mark.parametrize("base_score", [0.5, 0.01])
def test_margins_have_the_very_bits_of_xgboost(base_score):
    matrix, frauds = data(4_000)
    options = {"objective": "binary:logistic", "base_score": base_score, "max_depth": 6, "eta": 0.1, "nthread": 1}
    booster = xgboost.train(options, xgboost.QuantileDMatrix(matrix, frauds), 60)
    fresh, _ = data(3_000, seed=2)
    walked = np.empty(len(fresh), "f4")
    flat = trees.trees_of(booster)
    trees.walk(flat, fresh, walked)
    expected = booster.inplace_predict(fresh, predict_type="margin")
    assert (walked.view("i4") == expected.view("i4")).all()
    assert (sifted(flat, fresh).view("i4") == expected.view("i4")).all()


def sifted(flat: trees.Trees, matrix: np.ndarray) -> np.ndarray:
    """What a sieve of these trees alone gives."""
    asked, (sieve,) = trees.sieves_of(flat)
    out, sums = np.empty(len(matrix), "f4"), np.empty(trees.BLOCK, "f4")
    for at in range(0, len(matrix), trees.BLOCK):
        part = matrix[at : at + trees.BLOCK, asked.feature].T
        columns = np.zeros((len(asked.feature), trees.BLOCK), "f4")
        columns[:, : part.shape[1]] = np.where(np.isnan(part), asked.missing[:, None], part)
        trees.sift(sieve, columns, part.shape[1], sums)
        out[at : at + trees.BLOCK] = sums[: part.shape[1]]
    return out


def test_trees_of_more_leaves_than_bits_are_sifted_in_pieces():
    matrix, _ = data(4_000)
    noise = np.random.default_rng(9).random(4_000) < 0.5
    options = {"objective": "binary:logistic", "max_depth": 9, "min_child_weight": 0, "nthread": 1}
    flat = trees.trees_of(xgboost.train(options, xgboost.DMatrix(matrix, noise), 4))
    assert trees.LATER in trees.sieves_of(flat)[1][0].kind
    walked = np.empty(len(matrix), "f4")
    trees.walk(flat, matrix, walked)
    assert (sifted(flat, matrix).view("i4") == walked.view("i4")).all()


def test_a_row_has_the_same_bits_in_every_batch():
    matrix, frauds = data(1_000)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(matrix, frauds), 20)
    flat = trees.trees_of(booster)
    whole, alone = np.empty(200, "f4"), np.empty(200, "f4")
    trees.walk(flat, matrix[:200], whole)
    for row in range(200):
        trees.walk(flat, matrix[row : row + 1], alone[row : row + 1])
    assert (whole.view("i4") == alone.view("i4")).all()


def test_the_forest_scores_as_scikit_learn_does():
    matrix, _ = data(2_000)
    fill = np.full(matrix.shape[1], 0.25, "f4")
    filled = np.where(np.isnan(matrix), fill, matrix)
    forest = IsolationForest(n_estimators=32, max_samples=128, random_state=4).fit(filled)
    depths, anomaly = np.empty(len(matrix), "f4"), np.empty(len(matrix), "f4")
    trees.walk(trees.forest_of(forest, fill), matrix, depths)
    trees.anomaly(depths, 32 * float(trees.expected_depth(np.array([128]))[0]), anomaly)
    assert np.allclose(anomaly, -forest.score_samples(filled), atol=1e-6)
