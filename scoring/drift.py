"""Whether what comes in still looks like what the model was trained on: the population stability index of each column.

A baseline (edges and shares) is kept in the model's card; the index of later payments against it is 0 for the same
distribution. The usual limits, 0.1 and 0.25, are for large samples: a small one exceeds them by chance, so the index
expected of chance alone is added to the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = 10
NOTICE, ALARM = 0.1, 0.25
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Drift:
    """One column's index, the limit for this sample, and the two shares of missing values."""

    name: str
    index: float
    limit: float
    missing_before: float
    missing_now: float

    @property
    def is_notable(self) -> bool:
        return self.index > self.limit


def baseline(names: Sequence[str], matrix: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Edges and shares of each column of `matrix` (n, columns); the first share is that of missing values. JSON."""
    kept = {}
    for place, name in enumerate(names):
        column = matrix[:, place]
        known = column[~np.isnan(column)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, PARTS + 1)[1:-1])) if len(known) else np.empty(0)
        kept[name] = {"edges": [float(edge) for edge in edges], "shares": shares(column, edges).tolist()}
    return kept


def shares(column: np.ndarray, edges: np.ndarray | Sequence[float]) -> np.ndarray:
    """Shares of missing values and of each part between `edges`, (len(edges) + 2,), adding up to 1."""
    missing = np.isnan(column)
    counts = np.bincount(np.searchsorted(edges, column[~missing], side="left"), minlength=len(edges) + 1)
    return np.r_[missing.sum(), counts] / max(1, len(column))


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """Σ (now - before) · ln(now / before) over parts; empty parts count as one in ten thousand."""
    old, new = np.maximum(before, LEAST_SHARE), np.maximum(now, LEAST_SHARE)
    return float(np.sum((new - old) * np.log(new / old)))


def compare(kept: dict[str, dict[str, Any]], names: Sequence[str], matrix: np.ndarray) -> list[Drift]:
    """The drift of each column of `matrix` that has a baseline, largest first."""
    found = []
    for place, name in enumerate(names):
        if name not in kept or not len(matrix):
            continue
        before = np.array(kept[name]["shares"])
        now = shares(matrix[:, place], kept[name]["edges"])
        chance = len(before) / len(matrix)  # what the index is expected to be by chance alone
        found.append(Drift(name, stability_index(before, now), NOTICE + 2 * chance, float(before[0]), float(now[0])))
    return sorted(found, key=lambda each: -each.index)
