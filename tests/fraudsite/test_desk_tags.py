"""What templates show: money, times, scores and masked identifiers."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.template import Context, Template
from django.utils import timezone

from fraudsite.templatetags import desk

AT = datetime(2026, 11, 20, 14, 7, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (189900, "EUR", "1,899.00 EUR"),
        (4300, "JPY", "4,300 JPY"),
        (12750, "KWD", "12.750 KWD"),
        (-501, "EUR", "−5.01 EUR"),
        (5, 978, "0.05 EUR"),
        (2**62 + 1, "EUR", "46,116,860,184,273,879.05 EUR"),
    ],
)
def test_money_has_the_decimals_of_its_currency(minor, currency, text):
    assert desk.money_text(minor, currency) == text


def test_money_in_a_cell_carries_its_plain_value():
    assert desk.money(189900, "EUR") == '<data value="1899.00">1,899.00</data><span class="d-ccy">EUR</span>'


def test_an_amount_that_was_not_sent_says_so():
    assert desk.money(None, "EUR") == desk.money_text(None, "EUR") == "not sent"


def test_a_time_is_shown_in_the_readers_zone_with_utc_in_its_title():
    with timezone.override(ZoneInfo("Europe/Berlin")):
        shown = desk.clock(AT)
    assert shown == '<time datetime="2026-11-20T14:07:29Z" title="2026-11-20 14:07:29 UTC">15:07:29</time>'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.43, "0.4 s"), (59, "59 s"), (720, "12 min"), (6000, "1 h 40"), (183600, "2 d 03 h"), (None, "–")],
)
def test_a_length_of_time_has_at_most_two_units(seconds, text):
    assert desk.span(seconds) == text


@pytest.mark.parametrize(
    ("token", "shown"), [("cust-004417", "CU ••4417"), ("4417", "CU ••"), ("", "not sent"), (None, "not sent")]
)
def test_an_identifier_shows_its_last_four_characters_at_most(token, shown):
    assert desk.masked(token, "CU") == shown


@pytest.mark.parametrize(
    ("score", "band"), [(968, "critical"), (900, "critical"), (899, "high"), (500, "medium"), (0, "low"), (-1, "low")]
)
def test_a_score_falls_into_a_band(score, band):
    assert desk.band(score) == band


def test_a_payment_judged_without_a_model_shows_no_score():
    assert "no score" in desk.score(-1)
    assert "no score" in desk.score(None)


def test_tags_escape_what_they_are_given():
    template = Template("{% load desk %}{% outcome word %}{% icon 'x' label=word %}")
    assert "<script" not in template.render(Context({"word": "<script>"}))
