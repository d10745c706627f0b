"""Browsing facts: read-only, without a count, found by index; keys are shown once."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.transactions.documents import make_document
from transactions import schema
from transactions.auth import forget, issue_key
from transactions.models import ApiClient, ApiKey
from transactions.services import ingest


@pytest.fixture
def desk(bank: ApiClient) -> Client:
    user = get_user_model().objects.create_superuser("root", password="not-used-here-1")
    client = Client()
    client.force_login(user)
    return client


def test_payments_are_listed_without_a_count_and_found_by_their_ids(desk: Client, bank: ApiClient):
    [receipt] = ingest([schema.from_document(make_document("find-me"))], client=bank)
    with CaptureQueriesContext(connection) as seen:
        page = desk.get("/desk/transactions/transaction/")
    counts = [
        query["sql"] for query in seen.captured_queries if "COUNT(" in query["sql"] and '"transaction"' in query["sql"]
    ]
    assert b"find-me" in page.content and all("LIMIT 10000" in sql for sql in counts)
    for term in ("find-me", "cus-81c2", str(receipt.id)):
        assert b"49.99 EUR" in desk.get("/desk/transactions/transaction/", {"q": term}).content
    assert b"find-me" not in desk.get("/desk/transactions/transaction/", {"q": "nobody"}).content


@pytest.mark.parametrize("table", ["transaction", "label", "importjob"])
def test_facts_can_be_neither_added_nor_changed_nor_deleted(desk: Client, bank: ApiClient, table: str):
    [receipt] = ingest([schema.from_document(make_document())], client=bank)
    assert desk.get(f"/desk/transactions/{table}/").status_code == 200
    assert desk.get(f"/desk/transactions/{table}/add/").status_code == 403
    assert desk.post(f"/desk/transactions/{table}/{receipt.id}/change/", {}).status_code in (302, 403)
    assert desk.post(f"/desk/transactions/{table}/{receipt.id}/delete/", {}).status_code in (302, 403)


def test_a_new_key_is_shown_once_and_works(desk: Client, bank: ApiClient):
    form = {"client": bank.pk, "scopes": ["transactions:read"], "networks": ""}
    page = desk.post("/desk/transactions/apikey/add/", form, follow=True)
    [text] = re.findall(rb"fd_live_[0-9a-f]{12}_[0-9a-f]{64}", page.content)
    answer = Client().get("/api/v1/transactions?external_id=x", headers={"X-Api-Key": text.decode()})
    assert answer.status_code == 200 and ApiKey.objects.count() == 1
    assert text not in desk.get("/desk/transactions/apikey/").content


def test_a_key_is_revoked_in_the_list(desk: Client, bank: ApiClient):
    forget()
    key, text = issue_key(bank)
    desk.post("/desk/transactions/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert Client().get("/api/v1/transactions?external_id=x", headers={"X-Api-Key": text}).status_code == 401
