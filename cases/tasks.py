"""The worker's part: services called on a bell or a beat, each safe to run twice."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from alerts.owed import Horizon
from cases import approvals, assignment, attachments, late_labels, services
from cases.opening import BATCH, RECENT

ROUNDS = 20  # batches that one message works off; the next beat goes on

_horizon = Horizon(RECENT)


@shared_task(name="cases.open_cases")
def open_cases() -> int:
    """Open cases for the alerts raised lately that have none."""
    began = timezone.now()
    done, is_all = _until_done(_horizon.within(began))
    if is_all:
        _horizon.reached(began)
    return done


@shared_task(name="cases.sweep_alerts")
def sweep_alerts() -> int:
    """The same over all alerts: whatever a lost ring or a stopped worker left behind."""
    return _until_done(None)[0]


def _until_done(since: timedelta | None) -> tuple[int, bool]:
    """How many alerts got a case, and whether that was all."""
    done = 0
    for _ in range(ROUNDS):
        opened = services.open_cases(since=since)
        done += opened
        if opened < BATCH:
            return done, True
    return done, False


@shared_task(name="cases.lapse_leases")
def lapse_leases() -> int:
    """Give back cases whose leases ran out."""
    return services.lapse_leases()


@shared_task(name="cases.wake_cases")
def wake_cases() -> int:
    """Wake cases whose time has come."""
    return services.wake_cases()


@shared_task(name="cases.mark_breaches")
def mark_breaches() -> int:
    """Note which cases were not done in time."""
    return services.mark_breaches()


@shared_task(name="cases.assign_waiting")
def assign_waiting() -> int:
    """Take back what lies in the name of people who left, then give new cases to those who are there."""
    return assignment.take_back() + assignment.assign_waiting()


@shared_task(name="cases.mark_contradictions")
def mark_contradictions() -> int:
    """Mark closed cases that a later label contradicts."""
    return late_labels.mark_contradictions()


@shared_task(name="cases.sweep_attachments")
def sweep_attachments() -> int:
    """Remove files that no row names: uploads that were cut off."""
    return attachments.sweep()


@shared_task(name="cases.expire_approvals")
def expire_approvals() -> int:
    """Close requests for a second person that nobody answered in time."""
    return approvals.expire()
