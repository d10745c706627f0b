"""Rules are read strictly, judge columns, and never do anything else."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scoring.features import NAMES
from scoring.matching import ENTRY, Listing, Lists
from scoring.rules import MAX_LENGTH, RuleError, Ruleset, compile_expression, compile_ruleset, vocabulary
from scoring.seeds import LISTS, RULES
from transactions.codes import CHANNEL, COUNTRY, DEVICE_FLAGS
from transactions.facts import FACT_COLUMNS, blank

WORDS = vocabulary()


def version(
    expression: str, *, pk: int = 1, outcome: str = "review", weight: int = 100, sentence: str = ""
) -> SimpleNamespace:
    rule = SimpleNamespace(code=f"R-{pk}")
    return SimpleNamespace(
        pk=pk,
        number=1,
        expression=expression,
        outcome=outcome,
        weight=weight,
        sentence=sentence,
        reason_id="VELOCITY",
        rule=rule,
    )


def ruleset(*expressions: str, mode: str = "live") -> Ruleset:
    return compile_ruleset([(version(text, pk=n), mode) for n, text in enumerate(expressions, 1)])


def batch(n: int = 1, **values) -> tuple[np.ndarray, np.ndarray]:
    """`n` payments that say nothing but `values` (facts or features, scalars or lists)."""
    facts, matrix = blank(n), np.full((n, len(NAMES)), np.nan, "f4")
    for name, value in values.items():
        if name in FACT_COLUMNS:
            facts[name] = value
        if name in NAMES:
            matrix[:, NAMES.index(name)] = value
    return facts, matrix


def hits(expression: str, n: int = 1, **values) -> list[int]:
    return ruleset(expression).evaluate(*batch(n, **values))[:, 0].tolist()


ECOM, ATM = CHANNEL.code("ecommerce"), CHANNEL.code("atm")
DE, FR = COUNTRY.code("DE"), COUNTRY.code("FR")
TRUTH = [
    ('channel == "ecommerce"', {"channel": ECOM}, True),
    ('channel != "ecommerce"', {"channel": ATM}, True),
    ('channel != "ecommerce"', {}, False),  # not sent compares false
    ('not channel == "ecommerce"', {}, True),
    ('"atm" == channel', {"channel": ATM}, True),
    ('channel in ("atm", "ecommerce")', {"channel": ATM}, True),
    ('channel not in ["atm"]', {"channel": ECOM}, True),
    ('channel not in ["atm"]', {}, False),
    ("merchant_country != customer_country", {"merchant_country": DE, "customer_country": FR}, True),
    ("merchant_country != customer_country", {"merchant_country": DE}, False),
    ("merchant_country == customer_country", {}, False),
    ("missing(merchant_country)", {}, True),
    ("missing(device) and not missing(card)", {"card": 7}, True),
    ("amount >= 49.99", {"amount_base": 4999}, True),
    ("balance_before < 0", {}, False),
    ("missing(balance_before)", {}, True),
    ("mcc in (5411, 5812)", {"mcc": 5812}, True),
    ("mcc not in (5411,)", {}, False),
    ("3 < customer_count_10m <= 5", {"customer_count_10m": 5}, True),
    ("3 < customer_count_10m <= 5", {"customer_count_10m": 3}, False),
    ("customer_count_10m != 3", {}, False),
    ("not customer_count_10m > 3", {}, True),
    ("customer_sum_24h / customer_count_24h > 10", {"customer_sum_24h": 3100, "customer_count_24h": 3}, True),
    ("customer_sum_24h / customer_count_24h > 10", {"customer_sum_24h": 3100, "customer_count_24h": 0}, False),
    ("amount > 2 * customer_mean_30d", {"amount_base": 5000, "customer_mean_30d": 2400}, True),
    ("max(customer_count_10m, card_count_10m) >= 4", {"customer_count_10m": 1, "card_count_10m": 4}, True),
    ("abs(customer_amount_z) > 3", {"customer_amount_z": -4}, True),
    ("-customer_amount_z > 3", {"customer_amount_z": -4}, True),
    ("customer_amount_z in (-4, 1)", {"customer_amount_z": -4}, True),
    ("remote_access and not tor", {"device_flags": DEVICE_FLAGS["remote_access"]}, True),
    ("abroad or customer_new_device", {"abroad": 1}, True),
    ("customer_new_device", {}, False),
    ("  amount > 1\n  and amount < 3 ", {"amount_base": 200}, True),
    ("amount > 1 and amount < 2 or amount == 2", {"amount_base": 200}, True),
]


@pytest.mark.parametrize(("expression", "values", "expected"), TRUTH)
def test_a_rule_says_what_it_reads(expression, values, expected):
    assert hits(expression, **values) == [int(expected)]


def test_a_batch_is_judged_row_by_row_and_cutting_it_changes_nothing():
    rules = ruleset("amount > 100", "customer_count_10m >= 2 or abroad")
    facts, matrix = batch(
        4, amount_base=[5, 20_000, 10_000, 10_001], customer_count_10m=[1, 2, np.nan, 3], abroad=[0, 0, 1, np.nan]
    )
    whole = rules.evaluate(facts, matrix)
    assert whole.dtype == np.uint8
    assert whole.tolist() == [[0, 0], [1, 1], [0, 1], [1, 1]]
    parts = [rules.evaluate(facts[i : i + 1], matrix[i : i + 1]) for i in range(4)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_shadow_rules_are_evaluated_and_rules_that_are_off_are_not():
    rules = compile_ruleset(
        [(version("amount > 1", pk=n), mode) for n, mode in enumerate(("live", "shadow", "off"), 1)]
    )
    assert rules.evaluate(*batch(amount_base=500)).tolist() == [[1, 1, 0]]
    assert rules.floors.tolist() == [3, 1, 1]


def test_a_rule_that_fails_hits_nothing_and_leaves_the_others_alone():
    whole = ruleset("amount > 1", "amount > 2")
    broken = replace(whole.rules[0], code=compile("amount > nowhere", "<rule>", "eval"), tree=None)
    rules = Ruleset((broken, whole.rules[1]), whole.features, whole.words)
    assert rules.evaluate(*batch(amount_base=500)).tolist() == [[0, 1]]
    assert list(rules.failures) == [0]


def alone(rules: Ruleset) -> Ruleset:
    """The same rules, each evaluated by its own code instead of in one program."""
    return Ruleset(tuple(replace(rule, tree=None) for rule in rules.rules), rules.features, rules.words)


def test_the_program_of_all_rules_says_what_each_rule_says_alone():
    """Random payments with unknown, absent and threshold-equal values; every cut of the batch."""
    rng = np.random.default_rng(8)
    rules = ruleset(*(each.expression for each in RULES), *(expression for expression, _, _ in TRUTH))
    n = 700
    facts, matrix = blank(n), rng.integers(-2, 9, (n, len(NAMES))).astype("f4")
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    for name in FACT_COLUMNS:
        if facts[name].dtype.kind == "i":
            facts[name][rng.random(n) < 0.6] = rng.integers(-1, 60)
            facts[name][rng.random(n) < 0.4] = rng.integers(0, 6)
    facts["amount_base"] = rng.integers(0, 60_000, n)
    facts["lat"][: n // 2] = rng.normal(size=n // 2) * 50
    expected = alone(rules).evaluate(facts, matrix)
    assert (expected.any(axis=0)).mean() > 0.1
    assert not rules._alone
    for cut in (1, 2, 7, 64, 65, n):
        parts = [rules.evaluate(facts[at : at + cut], matrix[at : at + cut]) for at in range(0, n, cut)]
        assert np.array_equal(np.concatenate(parts), expected)


def test_a_text_that_no_longer_compiles_is_kept_with_its_flaw():
    rules = ruleset("gone_feature > 1", "amount > 1")
    assert rules.evaluate(*batch(amount_base=500)).tolist() == [[0, 1]]
    assert "gone_feature" in rules.rules[0].flaw


LISTS_KNOWN = {
    "mules": Listing(1, "mules", "block", "customer", 4, False),
    "emulators": Listing(2, "emulators", "watch", "device", 1, False),
    "far": Listing(3, "far", "watch", "country", 1, False),
}
ON_LISTS = [
    ('customer in list("mules")', {"customer": 7}, True),
    ('customer in list("mules")', {"customer": 8}, False),
    ('customer not in list("mules")', {"customer": 8}, True),
    ('customer not in list("mules")', {"customer": 7}, False),
    ('customer not in list("mules")', {}, False),  # not sent compares false
    ('not customer in list("mules")', {}, True),
    ("device in watch", {"device": 9}, True),
    ("device in block", {"device": 9}, False),
    ("customer in block and amount > 1", {"customer": 7, "amount_base": 500}, True),
    ('customer_country in list("far")', {"customer_country": DE}, True),
    ('merchant_country in list("far")', {"customer_country": DE}, False),
    ("merchant_country in watch", {"merchant_country": DE}, True),
    ("bin in watch or missing(bin)", {"bin": 411111}, False),
]


@pytest.mark.parametrize(("expression", "values", "expected"), ON_LISTS)
def test_a_rule_asks_lists_by_name_or_kind(expression, values, expected):
    entries = np.zeros(3, ENTRY)
    entries["id"], entries["list"], entries["key"], entries["until"] = [1, 2, 3], [1, 2, 3], [7, 9, DE], 10
    lists = Lists.of(1, 1, {each.id: each for each in LISTS_KNOWN.values()}, entries)
    rules = compile_ruleset([(version(expression), "live")], lists=LISTS_KNOWN)
    facts, matrix = batch(**values)
    assert rules.evaluate(facts, matrix, lists.match(facts)).tolist() == [[int(expected)]]
    assert not rules.failures
    later, _ = batch(**values, received_at=10)  # when the entries are over
    assert rules.evaluate(later, matrix, lists.match(later)).tolist() == rules.evaluate(later, matrix).tolist()


LIST_ERRORS = [
    ('customer in list("muls")', 18, "did you mean mules"),
    ('device in list("mules")', 16, "holds a customer each, not a device"),
    ("amount in watch", 1, "before in list"),
    ('terminal in list("mules")', 1, "before in list"),
    ('channel in list("mules")', 1, "before in list"),
    ('amount + 1 in list("mules")', 1, "before in list"),
    ("customer in list(mules)", 13, "the name of a list"),
    ('customer in list("mules", "far")', 13, "the name of a list"),
    ('customer in list(name="mules")', 13, "the name of a list"),
    ('list("mules")', 1, "after in"),
    ('missing(list("mules"))', 9, "after in"),
    ("customer in grey", 13, "brackets"),
    ("watch", 1, "unknown name"),
]


@pytest.mark.parametrize(("expression", "position", "words"), LIST_ERRORS)
def test_an_error_about_a_list_says_where_and_what(expression, position, words):
    with pytest.raises(RuleError) as caught:
        compile_expression(expression, WORDS, LISTS_KNOWN)
    assert words in caught.value.message
    assert caught.value.position == position


ERRORS = [
    ("", 1, "empty"),
    ("amount", 1, "true or false"),
    ("amount >", 9, "cannot be read"),
    ("amount = 5", 8, "write =="),
    ("amont > 5", 1, "did you mean amount"),
    ("amount > 5 and chanel == 'atm'", 16, "did you mean channel"),
    ('channel == "ecomerce"', 12, "did you mean ecommerce"),
    ('channel > "atm"', 1, "=="),
    ("channel == currency", 12, "expected a channel"),
    ('amount > "5"', 10, "expected a number"),
    ("amount > True", 10, "True"),
    ("1 < 2", 1, "two numbers"),
    ("not (1 < 2) or amount > 1", 6, "two numbers"),
    ("device == 5", 1, "missing()"),
    ("amount is 5", 1, "use =="),
    ("amount in 5", 11, "brackets"),
    ("amount in (card_count_10m,)", 12, "only numbers"),
    ("median(amount, 2) > 1", 1, "unknown function"),
    ("min(amount) > 1", 1, "2 to 8"),
    ("missing(amount + 1)", 9, "name of a field"),
    ("amount % 2 == 1", 1, "%"),
    ("amount and tor", 1, "true or false"),
    ("\n\n  amount > 5 and chanel == 'atm'", 20, "channel"),
    ('"é" == channel and chanel == "atm"', 2 - 1, "é"),
]


@pytest.mark.parametrize(("expression", "position", "words"), ERRORS)
def test_an_error_says_where_and_what(expression, position, words):
    with pytest.raises(RuleError, match="at character") as caught:
        compile_expression(expression, WORDS)
    assert words in caught.value.message
    assert caught.value.position == position


HOSTILE = [
    "__import__('os').system('id')",
    "().__class__.__bases__[0].__subclasses__()",
    "amount.__class__ == 1",
    "(lambda: 1)()",
    "[x for x in (1, 2)] == 1",
    "{**{}}",
    "f'{amount}' == channel",
    "(y := 5) > amount",
    "open('x') > 1",
    "eval('1') > amount",
    "amount > 9**9**9",
    "amount > 1 << 99999",
    "'a' * 10**9 == channel",
    "amount > 1e999",
    "amount > 10j",
    "b'a' == channel",
    "... == amount",
    "__builtins__ == amount",
    "_divide(amount, 1) > 1",
    "missing(__builtins__)",
    "max(*amount) > 1",
    "min(amount, key=1) > 1",
    "amount > 1; import os",
    "amount > 1 #\nimport os",
    "await amount",
    "yield",
    "amount > 1 if tor else amount < 2",
    "not " * 60 + "tor",
    "(" * 400 + "amount > 1" + ")" * 400,
    "-" * 900 + "amount > 1",
    "amount > 1 " + "and amount+1>1 " * 65,
    "amount" + "+ amount" * 100 + " > 1",
    "x" * (MAX_LENGTH + 1),
    "amount > 1\0",
    "amount > " + "9" * 990,
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_what_is_not_a_rule_is_refused_with_a_position(expression):
    with pytest.raises(RuleError) as caught:
        compile_expression(expression, WORDS)
    assert 1 <= caught.value.position <= MAX_LENGTH + 1


def test_random_texts_are_refused_or_give_a_plain_mask():
    """Whatever is glued together either compiles to a rule of columns or is refused; nothing else is ever raised."""
    random.seed(5)
    parts = (
        "amount channel tor 1 -2.5 'atm' and or not ( ) < == != in + / missing max , card_count_10m . lambda : [ ] is"
    )
    pieces = [*parts.split(), "device", "**", "abroad"]
    facts, matrix = batch(3, amount_base=[1, 500, 0])
    for _ in range(2500):
        text = " ".join(random.choices(pieces, k=random.randint(1, 9)))
        try:
            compile_expression(text, WORDS)
        except RuleError:
            continue
        rules = ruleset(text)
        assert np.array_equal(rules.evaluate(facts, matrix), alone(rules).evaluate(facts, matrix)), text
        assert set(rules.evaluate(facts, matrix).ravel().tolist()) <= {0, 1}
        assert not rules.failures, text


def test_the_seeded_rules_compile_and_can_hit():
    lists = {each.name: Listing(n, each.name, each.kind, each.subject, 1, False) for n, each in enumerate(LISTS)}
    for rule in RULES:
        assert compile_expression(rule.expression, WORDS, lists).words, rule.code


def test_the_values_a_rule_saw_are_shown_as_people_read_them():
    rules = ruleset('channel == "ecommerce" and amount > 5 and customer_sum_24h > 1 and not abroad and missing(device)')
    facts, matrix = batch(channel=ECOM, amount_base=1234, customer_sum_24h=250)
    seen = rules.seen(rules.rules[0], facts, matrix[0])
    assert seen == {"channel": "ecommerce", "amount": 12.34, "customer_sum_24h": 2.5, "abroad": False, "device": None}
