"""The history as an auditor reads it: acts and looks in one list, paged without loss, exported without formulas."""

import csv
import io
import json

import pytest

from cases import audit, services
from cases.models import CaseEvent, Sighting
from tests.factories import LEAD, READ, WORK, make_case, make_queue, make_user


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD)


@pytest.fixture
def case(owner, lead):
    return make_case(queue=make_queue(owner, lead))


def look(case, user, act="case_viewed", **data):
    return Sighting.objects.create(actor=user, act=act, case=case, ip="192.0.2.7", request_id="req-1", data=data)


def test_acts_and_looks_stand_in_one_list_newest_first(case, owner, lead):
    services.claim(case.pk, owner)
    look(case, owner)
    services.release(case.pk, owner, note="Needs a lead.")
    lines, more = audit.history(case, lead)
    assert [line.kind for line in lines] == ["released", "case_viewed", "claimed"]
    assert (lines[0].who, lines[0].before, lines[0].after, lines[0].note) == (
        "Ines V.",
        "in_review",
        "new",
        "Needs a lead.",
    )
    assert (lines[1].is_look, lines[1].ip, lines[1].request, more) == (True, "192.0.2.7", "req-1", "")


def test_pages_lose_and_double_nothing(case, owner, lead):
    for n in range(7):
        CaseEvent.objects.create(case=case, kind=f"event{n}", actor=owner)
        look(case, lead)
    seen, before = [], ""
    for _ in range(10):
        lines, before = audit.history(case, lead, before=before, limit=4)
        seen += [line.number for line in lines]
        if not before:
            break
    assert len(seen) == len(set(seen)) == 14


def test_a_cursor_of_nonsense_begins_at_the_top(case, lead, owner):
    services.claim(case.pk, owner)
    assert len(audit.history(case, lead, before="nonsense")[0]) == 1


def test_who_looked_is_told_to_leads_and_auditors(case, owner, lead):
    auditor = make_user("owen", *READ)
    look(case, owner)
    look(case, lead)
    told = {user.username: len(audit.history(case, user)[0]) for user in (owner, lead, auditor)}
    assert told == {"ines": 1, "lead": 2, "owen": 2}


def test_a_line_keeps_where_the_act_came_from(case, owner, client):
    from django.contrib.auth.models import Group

    owner.groups.add(Group.objects.create(name="investigator"))
    client.force_login(owner)
    client.post(f"/desk/cases/{case.pk}/claim/", headers={"X-Request-Id": "request-12345"})
    [line], _ = audit.history(case, owner)[0][-1:], None
    assert (line.kind, line.ip, line.role, line.request) == ("claimed", "127.0.0.1", "investigator", "request-12345")


def test_the_csv_holds_no_formula(case, owner, lead):
    CaseEvent.objects.create(
        case=case, kind="noted", actor=owner, note='=HYPERLINK("http://x")', before="+1", after="@a"
    )
    rows = list(csv.DictReader(io.StringIO("".join(audit.as_csv(audit.every_line(case, lead))))))
    assert [(row["note"][:2], row["before"], row["after"]) for row in rows] == [("'=", "'+1", "'@a")]
    assert rows[0]["actor"] == "ines"


@pytest.mark.parametrize("value", ["=1", "+1", "-1", "@x", "\t=1", "\r1", "  =1"])
def test_what_begins_like_a_formula_is_escaped(value):
    assert audit.escaped(value) == f"'{value}"


def test_the_json_is_one_document(case, owner, lead):
    services.claim(case.pk, owner)
    look(case, owner)
    told = json.loads("".join(audit.as_json(audit.every_line(case, lead), case)))
    assert told["case"] == case.number
    assert [line["kind"] for line in told["lines"]] == ["case_viewed", "claimed"]
    assert told["lines"][1]["data"]["lease_minutes"] == 15
