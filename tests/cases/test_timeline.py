"""The timeline: every kind of thing that happened, alone or together, in the reader's zone."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from cases import services
from cases.timeline import KINDS, SHOWS, timeline
from scoring.models import List, ListEntry, ListRemoval
from tests.factories import (
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_queue,
    make_transaction,
    make_user,
)
from transactions.codes import entity_key


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def queue(owner):
    make_close_reason("denies")
    return make_queue(owner)


@pytest.fixture
def case(queue, owner):
    return services.claim(make_case(make_alert("anna", device="dev-1"), queue=queue).pk, owner)


def lines(case, **options):
    return timeline(case, queues=[case.queue_id], **options)[0]


def make_entry(case, kind, token, **fields):
    blocked = List.objects.get_or_create(
        lane=case.lane, name="mules", defaults={"kind": "block", "subject": kind, "created_by": "x"}
    )[0]
    values = {"valid_from": timezone.now(), "reason": "seen in a ring", "author": "tomas", "version": 1}
    return ListEntry.objects.create(list=blocked, value="••", key=entity_key(kind, token), **values | fields)


def test_each_filter_shows_its_kind_and_all_shows_everything(case, owner):
    make_transaction("anna", amount=700)
    services.add_note(case.pk, "Called the number on file.", by=owner)
    make_entry(case, "device", "dev-1")
    make_case(make_alert("anna"), queue=make_queue(owner, name="Other"))
    assert set(SHOWS) == {"", *KINDS}
    assert {entry.kind for entry in lines(case)} == {"payment", "event", "note", "list", "case"}
    assert len(lines(case, show="payments")) == 3
    assert [entry.is_alert for entry in lines(case, show="alerts")] == [True, True]
    assert [entry.title for entry in lines(case, show="notes")] == ["Called the number on file."]
    assert {entry.kind for entry in lines(case, show="case")} == {"event"}
    assert lines(case, show="labels") == []


def test_list_changes_of_the_cases_entities_are_told_with_who_and_why(case):
    entry = make_entry(case, "device", "dev-1")
    make_entry(case, "device", "somebody-elses")
    ListRemoval.objects.create(
        entry=entry, removed_at=timezone.now(), removed_by="ruta", reason="bought second-hand", version=2
    )
    gone, put = lines(case, show="lists")
    assert put.title == "Device put on the block list “mules”"
    assert "by tomas: seen in a ring" in put.hint
    assert gone.title == "Device taken off the block list “mules”"
    assert "by ruta: bought second-hand" in gone.hint


def test_a_case_of_many_customers_shows_its_own_payments_only(owner):
    queue = make_queue(owner, name="Terminals", grouping="merchant")
    alerts = [make_alert(f"customer-{n}", merchant="shop-1") for n in range(3)]
    case = make_case(*alerts, queue=queue)
    make_transaction("customer-0")
    make_case(make_alert("customer-0"), queue=make_queue(owner, name="Cards"))
    assert sorted(entry.ref for entry in lines(case, show="payments")) == sorted(alert.pk for alert in alerts)
    assert lines(case, show="cases") == []
    assert {entry.kind for entry in lines(case)} == {"payment"}


def test_moments_are_told_in_the_readers_zone_with_utc_beside(client, owner, case):
    client.force_login(owner)
    client.cookies["desk_zone"] = "Asia/Tokyo"
    text = client.get(f"/desk/cases/{case.pk}/timeline/", headers={"X-Requested-With": "desk"}).content.decode()
    [title] = set(re.findall(r'<time datetime="[^"]+" title="([^"]+)">', text)[:1])
    assert "JST, " in title
    assert title.endswith(" UTC")


def test_a_cursor_of_nonsense_begins_anew(case):
    assert lines(case, before="nonsense") == lines(case)


def test_the_newest_stands_first_and_days_are_parted(case):
    make_transaction("anna", occurred_at=timezone.now() - timedelta(days=2))
    found = lines(case, show="payments")
    assert [entry.at for entry in found] == sorted((entry.at for entry in found), reverse=True)
    assert found[-1].new_day
