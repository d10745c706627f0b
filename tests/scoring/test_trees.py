"""The walked trees give XGBoost's own bits, the walked forest scikit-learn's own scores."""

from __future__ import annotations

import time

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
    trees.walk(trees.trees_of(booster), fresh, walked)
    expected = booster.inplace_predict(fresh, predict_type="margin")
    assert (walked.view("i4") == expected.view("i4")).all()


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


def test_one_row_is_walked_in_far_less_than_a_millisecond():
    matrix, frauds = data(2_000)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(matrix, frauds), 150)
    flat, out = trees.trees_of(booster), np.empty(1, "f4")
    trees.walk(flat, matrix[:1], out)
    taken = []
    for row in range(200):
        began = time.perf_counter()
        trees.walk(flat, matrix[row : row + 1], out)
        taken.append(time.perf_counter() - began)
    assert np.median(taken) < 0.001  # some 10 µs on an idle core
