"""The short chain for machines: the same answers, the same guards, without what only people need."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import signals
from django.db import close_old_connections
from prometheus_client import REGISTRY
from rest_framework.response import Response

from tests.factories import make_client, make_lane
from transactions import api, auth, limits, rates, schema
from transactions.auth import issue_key

Call = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def call(db: None) -> Iterator[Call]:
    """The web server's own application, asked as a web server would."""
    from fraudsite.wsgi import application

    auth.forget()
    limits.forget()
    _, key = issue_key(make_client(make_lane("cards"), "bank"))
    rates.forget()
    rates.seed("EUR")

    def ask(path: str, body: bytes = b"", method: str = "GET", **extra: str) -> tuple[int, dict[str, str], bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Bearer {key}",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
        } | extra
        told: list[Any] = []
        response = application(
            environ, lambda status, headers, *_: told.extend([int(status.split()[0]), dict(headers)])
        )
        content = b"".join(response)
        getattr(response, "close", lambda: None)()
        return told[0], told[1], content

    # The transaction of the test lives on one connection, which a web server would look after between requests.
    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    yield ask
    signals.request_started.connect(close_old_connections)
    signals.request_finished.connect(close_old_connections)


def test_a_payment_sent_through_the_short_chain_is_kept_logged_and_counted(call: Call, caplog: Any):
    labels = {"method": "POST", "route": "api/v1/transactions", "status": "202"}
    before = REGISTRY.get_sample_value("fraud_api_request_seconds_count", labels) or 0
    with caplog.at_level(logging.INFO):
        body = json.dumps(schema.example_payment()).encode()
        status, headers, content = call("/api/v1/transactions", body, "POST", HTTP_PREFER="respond-async")
    assert status == 202 and headers["Location"] == f"/api/v1/transactions/{json.loads(content)['id']}"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Request-Id"]
    assert "Content-Security-Policy" not in headers and "RateLimit" in headers and "Allow" not in headers
    assert headers["Content-Length"] == str(len(content))
    assert [record.status for record in caplog.records if record.name == "fraudsite.request"] == [202]
    assert REGISTRY.get_sample_value("fraud_api_request_seconds_count", labels) == before + 1


def test_a_foreign_host_is_refused_there_too(call: Call):
    assert call("/api/v1/transactions/1", HTTP_HOST="evil.example")[0] == 400
    assert call("/api/v1/transactions/1", HTTP_HOST="evil.example")[0] == 400
    status, headers, _ = call("/api/v1/transactions/1")
    assert status == 404 and headers["Content-Type"] == "application/problem+json"


def test_what_no_view_serves_or_allows_is_a_problem_document(call: Call):
    assert call("/api/v1/nowhere")[1]["Content-Type"] == "application/problem+json"
    status, headers, content = call("/api/v1/transactions", method="DELETE")
    assert status == 405 and headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert headers["Content-Length"] == str(len(content))


def test_an_answer_without_content_tells_no_length(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api.TransactionDetail, "get", lambda self, request, transaction_id: Response(status=204))
    status, headers, _ = call("/api/v1/transactions/1")
    assert status == 204 and "Content-Length" not in headers


def test_methods_that_somebody_makes_up_are_counted_together(call: Call):
    labels = {"method": "other", "route": "api/v1/transactions", "status": "405"}
    before = REGISTRY.get_sample_value("fraud_api_request_seconds_count", labels) or 0
    for method in ("FETCH", "GRAB"):
        assert call("/api/v1/transactions", method=method)[0] == 405
    assert REGISTRY.get_sample_value("fraud_api_request_seconds_count", labels) == before + 2


def test_pages_keep_the_whole_chain(call: Call):
    status, headers, _ = call("/desk/login/", HTTP_AUTHORIZATION="")
    assert status == 200 and "Content-Security-Policy" in headers
