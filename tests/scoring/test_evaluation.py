"""Figures by hand: card precision, recall at a false-positive rate, calibration, drift."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scoring import backtest, drift, evaluation
from transactions.facts import DAY


def columns(rows: list[tuple[int, int, bool, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    days, customers, labels, scores = zip(*rows, strict=True)
    return np.array(days), np.array(customers), np.array(labels, bool), np.array(scores)


def test_card_precision_counts_customers_and_found_ones_leave_the_pool():
    days, customers, labels, scores = columns(
        [
            (0, 1, True, 0.9),
            (0, 1, False, 0.2),
            (0, 2, False, 0.8),
            (0, 3, True, 0.1),
            (1, 1, True, 0.95),  # found on day 0: no longer in the pool
            (1, 2, True, 0.7),
            (1, 3, True, 0.6),
        ]
    )
    value = evaluation.card_precision(days, customers, labels, scores, capacity=2)
    assert value == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_a_customer_is_found_by_any_fraud_of_the_day():
    days, customers, labels, scores = columns([(0, 1, False, 0.9), (0, 1, True, 0.1), (0, 2, False, 0.5)])
    assert evaluation.card_precision(days, customers, labels, scores, capacity=1) == 1.0


def test_customers_known_before_the_test_are_left_out():
    days, customers, labels, scores = columns([(0, 1, True, 0.9), (0, 2, False, 0.5)])
    value = evaluation.card_precision(days, customers, labels, scores, known=np.array([1]), capacity=1)
    assert value == 0.0


def test_recall_at_a_rate_takes_the_lowest_threshold_that_keeps_it():
    labels = np.array([True, True, *[False] * 100])
    scores = np.array([0.9, 0.5, 0.6, *np.linspace(0.0, 0.4, 99)])
    none, one = evaluation.at_rates(labels, scores, 2.0, rates=[0.001, 0.01])
    assert (none.recall, none.threshold, none.alerts_a_day) == (0.5, 0.9, 0.5)
    assert (one.recall, one.threshold, one.alerts_a_day) == (1.0, 0.5, 1.5)


def test_a_rate_that_cannot_be_kept_stops_nothing_and_its_figures_are_json():
    labels, scores = np.array([False, True, False, False]), np.array([0.9, 0.5, 0.1, 0.2])
    figures = evaluation.measure(np.arange(4) * DAY, np.arange(4), labels, scores)
    assert (figures["recall_at"][0]["recall"], figures["recall_at"][0]["threshold"]) == (0.0, None)
    json.dumps(figures, allow_nan=False)
    assert np.isnan(backtest.flat(figures)["threshold at 0.1%"])


def test_figures_without_fraud_are_none_and_json():
    nothing = np.zeros(10, bool)
    figures = evaluation.measure(np.arange(10) * DAY, np.arange(10), nothing, np.linspace(0, 1, 10))
    assert figures["auc"] is None
    assert figures["average_precision"] is None
    assert figures["days"] == 10


def test_calibration_groups_hold_promised_and_actual_shares():
    labels = np.array([False] * 50 + [True] * 50)
    low, high = evaluation.calibration(labels, np.r_[np.full(50, 0.1), np.full(50, 0.8)], parts=2)
    assert (low["actual"], high["actual"]) == (0.0, 1.0)
    assert high["promised"] == pytest.approx(0.8)


def test_an_interval_holds_the_figure_itself():
    rng = np.random.default_rng(1)
    labels = rng.random(400) < 0.2
    scores = labels + rng.normal(size=400)
    low, high = evaluation.interval(evaluation.roc_auc, labels, scores, rng.integers(0, 100, 400))
    assert low < evaluation.roc_auc(labels, scores) < high


def test_drift_finds_the_column_that_moved_and_the_one_that_fell_silent():
    rng = np.random.default_rng(2)
    before = rng.normal(size=(4_000, 3)).astype("f4")
    now = rng.normal(size=(2_000, 3)).astype("f4")
    now[:, 1] += 2.0
    now[:1_500, 2] = np.nan
    kept = drift.baseline(["same", "moved", "silent"], before)
    found = {each.name: each for each in drift.compare(kept, ["same", "moved", "silent"], now)}
    assert not found["same"].is_notable
    assert found["moved"].is_notable
    assert found["silent"].is_notable
    assert found["silent"].missing_now == pytest.approx(0.75)


def test_drift_does_not_cry_over_a_small_sample():
    rng = np.random.default_rng(3)
    kept = drift.baseline(["same"], rng.normal(size=(4_000, 1)).astype("f4"))
    assert not drift.compare(kept, ["same"], rng.normal(size=(60, 1)).astype("f4"))[0].is_notable
