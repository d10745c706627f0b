"""From shift to shift: handing over, moving on, escalating."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from cases import handover, services
from cases.models import Case, CaseEvent
from tests.cases.acting import Team, close, kinds
from tests.factories import WORK, make_alert, make_case, make_queue, make_user
from transactions.models import Label
from transactions.services import LabelIn, record_labels


@pytest.fixture
def team(db):
    return Team()


def test_all_my_open_work_goes_to_a_colleague_with_one_note(team):
    first, second = team.case(make_alert("anna")), team.case(make_alert("ben"))
    services.wait(second.pk, timezone.now() + timedelta(hours=2), by=team.ines)
    done = handover.hand_over(team.tomas, by=team.ines, note="I am off until Monday.")
    assert {case.pk for case in done.taken} == {first.pk, second.pk}
    first.refresh_from_db()
    assert (first.status, first.assignee, first.lease_until) == ("new", team.tomas, None)
    events = CaseEvent.objects.filter(kind="handed_over")
    assert [(event.actor, event.note) for event in events] == [(team.ines, "I am off until Monday.")] * 2
    assert handover.hand_over(team.tomas, by=team.ines, note="Again.").taken == []
    assert services.claim_next(team.tomas) == first


def test_what_the_colleague_may_not_work_stays(team):
    other = make_queue(team.ines, name="Other")
    case = services.claim(make_case(queue=other, grouping_key=7).pk, team.ines)
    done = handover.hand_over(team.tomas, by=team.ines, note="Please.")
    assert [(kept.pk, cause) for kept, cause in done.kept] == [(case.pk, "tomas is not a member of Other.")]
    assert Case.objects.get().assignee == team.ines


def test_the_hand_over_form_says_what_stays(team, client):
    team.case()
    client.force_login(team.ines)
    answer = client.post(reverse("admin:hand_over"), {"to": team.tomas.pk, "note": "Off now."})
    assert (answer.status_code, Case.objects.get().assignee) == (302, team.tomas)


# --- assigning and moving ---------------------------------------------------------------------------------------------


def test_a_free_case_can_be_taken_for_oneself_and_given_to_others_by_a_lead(team):
    case = make_case(make_alert("anna"), queue=team.queue)
    for _ in range(2):
        handover.assign(case.pk, team.ines, by=team.ines)
    assert kinds(case) == ["assigned"]
    with pytest.raises(services.NotAllowed):
        handover.assign(case.pk, team.tomas, by=team.ines)
    assert handover.assign(case.pk, team.tomas, by=team.lena).assignee == team.tomas


def test_a_lead_moves_a_case_to_another_queue(team):
    other = make_queue(team.lena, name="Other")
    case = make_case(make_alert("anna"), queue=team.queue)
    with pytest.raises(services.NotAllowed):
        handover.move_to_queue(case.pk, other, by=team.ines, note="Theirs.")
    assert handover.move_to_queue(case.pk, other, by=team.lena, note="Theirs.").queue == other
    assert CaseEvent.objects.get(kind="moved").data["to"] == "Other"


# --- escalating -------------------------------------------------------------------------------------------------------


@pytest.fixture
def above(team):
    senior = make_user("senior", *WORK)
    above = make_queue(senior, name="Above")
    team.queue.escalates_to = above
    team.queue.save()
    return above


def test_escalating_goes_to_the_configured_queue_and_out_of_sight(team, above, client):
    case = team.case()
    client.force_login(team.ines)
    page = client.get(reverse("admin:case", args=[case.pk])).content.decode()
    assert "Above" in page and "you will not see the case any more" in page
    form = {"version": case.version, "note": "Beyond my limit."}
    answer = client.post(reverse("admin:case_act", args=[case.pk, "escalate"]), form)
    assert answer.url == reverse("admin:queue")
    assert client.get(reverse("admin:case", args=[case.pk])).status_code == 404
    case.refresh_from_db()
    assert (case.status, case.queue, case.assignee) == ("escalated", above, None)
    with pytest.raises(services.NotAllowed):
        close(case, team.ines)


def test_members_of_the_queue_above_take_what_was_escalated(team, above):
    case = team.case()
    services.escalate(case.pk, by=team.ines, note="Beyond my limit.")
    senior = above.members.get()
    assert services.claim_next(senior) == case
    services.release(case.pk, senior)
    assert Case.objects.get().status == "escalated"


def test_escalating_beside_another_open_case_of_the_customer_is_refused(team, above):
    alert = make_alert("anna")
    make_case(make_alert("anna"), queue=above)
    case = team.case(alert)
    with pytest.raises(services.AnotherIsOpen):
        services.escalate(case.pk, by=team.ines, note="Beyond my limit.")
    assert Case.objects.get(pk=case.pk).queue == team.queue


# --- waiting for an event ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source, woken", [("customer", 1), ("chargeback", 0)])
def test_a_case_that_waits_for_the_customer_wakes_with_their_answer(team, source, woken):
    alert = make_alert("anna")
    case = team.case(alert)
    services.wait(case.pk, timezone.now() + timedelta(days=2), by=team.ines, wake_on="customer")
    assert (services.wake_cases(), Label.objects.count()) == (0, 0)
    record_labels([LabelIn(transaction_id=alert.pk, verdict="legitimate", source=source, known_at=timezone.now())])
    assert services.wake_cases() == woken
    case.refresh_from_db()
    assert (case.status == "new", case.wake_on == "") == (bool(woken), bool(woken))


def test_a_free_case_can_be_put_to_sleep_in_one_go(team):
    case = make_case(make_alert("anna"), queue=team.queue)
    services.snooze(case.pk, timezone.now() + timedelta(hours=1), by=team.ines, note="Opens at nine.")
    assert kinds(case) == ["claimed", "waiting"]
