"""Decision trees walked in Numba: XGBoost's own, bit for bit, and the isolation forest's.

XGBoost takes tenths of a millisecond for one row and scikit-learn's forest ten milliseconds; a payment at a till has
not that much time. Trees are records of 16 bytes, the two children of a node side by side. Leaves are added in float32
in the order of the trees, as XGBoost does, so that the margin has the very same bits whichever of the two walked
(tests/scoring/test_trees.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    # They cost seconds at the start of a process; only those who train or load a model pay them.
    import xgboost
    from sklearn.ensemble import IsolationForest

ANOMALY = "anomaly"  # the name of the forest's column, after the kernel's

LEAF = -1
NODE = np.dtype([("value", "f4"), ("feature", "i4"), ("left", "i4"), ("missing", "i4")])
BLOCK = 64  # rows walked through one tree before the next: the tree stays in the cache


class Trees(NamedTuple):
    """Trees one after the other.

    A row whose `feature` is below `value` goes to `left`, else to the next node, a missing one to `missing`; all three
    count from the first node of all. In a leaf (`feature` is LEAF) `value` is what it adds.
    """

    nodes: np.ndarray  # NODE, (nodes,)
    roots: np.ndarray  # i4, (trees,)
    base: np.ndarray  # f4, (1,): the sum before the first tree


def trees_of(booster: xgboost.Booster) -> Trees:
    """The trees of a binary logistic booster without categorical splits."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    parts = [
        _adjacent(
            np.asarray(tree["left_children"]),
            np.asarray(tree["right_children"]),
            np.asarray(tree["split_indices"]),
            np.asarray(tree["split_conditions"], "f4"),
            np.asarray(tree["default_left"], bool),
        )
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]
    return _together(parts, _base_margin(learner))


def forest_of(forest: IsolationForest, fill: np.ndarray) -> Trees:
    """A fitted isolation forest as trees that add depths; `fill` (features,) stands in for missing values.

    scikit-learn's question is `float32 <= float64`; the next float32 above makes the same question with `<`.
    """
    parts = []
    for tree, columns in zip((e.tree_ for e in forest.estimators_), forest.estimators_features_, strict=True):
        split = tree.children_left >= 0
        feature = columns[np.where(split, tree.feature, 0)]
        threshold = np.where(split, _just_above(tree.threshold), _depths(tree)).astype("f4")
        to_left = np.asarray(fill, "f4")[feature] < threshold
        parts.append(_adjacent(tree.children_left, tree.children_right, feature, threshold, to_left))
    return _together(parts, 0.0)


def expected_depth(samples: np.ndarray) -> np.ndarray:
    """Mean depth of an unsuccessful search in a binary tree of so many rows (Liu, Ting, Zhou 2008, equation 1)."""
    rows = np.asarray(samples)
    n = np.maximum(rows.astype(float), 2.0)
    many = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, many))


def _adjacent(
    left: np.ndarray, right: np.ndarray, feature: np.ndarray, value: np.ndarray, to_left: np.ndarray
) -> np.ndarray:
    """One tree as NODE records, renumbered so that siblings are neighbours; children count from this tree's root."""
    order = [0]
    for node in order:  # grows while it is walked
        if left[node] >= 0:
            order += [int(left[node]), int(right[node])]
    at = np.array(order)
    place = np.zeros(len(left), "i4")
    place[at] = np.arange(len(at))
    split = left[at] >= 0
    nodes = np.zeros(len(at), NODE)
    nodes["value"] = value[at]
    nodes["feature"] = np.where(split, feature[at], LEAF)
    nodes["left"] = np.where(split, place[left[at]], 0)
    nodes["missing"] = np.where(split & ~to_left[at], nodes["left"] + 1, nodes["left"])
    return nodes


def _together(parts: list[np.ndarray], base: float) -> Trees:
    roots = np.cumsum([0] + [len(part) for part in parts])[:-1].astype("i4")
    nodes = np.concatenate(parts) if parts else np.zeros(0, NODE)
    shift = np.repeat(roots, [len(part) for part in parts])
    nodes["left"] += shift
    nodes["missing"] += shift
    return Trees(nodes, roots, np.array([base], "f4"))


def _base_margin(learner: dict) -> float:
    """Log-odds of the base score, in float32 as XGBoost computes it."""
    score = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
    return float(-np.log(np.float32(1.0) / score - np.float32(1.0), dtype="f4"))


def _just_above(threshold: np.ndarray) -> np.ndarray:
    """The smallest float32 above each float64."""
    near = threshold.astype("f4")
    return np.where(near > threshold, near, np.nextafter(near, np.float32(np.inf)))


def _depths(tree: Any) -> np.ndarray:
    """Questions asked to reach each node, plus those that its remaining sample would still need."""
    left, right = tree.children_left, tree.children_right
    depth = np.zeros(len(left))
    for node in range(len(left)):  # parents stand before their children
        for child in (left[node], right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth + expected_depth(tree.n_node_samples)


@njit(cache=True, nogil=True)
def walk(trees: Trees, matrix: np.ndarray, out: np.ndarray) -> None:
    """Write what the trees add up to for each row of `matrix` (n, features) f4 to `out` (n,) f4."""
    nodes = trees.nodes
    for start in range(0, len(matrix), BLOCK):
        end = min(len(matrix), start + BLOCK)
        for row in range(start, end):
            out[row] = trees.base[0]
        for root in trees.roots:
            for row in range(start, end):
                node = nodes[root]
                while node.feature != LEAF:
                    value = matrix[row, node.feature]
                    place = node.left + np.int32(not (value < node.value))
                    if value != value:  # missing
                        place = node.missing
                    node = nodes[place]
                out[row] = np.float32(out[row] + node.value)


@njit(cache=True, nogil=True)
def arrange(matrix: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Copy the `columns` of `matrix` (n, …) to the first columns of `out` (n, ≥ columns)."""
    for row in range(len(matrix)):
        for place in range(len(columns)):
            out[row, place] = matrix[row, columns[place]]


@njit(cache=True, nogil=True)
def anomaly(depths: np.ndarray, usual: float, out: np.ndarray) -> None:
    """Write 2^(-depth/usual) to `out` (n,) f4: 0.5 for a usual row, towards 1 for one set apart by few questions."""
    for row in range(len(depths)):
        out[row] = 2.0 ** (-np.float64(depths[row]) / usual)


@njit(cache=True, nogil=True)
def to_probability(margins: np.ndarray, slope: float, shift: float, out: np.ndarray) -> None:
    """Platt's curve: `out` (n,) f8 = 1 / (1 + exp(-(slope × margin + shift))), the same bits in every batch."""
    for row in range(len(margins)):
        out[row] = 1.0 / (1.0 + np.exp(-(slope * np.float64(margins[row]) + shift)))
