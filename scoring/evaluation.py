"""How good scores are, as a fraud desk counts: over ranks, at its capacity, at a false-positive rate it can bear.

All functions are pure: labels (n,) bool (what turned out to be fraud), scores (n,) float (higher = more suspicious).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from transactions.facts import DAY

RATES = (0.001, 0.005, 0.01, 0.021)
CAPACITY = 100  # customers an investigator's day has room for
RESAMPLES = 60


@dataclass(frozen=True)
class AtRate:
    """What stopping at one false-positive rate would mean."""

    rate: float
    threshold: float
    recall: float
    alerts_a_day: float
    precision: float


def roc_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Chance that a fraud scores above a genuine payment; NaN without one of both."""
    if not labels.any() or labels.all():
        return float("nan")
    return float(roc_auc_score(labels, scores, sample_weight=weights))


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean precision over the ranks of the frauds; NaN without any."""
    return float(average_precision_score(labels, scores, sample_weight=weights)) if labels.any() else float("nan")


def card_precision(
    days: np.ndarray,
    customers: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    known: np.ndarray | None = None,
    capacity: int = CAPACITY,
) -> float:
    """Share of frauds among the `capacity` customers with the highest scores, each day; mean over the days.

    `days` (n,) numbers the day of each payment, `customers` (n,) its customer. A customer counts once a day, with their
    highest score, and is found if any of their payments of that day was fraud; who is found leaves the pool for the
    days after. `known` customers, compromised before the test, are left out from the start.
    """
    gone = np.asarray(known if known is not None else [], customers.dtype)
    daily = []
    for day in np.unique(days):
        here = np.flatnonzero((days == day) & ~np.isin(customers, gone))
        names, place = np.unique(customers[here], return_inverse=True)
        highest, fraud = np.full(len(names), -np.inf), np.zeros(len(names), bool)
        np.maximum.at(highest, place, scores[here])
        np.logical_or.at(fraud, place, labels[here])
        first = np.argsort(-highest, kind="stable")[:capacity]
        daily.append(fraud[first].sum() / capacity)
        gone = np.union1d(gone, names[first][fraud[first]])
    return float(np.mean(daily)) if daily else float("nan")


def at_rates(labels: np.ndarray, scores: np.ndarray, days: float, rates: Sequence[float] = RATES) -> list[AtRate]:
    """Recall, threshold and alert volume at each false-positive rate: the lowest threshold that does not exceed it.

    Where a genuine payment scores highest, no rate that low can be kept: the threshold is infinite, nothing is stopped.
    """
    frauds, genuine = int(labels.sum()), int((~labels).sum())
    if not frauds or not genuine:
        return []
    false, true, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    found = []
    for rate in rates:
        place = int(np.searchsorted(false, rate, side="right")) - 1
        alerts = true[place] * frauds + false[place] * genuine
        precision = float(true[place] * frauds / alerts) if alerts else float("nan")
        found.append(AtRate(rate, float(thresholds[place]), float(true[place]), float(alerts / days), precision))
    return found


def calibration(labels: np.ndarray, probabilities: np.ndarray, parts: int = 10) -> list[dict[str, float]]:
    """Promised and actual share of fraud in `parts` equally filled groups of rising probability."""
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, parts) if len(group)]
    return [
        {"promised": float(probabilities[g].mean()), "actual": float(labels[g].mean()), "payments": len(g)}
        for g in groups
    ]


def interval(
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    scores: np.ndarray,
    customers: np.ndarray,
    *,
    seed: int = 7,
) -> tuple[float, float]:
    """95 % of the values that `measure(labels, scores, weights)` takes when other customers had come (bootstrap)."""
    draws = np.random.default_rng(seed)
    names, place = np.unique(customers, return_inverse=True)
    values = [measure(labels, scores, draws.poisson(1.0, len(names))[place].astype(float)) for _ in range(RESAMPLES)]
    values = [value for value in values if value == value]
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def curve_points(labels: np.ndarray, scores: np.ndarray, most: int = 60) -> dict[str, list[float]]:
    """The receiver operating curve and precision over recall, thinned to about `most` points for a chart."""
    if not labels.any() or labels.all():
        return {}
    false, true, _ = roc_curve(labels, scores)
    frauds, genuine = labels.sum(), (~labels).sum()
    found = true * frauds
    precision = np.divide(found, found + false * genuine, out=np.ones_like(found), where=found + false * genuine > 0)
    keep = np.unique(np.r_[np.linspace(0, len(true) - 1, most).astype(int), np.searchsorted(false, RATES)])
    keep = keep[keep < len(true)]
    return {
        "false_positive_rate": np.round(false[keep], 5).tolist(),
        "recall": np.round(true[keep], 5).tolist(),
        "precision": np.round(precision[keep], 5).tolist(),
    }


def measure(
    occurred_at: np.ndarray,
    customers: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    begin: int | None = None,
    known: np.ndarray | None = None,
    intervals: bool = False,
) -> dict[str, Any]:
    """Every figure of a stretch of payments: `occurred_at` (n,) micro-seconds, `scores` calibrated probabilities.

    Days are counted from `begin` (default: the first payment); `known` customers are left out of the card precision.
    NaN figures (no fraud in the stretch) and a threshold above every score become None, so that the result is JSON.
    """
    start = begin if begin is not None else int(occurred_at.min()) if len(occurred_at) else 0
    days = (occurred_at - start) // DAY
    span = float(days.max() + 1) if len(days) else 1.0
    figures: dict[str, Any] = {
        "payments": len(labels),
        "frauds": int(labels.sum()),
        "days": span,
        "auc": roc_auc(labels, scores),
        "average_precision": average_precision(labels, scores),
        "card_precision_100": card_precision(days, customers, labels, scores, known=known),
        "recall_at": [asdict(each) for each in at_rates(labels, scores, span)],
        "mean_score": float(scores.mean()) if len(scores) else float("nan"),
        "fraud_rate": float(labels.mean()) if len(labels) else float("nan"),
        "calibration": calibration(labels, scores),
    }
    if intervals:
        figures["auc_interval"] = interval(roc_auc, labels, scores, customers)
        figures["average_precision_interval"] = interval(average_precision, labels, scores, customers)
        figures["curves"] = curve_points(labels, scores)
    return _jsonable(figures)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
