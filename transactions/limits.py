"""How much may come in: requests of each client, and payments that wait for a lane. Both refuse with 429.

A client's requests are counted in windows of a minute, in Valkey for all web processes together; each process takes its
share in pieces, so that most requests ask nobody. The count is a courtesy, not a promise: when Valkey is gone,
everybody is let in. The backlog of a lane is looked up twice a second at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil

from django.conf import settings

from transactions import ring
from transactions.models import ApiClient
from transactions.problems import Problem

WINDOW_SECONDS = 60
PIECES = 50  # in which a process takes its share of a window
BELIEVED_SECONDS = 0.5
BUSY_SECONDS = 2  # after which a caller may try again when the lane is behind
REQUESTS, BULK = "requests", "bulk"


@dataclass
class Allowance:
    """What a client may still send in the present window, as far as this process knows."""

    name: str
    quota: int
    window: int
    held: int = 0  # of the piece that this process took
    free: int = 0  # that nobody had taken then

    def headers(self, now: float | None = None) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers."""
        now = time.time() if now is None else now
        left = max(0, self.held) + max(0, self.free)
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.name}";r={left};t={_rest(self.window, now)}',
        }


_allowances: dict[tuple[int, str], Allowance] = {}
_backlogs: dict[int, tuple[float, int]] = {}


def take(client: ApiClient, name: str, *, now: float | None = None) -> Allowance | None:
    """Count one request of the client; None where nothing is limited. Raises Problem when its window is used up."""
    now = time.time() if now is None else now
    quota = quota_of(client, name)
    if not quota:
        return None
    window = int(now) // WINDOW_SECONDS
    known = _allowances.get((client.pk, name))
    if known is None or (known.window, known.quota) != (window, quota):
        known = _allowances[client.pk, name] = Allowance(name, quota, window, free=quota)
    if known.held <= 0:
        _take_piece(known, client)
    known.held -= 1
    if known.held < 0:
        wait = _rest(window, now)
        told = "You sent more requests than your limit for a minute."
        raise Problem("too-many-requests", told, headers={"Retry-After": str(wait), **known.headers(now)})
    return known


def quota_of(client: ApiClient, name: str) -> int:
    """Requests a minute; 0 = not limited. A client's own limit is one of single requests."""
    if name == BULK:
        return settings.BULK_REQUESTS_PER_MINUTE
    own = client.requests_per_minute
    return settings.REQUESTS_PER_MINUTE if own is None else own


def _rest(window: int, now: float) -> int:
    """Seconds until the window ends, at least one."""
    return max(1, ceil((window + 1) * WINDOW_SECONDS - now))


def _take_piece(known: Allowance, client: ApiClient) -> None:
    """Take the next piece of the window; nothing is left when others took it all."""
    if not known.free:
        return
    size = max(1, known.quota // PIECES)
    try:
        taken = ring.count(f"limit:{client.pk}:{known.name}:{known.window}", size, seconds=2 * WINDOW_SECONDS)
    except ring.RingGone:
        known.held = size
        return
    known.free = max(0, known.quota - taken)
    known.held = max(0, min(size, known.quota - taken + size))


def check_backlog(lane_id: int) -> None:
    """Raises Problem when more payments wait for the lane than BACKLOG_LIMIT; lets in whoever asks while Valkey is
    gone."""
    if settings.BACKLOG_LIMIT and backlog(lane_id) > settings.BACKLOG_LIMIT:
        told = "More payments wait for a decision than the desk takes; nothing of this request was kept."
        raise Problem("too-many-requests", told, headers={"Retry-After": str(BUSY_SECONDS)})


def backlog(lane_id: int) -> int:
    """Payments that wait for the lane, as it was up to half a second ago; 0 while nobody can tell."""
    now = time.monotonic()
    at, rows = _backlogs.get(lane_id, (-BELIEVED_SECONDS, 0))
    if now - at < BELIEVED_SECONDS:
        return rows
    try:
        rows = ring.backlog(lane_id)
    except ring.RingGone:
        rows = 0
    _backlogs[lane_id] = now, rows
    return rows


def forget() -> None:
    """Look everything up anew: for tests."""
    _allowances.clear()
    _backlogs.clear()
