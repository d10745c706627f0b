"""The investigator's pages: who may see what, what a refusal leaves, and what a page costs."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.models import Case, CaseEvent, Note
from scoring.models import Decision, HoldResolution
from tests.factories import (
    LEAD,
    READ,
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_explanation,
    make_queue,
    make_transaction,
    make_user,
)
from transactions.models import Label

WHY = "Customer denies the payment on the phone."
QUEUE = "/desk/queue/"


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def mate(db):
    return make_user("mate", *WORK, first_name="Tomas", last_name="K.")


@pytest.fixture
def stranger(db):
    return make_user("stranger", *WORK)


@pytest.fixture
def queue(owner, mate):
    make_close_reason("denies")
    return make_queue(owner, mate)


@pytest.fixture
def case(queue, owner):
    """A case of two alerts in the owner's hands."""
    worst = make_alert(
        "cust-4417",
        score=930,
        outcome="decline",
        amount=497_000,
        card="card-token-1",
        device="device-9f3a11c21",
        document={"card": {"last4": "1234"}, "merchant": {"name": "Kaufhof Nord"}, "device": {"ip": "185.220.101.14"}},
    )
    make_explanation(worst)
    held = make_alert("cust-4417", score=810, amount=499_000)
    return services.claim(make_case(worst, held, queue=queue).pk, owner)


def url(case, act=""):
    return reverse("admin:case_act", args=[case.pk, act]) if act else reverse("admin:case", args=[case.pk])


def page(response) -> str:
    return response.content.decode()


def form(case, **changes):
    return {
        "version": case.version,
        "disposition": "confirmed_fraud",
        "fraud_type": "account_takeover",
        "close_reason": "denies",
        "rationale": WHY,
    } | changes


# --- queue ------------------------------------------------------------------------------------------------------------


def test_the_queue_shows_most_urgent_first_with_exact_decimals(as_user, owner, queue):
    now = timezone.now()
    make_case(
        make_alert("yen", currency="JPY", amount=1_280_000, score=700),
        queue=queue,
        priority=3,
        due_at=now + timedelta(hours=9),
    )
    make_case(
        make_alert("dinar", currency="KWD", amount=2_750_125, score=700),
        queue=queue,
        priority=1,
        due_at=now + timedelta(hours=1, minutes=30),
    )
    make_case(make_alert("euro", amount=41_235, score=960), queue=queue, priority=1, due_at=now - timedelta(minutes=11))
    text = page(as_user(owner).get(QUEUE))
    rows = re.findall(r"<tr data-case=.*?</tr>", text, re.DOTALL)
    amounts = [re.findall(r'<data value="([^"]+)">([^<]+)', row)[0] for row in rows]
    assert amounts == [
        ("412.35", "412.35"),
        ("2750.125", "2,750.125"),
        ("1280000", "1,280,000"),
    ]
    assert "late 11 min" in rows[0]
    assert "1 h 29 left" in rows[1]
    assert text == page(as_user(owner).get(QUEUE)) or rows == re.findall(
        r"<tr data-case=.*?</tr>", page(as_user(owner).get(QUEUE)), re.DOTALL
    )


def test_sorting_stands_in_the_address_and_on_the_header(as_user, owner, queue):
    for customer, score in (("anna", 700), ("ben", 900)):
        make_case(make_alert(customer, score=score), queue=queue)
    text = page(as_user(owner).get(QUEUE))
    assert re.search(r'c-pri" aria-sort="ascending"', text)
    assert re.search(r'c-score" aria-sort="none"><a href="\?sort=-score"', text)
    text = page(as_user(owner).get(QUEUE + "?sort=-score"))
    assert re.search(r'c-score" aria-sort="descending"><a href="\?sort=score"', text)
    assert [int(score) for score in re.findall(r"<b>(\d+)</b>", text)] == [900, 700]


@pytest.mark.parametrize("sort", ["", "-priority", "score", "-amount", "customer", "age", "-due", "-case", "alerts"])
def test_pages_by_keyset_show_every_case_once(as_user, owner, queue, sort, monkeypatch):
    monkeypatch.setattr("cases.listing.PAGE", 3)
    alert = make_alert("anna")
    cases = [
        Case(
            lane=queue.lane,
            queue=queue,
            grouping_key=n,
            customer=n,
            customer_ref=f"c{n % 2}",
            top_reason="x",
            amount=1,
            amount_base=n % 3,
            score=n % 2,
            priority=n % 2 + 1,
            due_at=alert.raised_at + timedelta(minutes=n % 3),
        )
        for n in range(8)
    ]
    Case.objects.bulk_create(cases)
    client, seen, address = as_user(owner), [], f"?sort={sort}"
    for _ in range(4):
        text = page(client.get(QUEUE + address))
        seen += re.findall(r'data-case="(C-\d+)"', text)
        more = re.search(r'href="([^"]+)" rel="next"', text)
        if not more:
            break
        address = more[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 8


def test_filters_and_search_find_cases(as_user, owner, queue):
    payment = make_transaction("anna-0001", external_id="order-77", card="tok-9", document={"card": {"last4": "4242"}})
    case = make_case(make_alert(payment=payment), queue=queue)
    make_case(make_alert("ben-0002"), queue=queue, assignee=owner, status="in_review")
    client = as_user(owner)

    def found(query):
        return set(re.findall(r'data-case="(C-\d+)"', page(client.get(QUEUE + query))))

    assert (
        found("?q=anna-0001")
        == found("?q=4242")
        == found(f"?q={payment.pk}")
        == found("?assignee=none")
        == {case.number}
    )
    assert len(found("?assignee=me")) == len(found("?status=in_review")) == 1
    assert found("?status=closed") == found("?q=nobody") == found("?due=late") == set()
    assert len(found(f"?queue={queue.slug}&sort=nonsense&after=nonsense")) in (0, 2)
    assert client.get(QUEUE + f"?q={case.number}").url == url(case)


def test_a_search_finds_the_banks_own_id(as_user, owner, queue):
    from transactions.models import TransactionKey

    payment = make_transaction("anna", external_id="order-77")
    TransactionKey.objects.create(
        id=payment.pk, lane=payment.lane, client=payment.client, external_id="order-77", body_hash=b"0" * 16
    )
    case = make_case(make_alert(payment=payment), queue=queue)
    assert f'data-case="{case.number}"' in page(as_user(owner).get(QUEUE + "?q=order-77"))


def test_an_empty_queue_says_when_the_next_case_wakes(as_user, owner, queue):
    assert "comes with the next alert" in page(as_user(owner).get(QUEUE))
    make_case(queue=queue, status="waiting", wake_at=timezone.now() + timedelta(hours=1))
    text = page(as_user(owner).post("/desk/cases/next/", follow=True))
    assert 'data-testid="queue-empty"' in text
    assert "The next case wakes at" in text


def test_next_case_claims_and_opens_it(as_user, owner, queue):
    case = make_case(queue=queue)
    response = as_user(owner).post("/desk/cases/next/")
    assert response.url == url(case)
    assert Case.objects.get().assignee == owner
    assert as_user(owner).get("/desk/cases/next/").url == QUEUE


def test_an_alert_leads_to_its_case_or_says_that_it_is_on_its_way(as_user, owner, queue):
    alert = make_alert("anna")
    client = as_user(owner)
    assert "being opened" in page(client.get(f"/desk/cases/by-alert/{alert.pk}/"))
    case = make_case(alert, queue=queue)
    assert client.get(f"/desk/cases/by-alert/{alert.pk}/").url == url(case)
    assert client.get(f"/desk/cases/by-alert/{alert.pk + 1}/").status_code == 404


def test_the_queue_is_small_and_asks_little(as_user, owner, queue, django_assert_max_num_queries):
    for number in range(60):
        make_case(make_alert(f"customer-{number}"), queue=queue)
    client = as_user(owner)
    client.get(QUEUE)
    with django_assert_max_num_queries(12):
        response = client.get(QUEUE)
    assert len(response.content) < 150_000
    assert page(response).count("<tr data-case") == 50


# --- case -------------------------------------------------------------------------------------------------------------


def test_the_case_page_tells_why_with_what_and_what_can_be_done(as_user, owner, case):
    text = page(as_user(owner).get(url(case)))
    for part in (
        "close-open",
        "disposition-confirmed_fraud",
        "disposition-duplicate",
        "fraud-type",
        "close-reason",
        "rationale",
        "close-submit",
        "note-text",
        "note-submit",
        "lease",
        "case-status",
        "reason-list",
        "timeline",
    ):
        assert f'data-testid="{part}"' in text, part
    assert "R-101 v2" in text
    assert "card count 10m 7" in text
    assert "policy 1" in text
    assert "card_count_10m is 7" in text
    assert "9,960.00 EUR" in text  # at risk: both alerts
    assert "Blocks 1 held payment of 4,990.00 EUR." in text
    assert "Labels 2 payments as fraud; the next training sees them." in text
    assert "Other alerts of this case" in text


def test_identifiers_are_masked_and_missing_values_say_so(as_user, owner, case):
    text = page(as_user(owner).get(url(case)))
    assert "•••• 1234" in text
    assert "185.220.101.0/24" in text
    assert "CU ••4417" in text
    assert "not sent" in text
    for hidden in ("cust-4417", "card-token-1", "185.220.101.14"):
        assert hidden not in text, hidden


def test_the_page_shows_the_rule_version_that_fired(as_user, owner, queue):
    rules = [
        {
            "rule": "R-7",
            "version": 3,
            "mode": "live",
            "text": "Old text",
            "values": {"amount": 12.5},
            "weight": 120,
            "outcome": "review",
        },
        {"rule": "R-8", "version": 1, "mode": "shadow", "text": "Shadow text", "values": {}},
    ]
    text = page(as_user(owner).get(url(make_case(make_alert("anna", rules=rules), queue=queue))))
    assert "R-7 v3" in text
    assert "amount 12.5" in text
    assert "sets review" in text
    assert "shadow, not counted in the outcome" in text


def test_the_timeline_tells_payments_labels_notes_and_earlier_cases(as_user, owner, mate, case):
    services.add_note(case.pk, "Called the number on file.", by=owner)
    services.close_case(case.pk, "legitimate", by=owner, close_reason="denies", rationale=WHY)
    make_alert("cust-4417")
    services.open_cases()
    text = page(as_user(mate).get(url(services.claim_next(mate))))
    timeline = text[text.index('data-testid="timeline"') : text.index('id="payments"')]
    for said in (
        "Labelled legitimate",
        "Another case closed",
        "Called the number on file",
        "Tomas K. claimed the case",
        "4,970.00 EUR",
        "Decline",
    ):
        assert said in timeline, said


def test_older_lines_come_by_cursor_without_gap_or_double(as_user, owner, case, monkeypatch):
    monkeypatch.setattr("cases.timeline.PAGE", 4)
    start = timezone.now() - timedelta(days=3)
    for number in range(9):
        make_transaction("cust-4417", amount=100 + number, occurred_at=start + timedelta(hours=number % 4))
    client = as_user(owner)
    text = page(client.get(url(case) + "?show=payments"))
    amounts = []
    for _ in range(6):
        amounts += re.findall(r'd-amount">([\d,.]+) EUR', text[text.find("d-timeline") :] if "<html" in text else text)
        more = re.search(r'href="([^"]+/timeline/[^"]+)"', text)
        if not more:
            break
        text = page(client.get(more[1].replace("&amp;", "&"), headers={"X-Requested-With": "desk"}))
    assert len(amounts) == len(set(amounts)) == 11


def test_a_case_page_asks_little(as_user, owner, case, django_assert_max_num_queries):
    for _ in range(5):
        make_transaction("cust-4417")
        services.add_note(case.pk, "Another note.", by=owner)
    client = as_user(owner)
    client.get(url(case))
    with django_assert_max_num_queries(12):
        client.get(url(case))


def test_team_mates_read_and_strangers_see_nothing(as_user, mate, stranger, case):
    text = page(as_user(mate).get(url(case)))
    assert "In use by Ines V. since" in text
    assert 'data-testid="close-open"' not in text
    client = as_user(stranger)
    for path in (url(case), url(case) + "timeline/"):
        assert client.get(path).status_code == 404
    for act in ("claim", "note", "close", "take-over"):
        assert client.post(url(case, act), form(case, text="Hello")).status_code == 404
    assert client.post(url(case, "lease")).status_code == 404
    assert case.number not in page(client.get(QUEUE))


def test_roles_without_the_right_are_refused(as_user, queue, case):
    reader = make_user("auditor", *READ)
    client = as_user(reader)
    text = page(client.get(url(case)))
    assert "note-text" not in text
    assert client.post(url(case, "claim")).status_code == 403
    model_admin = as_user(make_user("modeller", "scoring.propose_model"))
    for path in (QUEUE, url(case)):
        assert model_admin.get(path).status_code == 403


def test_every_act_is_a_post_with_a_token(as_user, owner, case):
    from django.test import Client

    assert as_user(owner).get(url(case, "release")).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    assert strict.post(url(case, "release")).status_code == 403
    assert as_user(owner).post(url(case, "explode")).status_code == 404


def test_a_lead_takes_over_from_the_page(as_user, queue, case):
    lead = make_user("lead", *LEAD)
    queue.members.add(lead)
    assert 'data-testid="take-over"' in page(as_user(lead).get(url(case)))
    as_user(lead).post(url(case, "take-over"))
    assert Case.objects.get().assignee == lead


def test_acts_from_the_page_do_what_they_say(as_user, owner, queue, case):
    client = as_user(owner)
    assert client.post(url(case, "note"), {"text": "Called the number on file."}).status_code == 302
    assert Note.objects.get().author == owner
    client.post(url(case, "wait"), {"version": case.version, "minutes": "60", "note": "Calls back."})
    assert Case.objects.get().status == "waiting"
    client.post(url(case, "claim"))
    client.post(url(case, "escalate"), {"version": Case.objects.get().version, "note": "Beyond me."})
    assert Case.objects.get().status == "escalated"


def test_closing_from_the_page_labels_blocks_and_goes_on(as_user, owner, queue, case):
    following = make_case(make_alert("next"), queue=queue)
    response = as_user(owner).post(url(case, "close"), form(case, next="1"))
    assert response.url == url(following)
    assert Label.objects.filter(verdict="fraud").count() == 2
    assert HoldResolution.objects.get().resolution == "blocked"
    text = page(as_user(owner).get(response.url))
    assert f"{case.number}</a> is closed: confirmed fraud" in text
    assert "blocked" in page(as_user(owner).get(url(case)))


def test_a_double_click_does_not_take_two_cases(as_user, owner, queue, case):
    for customer in ("next", "after"):
        make_case(make_alert(customer), queue=queue)
    client = as_user(owner)
    first, second = (client.post(url(case, "close"), form(case, next="1")) for _ in range(2))
    assert first.url == second.url
    assert Case.objects.filter(assignee=owner, status="in_review").count() == 1
    assert CaseEvent.objects.filter(kind="closed").count() == 1


def test_an_incomplete_close_comes_back_with_what_was_written(as_user, owner, case):
    response = as_user(owner).post(url(case, "close"), form(case, rationale="too short", fraud_type=""))
    text = page(response)
    assert response.status_code == 422
    assert "Needs 10 characters; 9 so far." in text
    assert "Fraud needs a fraud type." in text
    assert "too short" in text
    assert re.search(r'<dialog[^>]*id="close"[^>]* open', text)
    assert not Label.objects.exists()


def test_a_card_number_is_refused_and_not_echoed(as_user, owner, case):
    digits = "4111" + "1" * 12
    for act, data in (("note", {"text": f"He said {digits}"}), ("close", form(case, rationale=f"He said {digits}"))):
        response = as_user(owner).post(url(case, act), data)
        assert response.status_code == 422
        assert digits not in page(response)
        assert "looks like a card number" in page(response)


def test_a_stale_form_shows_the_conflict_and_keeps_what_was_written(as_user, owner, case):
    make_alert("cust-4417", score=990)
    services.open_cases()
    response = as_user(owner).post(url(case, "close"), form(case))
    text = page(response)
    assert response.status_code == 409
    assert 'data-testid="conflict"' in text
    assert "Alert added" in text
    assert WHY in text
    assert not Label.objects.exists()
    assert as_user(owner).post(url(case, "close"), form(Case.objects.get())).status_code == 302


def test_the_lease_renews_while_the_page_is_used(as_user, owner, case):
    Case.objects.update(lease_until=timezone.now() + timedelta(seconds=30))
    client = as_user(owner)
    assert client.get(url(case, "lease")).json() == {"version": case.version}
    assert Case.objects.get().lease_until < timezone.now() + timedelta(seconds=31)
    told = client.post(url(case, "lease")).json()
    assert told["seconds"] > 880
    assert told["version"] == case.version
    Case.objects.update(lease_until=timezone.now())
    assert client.post(url(case, "lease")).status_code == 409
    assert "Your lease lapsed" in page(client.get(url(case)))


def test_single_payments_can_be_set_otherwise_on_the_page(as_user, owner, case):
    held = case.case_alerts.get(alert__outcome="review")
    as_user(owner).post(url(case, "close"), form(case, **{f"verdict-{held.pk}": "legitimate"}))
    assert dict(Label.objects.values_list("transaction", "verdict"))[held.pk] == "legitimate"
    assert HoldResolution.objects.get().resolution == "released"


def test_without_scripts_the_close_form_opens_by_address(as_user, owner, case):
    text = page(as_user(owner).get(url(case) + "?close=legitimate"))
    assert re.search(r'<dialog[^>]*id="close"[^>]* open', text)
    assert re.search(r'value="legitimate"[^>]* checked', text)
    assert "Releases 1 held payment of 4,990.00 EUR." in text


@pytest.mark.parametrize("path", [QUEUE, "case", "case?close=legitimate", "alert", "older"])
def test_pages_hold_no_inline_script_or_style(as_user, owner, case, path):
    paths = {
        "case": url(case),
        "case?close=legitimate": url(case) + "?close=legitimate",
        "alert": f"/desk/cases/by-alert/{make_alert('anna').pk}/",
        "older": url(case) + "timeline/",
    }
    response = as_user(owner).get(paths.get(path, path))
    text = page(response)
    assert response.status_code == 200
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)
    for script in re.findall(r"<script([^>]*)>", text):
        assert "src=" in script or 'type="application/json"' in script


def test_records_are_looked_at_and_never_edited(as_user, case):
    admin = as_user(
        make_user("auditor", "cases.view_case", "cases.view_caseevent", "cases.view_note", "cases.delete_caseevent")
    )
    for model in ("case", "caseevent", "note"):
        assert admin.get(f"/desk/cases/{model}/").status_code == 200
    event = CaseEvent.objects.first()
    assert admin.get(f"/desk/cases/caseevent/{event.pk}/change/").status_code == 200
    assert admin.post(f"/desk/cases/caseevent/{event.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_payment_that_was_judged_again_says_so_and_the_alert_stays(as_user, owner, case):
    assert "Judged again" not in page(as_user(owner).get(url(case)))
    alert = max((row.alert for row in case.case_alerts.all()), key=lambda each: each.score)
    copied = {field.attname: getattr(alert.decision, field.attname) for field in Decision._meta.concrete_fields}
    later = copied | {"id": alert.decision_id + 1, "screening": 2, "outcome": "approve"}
    Decision.objects.bulk_create([Decision(**later)])
    text = page(as_user(owner).get(url(case)))
    assert "Judged again" in text and ": approve, score" in text
