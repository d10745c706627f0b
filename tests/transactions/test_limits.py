"""How much may come in: a lane that is behind, a client that sends too much, and nobody to count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.transactions.documents import make_document
from tests.transactions.test_api import Caller, problem
from transactions import auth, limits, ring
from transactions.models import ApiClient, Transaction
from transactions.problems import Problem

NOW = 1_000_000_060.0  # twenty seconds before its window ends


@pytest.fixture
def caller(bank: ApiClient) -> Iterator[Caller]:
    auth.forget()
    limits.forget()
    yield Caller(bank)
    limits.forget()


def in_valkey(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A counter in place of Valkey's; what was taken of it, piece by piece."""
    pieces: list[int] = []

    def count(name: str, by: int, *, seconds: int) -> int:
        pieces.append(by)
        return sum(pieces)

    monkeypatch.setattr(ring, "count", count)
    return pieces


@pytest.mark.parametrize("url", ["/api/v1/transactions", "/api/v1/transactions/bulk"])
def test_a_lane_that_is_behind_refuses_new_payments_with_429_and_keeps_none(
    caller: Caller, settings: Any, url: str, monkeypatch: pytest.MonkeyPatch
):
    settings.BACKLOG_LIMIT = 1_000
    monkeypatch.setattr(ring, "backlog", lambda lane_id: 1_001)
    kind = "application/x-ndjson" if url.endswith("bulk") else "application/json"
    refused = caller.post(make_document(), url, content_type=kind)
    problem(refused, 429, "too-many-requests")
    assert refused["Retry-After"] == "2" and not Transaction.objects.exists()
    assert refused.wsgi_request.read() == b"", "who still sends would get a broken pipe for an answer"
    monkeypatch.setattr(ring, "backlog", lambda lane_id: 1_000)
    limits.forget()
    assert caller.post(make_document(), url, content_type=kind).status_code == 202


def test_the_backlog_is_what_the_owner_holds_and_what_was_rung_since(bank: ApiClient):
    lane = 30_001
    ring.say_gone(lane)
    ring.drain(lane, most=1_000)
    assert ring.backlog(lane) == 0
    ring.push_range(lane, 11, 20)
    ring.push_range(lane, 5, 5, kind="labels")
    ring.say_alive(lane, backlog=300)
    assert ring.backlog(lane) == 311 and ring.is_alive(lane)
    ring.say_gone(lane)
    ring.drain(lane, most=1_000)


def test_every_answer_tells_the_limit_and_one_too_many_is_refused(
    caller: Caller, bank: ApiClient, monkeypatch: pytest.MonkeyPatch
):
    in_valkey(monkeypatch)
    clock = SimpleNamespace(time=lambda: NOW, monotonic=time.monotonic)
    monkeypatch.setattr(limits, "time", clock)
    ApiClient.objects.update(requests_per_minute=2)
    for left in (1, 0):
        answer = caller.get("/api/v1/transactions?external_id=x")
        assert answer.status_code == 200
        told = (answer["RateLimit-Policy"], answer["RateLimit"])
        assert told == ('"requests";q=2;w=60', f'"requests";r={left};t=20')
    refused = caller.get("/api/v1/transactions?external_id=x")
    problem(refused, 429, "too-many-requests")
    assert refused["Retry-After"] == "20" and refused["RateLimit"] == '"requests";r=0;t=20'
    clock.time = lambda: NOW + 21
    monkeypatch.setattr(ring, "count", lambda name, by, seconds: by)
    assert caller.get("/api/v1/transactions?external_id=x").status_code == 200


def test_a_process_asks_for_a_piece_at_a_time_and_never_exceeds_the_quota(bank: ApiClient, monkeypatch: Any):
    limits.forget()
    pieces = in_valkey(monkeypatch)
    bank.requests_per_minute = 1_000
    served = 0
    with pytest.raises(Problem):
        for _ in range(2_000):
            limits.take(bank, limits.REQUESTS, now=NOW)
            served += 1
    assert served == 1_000 and len(pieces) == limits.PIECES
    with pytest.raises(Problem):
        limits.take(bank, limits.REQUESTS, now=NOW)
    assert len(pieces) == limits.PIECES


def test_without_a_limit_or_without_valkey_everybody_is_let_in(bank: ApiClient, settings: Any, monkeypatch: Any):
    def gone(*args: Any, **kwargs: Any) -> int:
        raise ring.RingGone("gone")

    limits.forget()
    monkeypatch.setattr(ring, "count", gone)
    monkeypatch.setattr(ring, "backlog", gone)
    bank.requests_per_minute = 1
    assert all(limits.take(bank, limits.REQUESTS, now=NOW) for _ in range(5))
    bank.requests_per_minute = 0
    assert limits.take(bank, limits.REQUESTS, now=NOW) is None
    settings.BACKLOG_LIMIT = 1
    limits.check_backlog(bank.lane_id)
