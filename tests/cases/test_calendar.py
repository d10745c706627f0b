"""Working minutes: pure, so by tables and by properties; the days on which clocks change are the point."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import calendar, workflow
from cases.calendar import ALWAYS, BadHours, parse

WEEK = [[day, "08:00", "18:00"] for day in range(5)]
BERLIN = parse(WEEK, "Europe/Berlin")
FRIDAY = datetime(2026, 11, 20, 16, 30, tzinfo=UTC)  # 17:30 in Berlin

MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
MINUTES = st.integers(0, 6000)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
SPANS = st.tuples(st.integers(0, 6), st.integers(0, 23), st.integers(1, 10)).map(
    lambda each: [each[0], f"{each[1]:02d}:00", f"{min(each[1] + each[2], 24):02d}:00"]
)
CALENDARS = st.builds(parse, st.lists(SPANS, max_size=6), ZONES)


def test_minutes_count_only_while_people_are_at_work():
    assert BERLIN.add(FRIDAY, 30) == FRIDAY + timedelta(minutes=30)
    assert BERLIN.add(FRIDAY, 60) == datetime(2026, 11, 23, 7, 30, tzinfo=UTC)  # Monday 08:30
    assert BERLIN.between(FRIDAY, datetime(2026, 11, 23, 7, 30, tzinfo=UTC)) == 60


def test_a_case_opened_at_night_starts_its_clock_in_the_morning():
    night = datetime(2026, 11, 18, 23, 0, tzinfo=UTC)
    assert BERLIN.add(night, 30) == datetime(2026, 11, 19, 7, 30, tzinfo=UTC)
    assert not BERLIN.is_open(night)
    assert BERLIN.is_open(FRIDAY)


def test_without_hours_the_clock_never_stops():
    assert ALWAYS.add(FRIDAY, 90) == FRIDAY + timedelta(minutes=90)
    assert parse([[day, "00:00", "24:00"] for day in range(7)], "Europe/Berlin").week == ()


@pytest.mark.parametrize(
    "day, start, end, minutes",
    [
        (datetime(2026, 3, 29), "01:00", "04:00", 120),  # 02:00 becomes 03:00
        (datetime(2026, 3, 29), "02:15", "04:00", 60),  # starts in the hour that is left out
        (datetime(2026, 3, 29), "01:00", "02:45", 60),  # ends in it
        (datetime(2026, 3, 29), "02:10", "02:50", 0),  # lies in it
        (datetime(2026, 10, 25), "01:00", "04:00", 240),  # 03:00 becomes 02:00
        (datetime(2026, 10, 18), "01:00", "04:00", 180),
    ],
)
def test_a_day_on_which_clocks_change_is_as_long_as_it_is(day, start, end, minutes):
    hours = parse([[6, start, end], [0, "08:00", "12:00"]], "Europe/Berlin")
    midnight = day.replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert hours.between(midnight, midnight + timedelta(days=1)) == minutes


@given(CALENDARS, MOMENTS, MINUTES)
@settings(max_examples=150, deadline=None)
def test_adding_minutes_and_measuring_them_agree(hours, start, minutes):
    assert hours.between(start, hours.add(start, minutes)) == pytest.approx(minutes)


@given(CALENDARS, MOMENTS, MINUTES, MINUTES)
@settings(max_examples=100, deadline=None)
def test_adding_twice_is_adding_the_sum_and_more_is_never_earlier(hours, start, first, second):
    assert hours.add(hours.add(start, first), second) == hours.add(start, first + second)
    assert hours.add(start, first) <= hours.add(start, first + second)


@given(CALENDARS, MOMENTS, MOMENTS, MOMENTS)
@settings(max_examples=100, deadline=None)
def test_lengths_add_up_and_turn_with_the_direction(hours, a, b, c):
    assert hours.between(a, b) + hours.between(b, c) == pytest.approx(hours.between(a, c))
    assert hours.between(a, b) == pytest.approx(-hours.between(b, a))
    assert 0 <= hours.between(min(a, b), max(a, b)) <= (max(a, b) - min(a, b)) / timedelta(minutes=1) + 1e-6


@pytest.mark.parametrize(
    "hours, zone, complaint",
    [
        ({"mon": 8}, "UTC", "are a list"),
        ([[7, "08:00", "18:00"]], "UTC", "no weekday"),
        ([[True, "08:00", "18:00"]], "UTC", "no weekday"),
        ([[0, "18:00", "08:00"]], "UTC", "ends before it starts"),
        ([[0, "8 am", "18:00"]], "UTC", "no time of day"),
        ([[0, "25:00", "26:00"]], "UTC", "no time of day"),
        ([[0, "08:00"]], "UTC", "no entry"),
        ([[0, "08:00", "08:30"]], "UTC", "60 working minutes"),
        ([], "Mars/Olympus", "no time zone"),
        ([], "../etc/passwd", "no time zone"),
    ],
)
def test_hours_that_cannot_be_are_refused_in_words(hours, zone, complaint):
    with pytest.raises(BadHours, match=complaint):
        parse(hours, zone)


def test_overlapping_spans_count_once():
    hours = parse([[0, "08:00", "12:00"], [0, "10:00", "14:00"]], "UTC")
    assert hours.between(datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)) == 360


def test_people_write_hours_by_the_line():
    written = calendar.from_lines("Mon–Fri 08:00–12:00, 13:00–18:00\nsat 09:00-13:00\n")
    assert [0, "13:00", "18:00"] in written
    assert [5, "09:00", "13:00"] in written
    assert sorted(calendar.from_lines(calendar.in_lines(written))) == sorted(written)
    assert calendar.in_words(WEEK, "Europe/Berlin") == "Mon–Fri 08:00–18:00, Europe/Berlin"
    assert calendar.in_words([], "UTC") == "around the clock"


@pytest.mark.parametrize("text", ["all day", "Fri–Mon 08:00–18:00", "Mon 8–18", "Xyz 08:00–18:00", "Mon 08:00"])
def test_lines_that_cannot_be_read_are_refused(text):
    with pytest.raises(BadHours):
        calendar.from_lines(text)


def test_a_case_is_due_in_the_working_calendar_of_its_queue():
    sla = {"1": 60}
    assert workflow.due(FRIDAY, 1, sla, None, BERLIN) == datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
    assert workflow.due(FRIDAY, 1, sla, FRIDAY + timedelta(minutes=10), BERLIN) == FRIDAY + timedelta(minutes=10)


def test_stored_hours_that_cannot_be_read_stop_nothing():
    assert calendar.of(SimpleNamespace(working_hours=[["x"]], time_zone="UTC")) == ALWAYS
    assert calendar.of(SimpleNamespace(working_hours=WEEK, time_zone="Europe/Berlin")) == BERLIN
