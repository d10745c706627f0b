"""Counts for the metrics page, added up across processes and restarts.

A process counts in memory, which costs a dictionary entry; a background thread adds what came together to one hash in
Valkey every two seconds. The page (`fraudsite/metrics.py`) reads that hash, whichever web process is asked. What cannot
be delivered waits for the next time; when Valkey loses its memory the counts begin again, as counters may.
Gauges of a process stand under a key of their own that expires when the process does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import numpy as np
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

COUNTS = "metrics:counts"
GAUGES = "metrics:gauges:"  # + host and process
EVERY_SECONDS = 2.0
GAUGE_SECONDS = 30
MOST_SERIES = 5_000  # of one process between two deliveries; more means that somebody labels by ids
MOST_LATER = 2_000  # counting jobs put off; older ones are dropped, and that is counted
GONE = (redis.RedisError, OSError, ValueError)

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels, str]  # name, labels, "" or what of a histogram: the number of a bucket, or "sum"

_counts: defaultdict[Series, float] = defaultdict(float)
_gauges: dict[Series, float] = {}
_later: deque[Callable[[], None]] = deque()
_lock = threading.Lock()
_thread: threading.Thread | None = None
_process = os.getpid()


def add(name: str, value: float = 1.0, **labels: str) -> None:
    """Count: `fraud_<name>_total` with these labels grows by `value`."""
    _add((name, tuple(sorted(labels.items())), ""), value)


def observe(name: str, bounds: Sequence[float] | np.ndarray, values: np.ndarray, **labels: str) -> None:
    """Put values (n,) into the buckets of the histogram `fraud_<name>`; `bounds` are their upper ends, ascending."""
    if not len(values):
        return
    key = tuple(sorted(labels.items()))
    found = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds) + 1)
    for bucket in np.flatnonzero(found).tolist():
        _add((name, key, str(bucket)), float(found[bucket]))
    _add((name, key, "sum"), float(np.sum(values, dtype="f8")))


def gauge(name: str, value: float, **labels: str) -> None:
    """Set `fraud_<name>` of this process; the page adds up the processes."""
    _start()
    with _lock:
        _gauges[(name, tuple(sorted(labels.items())), "")] = value


def move(name: str, by: float, **labels: str) -> None:
    """Change a gauge of this process."""
    _start()
    with _lock:
        key = (name, tuple(sorted(labels.items())), "")
        _gauges[key] = _gauges.get(key, 0.0) + by


def later(count: Callable[[], None]) -> None:
    """Have `count` called in the background, for counting that would take a hot path too long. It must not raise."""
    _start()
    if len(_later) >= MOST_LATER:
        _later.popleft()
        add("metrics_dropped")
    _later.append(count)


def flush() -> bool:
    """Deliver now what came together; whether Valkey took it (for tests, and for a process that ends)."""
    while _later:
        _later.popleft()()
    return _deliver()


def read() -> tuple[dict[Series, float], dict[Series, float]]:
    """All counts, and the gauges of all living processes added up. Raises redis.RedisError or OSError."""
    with _client() as client:
        counts = {_series(field): float(value) for field, value in client.hgetall(COUNTS).items()}
        keys = list(client.scan_iter(GAUGES + "*", count=100))
        gauges: defaultdict[Series, float] = defaultdict(float)
        for each in client.mget(keys) if keys else []:
            for field, value in json.loads(each or "{}").items():
                gauges[_series(field)] += value
    return counts, dict(gauges)


def _add(series: Series, value: float) -> None:
    _start()
    with _lock:
        if series in _counts or len(_counts) < MOST_SERIES:
            _counts[series] += value


def _start() -> None:
    """The thread of this process, before it counts; after a fork, a new one and none of the parent's counts."""
    global _thread, _process
    if _thread is not None and _process == os.getpid():
        return
    with _lock:
        if _thread is not None and _process == os.getpid():
            return
        if _process != os.getpid():
            _process = os.getpid()
            _counts.clear()
            _gauges.clear()
            _later.clear()
        _thread = threading.Thread(target=_run, name="tally", daemon=True)
        _thread.start()


def _run() -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        try:
            flush()
        except Exception:  # a count that cannot be made must not end the counting
            log.exception("counting failed")


def _deliver() -> bool:
    global _counts
    with _lock:
        counts, _counts = _counts, defaultdict(float)
        gauges = {_field(series): value for series, value in _gauges.items()}
    try:
        with _client() as client:
            pipe = client.pipeline(transaction=False)
            for series, value in counts.items():
                pipe.hincrbyfloat(COUNTS, _field(series), value)
            if gauges:
                pipe.set(f"{GAUGES}{socket.gethostname()}:{os.getpid()}", json.dumps(gauges), ex=GAUGE_SECONDS)
            pipe.execute()
    except GONE as error:
        log.debug("counts wait for Valkey: %s", type(error).__name__)
        with _lock:
            for series, value in counts.items():
                _counts[series] += value
        return False
    return True


def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.VALKEY_URL,
        socket_timeout=1,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _field(series: Series) -> str:
    name, labels, part = series
    return json.dumps([name, labels, part], separators=(",", ":"))


def _series(field: str) -> Series:
    name, labels, part = json.loads(field)
    return name, tuple((str(key), str(value)) for key, value in labels), part
