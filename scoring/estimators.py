"""The model before it has seen anything: an isolation forest's anomaly as a feature, boosted trees, a calibration.

Chosen by measurement (docs/models.md): averaging the forest into the score costs precision, feeding it to the trees
does not; XGBoost's own choice of `base_score` starves rare-event trees of splits, so it is set here, as is the tree
method.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import xgboost
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression

from scoring import trees

FOREST_ROWS = 20_000  # the forest needs few: each of its trees sees 256
LEAST_FRAUDS = 10


class NotTrainable(Exception):
    """There is not enough to learn from; the text says of what."""


class Detector(ClassifierMixin, BaseEstimator):
    """Isolation forest → XGBoost → Platt's curve, over the kernel's matrix (n, features) float32, NaN = missing.

    `fit` learns the trees, `calibrate` the curve, on rows later than those of `fit`.
    """

    def __init__(
        self,
        *,
        rounds: int = 150,
        depth: int = 5,
        rate: float = 0.08,
        least_child: float = 1.0,
        row_share: float = 0.8,
        column_share: float = 0.25,
        forest_trees: int = 64,
        forest_sample: int = 256,
        threads: int = 2,
        seed: int = 7,
    ):
        self.rounds = rounds
        self.depth = depth
        self.rate = rate
        self.least_child = least_child
        self.row_share = row_share
        self.column_share = column_share
        self.forest_trees = forest_trees
        self.forest_sample = forest_sample
        self.threads = threads
        self.seed = seed

    def fit(self, matrix: np.ndarray, frauds: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Learn from `matrix` (n, features) f4, `frauds` (n,) bool and the rows' weights. Raises NotTrainable."""
        if int(np.sum(frauds)) < LEAST_FRAUDS or bool(np.all(frauds)):
            raise NotTrainable(
                f"{int(np.sum(frauds))} frauds among {len(frauds)} payments: at least {LEAST_FRAUDS} needed."
            )
        matrix = np.ascontiguousarray(matrix, "f4")
        self.classes_ = np.array([False, True])
        self._fit_forest(matrix)
        self.booster_ = self._booster(self.widen(matrix), np.asarray(frauds, "i4"), weights)
        self.slope_, self.shift_ = 1.0, 0.0
        return self

    def calibrate(self, margins: np.ndarray, frauds: np.ndarray) -> Self:
        """Learn the curve from margins of payments that the trees giving them had not seen. Raises NotTrainable."""
        if int(np.sum(frauds)) < LEAST_FRAUDS:
            raise NotTrainable(f"{int(np.sum(frauds))} frauds to calibrate on: at least {LEAST_FRAUDS} needed.")
        curve = LogisticRegression(C=1e6).fit(np.asarray(margins, "f8").reshape(-1, 1), np.asarray(frauds, bool))
        slope, shift = float(curve.coef_[0, 0]), float(curve.intercept_[0])
        if slope <= 0:
            raise NotTrainable("Higher margins do not mean more fraud in later time: nothing was learnt.")
        self.slope_, self.shift_ = slope, shift
        return self

    def widen(self, matrix: np.ndarray) -> np.ndarray:
        """`matrix` (n, features) with the anomaly as its last column, (n, features + 1) f4."""
        matrix = np.ascontiguousarray(matrix, "f4")
        wide = np.empty((len(matrix), matrix.shape[1] + 1), "f4")
        wide[:, :-1] = matrix
        wide[:, -1] = self.anomaly(matrix)
        return wide

    def anomaly(self, matrix: np.ndarray) -> np.ndarray:
        """How far each row stands apart, (n,) f4 between 0 and 1; 0.5 is usual."""
        depths, out = np.empty(len(matrix), "f4"), np.empty(len(matrix), "f4")
        trees.walk(self.forest_, matrix, depths)
        trees.anomaly(depths, self.usual_, out)
        return out

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """The trees' sum before calibration, (n,) f4."""
        return self.booster_.inplace_predict(self.widen(matrix), predict_type="margin", validate_features=False)

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        """Columns genuine and fraud, (n, 2) f8."""
        fraud = np.empty(len(matrix))
        trees.to_probability(self.margin(matrix), self.slope_, self.shift_, fraud)
        return np.column_stack([1.0 - fraud, fraud])

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return self.predict_proba(matrix)[:, 1] >= 0.5

    def _fit_forest(self, matrix: np.ndarray) -> None:
        sample = np.random.default_rng(self.seed).permutation(len(matrix))[:FOREST_ROWS]
        rows = matrix[sample]
        known = ~np.isnan(rows).all(axis=0)
        fill = np.zeros(matrix.shape[1], "f4")
        fill[known] = np.nanmedian(rows[:, known], axis=0)
        forest = IsolationForest(n_estimators=self.forest_trees, max_samples=self.forest_sample, random_state=self.seed)
        forest.fit(np.where(np.isnan(rows), fill, rows))
        self.forest_ = trees.forest_of(forest, fill)
        sampled = np.array([forest.max_samples_])
        self.usual_ = float(self.forest_trees * trees.expected_depth(sampled)[0])

    def _booster(self, wide: np.ndarray, frauds: np.ndarray, weights: np.ndarray | None) -> xgboost.Booster:
        """Trained trees. `base_score` 0.5 keeps the first Hessians large: rare frauds would miss `min_child_weight`."""
        options = {
            "objective": "binary:logistic",
            "base_score": 0.5,
            "tree_method": "hist",
            "max_bin": 256,
            "max_depth": self.depth,
            "eta": self.rate,
            "min_child_weight": self.least_child,
            "subsample": self.row_share,
            "colsample_bytree": self.column_share,
            "nthread": self.threads,
            "seed": self.seed,
            "verbosity": 0,
        }
        rows = xgboost.QuantileDMatrix(wide, frauds, weight=weights, nthread=self.threads)
        return xgboost.train(options, rows, self.rounds)


def build_pipeline(**choices: object) -> Detector:
    """The unfitted model; `choices` replace the defaults of `Detector`."""
    return Detector(**choices)  # type: ignore[arg-type]  # names and types are checked by the constructor
