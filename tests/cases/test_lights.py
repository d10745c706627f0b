"""Reasons light the facts that they read."""

import pytest

from cases import lights
from cases.factsheet import facts
from scoring.catalogue import NAMES
from tests.factories import make_case, make_transaction

KEYS = {
    *("amount", "when", "customer", "account", "card", "merchant", "payee", "signed", "three_ds", "checks"),
    *("device", "network", "channel", "location"),
}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("customer_new_device", "customer device"),
        ("customer_speed_kmh", "customer location when"),
        ("merchant_fraud_share_30d", "merchant"),
        ("amount", "amount"),
        ("counterparty_customers", "customer payee"),
        ("vop", "payee"),
        ("three_ds", "three_ds"),
        ("hour", "when"),
    ],
)
def test_a_feature_lights_what_it_reads(name, read):
    assert lights.of_names([name]) == read


def test_every_feature_lights_some_fact_of_the_page():
    for name in NAMES:
        assert lights.of_name(name), name
        assert lights.of_name(name) <= KEYS, name


def test_a_rule_lights_its_words_and_not_its_texts():
    hit = {"expression": 'channel == "card" and merchant in list("device")', "values": {"card_count_10m": 7}}
    assert lights.of_rule(hit).split() == ["card", "channel", "merchant", "when"]
    assert lights.of_rule({}) == ""


def test_a_list_lights_whom_it_names():
    assert lights.of_list("Payee is on the block list “mules” since 3 Nov 2026: reported") == "payee"
    assert lights.of_list("IP address in 10.0.0.0/8 is on the watch list") == "network"


def test_the_facts_carry_the_keys(db):
    from cases import factsheet

    case = make_case()
    payment = make_transaction("cust-0001", device="dev-1", card="card-1")
    sheet = facts(payment, {}, factsheet.past(case, payment, [case.queue_id]), "Review")
    assert {fact.key for _, lines in sheet for fact in lines} >= KEYS
