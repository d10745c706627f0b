"""The worker's part of deciding: what the clock brings to held payments."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task

from scoring import services

BATCH = 1_000
RECENT = timedelta(days=1)
ROUNDS = 20  # batches that one message works off; the next beat goes on


@shared_task(name="scoring.resolve_overdue_holds")
def resolve_overdue_holds() -> int:
    """Resolve held payments whose time was up within a day as their policy declares; how many."""
    return _resolved(within=RECENT)


@shared_task(name="scoring.sweep_holds")
def sweep_holds() -> int:
    """Resolve every held payment whose time is up, such as after days without a worker; how many."""
    return _resolved(within=None)


def _resolved(*, within: timedelta | None) -> int:
    done = 0
    for _ in range(ROUNDS):
        resolved = len(services.resolve_overdue_holds(within=within, limit=BATCH))
        done += resolved
        if resolved < BATCH:
            break
    return done
