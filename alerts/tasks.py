"""The worker's part: explaining alerts, on a bell or a beat."""

from celery import shared_task

from alerts import services
from alerts.owed import Horizon, work_off

BATCH = 200

_horizon = Horizon(services.RECENT)


@shared_task(name="alerts.explain")
def explain() -> int:
    """Explain the alerts raised lately that have no explanation yet; how many."""
    return _horizon.work_off(lambda within: services.explain(limit=BATCH, within=within), BATCH)


@shared_task(name="alerts.sweep_explanations")
def sweep_explanations() -> int:
    """The same over a day: what a lost ring, a stopped worker or a model that could not be loaded left behind."""
    done, _ = work_off(lambda: services.explain(limit=BATCH), BATCH)
    return done
