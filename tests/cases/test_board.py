"""The lead board's figures: what is counted where, and that the closed cases are not read for it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from alerts import online
from cases import board
from cases.models import Absence, Case
from cases.workflow import Status
from tests.factories import LEAD, WORK, make_case, make_queue, make_user

NOW = timezone.now


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK, first_name="Ines", last_name="Verbeek")


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD)


@pytest.fixture
def queue(ines, lead):
    return make_queue(ines, lead)


def opened(queue, hours=0.0, **fields):
    """An open case that old."""
    return make_case(
        queue=queue, grouping_key=Case.objects.count() + 1, opened_at=NOW() - timedelta(hours=hours), **fields
    )


def done(queue, hours, *, late=False, **fields):
    """A case closed that long ago."""
    at = NOW() - timedelta(hours=hours)
    fields = {"disposition": "legitimate", "opened_at": at - timedelta(hours=1)} | fields
    due = at - timedelta(minutes=1) if late else at + timedelta(minutes=1)
    return make_case(
        queue=queue, grouping_key=Case.objects.count() + 1, status=Status.CLOSED, closed_at=at, due_at=due, **fields
    )


def test_every_open_case_is_in_one_bucket_of_its_queue(queue, lead):
    other = make_queue(lead, name="Other")
    for hours in (0, 3.9, 4.1, 23.9, 25, 71, 73, 239, 241, 1000):
        opened(queue, hours)
    opened(other, 5)
    done(queue, 1)
    cards, others = board.rows([queue, other])
    assert (cards.ages, cards.open) == ([2, 2, 2, 2, 2], 10)
    assert (others.ages, others.open) == ([0, 1, 0, 0, 0], 1)
    assert cards.seconds == pytest.approx(3_600_000, rel=0.01)
    assert board.total([cards, others])["ages"] == [2, 3, 2, 2, 2]


def test_late_and_unassigned_are_counted(queue, ines):
    opened(queue, due_at=NOW() - timedelta(minutes=1))
    opened(queue, assignee=ines, status=Status.IN_REVIEW)
    [row] = board.rows([queue])
    assert (row.late, row.unassigned) == (1, 1)


def test_flow_counts_the_last_day_by_the_hour_and_what_was_kept(queue):
    opened(queue, 0)
    opened(queue, 5)
    opened(queue, 50)
    done(queue, 0, opened_at=NOW() - timedelta(days=40))
    done(queue, 5, late=True, opened_at=NOW() - timedelta(days=40))
    done(queue, 3, breached_at=NOW(), opened_at=NOW() - timedelta(days=40))
    done(queue, 60, opened_at=NOW() - timedelta(days=40))
    rows = board.rows([queue])
    hours = board.flow(rows)
    assert len(hours) == board.HOURS
    assert (sum(hour.opened for hour in hours), sum(hour.closed for hour in hours)) == (2, 3)
    assert (hours[-1].opened, hours[-1].closed) == (1, 1)
    assert (rows[0].opened, rows[0].closed, rows[0].kept) == (2, 3, 1)
    assert rows[0].sla == pytest.approx(100 / 3)
    assert board.drawn(hours).opened.startswith("M0.00")


def test_an_empty_board_has_no_rates(queue):
    rows = board.rows([queue])
    board.flow(rows)
    assert (rows[0].sla, rows[0].seconds, board.total(rows)["oldest"]) == (None, None, None)
    assert board.rows([]) == [] == board.people([])


def test_people_are_listed_by_name_with_what_is_theirs(queue, ines, lead, monkeypatch):
    monkeypatch.setattr(online, "among", lambda ids: {ines.pk} & set(ids))
    opened(queue, assignee=ines, status=Status.IN_REVIEW, due_at=NOW() - timedelta(minutes=5))
    opened(queue, assignee=ines)
    opened(queue, assignee=ines, status=Status.WAITING)
    Absence.objects.create(user=lead, starts_at=NOW() - timedelta(hours=1), ends_at=NOW() + timedelta(hours=1))
    first, second = board.people([queue])
    assert (first.user, first.is_online, first.in_hand, first.given, first.late, first.open) == (ines, True, 1, 1, 1, 2)
    assert (second.user, second.is_online, second.open) == (lead, False, 0)
    assert second.away_until is not None


def test_a_cell_lists_its_cases_most_urgent_first(queue, ines):
    old, urgent = opened(queue, 30, priority=3), opened(queue, 40, priority=1)
    fresh = opened(queue, 1, assignee=ines)
    assert list(board.cell(queue, 2, [queue], reader=ines)) == [urgent, old]
    assert list(board.cell(None, None, [queue], ines.pk, reader=ines)) == [fresh]


def test_figures_go_by_indexes_not_over_all_cases(queue):
    rows = [
        Case(
            lane=queue.lane, queue=queue, grouping_key=n, customer=n, customer_ref="x", top_reason="x", amount=1,
            due_at=NOW(), opened_at=NOW() - timedelta(days=90), status=Status.CLOSED, disposition="legitimate",
            closed_at=NOW() - timedelta(days=80),
        )
        for n in range(6000)
    ]  # fmt: skip
    Case.objects.bulk_create(rows)
    opened(queue)
    with connection.cursor() as cursor:
        cursor.execute('ANALYZE "case"')
        start = NOW() - timedelta(hours=24)
        cursor.execute("EXPLAIN " + board.FLOW_SQL, {"start": start, "queues": [queue.pk]})
        plan = "\n".join(row[0] for row in cursor.fetchall())
        plan += Case.objects.filter(queue=queue).exclude(status=Status.CLOSED).order_by().values("queue").explain()
    assert "Seq Scan" not in plan
