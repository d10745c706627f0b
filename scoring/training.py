"""Labels as known then → split by time → fit → figures on later time → a candidate. Nobody is promoted here.

Three fits, each on rows earlier than those it is asked about. A *tester* learns what was known when the test weeks
began and is measured on them; the *candidate*, by the same recipe, learns everything known now and is calibrated on the
tester's margins of the test weeks; the tester's own curve comes from a third model that stops before the tester's last
quarter. Artefact first, row after it: an interrupted run leaves no version behind.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.db.transaction import atomic
from django.utils import timezone

from scoring import dataset, drift, evaluation, features, registry
from scoring.dataset import Dataset
from scoring.estimators import LEAST_FRAUDS, Detector, NotTrainable, build_pipeline
from scoring.models import ModelVersion
from scoring.releases import in_force
from transactions.alone import alone
from transactions.facts import DAY, micros, moment
from transactions.models import Label, Lane

log = logging.getLogger(__name__)

LOCK = 3  # class of the advisory lock: one training for each lane
Say = Callable[[str], None]


class TrainingRunning(Exception):
    """Another process trains for this lane."""


class NothingNew(Exception):
    """Nothing became known since the last model was trained."""


@dataclass(frozen=True)
class Recipe:
    """How a model is made: stretches of time in days, and the most rows that fit into memory (600 bytes each)."""

    days: int = 90
    maturity_days: int = 10
    test_days: int = 14
    most_rows: int = 600_000


@dataclass(frozen=True)
class Fitted:
    """A model, and how many payments and frauds taught it."""

    model: Detector
    payments: int
    frauds: int


def train(
    lane: Lane,
    *,
    as_of: datetime | None = None,
    by: str = "schedule",
    recipe: Recipe = Recipe(),
    choices: dict[str, Any] | None = None,
    say: Say = log.info,
    progress: dataset.Progress | None = None,
) -> ModelVersion:
    """Train a candidate on what was known at `as_of` (default: now). Raises NotTrainable or TrainingRunning.

    `choices` replace defaults of the estimator.
    """
    cutoff = micros(as_of or timezone.now())
    with _alone(lane):
        begun = time.monotonic()
        begin, test_end = cutoff - recipe.days * DAY, cutoff - recipe.maturity_days * DAY
        test_begin = test_end - recipe.test_days * DAY
        data = dataset.of_lane(lane.pk, begin=begin, end=cutoff, most=recipe.most_rows, progress=progress)
        say(f"{len(data):,} payments with what was known of them")
        maturity = recipe.maturity_days * DAY
        tester = fit_calibrated(data.between(begin, test_begin), by=test_begin, maturity=maturity, choices=choices)
        test = data.between(test_begin, test_end)
        truth, margins = test.known(cutoff) == dataset.FRAUD, tester.model.margin(test.matrix)
        figures = _measure(tester, test, truth, test_begin)
        say(f"measured on {len(test):,} later payments: {summary(figures)}")
        candidate = _fit_known(data, by=cutoff, maturity=maturity, choices=choices)
        candidate.model.calibrate(margins, truth)
        metrics = {"test": figures, "champion": _champion(lane, test, truth, test_begin)}
        card = _card(recipe, data, candidate, cutoff, (test_begin, test_end), time.monotonic() - begun)
        return _register(lane, candidate.model, data, card, metrics, by)


def retrain(lane_id: int, *, by: str = "schedule", recipe: Recipe = Recipe()) -> ModelVersion | None:
    """What the schedule calls: a candidate if anything became known since the last one, else None.

    Raises NotTrainable or TrainingRunning; the champion stays what it is in every case.
    """
    lane = Lane.objects.get(pk=lane_id)
    last = ModelVersion.objects.filter(lane=lane).first()
    if last and not Label.objects.filter(lane=lane_id, recorded_at__gt=last.created_at).exists():
        log.info("lane %s: nothing became known since %s; no training", lane_id, last.version)
        return None
    return train(lane, by=by, recipe=recipe)


def fit_calibrated(data: Dataset, *, by: int, maturity: int, choices: dict[str, Any] | None = None) -> Fitted:
    """A model of what `data` teaches at `by`, calibrated on its own later part. Raises NotTrainable.

    The curve is learnt from mature payments alone.
    """
    lesson = data.lesson(by=by, maturity=maturity)
    matrix, frauds = data.matrix[lesson.rows], lesson.frauds
    mature = int(lesson.mature.sum())  # rows stand in time order, the mature ones first
    cut = _cut(frauds[:mature])
    early = build_pipeline(**(choices or {})).fit(matrix[:cut], frauds[:cut], lesson.weights[:cut])
    model = build_pipeline(**(choices or {})).fit(matrix, frauds, lesson.weights)
    model.calibrate(early.margin(matrix[cut:mature]), frauds[cut:mature])
    return Fitted(model, len(frauds), int(frauds.sum()))


def _fit_known(data: Dataset, *, by: int, maturity: int, choices: dict[str, Any] | None) -> Fitted:
    lesson = data.lesson(by=by, maturity=maturity)
    model = build_pipeline(**(choices or {})).fit(data.matrix[lesson.rows], lesson.frauds, lesson.weights)
    return Fitted(model, len(lesson.rows), int(lesson.frauds.sum()))


def _cut(frauds: np.ndarray) -> int:
    """Where the rows (in time order) are parted: three quarters before, or half if frauds are few."""
    for share in (0.75, 0.5):
        cut = int(len(frauds) * share)
        if min(frauds[:cut].sum(), frauds[cut:].sum()) >= LEAST_FRAUDS:
            return cut
    raise NotTrainable(f"{int(frauds.sum())} frauds are known: too few to learn from and to calibrate on later ones.")


# --- figures ----------------------------------------------------------------------------------------------------------


def _measure(tester: Fitted, test: Dataset, truth: np.ndarray, begin: int) -> dict[str, Any]:
    probabilities = tester.model.predict_proba(test.matrix)[:, 1]
    return evaluation.measure(test.occurred_at, test.customers, truth, probabilities, begin=begin, intervals=True) | {
        "from": moment(begin).isoformat(),
        "learnt_from": tester.payments,
        "score_histogram": np.bincount(registry.to_score(probabilities) // 50, minlength=21).tolist(),
    }


def _champion(lane: Lane, test: Dataset, truth: np.ndarray, begin: int) -> dict[str, Any]:
    """The champion on the very same payments; `saw_test`: it was trained on some of them and looks too good."""
    release = in_force(lane)
    if release is None or release.model is None:
        return {}
    try:
        probabilities, _ = registry.load(release.model).score(test.matrix)
    except (OSError, ValueError) as error:
        return {"version": release.model.version, "flaw": str(error)}
    figures = evaluation.measure(test.occurred_at, test.customers, truth, probabilities, begin=begin)
    return {
        "version": release.model.version,
        "saw_test": release.model.card.get("label_cutoff", "") > moment(begin).isoformat(),
        **{name: figures[name] for name in ("auc", "average_precision", "card_precision_100", "recall_at")},
    }


def summary(figures: dict[str, Any]) -> str:
    """The three figures people ask for first."""
    names = (("AUC", "auc"), ("average precision", "average_precision"), ("card precision@100", "card_precision_100"))
    return ", ".join(f"{text} {_number(figures[name])}" for text, name in names)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


# --- registering ------------------------------------------------------------------------------------------------------


def _card(
    recipe: Recipe, data: Dataset, candidate: Fitted, cutoff: int, test: tuple[int, int], seconds: float
) -> dict[str, Any]:
    first = int(data.occurred_at[0]) if len(data) else cutoff
    return {
        "training": {
            "from": moment(first).isoformat(),
            "to": moment(cutoff).isoformat(),
            "payments": candidate.payments,
            "frauds": candidate.frauds,
            "labels": dataset.describe(data.labels[data.labels["known_at"] <= cutoff]),
            "seconds": round(seconds, 1),
        },
        "test_window": [moment(test[0]).isoformat(), moment(test[1]).isoformat()],
        "label_cutoff": moment(cutoff).isoformat(),
        "recipe": asdict(recipe),
    }


def _register(
    lane: Lane, model: Detector, data: Dataset, card: dict[str, Any], metrics: dict[str, Any], by: str
) -> ModelVersion:
    version = _next_version(lane)
    artefact = f"{lane.name}/{version}"
    folder = Path(settings.MODEL_DIR) / artefact
    if folder.exists():  # of a run that was killed before its row was written
        shutil.rmtree(folder)
    recent = data.matrix[-50_000:]
    kept = card | {"metrics": metrics, "baseline": drift.baseline(features.NAMES, recent)}
    digest = registry.save(model, folder, version=version, used=features.NAMES, card=kept)
    scorer = registry.load_folder(folder, digest)
    with atomic():
        return ModelVersion.objects.create(
            lane=lane,
            version=version,
            artefact=artefact,
            sha256=digest,
            kernel_version=features.KERNEL_VERSION,
            card={key: value for key, value in scorer.card.items() if key not in ("baseline", "metrics")},
            metrics=metrics,
            created_by=by,
        )


def _next_version(lane: Lane) -> str:
    day = f"{timezone.now():%Y.%m.%d}"
    taken = set(ModelVersion.objects.filter(lane=lane, version__startswith=day).values_list("version", flat=True))
    number = 1
    while f"{day}-{number}" in taken:
        number += 1
    return f"{day}-{number}"


@contextmanager
def _alone(lane: Lane) -> Iterator[None]:
    """One training at a time for each lane; a killed one frees the lock with its session."""
    with alone(LOCK, lane.pk) as mine:
        if not mine:
            raise TrainingRunning(f"A training for {lane.name} is running already.")
        yield
