"""My day: own work and own figures, nobody else's."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cases import day, services
from cases.day import Line, in_hand, times_of
from cases.models import Case, CaseEvent
from cases.workflow import Status
from tests.factories import WORK, make_case, make_close_reason, make_queue, make_user

NOON = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK)


@pytest.fixture
def tomas(db):
    return make_user("tomas", *WORK)


@pytest.fixture
def queue(ines, tomas):
    make_close_reason("denies")
    return make_queue(ines, tomas)


def lines(*steps):
    """(kind, minutes after noon, actor) as lines of history."""
    return [Line(kind, NOON + timedelta(minutes=minutes), actor) for kind, minutes, actor in steps]


@pytest.mark.parametrize(
    "steps, minutes",
    [
        ([("claimed", 0, 1), ("closed", 10, 1)], 10),
        ([("claimed", 0, 1), ("released", 5, 1), ("claimed", 60, 1), ("closed", 63, 1)], 8),
        ([("claimed", 0, 1), ("lease_expired", 15, None), ("claimed", 20, 2), ("closed", 90, 2)], 15),
        ([("claimed", 0, 1), ("taken_over", 4, 2), ("closed", 30, 2)], 4),
        ([("claimed", 0, 1), ("waiting", 5, 1), ("claimed", 500, 1), ("escalated", 501, 1)], 6),
        ([("claimed", 0, 1)], 0),  # still in hand: not measured yet
        ([], 0),
    ],
)
def test_handling_time_is_the_sum_of_the_times_in_hand(steps, minutes):
    assert in_hand(lines(*steps), 1) == minutes * 60


@pytest.mark.parametrize(
    "seconds, p50, p90", [([], None, None), ([7], 7, 7), ([1, 3], 2, 2.8), (list(range(1, 12)), 6, 10)]
)
def test_percentiles_of_own_times(seconds, p50, p90):
    found = times_of(seconds)
    assert (found.count, found.p50, found.p90) == (len(seconds), pytest.approx(p50), pytest.approx(p90))


def test_the_shift_tells_open_waiting_late_and_due(queue, ines, tomas):
    def mine(number, **fields):
        values = {"assignee": ines, "status": Status.IN_REVIEW} | fields
        return make_case(queue=queue, grouping_key=number, **values)

    late = mine(1, due_at=timezone.now() - timedelta(hours=1))
    soon = mine(2, due_at=timezone.now() + timedelta(hours=7), status=Status.NEW)
    later = mine(3, due_at=timezone.now() + timedelta(hours=9))
    mine(4, assignee=tomas)
    asleep = mine(5, assignee=None, status=Status.WAITING, wake_at=timezone.now() + timedelta(hours=2))
    CaseEvent.objects.create(case=asleep, kind="waiting", actor=ines)
    mine(6, assignee=None, status=Status.WAITING)
    shift = day.shift(ines)
    assert (set(shift.open), shift.late, shift.due, shift.waiting) == ({late, soon, later}, [late], [soon], [asleep])
    text = shift.text()
    assert f"Late (1): {late.number}" in text
    assert f"Due in 8 h (1): {soon.number}" in text
    assert f"Waiting for (1): {asleep.number} until" in text


def test_own_figures_are_of_own_closes_of_the_week(queue, ines, tomas):
    for person in (ines, ines, tomas):
        case = make_case(queue=queue, grouping_key=Case.objects.count() + 1)
        services.claim(case.pk, person)
        services.close_case(
            case.pk, "legitimate", by=person, close_reason="denies", rationale="The customer confirmed it."
        )
    Case.objects.filter(closed_by=ines).order_by("pk").last().events.filter(kind="closed").first()
    own = day.own_figures(ines)
    assert (own.closed, own.kept, own.by_disposition, own.decision.count) == (2, 2, {"legitimate": 2}, 2)
    assert own.handling.count == 2
    Case.objects.filter(closed_by=ines).update(closed_at=timezone.now() - timedelta(days=8))
    assert day.own_figures(ines).closed == 0


def test_a_day_without_work_has_no_figures(ines):
    own, shift = day.own_figures(ines), day.shift(ines)
    assert (own.closed, own.handling.p50, shift.open) == (0, None, [])
    assert "Open (0): none" in shift.text()
