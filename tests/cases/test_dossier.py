"""What the case page says of alerts: the sentence, the sums, and cases with more alerts than a page holds."""

import pytest

from cases import dossier
from cases.models import CaseAlert
from scoring.models import HoldResolution
from tests.factories import make_alert, make_case, make_explanation, make_queue


@pytest.fixture
def big(db, monkeypatch):
    """A case of seven alerts on pages of three; the worst is the oldest."""
    monkeypatch.setattr("cases.dossier.MOST_ALERTS", 3)
    alerts = [make_alert(f"c-{n}", amount=1000 + n, score=700 + 30 * (n == 0)) for n in range(7)]
    make_explanation(alerts[0])
    return make_case(*alerts, queue=make_queue(grouping="merchant"))


def test_one_alert_is_read_in_full_and_the_others_as_lines(db, django_assert_num_queries):
    worst = make_alert("anna", score=930, document={"card": {"last4": "1234"}})
    make_explanation(worst)
    case = make_case(worst, make_alert("anna", score=810))
    case.queue, case.lane  # noqa: B018  (read before the count)
    with django_assert_num_queries(1):
        alerts, chosen = dossier.opened(case)
        assert [each.alert.score for each in alerts] == [810, 930]
        assert chosen and chosen.alert.score == 930
        assert chosen.document["card"]["last4"] == "1234"
        assert chosen.explained and chosen.factors
        other = alerts[0]
        assert not other.explained and other.document == {}


def test_the_address_may_name_another_alert(db):
    mild = make_alert("anna", score=710)
    case = make_case(make_alert("anna", score=930), mild)
    _, named = dossier.opened(case, mild.pk)
    _, worst = dossier.opened(case, 10**12)
    assert named and named.alert == mild
    assert worst and worst.alert.score == 930


def test_the_worst_is_found_beyond_the_page(big):
    alerts, chosen = dossier.opened(big)
    assert len(alerts) == 3
    assert chosen and chosen.alert.score == 730
    assert chosen.explained


def test_sums_cover_all_alerts_of_a_big_case(big):
    held = CaseAlert.objects.filter(case=big).order_by("pk").first()
    HoldResolution.objects.create(
        transaction_id=held.pk, lane=big.lane_id, resolution="blocked", source="case", by="Ines"
    )
    alerts, _ = dossier.opened(big)
    parts = dossier.sums(alerts, dossier.beyond(big, alerts))
    assert sum(part.n for part in parts) == 7
    assert [(each["word"], each["text"]) for each in dossier.money(parts)] == [
        ("held", "60.21 EUR"),
        ("blocked", "10.00 EUR"),
    ]
    assert dossier.at_risk(big, parts) == "70.21 EUR"


def test_consequences_count_the_alerts_beyond_the_page(big):
    alerts, _ = dossier.opened(big)
    others = dossier.beyond(big, alerts)
    said = [line["text"] for line in dossier.consequences(alerts, "confirmed_fraud", {}, others)]
    assert said == ["Blocks 7 held payments of 70.21 EUR.", "Labels 7 payments as fraud; the next training sees them."]
    script = dossier.for_script(alerts, others)
    assert sum(each["n"] for each in script["payments"]) == 7


def test_older_alerts_come_by_seq_without_gap_or_double(big):
    first = dossier.flagged(big)
    second = dossier.flagged(big, first[-1].alert.seq)
    third = dossier.flagged(big, second[-1].alert.seq)
    found = [each.alert.pk for each in (*first, *second, *third)]
    assert len(found) == len(set(found)) == 7


@pytest.mark.parametrize(
    ("codes", "pattern"),
    [
        ({"NEW_DEVICE", "NEW_PAYEE", "VELOCITY"}, "account takeover"),
        ({"REMOTE_ACCESS"}, "a remote-access scam"),
        ({"IMPOSSIBLE_TRAVEL", "VELOCITY"}, "a stolen or copied card"),
        ({"UNUSUAL_TIME"}, ""),
    ],
)
def test_the_answer_says_what_it_looks_like(codes, pattern):
    assert dossier.looks_like(codes) == pattern


def test_the_answer_comes_in_one_sentence_with_its_numbers(db):
    reasons = [
        {"code": "IMPOSSIBLE_TRAVEL", "text": "1,685 km from the last place", "source": "model", "contribution": 1.0},
        {"code": "VELOCITY", "text": "7 payments in 10 min; usual 0–1", "source": "model", "contribution": 0.5},
    ]
    case = make_case(make_alert("anna", reasons=reasons))
    _, chosen = dossier.opened(case)
    assert chosen is not None
    short = dossier.in_short(chosen)
    assert short["line"] == (
        "Looks like a stolen or copied card: 1,685 km from the last place. 7 payments in 10 min; usual 0–1."
    )
