"""What does not work in full just now, and what that means: one list for readiness and for the dashboard.

From what the lanes last said of themselves, from Valkey, and from one look at an index each. Nothing loads a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.utils import timezone

from scoring import screening
from scoring.models import DEGRADED, LaneStatus
from transactions import limits

SILENCE = timedelta(seconds=60)
STOPPED, RUNNING = "stopped", "running"
NO_RING = "no_ring"
MOST_COUNTED = 1_000
CAUSES = {
    "model_unavailable": "The model cannot be loaded: rules alone decide, and what they decide is judged again later.",
    "model_off": "It judges without a model, as people decided: rules alone decide.",
    "failed_twice": "The last payments could not be judged and went to review.",
}


class Degraded(NamedTuple):
    """One thing that does not work in full: the check of `/readyz`, a word, the lane and a sentence for people."""

    check: str
    word: str
    lane: str
    text: str


def found() -> list[Degraded]:
    """Everything that is degraded, lane by lane."""
    statuses = LaneStatus.objects.select_related("lane").order_by("lane__name")
    return [each for status in statuses for each in _of_lane(status)]


def _of_lane(status: LaneStatus) -> Iterator[Degraded]:
    lane = status.lane
    yield from _owner(status)
    if status.degraded in DEGRADED:
        yield Degraded("model", "degraded", lane.name, CAUSES[status.degraded])
    if status.degraded == NO_RING or status.figures.get("ring") is False:
        yield Degraded("valkey", "degraded", lane.name, "Valkey is gone: the lane polls the database, answers are 202.")
    waits = limits.backlog(lane.pk)
    if settings.BACKLOG_LIMIT and waits > settings.BACKLOG_LIMIT:
        yield Degraded(
            "backlog", "over the limit", lane.name, f"{waits:,} payments wait: new ones are refused with 429."
        )
    again = screening.waiting(lane.pk, most=MOST_COUNTED)
    if again:
        count = f"{again:,}" if again < MOST_COUNTED else f"{MOST_COUNTED:,} or more"
        text = f"{count} decisions made without the model wait until it is back, to be judged again."
        yield Degraded("rescreening", "waiting", lane.name, text)


def _owner(status: LaneStatus) -> Iterator[Degraded]:
    """A lane that ended in good order says so at once; one that was killed falls silent."""
    kept = "Payments are kept and will be judged when its scorer is back."
    if status.state == STOPPED:
        yield Degraded("scorer", STOPPED, status.lane.name, f"Its scorer was stopped. {kept}")
    elif timezone.now() - status.seen_at > SILENCE:
        yield Degraded("scorer", "silent", status.lane.name, f"Silent for more than a minute. {kept}")
    elif status.state != RUNNING:
        yield Degraded("scorer", "waiting", status.lane.name, f"It cannot judge: {status.state}.")
