"""The simulated bank: the same for everybody, valid under the API's schema, with every scenario and its reports."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from transactions.codes import EXPONENT
from transactions.schema import from_document
from transactions.simulator import CAMPAIGNS, Bank, Simulated, money

DAYS, PER_DAY = 12, 250


def history(*, frauds: float = 1.0, seed: int = 3) -> list[Simulated]:
    bank = Bank(seed, customers=300, merchants=200)
    bank.frauds = frauds
    return list(bank.history(datetime.now(UTC) - timedelta(days=DAYS + 1), DAYS, PER_DAY))


@pytest.fixture(scope="module")
def calm() -> list[Simulated]:
    return history()


@pytest.fixture(scope="module")
def stormy() -> list[Simulated]:
    return history(frauds=25.0)


def test_the_same_seed_gives_the_same_payments():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    one, two = (list(Bank(5, customers=50, merchants=60).history(start, 3, 40)) for _ in range(2))
    other = list(Bank(6, customers=50, merchants=60).history(start, 3, 40))
    assert one == two
    assert one != other


def test_every_payment_is_one_that_the_api_accepts(calm, stormy):
    for simulated in calm[::3] + stormy[::3]:
        payment = from_document(simulated.payment)
        assert payment.external_id == simulated.payment["external_id"]


def test_payments_come_in_time_order_under_ids_of_their_own(calm):
    times = [simulated.at for simulated in calm]
    assert times == sorted(times)
    assert len({simulated.payment["external_id"] for simulated in calm}) == len(calm)


def test_fraud_is_rare_and_most_money_is_euros(calm):
    frauds = sum(simulated.scenario != "" for simulated in calm)
    currencies = Counter(simulated.payment["amount"]["currency"] for simulated in calm)
    assert 0 < frauds / len(calm) < 0.03
    assert currencies["EUR"] / len(calm) > 0.7
    assert len(currencies) > 3


def test_every_scenario_happens_and_says_what_it_is(stormy):
    seen = {simulated.scenario for simulated in stormy}
    assert seen == {"", *CAMPAIGNS}
    for simulated in stormy:
        if simulated.report and simulated.scenario:
            assert simulated.report.verdict == "fraud"
            assert simulated.report.delay > 0


def test_some_frauds_are_never_reported(stormy):
    reports = [simulated.report is not None for simulated in stormy if simulated.scenario]
    assert 0.85 < sum(reports) / len(reports) < 0.99


def test_a_taken_over_account_pays_somebody_new_from_a_new_device(stormy):
    known = {
        (simulated.payment["customer"]["id"], simulated.payment["device"]["id"])
        for simulated in stormy
        if not simulated.scenario and "device" in simulated.payment
    }
    taken = [simulated.payment for simulated in stormy if simulated.scenario == "account_takeover"]
    assert taken
    assert not any((payment["customer"]["id"], payment["device"]["id"]) in known for payment in taken)


def test_the_live_stream_is_stamped_by_the_clock_it_is_given():
    now = 1_790_000_000.0
    stamps = []

    def clock() -> float:
        nonlocal now
        now += 0.5
        stamps.append(now)
        return now

    payments = list(islice(Bank(3, customers=50, merchants=60, run="t").live(clock), 40))
    assert all(payment.at in stamps for payment in payments)


@pytest.mark.parametrize(("currency", "value"), [("EUR", 1000), ("JPY", 1630), ("KWD", 3350)])
def test_amounts_stand_in_the_minor_units_of_their_currency(currency, value):
    assert money(10.0, currency) == {"value": value, "currency": currency}
    assert EXPONENT["JPY"] == 0


def test_a_ring_works_several_accounts_from_one_phone_for_one_payee(stormy):
    rings: dict[str, list[dict]] = {}
    for simulated in stormy:
        if simulated.scenario == "ring":
            rings.setdefault(simulated.payment["device"]["id"], []).append(simulated.payment)
    assert rings
    for payments in rings.values():
        assert len({payment["counterparty"]["id"] for payment in payments}) == 1
        assert len({payment["device"]["ip"] for payment in payments}) == 1
    assert max(len({payment["customer"]["id"] for payment in each}) for each in rings.values()) >= 3


def test_in_an_outbreak_one_shop_charges_many_customers_too_much():
    start = datetime.now(UTC) - timedelta(days=4)
    bank = Bank(3, customers=300, merchants=200)
    begin, end = (start + timedelta(days=2)).timestamp(), (start + timedelta(days=4)).timestamp()
    bank.outbreak(begin, end, 40)
    charged = [each for each in bank.history(start, 4, 50) if each.scenario == "compromised" and each.at > begin]
    assert len(charged) >= 40
    [(_, count)] = Counter(each.payment["merchant"]["id"] for each in charged).most_common(1)
    assert count >= 40
    assert sum(each.report is not None and each.report.source == "customer" for each in charged) > 20
