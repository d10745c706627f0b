"""Artefacts: a trained model as a folder that can be checked, moved and read by nothing but data readers.

    trees.ubj     the boosted trees in XGBoost's own format, for contributions and for others
    arrays.npz    the same trees and the isolation forest as arrays, and the calibration (no pickles)
    card.json     features, kernel version, training window, label cut-off, metrics, libraries, hashes of the others

A folder is written aside, synced and renamed: it is whole or absent. The model version's row keeps the hash of the
card, the card those of the files, and loading verifies both.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from importlib import metadata
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from django.conf import settings

from scoring import features, trees
from scoring.models import ModelVersion

if TYPE_CHECKING:
    # They cost seconds at the start of a process; only those who train or load a model pay them.
    import xgboost

    from scoring.estimators import Detector

FORMAT = 2
TREES, ARRAYS, CARD = "trees.ubj", "arrays.npz", "card.json"


class ArtefactError(ValueError):
    """An artefact that must not judge."""


class Tampered(ArtefactError):
    """A file is not the one that was registered."""


class WrongKernel(ArtefactError):
    """The model was trained on another kernel's features."""


# --- the public score -------------------------------------------------------------------------------------------------

# Probability of fraud and the public score that stands for it; in between, straight lines over the log-odds. Frauds are
# rare: the steps are set so that the middle of the scale, where thresholds lie, is where analysts can act.
SCALE = [
    (1e-6, 0),
    (1e-4, 100),
    (1e-3, 250),
    (1e-2, 400),
    (0.05, 500),
    (0.2, 700),
    (0.6, 900),
    (0.95, 980),
    (0.9999, 1000),
]


def _cuts() -> np.ndarray:
    """The least probability of each score 1…1000, (1000,) f8 ascending."""
    odds = [np.log(p / (1 - p)) for p, _ in SCALE]
    wanted = np.interp(np.arange(1, 1001), [score for _, score in SCALE], odds)
    return np.array([1.0 / (1.0 + exp(-value)) for value in wanted])


_CUTS = _cuts()


def to_score(probability: np.ndarray | float) -> np.ndarray:
    """The public score 0–1000 of each probability, i2: monotone, by comparison with a fixed table."""
    return np.searchsorted(_CUTS, probability, side="right").astype("i2")


def to_probability(score: int) -> float:
    """The least probability that has this public score (or a higher one)."""
    return 0.0 if score <= 0 else float(_CUTS[min(score, 1000) - 1])


# --- scoring ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scorer:
    """A loaded model. `names` are the columns it judges by: the kernel's, then the anomaly.

    The trees ask for features by their place in the kernel's matrix; the anomaly is the one after the last.
    """

    version: str
    names: tuple[str, ...]
    columns: np.ndarray  # i8: where each of `names` stands
    boosted: trees.Trees
    forest: trees.Trees
    asked: trees.Asked
    forest_sieve: trees.Sieve
    boosted_sieve: trees.Sieve
    usual: float
    slope: float
    shift: float
    covers: np.ndarray  # f4, (nodes of `boosted`,): how much of the training each saw
    raw: bytes  # the trees in XGBoost's format
    card: dict[str, Any]

    @cached_property
    def booster(self) -> xgboost.Booster:
        """XGBoost's own, for those who ask for it: the library takes memory and seconds that a lane does not need."""
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(self.raw))
        return booster

    def score(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of fraud (n,) f8 and margin (n,) f4 of the kernel's matrix (n, N_FEATURES) f4.

        The same bits for a row whatever batch it comes in.
        """
        matrix = np.ascontiguousarray(matrix, "f4")
        margin, probability = np.empty(len(matrix), "f4"), np.empty(len(matrix))
        if len(matrix) <= trees.FEW:
            trees.score_walking(self.forest, self.boosted, self.usual, matrix, margin)
        else:
            trees.score_sifting(self.asked, self.forest_sieve, self.boosted_sieve, self.usual, matrix, margin)
        trees.to_probability(margin, self.slope, self.shift, probability)
        return probability, margin

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each of `names` adds to the margin (TreeSHAP), and last the constant: (n, len(names) + 1) f8."""
        if self.paths is None:  # trees of unusual depth
            import xgboost

            rows = xgboost.DMatrix(self.widen(matrix)[:, self.columns], nthread=1)
            return self.booster.predict(rows, pred_contribs=True).astype("f8")
        wide = self.widen(matrix)
        parts = np.empty((len(wide), wide.shape[1] + 1))
        trees.contribute(self.paths, wide, parts)
        return parts[:, np.append(self.columns, wide.shape[1])]

    @cached_property
    def paths(self) -> trees.Paths | None:
        """The ways to the leaves, made for those who explain; a lane never does."""
        return trees.paths_of(self.boosted, self.covers)

    def widen(self, matrix: np.ndarray) -> np.ndarray:
        """The kernel's matrix (n, N_FEATURES) with the anomaly as its last column, (n, N_FEATURES + 1) f4."""
        matrix = np.ascontiguousarray(matrix, "f4")
        wide = np.empty((len(matrix), matrix.shape[1] + 1), "f4")
        trees.widen(self.forest, self.usual, matrix, wide)
        return wide


def scorer_of(model: Detector, used: Sequence[str], *, version: str = "", card: dict[str, Any] | None = None) -> Scorer:
    """A fitted model that takes the kernel's matrix; `used` names the kernel's columns it was fitted on."""
    booster = model.booster_
    parts = trees.trees_of(booster), model.forest_, model.usual_, model.slope_, model.shift_
    return _assemble(*parts, trees.covers_of(booster), bytes(booster.save_raw("ubj")), used, version, card or {})


def _assemble(
    boosted: trees.Trees,
    forest: trees.Trees,
    usual: float,
    slope: float,
    shift: float,
    covers: np.ndarray,
    raw: bytes,
    used: Sequence[str],
    version: str,
    card: dict[str, Any],
) -> Scorer:
    known = {name: place for place, name in enumerate((*features.NAMES, trees.ANOMALY))}
    names = (*used, trees.ANOMALY)
    columns = np.array([known[name] for name in names], "i8")
    forest, boosted = trees.placed(forest, columns), trees.placed(boosted, columns)
    asked, (sieve, boosted_sieve) = trees.sieves_of(forest, boosted)
    ways = boosted, forest, asked, sieve, boosted_sieve
    scorer = Scorer(version, names, columns, *ways, usual, slope, shift, covers, raw, card)
    for rows in (1, trees.FEW + 1):  # compile now, not at the first payment
        scorer.score(np.zeros((rows, len(features.NAMES)), "f4"))
    return scorer


# --- keeping ----------------------------------------------------------------------------------------------------------


def save(model: Detector, directory: Path | str, *, version: str, used: Sequence[str], card: dict[str, Any]) -> str:
    """Write `model` as the folder `directory` and return the hash of its card. Raises FileExistsError.

    `card` is what there is to say of it (training window, label cut-off, metrics); features, hashes and library
    versions are added.
    """
    folder = Path(directory)
    if folder.exists():
        raise FileExistsError(f"{folder.name} exists already: artefacts are never overwritten.")
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir(parents=True)
    try:
        digest = _write(model, aside, version, used, card)
        _sync(aside)
        os.rename(aside, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return digest


def _write(model: Detector, folder: Path, version: str, used: Sequence[str], card: dict[str, Any]) -> str:
    (folder / TREES).write_bytes(bytes(model.booster_.save_raw("ubj")))
    with open(folder / ARRAYS, "wb") as file:
        boosted = trees.trees_of(model.booster_)
        np.savez(
            file,
            boosted_nodes=boosted.nodes,
            boosted_roots=boosted.roots,
            boosted_base=boosted.base,
            boosted_covers=trees.covers_of(model.booster_),
            forest_nodes=model.forest_.nodes,
            forest_roots=model.forest_.roots,
            forest_base=model.forest_.base,
            usual=np.array([model.usual_]),
            curve=np.array([model.slope_, model.shift_]),
        )
    whole = {
        "format": FORMAT,
        "version": version,
        "kernel_version": features.KERNEL_VERSION,
        "features": list(used),
        "calibration": {"method": "platt", "slope": model.slope_, "shift": model.shift_},
        "estimator": model.get_params(),
        **card,
        "files": {name: _hash(folder / name) for name in (TREES, ARRAYS)},
        "libraries": libraries(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / CARD).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
    return _hash(folder / CARD)


def load(version: ModelVersion) -> Scorer:
    """The scorer of a registered version. Raises OSError, Tampered, WrongKernel or ArtefactError."""
    return load_folder(Path(settings.MODEL_DIR) / version.artefact, version.sha256)


def load_folder(folder: Path, digest: str) -> Scorer:
    """The scorer in `folder`, whose card must have the hash `digest`."""
    if _hash(folder / CARD) != digest:
        raise Tampered(f"{folder.name}/{CARD} is not the one that was registered.")
    card = json.loads((folder / CARD).read_text())
    for name, expected in card["files"].items():
        if _hash(folder / name) != expected:
            raise Tampered(f"{folder.name}/{name} is not the one that was registered.")
    if card["format"] != FORMAT:
        raise ArtefactError(f"{folder.name} has format {card['format']}; this software reads {FORMAT}.")
    if card["kernel_version"] != features.KERNEL_VERSION:
        raise WrongKernel(f"{folder.name} is for kernel {card['kernel_version']}, not {features.KERNEL_VERSION}.")
    with np.load(folder / ARRAYS, allow_pickle=False) as kept:
        boosted = trees.Trees(kept["boosted_nodes"], kept["boosted_roots"], kept["boosted_base"])
        forest = trees.Trees(kept["forest_nodes"], kept["forest_roots"], kept["forest_base"])
        usual, (slope, shift) = float(kept["usual"][0]), kept["curve"].tolist()
        covers = kept["boosted_covers"]
    raw = (folder / TREES).read_bytes()
    return _assemble(boosted, forest, usual, slope, shift, covers, raw, card["features"], card["version"], card)


def libraries() -> dict[str, str]:
    """Versions of everything that had a hand in a model."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "scikit-learn": metadata.version("scikit-learn"),
        "xgboost": metadata.version("xgboost-cpu"),
    }


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _sync(folder: Path) -> None:
    for path in (*folder.iterdir(), folder) if folder.is_dir() else ():
        if path.is_file() or path == folder:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
