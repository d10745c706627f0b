"""Counts add up across processes, survive a Valkey that is away, and cost a dictionary entry."""

from functools import partial

import numpy as np
import pytest
import redis
from django.conf import settings

from transactions import tally


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch):
    """No counts of other tests, here or in Valkey, and no thread that delivers in between."""
    monkeypatch.setattr(tally, "_start", lambda: None)

    def forget():
        with tally._lock:
            tally._counts.clear()
            tally._gauges.clear()
        tally._later.clear()
        with redis.Redis.from_url(settings.VALKEY_URL) as client:
            for key in client.scan_iter("metrics:*"):
                client.delete(key)

    forget()
    yield
    forget()


def test_what_was_counted_is_read_by_name_and_labels():
    tally.add("alerts", 2, lane="1")
    tally.add("alerts", lane="1")
    tally.add("alerts", lane="2")
    assert tally.flush()
    tally.add("alerts", lane="1")
    assert tally.flush()
    counts, _ = tally.read()
    assert counts == {("alerts", (("lane", "1"),), ""): 4, ("alerts", (("lane", "2"),), ""): 1}


def test_a_histogram_counts_each_value_once_in_the_bucket_it_fits():
    tally.observe("score", (10, 20), np.array([10, 11, 20, 21, 500]), model_version="m")
    tally.flush()
    counts, _ = tally.read()
    assert {part: value for (_, _, part), value in counts.items()} == {"0": 1, "1": 2, "2": 2, "sum": 562}


def test_gauges_of_all_living_processes_are_added_up(monkeypatch):
    tally.move("websocket_connections", 3)
    tally.flush()
    tally._gauges.clear()  # from here on this is another process
    monkeypatch.setattr(tally.os, "getpid", lambda: 4_000_000)
    tally.move("websocket_connections", 2)
    tally.move("websocket_connections", -1)
    tally.flush()
    assert tally.read()[1] == {("websocket_connections", (), ""): 4}


def test_counts_wait_while_valkey_is_away(settings):
    there = settings.VALKEY_URL
    settings.VALKEY_URL = "redis://127.0.0.1:1/0"
    tally.add("alerts", lane="1")
    assert not tally.flush()
    tally.add("alerts", lane="1")
    settings.VALKEY_URL = there
    assert tally.flush()
    assert tally.read()[0] == {("alerts", (("lane", "1"),), ""): 2}


def test_a_process_that_labels_by_ids_is_bounded(monkeypatch):
    monkeypatch.setattr(tally, "MOST_SERIES", 10)
    for n in range(50):
        tally.add("alerts", lane=str(n))
    assert len(tally._counts) <= 10


def test_counting_put_off_is_bounded_and_says_what_it_dropped(monkeypatch):
    monkeypatch.setattr(tally, "MOST_LATER", 3)
    called: list[int] = []
    for n in range(5):
        tally.later(partial(called.append, n))
    tally.flush()
    assert called == [2, 3, 4]
    assert tally.read()[0] == {("metrics_dropped", (), ""): 2}
