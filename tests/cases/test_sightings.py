"""Who looked is written down: each look once in ten minutes, each search, export and unmasked value every time."""

from datetime import timedelta

import pytest
from django.test import RequestFactory
from django.utils import timezone

from cases import sightings
from cases.history import NotAllowed
from cases.models import Sighting
from tests.factories import WORK, make_case, make_queue, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ines():
    return make_user("ines", *WORK, "cases.unmask")


def looking(user, **meta):
    request = RequestFactory().get("/desk/", **meta)
    request.user, request.request_id = user, "req-12345678"
    return request


def past(act, ago, **fields):
    """A sighting of some time ago: rows are never changed, so it is written with its time."""
    return Sighting.objects.create(act=act, at=timezone.now() - ago, **fields)


def test_a_look_keeps_who_from_where_and_in_which_request(ines):
    case = make_case()
    row = sightings.saw(looking(ines, REMOTE_ADDR="10.1.2.3"), "case_viewed", case=case, tab="graph")
    assert row is not None
    assert (row.actor, row.case, row.ip, row.request_id) == (ines, case, "10.1.2.3", "req-12345678")
    assert row.data == {"role": "", "tab": "graph"}
    unknown = sightings.saw(looking(ines, REMOTE_ADDR="nonsense"), "searched")
    assert unknown is not None and unknown.ip is None


def test_the_same_look_within_ten_minutes_is_one(ines):
    case, other = make_case(), make_user("other", *WORK)
    assert sightings.saw(looking(ines), "case_viewed", case=case)
    assert sightings.saw(looking(ines), "case_viewed", case=case) is None
    assert sightings.saw(looking(other), "case_viewed", case=case)
    assert sightings.saw(looking(ines), "entity_viewed", entity=("card", 7), case=case)
    assert sightings.saw(looking(ines), "entity_viewed", entity=("card", 8), case=case)
    assert sightings.saw(looking(ines), "entity_viewed", entity=("card", 7), case=case) is None
    assert Sighting.objects.count() == 4


def test_a_look_after_ten_minutes_is_a_new_one(ines):
    past("entity_viewed", timedelta(minutes=11), actor=ines, entity_kind="ip", entity_key=3)
    assert sightings.saw(looking(ines), "entity_viewed", entity=("ip", 3))


def test_searches_and_exports_are_told_each_time(ines):
    for _ in range(2):
        sightings.saw(looking(ines), "searched", q="••4417", found=0)
        sightings.saw(looking(ines), "exported")
    assert Sighting.objects.count() == 4


def test_unmasking_needs_a_reason_and_lasts_ten_minutes(ines):
    until = sightings.unmask(looking(ines), ("customer", 5), "Customer asked  on the phone")
    assert timedelta(minutes=9) < until - timezone.now() <= timedelta(minutes=10)
    assert Sighting.objects.get().reason == "Customer asked on the phone"
    assert sightings.unmasked(ines, [("customer", 5), ("card", 5)]) == {("customer", 5): until}
    past("unmasked", timedelta(minutes=10, seconds=1), actor=ines, entity_kind="card", entity_key=5)
    assert ("card", 5) not in sightings.unmasked(ines, [("card", 5)])


def test_what_one_person_unmasked_stays_masked_for_others_and_without_the_right(ines):
    sightings.unmask(looking(ines), ("customer", 5), "Customer asked on the phone")
    assert not sightings.unmasked(make_user("other", *WORK, "cases.unmask"), [("customer", 5)])
    without = make_user("without", *WORK)
    past("unmasked", timedelta(0), actor=without, entity_kind="customer", entity_key=5)
    assert not sightings.unmasked(without, [("customer", 5)])
    assert sightings.unmasked(ines, []) == {}
    with pytest.raises(NotAllowed):
        sightings.unmask(looking(without), ("customer", 5), "Customer asked on the phone")


@pytest.mark.parametrize("reason", ["", "   short  ", "x" * 201, "the card 4111 1111 1111 1111 was used"])
def test_a_reason_that_says_too_little_or_too_much_is_refused(ines, reason):
    with pytest.raises(sightings.RefusedReason) as refused:
        sightings.unmask(looking(ines), ("customer", 5), reason)
    assert "4111" not in str(refused.value)
    assert not Sighting.objects.exists()


@pytest.mark.parametrize("path", ["", "timeline/", "alerts/", "rules/", "files/", "history/", "verdicts/", "graph/"])
def test_whichever_part_of_a_case_is_opened_leaves_the_look(client, ines, path):
    case = make_case(queue=make_queue(ines))
    client.force_login(ines)
    for _ in range(2):
        assert client.get(f"/desk/cases/{case.pk}/{path}").status_code == 200
    assert Sighting.objects.filter(act="case_viewed", actor=ines, case=case).count() == 1
