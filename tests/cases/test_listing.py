"""The list's address: what each filter shows, that it survives the way through a URL, and pages without a gap."""

from datetime import timedelta

import pytest
from django.http import QueryDict
from django.utils import timezone

from cases import listing
from cases.chips import chips
from cases.listing import SORTS, Address
from cases.models import Case
from tests.factories import WORK, make_alert, make_case, make_queue, make_transaction, make_user


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def queue(owner):
    return make_queue(owner)


def close(case, disposition="legitimate", days=0):
    Case.objects.filter(pk=case.pk).update(
        status="closed", disposition=disposition, closed_at=timezone.now() - timedelta(days=days)
    )


def shown(query, user):
    """The customers of the cases of an address, in the list's order."""
    return [case.customer_ref for case in listing.page(Address.read(QueryDict(query)), user).rows]


# --- the address ------------------------------------------------------------------------------------------------------


def test_an_address_survives_its_url():
    query = (
        "queue=cards,payments&status=new,waiting&assignee=none&score_from=640&score_to=990&amount_from=10.5&amount_to=900"
        "&currency=KWD&reason=VELOCITY&channel=atm,ecommerce&mcc=5732&country=DE,FR&tag=mule&due=late&since=2026-11-01"
        "&until=2026-11-22&outcome=legitimate&snoozed=no&q=anna&sort=-score"
    )
    address = Address.read(QueryDict(query))
    assert all(getattr(address, name) for name in listing.FILTERS)
    assert Address.read(QueryDict(address.url()[1:])) == address
    assert QueryDict(address.url()[1:]) == QueryDict(query)


def test_what_is_not_understood_is_left_out():
    query = (
        "queue=a%20b&status=lost,new&assignee=everybody&score_from=-1&amount_from=1e9&currency=XXY&reason=%3Cb%3E&channel=mail"
        "&mcc=12&country=Germany&tag=%00&due=never&since=22.11.2026&outcome=guilty&snoozed=maybe&sort=price&after="
    )
    assert Address.read(QueryDict(query)) == Address(status="new")


def test_a_form_with_several_boxes_is_one_address():
    assert Address.read(QueryDict("status=new&status=waiting&queue=cards")).status == "new,waiting"


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(queue, owner):
    """Three open cases that differ in everything a filter asks for, and a closed one."""
    other = make_queue(owner, name="Payments")
    now, tomorrow = timezone.now(), timezone.now() + timedelta(days=1)
    make_case(
        make_alert("anna", payment=make_transaction("anna", mcc=5732), score=950, amount=90_000, channel="atm"),
        queue=queue,
        due_at=now - timedelta(hours=1),
        tags=["mule", "ring 7"],
    )
    rules = [{"rule": "R-900", "version": 1, "text": "x"}]
    reasons = [{"code": "NEW_DEVICE", "text": "x"}]
    make_case(
        make_alert("ben", score=800, amount=1500, currency="KWD", rules=rules, reasons=reasons, country="FR"),
        queue=other,
        due_at=tomorrow + timedelta(hours=3),
        assignee=owner,
        status="waiting",
        wake_at=tomorrow,
        opened_at=now - timedelta(days=10),
    )
    make_case(
        make_alert("cleo", score=600, amount=100), queue=queue, due_at=now + timedelta(days=3), status="escalated"
    )
    close(make_case(make_alert("dora", score=500), queue=queue), "confirmed_fraud")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"anna", "ben", "cleo"}),
        ("queue=cards", {"anna", "cleo"}),
        ("queue=cards,payments", {"anna", "ben", "cleo"}),
        ("status=waiting", {"ben"}),
        ("status=waiting,escalated", {"ben", "cleo"}),
        ("status=closed", {"dora"}),
        ("status=closed,new", {"anna", "dora"}),
        ("assignee=me", {"ben"}),
        ("assignee=any", {"ben"}),
        ("assignee=none", {"anna", "cleo"}),
        ("score_from=800", {"anna", "ben"}),
        ("score_from=700&score_to=900", {"ben"}),
        ("amount_from=100&amount_to=5000", {"anna"}),
        ("amount_from=1.4&currency=KWD", {"ben"}),
        ("amount_to=1.499&currency=KWD", set()),
        ("currency=KWD", {"ben"}),
        ("reason=NEW_DEVICE", {"ben"}),
        ("reason=R-900", {"ben"}),
        ("reason=R-101", {"anna", "cleo"}),
        ("mcc=5732", {"anna"}),
        ("mcc=5732,1234", {"anna"}),
        ("country=fr", {"ben"}),
        ("tag=mule", {"anna"}),
        ("tag=ring+7", {"anna"}),
        ("tag=ring", set()),
        ("due=late", {"anna"}),
        ("due=later", {"ben", "cleo"}),
        ("outcome=confirmed_fraud", {"dora"}),
        ("outcome=legitimate", set()),
        ("snoozed=yes", {"ben"}),
        ("snoozed=no", {"anna", "cleo"}),
        ("channel=ecommerce&score_to=700", {"cleo"}),
    ],
)
def test_each_filter_shows_what_it_says(three, owner, query, expected):
    assert set(shown(query, owner)) == expected


def test_days_are_those_of_the_opening_or_of_closed_cases_the_closing(three, owner):
    today, old = timezone.localdate(), timezone.localdate() - timedelta(days=10)
    assert set(shown(f"since={today - timedelta(days=1)}", owner)) == {"anna", "cleo"}
    assert set(shown(f"since={old - timedelta(days=1)}&until={old + timedelta(days=1)}", owner)) == {"ben"}
    assert shown(f"status=closed&since={today - timedelta(days=1)}", owner) == ["dora"]
    assert shown(f"status=closed&until={today - timedelta(days=2)}", owner) == []


def test_due_today_is_still_to_come_today(queue, owner):
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    make_case(make_alert("today"), queue=queue, due_at=midnight - timedelta(milliseconds=1))
    make_case(make_alert("tomorrow"), queue=queue, due_at=midnight)
    assert shown("due=today", owner) == ["today"]
    assert shown("due=later", owner) == ["tomorrow"]


def test_the_same_address_shows_a_colleague_of_the_same_queues_the_same(three, owner, queue):
    mate = make_user("mate", *WORK)
    queue.members.add(mate)
    make_queue(mate, name="Payments")
    query = "score_from=600&sort=-amount&snoozed=no"
    assert shown(query, owner) == shown(query, mate) == ["anna", "cleo"]
    assert shown(query, make_user("stranger", *WORK)) == []


def test_of_closed_cases_with_a_filter_the_last_are_looked_through_and_that_is_said(queue, owner, monkeypatch):
    monkeypatch.setattr("cases.listing.LOOKED_THROUGH", 2)
    for days, name in enumerate(["new", "older", "oldest"]):
        close(make_case(make_alert(name), queue=queue), days=days)
    assert shown("status=closed", owner) == ["new", "older", "oldest"]
    assert not Address(status="closed").is_partial
    assert shown("status=closed&channel=ecommerce", owner) == ["new", "older"]
    assert Address(status="closed", channel="ecommerce").is_partial
    assert Address(status="closed", sort="-score").is_partial
    assert not Address(channel="ecommerce").is_partial


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", [sign + name for name in SORTS if name != "closed" for sign in ("", "-")])
def test_pages_by_keyset_show_every_case_once(queue, owner, sort, monkeypatch):
    monkeypatch.setattr("cases.listing.PAGE", 3)
    due = timezone.now()
    rows = [
        Case(
            lane=queue.lane,
            queue=queue,
            grouping_key=n,
            customer=n,
            customer_ref=f"c{n % 2}",
            top_reason="x",
            amount=1,
            amount_base=n % 3,
            score=n % 2,
            priority=n % 2 + 1,
            due_at=due + timedelta(minutes=n % 3),
        )
        for n in range(8)
    ]
    Case.objects.bulk_create(rows)
    seen, address = [], Address(sort=sort)
    for _ in range(4):
        page = listing.page(address, owner)
        seen += [case.pk for case in page.rows]
        if not page.more:
            break
        address = Address.read(QueryDict(page.more[1:]))
    assert len(seen) == len(set(seen)) == 8


def test_a_place_that_cannot_be_is_refused(owner):
    for place in ("nonsense", "W10", "WyJ4Il0"):
        with pytest.raises(listing.BadAddress):
            listing.page(Address(after=place), owner)


# --- chips ------------------------------------------------------------------------------------------------------------


def test_each_filter_is_a_chip_that_can_be_taken_away(owner):
    address = Address(
        queue="cards", score_from="640", amount_from="5000", currency="EUR", assignee=str(owner.pk), since="2026-11-01"
    )
    told = {f"{chip.name} {chip.value}": chip.without for chip in chips(address, {"cards": "Cards"})}
    assert set(told) == {
        "Queue is Cards",
        "Score from 640",
        "Amount from 5,000 EUR",
        "Assignee is Ines V.",
        "Opened from 1 Nov",
    }
    assert "amount" not in told["Amount from 5,000 EUR"]
    assert "currency" not in told["Amount from 5,000 EUR"]
    assert "queue=cards" in told["Amount from 5,000 EUR"]
    assert chips(Address(), {}) == []
