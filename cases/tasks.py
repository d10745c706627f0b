"""The worker's part: services called on a bell or a beat, each safe to run twice."""

from celery import shared_task

from alerts.owed import Horizon, work_off
from cases import approvals, assignment, attachments, late_labels, services
from cases.opening import BATCH, RECENT

_horizon = Horizon(RECENT)


@shared_task(name="cases.open_cases")
def open_cases() -> int:
    """Open cases for the alerts raised lately that have none."""
    return _horizon.work_off(lambda within: services.open_cases(since=within), BATCH)


@shared_task(name="cases.sweep_alerts")
def sweep_alerts() -> int:
    """The same over all alerts: whatever a lost ring or a stopped worker left behind."""
    done, _ = work_off(lambda: services.open_cases(since=None), BATCH)
    return done


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
