"""Who is at the desk: a mark in Valkey for each person, renewed by every page they load and every socket they hold.

A mark is a hint that nobody relies on for rights: without Valkey nobody is known to be there, and work goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from redis.exceptions import RedisError

LASTS = 300  # seconds without a page or a socket until a person counts as gone
RENEWED = 60  # a mark is written at most so often


def seen(user_id: int) -> None:
    """This person is here now."""
    try:
        if cache.add(f"online:fresh:{user_id}", 1, RENEWED):
            cache.set(f"online:{user_id}", 1, LASTS)
    except (RedisError, OSError):
        return


def among(user_ids: Iterable[int]) -> set[int]:
    """Which of these people are here."""
    keys = {f"online:{user_id}": user_id for user_id in user_ids}
    try:
        found = cache.get_many(list(keys)) if keys else {}
    except (RedisError, OSError):
        return set()
    return {keys[key] for key in found}


class Seen:
    """Middleware: whoever loads a page of the desk is here. Stands after the authentication middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/desk/") and request.user.is_authenticated:
            seen(int(request.user.pk))
        return response
