"""The worker's part of the ground floor: room for the ids to come."""

from __future__ import annotations

from celery import shared_task

from transactions import partitions


@shared_task(name="transactions.extend_partitions")
def extend_partitions() -> int:
    """Cut the partitions that are missing ahead of the sequence; how many were made."""
    return partitions.extend()


@shared_task(name="transactions.sort_in")
def sort_in() -> int:
    """Sort what the ingest appended to the index by merchant; pages sorted in."""
    return partitions.sort_in()
