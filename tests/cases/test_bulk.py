"""Many cases at once: each is done for itself, what cannot be is told with its cause, and nothing happens twice."""

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from cases import approvals, bulk, services
from cases.models import Approval, Case, CaseEvent
from cases.workflow import CaseError
from tests.factories import LEAD, WORK, make_alert, make_case, make_close_reason, make_queue, make_user
from transactions.models import Label

QUEUE = "/desk/queue/"
WHY = "Looked at together, same cause."


@pytest.fixture
def owner(db):
    cache.clear()
    return make_user("owner", *WORK, "cases.bulk_close", first_name="Ines", last_name="V.")


@pytest.fixture
def mate(db):
    return make_user("mate", *WORK, first_name="Tomas", last_name="K.")


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD, "cases.bulk_close", "cases.approve_case", first_name="Maren", last_name="L.")


@pytest.fixture
def queue(owner, mate, lead):
    make_close_reason("genuine", "legitimate", "legitimate_useful")
    make_close_reason("fraud-only", "confirmed_fraud")
    return make_queue(owner, mate, lead)


@pytest.fixture
def cases(queue):
    return [make_case(make_alert(f"customer-{n}", amount=10_000), queue=queue) for n in range(4)]


def confirm(client, act, cases=(), extra=""):
    """The confirmation's page and the address its form posts to."""
    ids = "".join(f"&case={case.pk}" for case in cases)
    text = client.get(f"{QUEUE}bulk/?act={act}{ids}{extra}").content.decode()
    found = re.search(r'action="(/desk/queue/bulk/[^"]+/)"', text)
    return text, found[1] if found else ""


def do(client, act, cases, **form):
    _, address = confirm(client, act, cases)
    response = client.post(address, {"reason": WHY, **form})
    return client.get(response.url).content.decode() if response.status_code == 302 else response.content.decode()


def kinds(case):
    return list(CaseEvent.objects.filter(case=case).order_by("pk").values_list("kind", flat=True))


def test_the_confirmation_states_count_and_amount_and_who_will_be_skipped(as_user, owner, mate, cases):
    services.claim(cases[0].pk, mate)
    text, _ = confirm(as_user(owner), "snooze", cases)
    assert "Snooze 4 cases" in text
    assert "400.00 EUR" in text
    assert "1 in use by Tomas K.: skipped" in " ".join(text.split())


def test_a_bulk_assign_leaves_a_line_in_each_history(as_user, lead, mate, cases):
    text = do(as_user(lead), "assign", cases, to=mate.pk)
    assert "4 assigned" in text
    assert set(Case.objects.values_list("assignee", flat=True)) == {mate.pk}
    for case in cases:
        assert kinds(case) == ["assigned"]
        assert CaseEvent.objects.get(case=case).note == WHY
        assert Case.objects.get(pk=case.pk).version == case.version + 1


def test_an_investigator_assigns_to_nobody_but_themselves(as_user, owner, mate, cases):
    text = do(as_user(owner), "assign", cases, to=mate.pk)
    assert "0 assigned, 4 skipped" in text
    assert Case.objects.filter(assignee__isnull=False).count() == 0
    assert "4 assigned" in do(as_user(owner), "assign", cases, to=owner.pk)


def test_what_is_in_use_or_closed_is_skipped_with_its_cause(as_user, owner, mate, cases):
    services.claim(cases[0].pk, mate)
    Case.objects.filter(pk=cases[1].pk).update(status="closed", disposition="legitimate", closed_at=timezone.now())
    text = do(as_user(owner), "snooze", cases, span="4h")
    assert "2 snoozed, 2 skipped" in text
    skipped = text.split('data-testid="bulk-skipped"')[1].split("</table>")[0]
    assert cases[0].number in skipped
    assert "Tomas K. has this case" in skipped
    assert cases[1].number in skipped
    asleep = Case.objects.filter(status="waiting")
    assert {case.pk for case in asleep} == {cases[2].pk, cases[3].pk}
    assert all(case.wake_at > timezone.now() + timedelta(hours=3) for case in asleep)
    assert all("waiting" in kinds(case) for case in asleep)


def test_tags_are_put_on_and_taken_off(as_user, owner, cases):
    do(as_user(owner), "tag", cases, add="Ring7 mule")
    assert Case.objects.filter(tags=["ring7", "mule"]).count() == 4
    do(as_user(owner), "tag", cases[:1], remove="mule")
    cases[0].refresh_from_db()
    assert cases[0].tags == ["ring7"]
    assert kinds(cases[0]) == ["tagged", "tagged"]


def test_only_leads_move_cases(as_user, owner, lead, cases):
    make_queue(lead, name="Mules")
    assert "Your role does not allow this" in confirm(as_user(owner), "move", cases)[0]
    assert "4 moved" in do(as_user(lead), "move", cases, queue="mules")
    assert Case.objects.filter(queue__slug="mules").count() == 4
    assert kinds(cases[0]) == ["moved"]


def test_closing_as_legitimate_asks_a_second_person_and_labels_each_case(as_user, owner, lead, cases):
    text = do(as_user(owner), "legitimate", cases, close_reason="genuine")
    assert "A second person has to approve" in text
    assert Case.objects.filter(status="closed").count() == 0
    asked = Approval.objects.get(kind="bulk_close")
    with pytest.raises(CaseError):
        approvals.approve(asked.pk, by=owner, reason="I find so myself.")
    approvals.approve(asked.pk, by=lead, reason="Agreed, all genuine.")
    assert Case.objects.filter(status="closed", disposition="legitimate", closed_in_bulk=True).count() == 4
    assert Label.objects.filter(verdict="legitimate").count() == 4
    assert all("closed" in kinds(case) for case in cases)


def test_closing_needs_its_own_right_and_takes_a_hundred_at_most(as_user, owner, mate, cases, monkeypatch):
    assert "Your role does not allow this" in confirm(as_user(mate), "legitimate", cases)[0]
    monkeypatch.setitem(bulk.ACTS, "legitimate", bulk.Act("legitimate", "Close", "sent", right="bulk_close", most=3))
    assert "At most 3 cases at once" in confirm(as_user(owner), "legitimate", cases)[0]
    assert bulk.MOST_CLOSED == 100


@pytest.mark.parametrize("act", ["confirmed_fraud", "fraud", "close", "suspected_fraud", ""])
def test_fraud_is_never_found_in_bulk(as_user, owner, cases, act):
    text, address = confirm(as_user(owner), act, cases)
    assert "Your role does not allow this" in text
    assert not address
    _, address = confirm(as_user(owner), "legitimate", cases)
    as_user(owner).post(address, {"reason": WHY, "close_reason": "genuine", "disposition": "confirmed_fraud"})
    assert Approval.objects.get().request["disposition"] == "legitimate"


def test_the_right_is_asked_again_when_the_plan_is_carried_out(owner, mate, cases):
    plan = bulk.plan("tag", by=owner, ids=[case.pk for case in cases])
    with pytest.raises(bulk.NoSuchPlan):
        bulk.carry_out(plan.token, bulk.Order(reason=WHY, add=("x",)), by=mate)
    owner.user_permissions.clear()
    stripped = type(owner).objects.get(pk=owner.pk)
    with pytest.raises(bulk.RefusedBulk):
        bulk.carry_out(plan.token, bulk.Order(reason=WHY, add=("x",)), by=stripped)


def test_a_double_click_does_it_once(as_user, owner, cases):
    client = as_user(owner)
    _, address = confirm(client, "tag", cases)
    first = client.post(address, {"reason": WHY, "add": "mule"})
    second = client.post(address, {"reason": WHY, "add": "mule"})
    assert first.url == second.url
    assert [kinds(case) for case in cases] == [["tagged"]] * 4
    assert "4 tagged" in client.get(second.url).content.decode()


def test_a_plan_that_is_being_done_is_not_offered_again(as_user, owner, cases):
    client = as_user(owner)
    _, address = confirm(client, "tag", cases)
    cache.add(f"bulk:{address.split('/')[-2]}:begun", True)
    response = client.get(address)
    assert response.status_code == 202
    assert "still being done" in response.content.decode()
    assert 'data-testid="bulk-submit"' not in response.content.decode()


@pytest.mark.parametrize(
    ("act", "form", "words"),
    [
        ("tag", {"reason": "short", "add": "x"}, "Needs 10 characters; 5 so far."),
        ("tag", {}, "Name a tag"),
        ("snooze", {"span": "9y"}, "Choose how long"),
        ("assign", {"to": "nobody"}, "Choose a person"),
        ("legitimate", {"close_reason": "fraud-only"}, "Choose a reason that fits"),
        ("tag", {"reason": "Card 4111 1111 1111 1111 was used.", "add": "x"}, "looks like a card number"),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_kept(as_user, owner, cases, act, form, words):
    client = as_user(owner)
    _, address = confirm(client, act, cases)
    response = client.post(address, {"reason": WHY, **form})
    assert response.status_code == 422
    assert words in response.content.decode()
    assert CaseEvent.objects.count() == 0


def test_all_that_match_are_those_of_the_confirmation(as_user, owner, queue, cases):
    client = as_user(owner)
    assert client.get(f"{QUEUE}matching/?score_from=700").json() == {"count": 4, "amount": "400.00 EUR", "more": False}
    text, address = confirm(client, "tag", extra="&all=1&score_from=700")
    assert "Tag 4 cases" in text
    late = make_case(make_alert("late-comer"), queue=queue)
    client.post(address, {"reason": WHY, "add": "mule"})
    late.refresh_from_db()
    assert late.tags == []
    assert Case.objects.filter(tags=["mule"]).count() == 4


def test_all_is_bounded_and_says_so(as_user, owner, queue, cases, monkeypatch):
    monkeypatch.setattr(bulk, "MOST", 3)
    monkeypatch.setitem(bulk.ACTS, "tag", bulk.Act("tag", "Tag", "tagged", most=3))
    assert as_user(owner).get(f"{QUEUE}matching/").json()["more"] is True
    text, _ = confirm(as_user(owner), "tag", extra="&all=1")
    assert "Tag 3 cases" in text
    assert "More match; these are the 3 most urgent" in text


def test_cases_of_other_queues_are_not_even_counted(as_user, owner, cases):
    foreign = make_case(make_alert("zoe"), queue=make_queue(name="Secret"))
    text, _ = confirm(as_user(owner), "tag", [*cases, foreign])
    assert "Tag 4 cases" in text
    assert "No case is selected" in confirm(as_user(owner), "tag", [foreign])[0]


def test_closed_cases_are_opened_again_and_lie_in_their_queue(as_user, owner, mate, cases):
    Case.objects.filter(pk__in=[case.pk for case in cases[:2]]).update(
        status="closed", disposition="legitimate", closed_at=timezone.now(), closed_by=mate
    )
    text = do(as_user(owner), "reopen", cases)
    assert "2 opened again, 2 skipped" in text
    for case in cases[:2]:
        case.refresh_from_db()
        assert (case.status, case.assignee) == ("new", None)
        assert "reopened" in kinds(case)


def test_an_old_confirmation_is_refused_and_says_what_to_do(as_user, owner, cases):
    response = as_user(owner).post(f"{QUEUE}bulk/long-gone/", {"reason": WHY})
    assert response.status_code == 410
    assert "Select the cases again" in response.content.decode()


def test_what_one_closed_oneself_is_asked_of_a_second_person_and_told_apart(as_user, owner, mate, cases):
    for case, by in zip(cases[:3], (owner, owner, mate), strict=True):
        closed = {"disposition": "legitimate", "closed_at": timezone.now(), "closed_by": by}
        Case.objects.filter(pk=case.pk).update(status="closed", **closed)
    text = do(as_user(owner), "reopen", cases)
    assert "1 opened again, 2 sent for approval, 1 skipped" in text
    asked = text.split('data-testid="bulk-asked"')[1].split("</div>")[0]
    assert all(case.number in asked for case in cases[:2]) and cases[2].number not in asked
    assert "until then they stay closed" in asked
    assert [Case.objects.get(pk=case.pk).status for case in cases] == ["closed", "closed", "new", "new"]
    assert Approval.objects.filter(kind="reopen", maker=owner, answer="").count() == 2
