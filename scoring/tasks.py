"""The worker's part of deciding: what the clock brings to held payments."""

from __future__ import annotations

from celery import shared_task

from scoring import services

BATCH = 1_000
ROUNDS = 20  # batches that one message works off; the next beat goes on


@shared_task(name="scoring.resolve_overdue_holds")
def resolve_overdue_holds() -> int:
    """Resolve held payments whose time is up as their policy declares; how many."""
    done = 0
    for _ in range(ROUNDS):
        resolved = len(services.resolve_overdue_holds(limit=BATCH))
        done += resolved
        if resolved < BATCH:
            break
    return done
