"""Tasks that need the whole house: a lane is run by one of its scorers, or rung when nobody owns it; re-screenings."""

from __future__ import annotations

from celery import shared_task

from alerts.rescreened import raise_alerts
from fraudsite import doorbell, pipeline, worked
from fraudsite.celery import runs_here
from scoring import screening
from scoring.lanes import UnknownLane
from transactions import ring
from transactions.models import Lane


@shared_task(name="scoring.run_lane", acks_late=True)
def run_lane(lane_id: int) -> None:
    """Judge what the lane owes; returns at once where it has an owner. One way of many to have a lane judged.

    A scorer whose own thread runs the lane leaves it to that: a task that judged for it, with a memory rebuilt for
    each message, would keep the lock from the very thread that would stay.
    """
    if runs_here(lane_id):
        return
    try:
        if not ring.is_alive(lane_id):
            pipeline.drain_if_free(lane_id)
    except (ring.RingGone, UnknownLane):
        return


@shared_task(name="scoring.ring_lanes")
def ring_lanes() -> int:
    """Ring the scorers of lanes that nobody seems to own; how many."""
    silent = [lane for lane in Lane.objects.values_list("pk", flat=True) if not ring.is_alive(lane)]
    for lane in silent:
        doorbell.ring("scoring.run_lane", lane, queue=f"lane.{lane}")
    return len(silent)


@shared_task(name="scoring.rescreen")
def rescreen() -> int:
    """Ask for what was decided without the model, if it is back, and work off all requests; how many payments."""
    for lane in Lane.objects.order_by("pk"):
        screening.ask_for_degraded(lane)
    done = screening.work(raise_alerts)
    if done:
        doorbell.ring("cases.open_cases")
        doorbell.ring("alerts.explain")
    return done


@shared_task(name="fraudsite.tally_desk")
def tally_desk() -> bool:
    """Count what happened since into the dashboards' roll-ups; False while another process is at it."""
    return worked.tally()
