"""What alerts still owe: batches until nothing is left, and how far back a look goes."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from alerts.owed import ROUNDS, SLACK, Horizon, work_off

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
    assert SLACK <= looked(horizon, 0) <= SLACK + (timezone.now() - began)


def test_a_look_that_left_something_over_is_repeated_as_far_back():
    horizon = Horizon(DAY)
    assert [looked(horizon, 10), looked(horizon, 0)] == [DAY, DAY]


def test_a_clock_that_is_set_back_hides_no_new_alert():
    horizon = Horizon(DAY)
    horizon.work_off(lambda within: 0, 10)
    assert horizon.within(timezone.now() - timedelta(hours=3)) == SLACK
