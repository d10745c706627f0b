"""The ring: what tells a lane that something came in, and carries waiting requests there and back, through Valkey.

Everything here is a hint. A lost ring is found by the sweep, a lost body by its waiting request, whose patience ends.
So every list is bounded, every key expires, every call has a short time-out, and the one error is `RingGone`: do
without.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface as Connection
from redis.retry import Retry

PAYMENTS, LABELS, BODY = b"P", b"L", b"B"
MOST_KEPT = 5_000  # messages of a lane that nobody drains
MOST_WEIGHED = 100  # messages of a lane that tell its backlog
REPLY_SECONDS = 30  # a reply nobody waits for any more
ALIVE_SECONDS = 5  # a lane that said nothing for so long is taken for gone
REMEMBERED_SECONDS = 1.0  # how long a process believes what it saw of a lane
CONNECT_SECONDS = 0.3
SOCKET_SECONDS = 2.0  # for calls that block on purpose
QUICK_SECONDS = 0.5  # for all others
SLICE_SECONDS = 1.0  # the longest single blocking call; below SOCKET_SECONDS
REST_SECONDS, LONGEST_REST = 0.5, 4.0  # after a failure Valkey is left alone for so long, doubled each time

LOST = (redis.ConnectionError, ConnectionError)  # what a connection raises that turns out to be gone
GONE = (redis.RedisError, OSError, ValueError)  # ValueError: a buffer closed while it was read

_range = Struct(">qq")
_envelope = Struct(">16sd")
_rest_until = _rest = 0.0
_seen: dict[int, tuple[bool, float]] = {}


class RingGone(Exception):
    """Valkey does not answer; what was to be told stands in rows, or its asker's patience ends."""


@dataclass(frozen=True)
class Range:
    """Rows that were committed: payments or labels with ids from `first` to `last`, other lanes' ones among them."""

    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class Body:
    """A waiting request: its payments as `Prepared.dump()`, to be answered before `deadline` (Unix time)."""

    token: bytes
    deadline: float
    prepared: bytes


Message = Range | Body
Command = tuple[Any, ...]  # its words: bytes, or what has a plain text


def push_range(lane_id: int, first: int, last: int, *, kind: str = "payments") -> bool:
    """Tell the lane of committed rows; True if the lane is alive. Raises RingGone."""
    message = (LABELS if kind == "labels" else PAYMENTS) + _range.pack(first, last)
    return bool(_call((b"EXISTS", _alive(lane_id)), *_push(lane_id, message))[0])


def ask(lane_id: int, prepared: bytes, *, patience: float) -> bytes | None:
    """Hand the payments of a waiting request to the lane and wait for its reply; None when `patience` (seconds) ends.

    Raises RingGone. Holds no database transaction: see protocol.md, Waiting request.
    """
    token = secrets.token_bytes(16)
    end = time.monotonic() + patience
    message = BODY + _envelope.pack(token, time.time() + patience) + prepared
    steps = [*_push(lane_id, message), _pop_reply(token, patience)]
    while True:
        answer = _call(*steps, blocks=True)[-1]
        left = end - time.monotonic()
        if answer is not None:
            return bytes(answer[1])
        if left <= 0:
            return None
        steps = [_pop_reply(token, left)]


def pop(lane_id: int, *, patience: float, most: int) -> list[Message]:
    """Up to `most` messages of the lane, after waiting up to `patience` seconds for the first. Raises RingGone."""
    key, wait = _ring(lane_id), max(0.01, min(patience, SLICE_SECONDS))
    first, rest = _call((b"BLPOP", key, wait), (b"LPOP", key, most - 1), blocks=True)
    raw = ([first[1]] if first else []) + (rest or [])
    return [_message(one) for one in raw]


def drain(lane_id: int, *, most: int) -> list[Message]:
    """Up to `most` messages that are there already. Raises RingGone."""
    (raw,) = _call((b"LPOP", _ring(lane_id), most))
    return [_message(one) for one in raw or []]


def reply(answers: Mapping[bytes, bytes]) -> None:
    """Wake waiting requests: `{token: answer}`. Raises RingGone."""
    if answers:
        _call(*(step for token, answer in answers.items() for step in _answered(token, answer)))


def say_alive(lane_id: int, *, seconds: int = ALIVE_SECONDS, backlog: int = 0) -> None:
    """Mark the lane as owned and working for the next `seconds`, with `backlog` rows that it was told of and has not
    judged yet. Raises RingGone."""
    _call((b"SET", _alive(lane_id), backlog, b"EX", seconds))


def say_gone(lane_id: int) -> None:
    """The lane's owner leaves: the next ring starts another one. Raises RingGone."""
    _call((b"DEL", _alive(lane_id)))


def is_alive(lane_id: int) -> bool:
    """Whether an owner works on the lane, as far as Valkey knows. Raises RingGone."""
    return bool(_call((b"EXISTS", _alive(lane_id)))[0])


def seems_alive(lane_id: int) -> bool:
    """`is_alive`, remembered for a second: cheap enough to ask before every waiting request. Raises RingGone."""
    known, at = _seen.get(lane_id, (False, -REMEMBERED_SECONDS))
    now = time.monotonic()
    if now - at >= REMEMBERED_SECONDS:
        known = is_alive(lane_id)
        _seen[lane_id] = known, now
    return known


def waiting(lane_id: int) -> int:
    """Messages the lane has not taken yet. Raises RingGone."""
    return int(_call((b"LLEN", _ring(lane_id)))[0])


def backlog(lane_id: int) -> int:
    """Rows that wait for the lane, about: those that its owner last said it holds, and those rung for since.

    Other lanes' rows within a range count as well; of a very long ring the first messages speak for all. Raises
    RingGone.
    """
    said, length, first = _call(
        (b"GET", _alive(lane_id)),
        (b"LLEN", _ring(lane_id)),
        (b"LRANGE", _ring(lane_id), 0, MOST_WEIGHED - 1),
    )
    rows = sum(map(_weight, first))
    return int(said or 0) + (rows * length // len(first) if first else 0)


def count(name: str, by: int, *, seconds: int) -> int:
    """Add to a counter that is forgotten after `seconds`; what it stands at then. Raises RingGone."""
    return int(_call((b"INCRBY", name, by), (b"EXPIRE", name, seconds))[0])


def _weight(raw: bytes) -> int:
    if not raw.startswith(PAYMENTS):
        return 1
    first, last = _range.unpack(raw[1:])
    return last - first + 1


def _ring(lane_id: int) -> str:
    return f"ring:{lane_id}"


def _alive(lane_id: int) -> str:
    return f"alive:{lane_id}"


def _reply(token: bytes) -> str:
    return f"reply:{token.hex()}"


def _push(lane_id: int, message: bytes) -> list[Command]:
    key = _ring(lane_id)
    return [(b"RPUSH", key, message), (b"LTRIM", key, -MOST_KEPT, -1)]


def _pop_reply(token: bytes, patience: float) -> Command:
    return b"BLPOP", _reply(token), max(0.01, min(patience, SLICE_SECONDS))


def _answered(token: bytes, answer: bytes) -> list[Command]:
    key = _reply(token)
    return [(b"RPUSH", key, answer), (b"EXPIRE", key, REPLY_SECONDS)]


def _message(raw: bytes) -> Message:
    kind, rest = raw[:1], raw[1:]
    if kind == BODY:
        token, deadline = _envelope.unpack_from(rest)
        return Body(token, deadline, rest[_envelope.size :])
    first, last = _range.unpack(rest)
    return Range("labels" if kind == LABELS else "payments", first, last)


class _Links(threading.local):
    """This thread's connections to Valkey, by their time-out; made anew in a forked process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave all connections: they are the parent's, or lead to another server."""
        self.process = os.getpid()
        self.known: dict[float, Connection] = {}

    def get(self, seconds: float) -> Connection:
        """The connection whose calls take up to `seconds`; it connects when it is used."""
        if self.process != os.getpid():
            self.forget()
        if seconds not in self.known:
            self.known[seconds] = _connection(seconds)
        return self.known[seconds]


_links = _Links()


def _connection(seconds: float) -> Connection:
    pool = redis.ConnectionPool.from_url(
        settings.VALKEY_URL,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
    return pool.make_connection()


def _packed(commands: Iterable[Command]) -> bytes:
    """Commands as they stand on the wire: each an array of counted strings."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            raw = word if isinstance(word, bytes) else str(word).encode()
            parts += [b"$%d\r\n" % len(raw), raw, b"\r\n"]
    return b"".join(parts)


def _exchange(link: Connection, packed: bytes, answers: int) -> list[Any]:
    link.send_packed_command([packed])
    return [link.read_response(disable_decoding=True) for _ in range(answers)]


def _call(*commands: Command, blocks: bool = False) -> list[Any]:
    """Run the commands in one round trip. After a failure the ring rests, so that nobody waits again and again.

    The library's pipelines cost more than all the rest of a ring, so commands are packed here; its connections are
    used as they are. One that turns out to be gone (Valkey was started anew) is made again, once.
    """
    global _rest_until, _rest
    if time.monotonic() < _rest_until:
        raise RingGone("Valkey did not answer a moment ago")
    link, packed = _links.get(SOCKET_SECONDS if blocks else QUICK_SECONDS), _packed(commands)
    try:
        try:
            answers = _exchange(link, packed, len(commands))
        except LOST:
            link.disconnect()
            answers = _exchange(link, packed, len(commands))
    except GONE as error:
        link.disconnect()
        _rest = min(2 * _rest or REST_SECONDS, LONGEST_REST)
        _rest_until = time.monotonic() + _rest
        raise RingGone(str(error)) from error
    except BaseException:
        link.disconnect()  # answers may be left in it
        raise
    _rest = 0.0
    return answers
