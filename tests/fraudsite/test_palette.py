"""The command palette's search: what is found by which text, by whom, and within which bounds."""

import time

import pytest
from django.db import OperationalError
from django.urls import reverse

from cases.models import CaseCard, Sighting
from fraudsite import palette
from tests.factories import make_alert, make_case, make_queue, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ines(client):
    user = make_user("ines", "cases.view_case", "cases.work_case")
    make_queue(user)
    client.force_login(user)
    return user


def labels(client, text: str) -> list[str]:
    return [entry["label"] for entry in client.get(reverse("admin:find"), {"q": text}).json()["found"]]


@pytest.mark.parametrize("spelling", ["{}", "C-{}", "c{}", "c-{}"])
def test_a_case_is_found_by_its_number_however_it_is_spelt(client, ines, spelling):
    case = make_case()
    assert labels(client, spelling.format(case.pk))[0].startswith(case.number)


def test_a_customer_is_found_by_reference_with_their_cases(client, ines):
    case = make_case(customer="cust-004417")
    found = client.get(reverse("admin:find"), {"q": "cust-004417"}).json()["found"]
    assert found[0]["label"] == "Customer CU ••4417" and "/entities/customer/" in found[0]["url"]
    assert found[1]["url"] == reverse("admin:case", args=[case.pk])
    assert "cust-004417" not in str(found), "what is shown is masked"


def test_a_card_is_found_by_its_last_digits(client, ines):
    case = make_case()
    CaseCard.objects.create(row=case.case_alerts.get(), last4="4417")
    assert labels(client, "4417")[0].startswith(case.number)


def test_what_a_person_may_not_see_they_do_not_find(client, ines):
    elsewhere = make_case(make_alert("cust-000999"), queue=make_queue(name="Elsewhere"))
    assert labels(client, str(elsewhere.pk)) == []
    client.force_login(make_user("platform"))
    assert labels(client, "cust-000999") == []


def test_nothing_is_looked_for_without_a_text_or_with_a_strange_one(client, ines):
    for text in ("", "   ", "\x00", "x" * 500, "9" * 30, "%_'\"--"):
        assert labels(client, text) == []


def test_each_way_finds_a_bounded_number_of_cases(client, ines):
    from cases.models import Case

    first = make_case(customer="cust-004417")
    for _ in range(palette.MOST + 2):
        Case.objects.filter(pk=first.pk).update(status="closed", disposition="legitimate", closed_at=first.opened_at)
        first = make_case(customer="cust-004417")
    assert len(labels(client, "cust-004417")) == palette.MOST + 1


def test_a_search_that_takes_too_long_is_given_up_and_says_so(client, ines, monkeypatch):
    def slow(user, text):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(20)")

    monkeypatch.setattr(palette, "PROVIDERS", (slow,))
    began = time.monotonic()
    answer = client.get(reverse("admin:find"), {"q": "anything"})
    assert (answer.status_code, answer.json()) == (503, {"found": [], "late": True})
    assert time.monotonic() - began < 10
    with pytest.raises(OperationalError):
        palette.found(ines, "anything")


def test_who_found_what_kind_of_thing_is_written_down(client, ines):
    make_case(customer="cust-004417")
    labels(client, "cust-004417")
    labels(client, "nothing-like-it")
    seen = Sighting.objects.get(act="searched")
    assert (seen.actor, seen.data["kind"], seen.data["found"]) == (ines, "reference", 2)


def test_a_search_costs_few_queries(client, ines, django_assert_max_num_queries):
    make_case(customer="cust-004417")
    with django_assert_max_num_queries(16):
        palette.found(ines, "cust-004417")
