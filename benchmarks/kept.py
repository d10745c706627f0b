"""The limit for latency: the same POST kept but not judged. A lane that nobody owns takes the payments and keeps them.

The same process, key check, validation, features' facts, rows and commit; only nobody judges, and nobody waits for it
(`Prefer: respond-async`). The lane is marked as alive, because ringing for an owner would cost more than keeping.
"""

from __future__ import annotations

from typing import Any

from benchmarks.ground import Ground

NAME = "kept"
ALIVE_SECONDS = 7_200


def make(ground: Ground) -> str:
    """The lane with a client of its own; the client's API key. The desk must be running: it starts no owner later."""
    from transactions import ring
    from transactions.auth import issue_key
    from transactions.models import ApiClient, Lane

    remove(ground)
    lane = Lane.objects.create(name=NAME, base_currency=ground.lane.base_currency)
    client = ApiClient.objects.create(name=NAME, lane=lane)
    ring.say_alive(lane.pk, seconds=ALIVE_SECONDS)
    return issue_key(client)[1]


def empty(ground: Ground) -> None:
    """Take away what was kept, so that no backlog grows."""
    lane = _lane()
    if lane is None:
        return
    with ground.cursor() as cursor:
        cursor.execute(
            "DELETE FROM transaction_detail WHERE id IN (SELECT id FROM transaction_key WHERE lane = %s)", [lane.pk]
        )
        for name in ("transaction", "transaction_key"):
            cursor.execute(f"DELETE FROM {name} WHERE lane = %s", [lane.pk])


def remove(ground: Ground) -> None:
    """Take away the lane of an earlier run, with all that it kept: a desk that starts gives every lane an owner."""
    from transactions.models import ApiClient, ApiKey

    lane = _lane()
    if lane is None:
        return
    empty(ground)
    ApiKey.objects.filter(client__lane=lane).delete()
    ApiClient.objects.filter(lane=lane).delete()
    with ground.cursor() as cursor:
        for name in ("lane_cursor", "lane_status"):
            cursor.execute(f"DELETE FROM {name} WHERE lane = %s", [lane.pk])
        cursor.execute("DELETE FROM transactions_lane WHERE id = %s", [lane.pk])


def _lane() -> Any:
    from transactions.models import Lane

    return Lane.objects.filter(name=NAME).first()
