"""The worker's part: explaining alerts, on a bell or a beat."""

from celery import shared_task

from alerts import services

BATCH = 200
ROUNDS = 20  # batches that one message works off; the next beat goes on


@shared_task(name="alerts.explain")
def explain() -> int:
    """Explain the alerts that have no explanation yet; how many."""
    done = 0
    for _ in range(ROUNDS):
        explained = services.explain(limit=BATCH)
        done += explained
        if explained < BATCH:
            break
    return done
