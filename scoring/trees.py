"""Decision trees in Numba: XGBoost's own, bit for bit, and the isolation forest's.

XGBoost takes tenths of a millisecond for one row and scikit-learn's forest ten milliseconds; a payment at a till has
not that much time. There are two ways through the same trees. *Walking* goes from node to node, row by row: best for a
few rows. *Sifting* asks all questions of a tree of 64 rows at once and strikes the leaves that each answer rules out;
it asks more, but nothing waits for anything, and the processor answers for eight rows or more in one instruction:
four times as fast for large batches. Both add leaves in float32 in the order of the trees, as XGBoost does, so that
the margin has the very same bits whichever way it came about (tests/scoring/test_trees.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import factorial
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
BLOCK = 64  # rows that go through one tree before the next: the tree stays in the cache
FEW = 6  # so many rows are walked, more are sifted
BITS = 32  # leaves of one piece of a tree
WHOLE, FIRST, LATER = 0, 1, 2  # kinds of pieces
MOST_SHARES = 1 << 22  # numbers that `paths_of` may take: 32 MB; a model of the usual depth needs a sixth
ALL = np.uint32(0xFFFFFFFF)
SPREAD = np.uint32(0x077CB531)  # times a single bit, the top five bits differ for each of the 32 (de Bruijn)


class Trees(NamedTuple):
    """Trees one after the other.

    A row whose `feature` is below `value` goes to `left`, else to the next node, a missing one to `missing`; all three
    count from the first node of all. In a leaf (`feature` is LEAF) `value` is what it adds.
    """

    nodes: np.ndarray  # NODE, (nodes,)
    roots: np.ndarray  # i4, (trees,)
    base: np.ndarray  # f4, (1,): the sum before the first tree


class Sieve(NamedTuple):
    """Trees as questions that strike leaves.

    A row holds a bit for each leaf of the piece at hand, the leftmost lowest. It is asked whether its `column` is at
    least `value`; where it is, only the bits in `keep` stay. The lowest bit that stays is the row's leaf. A tree of
    more than 32 leaves has several pieces: the row's leaf is in the first one that has a bit left.
    """

    value: np.ndarray  # f4, (questions,)
    column: np.ndarray  # u4, (questions,): which of the `Asked`
    keep: np.ndarray  # u4, (questions,)
    ends: np.ndarray  # u4, (pieces,): where the questions of each piece end
    kind: np.ndarray  # u1, (pieces,): WHOLE, FIRST or LATER
    leaves: np.ndarray  # f4, (pieces, 32): in the place that `SPREAD` gives a bit
    base: np.ndarray  # f4, (1,)


class Asked(NamedTuple):
    """The columns that sieves ask for: a feature, and the number that makes a missing value go the right way."""

    feature: np.ndarray  # i4, (columns,)
    missing: np.ndarray  # f4, (columns,): inf where missing values go right, -inf where they go left


class Paths(NamedTuple):
    """Ways to the leaves, for contributions (TreeSHAP).

    The questions on the way to a leaf come down to one range for each feature. Which of a row's features lie in their
    ranges are d bits; for every pattern of them the shares of the leaf's value that the d features get are kept ready.
    """

    first: np.ndarray  # i4, (leaves + 1,): where the ranges of each leaf begin
    feature: np.ndarray  # i4, (ranges,)
    least: np.ndarray  # f4, (ranges,)
    below: np.ndarray  # f4, (ranges,)
    missing: np.ndarray  # bool, (ranges,): whether a missing value goes this way
    start: np.ndarray  # i8, (leaves,): where the shares of each leaf begin
    shares: np.ndarray  # f8: for each leaf (2^d, d)
    constant: float  # what the trees say of a row of which nothing is known


def paths_of(trees: Trees, covers: np.ndarray) -> Paths | None:
    """The ways to all leaves, with `covers` as by `covers_of`; None for trees so deep that it would take too much."""
    ways = [way for root in trees.roots.tolist() for way in _ways(trees.nodes, covers.astype("f8"), root)]
    lengths = np.array([len(ranges) for _, ranges in ways], "i8")
    if (lengths > 20).any() or (lengths << lengths).sum() > MOST_SHARES:
        return None
    first = np.append(0, np.cumsum(lengths)).astype("i4")
    start = np.append(0, np.cumsum(lengths << lengths)).astype("i8")
    flat = [(feature, *each) for _, ranges in ways for feature, each in ranges.items()]
    kinds = [("feature", "i4"), ("least", "f4"), ("below", "f4"), ("missing", "?"), ("chance", "f8")]
    table = np.array(flat, kinds)
    values = np.array([value for value, _ in ways], "f8")
    shares = np.empty(int(start[-1]))
    weights = np.zeros((21, 21))
    for d in range(1, 21):
        weights[d, :d] = [factorial(s) * factorial(d - 1 - s) / factorial(d) for s in range(d)]
    _share(first, table["chance"].copy(), values, weights, start, shares)
    reached = [float(np.prod([each[-1] for each in ranges.values()])) for _, ranges in ways]
    constant = float(trees.base[0]) + float(values @ np.array(reached))
    feature, least, below, missing = (table[name].copy() for name in ("feature", "least", "below", "missing"))
    return Paths(first, feature, least, below, missing, start[:-1].copy(), shares, constant)


Range = tuple[float, float, bool, float]  # least, below, whether missing goes this way, chance of going this way


def _ways(nodes: np.ndarray, covers: np.ndarray, root: int) -> list[tuple[float, dict[int, Range]]]:
    """The leaves of a tree from left to right: value, and the range of each feature asked for on the way."""
    ways: list[tuple[float, dict[int, Range]]] = []
    waiting: list[tuple[int, dict[int, Range]]] = [(root, {})]
    while waiting:
        place, ranges = waiting.pop()
        node = nodes[place]
        if node["feature"] == LEAF:
            ways.append((float(node["value"]), ranges))
            continue
        feature, left = int(node["feature"]), int(node["left"])
        least, below, missing, chance = ranges.get(feature, (-np.inf, np.inf, True, 1.0))
        for child in (left + 1, left):
            goes = missing and child == int(node["missing"])
            likely = chance * float(covers[child] / covers[place])
            cut = float(node["value"])
            range_ = (least, min(below, cut)) if child == left else (max(least, cut), below)
            waiting.append((child, ranges | {feature: (*range_, goes, likely)}))
    return ways


def placed(trees: Trees, places: np.ndarray) -> Trees:
    """The same trees over wider rows, in which their feature i is feature `places[i]`."""
    nodes = trees.nodes.copy()
    split = nodes["feature"] != LEAF
    nodes["feature"][split] = places[nodes["feature"][split]]
    return trees._replace(nodes=nodes)


def sieves_of(*several: Trees) -> tuple[Asked, list[Sieve]]:
    """Sieves that share their columns. Raises ValueError for questions that no number can answer."""
    columns: dict[tuple[int, bool], int] = {}
    sieves = [_sieve(trees, columns) for trees in several]
    feature = np.array([feature for feature, _ in columns], "i4")
    missing = np.array([np.inf if right else -np.inf for _, right in columns], "f4")
    return Asked(feature, missing), sieves


def _sieve(trees: Trees, columns: dict[tuple[int, bool], int]) -> Sieve:
    questions: list[tuple[float, int, int]] = []
    ends: list[int] = []
    kinds: list[int] = []
    leaves: list[np.ndarray] = []
    for root in trees.roots.tolist():
        values, strikes = _questions(trees.nodes, root)
        for start in range(0, len(values), BITS):
            for node, low, high in strikes:
                low, high = max(low - start, 0), min(high - start, BITS)
                if low < high:
                    keep = int(ALL) ^ (((1 << (high - low)) - 1) << low)
                    asked = (int(node["feature"]), bool(node["missing"] != node["left"]))
                    questions.append((node["value"], columns.setdefault(asked, len(columns)), keep))
            ends.append(len(questions))
            kinds.append((WHOLE if len(values) <= BITS else FIRST) if start == 0 else LATER)
            leaves.append(_spread(values[start : start + BITS]))
    table = np.array(questions, [("value", "f4"), ("column", "u4"), ("keep", "u4")])
    if not (table["value"] > -np.inf).all():
        raise ValueError("A tree asks whether a number is at least minus infinity.")
    return Sieve(
        table["value"].copy(),
        table["column"].copy(),
        table["keep"].copy(),
        np.array(ends, "u4"),
        np.array(kinds, "u1"),
        np.array(leaves, "f4").reshape(-1, BITS),
        trees.base,
    )


def _questions(nodes: np.ndarray, root: int) -> tuple[list[float], list[tuple[np.void, int, int]]]:
    """The leaves of a tree from left to right; its splits, each with the span of leaves to its left."""
    values: list[float] = []
    splits: list[tuple[np.void, int, int]] = []
    waiting: list[tuple[int, int]] = [(root, -1)]  # (node, where its left leaves began; -1: not yet visited)
    while waiting:
        place, began = waiting.pop()
        node = nodes[place]
        if node["feature"] == LEAF:
            values.append(float(node["value"]))
        elif began < 0:
            waiting += [(place, len(values)), (int(node["left"]), -1)]
        else:
            splits.append((node, began, len(values)))
            waiting.append((int(node["left"]) + 1, -1))
    return values, splits


def _spread(values: list[float]) -> np.ndarray:
    """Up to 32 leaves, each in the place that SPREAD gives its bit."""
    spread = np.zeros(BITS, "f4")
    for bit, value in enumerate(values):
        spread[((1 << bit) * int(SPREAD) & int(ALL)) >> 27] = value
    return spread


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


def covers_of(booster: xgboost.Booster) -> np.ndarray:
    """How much of the training each node of `trees_of` saw (sum of Hessians), (nodes,) f4."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    parts = [
        np.asarray(tree["sum_hessian"], "f4")[_order(tree["left_children"], tree["right_children"])]
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]
    return np.concatenate(parts) if parts else np.zeros(0, "f4")


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
    at = _order(left, right)
    place = np.zeros(len(left), "i4")
    place[at] = np.arange(len(at))
    split = left[at] >= 0
    nodes = np.zeros(len(at), NODE)
    nodes["value"] = value[at]
    nodes["feature"] = np.where(split, feature[at], LEAF)
    nodes["left"] = np.where(split, place[left[at]], 0)
    nodes["missing"] = np.where(split & ~to_left[at], nodes["left"] + 1, nodes["left"])
    return nodes


def _order(left: Sequence[int] | np.ndarray, right: Sequence[int] | np.ndarray) -> np.ndarray:
    """A tree's nodes, level by level, siblings side by side."""
    order = [0]
    for node in order:  # grows while it is walked
        if left[node] >= 0:
            order += [int(left[node]), int(right[node])]
    return np.array(order)


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


@njit(cache=True, nogil=True, error_model="numpy")
def sift(sieve: Sieve, columns: np.ndarray, rows: int, out: np.ndarray) -> None:
    """Write what the trees add up to for up to BLOCK `rows` to `out` (BLOCK,) f4; `columns` (asked, BLOCK) f4.

    Rows are counted up to the next sixteen, so that no loop has a remainder; what the surplus holds means nothing.
    """
    rows = (rows + 15) // 16 * 16
    left, found = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint8)
    for row in range(rows):
        out[row] = sieve.base[0]
    question = np.uint32(0)
    for piece in range(len(sieve.ends)):
        for row in range(rows):
            left[row] = ALL
        for at in range(question, sieve.ends[piece]):
            value, keep, column = sieve.value[at], sieve.keep[at], columns[sieve.column[at]]
            for row in range(rows):
                left[row] &= keep if column[row] >= value else ALL
        question = sieve.ends[piece]
        leaves = sieve.leaves[piece]
        if sieve.kind[piece] == WHOLE:
            for row in range(rows):
                lowest = left[row] & (~left[row] + np.uint32(1))
                out[row] += leaves[np.uint32(lowest * SPREAD) >> np.uint32(27)]
        else:
            for row in range(rows):
                if sieve.kind[piece] == FIRST:
                    found[row] = 0
                if left[row] != 0 and not found[row]:
                    lowest = left[row] & (~left[row] + np.uint32(1))
                    out[row] += leaves[np.uint32(lowest * SPREAD) >> np.uint32(27)]
                    found[row] = 1


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


@njit(cache=True, nogil=True)
def widen(forest: Trees, usual: float, matrix: np.ndarray, out: np.ndarray) -> None:
    """Write `matrix` (n, features) f4 with the anomaly as its last column to `out` (n, features + 1) f4."""
    features = matrix.shape[1]
    depths = np.empty(len(matrix), np.float32)
    out[:, :features] = matrix
    walk(forest, matrix, depths)
    anomaly(depths, usual, out[:, features])


@njit(cache=True, nogil=True)
def score_walking(forest: Trees, boosted: Trees, usual: float, matrix: np.ndarray, margins: np.ndarray) -> None:
    """Write the margin of each row of `matrix` (n, features) f4 to `margins` (n,) f4, row by row.

    The anomaly, whose usual depth is `usual`, is the feature after the last of `matrix`.
    """
    wide = np.empty((len(matrix), matrix.shape[1] + 1), np.float32)
    widen(forest, usual, matrix, wide)
    walk(boosted, wide, margins)


@njit(cache=True, nogil=True, error_model="numpy")
def score_sifting(
    asked: Asked, forest: Sieve, boosted: Sieve, usual: float, matrix: np.ndarray, margins: np.ndarray
) -> None:
    """The same as `score_walking`, many rows at a time."""
    features = matrix.shape[1]
    columns = np.zeros((len(asked.feature), BLOCK), np.float32)
    sums, unusual = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, len(matrix), BLOCK):
        rows = min(BLOCK, len(matrix) - start)
        for place in range(len(asked.feature)):
            feature, missing = asked.feature[place], asked.missing[place]
            if feature < features:
                for row in range(rows):
                    value = matrix[start + row, feature]
                    columns[place, row] = value if value == value else missing
        sift(forest, columns, rows, sums)
        anomaly(sums[:rows], usual, unusual)
        for place in range(len(asked.feature)):
            if asked.feature[place] == features:
                columns[place, :rows] = unusual[:rows]
        sift(boosted, columns, rows, sums)
        margins[start : start + rows] = sums[:rows]


@njit(cache=True, nogil=True)
def _share(
    first: np.ndarray, chance: np.ndarray, values: np.ndarray, weights: np.ndarray, start: np.ndarray, out: np.ndarray
) -> None:
    """Fill the shares of `Paths`: Shapley's sum for each leaf, pattern and feature.

    A known feature counts 1 or 0, an unknown one its `chance`; the product of (chance + known × y) over the others has,
    at y^s, the sum over all sets of s known ones. `weights[d, s]` = s! (d-1-s)! / d!.
    """
    terms = np.empty(21)
    for leaf in range(len(values)):
        at, d = first[leaf], first[leaf + 1] - first[leaf]
        for pattern in range(1 << d):
            for own in range(d):
                terms[:] = 0.0
                terms[0] = 1.0
                count = 0
                for other in range(d):
                    if other != own:
                        count += 1
                        known = np.float64((pattern >> other) & 1)
                        for s in range(count, 0, -1):
                            terms[s] = terms[s] * chance[at + other] + terms[s - 1] * known
                        terms[0] *= chance[at + other]
                total = 0.0
                for s in range(d):
                    total += weights[d, s] * terms[s]
                moved = np.float64((pattern >> own) & 1) - chance[at + own]
                out[start[leaf] + pattern * d + own] = values[leaf] * moved * total


@njit(cache=True, nogil=True, error_model="numpy")
def contribute(paths: Paths, wide: np.ndarray, out: np.ndarray) -> None:
    """Write what each feature of `wide` (n, features) f4 adds to `out` (n, features + 1) f8, last the constant."""
    features = wide.shape[1]
    columns, sums = np.empty((features, BLOCK), np.float32), np.empty((features, BLOCK))
    pattern = np.empty(BLOCK, np.int64)
    for begin in range(0, len(wide), BLOCK):
        rows = min(BLOCK, len(wide) - begin)
        columns[:, :rows] = wide[begin : begin + rows].T
        sums[:, :rows] = 0.0
        for leaf in range(len(paths.start)):
            first, last = paths.first[leaf], paths.first[leaf + 1]
            pattern[:rows] = 0
            for at in range(first, last):
                column, bit = columns[paths.feature[at]], np.int64(1) << (at - first)
                least, below, missing = paths.least[at], paths.below[at], paths.missing[at]
                endless = below == np.inf
                for row in range(rows):
                    value = column[row]
                    inside = (value >= least) & ((value < below) | endless)
                    pattern[row] |= bit * (inside | ((value != value) & missing))
            shares = paths.shares[paths.start[leaf] :]
            for at in range(first, last):
                column_sums = sums[paths.feature[at]]
                for row in range(rows):
                    column_sums[row] += shares[pattern[row] * (last - first) + (at - first)]
        out[begin : begin + rows, :features] = sums[:, :rows].T
        out[begin : begin + rows, features] = paths.constant
