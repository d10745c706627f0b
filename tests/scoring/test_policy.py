"""Thresholds and rule floors become outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.features import NAMES
from scoring.policy import APPROVE, CHALLENGE, DECLINE, NO_SCORE, REVIEW, Policy, PolicyError, check_thresholds, limits
from scoring.rules import compile_ruleset
from tests.scoring.test_rules import version
from transactions.codes import CHANNEL
from transactions.facts import blank

THRESHOLDS = {
    "default": {"challenge": 500, "review": 700, "decline": 900},
    "ecommerce": {"challenge": 400, "review": 400, "decline": 800},
}


def policy(thresholds=THRESHOLDS) -> Policy:
    return Policy(1, limits(check_thresholds(thresholds)), 120, "released")


def judge(scores, *, channels="atm", rules=(), hits=None):
    facts = blank(len(scores))
    facts["channel"] = [
        CHANNEL.code(each) for each in ([channels] * len(scores) if isinstance(channels, str) else channels)
    ]
    ruleset = compile_ruleset(
        [(version("amount > 0", pk=n, outcome=outcome), mode) for n, (outcome, mode) in enumerate(rules)]
    )
    mask = np.array(hits if hits is not None else np.zeros((len(scores), len(rules))), "u1").reshape(
        len(scores), len(rules)
    )
    return policy().judge(np.array(scores, "i2"), mask, ruleset, facts)


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (0, APPROVE),
        (499, APPROVE),
        (500, CHALLENGE),
        (699, CHALLENGE),
        (700, REVIEW),
        (899, REVIEW),
        (900, DECLINE),
        (1000, DECLINE),
    ],
)
def test_a_score_falls_into_its_band(score, outcome):
    judged = judge([score])
    assert judged.outcomes.tolist() == judged.bands.tolist() == [outcome]


def test_a_channel_has_its_own_thresholds_or_the_default_ones():
    assert judge([450, 450], channels=["ecommerce", "atm"]).outcomes.tolist() == [REVIEW, APPROVE]
    assert judge([850, 850], channels=["ecommerce", ""]).outcomes.tolist() == [DECLINE, REVIEW]


def test_a_channel_that_only_newer_software_knows_is_judged_by_the_default():
    facts = blank(1)
    facts["channel"] = 99
    assert policy().bands(np.array([700], "i2"), facts["channel"]).tolist() == [REVIEW]


def test_a_live_rule_lifts_the_outcome_and_never_lowers_it():
    rules = (("review", "live"), ("challenge", "live"))
    judged = judge([100, 100, 950], rules=rules, hits=[[1, 1], [0, 1], [0, 1]])
    assert judged.outcomes.tolist() == [REVIEW, CHALLENGE, DECLINE]
    assert judged.bands.tolist() == [APPROVE, APPROVE, DECLINE]


def test_a_shadow_rule_changes_nothing():
    assert judge([100], rules=(("decline", "shadow"),), hits=[[1]]).outcomes.tolist() == [APPROVE]


def test_without_a_score_rules_alone_decide():
    judged = judge([NO_SCORE, NO_SCORE], rules=(("review", "live"),), hits=[[1], [0]])
    assert judged.outcomes.tolist() == [REVIEW, APPROVE]
    assert judged.bands.tolist() == [0, 0]


def test_an_empty_ruleset_and_an_empty_batch_are_fine():
    assert judge([]).outcomes.tolist() == []
    assert compile_ruleset([]).evaluate(blank(2), np.zeros((2, len(NAMES)), "f4")).shape == (2, 0)


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({}, "default"),
        ({"default": {"challenge": 1, "review": 2}}, "challenge, review, decline"),
        ({"default": {"challenge": 700, "review": 500, "decline": 900}}, "rise"),
        ({"default": {"challenge": 0, "review": 500, "decline": 900}}, "1 to 1000"),
        ({"default": {"challenge": 100, "review": 500, "decline": 1001}}, "1 to 1000"),
        ({"default": {"challenge": 100.5, "review": 500, "decline": 900}}, "whole"),
        ({"default": THRESHOLDS["default"], "telex": THRESHOLDS["default"]}, "telex"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(thresholds, words):
    with pytest.raises(PolicyError, match=words):
        check_thresholds(thresholds)
