"""Reasons carry the actual numbers, in a fixed order, at least one for every payment that was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scoring import reasons, seeds, wording
from scoring.features import NAMES
from scoring.rules import compile_ruleset
from tests.scoring.test_rules import batch, version

CODES = {code for code, *_ in seeds.REASON_CODES}
CALM: dict[str, Any] = {
    "amount": 4200,
    "customer_count_10m": 0,
    "customer_count_1h": 0,
    "customer_count_24h": 1,
    "customer_usual_24h": 1.4,
}


def told(rules=(), hits=(), contributions=None, names=(), **values):
    facts, matrix = batch(**values)
    ruleset = compile_ruleset(rules)
    return reasons.sentences(
        matrix[0], facts, np.array(hits, "u1"), contributions, ruleset=ruleset, currency="EUR", names=names
    )


def test_every_feature_belongs_to_a_known_reason_code():
    assert {reasons.code_of(name) for name in (*NAMES, "anomaly")} <= CODES
    assert {factor.code for factor in reasons.FACTORS} <= CODES
    assert {rule.reason for rule in seeds.RULES} <= CODES


def test_a_burst_is_told_with_its_count_and_what_is_usual():
    found = told(**CALM | {"customer_count_10m": 6})
    assert found[0] == {
        "code": "VELOCITY",
        "text": "7 payments in 10 min; usual 0–1",
        "source": "model",
        "contribution": 0.0,
    }


def test_an_unusual_amount_is_told_beside_the_usual_range():
    found = told(**CALM | {"amount": 497_000, "customer_amount_to_mean": 45.18, "customer_amount_z": 69.4})
    assert found[0]["code"] == "AMOUNT_UNUSUAL"
    assert found[0]["text"] == "4,970.00 EUR; usual 40–180 EUR"


def test_live_rules_come_first_by_weight_and_shadow_rules_are_not_reasons():
    rules = [
        (version("amount > 0", pk=1, weight=100, sentence="{customer_count_10m+1} payments, {amount:money}"), "live"),
        (
            version("amount > 0", pk=2, weight=300, sentence="Home {customer_country}; {customer_night_share:share}"),
            "live",
        ),
        (version("amount > 0", pk=3, weight=900, sentence="Hidden"), "shadow"),
    ]
    found = told(rules, [1, 1, 1], **CALM | {"amount_base": 4200, "customer_count_10m": 1, "customer_night_share": 0.5})
    assert [each["source"] for each in found] == ["rule R-2 v1", "rule R-1 v1"]
    assert [each["text"] for each in found] == ["Home not known; 50 %", "2 payments, 42.00 EUR"]


def test_every_hit_is_kept_with_the_values_it_saw():
    facts, matrix = batch(amount_base=4200, customer_count_10m=3)
    ruleset = compile_ruleset(
        [(version("amount > 1 and customer_count_10m > 2", sentence="{customer_count_10m}"), "shadow")]
    )
    [hit] = reasons.rule_hits(matrix[0], facts, np.array([1], "u1"), ruleset=ruleset, currency="EUR")
    assert hit["values"] == {"amount": 42.0, "customer_count_10m": 3.0}
    assert (hit["rule"], hit["version"], hit["mode"], hit["text"]) == ("R-1", 1, "shadow", "3")


def test_contributions_are_grouped_by_reason_code_and_order_the_factors():
    names = ["customer_count_10m", "customer_count_1h", "amount", "vop"]
    found = told(contributions=np.array([0.4, 0.5, 0.7, -2.0, -3.0]), names=names, **CALM | {"customer_count_10m": 6})
    assert [(each["code"], each["contribution"]) for each in found] == [("VELOCITY", 0.9), ("AMOUNT_UNUSUAL", 0.7)]


def test_there_is_always_a_reason():
    assert told(**CALM)[0]["code"] == "MODEL_SCORE"
    assert told()[0]["code"] == "NOT_JUDGED"


def kept_of(vector, **given):
    """A stored explanation of the vector: `given` contributions by feature, the others nothing."""
    parts = [
        [name, float(value) if np.isfinite(value) else None, given.get(name, 0.0)]
        for name, value in zip(NAMES, vector, strict=True)
    ]
    return {"currency": "EUR", "parts": parts}


@pytest.mark.parametrize("value", [7.0, 0.0, 1.0, 3.37, 123.4, np.nan])
def test_every_feature_has_a_short_plain_sentence(value):
    seen = reasons.Seen(np.full(len(NAMES), value, "f4"), "EUR")
    for name in NAMES:
        text = wording.sentence(name, seen)
        assert 5 < len(text) <= 90, (name, text)
        assert text[0].isupper() or text[0].isdigit(), (name, text)
        assert not any(raw in text for raw in ("_", "ln(", "nan", "{", " 1 payments", "1 frauds")), (name, text)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("customer_count_10m", 6, "7 payments by this customer in 10 min; usual 0–1"),
        ("card_count_24h", 0, "No other payment with this card in 24 h"),
        ("merchant_count_24h", 1, "1 earlier payment at this merchant in 24 h"),
        ("customer_seen_days", 74, "Known to us for 74 days"),
        ("device_seen_days", 0, "Device seen for the first time"),
        ("customer_device_age", 0, "First payment from this device"),
        ("customer_fraud_count_30d", 1, "1 known fraud on this customer in 30 days"),
        ("customer_speed_kmh", 12, "12 km/h from the last place"),
        ("hour", 3.2, "Paid at 03:12 UTC"),
        ("merchant_fraud_share_14d", 0.042, "Fraud in 4.2 % of the payments at this merchant in 14 days"),
        ("device_cards", 0, "No card seen on this device before"),
        ("device_cards", np.nan, "No device sent"),
        ("terminal_fraud_run_age", np.nan, "No run of frauds at this terminal"),
        ("customer_amount_to_mean", np.nan, "No earlier payments to compare with"),
        ("authentication", 9, "Signed with PIN"),
        ("anomaly", 0, "Unlike most payments, taken as a whole"),
    ],
)
def test_a_feature_tells_its_number_and_unit(name, value, text):
    _, matrix = batch(**{"customer_usual_24h": 1.4, **({name: value} if name != "anomaly" else {})})
    assert wording.sentence(name, reasons.Seen(matrix[0], "EUR")) == text


def test_no_fraud_is_said_where_the_count_is_nought_though_the_share_is_smoothed():
    _, matrix = batch(merchant_fraud_share_14d=0.004, merchant_fraud_count_30d=0)
    told = wording.sentence("merchant_fraud_share_14d", reasons.Seen(matrix[0], "EUR"))
    assert told == "No fraud known at this merchant in 14 days"


def test_a_place_without_payments_is_not_praised_for_having_no_fraud():
    _, matrix = batch(merchant_fraud_share_14d=0.004, merchant_fraud_count_30d=0, merchant_count_30d=0)
    seen = reasons.Seen(matrix[0], "EUR")
    told = {wording.sentence(name, seen) for name in ("merchant_fraud_share_14d", "merchant_fraud_count_30d")}
    assert told == {"No earlier payment at this merchant in 30 days"}


def test_an_amount_stands_beside_the_usual_one():
    _, matrix = batch(amount=634_932, amount_log=13.36, customer_mean_30d=4490)
    seen = reasons.Seen(matrix[0], "EUR")
    assert {wording.sentence(name, seen) for name in ("amount", "amount_log", "customer_mean_30d")} == {
        "6,349.32 EUR; usual 44.90 EUR"
    }


def test_features_of_one_code_are_one_factor_told_by_its_heaviest_member():
    _, matrix = batch(
        amount=634_932, amount_log=13.36, customer_mean_30d=4490, customer_seen_days=74, customer_count_10m=6
    )
    kept = kept_of(matrix[0], amount=0.5, amount_log=0.75, customer_seen_days=-0.5, customer_count_10m=0.25)
    told = [group for group in reasons.grouped(reasons.parts_of(kept)) if group["contribution"]]
    assert [(group["code"], group["contribution"]) for group in told] == [
        ("AMOUNT_UNUSUAL", 1.25),
        ("NEW_CUSTOMER", -0.5),
        ("VELOCITY", 0.25),
    ]
    assert told[0]["text"] == "6,349.32 EUR; usual 44.90 EUR"
    assert all(group["topic"] for group in told)


def test_at_most_two_clauses_speak_against_and_only_what_the_facts_bear_out():
    facts = {"customer_tenure": 3300, "customer_device_age": 40, "vop": 1, "customer_distance_km": 4000}
    _, matrix = batch(**facts)
    weights = {"customer_tenure": -0.3, "customer_device_age": -0.2, "vop": -0.1, "customer_distance_km": -0.9}
    told = reasons.against(kept_of(matrix[0], **weights))
    assert told == ["customer for 9 years", "this customer's own device for 40 days"]
    assert reasons.against(kept_of(matrix[0], amount=1.0, vop=-0.01)) == []


def test_a_counted_noun_agrees_with_its_number():
    facts, matrix = batch(customer_fraud_count_30d=1)
    told = reasons.fill("{customer_fraud_count_30d:known fraud}", compile_ruleset([]), facts, matrix[0], "EUR")
    more = reasons.fill("{customer_fraud_count_30d+1:known fraud}", compile_ruleset([]), facts, matrix[0], "EUR")
    assert (told, more) == ("1 known fraud", "2 known frauds")


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e9, 3e38, np.inf, -np.inf, np.nan])
def test_whatever_the_vector_holds_every_factor_has_words(value):
    vector = np.full(len(NAMES), value, "f4")
    vector[0] = 100.0
    seen = reasons.Seen(vector, "JPY")
    for factor in reasons.FACTORS:
        assert factor.sentence(seen)
        assert factor.strength(seen) == factor.strength(seen)  # never NaN
    assert all(wording.sentence(name, seen) for name in NAMES)
    assert reasons.against(kept_of(vector)) is not None


def test_a_sentence_is_filled_and_nothing_else_is_understood():
    facts, matrix = batch(amount_base=4200)
    ruleset = compile_ruleset([])
    text = "{amount:money} {amount.__class__} {0} {nobody} {amount!r} {amount:>99999999}"
    filled = reasons.fill(text, ruleset, facts, matrix[0], "EUR")
    assert filled == "42.00 EUR {amount.__class__} {0} {nobody} {amount!r} {amount:>99999999}"


def test_the_models_contributions_add_up_and_are_all_there():
    class Scorer:
        names: Sequence[str] = (*NAMES, "anomaly")

        def contributions(self, matrix):
            return np.arange(len(NAMES) + 2, dtype="f4").reshape(1, -1) / 100

    _, matrix = batch(**CALM)
    told = reasons.contributions(Scorer(), matrix[0])
    assert len(told.contributions) == len(NAMES) + 1
    assert told.base + sum(part["contribution"] for part in told.contributions) == pytest.approx(told.margin, abs=1e-3)
    assert [abs(part["contribution"]) for part in told.contributions] == sorted(
        (abs(part["contribution"]) for part in told.contributions), reverse=True
    )
    assert all(part["text"] and part["code"] in CODES for part in told.contributions)
    seen = reasons.Seen(matrix[0], "EUR")
    assert {part["feature"]: part["text"] for part in told.contributions} == {
        name: wording.sentence(name, seen) for name in (*NAMES, "anomaly")
    }
