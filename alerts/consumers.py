"""The live socket: a pipe with a doorkeeper.

It admits by session and permission and asks again while it lives, catches up from the rows after the browser's cursor,
then forwards pushes. Pushes and rows meet in one place, the cursor: under one lock an alert goes out only if its seq is
above the cursor of its lane, so nothing is lost between the two and nothing is sent twice.

Close codes: 4400 not understood, 4401 signed out, 4403 no permission, 1013 try again later.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from alerts import live, online
from alerts.models import Alert
from transactions import tally, withheld
from transactions.models import Lane

HEARTBEAT = 3.0  # seconds; browsers call a line dead after 8 without one
CHECK = 30.0  # seconds between two looks at session and permission
CHUNK = 200  # alerts in one message while catching up
FARTHEST = 5000  # alerts of a lane that are caught up one by one; beyond, the browser is told to load the page again

BAD_MESSAGE, SIGNED_OUT, NO_PERMISSION, TRY_LATER = 4400, 4401, 4403, 1013

Cursor = dict[int, int]  # lane → seq of the last alert sent
Message = dict[str, Any]


class Ear:
    """What one browser says to us, for as long as we listen.

    The server lets no close frame out while somebody waits for a message (granian 2.8): who closes hangs up first. The
    consumer hears of the end as if the browser had left, once the close is out.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._waiting: asyncio.Future[Message] | None = None
        self._hung_up = False
        self._over = asyncio.Event()

    async def __call__(self) -> Message:
        """The next message."""
        if not self._hung_up:
            self._waiting = asyncio.ensure_future(self._receive())
            try:
                await asyncio.wait({self._waiting})
            finally:
                self._waiting.cancel()  # does nothing to what is done
            if not self._waiting.cancelled():
                return self._waiting.result()
        await self._over.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def hang_up(self) -> None:
        """Wait for no further message."""
        self._hung_up = True
        if self._waiting and self._waiting.cancel():
            await asyncio.wait({self._waiting})

    def over(self) -> None:
        """The close is out."""
        self._over.set()


class AlertFeed(AsyncJsonWebsocketConsumer):
    """`/ws/alerts/?after=<seq>|<lane>:<seq>,…&samples=1`; without `after` only heartbeats, for a page's badge."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ear = Ear(receive)
        await super().__call__(scope, self.ear, send)

    async def connect(self) -> None:
        self.lock = asyncio.Lock()
        self.cursor: Cursor = {}
        self.pulse: asyncio.Task[None] | None = None
        self.following = False
        self.open = True
        self.counted = False
        self.ends = 0.0
        self.kept_from: frozenset[int] = frozenset()
        await self.accept()  # a browser learns the close code only of an accepted socket
        if code := await self.refusal():
            await self.close(code)
            return
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        try:
            await self.follow(query)
        except ValueError:
            await self.close(BAD_MESSAGE)
        except live.LOST:
            await self.close(TRY_LATER)
        else:
            self.counted = True
            tally.move("websocket_connections", 1)
            self.pulse = asyncio.create_task(self.beat())

    async def disconnect(self, code: int) -> None:
        if self.counted:
            self.counted = False
            tally.move("websocket_connections", -1)
        if self.pulse:
            self.pulse.cancel()
        await self.leave()

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Nothing more goes out after this, not even what already waits in the channel; the first code counts."""
        if not self.open:
            return
        self.open = False
        await self.leave()
        await self.ear.hang_up()
        try:
            await super().close(code, reason)
        finally:
            self.ear.over()

    async def send_json(self, content: Any, close: bool = False) -> None:
        """Only while the socket is open: a push may close it between two heartbeats."""
        if self.open:
            await super().send_json(content, close)

    async def leave(self) -> None:
        """Out of the groups; a layer that is gone forgets us by itself."""
        with suppress(*live.LOST):
            await self.channel_layer.group_discard(live.ALERTS, self.channel_name)
            await self.channel_layer.group_discard(live.SAMPLES, self.channel_name)
            await self.channel_layer.group_discard(self.own_group(), self.channel_name)

    async def follow(self, query: dict[str, list[str]]) -> None:
        """Join the groups first, then catch up: what is pushed meanwhile waits in the channel."""
        with suppress(*live.LOST):  # without it a sign-out is noticed at the next check
            await self.channel_layer.group_add(self.own_group(), self.channel_name)
        if "after" in query:
            self.following = True
            self.cursor = await start_of(query["after"][0])
            await self.channel_layer.group_add(live.ALERTS, self.channel_name)
        if "samples" in query:
            await self.channel_layer.group_add(live.SAMPLES, self.channel_name)
        if self.following:
            await self.catch_up(await latest())

    def own_group(self) -> str:
        """The group of this session's sockets, told when it is signed out."""
        session = self.scope.get("session")
        return live.of_session(session.session_key if session and session.session_key else "")

    async def refusal(self) -> int:
        """The close code for this session as it stands now, 0 if it may stay."""
        user, self.ends = await current_user(self.scope)
        if not user.is_authenticated:
            return SIGNED_OUT
        await sync_to_async(online.seen)(user.pk)
        self.kept_from = await database_sync_to_async(withheld.customers)(user)
        return 0 if await database_sync_to_async(user.has_perm)("alerts.view_alert") else NO_PERMISSION

    async def beat(self) -> None:
        """Heartbeats, the repair of lost pushes, and the doorkeeper's rounds."""
        checked = time.monotonic()
        try:
            while self.open:
                if time.monotonic() - checked >= CHECK or self.over():
                    checked = time.monotonic()
                    if code := await self.refusal():
                        return await self.close(code)
                newest = await latest()
                if self.following:
                    await self.catch_up(newest)
                await self.send_json({"type": "heartbeat", "latest": keyed(newest), "at": live.stamp(timezone.now())})
                await asyncio.sleep(HEARTBEAT)
        except DatabaseError:
            await self.close(TRY_LATER)

    async def catch_up(self, newest: Cursor) -> None:
        """Send from the rows what lies between the cursor and `newest`, in order."""
        async with self.lock:
            for lane_id, seq in newest.items():
                if seq > self.cursor.get(lane_id, 0):
                    await self._read(lane_id)

    async def _read(self, lane_id: int) -> None:
        sent = 0
        while alerts := await rows_after(lane_id, self.cursor.get(lane_id, 0)):
            if sent >= FARTHEST:
                self.cursor[lane_id] = (await latest(at_once=True)).get(lane_id, alerts[-1]["seq"])
                await self.send_json({"type": "skipped", "lane": lane_id, "to": self.cursor[lane_id]})
                return
            await self._forward(lane_id, alerts)
            sent += len(alerts)
            if len(alerts) < CHUNK or not self.open:
                return

    async def _forward(self, lane_id: int, alerts: list[dict[str, Any]]) -> None:
        fresh = [alert for alert in alerts if alert["seq"] > self.cursor.get(lane_id, 0)]
        if fresh and self.over() and (code := await self.refusal()):
            await self.close(code)
        if fresh and self.open:
            self.cursor[lane_id] = fresh[-1]["seq"]
            await self.send_json({"type": "alerts", "lane": lane_id, **await self.shown(fresh)})
            tally.add("websocket_messages", kind="alerts")

    async def shown(self, alerts: list[dict[str, Any]]) -> dict[str, Any]:
        """The alerts that this person may see; where some are withheld, also how far the cursor goes (`to`)."""
        if not self.kept_from:
            return {"alerts": alerts}
        ids = [alert["id"] for alert in alerts]
        hidden = await of_customers(ids, self.kept_from)
        return {"alerts": [alert for alert in alerts if alert["id"] not in hidden], "to": alerts[-1]["seq"]}

    async def alerts_raised(self, event: dict[str, Any]) -> None:
        """A push. If it does not follow on what was sent, one was missed: then the rows tell."""
        lane_id, after = event["lane"], event["after"]
        async with self.lock:
            if after is None or after > self.cursor.get(lane_id, 0):
                await self._read(lane_id)
            await self._forward(lane_id, event["alerts"])

    async def alerts_late(self, event: dict[str, Any]) -> None:
        """Alerts of a re-screening: told once, to who is there; who is not finds them on the page."""
        if self.over() and (code := await self.refusal()):
            await self.close(code)
        if self.open and self.following:
            shown = await self.shown(event["alerts"])
            await self.send_json({"type": "late", "lane": event["lane"], "alerts": shown["alerts"]})
            tally.add("websocket_messages", kind="alerts")

    def over(self) -> bool:
        """Whether the session's end, as it was told last, has come; it may have been put off since."""
        return 0 < self.ends <= time.time()

    async def session_ended(self, event: dict[str, Any]) -> None:
        """The session was signed out somewhere."""
        await self.close(SIGNED_OUT)

    async def decisions_sampled(self, event: dict[str, Any]) -> None:
        """The sampled stream of all decisions."""
        if self.open and not self.over():
            await self.send_json({**event, "type": "sample"})
            tally.add("websocket_messages", kind="sample")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        try:
            await super().receive(text_data=text_data, bytes_data=bytes_data, **kwargs)
        except (ValueError, TypeError, AttributeError, KeyError):  # not JSON, or not of the one shape there is
            await self.close(BAD_MESSAGE)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """`{"type": "resume", "after": {lane: seq}}`: the browser lacks what comes after."""
        if content["type"] != "resume":
            raise ValueError(content["type"])
        asked = {int(lane): int(seq) for lane, seq in content["after"].items()}
        async with self.lock:
            self.cursor.update(asked)
        self.following = True
        await self.catch_up(await latest(at_once=True))


def keyed(cursor: Cursor) -> dict[str, int]:
    """With text keys, as JSON has them."""
    return {str(lane): seq for lane, seq in cursor.items()}


async def start_of(after: str) -> Cursor:
    """A cursor from `<seq>` (all lanes) or `<lane>:<seq>,…`. Raises ValueError."""
    if after and ":" not in after:
        seq = int(after)
        return dict.fromkeys(await latest(at_once=True), seq)
    return dict(_pairs(after))


def _pairs(after: str) -> Iterator[tuple[int, int]]:
    for part in filter(None, after.split(",")):
        lane, _, seq = part.partition(":")
        yield int(lane), int(seq)


async def current_user(scope: dict[str, Any]) -> tuple[Any, float]:
    """The session's user as the database has it now, and when it ends (0: it does not say).

    Signed out, switched off and changed passwords count at once.
    """
    engine = import_module(settings.SESSION_ENGINE)
    session = scope.get("session")
    stored = engine.SessionStore(session.session_key if session else None)
    user = await get_user({"session": stored})
    return user, float(await sync_to_async(stored.get)(live.ENDS, 0))


@database_sync_to_async
def rows_after(lane_id: int, seq: int) -> list[dict[str, Any]]:
    """The next alerts of a lane as messages; one index, (lane, seq)."""
    return [live.message(alert) for alert in Alert.objects.filter(lane=lane_id, seq__gt=seq).order_by("seq")[:CHUNK]]


@database_sync_to_async
def of_customers(alert_ids: list[int], customers: frozenset[int]) -> set[int]:
    """Which of these alerts are of these customers; one statement by keys."""
    return set(Alert.objects.filter(pk__in=alert_ids, customer__in=customers).values_list("pk", flat=True))


# All sockets of a process share one look a second at the lanes' last alerts.
_seen: tuple[float, Cursor] = (0.0, {})


async def latest(*, at_once: bool = False) -> Cursor:
    """The seq of the last alert of each lane (0: none yet), at most a second old unless `at_once`."""
    global _seen
    if at_once or time.monotonic() - _seen[0] >= 1.0:
        _seen = (time.monotonic(), await database_sync_to_async(last_alerts)())
    return _seen[1]


def last_alerts() -> Cursor:
    """One backward index step for each lane."""
    newest = Alert.objects.filter(lane=OuterRef("pk")).order_by("-seq").values("seq")[:1]
    return {lane.pk: lane.newest or 0 for lane in Lane.objects.annotate(newest=Subquery(newest))}
