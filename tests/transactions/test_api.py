"""The intake's door: what each call answers, who may call, and that every error is a problem document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from tests.factories import make_client, make_lane
from tests.transactions.documents import make_document
from transactions import answers, auth
from transactions.auth import issue_key, revoke_key
from transactions.models import ApiClient, ApiKey, Label, Transaction

URL = "/api/v1/transactions"
DECISION = {"outcome": "approve", "score": 12, "reasons": [], "degraded": False}


class Caller:
    """A bank's system with a key."""

    def __init__(self, client: ApiClient, **options: Any) -> None:
        self.key, self.text = issue_key(client, **options)
        self.http = Client(raise_request_exception=False)

    def post(self, body: Any, url: str = URL, **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = headers.pop("content_type", "application/json")
        return self.http.post(url, raw, content_type=kind, headers={"X-Api-Key": self.text, **headers})

    def get(self, url: str, **headers: str) -> Any:
        return self.http.get(url, headers={"Authorization": f"Bearer {self.text}", **headers})


@pytest.fixture
def caller(bank: ApiClient) -> Caller:
    auth.forget()
    return Caller(bank)


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the upper floors would answer: `seam["reply"]` and `seam["found"]`; `seam["patience"]` is what was asked."""
    told: dict[str, Any] = {"reply": None, "found": {}, "patience": None}

    def judge_now(prepared: Any, patience: float) -> Any:
        told["patience"] = patience
        return told["reply"]

    monkeypatch.setattr(answers, "_judge_now", judge_now)
    monkeypatch.setattr(
        answers, "_find", lambda ids: {each: told["found"][each] for each in ids if each in told["found"]}
    )
    yield told


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response["X-Request-Id"] and body["type"].endswith(code) and body["title"]
    return body


def test_a_judged_payment_is_answered_with_its_decision(caller: Caller, seam: dict):
    seam["reply"] = {"id": 7, "created": True, "conflict": False, "decision": DECISION}
    response = caller.post(make_document())
    assert response.status_code == 200 and response["Location"] == f"{URL}/7"
    assert response.json() == {
        "id": 7,
        "external_id": "pay-1",
        "status": "decided",
        "decision": DECISION,
        "advice": [],
    }
    assert seam["patience"] == 1.5


def test_when_patience_ends_the_payment_is_kept_and_answered_202(caller: Caller, seam: dict):
    response = caller.post(make_document(), Prefer="wait=3")
    assert response.status_code == 202 and seam["patience"] == 3.0
    assert response["Preference-Applied"] == "wait=3" and response["Retry-After"] == "1"
    kept = Transaction.objects.get()
    assert response["Location"] == f"{URL}/{kept.pk}" and response.json()["status"] == "pending"


def test_respond_async_does_not_wait_at_all(caller: Caller, seam: dict):
    response = caller.post(make_document(), Prefer="respond-async")
    assert response.status_code == 202 and seam["patience"] is None
    assert response["Preference-Applied"] == "respond-async"


def test_the_same_body_again_gives_the_first_result(caller: Caller, seam: dict):
    document = make_document()
    first = caller.post(document)
    seam["found"] = {first.json()["id"]: DECISION}
    again = caller.post(document)
    assert again.status_code == 200 and again["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"] and again.json()["decision"] == DECISION
    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("judged", [True, False], ids=["told by the lane", "found by web"])
def test_another_body_under_the_same_external_id_is_a_conflict(caller: Caller, seam: dict, judged: bool):
    first = caller.post(make_document()).json()["id"]
    if judged:
        seam["reply"] = {"id": first, "created": False, "conflict": True, "decision": None}
    body = problem(caller.post(make_document(amount__value=1)), 409, "duplicate-external-id")
    assert body["errors"][0]["pointer"] == "/external_id"


def test_a_payment_without_merchant_says_what_is_missed(caller: Caller, seam: dict):
    response = caller.post(make_document(merchant=None))
    assert response.json()["advice"][0]["pointer"] == "/merchant/id"


def test_a_stored_payment_is_shown_with_its_document_and_decision(caller: Caller, seam: dict):
    document = make_document()
    made = caller.post(document).json()["id"]
    seam["found"] = {made: DECISION}
    body = caller.get(f"{URL}/{made}").json()
    assert body["decision"] == DECISION and body["status"] == "decided"
    assert body["transaction"]["amount"] == document["amount"] and body["transaction"]["card"] == document["card"]
    found = caller.get(f"{URL}?external_id=pay-1").json()
    assert found == {"data": [body], "pagination": {"next_cursor": None, "has_more": False}}
    assert caller.get(f"{URL}?external_id=nobody").json()["data"] == []


def test_a_client_sees_only_its_own_payments(caller: Caller, seam: dict):
    made = caller.post(make_document()).json()["id"]
    stranger = Caller(make_client(make_lane("cards"), "another bank"))
    problem(stranger.get(f"{URL}/{made}"), 404, "not-found")
    assert stranger.get(f"{URL}?external_id=pay-1").json()["data"] == []
    label = {"external_id": "pay-1", "verdict": "fraud", "source": "chargeback"}
    problem(stranger.post(label, "/api/v1/labels"), 422, "invalid-body")


def test_a_label_is_recorded_with_its_times(caller: Caller, seam: dict):
    made = caller.post(make_document()).json()["id"]
    known = (timezone.now() - timedelta(days=1)).isoformat(timespec="milliseconds")
    body = {
        "external_id": "pay-1",
        "verdict": "fraud",
        "source": "customer",
        "fraud_type": "card_not_present",
        "known_at": known,
    }
    response = caller.post(body, "/api/v1/labels")
    stored = Label.objects.get()
    assert response.status_code == 201 and response.json()["id"] == stored.pk
    assert (stored.transaction_id, stored.verdict, stored.source, stored.author) == (made, "fraud", "customer", "bank")
    assert stored.known_at.isoformat(timespec="milliseconds") == known


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"verdict": "maybe"}, "/verdict", "invalid-value"),
        ({"verdict": "legitimate", "fraud_type": "mule"}, "/fraud_type", "invalid-value"),
        ({"known_at": "2099-01-01T00:00:00Z"}, "/known_at", "invalid-time"),
        ({"source": "investigator"}, "/source", "invalid-value"),
        ({"external_id": "unheard-of"}, "/external_id", "unknown-transaction"),
        ({"transaction_id": 5}, "/transaction_id", "invalid-value"),
        ({"reason": "paid with 4111 1111 " + "1111 1111"}, "/reason", "pan-not-accepted"),
        ({"pin": "1234"}, "/pin", "sensitive-data-not-accepted"),
    ],
)
def test_bad_labels_are_refused_with_a_pointer(caller: Caller, seam: dict, change: dict, pointer: str, code: str):
    caller.post(make_document())
    response = caller.post({"external_id": "pay-1", "verdict": "fraud"} | change, "/api/v1/labels")
    assert response.status_code == 422
    assert {(error["pointer"], error["code"]) for error in response.json()["errors"]} == {(pointer, code)}
    assert not Label.objects.exists()


def test_without_a_key_the_answer_is_401_with_a_challenge(caller: Caller):
    response = Client().post(URL, b"{}", content_type="application/json")
    problem(response, 401, "not-authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("fault", ["wrong secret", "unknown", "revoked", "expired", "disabled", "nonsense"])
def test_a_key_that_is_not_valid_is_refused(caller: Caller, fault: str):
    changed = {"wrong secret": caller.text[:-1] + ("0" if caller.text[-1] != "0" else "1"), "nonsense": "ü"}
    if fault == "unknown":
        ApiKey.objects.all().delete()
    if fault == "expired":
        ApiKey.objects.update(expires_at=timezone.now())
    if fault == "disabled":
        ApiClient.objects.update(enabled=False)
    if fault == "revoked":
        revoke_key(caller.key)
    response = Client().get(f"{URL}/1", headers={"X-Api-Key": changed.get(fault, caller.text)})
    problem(response, 401, "invalid-key")


def test_a_key_needs_the_scope_and_the_network(bank: ApiClient, seam: dict):
    reader = Caller(bank, scopes=["transactions:read"])
    problem(reader.post(make_document()), 403, "missing-scope")
    elsewhere = Caller(bank, networks=["192.0.2.0/24"])
    problem(elsewhere.post(make_document()), 403, "network-not-allowed")
    assert Caller(bank, networks=["127.0.0.0/8"]).post(make_document()).status_code == 202


def test_the_secret_is_stored_hashed_and_its_use_noted_once_a_minute(caller: Caller, django_assert_num_queries: Any):
    stored = ApiKey.objects.get()
    assert caller.text.encode() not in bytes(stored.secret_hash) and len(stored.secret_hash) == 32
    caller.get(f"{URL}?external_id=x")
    noted = ApiKey.objects.get().last_used_at
    assert noted is not None
    with django_assert_num_queries(1):  # the look-up of the payment alone: the key is believed, its use was noted
        caller.get(f"{URL}?external_id=x")
    assert ApiKey.objects.get().last_used_at == noted


def test_every_other_error_is_a_problem_too(caller: Caller, monkeypatch: pytest.MonkeyPatch, seam: dict):
    problem(caller.http.get("/api/v1/nowhere"), 404, "not-found")
    problem(caller.http.delete(URL, headers={"X-Api-Key": caller.text}), 405, "method-not-allowed")
    problem(caller.get(f"{URL}/1", Accept="text/html"), 406, "not-acceptable")
    problem(caller.post(b"x=1", content_type="text/plain"), 415, "unsupported-media-type")
    problem(caller.post(b"{nope"), 400, "invalid-json")
    problem(caller.get(URL), 400, "bad-request")
    huge = make_document(metadata={f"k{n}": "x" * 500 for n in range(70)})
    problem(caller.post(huge), 413, "body-too-large")
    monkeypatch.setattr("transactions.services.store", _raising(OperationalError("gone")))
    gone = caller.post(make_document())
    problem(gone, 503, "unavailable")
    assert gone["Retry-After"]
    monkeypatch.setattr("transactions.services.store", _raising(RuntimeError("a bug")))
    problem(caller.post(make_document()), 500, "internal-error")
    assert not Transaction.objects.exists()


def _raising(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def test_a_request_id_is_taken_over_or_made(caller: Caller):
    assert caller.get(f"{URL}/1", **{"X-Request-Id": "bank-req-0001"})["X-Request-Id"] == "bank-req-0001"
    assert len(caller.get(f"{URL}/1")["X-Request-Id"]) >= 8


def test_an_exempt_field_takes_what_looks_like_a_card_number(bank: ApiClient, seam: dict):
    auth.forget()
    number = "4" + "1" * 15
    problem(Caller(bank).post(make_document(merchant__id=number)), 422, "pan-not-accepted")
    bank.exempt_fields = ["/merchant/id", "/merchant/name"]
    bank.save()
    auth.forget()
    assert Caller(bank).post(make_document(merchant__id=number)).status_code == 202
    problem(Caller(bank).post(make_document("b", merchant__name=number)), 422, "pan-not-accepted")


def test_the_command_makes_a_client_and_prints_a_key_that_works(bank: ApiClient, capsys: pytest.CaptureFixture):
    call_command(
        "create_client", "switch", "--lane", "play", "--sandbox", "--scope", "transactions:read", "--days", "9"
    )
    text = capsys.readouterr().out.strip()
    assert text.startswith("fd_test_") and ApiKey.objects.get().scopes == ["transactions:read"]
    assert Client().get(f"{URL}?external_id=x", headers={"X-Api-Key": text}).status_code == 200
    with pytest.raises(CommandError, match="belongs to the lane play"):
        call_command("create_client", "switch", "--lane", "cards")
