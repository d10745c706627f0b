"""The clock that rows are dated by: the machine's, and in a demo's past the moment that is lived through."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from transactions import clock

AN_HOUR = timedelta(hours=1)


def test_it_is_now_unless_somebody_stands_in_the_past():
    moment = timezone.now() - AN_HOUR
    with clock.standing_at(moment):
        assert clock.now() == moment
    assert timezone.now() - clock.now() < AN_HOUR / 2


def test_the_past_ends_where_an_error_leaves_it():
    with pytest.raises(KeyError), clock.standing_at(timezone.now() - AN_HOUR):
        raise KeyError
    assert timezone.now() - clock.now() < AN_HOUR / 2


def test_nobody_stands_in_the_future():
    with clock.standing_at(timezone.now() + AN_HOUR):
        assert clock.now() <= timezone.now()


def test_only_a_demo_has_a_past(settings: Any):
    settings.DEMO = False
    with pytest.raises(clock.NotADemo), clock.standing_at(timezone.now() - AN_HOUR):
        pass


def test_payments_of_a_past_are_decided_when_they_came_and_all_others_now():
    came = np.array([10, 20])
    assert clock.each(came, 99) == 99
    with clock.standing_at(timezone.now() - AN_HOUR):
        assert clock.each(came, 99) is came
