"""Doorbells to Celery that nobody waits for: one background thread in each process publishes them, coalesced.

A publish costs milli-seconds and hangs while the broker is gone; neither a lane nor a request may feel that. What a
bell is for stands in rows, and beat rings the same tasks by the clock: a bell that is lost costs only time.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, NamedTuple

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from fraudsite.celery import app

log = logging.getLogger(__name__)

REST_SECONDS = 0.5  # the same bell rings at most once in so long
EXPIRES_SECONDS = 60


class Bell(NamedTuple):
    """A task to be woken, where, and with which key."""

    task: str
    queue: str
    args: tuple[Any, ...]


class Ringer:
    """The thread and what it still has to ring."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._waiting: dict[Bell, float] = {}  # bell → not before
        self._last: dict[Bell, float] = {}
        self._thread: threading.Thread | None = None

    def ring(self, bell: Bell) -> None:
        """Have the bell rung soon; a bell that waits already is not rung twice."""
        with self._wake:
            self._waiting.setdefault(bell, self._last.get(bell, 0.0) + REST_SECONDS)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            bell = self._next()
            try:
                app.send_task(bell.task, bell.args, queue=bell.queue, expires=EXPIRES_SECONDS, retry=False)
            except (OperationalError, RedisError, OSError, ValueError) as error:  # ValueError: see ring.GONE
                log.warning("bell %s was not rung: %s", bell.task, type(error).__name__)

    def _next(self) -> Bell:
        """Wait for the next bell that is due, and take it."""
        with self._wake:
            while True:
                now = time.monotonic()
                due = [bell for bell, at in self._waiting.items() if at <= now]
                if due:
                    del self._waiting[due[0]]
                    self._last[due[0]] = now
                    return due[0]
                self._wake.wait(min(self._waiting.values(), default=now + 60) - now)


_ringer = Ringer()


def ring(task: str, *args: Any, queue: str = "default") -> None:
    """Wake a Celery task, soon, if the broker is there. Returns at once and never raises."""
    _ringer.ring(Bell(task, queue, args))
