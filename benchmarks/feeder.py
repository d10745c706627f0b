"""Bulk over HTTP as a bank's system would send it: NDJSON over a few keep-alive connections, each in a thread.

Bodies are sheets made before the clock starts; sending one writes a fresh run and time into it and hands it to the
kernel, a fraction of a micro-second a payment. A 429 or 503 is waited out as its Retry-After says and sent again, so
nothing is lost and nothing doubled.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks import crowd
from benchmarks.fill import PER_DAY

PATH = "/api/v1/transactions/bulk"
TRIES = 8  # of one body after errors that are no answer
LONGEST_WAIT = 5.0


@dataclass
class Sheets:
    """Bodies of one length to be sent again and again, each time as new payments.

    Each connection has sheets of its own with customers of its own, so that nobody's payments overtake each other, as
    a bank would cut its stream. `clock`: where the crowd's clock stands; None: payments happen now.
    """

    payload: crowd.Payload
    shards: list[list[np.ndarray]]
    first_run: int
    clock: datetime | None
    numbers: itertools.count = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def make(
        cls, payload: str, *, lines: int, count: int, connections: int, seed: int, clock: datetime | None
    ) -> Sheets:
        """`count` bodies of `lines` payments for each connection."""
        template, rng = crowd.Payload(payload), np.random.default_rng(seed)

        def body(shard: int) -> np.ndarray:
            sheet = template.sheet(crowd.draw(lines, rng, shard=shard, shards=connections), rng)
            return np.concatenate([sheet, np.full((lines, 1), 10, "u1")], axis=1)

        shards = [[body(shard) for _ in range(count)] for shard in range(connections)]
        return cls(template, shards, int(datetime.now(UTC).timestamp()) % 10**7 * 10_000, clock)

    @property
    def lines(self) -> int:
        """Payments in a body."""
        return len(self.shards[0][0])

    def next(self, shard: int = 0) -> bytes:
        """The next body of a connection, as new payments."""
        with self.lock:
            number = next(self.numbers)
        sheets, span = self.shards[shard], timedelta(days=self.lines / PER_DAY)
        sheet, at = sheets[number // len(self.shards) % len(sheets)], datetime.now(UTC)
        if self.clock is None:
            span = timedelta(0)
        else:
            at = min(at - span, self.clock + number * span)
        self.payload.stamp(sheet, self.first_run + number, at, span=span)
        return sheet.tobytes()


@dataclass
class Sent:
    """What the threads did so far."""

    accepted: int = 0
    waited: float = 0.0  # seconds that were spent on 429 and 503
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # of each accepted body, seconds
    failed: list[str] = field(default_factory=list)


class Feeder:
    """Threads that post until told to stop; at a rate (payments a second over all), or as fast as they are taken."""

    def __init__(self, sheets: Sheets, *, port: int, key: str, rate: float = 0.0) -> None:
        self.sheets, self.port, self.rate = sheets, port, rate
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        self.sent, self.over = Sent(), threading.Event()
        self.lock, self.turns = threading.Lock(), itertools.count()
        self.began = 0.0
        shards = range(len(sheets.shards))
        self.threads = [threading.Thread(target=self._run, args=(shard,), daemon=True) for shard in shards]

    def start(self) -> None:
        """Begin to post."""
        self.began = time.perf_counter()
        for thread in self.threads:
            thread.start()

    def stop(self) -> Sent:
        """No new bodies; wait for the answers that are still to come."""
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        return self.sent

    def _run(self, shard: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            while self._turn():
                self._deliver(link, self.sheets.next(shard))
        except Exception as error:  # a thread's end must not pass unnoticed
            self.sent.failed.append(f"{type(error).__name__}: {error}")
        finally:
            link.close()

    def _turn(self) -> bool:
        """Wait for this body's turn; False when it is over."""
        if self.rate:
            with self.lock:
                due = self.began + next(self.turns) * self.sheets.lines / self.rate
            self.over.wait(max(0.0, due - time.perf_counter()))
        return not self.over.is_set()

    def _deliver(self, link: http.client.HTTPConnection, body: bytes) -> None:
        """Send a body until it is accepted."""
        troubles = 0
        while True:
            began = time.perf_counter()
            try:
                link.request("POST", PATH, body, self.headers)
                answer = link.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                link.close()
                troubles += 1
                if troubles > TRIES:
                    raise
                self.sent.failed.append(f"{type(error).__name__}: {error}")
                time.sleep(0.25 * troubles)
                continue
            with self.lock:
                self.sent.statuses[answer.status] += 1
            if answer.status in (200, 202):
                with self.lock:
                    self.sent.accepted += self.sheets.lines
                    self.sent.latencies.append(time.perf_counter() - began)
                return
            if answer.status not in (429, 503):
                raise RuntimeError(f"status {answer.status}: {text[:300]!r}")
            if self.over.is_set():
                return
            pause = min(LONGEST_WAIT, float(answer.headers.get("Retry-After") or 1))
            self.sent.waited += pause
            self.over.wait(pause)
