"""The ring: hints that may be lost, bounded lists, short waits, and one error when Valkey is gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from unittest.mock import Mock

import pytest
import redis

from transactions import ring
from transactions.ring import Body, Range, RingGone

_lanes = count(9_000)


@pytest.fixture
def lane() -> Iterator[int]:
    lane = next(_lanes)
    yield lane
    ring.drain(lane, most=10_000)
    ring.say_gone(lane)


@pytest.fixture
def gone(settings, unused_tcp_port: int) -> Iterator[None]:
    settings.VALKEY_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    ring._links.forget()
    yield
    ring._links.forget()
    ring._rest_until = ring._rest = 0.0


def test_ranges_arrive_in_order_and_say_whether_the_lane_lives(lane: int):
    assert ring.push_range(lane, 5, 9) is False
    ring.say_alive(lane)
    assert ring.push_range(lane, 1, 1, kind="labels") is True
    assert ring.pop(lane, patience=20, most=10) == [Range("payments", 5, 9), Range("labels", 1, 1)]


def test_a_pop_takes_no_more_than_it_may_and_waits_no_longer(lane: int):
    for n in range(4):
        ring.push_range(lane, n, n)
    assert len(ring.pop(lane, patience=20, most=3)) == 3
    assert len(ring.drain(lane, most=3)) == 1
    started = time.monotonic()
    assert ring.pop(lane, patience=0.1, most=3) == []
    assert time.monotonic() - started < 5


def test_a_body_travels_to_the_lane_and_its_answer_back(lane: int):
    answers: list[bytes | None] = []
    asker = threading.Thread(target=lambda: answers.append(ring.ask(lane, b"payments", patience=20)))
    asker.start()
    [body] = ring.pop(lane, patience=20, most=3)
    assert isinstance(body, Body) and body.prepared == b"payments" and 0 < body.deadline - time.time() <= 20
    ring.reply({body.token: b"decided"})
    asker.join()
    assert answers == [b"decided"]


def test_patience_longer_than_one_blocking_call_goes_on_waiting(lane: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring, "SLICE_SECONDS", 0.1)
    answers: list[bytes | None] = []
    asker = threading.Thread(target=lambda: answers.append(ring.ask(lane, b"x", patience=20)))
    asker.start()
    [body] = ring.pop(lane, patience=20, most=3)
    time.sleep(0.3)
    assert isinstance(body, Body)
    ring.reply({body.token: b"late"})
    asker.join()
    assert answers == [b"late"]


def test_nobody_answering_is_none_after_the_patience(lane: int):
    started = time.monotonic()
    assert ring.ask(lane, b"x", patience=0.2) is None
    assert 0.2 <= time.monotonic() - started < 5


def test_a_ring_that_nobody_drains_stays_bounded(lane: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring, "MOST_KEPT", 3)
    for n in range(6):
        ring.push_range(lane, n, n)
    assert ring.waiting(lane) == 3
    assert ring.drain(lane, most=1) == [Range("payments", 3, 3)]


def test_without_valkey_there_is_one_error_at_once_and_a_rest(gone: None):
    started = time.monotonic()
    with pytest.raises(RingGone):
        ring.push_range(1, 1, 1)
    with pytest.raises(RingGone, match="a moment ago"):
        ring.ask(1, b"x", patience=20)
    assert time.monotonic() - started < 5


def test_a_connection_that_was_cut_is_made_anew_without_an_error(lane: int):
    ring.push_range(lane, 1, 1)
    for link in ring._links.known.values():
        sock: socket.socket = vars(link)["_sock"]
        sock.shutdown(socket.SHUT_RDWR)
    assert ring.push_range(lane, 2, 2) is False
    assert [one.first for one in ring.drain(lane, most=9) if isinstance(one, Range)] == [1, 2]


def test_the_ring_comes_back_by_itself_after_its_rest(lane: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring, "REST_SECONDS", 0.1)
    with monkeypatch.context() as cut, pytest.raises(RingGone, match="cut"):
        cut.setattr(ring, "_exchange", Mock(side_effect=redis.ConnectionError("cut")))
        ring.push_range(lane, 1, 1)
    time.sleep(0.15)
    assert ring.push_range(lane, 2, 2) is False
