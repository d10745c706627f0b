"""Taking a close back within its seconds, also while a new alert of the same customer comes."""

from datetime import timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone

from cases import services
from cases.models import Case, CaseAlert
from scoring.models import HoldResolution
from scoring.services import resolutions
from tests.cases.acting import Team, at_once, close, kinds
from tests.factories import make_alert
from transactions.models import Label


@pytest.fixture
def team(db):
    return Team()


def verdicts():
    return list(Label.objects.order_by("pk").values_list("verdict", flat=True))


def test_undo_opens_the_case_withdraws_the_labels_and_holds_the_payment_again(team):
    alert = make_alert("anna")
    case = team.case(alert)
    close(case, team.ines)
    again = services.undo_close(case.pk, by=team.ines)
    assert (again.status, again.assignee, again.disposition, again.closed_at) == ("in_review", team.ines, "", None)
    assert (verdicts(), HoldResolution.objects.count(), resolutions([alert.pk])) == (["fraud", "withdrawn"], 0, {})
    assert kinds(case) == ["claimed", "closed", "close_undone"]


def test_a_second_click_on_undo_changes_nothing(team):
    case = team.case()
    close(case, team.ines)
    for _ in range(2):
        services.undo_close(case.pk, by=team.ines)
    assert kinds(case) == ["claimed", "closed", "close_undone"]


def test_undo_brings_back_what_was_known_before_the_close(team):
    case = team.case()
    close(case, team.ines)
    services.reopen_case(case.pk, by=team.tomas, note="The customer called back.")
    close(case, team.tomas, "legitimate")
    services.undo_close(case.pk, by=team.tomas)
    assert verdicts() == ["fraud", "legitimate", "fraud"]
    assert Label.objects.order_by("pk").last().fraud_type == "account_takeover"


def test_after_its_seconds_a_close_stays(team):
    case = team.case()
    close(case, team.ines)
    Case.objects.update(undo_until=timezone.now() - timedelta(seconds=1))
    with pytest.raises(services.TooLate):
        services.undo_close(case.pk, by=team.ines)
    assert (verdicts(), Case.objects.get().status) == (["fraud"], "closed")


def test_a_resolution_that_was_told_is_never_taken_back(team):
    case = team.case()
    close(case, team.ines)
    HoldResolution.objects.update(final_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(services.TooLate):
        services.undo_close(case.pk, by=team.ines)
    assert (verdicts(), HoldResolution.objects.count(), Case.objects.get().status) == (["fraud"], 1, "closed")


def test_only_who_closed_can_take_it_back(team):
    case = team.case()
    close(case, team.ines)
    with pytest.raises(services.NotAllowed):
        services.undo_close(case.pk, by=team.tomas)


def test_what_was_resolved_before_the_close_stays_resolved(team):
    first, second = make_alert("anna"), make_alert("anna")
    case = team.case(first, second)
    services.resolve_payments(case.pk, [first.pk], "released", by=team.ines, note="The customer knows it.")
    close(case, team.ines)
    services.undo_close(case.pk, by=team.ines)
    assert list(HoldResolution.objects.values_list("transaction", flat=True)) == [first.pk]


def test_undo_is_refused_beside_the_next_case_of_the_customer(team):
    make_alert("anna")
    services.open_cases()
    case = team.next_case()
    close(case, team.ines)
    make_alert("anna")
    services.open_cases()
    with pytest.raises(services.AnotherIsOpen):
        services.undo_close(case.pk, by=team.ines)
    assert (verdicts(), HoldResolution.objects.count()) == (["fraud"], 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["close", "undo"])
def test_closing_and_undoing_while_alerts_come_loses_nothing(first):
    """Whatever wins: each alert is in one case, each closed case's payments are labelled and no longer held."""
    team = Team()
    for number in range(6):
        make_alert(f"customer-{number}")
    services.open_cases()
    cases = [team.next_case() for _ in range(6)]
    if first == "undo":
        for case in cases:
            close(case, team.ines)
    for number in range(6):
        make_alert(f"customer-{number}")

    def act():
        for case in cases:
            try:
                close(case, team.ines) if first == "close" else services.undo_close(case.pk, by=team.ines)
            except services.CaseError:
                continue

    at_once(act, services.open_cases, services.open_cases)
    services.open_cases()
    assert CaseAlert.objects.count() == 12
    assert Case.objects.aggregate(n=Sum("alert_count"))["n"] == 12
    for case in Case.objects.filter(status="closed"):
        ids = set(case.case_alerts.values_list("pk", flat=True))
        assert (
            set(Label.objects.filter(transaction__in=ids, verdict="fraud").values_list("transaction", flat=True)) == ids
        )
        assert set(HoldResolution.objects.filter(transaction__in=ids).values_list("transaction", flat=True)) == ids
    opened = CaseAlert.objects.exclude(case__status="closed").values_list("pk", flat=True)
    assert not HoldResolution.objects.filter(transaction__in=list(opened)).exists()
