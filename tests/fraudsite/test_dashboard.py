"""The dashboard's figures: right, bounded and honest about their age."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.utils import timezone

from fraudsite import dashboard
from scoring.models import Decision, LaneCursor
from tests.factories import make_case, make_decision, make_lane, make_transaction

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forgetful():
    cache.clear()


def decide(ago: timedelta, *, score: int, outcome: str) -> Decision:
    decision = make_decision(make_transaction(), score=score, outcome=outcome)
    decision.decided_at = timezone.now() - ago
    decision.save()
    return decision


def test_decisions_of_the_day_are_counted_by_outcome_and_score():
    decide(timedelta(hours=3), score=120, outcome="approve")
    decide(timedelta(hours=2), score=968, outcome="decline")
    decide(timedelta(hours=30), score=120, outcome="approve")
    decide(timedelta(hours=1), score=-1, outcome="review")  # no model: it has an outcome but no score
    decide(timedelta(hours=1), score=-1, outcome="recorded")
    total = dashboard.summed(dashboard.bins(timezone.now()).values())
    assert total["outcomes"] == {"approve": 1, "decline": 1, "review": 1}
    assert sum(total["scores"]) == 2
    assert (total["scores"][2], total["scores"][19]) == (1, 1)


def test_finished_bins_are_read_once_and_the_running_one_always(django_assert_num_queries):
    decide(timedelta(hours=3), score=120, outcome="approve")
    now = timezone.now()
    dashboard.bins(now)
    decide(timedelta(0), score=700, outcome="review")
    asked: list[object] = []

    def spy(sql, params):
        asked.append(params["start"])
        return []

    original, dashboard.fetch = dashboard.fetch, spy
    try:
        dashboard.bins(now)
    finally:
        dashboard.fetch = original
    assert len(asked) == 1
    assert now - asked[0] < timedelta(minutes=23)


def test_the_oldest_undecided_is_the_first_live_payment_above_the_mark_without_a_decision():
    lane = make_lane()
    LaneCursor.objects.create(lane=lane, token="00000000-0000-0000-0000-000000000001")
    make_decision(make_transaction())
    assert dashboard.oldest_undecided() is None
    waiting = make_transaction()
    make_transaction(intake="history")
    assert dashboard.oldest_undecided() == waiting.received_at
    LaneCursor.objects.update(mark=waiting.pk)
    assert dashboard.oldest_undecided() is None


def test_a_busy_database_costs_the_figures_not_the_page(monkeypatch):
    monkeypatch.setattr(dashboard, "PATIENCE", "20ms")
    monkeypatch.setattr(dashboard, "BINS_SQL", "SELECT pg_sleep(5)")
    assert dashboard.decisions() == {"late": True}


def test_an_error_that_is_no_time_out_is_not_hidden(monkeypatch):
    def broken(sql, params):
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(dashboard, "fetch", broken)
    with pytest.raises(OperationalError):
        dashboard.decisions()


def test_the_backlog_is_cut_by_age_and_says_how_many_are_late():
    now = timezone.now()
    young, old = make_case(customer="a"), make_case(customer="b")
    young.__class__.objects.filter(pk=young.pk).update(opened_at=now, due_at=now + timedelta(hours=1))
    old.__class__.objects.filter(pk=old.pk).update(opened_at=now - timedelta(hours=80), due_at=now - timedelta(hours=1))
    figures = dashboard.cases()
    assert (figures["open"], figures["late"]) == (2, 1)
    assert [sum(column) for column in zip(*(queue["ages"] for queue in figures["queues"]), strict=True)] == [1, 0, 0, 1]
