"""The live socket against real Postgres and Valkey: who gets in, and that no alert is lost or doubled."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client

from alerts import consumers, live
from alerts.models import Alert
from fraudsite.asgi import application
from fraudsite.models import User
from transactions.models import Lane

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]
NOW = datetime(2026, 11, 20, 14, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(consumers, "HEARTBEAT", 0.2)
    monkeypatch.setattr(consumers, "_seen", (0.0, {}))


@pytest_asyncio.fixture(autouse=True)
async def closed_connections():
    """The thread in which consumers read keeps its connection; the test database cannot be dropped under it."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
def lane() -> Lane:
    return Lane.objects.create(name="cards")


@pytest.fixture
def analyst() -> User:
    user = User.objects.create(username="ana", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_alert"))
    return user


def raise_alert(lane: Lane, seq: int) -> Alert:
    return Alert.objects.create(
        pk=10_000 + seq, decision_id=(10_000 + seq) * 64 + 1, lane=lane.pk, seq=seq, occurred_at=NOW,
        raised_at=NOW + timedelta(seconds=seq), outcome="review", score=861, severity=2, customer=1,
        customer_ref="cust-004417", amount=2750125, amount_base=1, currency="KWD", channel="ecommerce", country="KW",
        top_reason="38 times the 30-day median",
    )  # fmt: skip


raise_async = sync_to_async(raise_alert)


def push(lane: Lane, alert: Alert, after: int | None):
    event = {"type": "alerts.raised", "lane": lane.pk, "after": after, "alerts": [live.message(alert)]}
    return get_channel_layer().group_send(live.ALERTS, event)


def cookie_of(user: User) -> bytes:
    client = Client()
    client.force_login(user)
    return f"session={client.cookies['session'].value}".encode()


class Browser(ApplicationCommunicator):
    """The browser's end of a socket. (channels.testing needs daphne, which nothing else here does.)"""

    def __init__(self, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
            "subprotocols": [],
        }
        super().__init__(application, scope)

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output(3))["type"] == "websocket.accept"

    async def send(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(3)


async def socket(user: User | None, query: str = "", origin: bytes = b"http://localhost") -> Browser:
    headers = [(b"origin", origin), (b"host", b"localhost")]
    if user:
        headers.append((b"cookie", await sync_to_async(cookie_of)(user)))
    return Browser("/ws/alerts/", query, headers)


async def hear(feed: Browser, kind: str, timeout: float = 3.0) -> dict:
    """The next message of a kind; others are passed over."""
    async with asyncio.timeout(timeout):
        while True:
            message = json.loads((await feed.receive_output(timeout))["text"])
            if message["type"] == kind:
                return message


async def seqs(feed: Browser, seconds: float) -> list[int]:
    """The seqs of all alerts heard within `seconds`."""
    heard: list[int] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                heard += [alert["seq"] for alert in (await hear(feed, "alerts", seconds + 1))["alerts"]]
    except TimeoutError:
        return heard


async def closing_code(feed: Browser) -> int:
    async with asyncio.timeout(3):
        while True:
            output = await feed.receive_output(3)
            if output["type"] == "websocket.close":
                return output["code"]


async def test_a_stranger_is_told_to_sign_in(lane):
    feed = await socket(None)
    assert await feed.connect()
    assert await closing_code(feed) == 4401


async def test_a_person_without_the_permission_is_refused(lane, analyst):
    await sync_to_async(analyst.user_permissions.clear)()
    feed = await socket(analyst)
    assert await feed.connect()
    assert await closing_code(feed) == 4403


async def test_a_page_of_another_site_gets_no_socket(lane, analyst):
    feed = await socket(analyst, origin=b"https://elsewhere.test")
    assert not await feed.connect()


async def test_a_badge_hears_heartbeats_with_the_last_alert_and_no_alerts(lane, analyst):
    await raise_async(lane, 7)
    feed = await socket(analyst)
    await feed.connect()
    assert (await hear(feed, "heartbeat"))["latest"] == {str(lane.pk): 7}
    await push(lane, await raise_async(lane, 8), after=7)
    assert await seqs(feed, 0.5) == []
    await feed.disconnect()


async def test_a_browser_resumes_after_its_cursor_in_order(lane, analyst):
    for seq in (3, 5, 9, 12):
        await raise_async(lane, seq)
    feed = await socket(analyst, f"after={lane.pk}:3")
    await feed.connect()
    first = await hear(feed, "alerts")
    assert [alert["seq"] for alert in first["alerts"]] == [5, 9, 12]
    assert first["alerts"][0] | {"amount": "2,750.125", "customer": "CU ••4417", "band": "high"} == first["alerts"][0]
    await feed.disconnect()


async def test_a_push_arrives_once(lane, analyst):
    await raise_async(lane, 1)
    feed = await socket(analyst, "after=1")
    await feed.connect()
    await hear(feed, "heartbeat")
    alert = await raise_async(lane, 2)
    await push(lane, alert, after=1)
    await push(lane, alert, after=1)
    assert await seqs(feed, 0.7) == [2]
    await feed.disconnect()


async def test_what_a_lost_push_said_is_read_from_the_rows_when_the_next_one_comes(lane, analyst, monkeypatch):
    monkeypatch.setattr(consumers, "HEARTBEAT", 60)
    await raise_async(lane, 1)
    feed = await socket(analyst, f"after={lane.pk}:1")
    await feed.connect()
    await hear(feed, "heartbeat")
    await raise_async(lane, 2)  # its push is lost
    await push(lane, await raise_async(lane, 3), after=2)
    assert await seqs(feed, 0.5) == [2, 3]
    await feed.disconnect()


async def test_a_heartbeat_repairs_a_lost_push(lane, analyst):
    feed = await socket(analyst, f"after={lane.pk}:0")
    await feed.connect()
    await hear(feed, "heartbeat")
    await raise_async(lane, 4)  # nobody pushes it
    assert await seqs(feed, 2.0) == [4]
    await feed.disconnect()


async def test_nothing_is_lost_or_doubled_when_pushes_race_with_catching_up(lane, analyst):
    for seq in range(1, 450):
        await raise_async(lane, seq)

    async def go_on() -> None:
        for seq in range(450, 480):
            await push(lane, await raise_async(lane, seq), after=seq - 1)

    feed = await socket(analyst, "after=0")
    raising = asyncio.create_task(go_on())
    await feed.connect()
    heard: list[int] = []
    while not heard or heard[-1] < 479:
        heard += [alert["seq"] for alert in (await hear(feed, "alerts"))["alerts"]]
    await raising
    assert heard == list(range(1, 480))
    await feed.disconnect()


async def test_a_browser_asks_again_for_what_it_lacks(lane, analyst):
    for seq in (1, 2, 3):
        await raise_async(lane, seq)
    feed = await socket(analyst, f"after={lane.pk}:3")
    await feed.connect()
    await feed.send(json.dumps({"type": "resume", "after": {str(lane.pk): 1}}))
    assert [alert["seq"] for alert in (await hear(feed, "alerts"))["alerts"]] == [2, 3]
    await feed.disconnect()


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"type": "close_case"}', '{"type": "resume", "after": {"x": 1}}'])
async def test_what_is_not_understood_closes_the_socket(lane, analyst, text):
    feed = await socket(analyst)
    await feed.connect()
    await feed.send(text)
    assert await closing_code(feed) == 4400


async def test_signing_out_closes_the_socket_and_nothing_more_arrives(lane, analyst, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK", 0.3)
    feed = await socket(analyst, "after=0")
    await feed.connect()
    await hear(feed, "heartbeat")
    await sync_to_async(sign_out_everywhere)(analyst)
    assert await closing_code(feed) == 4401
    await push(lane, await raise_async(lane, 1), after=0)
    assert await feed.receive_nothing(0.4)


async def test_a_permission_taken_away_closes_the_socket(lane, analyst, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK", 0.3)
    feed = await socket(analyst, "after=0")
    await feed.connect()
    await sync_to_async(analyst.user_permissions.clear)()
    assert await closing_code(feed) == 4403


def sign_out_everywhere(user: User) -> None:
    user.set_password("another long pass phrase")
    user.save()


async def test_a_sign_out_in_another_tab_closes_the_socket_at_once(lane, analyst):
    client = Client()
    await sync_to_async(client.force_login)(analyst)
    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost")]
    headers.append((b"cookie", f"session={client.cookies['session'].value}".encode()))
    feed = Browser("/ws/alerts/", "after=0", headers)
    await feed.connect()
    await hear(feed, "heartbeat")
    await sync_to_async(client.post)("/desk/logout/")
    assert await closing_code(feed) == 4401
    await push(lane, await raise_async(lane, 1), after=0)
    assert await feed.receive_nothing(0.3)


async def test_a_session_that_reaches_its_end_gets_nothing_more(lane, analyst, monkeypatch):
    feed = await socket(analyst, "after=0")
    await feed.connect()
    await hear(feed, "heartbeat")
    await sync_to_async(sign_out_everywhere)(analyst)  # as the session's row is gone when it has expired
    monkeypatch.setattr(consumers.AlertFeed, "over", lambda self: True)
    await push(lane, await raise_async(lane, 1), after=0)
    assert await closing_code(feed) == 4401
    assert await feed.receive_nothing(0.3)


async def test_a_session_that_was_made_longer_goes_on_after_its_first_end(lane, analyst, monkeypatch):
    feed = await socket(analyst, "after=0")
    await feed.connect()
    await hear(feed, "heartbeat")
    monkeypatch.setattr(consumers.AlertFeed, "over", lambda self: True)  # as told when it began; the row says later
    await push(lane, await raise_async(lane, 1), after=0)
    assert await seqs(feed, 1.0) == [1]
    await feed.disconnect()


async def test_alerts_of_a_rescreening_arrive_once_outside_the_order(lane, analyst):
    await raise_async(lane, 9)
    feed = await socket(analyst, "after=9")
    await feed.connect()
    await hear(feed, "heartbeat")
    late = live.message(await raise_async(lane, 2))
    event = {"type": "alerts.late", "lane": lane.pk, "alerts": [late]}
    await get_channel_layer().group_send(live.ALERTS, event)
    assert (await hear(feed, "late"))["alerts"][0]["seq"] == 2
    await push(lane, await raise_async(lane, 10), after=9)
    assert await seqs(feed, 0.7) == [10]
    await feed.disconnect()


async def test_alerts_of_a_relative_are_withheld_and_the_cursor_goes_on(lane, analyst, monkeypatch):
    from transactions import withheld

    monkeypatch.setattr(withheld, "_says", lambda user: frozenset({1}) if user == analyst else frozenset())
    await raise_async(lane, 1)
    other = await raise_async(lane, 2)
    await sync_to_async(Alert.objects.filter(pk=other.pk).update)(customer=2)
    feed = await socket(analyst, "after=0")
    assert await feed.connect()
    message = await hear(feed, "alerts")
    assert ([each["seq"] for each in message["alerts"]], message["to"]) == ([2], 2)
    relative = await raise_async(lane, 3)
    await push(lane, relative, after=2)
    message = await hear(feed, "alerts")
    assert (message["alerts"], message["to"]) == ([], 3)
    await feed.disconnect()


async def test_who_closes_a_socket_hangs_up_first_and_hears_of_the_end_afterwards():
    """The server keeps a close frame back while somebody waits for a message."""
    waiting = asyncio.Event()

    async def never():
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            waiting.clear()

    ear = consumers.Ear(never)
    listening = asyncio.ensure_future(ear())
    await waiting.wait()
    await ear.hang_up()
    assert not waiting.is_set() and not listening.done()
    ear.over()
    assert (await listening)["type"] == "websocket.disconnect"
    assert (await ear())["type"] == "websocket.disconnect"
