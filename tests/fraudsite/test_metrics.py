"""The metrics page: what lanes, sockets and tasks counted, and the states that rows tell, in Prometheus's own form."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from fraudsite import metrics
from fraudsite.pipeline import drain
from tests.judging import keep, live_rule
from transactions import tally
from transactions.models import ApiClient

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@pytest.fixture
def judged(bank: ApiClient) -> ApiClient:
    """A bank with three payments decided, one of them stopped by a rule."""
    tally.flush()
    with redis.Redis.from_url(settings.VALKEY_URL) as client:
        client.delete(tally.COUNTS)
    live_rule(bank.lane, "amount > 1000")
    keep(bank, "small-1", "small-2", amount__value=500)
    keep(bank, "large", amount__value=500_000)
    drain(bank.lane_id)
    assert tally.flush()
    return bank


def page(client: Client) -> dict[str, list]:
    """The families of the page by name, as Prometheus reads them: its own parser raises on what it would refuse."""
    text = client.get("/metrics").content.decode()
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def values(samples: list, **labels: str) -> list[float]:
    return [sample.value for sample in samples if labels.items() <= sample.labels.items()]


def test_a_lane_counts_payments_rules_alerts_and_seconds(judged: ApiClient, client: Client) -> None:
    families = page(client)
    assert sum(values(families["fraud_transactions"], client="bank")) == 3
    assert sum(values(families["fraud_transactions"], outcome="review")) == 1
    assert values(families["fraud_rule_hits"], rule="R-1", version="1", mode="live") == [1]
    assert values(families["fraud_alerts"]) == [1]
    seconds = families["fraud_scoring_duration_seconds"]
    total = [each.value for each in seconds if each.name.endswith("_count") and each.labels["stage"] == "total"]
    assert total == [3]
    assert {each.labels["stage"] for each in seconds} == {"features", "rules", "model", "total"}


def test_states_are_told_from_rows(judged: ApiClient, client: Client) -> None:
    families = page(client)
    assert values(families["fraud_lane_log"], lane="cards") == [3]
    assert "fraud_cases_open" in families and "fraud_model_info" in families
    assert values(families["fraud_lane_backlog"], lane="cards") == [0]
    assert set(families) >= {"fraud_task_queue_length", "fraud_websocket_connections", "fraud_websocket_dropped"}


def test_names_are_those_that_prometheus_wants_and_no_label_is_an_id(judged: ApiClient, client: Client) -> None:
    text = client.get("/metrics").content.decode()
    own = [family for family in text_string_to_metric_families(text) if family.name.startswith("fraud_")]
    for family in own:
        assert NAME.fullmatch(family.name) and family.documentation.endswith("."), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not {"id", "transaction", "customer", "card"} & set(sample.labels)
    if promtool := shutil.which("promtool"):
        checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=20)
        assert "fraud_" not in checked.stderr, checked.stderr


def test_without_valkey_the_page_still_tells_what_rows_say(bank: ApiClient, client: Client, settings: Any) -> None:
    settings.VALKEY_URL = "redis://127.0.0.1:1/0"
    families = page(client)
    assert "fraud_cases_open" in families
    assert "fraud_transactions" not in families


def test_tasks_are_counted_as_they_end(client: Client, db: None) -> None:
    sender = type("Task", (), {"name": "scoring.tested"})
    metrics.start_task(task_id="t-1")
    metrics.count_task(sender=sender, task_id="t-1", state="SUCCESS")
    assert tally.flush()
    families = page(client)
    assert values(families["fraud_tasks"], task="scoring.tested", state="success")[0] >= 1
    ended = [each.value for each in families["fraud_task_duration_seconds"] if each.name.endswith("_count")]
    assert ended[0] >= 1
    assert not metrics._begun


@pytest.mark.django_db
def test_refused_requests_are_counted_by_their_problem(client: Client) -> None:
    assert client.post("/api/v1/transactions", {}, content_type="application/json").status_code == 401
    assert tally.flush()
    families = page(client)
    assert values(families["fraud_api_auth_failures"])[0] >= 1
    assert any(sample.labels["code"] for sample in families["fraud_api_problems"])
