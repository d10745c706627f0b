"""The worker's part: explaining alerts, on a bell or a beat."""

from celery import shared_task

from alerts import services
from alerts.owed import Horizon, work_off
from transactions.alone import alone

BATCH = 200
EXPLAINERS = 7_011_006  # class of the lock that lets one worker explain: two at once would do the same
LOOKS = 3  # of one message, at most: while alerts go on coming, the next bell gathers more of them at once

_horizon = Horizon(services.RECENT)


@shared_task(name="alerts.explain")
def explain() -> int:
    """Explain the alerts raised lately that have no explanation yet; how many."""
    with alone(EXPLAINERS) as mine:
        return _look_again() if mine else 0


def _look_again() -> int:
    """Who rings while we are at it is not heard: so until a look finds nothing, a few times."""
    done = 0
    for _ in range(LOOKS):
        did = _horizon.work_off(lambda within: services.explain(limit=BATCH, within=within), BATCH)
        done += did
        if not did:
            break
    return done


@shared_task(name="alerts.sweep_explanations")
def sweep_explanations() -> int:
    """The same over a day: what a lost ring, a stopped worker or a model that could not be loaded left behind."""
    done, _ = work_off(lambda: services.explain(limit=BATCH), BATCH)
    return done
