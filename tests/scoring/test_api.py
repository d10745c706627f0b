"""The catalogue of reason codes, for who holds a key."""

from __future__ import annotations

import pytest

from scoring import seeds
from tests.factories import make_client
from transactions.auth import issue_key

pytestmark = pytest.mark.django_db


def test_a_client_reads_every_reason_code(client, lane):
    _, text = issue_key(make_client(lane))
    response = client.get("/api/v1/reason-codes", headers={"authorization": f"Bearer {text}"})
    assert response.status_code == 200
    body = response.json()
    assert {each["code"] for each in body["data"]} == {code for code, *_ in seeds.REASON_CODES}
    assert set(body["data"][0]) == {"code", "title", "description", "source"}
    assert body["pagination"] == {"next_cursor": None, "has_more": False}


def test_without_a_key_or_its_scope_nothing_is_read(client, lane):
    assert client.get("/api/v1/reason-codes").status_code == 401
    _, text = issue_key(make_client(lane), scopes=["labels:write"])
    assert client.get("/api/v1/reason-codes", headers={"x-api-key": text}).status_code == 403
