"""Closing: which payments differ, double clicks, and opening a case again."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cases import services
from cases.models import Case, CaseAlert, CaseEvent
from scoring.models import HoldResolution
from scoring.services import resolutions
from tests.cases.acting import Team, close, kinds
from tests.factories import make_alert, make_case
from transactions.models import Label

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(db):
    return Team()


def test_all_six_dispositions_close_a_case(team):
    for number, disposition in enumerate(Case.Disposition.values):
        case = team.case(make_alert(f"customer-{number}"))
        assert close(case, team.ines, disposition).disposition == disposition


def test_a_resolution_is_told_outside_only_once_the_close_is_final(team):
    alert = make_alert("anna")
    close(team.case(alert), team.ines)
    assert resolutions([alert.pk]) == {}
    made = HoldResolution.objects.get()
    assert timedelta(seconds=10) < made.final_at - made.resolved_at < timedelta(seconds=14)
    HoldResolution.objects.update(final_at=timezone.now() - timedelta(seconds=1))
    assert resolutions([alert.pk])[alert.pk][0] == "blocked"


def test_verdicts_set_before_the_close_count_in_it(team):
    alerts = [make_alert("anna") for _ in range(3)]
    case = team.case(*alerts)
    case = services.set_verdicts(case.pk, {alerts[0].pk: "legitimate"}, by=team.ines, version=case.version)
    close(case, team.ines, version=case.version)
    assert dict(Label.objects.values_list("transaction", "verdict")) == {
        alerts[0].pk: "legitimate",
        alerts[1].pk: "fraud",
        alerts[2].pk: "fraud",
    }


def test_what_the_dialog_says_overrules_what_was_set_before(team):
    bad, good = make_alert("anna"), make_alert("anna")
    case = team.case(bad, good)
    services.set_verdicts(case.pk, {good.pk: "legitimate", bad.pk: "legitimate"}, by=team.ines)
    close(case, team.ines, verdicts={bad.pk: ""})
    assert dict(CaseAlert.objects.values_list("pk", "verdict")) == {bad.pk: "", good.pk: "legitimate"}


def test_setting_the_same_verdict_again_is_no_line_of_history(team):
    alert = make_alert("anna")
    case = team.case(alert)
    for _ in range(2):
        services.set_verdicts(case.pk, {alert.pk: "legitimate"}, by=team.ines)
    assert kinds(case) == ["claimed", "verdicts_set"]


def test_a_payment_of_another_case_cannot_be_set(team):
    case, other = team.case(), make_alert("ben")
    with pytest.raises(services.IncompleteClose):
        services.set_verdicts(case.pk, {other.pk: "legitimate"}, by=team.ines)


def test_an_incident_with_hundreds_of_payments_is_closed_as_one(team, django_assert_max_num_queries):
    alerts = [make_alert(f"customer-{number}") for number in range(120)]
    case = team.case(*alerts)
    with django_assert_max_num_queries(30):
        close(case, team.ines, verdicts={alerts[7].pk: "legitimate"})
    labels = list(Label.objects.values_list("verdict", flat=True))
    assert (labels.count("fraud"), labels.count("legitimate")) == (119, 1)
    assert CaseEvent.objects.get(kind="closed").data["holds"] == {"blocked": 119, "released": 1}


def test_ones_own_close_is_opened_again_only_with_a_second_person(team):
    case = team.case()
    close(case, team.ines)
    for _ in range(2):
        asked = services.reopen_case(case.pk, by=team.ines, note="The customer called back.")
    assert (asked.status, case.approvals.count()) == ("closed", 1)
    assert kinds(case)[-1] == "reopen_asked"


def test_somebody_elses_reopening_makes_the_request_void(team):
    case = team.case()
    close(case, team.ines)
    services.reopen_case(case.pk, by=team.ines, note="The customer called back.")
    services.reopen_case(case.pk, by=team.tomas, note="I know this merchant better.")
    case.refresh_from_db()
    assert (case.status, case.assignee, case.approvals.get().answer) == ("in_review", team.tomas, "withdrawn")


def test_who_is_kept_from_a_customer_cannot_work_the_case(team):
    from cases.models import Exclusion

    case = make_case(make_alert("anna"), queue=team.queue)
    Exclusion.objects.create(user=team.ines, customer=case.customer, reason="A relative.", added_by=team.lena)
    with pytest.raises(services.NotAllowed, match="kept from"):
        services.claim(case.pk, team.ines)


def test_a_case_that_is_opened_again_has_its_time_from_then_on(team):
    case = team.case(due_at=timezone.now() - timedelta(hours=3))
    close(case, team.ines)
    reopened = services.reopen_case(case.pk, by=team.tomas, note="The customer called back.")
    assert reopened.due_at > timezone.now() and services.mark_breaches() == 0
