"""What the demo's people say and attach is what the desk accepts, and their days have an order."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from cases import tags
from cases.listing import Address
from cases.mentions import names_in
from cases.notes import refuse_card_numbers
from cases.seeds import REASONS
from cases.sniffing import kind_of
from fraudsite.demo_desk import days, files, house, team, words
from fraudsite.roles import PEOPLE, seed_groups, seed_people
from tests.factories import make_lane
from transactions.codes import FRAUD_TYPE
from transactions.simulator import FRAUD_TYPE as SIMULATED

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_every_sort_of_fraud_has_its_words():
    kinds = set(SIMULATED.values())
    assert kinds == set(words.FRAUD) <= set(FRAUD_TYPE.codes)
    assert kinds | {""} == set(words.TAGS)


@pytest.mark.parametrize("truth", [{}, {1: ""}, *({1: kind, 2: ""} for kind in words.FRAUD)])
def test_every_verdict_has_a_reason_that_fits_it(truth: dict[int, str]):
    fitting = {(code, str(word)) for code, _, dispositions in REASONS for word in dispositions}
    for n in range(200):
        said = words.verdict(truth, Random(n))
        assert (said["close_reason"], said["disposition"]) in fitting
        assert len(said["rationale"]) > 10
        assert "fraud" not in said["disposition"] or said["fraud_type"] in words.FRAUD
        assert set(said.get("verdicts", {})) <= {alert for alert, kind in truth.items() if not kind}


def test_who_makes_no_mistake_says_what_was_so():
    assert words.certain({1: "", 2: "mule"}, Random(1))["disposition"] == "confirmed_fraud"
    assert words.certain({1: ""}, Random(1))["disposition"] == "legitimate"


def test_all_six_dispositions_are_found():
    found = {words.verdict({1: kind}, Random(n))["disposition"] for n in range(300) for kind in ("", "mule")}
    assert len(found) == 6


def test_no_text_looks_like_a_card_number_and_every_tag_is_one():
    texts = [words.NOTES, words.ESCALATIONS, words.LEADS, words.RELEASES, words.INCIDENT, words.LATE, words.REOPENS]
    for text in [*(text for some in texts for text in some), *(text for _, text in words.GENUINE)]:
        refuse_card_numbers(text)
    assert all(tags.tags_in(word) == [word] for some in words.TAGS.values() for word in some)
    assert all(names_in(text.format(name="petra")) == ["petra"] for text in words.MENTIONS)


def test_every_view_is_one_that_the_queue_understands():
    for _, _, filters, _ in words.VIEWS:
        assert all(getattr(Address.read(filters), name) == value for name, value in filters.items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("call.txt", files.call_log(NOON, "Amara Osei", Random(1))),
        ("receipt.png", files.receipt(Random(1))),
        ("payments.csv", files.payments([("2026-03-02 12:00", 4990, "EUR", "T000123")])),
    ],
)
def test_the_files_are_what_their_names_say(name: str, content: bytes):
    assert kind_of(io.BytesIO(content), name) == name.rpartition(".")[2]
    assert len(content) < 40_000


def test_alerts_within_an_hour_get_their_cases_together():
    alerts = [(NOON + timedelta(minutes=each), each) for each in (0, 20, 59, 61, 70, 400)]
    assert list(days.batches(alerts)) == [alerts[:3], alerts[3:5], alerts[5:]]
    assert list(days.batches([])) == []


@pytest.fixture
def people(db: None) -> Any:
    """The demo's people with their colleagues."""
    seed_groups()
    seed_people(dict.fromkeys(PEOPLE, "a password of the tests"))
    return team.seed(make_lane())


def test_colleagues_work_but_cannot_sign_in(people: team.Team):
    assert len(people.investigators) == 4 and len(people.analysts) == 1 and len(people.leads) == 2
    jonas = people.named("jonas")
    assert not jonas.has_usable_password()
    assert jonas.has_perm("cases.close_case") and not people.named("noor").has_perm("cases.close_case")
    assert jonas.queues.count() == 3 and people.named("petra").queues.count() == 4
    assert team.seed(make_lane()) == people


def test_somebody_is_on_duty_at_any_hour_and_nobody_checks_themselves(people: team.Team):
    rng = Random(1)
    there = {people.on_duty(NOON.replace(hour=hour), rng).username for hour in range(24) for _ in range(9)}
    assert there == {"investigator", "investigator2", "amara", "jonas"}
    lead, petra = people.leads
    assert people.lead(rng, but=[lead]) == petra and people.lead(rng, but=[lead, petra]) is None


def test_nobody_works_where_nobody_can_sign_in(db: None):
    assert team.seed(make_lane()) is None


def test_what_the_team_keeps_is_kept_once(people: team.Team):
    lane = make_lane()
    for _ in range(2):
        house.keep(lane, people)
    assert house.is_kept()
    assert people.named("jonas").absences.count() == 1 and people.named("lead").saved_views.count() == 2
