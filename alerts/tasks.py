"""The worker's part: explaining alerts, on a bell or a beat."""

from celery import shared_task

from alerts import services
from alerts.owed import Horizon, work_off
from fraudsite.alone import alone

BATCH = 200
EXPLAINERS = 7_011_006  # class of the lock that lets one worker explain: two at once would do the same

_horizon = Horizon(services.RECENT)


@shared_task(name="alerts.explain")
def explain() -> int:
    """Explain the alerts raised lately that have no explanation yet; how many."""
    done = 0
    with alone(EXPLAINERS) as mine:
        # Who rings meanwhile is not heard: so until a look finds nothing.
        while mine and (did := _horizon.work_off(lambda within: services.explain(limit=BATCH, within=within), BATCH)):
            done += did
    return done


@shared_task(name="alerts.sweep_explanations")
def sweep_explanations() -> int:
    """The same over a day: what a lost ring, a stopped worker or a model that could not be loaded left behind."""
    done, _ = work_off(lambda: services.explain(limit=BATCH), BATCH)
    return done
