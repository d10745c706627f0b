"""The worker's part: services called on a bell or a beat, each safe to run twice."""

from celery import shared_task

from alerts.owed import Horizon, work_off
from cases import services
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
