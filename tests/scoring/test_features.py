"""The kernel: what it computes on stories small enough to work out by hand, and that cuts change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoring import features
from scoring.features import NAMES, advance, events_from_facts, label_events
from scoring.profiles import LABEL_ROW, Profiles
from transactions.codes import DEVICE_FLAGS, DIRECTION, LABEL_SOURCE, SCA, STAGE, THREE_DS, TYPE, VERDICT
from transactions.facts import DAY, HOUR, MINUTE, blank

START = 9_820 * DAY + 10 * HOUR  # Friday, 20 November 2026, 10 o'clock
MONTH = 30 * DAY
REVERSED = {"stage": STAGE.code("reversal")}


def payment(number: int, at: int, amount: int = 1000, **facts: Any) -> np.ndarray:
    """One payment of customer 7 at merchant 70, `at` micro-seconds after START."""
    row = blank(1)
    values = {"customer": 7, "merchant": 70, "stage": STAGE.code("authorisation"), **facts}
    for name, value in (
        values | {"id": number, "occurred_at": START + at, "amount": amount, "amount_base": amount}
    ).items():
        row[name] = value
    return row


def label(number: int, payment_id: int, known: int, verdict: str = "fraud", source: str = "investigator") -> np.ndarray:
    """One label row, known `known` micro-seconds after START."""
    row = (number, payment_id, START + known, VERDICT.code(verdict), LABEL_SOURCE.code(source))
    return np.array([row], LABEL_ROW)


class Story:
    """A lane that is told one thing after the other."""

    def __init__(self) -> None:
        self.profiles = Profiles()
        self.told: dict[int, np.ndarray] = {}

    def pays(self, number: int, at: int, amount: int = 1000, **facts: Any) -> dict[str, float]:
        """Judge a payment; its features by name."""
        self.told[number] = payment(number, at, amount, **facts)
        row = advance(self.profiles, events_from_facts(self.told[number], number)).matrix[0]
        return dict(zip(NAMES, row.tolist(), strict=True))

    def learns(
        self, number: int, payment_id: int, known: int, verdict: str = "fraud", source: str = "investigator"
    ) -> None:
        """Take a label in."""
        rows = label(number, payment_id, known, verdict, source)
        advance(self.profiles, label_events(self.profiles, rows, self.told[payment_id], number))


def random_events(n: int = 3000, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Facts of `n` payments of a busy month with late ones and gaps in what was sent, and labels for a quarter."""
    rng = np.random.default_rng(seed)
    facts = blank(n)
    facts["id"] = np.arange(1, n + 1)
    facts["occurred_at"] = START + np.sort(rng.integers(0, MONTH, n))
    late = rng.random(n) < 0.02
    facts["occurred_at"][late] -= rng.integers(0, 3 * DAY, late.sum())
    facts["amount"] = facts["amount_base"] = rng.integers(1, 90_000, n)
    pools = {
        "customer": 60,
        "card": 70,
        "account": 50,
        "device": 60,
        "ip": 40,
        "merchant": 30,
        "terminal": 40,
        "counterparty": 50,
    }
    for kind, pool in pools.items():
        facts[kind] = np.where(rng.random(n) < 0.8, rng.integers(1, pool, n) * 1_000_003, 0)
    facts["mcc"] = rng.integers(-1, 9, n)
    facts["stage"] = rng.choice([1, 1, 1, 1, 1, 1, 2, 4], n)
    facts["direction"] = rng.choice([1, 1, 1, 2], n)
    facts["type"] = rng.integers(1, 9, n)
    facts["sca"] = rng.choice([0, 1, 4], n)
    original = np.where(rng.random(n) < 0.5, np.maximum(facts["id"] - rng.integers(1, 60, n), 0), 0)
    facts["original"] = np.where((facts["stage"] > 1) | (facts["type"] == TYPE.code("reversal")), original, 0)
    facts["original_at"] = facts["occurred_at"][np.maximum(facts["original"] - 1, 0)]
    facts["lat"] = np.where(rng.random(n) < 0.5, rng.uniform(40, 50, n), np.nan)
    facts["lon"] = rng.uniform(0, 10, n)
    facts["merchant_country"] = rng.integers(0, 9, n)
    labels = np.zeros(n // 4, LABEL_ROW)
    labels["id"] = np.arange(1, len(labels) + 1)
    labels["transaction_id"] = rng.integers(1, n + 1, len(labels))
    labels["verdict"], labels["source"] = rng.integers(1, 4, len(labels)), rng.integers(1, 5, len(labels))
    labels["known_at"] = facts["occurred_at"][labels["transaction_id"] - 1] + rng.integers(0, 9 * DAY, len(labels))
    return facts, labels


def in_pieces(
    facts: np.ndarray, labels: np.ndarray, cuts: list[int], *, emit: bool = True
) -> tuple[Profiles, np.ndarray, np.ndarray]:
    """Walk payments, each label somewhere after its payment, in pieces of one log: the memory, the rows, the links."""
    place = np.minimum(labels["transaction_id"] + labels["id"] % 97, len(facts))
    is_label = np.r_[np.zeros(len(facts), bool), np.ones(len(labels), bool)]
    order = np.lexsort((is_label, np.concatenate([facts["id"], place])))
    profiles = Profiles()
    pieces = []
    for start, stop in zip([0, *cuts], [*cuts, len(order)], strict=True):
        piece = order[start:stop]
        rows = labels[piece[piece >= len(facts)] - len(facts)]
        events = np.zeros(len(piece), features.EVENT)
        events[piece < len(facts)] = events_from_facts(facts[piece[piece < len(facts)]])
        events[piece >= len(facts)] = label_events(profiles, rows, facts[rows["transaction_id"] - 1])
        pieces.append(advance(profiles, events, emit=emit))
    matrix, links = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return profiles, matrix, links


def test_there_are_at_least_40_features_with_unique_readable_names():
    assert len(set(NAMES)) == len(NAMES) >= 40
    assert all(name.islower() and name.isidentifier() for name in NAMES)


def test_velocity_counts_what_came_before_and_forgets_with_the_window():
    story = Story()
    first = story.pays(1, 0, 1000)
    assert first["customer_count_10m"] == 0 and first["customer_new_merchant"] == 1
    assert np.isnan(first["customer_since_last"]) and np.isnan(first["customer_amount_z"])
    story.pays(2, 2 * MINUTE, 3000)
    third = story.pays(3, 5 * MINUTE, 500)
    assert (third["customer_count_10m"], third["customer_sum_10m"]) == (2, 4000)
    assert (third["customer_max_30d"], third["customer_mean_30d"]) == (3000, 2000)
    assert third["customer_since_last"] == 180
    assert third["merchant_count_24h"] == 2
    later = story.pays(4, 3 * HOUR, 500)
    assert (later["customer_count_10m"], later["customer_count_1h"], later["customer_count_24h"]) == (0, 0, 3)
    week = story.pays(5, 6 * DAY, 500)
    assert (week["customer_count_24h"], week["customer_count_7d"], week["customer_sum_7d"]) == (0, 4, 5000)
    far = story.pays(6, 40 * DAY, 500)
    assert (far["customer_count_30d"], far["customer_seen_days"]) == (0, 40)
    assert np.isnan(far["customer_max_30d"])


def test_a_window_sees_at_least_what_its_name_says():
    rng = np.random.default_rng(3)
    at = np.sort(rng.integers(0, 3 * DAY, 400))
    story = Story()
    for i, now in enumerate(at):
        row = story.pays(i + 1, int(now))
        for name, window, step in (("10m", 10 * MINUTE, MINUTE), ("1h", HOUR, 10 * MINUTE), ("24h", DAY, HOUR)):
            least, most = (np.sum(at[:i] > now - window)), np.sum(at[:i] >= now - window - step)
            assert least <= row[f"customer_count_{name}"] <= most


def test_the_largest_amount_leaves_with_its_day():
    story = Story()
    story.pays(1, 0, 90_000)
    story.pays(2, 10 * DAY, 4000)
    assert story.pays(3, 20 * DAY, 100)["customer_max_30d"] == 90_000
    assert story.pays(4, 35 * DAY, 100)["customer_max_30d"] == 4000


def test_amounts_are_compared_with_the_customers_clean_history():
    story = Story()
    for i, amount in enumerate((1000, 2000, 3000)):
        story.pays(i + 1, i * DAY, amount)
    row = story.pays(4, 3 * DAY, 6000)
    assert row["customer_amount_to_mean"] == 3 and row["customer_amount_to_max_30d"] == 2
    deviation = np.std([1000, 2000, 3000])
    assert row["customer_amount_z"] == pytest.approx(4000 / (deviation + 20 + 1))
    story.learns(1, 4, 4 * DAY)
    assert story.pays(5, 5 * DAY, 6000)["customer_amount_to_mean"] == 3


def test_a_place_far_away_needs_an_impossible_speed():
    story = Story()
    story.pays(1, 0, lat=52.52, lon=13.405)  # Berlin
    row = story.pays(2, HOUR, lat=48.1374, lon=11.5755)  # Munich
    assert row["customer_distance_km"] == pytest.approx(504, abs=2)
    assert row["customer_speed_kmh"] == pytest.approx(504, abs=2)
    assert np.isnan(story.pays(3, 2 * HOUR)["customer_distance_km"])


def test_new_device_counterparty_and_country_are_noticed_once():
    story = Story()
    facts = {"device": 5, "counterparty": 6, "merchant_country": 133}
    first = story.pays(1, 0, **facts)
    assert (first["customer_new_device"], first["customer_new_counterparty"], first["customer_new_country"]) == (
        1,
        1,
        1,
    )
    second = story.pays(2, 2 * DAY, **facts)
    assert (second["customer_new_device"], second["customer_new_counterparty"], second["customer_new_country"]) == (
        0,
        0,
        0,
    )
    assert (second["customer_device_age"], second["customer_counterparty_age"], second["customer_devices_30d"]) == (
        2,
        2,
        1,
    )


def test_sharing_a_device_is_counted_and_linked_once():
    story = Story()
    for number, customer in enumerate((1, 2, 2, 3)):
        row = story.pays(number + 1, number * HOUR, customer=customer, card=customer * 10, device=5)
    assert (row["device_customers"], row["device_cards"], row["device_count_24h"]) == (2, 2, 3)
    events = events_from_facts(payment(9, 5 * HOUR, customer=4, card=10, device=5))
    links = advance(story.profiles, events).links
    pairs = {(int(a["left_kind"]), int(a["left_key"]), int(a["right_kind"]), int(a["right_key"])) for a in links}
    assert pairs == {(1, 4, 3, 10), (1, 4, 4, 5)}  # customer–card and customer–device are new, card–device is known
    assert set(links["transaction_id"]) == {9}
    assert not len(advance(story.profiles, events).links)


def test_what_was_not_sent_is_nan():
    row = Story().pays(1, 0, customer=0, merchant=0)
    own = {feature.name for feature in features.FEATURES if feature.entity == "payment"}
    assert all(np.isnan(value) for name, value in row.items() if name not in own)
    assert np.isnan(row["mcc"]) and np.isnan(row["customer_age"]) and np.isnan(row["balance_share"])


def test_what_the_payment_says_of_itself():
    flags = DEVICE_FLAGS["vpn"] | DEVICE_FLAGS["rooted"]
    row = Story().pays(
        1, 16 * HOUR, 5000, balance_before=20_000, mcc=5411, device_flags=flags, customer_since=9_000, birth_year=1990,
        customer_country=165, merchant_country=166,
    )  # fmt: skip
    assert (row["hour"], row["night"], row["weekday"]) == (2, 1, 5)  # Saturday, 2 o'clock
    assert (row["device_tampered"], row["device_hidden"], row["device_remote_access"]) == (1, 1, 0)
    assert (row["balance_share"], row["mcc"], row["customer_tenure"], row["customer_age"]) == (0.25, 5411, 821, 36)
    assert (row["abroad"], row["amount"]) == (1, 5000)
    assert row["amount_log"] == pytest.approx(np.log1p(5000))


@pytest.mark.parametrize("stage", ["clearing", "advice"])
def test_what_was_authorised_counts_once(stage: str):
    story = Story()
    story.pays(1, 0)
    before = story.profiles.digest()
    row = story.pays(2, HOUR, stage=STAGE.code(stage), original=1, original_at=START)
    assert all(np.isnan(value) for value in row.values())
    assert story.profiles.digest() == before


@pytest.mark.parametrize("stage", ["clearing", "advice"])
def test_what_was_never_authorised_here_counts_when_it_is_cleared(stage: str):
    story = Story()
    row = story.pays(1, 0, 3000, stage=STAGE.code(stage), device=5)
    assert all(np.isnan(value) for value in row.values())
    row = story.pays(2, HOUR, 1000, device=5)
    assert (row["customer_count_24h"], row["customer_sum_24h"], row["customer_new_device"]) == (1, 3000, 0)


def test_a_reversal_takes_its_payment_out_again_and_never_moves_last():
    story = Story()
    story.pays(1, 0, 3000, device=5)
    story.pays(2, 10 * MINUTE, 500, device=5)
    row = story.pays(3, 2 * HOUR, 3000, device=5, **REVERSED, original=1, original_at=START)
    assert all(np.isnan(value) for value in row.values())
    row = story.pays(4, 3 * HOUR, device=5)
    assert (row["customer_count_24h"], row["customer_sum_24h"], row["customer_max_1d"]) == (1, 500, 3000)
    assert (row["customer_count_30d"], row["customer_mean_30d"], row["device_count_24h"]) == (1, 500, 1)
    assert (row["merchant_count_24h"], row["customer_since_last"]) == (1, 170 * 60)
    assert (row["customer_seen_days"], row["customer_new_device"]) == (0.125, 0)


@pytest.mark.parametrize("facts", [{"stage": STAGE.code("reversal")}, {"type": TYPE.code("reversal")}])
def test_a_reversal_of_an_unknown_payment_changes_nothing(facts: dict[str, int]):
    story = Story()
    story.pays(1, 0)
    before = story.profiles.digest()
    row = story.pays(2, HOUR, **facts)
    assert all(np.isnan(value) for value in row.values()) and story.profiles.digest() == before


def test_a_payment_reversed_in_parts_leaves_its_count_once_and_nothing_falls_below_zero():
    story = Story()
    for number in (1, 2):
        story.pays(number, 0, 3000)
    for number, amount in ((3, 1000), (4, 1500)):
        story.pays(number, HOUR, amount, **REVERSED, original=1, original_at=START)
    row = story.pays(5, 2 * HOUR)
    assert (row["customer_count_24h"], row["customer_sum_24h"], row["merchant_count_30d"]) == (1, 3500, 1)
    story.pays(6, 3 * HOUR, 90_000, **REVERSED, original=2, original_at=START)
    row = story.pays(7, 4 * HOUR)
    assert (row["customer_count_24h"], row["customer_sum_24h"]) == (1, 1000)
    story.pays(8, 40 * DAY)
    story.pays(9, 41 * DAY, 1000, **REVERSED, original=5, original_at=START + 2 * HOUR)  # its step is held no more
    assert story.pays(10, 41 * DAY)["customer_sum_30d"] == 1000


def test_the_largest_amount_is_forgotten_with_the_last_payment_of_its_day():
    story = Story()
    story.pays(1, 0, 9000)
    story.pays(2, 2 * DAY, 500)
    story.pays(3, 2 * DAY, 9000, **REVERSED, original=1, original_at=START)
    assert story.pays(4, 3 * DAY)["customer_max_30d"] == 500


@pytest.mark.parametrize("facts", [{"sca": SCA.code("failed")}, {"three_ds": THREE_DS.code("R")}])
def test_a_payment_that_facts_call_declined_is_an_attempt_but_no_spending(facts: dict[str, int]):
    story = Story()
    story.pays(1, 0, 9000, card=5, **facts)
    row = story.pays(2, MINUTE, card=5)
    assert (row["customer_count_10m"], row["customer_sum_10m"], row["card_count_10m"]) == (1, 0, 1)
    assert np.isnan(row["customer_amount_to_mean"]) and np.isnan(row["customer_max_30d"])


def test_a_refund_is_a_credit_and_no_spending():
    story = Story()
    story.pays(1, 0, 3000)
    story.pays(2, HOUR, 3000, type=TYPE.code("refund"), original=1, original_at=START)
    row = story.pays(3, 2 * HOUR)
    assert (row["customer_count_24h"], row["customer_sum_24h"]) == (2, 3000)


def test_suspicious_payments_are_counted_until_a_label_says_what_they_were():
    story = Story()
    for number in range(1, 7):
        story.pays(number, number * MINUTE, 1000, lat=52.5, lon=13.4)
    story.pays(7, HOUR, 90_000, lat=52.5, lon=13.4, terminal=9)  # an odd amount
    story.pays(8, HOUR + MINUTE, 1000, lat=40.4, lon=-3.7, merchant=71)  # Berlin to Madrid in a minute
    names = ("customer_suspicious_7d", "merchant_suspicious_7d", "terminal_suspicious_7d")
    row = story.pays(9, DAY, terminal=9)
    assert [row[name] for name in names] == [2, 1, 1]
    story.learns(1, 7, DAY)
    row = story.pays(10, DAY + HOUR, terminal=9)
    assert [row[name] for name in names] == [1, 0, 0]
    story.learns(2, 7, 2 * DAY, "withdrawn")
    assert story.pays(11, 2 * DAY)["merchant_suspicious_7d"] == 1
    row = story.pays(12, 10 * DAY, merchant=71)
    assert (row["customer_suspicious_7d"], row["merchant_suspicious_7d"]) == (0, 0)


def test_variety_and_largest_amounts_are_seen_over_several_windows():
    story = Story()
    for number, (at, shop) in enumerate([(0, 1), (5 * DAY, 2), (6 * DAY - 2 * HOUR, 3), (6 * DAY, 4)]):
        story.pays(number + 1, at, 1000 * (4 - number), merchant=shop, device=shop, merchant_country=shop)
    row = story.pays(5, 6 * DAY + MINUTE, 100, merchant=5, device=5, merchant_country=5)
    assert [row[f"customer_merchants_{w}"] for w in ("1h", "24h", "7d")] == [1, 2, 4]
    assert (row["customer_countries_24h"], row["customer_countries_30d"]) == (2, 4)
    assert (row["customer_devices_24h"], row["customer_devices_30d"]) == (2, 4)
    assert [row[f"customer_max_{w}"] for w in ("1d", "7d", "30d")] == [3000, 4000, 4000]
    assert [row[f"customer_mean_{w}"] for w in ("24h", "7d", "30d")] == [2000, 2500, 2500]  # an hour more


def test_a_credit_counts_as_a_payment_but_not_as_spending():
    story = Story()
    story.pays(1, 0, 9000, direction=DIRECTION.code("credit"))
    row = story.pays(2, HOUR, 1000)
    assert (row["customer_count_24h"], row["customer_sum_24h"]) == (1, 0)
    assert np.isnan(row["customer_amount_to_mean"])


def test_a_late_payment_goes_into_its_own_step_and_never_moves_last():
    story = Story()
    story.pays(1, 5 * HOUR, lat=50, lon=8)
    late = story.pays(2, 2 * HOUR, 7000, lat=51, lon=9)
    assert late["late"] == 1 and np.isnan(late["customer_since_last"]) and np.isnan(late["customer_speed_kmh"])
    row = story.pays(3, 5 * HOUR + 30 * MINUTE, lat=50, lon=8)
    assert (row["late"], row["customer_since_last"], row["customer_distance_km"]) == (0, 1800, 0)
    assert (row["customer_count_1h"], row["customer_count_24h"], row["customer_sum_24h"]) == (1, 2, 8000)
    story.pays(4, -60 * DAY, 9999)  # its step is held no more
    assert story.pays(5, 6 * HOUR)["customer_sum_30d"] == 9000


def test_a_label_moves_risk_when_it_arrives_and_not_before():
    story = Story()
    for number in range(1, 7):
        story.pays(number, number * HOUR)
    before = story.pays(7, 8 * HOUR)
    assert (before["merchant_fraud_count_30d"], before["customer_fraud_total"]) == (0, 0)
    story.learns(1, 2, 5 * DAY)
    after = story.pays(8, 5 * DAY + HOUR)
    assert (after["merchant_fraud_count_30d"], after["customer_fraud_count_30d"], after["customer_fraud_total"]) == (
        1,
        1,
        1,
    )
    assert after["merchant_since_fraud"] == pytest.approx(1 / 24)
    assert after["merchant_fraud_share_7d"] > before["merchant_fraud_share_7d"]
    usual = (1 + 1) / (7 + 200)  # the lane's own share
    assert after["merchant_fraud_share_1d"] == pytest.approx(
        (1 + 4 * usual) / (1 + 4)
    )  # today and yesterday: one fraud
    assert after["merchant_fraud_share_30d"] == pytest.approx((1 + 4 * usual) / (7 + 4))
    assert after["merchant_labelled_share_30d"] == pytest.approx((1 + 4 * usual) / (1 + 4))
    assert story.pays(9, 60 * DAY)["merchant_fraud_count_30d"] == 0


def test_a_second_label_that_agrees_changes_nothing_and_a_withdrawal_takes_all_back():
    story = Story()
    story.pays(1, 0)
    story.pays(2, HOUR)
    story.learns(1, 1, DAY, source="investigator")
    once = story.pays(3, 2 * DAY)
    story.learns(2, 1, 2 * DAY, source="chargeback")
    assert story.pays(4, 2 * DAY)["customer_fraud_total"] == once["customer_fraud_total"] == 1
    story.learns(3, 1, 3 * DAY, "withdrawn", "chargeback")
    row = story.pays(5, 4 * DAY)
    assert (row["customer_fraud_total"], row["merchant_fraud_count_30d"], row["merchant_fraud_run"]) == (0, 0, 0)
    assert np.isnan(row["customer_since_fraud"])


def test_the_run_of_frauds_at_a_merchant_ages_until_a_legitimate_payment_ends_it():
    story = Story()
    for number in range(1, 6):
        story.pays(number, number * DAY)
    for number in (1, 2, 3):
        story.learns(number, number, (number + 7) * DAY)
    row = story.pays(6, 11 * DAY)
    assert (row["merchant_fraud_run"], row["merchant_fraud_run_age"], row["customer_fraud_run_age"]) == (3, 10, 10)
    story.learns(4, 5, 12 * DAY, "legitimate")
    row = story.pays(7, 13 * DAY)
    assert row["merchant_fraud_run"] == 0 and np.isnan(row["merchant_fraud_run_age"])
    assert row["customer_fraud_run_age"] == 12


def test_a_fraud_that_its_odd_amount_explains_does_not_count_against_the_merchant():
    story = Story()
    for number in range(1, 11):
        story.pays(number, number * HOUR, 1000 + 10 * number)
    story.pays(11, 12 * HOUR, 90_000)
    story.learns(1, 11, DAY)
    row = story.pays(12, 2 * DAY)
    assert (row["merchant_fraud_count_30d"], row["customer_fraud_count_30d"]) == (0, 1)
    story.learns(2, 11, 2 * DAY, "withdrawn")
    assert story.pays(13, 2 * DAY)["customer_fraud_count_30d"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_memory_are_the_same_bits_however_the_stream_is_cut(seed: int):
    facts, labels = random_events(seed=seed)
    cuts = np.random.default_rng(seed).choice(len(facts) + len(labels), 40)
    whole, matrix, links = in_pieces(facts, labels, [])
    cut, again, links_again = in_pieces(facts, labels, np.sort(cuts).tolist())
    assert again.tobytes() == matrix.tobytes()
    assert np.array_equal(links_again, links)
    assert cut.digest() == whole.digest()


def test_a_silent_walk_leaves_the_same_memory_and_links():
    facts, labels = random_events(seed=8)
    spoken, _, links = in_pieces(facts, labels, [])
    silent, matrix, same = in_pieces(facts, labels, [1, 7, 100, 1000], emit=False)
    assert silent.digest() == spoken.digest()
    assert matrix.shape == (0, features.N_FEATURES) and np.array_equal(same, links)


def test_windows_never_hold_less_than_nothing():
    _, matrix, _ = in_pieces(*random_events(), [])
    counts = [
        i
        for i, name in enumerate(NAMES)
        if "_count_" in name or "_sum_" in name or "_fraud_" in name or "_share_" in name or "_suspicious_" in name
    ]
    assert np.nanmin(matrix[:, counts]) >= 0
    assert not np.isinf(matrix).any()


def test_the_document_is_current():
    path = Path(features.__file__).parent.parent / "docs" / "features.md"
    assert path.read_text() == features.document(), "write it anew with `manage.py shell -c` and features.document()"
