"""One payment's whole life: posted, judged, alerted, worked, labelled; the next one is judged by what was learnt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from alerts.models import Alert
from cases.models import CloseReason
from cases.services import claim_next, close_case, open_cases
from fraudsite import demo, pipeline
from scoring import dataset, features, governance, training
from scoring.models import LaneLog, ModelVersion
from scoring.training import Recipe
from tests.factories import WORK, make_user, past_the_undo
from tests.scoring.learning import FAST
from transactions import schema
from transactions.auth import issue_key
from transactions.facts import DAY, micros
from transactions.models import Label
from transactions.simulator import Bank

RECIPE = Recipe(days=24, maturity_days=3, test_days=6)


@pytest.fixture
def bank(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Client:
    """A small bank with twenty-four days behind it and a first model in force; the caller is its switch."""
    settings.MODEL_DIR, settings.PROFILE_DIR = tmp_path / "models", tmp_path / "profiles"
    small = Bank(7, customers=250, merchants=150)
    small.frauds = 8.0
    monkeypatch.setattr(demo, "Bank", lambda seed: small)
    lane, client = demo.seed_basics()
    job = demo.seed_history(client, days=24, per_day=120)
    call_command("build_epoch", lane.name, verbosity=0)
    version = training.train(lane, as_of=job.started_at, recipe=RECIPE, choices=FAST, by="system")
    demo.seed_release(lane, version)
    return Client(headers={"Authorization": f"Bearer {issue_key(client)[1]}"})


def post(bank: Client, external_id: str) -> dict[str, Any]:
    """A payment made while somebody else steers the device; answered before it is judged."""
    payment = schema.example_payment(external_id=external_id)
    payment["amount"] = {"value": 90_000, "currency": "EUR"}
    payment["device"]["flags"] = ["remote_access"]
    answer = bank.post(
        "/api/v1/transactions", json.dumps(payment), "application/json", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.content
    return answer.json()


def test_one_payment_goes_all_the_way_round(bank: Client) -> None:
    payment = post(bank, "flow-1")
    lane = ModelVersion.objects.get().lane
    assert pipeline.drain(lane.pk) == 1

    def decision() -> dict[str, Any]:
        return bank.get(f"/api/v1/transactions/{payment['id']}").json()["decision"]

    assert (decision()["outcome"], decision()["resolution"]) == ("review", "pending")
    alert = Alert.objects.get()
    assert alert.pk == payment["id"] and "steers" in json.dumps(alert.reasons)

    ines = make_user("ines", *WORK)
    for queue in lane.queues.all():
        queue.members.add(ines)
    assert open_cases() == 1
    case = claim_next(ines)
    assert case is not None and case.customer_ref == schema.example_payment()["customer"]["id"]
    close_case(
        case.pk,
        "confirmed_fraud",
        by=ines,
        fraud_type="account_takeover",
        close_reason=fitting_reason("confirmed_fraud"),
        rationale="The customer did not make this payment.",
    )
    assert decision()["resolution"] == "pending"
    past_the_undo()
    assert decision()["resolution"] == "blocked"
    assert decision()["case_id"] == case.pk

    label = Label.objects.get(transaction_id=payment["id"])
    assert (label.verdict, label.source, label.author) == ("fraud", "investigator", "ines")
    pipeline.drain(lane.pk)
    entry = LaneLog.objects.get(label_id=label.pk)
    assert (entry.transaction_id, entry.old, entry.new) == (payment["id"], 0, 2)

    now = micros(timezone.now())
    lessons = dataset.of_lane(lane.pk, begin=now - DAY, end=now, most=1_000)
    place = lessons.ids.tolist().index(payment["id"])
    assert lessons.known(now)[place] == dataset.FRAUD
    assert lessons.known(micros(label.known_at) - 1)[place] == dataset.NONE

    second = training.train(lane, recipe=RECIPE, choices=FAST)
    admin, approver = make_user("dora", "scoring.propose_model"), make_user("egon", "scoring.approve_model")
    proposal = governance.propose("model", second, by=admin, reason="It has seen what Ines found")
    governance.approve(proposal, by=approver, note="Looks right")

    payment = post(bank, "flow-2")
    pipeline.drain(lane.pk)
    assert decision()["model_version"] == second.version
    assert features.N_FEATURES >= 40
    call_command("verify", lane.pk, replay=True)


def fitting_reason(disposition: str) -> str:
    return CloseReason.objects.filter(dispositions__contains=[disposition]).first().pk
