"""Acts beyond the case: held payments and lists, with their own four eyes, all in the history."""

from datetime import timedelta

import pytest
from django.utils import timezone

from alerts.models import Alert
from cases import services, world
from cases.models import CaseEvent
from scoring import lists
from scoring.models import HoldResolution, ListEntry, Proposal
from scoring.services import resolutions
from tests.cases.acting import Team, close
from tests.factories import WORK, make_alert, make_lane, make_release, make_user
from transactions.models import Lane

LISTS = ("scoring.watch_list", "scoring.propose_list")


@pytest.fixture
def team(db):
    make_release(make_lane())
    made = Team()
    made.ines = make_user("ivo", *WORK, *LISTS)
    made.queue.members.add(made.ines)
    return made


@pytest.fixture
def held_lists(team):
    maker = make_user("maker", "scoring.add_list")
    lane = Lane.objects.get(name="cards")
    return {
        kind: lists.create_list(lane, f"{kind}-devices", kind=kind, subject="device", by=maker)
        for kind in ("watch", "block")
    }


def test_a_held_payment_is_released_for_good_with_its_line(team):
    first, second = make_alert("anna"), make_alert("anna")
    case = team.case(first, second)
    for _ in range(2):
        services.resolve_payments(case.pk, [first.pk], "released", by=team.ines, note="The customer knows it.")
    assert resolutions([first.pk, second.pk])[first.pk][0] == "released"
    event = CaseEvent.objects.get(kind="payments_released")
    assert (event.data["payments"], event.note) == ([first.pk], "The customer knows it.")


def test_only_held_payments_of_the_case_can_be_named(team):
    case, other = team.case(), make_alert("ben")
    with pytest.raises(world.NotThere):
        services.resolve_payments(case.pk, [other.pk], "blocked", by=team.ines, note="Why not.")
    with pytest.raises(world.NotThere):
        services.resolve_payments(case.pk, [], "blocked", by=team.ines, note="Why not.")
    with pytest.raises(services.NotYours):
        services.resolve_payments(case.pk, [1], "blocked", by=team.tomas, note="Why not.")
    assert not HoldResolution.objects.exists()


def test_a_payment_is_held_longer_never_shorter(team):
    alert = make_alert("anna")
    case = team.case(alert)
    before, later = alert.hold_until, timezone.now() + timedelta(hours=24)
    services.hold_longer(case.pk, [alert.pk], timezone.now() + timedelta(minutes=5), by=team.ines, note="A mistake.")
    assert Alert.objects.get().hold_until == before
    services.hold_longer(case.pk, [alert.pk], later, by=team.ines, note="The customer calls tomorrow.")
    assert Alert.objects.get().hold_until == later
    with pytest.raises(world.NotThere):
        services.hold_longer(case.pk, [alert.pk], later + timedelta(days=9), by=team.ines, note="For ever.")


def test_a_watch_list_obeys_at_once_and_a_block_list_gets_a_proposal(team, held_lists):
    alert = make_alert("anna", device="device-9f3a11c21")
    case = team.case(alert)
    for kind in ("watch", "block"):
        wish = world.Listing(held_lists[kind].pk, alert.pk, 30)
        services.put_on_list(case.pk, [wish], by=team.ines, note="Seen in a ring.")
    entry, proposal = ListEntry.objects.get(), Proposal.objects.get()
    assert entry.list == held_lists["watch"]
    assert timedelta(days=29) < entry.expires_at - timezone.now() < timedelta(days=31)
    assert (proposal.status, proposal.proposed_by, proposal.list) == ("pending", team.ines, held_lists["block"])
    told = [event.data["lists"][0] for event in CaseEvent.objects.filter(kind="listed").order_by("pk")]
    assert [each["list"] for each in told] == ["watch-devices", "block-devices"]
    assert all("device-9f3a11c21" not in str(each) for each in told)


def test_what_stands_on_the_list_already_is_no_line(team, held_lists):
    alert = make_alert("anna", device="device-9f3a11c21")
    case = team.case(alert)
    wish = world.Listing(held_lists["watch"].pk, alert.pk, 30)
    for _ in range(2):
        services.put_on_list(case.pk, [wish], by=team.ines, note="Seen in a ring.")
    assert CaseEvent.objects.filter(kind="listed").count() == 1


def test_a_close_puts_on_lists_in_the_same_commit_and_undo_takes_off(team, held_lists):
    alert = make_alert("anna", device="device-9f3a11c21")
    case = team.case(alert)
    wishes = [world.Listing(held_lists[kind].pk, alert.pk, 7) for kind in ("watch", "block")]
    close(case, team.ines, listings=wishes)
    assert {each["list"] for each in CaseEvent.objects.get(kind="closed").data["lists"]} == {
        "watch-devices",
        "block-devices",
    }
    services.undo_close(case.pk, by=team.ines)
    assert ListEntry.objects.filter(removal__isnull=True).count() == 0
    assert Proposal.objects.get().status == "withdrawn"


def test_who_may_not_change_lists_cannot_by_closing(team, held_lists):
    alert = make_alert("anna", device="device-9f3a11c21")
    case = team.case(alert, by=team.tomas)
    with pytest.raises(world.ListRefused):
        close(case, team.tomas, listings=[world.Listing(held_lists["watch"].pk, alert.pk, 7)])
    assert (ListEntry.objects.count(), HoldResolution.objects.count()) == (0, 0)


def test_the_value_comes_from_the_payment_not_from_the_browser(team, held_lists):
    other = make_alert("ben", device="device-of-ben-1")
    case = team.case()
    with pytest.raises(world.ListRefused):
        wish = world.Listing(held_lists["watch"].pk, other.pk, 7)
        services.put_on_list(case.pk, [wish], by=team.ines, note="Somebody else's.")
