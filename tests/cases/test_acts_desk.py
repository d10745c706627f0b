"""The acts from the page: what a form does, what a refusal leaves, and that a direct POST is refused as well."""

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.models import Case, CaseEvent, CheckItem
from scoring.models import HoldResolution
from tests.cases.acting import WHY, Team, kinds
from tests.factories import READ, make_alert, make_user
from transactions.models import Label


@pytest.fixture
def team(db):
    cache.clear()
    return Team()


@pytest.fixture
def case(team):
    return team.case()


@pytest.fixture
def ines(team, client):
    client.force_login(team.ines)
    return client


def act(case, name):
    return reverse("admin:case_act", args=[case.pk, name])


def form(case, **changes):
    return {
        "version": case.version,
        "disposition": "confirmed_fraud",
        "fraud_type": "account_takeover",
        "close_reason": "denies",
        "rationale": WHY,
    } | changes


def test_every_act_has_a_visible_control_with_its_key(ines, case):
    page = ines.get(reverse("admin:case", args=[case.pk])).content.decode()
    for key in "FLES":
        assert f'aria-keyshortcuts="{key}"' in page
    assert page.count('data-testid="close-dialog"') == 1 and 'data-testid="consequences"' in page
    assert "Blocks 1 held payment" in page and "the next training sees it" in page


def test_a_close_offers_its_way_back_and_the_way_back_works(ines, case):
    page = ines.post(act(case, "close"), form(case), follow=True).content.decode()
    assert 'data-testid="undo-bar"' in page and act(case, "undo") in page
    ines.post(act(case, "undo"))
    assert (Case.objects.get().status, HoldResolution.objects.count()) == ("in_review", 0)


def test_too_late_says_so(ines, case):
    ines.post(act(case, "close"), form(case))
    Case.objects.update(undo_until=None)
    answer = ines.post(act(case, "undo"))
    assert (answer.status_code, Case.objects.get().status) == (409, "closed")
    assert "Too late" in answer.content.decode()


def test_a_double_click_is_one_event(ines, case):
    for _ in range(2):
        ines.post(act(case, "close"), form(case))
    assert (kinds(case), Label.objects.count()) == (["claimed", "closed"], 1)


def test_the_priority_is_set_with_its_reason(ines, case):
    ines.post(act(case, "priority"), {"version": case.version, "level": "1", "note": "A pensioner."})
    assert Case.objects.get().priority == 1
    event = CaseEvent.objects.get(kind="priority_set")
    assert (event.before, event.after, event.note) == ("P2", "P1", "A pensioner.")


def test_a_stale_priority_overwrites_nothing_and_shows_both_values(ines, team, case):
    services.set_priority(case.pk, 3, by=team.lena, note="Not urgent.")
    answer = ines.post(act(case, "priority"), {"version": case.version, "level": "1", "note": "Urgent."})
    page = answer.content.decode()
    assert (answer.status_code, Case.objects.get().priority) == (409, 3)
    assert 'data-testid="conflict"' in page and "P2" in page and "P3" in page


def test_held_payments_are_blocked_from_the_page(ines, case):
    alert = case.case_alerts.get().pk
    given = {"version": case.version, "payment": alert, "do": "blocked", "note": "It is running off."}
    ines.post(act(case, "payments"), given)
    assert HoldResolution.objects.get().resolution == "blocked"


def test_a_step_is_ticked_by_script_and_the_page_learns_the_version(ines, case):
    item = CheckItem.objects.create(text="Called the customer", is_required=True)
    cache.clear()
    answer = ines.post(act(case, "check"), {"tick": item.pk}, headers={"X-Requested-With": "desk"})
    assert answer.json() == {"version": case.version + 1, "done": True}


def test_the_close_dialog_names_required_steps(ines, case):
    CheckItem.objects.create(text="Called the customer", is_required=True)
    cache.clear()
    page = ines.get(reverse("admin:case", args=[case.pk])).content.decode()
    assert 'data-testid="checks-dialog"' in page and '"text": "Called the customer"' in page


def test_single_payments_are_set_on_a_page_of_their_own(ines, team):
    alerts = [make_alert("ben") for _ in range(3)]
    case = team.case(*alerts)
    url = reverse("admin:case_verdicts", args=[case.pk])
    assert ines.get(url).content.decode().count("<select") == 3
    ines.post(url, {"version": case.version, f"verdict-{alerts[0].pk}": "legitimate", f"verdict-{alerts[1].pk}": ""})
    assert case.case_alerts.get(pk=alerts[0].pk).verdict == "legitimate"


@pytest.mark.parametrize(
    "name", ["close", "escalate", "wait", "priority", "payments", "list", "check", "undo", "reopen"]
)
def test_a_direct_post_without_the_right_changes_nothing(client, team, case, name):
    reader = make_user("reader", *READ)
    team.queue.members.add(reader)
    client.force_login(reader)
    assert client.post(act(case, name), form(case)).status_code == 403
    client.force_login(team.tomas)
    assert client.post(act(case, name), form(case, note="Not mine to do.")).status_code in (302, 403, 409, 422)
    assert Case.objects.get().status == "in_review" and Case.objects.get().assignee == team.ines


def test_opening_again_says_whether_it_is_open_or_asked_for(client, team, case):
    for by, said, status in (
        (team.ines, "a second person has to agree", "closed"),
        (team.tomas, "is open again", "in_review"),
    ):
        Case.objects.update(
            status="closed", disposition="legitimate", closed_at=timezone.now(), closed_by=team.ines, undo_until=None
        )
        client.force_login(by)
        page = client.post(act(case, "reopen"), {"note": "The customer called back."}, follow=True).content.decode()
        assert said in page and Case.objects.get().status == status


def test_a_close_that_needs_two_people_says_so_and_goes_on(team, ines, case):
    team.queue.four_eyes_from = 1
    team.queue.save()
    following = team.case(make_alert("ben"), by=team.tomas)
    services.release(following.pk, team.tomas)
    for _ in range(2):  # a double click asks once and lands on the same case
        answer = ines.post(act(case, "close"), form(case, next="1"))
        assert answer.url == reverse("admin:case", args=[following.pk])
    assert "waits for a second person to approve the close" in ines.get(answer.url).content.decode()
    case.refresh_from_db()
    assert (case.status, case.disposition, Label.objects.count()) == ("pending_approval", "", 0)
    assert case.approvals.count() == 1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("wait", {"minutes": "9" * 18}),
        ("payments", {"do": "hold", "hours": "9" * 18, "all": "1"}),
        ("check", {"tick": "²"}),
    ],
)
def test_a_number_that_cannot_be_is_refused_like_any_other(ines, case, name, given):
    answer = ines.post(act(case, name), {"version": case.version, "note": "For long.", **given})
    assert answer.status_code in (409, 422) and Case.objects.get().status == "in_review"


def test_an_address_of_nonsense_opens_the_page_all_the_same(ines, case):
    page = reverse("admin:case", args=[case.pk])
    for address in ("?alert=²", "alerts/?before=²", "timeline/?before=²", "history/?before=²", "?alert=" + "9" * 30):
        assert ines.get(page + address).status_code == 200, address
