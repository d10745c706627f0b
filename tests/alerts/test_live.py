"""Publishing: what goes out, in which order, and that a lane never waits for it."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from channels.layers import channel_layers, get_channel_layer
from django.test import override_settings

from alerts import live, services
from transactions.codes import CHANNEL, CURRENCY, OUTCOME
from transactions.facts import blank, micros, moment

HEAD = np.dtype([("id", "i8"), ("seq", "i8"), ("decided_at", "i8"), ("outcome", "i2"), ("score", "i2")])
AT = micros(moment(842_000_000_000_000))


def stopped_payments(n: int, *, seq: int = 1):
    """n payments with their decisions, declined with a score of 968."""
    facts, decisions = blank(n), np.zeros(n, HEAD)
    facts["id"], facts["lane"], facts["occurred_at"] = np.arange(n) + seq, 1, AT
    facts["amount"], facts["currency"], facts["channel"] = 8990, CURRENCY.code("EUR"), CHANNEL.code("ecommerce")
    decisions["id"], decisions["seq"], decisions["decided_at"] = facts["id"] * 64 + 1, np.arange(n) + seq, AT
    decisions["outcome"], decisions["score"] = OUTCOME.code("decline"), 968
    return facts, decisions


def rows(n: int, *, seq: int = 1):
    facts, decisions = stopped_payments(n, seq=seq)
    reasons = [[{"code": "VELOCITY", "text": "7 payments in 10 min; usual 0–1"}]] * n
    return services.alert_rows(
        facts, decisions, customer_refs=["cust-000926"] * n, reasons=reasons, rules=[[]] * n, hold_minutes=120
    )


@pytest.fixture
def pushes(monkeypatch):
    """A fresh thread of pushes, as in a process that just started."""
    fresh = live.Pushes()
    monkeypatch.setattr(live, "_pushes", fresh)
    monkeypatch.setattr(live, "dropped", live.Counter())
    return fresh


async def heard(group: str, act, count: int) -> list[dict]:
    """What a member of a group hears when `act` is done."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    await asyncio.to_thread(act)
    async with asyncio.timeout(20):
        found = [await layer.receive(channel) for _ in range(count)]
    await layer.group_discard(group, channel)
    return found


def test_alerts_are_pushed_in_order_each_push_naming_the_one_before(pushes):
    def act():
        live.publish(1, rows(2, seq=5))
        live.publish(1, rows(1, seq=9))
        live.publish(2, rows(1, seq=3))

    first, second, other = async_to_sync(heard)(live.ALERTS, act, 3)
    assert [alert["seq"] for alert in first["alerts"]] == [5, 6]
    assert (first["after"], second["after"], other["after"]) == (None, 6, None)


def test_a_message_made_of_columns_is_the_one_made_of_the_stored_row(db):
    from django.db import connection

    from alerts.models import Alert
    from transactions import binary

    columns = rows(1, seq=77)
    with connection.cursor() as cursor:
        binary.store(cursor.cursor, "alert", columns)
    assert live.messages(columns) == [live.message(Alert.objects.get(seq=77))]
    assert (
        live.messages(columns)[0] | {"amount": "89.90", "customer": "CU ••0926", "band": "critical"}
        == (live.messages(columns)[0])
    )


def test_many_batches_become_one_sample_with_counts_in_full(pushes, monkeypatch):
    monkeypatch.setattr(live, "TICK", 60.0)

    def act():
        for _ in range(20):
            facts, decisions = stopped_payments(50)
            outcomes = np.where(np.arange(50) < 49, OUTCOME.code("approve"), OUTCOME.code("decline"))
            live.publish_sample(1, facts, outcomes, decisions["score"], np.full(50, 13_000))
        with pushes._lock:  # the tick is over, however long these took
            pushes._samples[1].due = 0.0
            pushes._lock.notify()

    [sample] = async_to_sync(heard)(live.SAMPLES, act, 1)
    assert sample["decisions"] == 1000
    assert sample["outcomes"] == {"approve": 980, "decline": 20}
    assert (sample["p50"], sample["p95"]) == (13.0, 13.0)
    assert len(sample["shown"]) == live.SHOWN


@override_settings(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
)
def test_without_valkey_a_push_is_dropped_and_counted_and_the_lane_goes_on(pushes, monkeypatch):
    channel_layers.backends.clear()
    gone_on, send = threading.Event(), live._send

    async def slow(*push: Any) -> None:
        assert await asyncio.to_thread(gone_on.wait, 20), "the lane waits for its push"
        await send(*push)

    monkeypatch.setattr(live, "_send", slow)
    live.publish(1, rows(1))
    gone_on.set()
    assert pushes.flush(20)
    assert sum(live.dropped.values()) == 1
    channel_layers.backends.clear()


def test_what_nobody_can_be_sent_does_not_fill_the_lanes_memory(pushes, monkeypatch):
    monkeypatch.setattr(live.Sample, "MOST", 100)
    facts, decisions = stopped_payments(60)
    sample = live.Sample(0.0, 0.5)
    for _ in range(5):
        sample.add((facts, decisions["outcome"], decisions["score"], np.full(60, 13_000)))
    assert len(sample.batches) == 2 and sample.message(1, 0.5)["decisions"] == 120
    assert live.dropped["sample full"] == 3


def test_alerts_of_a_rescreening_are_pushed_without_a_place_in_the_order(pushes):
    def act():
        live.publish(1, rows(1, seq=50))
        live.publish_late(1, rows(2, seq=3))
        live.publish(1, rows(1, seq=51))

    first, late, second = async_to_sync(heard)(live.ALERTS, act, 3)
    assert (first["after"], second["after"]) == (None, 50)
    assert late["type"] == "alerts.late" and "after" not in late
    assert [alert["seq"] for alert in late["alerts"]] == [3, 4]


def test_the_group_of_a_session_does_not_tell_its_key():
    key = "abcdefghijklmnopqrstuvwxyz012345"
    assert key not in live.of_session(key) and live.of_session(key) == live.of_session(key)
    assert live.of_session("other") != live.of_session(key)
