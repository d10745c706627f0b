"""Which alerts the live page shows: filters, places, and that a filter never reads the whole past."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from alerts import stream
from alerts.stream import Address
from tests.factories import make_alert, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader(client):
    client.force_login(make_user("ana", "alerts.view_alert"))
    return client


def shown(client, **query) -> list[int]:
    return [alert.pk for alert in client.get(reverse("admin:live"), query).context["alerts"]]


def test_filters_are_read_from_the_address_and_nonsense_is_left_out():
    read = Address.read({"severity": "2", "outcome": "review", "channel": "ecommerce", "amount": "500"})
    assert read.filters == {"severity": 2, "outcome": "review", "channel": "ecommerce", "amount": 500}
    assert read.url() == "?severity=2&outcome=review&channel=ecommerce&amount=500"
    odd = {"severity": "9", "outcome": "approve", "channel": "x", "amount": "-1", "before": "yesterday~x"}
    assert Address.read(odd) == Address()


def test_each_filter_leaves_what_fits(reader):
    urgent = make_alert(score=950, channel="atm", amount=900_00)
    other = make_alert(score=750, outcome="decline", channel="ecommerce", amount=10_00)
    assert shown(reader) == [other.pk, urgent.pk]
    assert shown(reader, severity="1") == [urgent.pk]
    assert shown(reader, severity="2") == [other.pk, urgent.pk]
    assert shown(reader, outcome="decline") == [other.pk]
    assert shown(reader, channel="atm") == [urgent.pk]
    assert shown(reader, amount="500") == [urgent.pk]


def test_every_alert_is_reached_by_going_to_older_ones(reader, monkeypatch):
    monkeypatch.setattr(stream, "ROWS", 2)
    at = timezone.now()
    made = [make_alert(raised_at=at - timedelta(seconds=n // 2)).pk for n in range(5)]  # some at the same moment
    found, address = [], reverse("admin:live")
    while address:
        context = reader.get(address).context
        found += [alert.pk for alert in context["alerts"]]
        address = reverse("admin:live") + context["older"] if context["older"] else ""
    assert sorted(found) == sorted(made) and len(found) == len(set(found))


def test_a_filter_that_little_fits_looks_through_a_bounded_part_and_goes_on_from_there(reader, monkeypatch):
    monkeypatch.setattr(stream, "LOOKED_THROUGH", 2)
    at = timezone.now()
    old = make_alert(score=950, raised_at=at - timedelta(minutes=1))
    for n in range(2):
        make_alert(score=750, raised_at=at - timedelta(seconds=n))
    first = reader.get(reverse("admin:live"), {"severity": "1"}).context
    assert first["alerts"] == [] and first["older"]
    assert [alert.pk for alert in reader.get(reverse("admin:live") + first["older"]).context["alerts"]] == [old.pk]


def test_the_page_takes_few_queries_and_counts_no_table(reader, django_assert_max_num_queries):
    make_alert()
    with django_assert_max_num_queries(16):
        reader.get(reverse("admin:live"), {"severity": "2"})
    assert "live" in admin.site.pages
