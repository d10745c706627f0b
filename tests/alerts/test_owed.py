"""What alerts still owe: batches until nothing is left, and how far back a look goes."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from django.db import connection
from django.utils import timezone

from alerts import tasks
from alerts.owed import BRISK, ROUNDS, SLACK, THOROUGH_EVERY, Horizon, work_off
from tests.judging import wait_for

DAY = timedelta(days=1)


def test_batches_go_on_until_one_is_not_full_and_never_for_ever():
    left = iter([10, 10, 3, 10])
    assert work_off(lambda: next(left), 10) == (23, True)
    assert work_off(lambda: 10, 10) == (10 * ROUNDS, False)


def looked(horizon: Horizon, did: int) -> timedelta:
    """How far back a look went that did so many of ten."""
    seen: list[timedelta] = []

    def step(within: timedelta) -> int:
        seen.append(within)
        return did

    horizon.work_off(step, 10)
    return seen[0]


def test_after_a_look_that_left_nothing_over_the_next_goes_back_to_it_with_some_slack():
    horizon, began = Horizon(DAY), timezone.now()
    assert looked(horizon, 0) == DAY
    assert BRISK <= looked(horizon, 0) <= BRISK + (timezone.now() - began)


def test_now_and_then_a_look_goes_back_with_all_of_the_slack():
    """A commit that took long is found then: its alerts are stamped before it."""
    horizon = Horizon(DAY)
    looked(horizon, 0)
    horizon.thorough_at = timezone.now() - THOROUGH_EVERY
    assert looked(horizon, 10) > SLACK - BRISK
    assert looked(horizon, 0) > SLACK - BRISK, "one that left something over does not count"
    assert looked(horizon, 0) < SLACK


def test_a_look_that_left_something_over_is_repeated_as_far_back():
    horizon = Horizon(DAY)
    assert [looked(horizon, 10), looked(horizon, 0)] == [DAY, DAY]


def test_a_clock_that_is_set_back_hides_no_new_alert():
    horizon = Horizon(DAY)
    horizon.work_off(lambda within: 0, 10)
    assert horizon.within(timezone.now() - timedelta(hours=3), SLACK) == SLACK
    horizon.thorough_at = timezone.now() + timedelta(hours=3)
    assert looked(horizon, 0) >= SLACK


def test_one_worker_explains_at_a_time_and_looks_again_until_nothing_is_left(db: None, monkeypatch: pytest.MonkeyPatch):
    left = iter([7, 2, 0, 9])
    monkeypatch.setattr(tasks.services, "explain", lambda **_: next(left))
    with closing(psycopg2.connect(**connection.get_connection_params())) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", [tasks.EXPLAINERS])
        assert tasks.explain() == 0
    wait_for(lambda: tasks.explain() == 9)
    monkeypatch.setattr(tasks.services, "explain", lambda **_: 1)
    assert tasks.explain() == tasks.LOOKS, "the next bell gathers what goes on coming"
