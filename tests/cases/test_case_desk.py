"""The case page: rules evaluated, versions that fired, presence, sightings, big cases, late labels."""

import re

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from cases import presence, services
from cases.models import Case, CaseEvent, Sighting
from scoring.models import List, ListEntry, ReasonCode, Release, Rule, RuleVersion
from tests.factories import (
    LEAD,
    READ,
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_explanation,
    make_lane,
    make_queue,
    make_release,
    make_user,
)
from transactions.codes import entity_key


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def mate(db):
    return make_user("mate", *WORK, first_name="Tomas", last_name="K.")


@pytest.fixture
def queue(owner, mate):
    make_close_reason("denies")
    return make_queue(owner, mate)


def url(case, part="") -> str:
    return reverse(f"admin:case_{part}" if part else "admin:case", args=[case.pk])


def text_of(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def make_rule(code, *expressions, lane=None):
    rule = Rule.objects.create(lane=lane or make_lane(), code=code, name=f"Rule {code}")
    reason, _ = ReasonCode.objects.get_or_create(
        code="VELOCITY", defaults={"title": "Many payments", "description": "Many.", "source": "rule"}
    )
    return [
        RuleVersion.objects.create(
            rule=rule,
            number=number,
            expression=expression,
            outcome="review",
            weight=100,
            reason=reason,
            sentence="Says {amount}.",
            created_by="ruta",
        )
        for number, expression in enumerate(expressions, 1)
    ]


@pytest.fixture
def judged(queue):
    """A case whose release had two rules, of which the first hit; that rule was edited since."""
    old, _new = make_rule("R-101", "amount >= 500", "amount >= 900")
    [other] = make_rule("R-102", 'channel == "atm"')
    policy = make_release().policy
    Release.objects.create(
        lane=queue.lane,
        policy=policy,
        kernel_version=1,
        reason="test",
        activated_by="test",
        rules=[{"version": old.pk, "mode": "live"}, {"version": other.pk, "mode": "shadow"}],
    )
    hit = {"rule": "R-101", "version": 1, "mode": "live", "text": "Says 700.", "weight": 100, "outcome": "review"}
    alert = make_alert("anna", rules=[hit | {"expression": "amount >= 500", "values": {"amount": 700}}])
    alert.decision.rule_hits = b"\x01\x00"
    alert.decision.save(update_fields=["rule_hits"])
    return make_case(alert, queue=queue)


# --- why flagged ------------------------------------------------------------------------------------------------------


def test_all_rules_evaluated_are_those_of_the_release_that_judged(as_user, owner, judged):
    client = as_user(owner)
    page = text_of(client.get(url(judged)))
    assert 'data-testid="all-rules"' in page
    assert "1 of 2" in page
    piece = text_of(client.get(url(judged, "rules"), headers={"X-Requested-With": "desk"}))
    assert "<html" not in piece
    rows = re.findall(r"<tr.*?</tr>", piece, re.DOTALL)[1:]
    assert "R-101 v1" in rows[0] and ">hit<" in rows[0] and "live" in rows[0]
    assert "R-102 v1" in rows[1] and "no hit" in rows[1] and "shadow" in rows[1]
    assert "v2" not in piece
    assert "<html" in text_of(client.get(url(judged, "rules")))


def test_the_lists_that_were_asked_are_told_hit_or_not(as_user, owner, queue):
    hit, quiet, empty = (
        List.objects.create(lane=queue.lane, name=name, kind="block", subject="device", created_by="x")
        for name in ("mules", "emulators", "nobody")
    )
    now = timezone.now()
    entries = [
        ListEntry.objects.create(
            list=each, value="••", key=entity_key("device", "d"), valid_from=now, reason="x", author="x", version=1
        )
        for each in (hit, quiet)
    ]
    alert = make_alert("anna", device="d")
    alert.decision.list_hits = entries[0].pk.to_bytes(8, "little")
    alert.decision.save(update_fields=["list_hits"])
    case = make_case(alert, queue=queue)
    piece = text_of(as_user(owner).get(url(case, "rules")))
    assert re.search(r"<b[^>]*>mules</b>", piece)
    assert "No hit: emulators" in piece
    assert empty.name not in piece


def test_a_rule_links_to_the_version_that_fired_after_it_was_edited(as_user, owner, judged):
    client = as_user(owner)
    link = reverse("admin:rule_as_fired", args=["cards", "R-101", 1])
    assert link in text_of(client.get(url(judged)))
    page = text_of(client.get(link))
    assert "amount &gt;= 500" in page
    assert "its newest version is 2" in page
    assert "<form" not in page[page.index("Definition") :].split("</section>")[0]
    assert "older-version" not in text_of(client.get(reverse("admin:rule_as_fired", args=["cards", "R-101", 2])))
    assert client.get(reverse("admin:rule_as_fired", args=["cards", "R-101", 9])).status_code == 404


def test_who_judged_is_told_with_its_versions_and_thresholds(as_user, owner, judged):
    page = text_of(as_user(owner).get(url(judged)))
    foot = page[page.index('data-testid="judged-by"') :].split("</p>")[0]
    for part in (
        "As decided",
        "no model",
        "ruleset release-",
        "policy 1",
        "thresholds 500 / 700 / 900",
        "not degraded",
    ):
        assert part in foot, part


def test_every_rule_hit_of_the_response_is_present_and_lights_its_facts(as_user, owner, judged):
    page = text_of(as_user(owner).get(url(judged)))
    assert "Says 700." in page
    lights = re.findall(r'data-lights="([^"]+)"', page)
    assert lights[0].split() == ["amount"]
    assert 'data-fact="amount"' in page


def test_values_can_be_copied_and_missing_ones_say_so(as_user, owner, queue):
    case = make_case(make_alert("anna-4417", device="device-9f3a11c21"), queue=queue)
    page = text_of(as_user(owner).get(url(case)))
    assert 'aria-label="Copy Device" data-copy="device-9f3a11c21"' in page
    assert 'aria-label="Copy Customer" data-copy="CU ••4417"' in page
    assert "not sent" in page
    assert "first seen" in page


def test_places_are_drawn_where_coordinates_exist(as_user, owner, queue):
    case = make_case(make_alert("anna", lat=51.05, lon=3.72), queue=queue)
    assert 'data-testid="map"' in text_of(as_user(owner).get(url(case)))
    plain = make_case(make_alert("ben"), queue=queue)
    assert 'data-testid="map"' not in text_of(as_user(owner).get(url(plain)))


def test_earlier_cases_stand_beside_with_their_outcome(as_user, owner, queue):
    old = make_case(
        make_alert("anna"), queue=queue, status="closed", disposition="legitimate", closed_at=timezone.now()
    )
    hidden = make_case(make_alert("anna"), queue=make_queue(name="Other"))
    page = text_of(as_user(owner).get(url(make_case(make_alert("anna"), queue=queue))))
    earlier = page[page.index('data-testid="earlier-cases"') :].split("</section>")[0]
    assert old.number in earlier and "Legitimate" in earlier
    assert hidden.number not in earlier and "in a queue that is not yours" in earlier


# --- life -------------------------------------------------------------------------------------------------------------


def test_people_see_who_else_is_looking_and_looking_changes_nothing(as_user, owner, mate, queue):
    case = services.claim(make_case(make_alert("anna"), queue=queue).pk, owner)
    before = Case.objects.values().get()
    presence.look(case.pk, owner)
    client = as_user(mate)
    assert "Ines V. is looking" in text_of(client.get(url(case)))
    told = client.post(url(case, "presence"), {"version": case.version}).json()
    assert [person["name"] for person in told["people"]] == ["Ines V."]
    assert told["changes"] == []
    client.post(url(case, "presence"), {"leave": 1})
    assert presence.look(case.pk, owner) == []
    assert Case.objects.values().get() == before
    assert client.get(url(case, "presence")).status_code == 405


def test_a_page_hears_what_changed_with_both_values(as_user, owner, mate, queue):
    case = make_case(make_alert("anna"), queue=queue)
    seen = case.version
    services.claim(case.pk, owner)
    told = as_user(mate).post(url(case, "presence"), {"version": seen}).json()
    assert told["version"] > seen
    assert {"field": "Status", "yours": "New", "theirs": "In review", "act": "Claimed", "by": "Ines V."} in told[
        "changes"
    ]


def test_strangers_neither_look_nor_read(as_user, queue):
    case = make_case(make_alert("anna"), queue=queue)
    client = as_user(make_user("stranger", *WORK))
    for part in ("timeline", "rules", "alerts"):
        assert client.get(url(case, part)).status_code == 404
    assert client.post(url(case, "presence"), {}).status_code == 404


def test_viewing_a_case_leaves_one_sighting_in_ten_minutes(as_user, owner, queue):
    case = make_case(make_alert("anna"), queue=queue)
    cache.delete(f"looked:{owner.pk}:{case.pk}")
    client = as_user(owner)
    client.get(url(case))
    client.get(url(case))
    assert Sighting.objects.filter(case=case, actor=owner, act="case_viewed").count() == 1


def test_an_auditor_reads_without_being_able_to_act(as_user, queue):
    case = make_case(make_alert("anna"), queue=queue)
    page = text_of(as_user(make_user("auditor", *READ)).get(url(case)))
    assert 'data-testid="reason-list"' in page
    assert 'data-testid="claim"' not in page


def test_a_contradicted_close_says_so_and_a_lead_decides(as_user, owner, queue):
    lead = make_user("lead", *LEAD)
    queue.members.add(lead)
    case = make_case(
        make_alert("anna"),
        queue=queue,
        status="closed",
        disposition="legitimate",
        closed_at=timezone.now(),
        contradicted_at=timezone.now(),
    )
    late = f'href="{reverse("admin:late_labels")}">Deal with it'
    page = text_of(as_user(owner).get(url(case)))
    assert "A lead decides" in page and late not in page
    page = text_of(as_user(lead).get(url(case)))
    assert late in page
    assert 'data-testid="late-label"' in page
    assert "Decide whether to open the case again." in page


# --- incidents --------------------------------------------------------------------------------------------------------


@pytest.fixture
def incident(owner, monkeypatch):
    monkeypatch.setattr("cases.dossier.MOST_ALERTS", 4)
    queue = make_queue(owner, name="Terminals", grouping="merchant")
    alerts = [make_alert(f"customer-{n}", merchant="shop-1", amount=10_000 + n, score=700 + n) for n in range(10)]
    make_explanation(alerts[0])
    return make_case(*alerts, queue=queue)


def test_a_case_of_many_alerts_is_shown_by_pages(as_user, owner, incident):
    client = as_user(owner)
    page = text_of(client.get(url(incident)))
    assert "1,000.45 EUR" in page  # all ten, though the page names four
    found = re.findall(r'data-resolution="(\d+)"', page)
    for _ in range(5):
        more = re.search(r'href="([^"]+/alerts/\?before=\d+)"', page)
        if not more:
            break
        page = text_of(client.get(more[1], headers={"X-Requested-With": "desk"}))
        found += re.findall(r'data-resolution="(\d+)"', page)
    assert len(found) == len(set(found)) == 10


def test_a_big_case_asks_no_more_than_a_small_one(as_user, owner, incident, django_assert_max_num_queries):
    client = as_user(owner)
    client.get(url(incident))
    with django_assert_max_num_queries(12):
        client.get(url(incident))


def test_a_stale_act_shows_the_pages_value_beside_the_new_one(as_user, owner, queue):
    case = services.claim(make_case(make_alert("anna"), queue=queue).pk, owner)
    version = case.version
    CaseEvent.objects.create(
        case=case, kind="priority_set", before="3", after="1", actor=owner, data={"version": version + 1}
    )
    Case.objects.filter(pk=case.pk).update(version=version + 1)
    form = {"version": version, "minutes": "60", "note": "Calls back."}
    response = as_user(owner).post(reverse("admin:case_act", args=[case.pk, "wait"]), form)
    page = response.content.decode()
    assert response.status_code == 409
    assert "Priority: yours 3, theirs 1 (Priority set by Ines V." in page
