"""Reasons carry the actual numbers, in a fixed order, at least one for every payment that was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scoring import reasons, seeds
from scoring.features import FEATURES, NAMES
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


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e9, 3e38, np.inf, -np.inf, np.nan])
def test_whatever_the_vector_holds_every_factor_has_words(value):
    vector = np.full(len(NAMES), value, "f4")
    vector[0] = 100.0
    seen = reasons.Seen(vector, "JPY")
    for factor in reasons.FACTORS:
        assert factor.sentence(seen)
        assert factor.strength(seen) == factor.strength(seen)  # never NaN
    assert all(reasons.describe(feature, seen) for feature in FEATURES)


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
