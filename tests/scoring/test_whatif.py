"""The effect of thresholds equals a plain count over the rows."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from scoring import releases, whatif
from scoring.models import Decision, LaneCursor, LaneLog, Rule
from tests.factories import make_decision, make_transaction
from tests.scoring.standing import standing
from transactions.codes import CHANNEL, OUTCOME
from transactions.models import Label, Transaction

pytestmark = pytest.mark.django_db
NOW = {
    "default": {"challenge": 500, "review": 700, "decline": 900},
    "atm": {"challenge": 300, "review": 400, "decline": 990},
}
PROPOSED = {"default": {"challenge": 450, "review": 800, "decline": 850}}
TOKEN = UUID(int=7)
CODE = {"approve": 1, "challenge": 2, "review": 3, "decline": 4}


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()


def make_label(payment: Transaction, verdict: str, source: str = "investigator", *, known_at=None) -> Label:
    now = known_at or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('label_id_seq')")
        (number,) = cursor.fetchone()
    return Label.objects.create(
        id=number,
        lane=payment.lane,
        transaction=payment,
        verdict=verdict,
        source=source,
        happened_at=now,
        known_at=now,
        recorded_at=now,
    )


@pytest.fixture
def decisions(lane):
    """120 decisions over 12 days, some hit by a live and a shadow rule, a third labelled."""
    random.seed(3)
    release = standing(lane)
    modes = [entry["mode"] for entry in release.rules]
    live, shadow = modes.index("live"), modes.index("shadow")
    made = []
    for number in range(120):
        at = timezone.now() - timedelta(hours=number * 2.4)
        payment = make_transaction(
            f"c{number % 7}",
            channel=random.choice(["ecommerce", "atm", "mobile_app"]),
            amount=random.randint(100, 90_000),
            occurred_at=at,
            received_at=at,
        )
        hits = bytearray(len(modes))
        hits[live], hits[shadow] = number % 11 == 0, number % 5 == 0
        score = -1 if number % 29 == 0 else random.randint(0, 1000)
        made.append(make_decision(payment, outcome="approve", score=score, release=release, rule_hits=bytes(hits)))
        if number % 3 == 0:
            make_label(payment, random.choice(["fraud", "legitimate"]))
    return made


def counted(decisions, thresholds, floor: str) -> dict:
    """The same measures, straight from the rows."""
    labels = {label.transaction_id: label.verdict for label in Label.objects.order_by("id")}
    found = dict.fromkeys(whatif.COUNTS, 0)
    for each in decisions:
        payment, verdict = each.transaction, labels.get(each.transaction_id)
        steps = thresholds.get(payment.channel, thresholds["default"])
        outcome = max([1] + [CODE[name] for name in ("challenge", "review", "decline") if each.score >= steps[name]])
        outcome = max(outcome, CODE[floor] if each.hit else 1)
        found["payments"] += 1
        for name, code in (("challenged", 2), ("reviewed", 3), ("declined", 4)):
            found[name] += outcome == code
        if verdict == "fraud":
            found["fraud"] += 1
            found["fraud_value"] += payment.amount_base
            found["caught"] += outcome > 1
            found["caught_value"] += payment.amount_base if outcome > 1 else 0
        if verdict == "legitimate" and outcome > 1:
            found["false_positives"] += 1
            found["false_positive_value"] += payment.amount_base
            found["wrongly_declined"] += outcome == 4
    return found


@pytest.mark.parametrize("thresholds", [NOW, PROPOSED])
def test_the_measures_equal_a_plain_count_over_the_rows(lane, decisions, thresholds):
    release = standing(lane)
    live = [entry["mode"] for entry in release.rules].index("live")
    rows = list(Decision.objects.select_related("transaction"))
    for row in rows:
        row.hit = bytes(row.rule_hits)[live]
    floor = releases.rule_modes(release)[live][0].outcome
    found = whatif.histogram(lane)
    measured = whatif.measure(found, thresholds)
    expected = counted(rows, thresholds, floor)
    assert {name: measured[name] for name in expected} == expected
    assert found["days"] == pytest.approx(11.9, abs=0.01)
    assert measured["alerts_a_day"] == round(measured["alerts"] / found["days"], 6)
    assert measured["precision"] == expected["caught"] / (expected["caught"] + expected["false_positives"])
    assert measured["recall"] == expected["caught"] / expected["fraud"]
    parts = whatif.by_channel(found, thresholds)
    assert sum(part["caught_value"] for part in parts.values()) == expected["caught_value"]
    assert sum(part["payments"] for part in parts.values()) == 120


def test_the_label_of_the_highest_rank_counts_whenever_it_came(lane):
    payment = make_transaction(amount=5000)
    make_decision(payment, score=950, outcome="decline", release=standing(lane), rule_hits=bytes(15))
    make_label(payment, "fraud", "chargeback", known_at=timezone.now() - timedelta(days=2))
    make_label(payment, "legitimate", "customer")
    assert whatif.measure(whatif.histogram(lane), NOW)["caught_value"] == 5000
    make_label(payment, "withdrawn", "chargeback")
    cache.clear()
    assert whatif.measure(whatif.histogram(lane), NOW)["fraud"] == 0


def test_old_decisions_and_payments_only_recorded_do_not_count(lane):
    release = standing(lane)
    old = timezone.now() - timedelta(days=31)
    make_decision(make_transaction(occurred_at=old, received_at=old), release=release, rule_hits=bytes(15))
    make_decision(make_transaction(stage="clearing"), outcome="recorded", score=-1, release=release, rule_hits=b"")
    assert whatif.histogram(lane)["payments"] == 0
    assert whatif.measure(whatif.histogram(lane), NOW)["precision"] is None


def test_a_rule_counts_as_it_is_live_now(lane):
    release = standing(lane)
    hits = bytes([1] + [0] * (len(release.rules) - 1))
    make_decision(make_transaction(), score=10, outcome="decline", release=release, rule_hits=hits)
    assert whatif.measure(whatif.histogram(lane), NOW)["declined"] == 1
    version = Rule.objects.get(lane=lane, code="R-101").versions.get()
    releases.activate(lane, rules=releases.with_rule(release.rules, version, "shadow"), by="test", reason="Quiet")
    assert whatif.measure(whatif.histogram(lane), NOW)["declined"] == 0


def test_hits_of_rules_are_counted_by_version_with_their_labels(lane):
    release = standing(lane)
    first, second = (entry["version"] for entry in release.rules[:2])
    hits = bytes([1, 1] + [0] * (len(release.rules) - 2))
    payment = make_transaction()
    make_decision(payment, release=release, rule_hits=hits)
    make_label(payment, "fraud")
    days_ago = timezone.now() - timedelta(days=3)
    older = make_transaction(occurred_at=days_ago, received_at=days_ago)
    make_decision(older, release=release, rule_hits=bytes([1]) + bytes(len(release.rules) - 1))
    found = whatif.rule_hits(lane)
    assert found[first] == {"day": 1, "week": 2, "fraud": 1, "legitimate": 0}
    assert found[second] == {"day": 1, "week": 1, "fraud": 1, "legitimate": 0}


def test_codes_of_outcomes_rise_with_severity():
    assert [OUTCOME.code(name) for name in CODE] == list(CODE.values())
    assert all(name in CHANNEL for name in ("ecommerce", "atm"))


def test_only_the_newest_judged_by_the_lane_itself_are_looked_at(lane, monkeypatch):
    payments = [make_transaction() for _ in range(3)]
    for seq, payment in enumerate(payments, 1):
        make_decision(payment, score=10, release=standing(lane), rule_hits=bytes(15))
        LaneLog.objects.create(lane=lane.pk, seq=seq, epoch=0, token=TOKEN, kind=1, transaction_id=payment.pk)
    LaneCursor.objects.create(lane=lane, seq=3, token=TOKEN)
    assert whatif.histogram(lane)["payments"] == 3
    monkeypatch.setattr(whatif, "NEWEST", 2)
    cache.clear()
    assert whatif.histogram(lane)["payments"] == 2
