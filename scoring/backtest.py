"""How a model would have done, had it been trained then: any stretch of stored history, in folds.

One fold: train for some days, wait for labels to become known (the delay), test on the days after. The profiles are
replayed from the very first payment and keep moving through the delay and the test, each label entering when it became
known; training sees the labels known when the test begins; the test is judged by everything known today.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import IO, Any

import numpy as np

from scoring import dataset, evaluation, training
from scoring.dataset import Dataset
from scoring.profiles import FRAUD
from transactions.facts import DAY, EPOCH, micros, moment


@dataclass(frozen=True)
class Fold:
    """Four moments in micro-seconds: training from `begin` until before `end`, test from `test` until before `stop`."""

    begin: int
    end: int
    test: int
    stop: int


@dataclass(frozen=True)
class Outcome:
    """What one fold gave: the payments of its test with their scores and the truth, and all figures."""

    fold: Fold
    test: Dataset
    scores: np.ndarray
    frauds: np.ndarray
    learnt_from: int
    learnt_frauds: int
    figures: dict[str, Any]
    unknown_before: dict[str, Any]


def folds(start: date, *, train: int, delay: int, test: int, count: int = 1, step: int = 7) -> list[Fold]:
    """`count` folds, each `step` days after the one before; lengths in days."""
    first = micros(datetime(start.year, start.month, start.day, tzinfo=EPOCH.tzinfo))
    begins = [first + n * step * DAY for n in range(count)]
    return [Fold(b, b + train * DAY, b + (train + delay) * DAY, b + (train + delay + test) * DAY) for b in begins]


def run(
    lane_id: int,
    plan: list[Fold],
    *,
    delay: timedelta,
    choices: dict[str, Any] | None = None,
    progress: dataset.Progress | None = None,
) -> Iterable[Outcome]:
    """The outcome of each fold. `delay`: after which a label becomes known that was given no time.

    Raises NotTrainable when a fold has too few frauds to learn from.
    """
    labels = dataset.labels_of(lane_id, assumed_delay=delay // timedelta(microseconds=1))
    windows = [(fold.begin, fold.stop) for fold in plan]
    data = dataset.replay_lane(lane_id, labels, windows=windows, progress=progress)
    for fold in plan:
        yield evaluate(data, fold, choices=choices)


def evaluate(data: Dataset, fold: Fold, *, choices: dict[str, Any] | None = None) -> Outcome:
    """Train on what was known of the fold's training days when its test begins, and score its test days."""
    learnt = data.between(fold.begin, fold.end)
    fitted = training.fit_calibrated(learnt, by=fold.test, maturity=fold.test - fold.end, choices=choices)
    test = data.between(fold.test, fold.stop)
    scores = fitted.model.predict_proba(test.matrix)[:, 1]
    frauds = test.known() == FRAUD
    before = data.between(fold.begin, fold.test)
    known = np.unique(before.customers[before.known(fold.test) == FRAUD])
    figures = evaluation.measure(test.occurred_at, test.customers, frauds, scores, begin=fold.test, known=known)
    new = ~np.isin(test.customers, known)
    unknown = evaluation.measure(
        test.occurred_at[new], test.customers[new], frauds[new], scores[new], begin=fold.test, known=known
    )
    return Outcome(fold, test, scores, frauds, fitted.payments, fitted.frauds, figures, unknown)


def mean(outcomes: list[Outcome], part: str = "figures") -> dict[str, float]:
    """The figures of several folds, averaged: name → mean."""
    rows = [flat(getattr(outcome, part)) for outcome in outcomes]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def flat(figures: dict[str, Any]) -> dict[str, float]:
    """The figures that fit a table; a missing one is NaN."""
    names = ("payments", "frauds", "auc", "average_precision", "card_precision_100")
    table = {name: _or_nan(figures[name]) for name in names}
    for at in figures["recall_at"]:
        table[f"recall at {at['rate']:.1%}"] = at["recall"]
        table[f"alerts a day at {at['rate']:.1%}"] = at["alerts_a_day"]
        table[f"threshold at {at['rate']:.1%}"] = _or_nan(at["threshold"])
    return table


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def write_scores(file: IO[str], outcomes: list[Outcome]) -> int:
    """`external_id,occurred_at,score,label` of every payment tested, label 1 for fraud; how many rows."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["external_id", "occurred_at", "score", "label"])
    rows = 0
    for outcome in outcomes:
        names = dataset.external_ids(outcome.test.ids)
        for place, transaction_id in enumerate(outcome.test.ids.tolist()):
            at = moment(outcome.test.occurred_at[place]).isoformat()
            writer.writerow([names[transaction_id], at, f"{outcome.scores[place]:.9g}", int(outcome.frauds[place])])
        rows += len(outcome.test)
    return rows
