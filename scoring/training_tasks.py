"""The schedule's door to training. It only ever makes candidates: promotion is proposed and approved by two persons."""

from __future__ import annotations

import logging

from celery import shared_task

from transactions import tally
from transactions.models import Lane

log = logging.getLogger(__name__)


@shared_task(name="scoring.retrain", acks_late=True)
def retrain(lane_id: int | None = None, by: str = "schedule") -> list[str]:
    """Train a candidate for one lane, or for every lane but sandboxes; the new versions. Safe to run twice."""
    # Imported here: scikit-learn costs seconds at the start of every worker, and only this task needs it.
    from scoring import training
    from scoring.estimators import NotTrainable

    lanes = Lane.objects.filter(pk=lane_id) if lane_id else Lane.objects.filter(sandbox=False)
    made = []
    for lane in lanes.order_by("pk"):
        try:
            version = training.retrain(lane.pk, by=by)
        except (NotTrainable, training.TrainingRunning) as reason:
            log.warning("no candidate for lane %s: %s", lane.name, reason)
            if isinstance(reason, NotTrainable):
                tally.add("retrain_failures", lane=lane.name)
            continue
        if version is not None:
            figures = training.summary(version.metrics["test"])
            log.info("candidate %s for lane %s: %s", version.version, lane.name, figures)
            made.append(version.version)
    return made
