"""The worker's part: explaining alerts, on a bell or a beat."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from alerts import services
from alerts.owed import Horizon

BATCH = 200
ROUNDS = 20  # batches that one message works off; the next beat goes on

_horizon = Horizon(services.RECENT)


@shared_task(name="alerts.explain")
def explain() -> int:
    """Explain the alerts raised lately that have no explanation yet; how many."""
    began = timezone.now()
    done, is_all = _until_done(_horizon.within(began))
    if is_all:
        _horizon.reached(began)
    return done


@shared_task(name="alerts.sweep_explanations")
def sweep_explanations() -> int:
    """The same over a day: what a lost ring, a stopped worker or a model that could not be loaded left behind."""
    return _until_done(services.RECENT)[0]


def _until_done(within: timedelta) -> tuple[int, bool]:
    """How many were explained, and whether that was all."""
    done = 0
    for _ in range(ROUNDS):
        explained = services.explain(limit=BATCH, within=within)
        done += explained
        if explained < BATCH:
            return done, True
    return done, False
