"""Probes for orchestrators, figures for Prometheus, request ids and logs without card numbers."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from fraudsite import degrading, health, logs
from scoring.models import LaneStatus
from tests.factories import make_decision, make_lane
from transactions import limits
from transactions.models import Lane


@pytest.fixture
def fresh_migration_check() -> Iterator[None]:
    health._migrated = False
    yield
    health._migrated = False


def gone(*args: object) -> bool:
    raise OperationalError("gone")


def test_livez_needs_no_database_no_sign_in_and_no_known_host(client: Client) -> None:
    response = client.get("/livez", headers={"host": "10.0.0.7"})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert client.post("/livez").status_code == 405


@pytest.mark.django_db
def test_readyz_is_ready_with_a_migrated_database(client: Client, fresh_migration_check: None) -> None:
    response = client.get("/readyz", headers={"host": "10.0.0.7"})
    assert response.status_code == 200
    assert response.json()["checks"]["database"] == response.json()["checks"]["migrations"] == "ok"


@pytest.mark.django_db
def test_readyz_refuses_traffic_while_a_migration_is_missing(
    client: Client, fresh_migration_check: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda self, targets: ["0002"])
    response = client.get("/readyz")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.json()["checks"]["migrations"] == "failed"


def test_readyz_says_503_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_database", gone)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == response.json()["checks"]["database"] == "failed"


@pytest.mark.django_db
def test_a_missing_valkey_is_reported_but_not_fatal(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> bool:
        raise redis.ConnectionError

    monkeypatch.setattr(health, "_valkey", refused)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["checks"]["valkey"]) == ("degraded", "failed")


@pytest.mark.django_db
def test_health_tells_of_silent_and_degraded_lanes(client: Client) -> None:
    lane, _ = Lane.objects.get_or_create(name="test-lane")
    LaneStatus.objects.update_or_create(lane=lane, defaults={"seen_at": timezone.now(), "degraded": ""})
    assert client.get("/api/health").json()["checks"]["scorer"] == "ok"
    old = timezone.now() - timezone.timedelta(minutes=5)
    LaneStatus.objects.filter(lane=lane).update(seen_at=old, degraded="model_unavailable")
    checks = client.get("/api/health").json()["checks"]
    assert (checks["scorer"], checks["model"]) == ("silent", "degraded")


@pytest.mark.django_db
def test_a_lane_that_ended_in_good_order_says_so_at_once(client: Client) -> None:
    lane = make_lane()
    LaneStatus.objects.create(lane=lane, seen_at=timezone.now(), state="stopped")
    assert client.get("/readyz").json()["checks"]["scorer"] == "stopped"
    LaneStatus.objects.update(state="lane 1 has no releas")
    assert client.get("/readyz").json()["checks"]["scorer"] == "waiting"


@pytest.mark.django_db
def test_a_backlog_decisions_to_judge_again_and_a_lost_valkey_are_told_by_name(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = make_lane()
    LaneStatus.objects.create(lane=lane, seen_at=timezone.now(), figures={"ring": False})
    make_decision(degraded=1)
    monkeypatch.setattr(limits, "backlog", lambda _: 10**9)
    checks = client.get("/readyz").json()["checks"]
    assert (checks["backlog"], checks["rescreening"], checks["scorer"]) == ("over the limit", "waiting", "ok")
    told = {each.check: each.text for each in degrading.found()}
    assert (
        told["rescreening"].startswith("1 decisions") and "1,000,000,000" in told["backlog"] and "202" in told["valkey"]
    )


@pytest.mark.django_db
def test_metrics_answer_this_machine_and_the_token_only(client: Client, settings: Any) -> None:
    page = client.get("/metrics")
    assert page.status_code == 200
    assert b"fraud_cases_open" in page.content and b"django_http_requests" in page.content
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 404
    assert client.get("/metrics", headers={"x-forwarded-for": "10.0.0.7"}).status_code == 404
    settings.METRICS_TOKEN = "t" * 40
    allowed = {"authorization": f"Bearer {'t' * 40}"}
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7", headers=allowed).status_code == 200


@pytest.mark.django_db
def test_each_answer_carries_a_request_id_and_the_strict_policy(client: Client) -> None:
    response = client.get("/desk/login/", headers={"x-request-id": "bank-4711-abcdef"})
    assert response.headers["X-Request-Id"] == "bank-4711-abcdef"
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    forged = client.get("/desk/login/", headers={"x-request-id": "<script>"}).headers["X-Request-Id"]
    assert logs.SAFE_ID.fullmatch(forged)


def test_no_card_number_reaches_the_log() -> None:
    card = "4111" + "1" * 12
    spaced = " ".join(card[start : start + 4] for start in range(0, 16, 4))
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "paid with %s and %s", (card, spaced), None)
    line = json.loads(logs.JsonLines().format(record))
    assert line["msg"] == "paid with [card number] and [card number]"


@pytest.mark.parametrize(
    "text", ["order 4111111111111112", "at 1716290000000000", "id 12345678-1234", "score 0.4111111111111111"]
)
def test_other_long_numbers_stay_in_the_log(text: str) -> None:
    assert logs.scrub(text) == text


def test_a_log_line_carries_the_request_and_its_trace() -> None:
    logs.request_id.set("bank-4711-abcdef")
    logs.trace_id.set("0" * 31 + "1")
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "slow", (), None)
    line = json.loads(logs.JsonLines().format(record))
    assert (line["request_id"], line["trace_id"], line["level"]) == ("bank-4711-abcdef", "0" * 31 + "1", "WARNING")
    assert line["ts"].endswith("Z")
