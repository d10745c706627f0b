"""Four eyes: who may answer, what is asked, what an answer does, and what outruns it."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from cases import approvals, services
from cases.models import Approval, Case, CaseEvent
from scoring.models import HoldResolution
from tests.cases.acting import CHECKER, WHY, Team, at_once, close, kinds
from tests.factories import make_alert, make_case, make_user
from transactions.models import Label

BLOCK_RULE = [{"rule": "R-9", "version": 1, "mode": "live", "text": "x", "outcome": "decline"}]


@pytest.fixture
def team(db):
    return Team(four_eyes_from=10_000)


@pytest.fixture
def asked(team):
    """A close of 125.00 that Ines asked for."""
    case = team.case()
    close(case, team.ines)
    return Approval.objects.select_related("case").get()


def test_a_close_of_much_money_waits_for_a_second_person(team, asked):
    case = asked.case
    assert (case.status, asked.causes, asked.maker) == ("pending_approval", ["amount"], team.ines)
    assert (Label.objects.count(), HoldResolution.objects.count()) == (0, 0)
    assert abs(asked.expires_at - asked.made_at - timedelta(hours=72)) < timedelta(seconds=1)


def test_who_closes_may_ask_for_a_second_look_whatever_the_rules_say(team, client):
    case = team.case(make_alert("anna", amount=9_999))
    client.force_login(team.ines)
    page = client.get(reverse("admin:case", args=[case.pk]) + "?close=legitimate").content.decode()
    assert 'data-testid="ask-second"' in page
    given = {"version": case.version, "disposition": "legitimate", "close_reason": "denies", "rationale": WHY}
    client.post(reverse("admin:case_act", args=[case.pk, "close"]), given | {"second": "1"})
    asked = Approval.objects.get()
    assert (asked.causes, asked.case.status) == (["wish"], "pending_approval")
    approvals.approve(asked.pk, by=team.lena)
    assert Case.objects.get().status == "closed"


def test_less_money_is_closed_at_once(team):
    case = team.case(make_alert("anna", amount=9_999))
    assert close(case, team.ines).status == "closed"


def test_overruling_a_rule_that_blocks_needs_a_second_person(team):
    alert = make_alert("anna", outcome="decline", amount=100, rules=BLOCK_RULE)
    close(team.case(alert), team.ines, "legitimate")
    assert Approval.objects.get().causes == ["override"]


def test_calling_it_fraud_overrules_nothing(team):
    alert = make_alert("anna", outcome="decline", amount=100, rules=BLOCK_RULE)
    assert close(team.case(alert), team.ines).status == "closed"


def test_asking_twice_asks_once(team, asked):
    close(asked.case, team.ines)
    assert (Approval.objects.count(), kinds(asked.case)) == (1, ["claimed", "pending_approval"])


def test_approving_does_what_was_asked_in_the_makers_name(team, asked):
    for _ in range(2):
        approvals.approve(asked.pk, by=team.lena, reason="Agreed.")
    case = Case.objects.get()
    assert (case.status, case.closed_by, case.undo_until) == ("closed", team.ines, None)
    assert [label.author for label in Label.objects.all()] == ["ines"]
    assert kinds(case) == ["claimed", "pending_approval", "approved", "closed"]
    assert CaseEvent.objects.get(kind="closed").data["approved_by"] == "lena"
    resolution = HoldResolution.objects.get()
    assert resolution.final_at - resolution.resolved_at < timedelta(seconds=2)


def test_a_maker_cannot_answer_their_own_request(team):
    case = team.case(by=team.lena)
    close(case, team.lena)
    asked = Approval.objects.get()
    for act in (approvals.approve, lambda pk, by: approvals.reject(pk, by=by, reason="I changed my mind.")):
        with pytest.raises(services.NotAllowed, match="yourself"):
            act(asked.pk, by=team.lena)


def test_who_lacks_the_right_or_the_membership_is_refused(team, asked):
    for person in (team.tomas, make_user("stranger", *CHECKER)):
        with pytest.raises(services.NotAllowed):
            approvals.approve(asked.pk, by=person)


def test_rejecting_gives_the_case_back_with_the_reason(team, asked):
    with pytest.raises(services.CaseError, match="why"):
        approvals.reject(asked.pk, by=team.lena, reason="no")
    approvals.reject(asked.pk, by=team.lena, reason="Call the customer first.")
    case = Case.objects.get()
    assert (case.status, case.assignee) == ("in_review", team.ines)
    assert CaseEvent.objects.get(kind="rejected").note == "Call the customer first."
    with pytest.raises(approvals.AlreadyAnswered):
        approvals.approve(asked.pk, by=team.lena)


def test_meanwhile_nobody_can_close_or_claim_it(team, asked):
    with pytest.raises(services.NotYours, match="awaits approval"):
        close(asked.case, team.ines, "legitimate")
    with pytest.raises(services.NotYours):
        services.claim(asked.case.pk, team.tomas)


def test_the_maker_can_withdraw(team, asked):
    approvals.withdraw(asked.pk, by=team.ines)
    assert Case.objects.get().status == "in_review"
    with pytest.raises(services.NotAllowed):
        approvals.withdraw(asked.pk, by=team.lena)


def test_an_alert_that_joins_makes_the_request_outdated(team):
    make_alert("anna")
    services.open_cases()
    close(team.next_case(), team.ines)
    make_alert("anna")
    services.open_cases()
    asked = Approval.objects.get()
    with pytest.raises(approvals.Outdated):
        approvals.approve(asked.pk, by=team.lena)
    assert (Label.objects.count(), Case.objects.get().status) == (0, "pending_approval")


def test_a_request_expires_after_72_hours_and_the_case_is_free(team, asked):
    assert approvals.expire() == 0
    Approval.objects.update(expires_at=timezone.now())
    assert [approvals.expire(), approvals.expire()] == [1, 0]
    case = Case.objects.get()
    assert (case.status, case.assignee, kinds(case)[-1]) == ("new", None, "approval_expired")


def test_opening_ones_own_close_again_is_approved_into_the_makers_hands(team):
    case = team.case(make_alert("anna", amount=100))
    close(case, team.ines)
    services.reopen_case(case.pk, by=team.ines, note="The customer called back.")
    approvals.approve(Approval.objects.get().pk, by=team.lena)
    case.refresh_from_db()
    assert (case.status, case.assignee) == ("in_review", team.ines)


# --- many at once -----------------------------------------------------------------------------------------------------


def ask(team, cases, **fields):
    given = {"disposition": "legitimate", "close_reason": "denies", "rationale": WHY} | fields
    return approvals.ask_bulk([case.pk for case in cases], by=team.lena, **given)


def test_closing_many_waits_for_a_second_person_and_skips_with_a_cause(team):
    free = [make_case(make_alert(f"customer-{n}"), queue=team.queue) for n in range(3)]
    taken = team.case(make_alert("taken"))
    [asked] = ask(team, [*free, taken])
    assert ask(team, [*free, taken]) == [asked]
    assert asked.request["skipped"] == {str(taken.pk): "in somebody's hands"}
    services.claim(free[0].pk, team.tomas)
    checker = make_user("checker", *CHECKER)
    team.queue.members.add(checker)
    with pytest.raises(services.NotAllowed):
        approvals.approve(asked.pk, by=team.lena)
    done = approvals.approve(asked.pk, by=checker)
    assert done.request["closed"] == [free[1].pk, free[2].pk]
    assert set(done.request["skipped"]) == {str(taken.pk), str(free[0].pk)}
    closed = Case.objects.filter(status="closed")
    assert [(case.closed_by, case.closed_in_bulk) for case in closed] == [(team.lena, True)] * 2
    assert CaseEvent.objects.filter(kind="closed").count() == Label.objects.count() == 2


def test_fraud_is_never_found_in_bulk(team):
    case = make_case(make_alert("anna"), queue=team.queue)
    with pytest.raises(services.CaseError):
        ask(team, [case], disposition="confirmed_fraud")


# --- pages ------------------------------------------------------------------------------------------------------------


def test_the_checkers_page_lists_the_request_and_the_diff(team, asked, client):
    client.force_login(team.lena)
    assert "Close C-" in client.get(reverse("admin:case_approvals")).content.decode()
    text = client.get(reverse("admin:case_approval", args=[asked.pk])).content.decode()
    assert "Confirmed fraud" in text and "1 blocked" in text and WHY in text
    answer = client.post(reverse("admin:case_approval", args=[asked.pk]), {"act": "approve"})
    assert (answer.status_code, Case.objects.get().status) == (302, "closed")


def test_a_direct_post_of_the_maker_is_refused_with_403(team, client):
    close(team.case(by=team.lena), team.lena)
    client.force_login(team.lena)
    answer = client.post(reverse("admin:case_approval", args=[Approval.objects.get().pk]), {"act": "approve"})
    assert (answer.status_code, Case.objects.get().status) == (403, "pending_approval")


def test_strangers_see_no_request(team, asked, client):
    client.force_login(make_user("stranger", *CHECKER))
    assert client.get(reverse("admin:case_approval", args=[asked.pk])).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_approving_while_an_alert_joins_never_decides_on_it():
    team = Team(four_eyes_from=10_000)
    checker = make_user("checker", *CHECKER)
    team.queue.members.add(checker)
    for number in range(5):
        make_alert(f"customer-{number}")
    services.open_cases()
    for _ in range(5):
        close(team.next_case(), team.ines)
    asked = list(Approval.objects.order_by("pk").values_list("pk", flat=True))
    for number in range(5):
        make_alert(f"customer-{number}")

    def answer(by):
        for pk in asked:
            try:
                approvals.approve(pk, by=by)
            except services.CaseError:
                continue

    at_once(lambda: answer(team.lena), lambda: answer(checker), services.open_cases)
    services.open_cases()
    for case in Case.objects.all():
        labelled = Label.objects.filter(transaction__in=case.case_alerts.values_list("pk", flat=True)).count()
        assert labelled == (case.alert_count if case.status == "closed" else 0)
    assert sum(Case.objects.values_list("alert_count", flat=True)) == 10
