"""Lists by the API: a watch list obeys, others get a proposal, and a card number is never taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scoring import governance, lists
from scoring.models import List, Proposal
from tests.factories import make_client, make_user
from tests.scoring.test_list_desk import RIGHTS
from transactions import auth
from transactions.auth import issue_key

pytestmark = pytest.mark.django_db
URL = "/api/v1/lists"


@pytest.fixture
def call(client, lane):
    auth.forget()
    _, text = issue_key(make_client(lane))

    def send(method: str, path: str, body: Any = None) -> Any:
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {"x-api-key": text}
        return client.generic(method, URL + path, raw, content_type="application/json", headers=headers)

    return send


def test_lists_are_read_with_what_a_hit_does(call, lane):
    found = {each["name"]: each for each in call("GET", "").json()["data"]}
    assert found["mule-accounts"]["kind"] == "block"
    assert (found["mule-accounts"]["outcome"], found["mule-accounts"]["entries"]) == ("decline", 2)
    assert found["treasury"]["skips_scoring"]
    page = call("GET", "/proxy-networks/entries").json()
    assert [each["value"] for each in page["data"]] == ["192.0.2.0/25"]
    assert call("GET", "/proxy-networks/entries?value=192.0.2.0/25").json()["data"] == page["data"]
    assert call("GET", "/proxy-networks/entries?value=192.0.3.0/25").json()["data"] == []
    assert call("GET", "/proxy-networks/entries?cursor=x").status_code == 400
    assert call("GET", "/none/entries").status_code == 404


def test_a_watch_list_obeys_at_once_and_a_retry_is_harmless(call, lane):
    sent = {"value": "dev-9", "reason": "Odd", "author": "SOC", "expires_at": "2099-01-01T00:00:00Z"}
    made = call("POST", "/watched-devices/entries", sent)
    assert made.status_code == 201
    again = call("POST", "/watched-devices/entries", sent)
    assert (again.status_code, again.json()) == (200, made.json())
    entry = List.objects.get(name="watched-devices").entries.get(value="dev-9")
    assert (entry.author, entry.origin) == ("SOC", "api bank")
    path = f"/watched-devices/entries/{entry.pk}"
    assert call("DELETE", path).status_code == 400
    assert call("DELETE", path + "?reason=Known").status_code == 204
    assert call("DELETE", path + "?reason=Known").status_code == 404


def test_a_block_list_answers_with_a_proposal_that_a_person_approves(call, lane):
    sent = {"value": "tok-1", "reason": "Reported stolen"}
    held = lists.create_list(lane, "stolen", kind="block", subject="card", by=make_user("dora", *RIGHTS))
    made = call("POST", "/stolen/entries", sent)
    assert (made.status_code, made.json()["status"]) == (202, "pending")
    assert call("POST", "/stolen/entries", sent).json() == made.json()
    assert call("GET", "/stolen/entries").json()["data"] == []
    governance.approve(Proposal.objects.get(), by=make_user("egon", *RIGHTS))
    [entry] = call("GET", "/stolen/entries").json()["data"]
    assert (entry["value"], entry["author"]) == ("…-1", "bank")
    assert call("POST", "/stolen/entries", sent).status_code == 200
    assert call("DELETE", f"/stolen/entries/{entry['id']}?reason=Found").status_code == 202
    assert held.entries.get().pk == Proposal.objects.get(status="pending").before["entries"][0]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"value": "4111" + "1" * 12, "reason": "Stolen"}, 422, "pan-not-accepted"),
        ({"value": "dev-9", "reason": ""}, 422, "invalid-body"),
        ({"value": "dev-9"}, 422, "invalid-body"),
        ({"value": 9, "reason": "x"}, 422, "invalid-body"),
        ({"value": "dev-9", "reason": "x", "more": 1}, 422, "invalid-body"),
        ({"value": "dev-9", "reason": "x", "expires_at": "2099-01-01T00:00:00"}, 422, "invalid-body"),
        ({"value": "dev-9", "reason": "x", "expires_at": "2001-01-01T00:00:00Z"}, 422, "invalid-body"),
    ],
)
def test_what_cannot_stand_there_is_a_problem_that_repeats_nothing(call, body, status, code):
    answer = call("POST", "/watched-devices/entries", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "4111" not in answer.content.decode()


def test_without_the_scope_nothing_is_changed(client, lane):
    auth.forget()
    _, text = issue_key(make_client(lane), scopes=["lists:read"])
    headers = {"x-api-key": text}
    assert client.get(URL, headers=headers).status_code == 200
    sent = client.post(f"{URL}/watched-devices/entries", "{}", content_type="application/json", headers=headers)
    assert sent.status_code == 403
