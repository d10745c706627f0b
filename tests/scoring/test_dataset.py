"""Nobody sees the future: labels count from when they were known, in training and in the features alike."""

from __future__ import annotations

import numpy as np
import pytest

from scoring import backtest, dataset, features
from scoring.dataset import Dataset
from tests.scoring.learning import FAST, labels_of, month, payments_at
from transactions.facts import DAY, HOUR

LEGITIMATE, FRAUD, WITHDRAWN = 1, 2, 3


def test_a_label_that_became_known_late_is_not_seen_by_training():
    data = month()
    fold = backtest.Fold(0, 14 * DAY, 18 * DAY, 25 * DAY)
    first = backtest.evaluate(data, fold, choices=FAST)

    chosen = np.flatnonzero(data.labels["happened"] < 14 * DAY)[:20]
    late = data.labels.copy()
    late["known_at"][chosen] = fold.test + 1  # a moment after the test began
    second = backtest.evaluate(
        Dataset(data.ids, data.occurred_at, data.customers, data.matrix, late), fold, choices=FAST
    )
    assert second.learnt_frauds == first.learnt_frauds - 20
    assert (second.frauds == first.frauds).all()  # the test's truth is everything known today


def test_a_late_label_changes_neither_the_model_nor_its_scores():
    data = month()
    fold = backtest.Fold(0, 14 * DAY, 18 * DAY, 25 * DAY)
    planted = labels_of([(int(data.ids[5]), 29 * DAY, FRAUD)], happened=int(data.occurred_at[5]))
    planted["id"] = 10_000
    both = Dataset(data.ids, data.occurred_at, data.customers, data.matrix, np.concatenate([data.labels, planted]))
    one, two = (backtest.evaluate(each, fold, choices=FAST) for each in (data, both))
    assert (one.scores == two.scores).all()
    assert both.known()[5] == FRAUD


def test_risk_of_a_merchant_moves_when_a_label_becomes_known_and_not_before():
    facts = payments_at(merchant=7)
    known_at = int(facts["occurred_at"][20]) + 1
    labels = labels_of([(2, known_at, FRAUD)], happened=int(facts["occurred_at"][1]))
    window = [(0, 2**60)]
    without = dataset.replay([facts], np.zeros(0, dataset.KNOWN_LABEL), windows=window)
    told = dataset.replay([facts], labels, windows=window)
    column = features.NAMES.index("merchant_fraud_count_30d")
    assert np.array_equal(told.matrix[:21], without.matrix[:21], equal_nan=True)
    assert (told.matrix[21:, column] == 1).all()


def test_the_replay_keeps_the_windows_and_the_newest():
    facts = payments_at(merchant=7)
    begin, end = int(facts["occurred_at"][10]), int(facts["occurred_at"][20])
    kept = dataset.replay([facts[:15], facts[15:]], np.zeros(0, dataset.KNOWN_LABEL), windows=[(begin, end)])
    assert kept.ids.tolist() == facts["id"][10:20].tolist()
    newest = dataset.replay([facts[:15], facts[15:]], np.zeros(0, dataset.KNOWN_LABEL), windows=[(begin, end)], most=5)
    assert newest.ids.tolist() == facts["id"][15:20].tolist()


def test_the_label_in_force_is_the_highest_source_then_the_latest():
    ids = np.array([1, 2, 3])
    chargeback = labels_of([(1, 10, FRAUD), (2, 10, FRAUD), (3, 10, FRAUD)])
    customer = labels_of([(1, 20, LEGITIMATE)], source="customer")
    newer = labels_of([(2, 20, WITHDRAWN), (3, 30, LEGITIMATE)])
    newer["id"] += 10
    labels = np.concatenate([chargeback, customer, newer])
    assert dataset.in_force(ids, labels, 15).tolist() == [FRAUD, FRAUD, FRAUD]
    assert dataset.in_force(ids, labels, 25).tolist() == [FRAUD, 0, FRAUD]
    assert dataset.in_force(ids, labels, 30).tolist() == [FRAUD, 0, LEGITIMATE]


def test_no_label_is_genuine_only_as_far_as_frauds_of_its_age_are_reported():
    data = month()
    by = 20 * DAY
    lesson = data.lesson(by=by, maturity=5 * DAY)
    age = by - data.occurred_at[lesson.rows]
    assert (lesson.weights[age >= 5 * DAY] == 1).all()
    assert age.min() >= 3 * DAY  # every fraud was reported after three days: younger silence says nothing
    assert not lesson.frauds[age < 3 * DAY].any()
    assert lesson.mature.sum() == (age >= 5 * DAY).sum()


def test_the_share_of_frauds_is_the_same_at_every_age():
    """Reports come evenly over four days, so at two days half the frauds are known, and silence counts half."""
    labels = labels_of([(n, 0, FRAUD) for n in range(1, 401)])
    labels["known_at"] = (np.arange(400) * 4 * DAY) // 400
    share = dataset.reported_share(labels, np.array([0, DAY, 2 * DAY, 6 * DAY]), by=50 * DAY, maturity=6 * DAY)
    assert share == pytest.approx([0.0, 0.25, 0.5, 1.0], abs=0.01)


def test_joined_datasets_stand_in_time_order_with_each_label_once():
    data = month(days=4)
    one, two = data.between(0, 2 * DAY), data.between(2 * DAY, 4 * DAY)
    whole = dataset.join([two, one])
    assert whole.ids.tolist() == data.ids.tolist()
    assert len(whole.labels) == len(data.labels)


def test_folds_step_on_and_never_overlap_their_own_training():
    from datetime import date

    plan = backtest.folds(date(2026, 1, 1), train=7, delay=7, test=7, count=4, step=7)
    assert len(plan) == 4
    assert plan[1].begin - plan[0].begin == 7 * DAY
    assert all(fold.end + 7 * DAY == fold.test for fold in plan)
    assert plan[0].stop - plan[0].test == 7 * 24 * HOUR
