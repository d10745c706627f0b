"""Small data to learn from: matrices of the kernel's width in which two columns tell frauds, and payments as facts."""

from __future__ import annotations

import numpy as np

from scoring import features
from scoring.dataset import KNOWN_LABEL, Dataset
from transactions import codes, facts
from transactions.facts import DAY, HOUR

FAST = {"rounds": 12, "forest_trees": 8, "depth": 3}


def telling_matrix(frauds: np.ndarray, *, seed: int = 1) -> np.ndarray:
    """(n, N_FEATURES) f4: noise, and two columns that are higher for frauds."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(len(frauds), features.N_FEATURES)).astype("f4")
    matrix[:, 0] += 2.5 * frauds
    matrix[:, 7] += 1.5 * frauds
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    return matrix


def labels_of(rows: list[tuple[int, int, int]], *, happened: int = 0, source: str = "chargeback") -> np.ndarray:
    """Labels of (transaction id, known_at, verdict)."""
    labels = np.zeros(len(rows), KNOWN_LABEL)
    for number, (transaction_id, known_at, verdict) in enumerate(rows):
        rank = codes.LABEL_SOURCE.code(source)
        labels[number] = (number + 1, transaction_id, known_at, verdict, rank, happened)
    return labels


def month(*, days: int = 30, a_day: int = 60, rate: float = 0.08, seed: int = 1) -> Dataset:
    """Payments of a month; frauds become known three days later."""
    rng = np.random.default_rng(seed)
    n = days * a_day
    at = np.sort(rng.integers(0, days * DAY, n)).astype("i8")
    frauds = rng.random(n) < rate
    ids = np.arange(1, n + 1)
    labels = labels_of([(int(ids[i]), int(at[i]) + 3 * DAY, 2) for i in np.flatnonzero(frauds)])
    labels["happened"] = at[frauds]
    return Dataset(ids, at, rng.integers(1, 200, n), telling_matrix(frauds, seed=seed), labels)


def payments_at(merchant: int, *, count: int = 40, first: int = 0) -> np.ndarray:
    """Facts of `count` payments, one an hour, by one customer each, at one merchant."""
    rows = facts.blank(count)
    rows["id"] = np.arange(1, count + 1) + first
    rows["occurred_at"] = np.arange(count) * HOUR + 8_000 * DAY
    rows["received_at"] = rows["occurred_at"]
    rows["customer"] = np.arange(count) + 100 + first
    rows["merchant"], rows["lane"] = merchant, 1
    rows["amount"] = rows["amount_base"] = 2_000
    rows["stage"] = codes.STAGE.code("authorisation")
    rows["type"] = codes.TYPE.code("purchase")
    return rows
