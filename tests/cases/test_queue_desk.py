"""The queue page: its rows and columns, what it costs, its pieces, and the way to the next case."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cases.models import Approval, Case, CaseEvent, Exclusion, Sighting
from cases.services import claim_next
from tests.factories import (
    LEAD,
    READ,
    WORK,
    make_alert,
    make_case,
    make_explanation,
    make_queue,
    make_transaction,
    make_user,
)
from transactions.codes import entity_key

QUEUE = "/desk/queue/"
PIECE = {"headers": {"X-Requested-With": "desk"}}


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def queue(owner):
    return make_queue(owner)


def page(response) -> str:
    return response.content.decode()


def numbers(text: str) -> list[str]:
    return re.findall(r'data-case="(C-\d+)"', text)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_order_is_the_same_after_a_reload_even_among_equals(as_user, owner, queue):
    due = timezone.now() + timedelta(hours=1)
    cases = [make_case(make_alert(f"c-{n}"), queue=queue, priority=2, due_at=due, score=700) for n in range(9)]
    first, second = (numbers(page(as_user(owner).get(QUEUE))) for _ in range(2))
    assert first == second == [case.number for case in cases]


def test_due_is_said_in_words(as_user, owner, queue):
    now = timezone.now()
    make_case(make_alert("a"), queue=queue, priority=1, due_at=now - timedelta(minutes=35, seconds=5))
    make_case(make_alert("b"), queue=queue, priority=2, due_at=now + timedelta(hours=2, seconds=5))
    text = page(as_user(owner).get(QUEUE))
    assert "late 35 min" in text
    assert "2 h 00 left" in text


def test_a_queue_by_merchant_names_the_merchant(as_user, owner):
    queue = make_queue(owner, name="Merchants", grouping="merchant")
    document = {"merchant": {"id": "m-1", "name": "Kaufhof Nord"}}
    make_case(make_alert("a", merchant="m-1", document=document), queue=queue)
    text = page(as_user(owner).get(QUEUE))
    assert re.search(r'class="c-ent"><span title="Kaufhof Nord">', text)
    assert "Concerns" in text


def test_somebody_who_only_reads_has_nothing_to_select(as_user, queue):
    make_case(queue=queue)
    queue.members.add(reader := make_user("reader", *READ))
    text = page(as_user(reader).get(QUEUE))
    assert numbers(text)
    assert "c-sel" not in text
    assert "bulk-bar" not in text
    assert 'data-testid="next-case"' not in text


def test_the_queue_is_small_and_asks_little(as_user, owner, queue, django_assert_max_num_queries):
    for number in range(60):
        document = {"merchant": {"id": f"m-{number}", "name": "A merchant of some length"}}
        make_case(make_alert(f"customer-{number}", document=document), queue=queue, tags=["mule"], assignee=owner)
    client = as_user(owner)
    client.get(QUEUE)
    with django_assert_max_num_queries(12):
        response = client.get(QUEUE)
    assert len(response.content) < 150_000
    assert page(response).count("<tr data-case") == 50


def test_no_statement_of_the_queue_counts_a_whole_table(as_user, owner, queue):
    make_case(queue=queue)
    client = as_user(owner)
    with CaptureQueriesContext(connection) as told:
        client.get(QUEUE)
        client.get(QUEUE + "counts/")
    counting = [each["sql"] for each in told if "COUNT(" in each["sql"]]
    assert all("LIMIT" in sql for sql in counting), counting


def test_a_script_gets_the_rows_alone(as_user, owner, queue):
    case = make_case(queue=queue)
    text = page(as_user(owner).get(QUEUE, **PIECE))
    assert numbers(text) == [case.number]
    assert "queue-follow" in text
    assert "<html" not in text


def test_a_search_is_recorded_without_its_words(as_user, owner, queue):
    as_user(owner).get(QUEUE + "?q=anna-0001")
    seen = Sighting.objects.get(act="searched")
    assert seen.actor == owner
    assert "anna-0001" not in str(seen.data)


# --- preview ----------------------------------------------------------------------------------------------------------


def test_the_preview_says_why_with_what_and_the_last_payments(as_user, owner, queue):
    for number in range(6):
        make_transaction("anna", amount=1000 + number)
    document = {"merchant": {"id": "m-1", "name": "Kaufhof Nord"}, "device": {"id": "device-77"}}
    alert = make_alert("anna", amount=90_000, merchant="m-1", device="device-77", document=document)
    make_explanation(alert)
    case = make_case(alert, queue=queue)
    response = as_user(owner).get(f"{QUEUE}preview/{case.pk}/", **PIECE)
    text = page(response)
    for part in ("900.00 EUR", "Kaufhof Nord", "Why flagged", "7 payments in 10 min", "data-assign-me"):
        assert part in text, part
    assert text.split('data-testid="preview-payments"')[1].split("</ul>")[0].count("<li") == 5
    case.refresh_from_db()
    assert case.status == "new"
    assert Sighting.objects.filter(act="case_viewed", case=case, actor=owner).exists()


def test_the_preview_of_a_case_one_may_not_read_does_not_exist(as_user, queue):
    case = make_case(queue=queue)
    stranger = make_user("stranger", *WORK)
    assert as_user(stranger).get(f"{QUEUE}preview/{case.pk}/", **PIECE).status_code == 404
    assert as_user(stranger).post(f"{QUEUE}assign/{case.pk}/", **PIECE).status_code == 404


def test_assigning_to_oneself_gives_back_the_row_and_is_told_once(as_user, owner, queue):
    case = make_case(queue=queue)
    client = as_user(owner)
    for _ in range(2):
        text = page(client.post(f"{QUEUE}assign/{case.pk}/", **PIECE))
        assert numbers(text) == [case.number]
        assert "Ines V." in text
    case.refresh_from_db()
    assert (case.assignee, case.status) == (owner, "new")
    assert CaseEvent.objects.filter(case=case, kind="assigned").count() == 1


# --- next case --------------------------------------------------------------------------------------------------------


def test_next_never_gives_a_case_of_an_excluded_customer(owner, queue):
    lead = make_user("lead", *LEAD)
    kept_from = make_case(make_alert("cousin"), queue=queue, priority=1)
    other = make_case(make_alert("anna"), make_alert("cousin"), queue=queue, priority=1)
    free = make_case(make_alert("ben"), queue=queue, priority=4)
    Exclusion.objects.create(user=owner, customer=entity_key("customer", "cousin"), reason="A cousin.", added_by=lead)
    assert claim_next(owner) == free
    assert claim_next(owner) is None
    queue.members.add(lead)
    assert {claim_next(lead), claim_next(lead)} == {kept_from, other}


def test_next_never_gives_a_case_whose_approval_one_asked_for(owner, queue):
    mate = make_user("mate", *WORK)
    queue.members.add(mate)
    case = make_case(queue=queue)
    Approval.objects.create(
        kind="close", queue=queue, case=case, request={}, maker=owner, expires_at=timezone.now(), answer="rejected"
    )
    assert claim_next(owner) is None
    assert claim_next(mate) == case


def test_next_gives_what_was_handed_to_one_but_nobody_elses(owner, queue):
    mate = make_user("mate", *WORK)
    queue.members.add(mate)
    mine = make_case(make_alert("anna"), queue=queue, assignee=owner)
    make_case(make_alert("ben"), queue=queue, assignee=mate, priority=1)
    assert claim_next(owner) == mine
    assert claim_next(owner) is None


def test_with_nothing_to_claim_the_queue_says_when_the_next_one_wakes(as_user, owner, queue):
    make_case(queue=queue, status="waiting", wake_at=timezone.now() + timedelta(hours=1))
    text = page(as_user(owner).post("/desk/cases/next/", follow=True))
    assert 'data-testid="queue-empty"' in text
    assert "The next case wakes at" in text
    assert Case.objects.get().assignee is None


@pytest.mark.parametrize("script", ["cases/queue.js", "alerts/live-page.js"])
def test_both_banners_are_paced_by_the_one_clock_there_is(script):
    text = Path(finders.find(script)).read_text()
    assert 'from "../desk/pace.js"' in text and "const soon = pace(" in text
    assert "setTimeout(show" not in text and "setTimeout(draw" not in text
