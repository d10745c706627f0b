"""A case as the bank's systems read it."""

import pytest

from cases import services
from tests.factories import (
    WORK,
    make_alert,
    make_case,
    make_client,
    make_close_reason,
    make_lane,
    make_queue,
    make_user,
    past_the_undo,
)
from transactions.auth import issue_key

pytestmark = pytest.mark.django_db


def read(client, case_id, *, scopes=("cases:read",), of=None):
    _, key = issue_key(of or make_client(), scopes=scopes)
    return client.get(f"/api/v1/cases/{case_id}", headers={"Authorization": f"Bearer {key}"})


def test_a_bank_reads_what_became_of_its_payments(client):
    ines = make_user("ines", *WORK)
    held, declined = make_alert("anna"), make_alert("anna", outcome="decline", score=950)
    case = make_case(held, declined, queue=make_queue(ines))
    assert read(client, case.pk).json()["transactions"] == [
        {"id": held.pk, "external_id": held.transaction.external_id, "disposition": None, "resolution": "pending"},
        {"id": declined.pk, "external_id": declined.transaction.external_id, "disposition": None, "resolution": None},
    ]
    services.claim(case.pk, ines)
    reason = make_close_reason("denies")
    fraud = {"fraud_type": "mule", "close_reason": reason.pk, "rationale": "The payee is a mule."}
    services.close_case(case.pk, "confirmed_fraud", by=ines, **fraud)
    told = read(client, case.pk).json()
    assert (told["status"], told["disposition"], told["fraud_type"]) == ("closed", "confirmed_fraud", "mule")
    assert [each["resolution"] for each in told["transactions"]] == ["pending", None]
    past_the_undo()
    assert [each["resolution"] for each in read(client, case.pk).json()["transactions"]] == ["blocked", None]


def test_without_the_scope_or_a_payment_of_ones_own_there_is_no_case(client):
    case = make_case()
    assert read(client, case.pk, scopes=("transactions:read",)).status_code == 403
    stranger = make_client(make_lane("other"), "other bank")
    assert read(client, case.pk, of=stranger).status_code == 404
    same_lane = make_client(make_lane(), "third bank")
    assert read(client, case.pk, of=same_lane).status_code == 404
    assert read(client, 2**70).status_code == 404


def test_what_is_not_decided_yet_has_no_disposition(client):
    ines = make_user("ines", *WORK)
    held, declined = make_alert("anna"), make_alert("anna", score=950)
    case = make_case(held, declined, queue=make_queue(ines, four_eyes_from=1))
    services.claim(case.pk, ines)
    services.set_verdicts(case.pk, {held.pk: "legitimate"}, by=ines)
    fraud = {"fraud_type": "mule", "close_reason": make_close_reason().pk, "rationale": "The payee is a mule."}
    services.close_case(case.pk, "confirmed_fraud", by=ines, **fraud)
    told = read(client, case.pk).json()
    assert (told["status"], told["disposition"], told["closed_at"]) == ("pending_approval", None, None)
    assert [each["disposition"] for each in told["transactions"]] == [None, None]
    assert [each["resolution"] for each in told["transactions"]] == ["pending", "pending"]
