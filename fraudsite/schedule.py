"""What beat rings, and how often. Rows are the queue: every entry only finds again what a lost bell left behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from celery.schedules import BaseSchedule, crontab


class Entry(NamedTuple):
    """A task and its period; a message that was not taken within one period is void."""

    name: str
    task: str
    period: timedelta | BaseSchedule
    expires: float


ENTRIES = [
    Entry("lanes without an owner", "scoring.ring_lanes", timedelta(seconds=30), 30),
    Entry("alerts without a case", "cases.open_cases", timedelta(seconds=30), 30),
    Entry("alerts left behind", "cases.sweep_alerts", timedelta(minutes=10), 600),
    Entry("alerts without an explanation", "alerts.explain", timedelta(seconds=60), 60),
    Entry("explanations left behind", "alerts.sweep_explanations", timedelta(minutes=10), 600),
    Entry("lapsed leases", "cases.lapse_leases", timedelta(seconds=60), 60),
    Entry("cases to wake", "cases.wake_cases", timedelta(seconds=60), 60),
    Entry("cases past their due date", "cases.mark_breaches", timedelta(seconds=60), 60),
    Entry("requests for a second person that ran out", "cases.expire_approvals", timedelta(minutes=5), 300),
    Entry("cases to give to people", "cases.assign_waiting", timedelta(seconds=15), 15),
    Entry("late labels", "cases.mark_contradictions", timedelta(seconds=60), 60),
    Entry("files without a row", "cases.sweep_attachments", timedelta(hours=1), 3600),
    Entry("payments to judge again", "scoring.rescreen", timedelta(seconds=30), 30),
    Entry("overdue holds", "scoring.resolve_overdue_holds", timedelta(seconds=30), 30),
    Entry("holds left behind", "scoring.sweep_holds", timedelta(hours=1), 3600),
    Entry("roll-ups of the dashboards", "fraudsite.tally_desk", timedelta(seconds=30), 30),
    Entry("payments into the index by merchant", "transactions.sort_in", timedelta(seconds=15), 15),
    Entry("room for ids to come", "transactions.extend_partitions", timedelta(minutes=10), 600),
    Entry("daily training", "scoring.retrain", crontab(hour="2", minute="30"), 3600),
]


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The entries as Celery's beat_schedule; the database scheduler copies them into its tables when beat starts."""
    return {
        entry.name: {"task": entry.task, "schedule": entry.period, "options": {"expires": entry.expires}}
        for entry in ENTRIES
    }
