"""Who is looking at a case at this moment: a hint that lives in Valkey for seconds and never counts as activity.

Each page that is open and in view says so every few seconds. Nothing is written to the database, no lease is renewed,
no version moves; without Valkey nobody is seen, and nothing else changes.
"""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any, NamedTuple

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

SECONDS = 40  # a page that said nothing for so long is closed or out of sight
MOST = 20  # people shown of one case
GONE = (redis.RedisError, OSError)


class Person(NamedTuple):
    """Somebody who looks at a case."""

    id: int
    name: str
    initials: str


@cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(
        settings.VALKEY_URL, socket_timeout=0.5, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
    )


def _key(case_id: int) -> str:
    return f"presence:{case_id}"


def look(case_id: int, user: Any) -> list[Person]:
    """Say that the person looks at the case; the others who do, longest first."""
    mine = json.dumps([user.pk, user.get_full_name() or user.get_username(), user.initials])
    now = time.time()
    key = _key(case_id)
    try:
        with _valkey().pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(key, 0, now - SECONDS)
            pipe.zadd(key, {mine: now})
            pipe.expire(key, SECONDS)
            pipe.zrange(key, 0, MOST)
            members = pipe.execute()[-1]
    except GONE:
        return []
    return [person for person in map(_person, members) if person.id != user.pk]


def leave(case_id: int, user: Any) -> None:
    """The person closed the page."""
    mine = json.dumps([user.pk, user.get_full_name() or user.get_username(), user.initials])
    try:
        _valkey().zrem(_key(case_id), mine)
    except GONE:
        return


def _person(member: bytes) -> Person:
    return Person(*json.loads(member))
