"""The ring: what tells a lane that something came in, and carries waiting requests there and back, through Valkey.

Everything here is a hint. A lost ring is found by the sweep, a lost body by its waiting request, whose patience ends.
So every list is bounded, every key expires, every call has a short time-out, and the one error is `RingGone`: do
without.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from struct import Struct
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

PAYMENTS, LABELS, BODY = b"P", b"L", b"B"
MOST_KEPT = 5_000  # messages of a lane that nobody drains
REPLY_SECONDS = 30  # a reply nobody waits for any more
ALIVE_SECONDS = 5  # a lane that said nothing for so long is taken for gone
REMEMBERED_SECONDS = 1.0  # how long a process believes what it saw of a lane
CONNECT_SECONDS = 0.3
SOCKET_SECONDS = 2.0  # for calls that block on purpose
QUICK_SECONDS = 0.5  # for all others
SLICE_SECONDS = 1.0  # the longest single blocking call; below SOCKET_SECONDS
REST_SECONDS, LONGEST_REST = 0.5, 4.0  # after a failure Valkey is left alone for so long, doubled each time

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


def push_range(lane_id: int, first: int, last: int, *, kind: str = "payments") -> bool:
    """Tell the lane of committed rows; True if the lane is alive. Raises RingGone."""
    message = (LABELS if kind == "labels" else PAYMENTS) + _range.pack(first, last)
    return bool(_call(lambda pipe: pipe.exists(_alive(lane_id)), *_push(lane_id, message))[0])


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
    first, rest = _call(lambda pipe: pipe.blpop([key], wait), lambda pipe: pipe.lpop(key, most - 1), blocks=True)
    raw = ([first[1]] if first else []) + (rest or [])
    return [_message(one) for one in raw]


def drain(lane_id: int, *, most: int) -> list[Message]:
    """Up to `most` messages that are there already. Raises RingGone."""
    (raw,) = _call(lambda pipe: pipe.lpop(_ring(lane_id), most))
    return [_message(one) for one in raw or []]


def reply(answers: Mapping[bytes, bytes]) -> None:
    """Wake waiting requests: `{token: answer}`. Raises RingGone."""
    if answers:
        _call(*_replies(answers.items()))


def say_alive(lane_id: int, *, seconds: int = ALIVE_SECONDS) -> None:
    """Mark the lane as owned and working for the next `seconds`. Raises RingGone."""
    _call(lambda pipe: pipe.set(_alive(lane_id), 1, ex=seconds))


def say_gone(lane_id: int) -> None:
    """The lane's owner leaves: the next ring starts another one. Raises RingGone."""
    _call(lambda pipe: pipe.delete(_alive(lane_id)))


def is_alive(lane_id: int) -> bool:
    """Whether an owner works on the lane, as far as Valkey knows. Raises RingGone."""
    return bool(_call(lambda pipe: pipe.exists(_alive(lane_id)))[0])


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
    return int(_call(lambda pipe: pipe.llen(_ring(lane_id)))[0])


def _ring(lane_id: int) -> str:
    return f"ring:{lane_id}"


def _alive(lane_id: int) -> str:
    return f"alive:{lane_id}"


def _reply(token: bytes) -> str:
    return f"reply:{token.hex()}"


def _push(lane_id: int, message: bytes) -> list[Callable[[Any], Any]]:
    key = _ring(lane_id)
    return [partial(_append, key, message), partial(_cut, key)]


def _append(key: str, message: bytes, pipe: Any) -> Any:
    return pipe.rpush(key, message)


def _cut(key: str, pipe: Any) -> Any:
    return pipe.ltrim(key, -MOST_KEPT, -1)


def _expire(key: str, pipe: Any) -> Any:
    return pipe.expire(key, REPLY_SECONDS)


def _pop_reply(token: bytes, patience: float) -> Callable[[Any], Any]:
    return lambda pipe: pipe.blpop([_reply(token)], max(0.01, min(patience, SLICE_SECONDS)))


def _replies(answers: Iterable[tuple[bytes, bytes]]) -> list[Callable[[Any], Any]]:
    steps: list[Callable[[Any], Any]] = []
    for token, answer in answers:
        key = _reply(token)
        steps += [partial(_append, key, answer), partial(_expire, key)]
    return steps


def _message(raw: bytes) -> Message:
    kind, rest = raw[:1], raw[1:]
    if kind == BODY:
        token, deadline = _envelope.unpack_from(rest)
        return Body(token, deadline, rest[_envelope.size :])
    first, last = _range.unpack(rest)
    return Range("labels" if kind == LABELS else "payments", first, last)


@cache
def _client(seconds: float) -> redis.Redis:
    """One client for the process and time-out; its pool belongs to threads and survives a restart of Valkey."""
    return redis.Redis.from_url(
        settings.VALKEY_URL,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 1),
    )


def _call(*steps: Callable[[Any], Any], blocks: bool = False) -> list[Any]:
    """Run the steps in one round trip. After a failure the ring rests, so that nobody waits again and again."""
    global _rest_until, _rest
    if time.monotonic() < _rest_until:
        raise RingGone("Valkey did not answer a moment ago")
    pipe = _client(SOCKET_SECONDS if blocks else QUICK_SECONDS).pipeline(transaction=False)
    for step in steps:
        step(pipe)
    try:
        answers = pipe.execute()
    except redis.RedisError as error:
        _rest = min(2 * _rest or REST_SECONDS, LONGEST_REST)
        _rest_until = time.monotonic() + _rest
        raise RingGone(str(error)) from error
    _rest = 0.0
    return answers
