"""Explaining any decision: what was frozen stays, the rest is computed again, and the sums are checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.test import Client

from alerts import explanations, services
from alerts.models import AlertExplanation
from fraudsite import pipeline
from scoring import features, releases
from scoring.models import Decision
from tests.judging import keep, live_rule, make_bank, rows
from transactions.auth import issue_key
from transactions.models import ApiClient


class Model:
    """A sum: every feature adds a thousandth of its value, and the constant is -9."""

    names = features.NAMES

    def score(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        margin = self.contributions(matrix).sum(axis=1, dtype="f4")
        return 1 / (1 + np.exp(-margin.astype("f8"))), margin

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        return np.hstack([np.tanh(np.nan_to_num(matrix)) / 1000, np.full((len(matrix), 1), -9)]).astype("f4")


@pytest.fixture
def bank(transactional_db: None) -> ApiClient:
    return make_bank()


@pytest.fixture
def with_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assemble = releases._assemble
    monkeypatch.setattr(releases, "_assemble", lambda row: replace(assemble(row), scorer=Model(), model_version="m-1"))


@pytest.fixture
def decided(bank: ApiClient, with_model: None) -> dict[str, int]:
    """One payment that a rule stopped and one that passed."""
    live_rule(bank.lane, "amount > 100")
    ids = {name: keep(bank, name, amount__value=value)[0] for name, value in (("large", 500_00), ("small", 5_00))}
    pipeline.drain(bank.lane_id)
    return ids


def told(payment: int) -> dict[str, Any]:
    decision = explanations.live_decision(payment)
    assert decision is not None
    return explanations.explain_decision(decision)


def test_any_decision_is_explained_and_its_contributions_add_up_to_the_margin(decided: dict[str, int]):
    said = told(decided["small"])
    model = said["model"]
    assert (said["outcome"], said["reasons"], said["rules"], said["lists"]) == ("approve", [], [], [])
    assert model["recomputed"] and model["adds_up"]["ok"] and abs(model["adds_up"]["difference"]) < 1e-4
    assert model["margin"] == pytest.approx(
        model["base"] + sum(each["contribution"] for each in model["groups"]), abs=1e-4
    )
    by_name = {each["name"]: each for each in said["features"]}
    assert len(by_name) == features.N_FEATURES
    assert (by_name["amount"]["value"], by_name["amount"]["unit"]) == (500.0, "minor units, base currency")
    assert by_name["customer_amount_z"]["value"] is None
    assert said["release"]["threshold_set"] == "policy-1"


def test_an_alert_tells_what_it_froze(decided: dict[str, int]):
    assert told(decided["large"])["model"]["recomputed"] is True, "not explained yet"
    services.explain()
    AlertExplanation.objects.update(base=-7.0)
    said = told(decided["large"])
    assert said["model"]["recomputed"] is False and said["model"]["base"] == -7.0
    assert said["model"]["adds_up"]["ok"] is False, "somebody touched it, and it says so"
    assert (said["reasons"][0]["code"], said["rules"][0]["values"]) == ("VELOCITY", {"amount": 500.0})


def test_without_its_model_or_its_kernel_it_tells_what_it_can(decided: dict[str, int], monkeypatch, bank: ApiClient):
    decision = Decision.objects.get(transaction_id=decided["small"])
    rows("UPDATE decision SET kernel_version = 0 WHERE id = %s RETURNING 1", decision.pk)
    said = told(decided["small"])
    assert said["features"] == [] and "kernel 0" in said["notes"][0] and "kernel 0" in said["model"]["note"]
    monkeypatch.undo()
    releases._judges.clear()
    assert "cannot be loaded" in told(decided["large"])["model"]["note"]
    rows("UPDATE decision SET margin = 'NaN' WHERE id = %s RETURNING 1", decision.pk)
    assert told(decided["small"])["model"] is None


def test_the_api_explains_a_clients_own_payment_by_the_primary_keys(
    decided: dict[str, int], bank: ApiClient, django_assert_max_num_queries
):
    client = Client(headers={"authorization": f"Bearer {issue_key(bank)[1]}"})
    path = f"/api/v1/transactions/{decided['large']}/explanation"
    first = client.get(path)
    with django_assert_max_num_queries(5):  # payment, decision, alert with its explanation, facts; room for the model
        again = client.get(path)
    assert first.json() == again.json()
    assert (again.json()["external_id"], again.json()["screening"]) == ("large", 1)
    assert client.get(path + "?screening=2").status_code == 404
    for wrong in ("x", "0", "64", "00065"):  # the last would be the first decision of the next payment
        assert client.get(path + f"?screening={wrong}").json()["code"] == "bad-request"
    assert client.get("/api/v1/transactions/999999999/explanation").status_code == 404
    assert client.get(f"/api/v1/transactions/{2**70}/explanation").status_code == 404
