"""What a lane's owner says of itself: the alive key that rings look for, and a row for readiness and the dashboard."""

from __future__ import annotations

import json
import logging
import resource
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.lanes import Lane
from scoring.models import DEGRADED
from transactions import ring

if TYPE_CHECKING:
    from fraudsite.pipeline import Done

log = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
WRITE_SECONDS = 2.0
WINDOW_SECONDS = 10.0  # the figures speak of the last so many seconds
LATENCIES_KEPT = 500  # of one batch
WRITE = """
    SET LOCAL synchronous_commit = off;
    INSERT INTO lane_status (lane, seen_at, state, degraded, figures) VALUES (%s, now(), %s, %s, %s)
    ON CONFLICT (lane) DO UPDATE
       SET seen_at = excluded.seen_at, state = excluded.state, degraded = excluded.degraded,
           figures = excluded.figures"""
OLDEST = """
    SELECT extract(epoch FROM now() - t.received_at) FROM transaction t
     WHERE t.lane = %s AND t.intake = 1 AND t.id BETWEEN %s AND %s ORDER BY t.id LIMIT 1"""


class Report:
    """Figures of the last seconds, said aloud every now and then."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.state = "running"
        self.degraded = ""
        self.total = 0
        self.batches: deque[tuple[float, int, np.ndarray]] = deque()
        self.said_at = self.written_at = float("-inf")

    def note(self, done: Done) -> None:
        """Count a commit."""
        self.state = "running"
        self.total += len(done)
        if done.decisions is not None and done.payments:
            latency = done.decisions.latency(done.decided_at)[:LATENCIES_KEPT]
            self.degraded = DEGRADED.text(done.decisions.degraded)
            self.batches.append((time.monotonic(), done.payments, latency))

    def waits_for(self, what: str) -> None:
        """The lane cannot judge now, and why."""
        self.state = what[:20]

    def due(self) -> bool:
        """Whether a second has passed since it was said last."""
        return time.monotonic() - self.said_at >= REPORT_SECONDS

    def write(self) -> None:
        """Renew the alive key, and the row every other time. Without Valkey only the row."""
        self.said_at = time.monotonic()
        try:
            ring.say_alive(self.lane.id, backlog=sum(each.last - each.first + 1 for each in self.lane.backlog))
        except ring.RingGone:
            self.lane.ringing = False
        if self.said_at - self.written_at >= WRITE_SECONDS:
            self.written_at = self.said_at
            cause = self.degraded or ("" if self.lane.ringing else "no_ring")
            self.lane.cursor.execute(WRITE, [self.lane.id, self.state, cause, json.dumps(self.figures())])

    def leave(self) -> None:
        """Say that the owner goes, in good order: nobody need take its silence for a fault."""
        self.state = "stopped"
        self.lane.cursor.execute(WRITE, [self.lane.id, self.state, "", json.dumps(self.figures())])
        try:
            ring.say_gone(self.lane.id)
        except ring.RingGone as error:
            log.info("the alive key of lane %s is left to expire: %s", self.lane.id, error)

    def figures(self) -> dict[str, Any]:
        """Rate (payments/s), latency from acceptance to decision (ms), age of the oldest owed (s), memory (bytes)."""
        now = time.monotonic()
        while self.batches and self.batches[0][0] < now - WINDOW_SECONDS:
            self.batches.popleft()
        latencies = np.concatenate([each[2] for each in self.batches]) / 1000 if self.batches else np.empty(0)
        memory = self.lane.memory
        profiles = memory.memory() if memory else {}
        return {
            "rate": round(sum(each[1] for each in self.batches) / WINDOW_SECONDS, 2),
            "p50_ms": round(float(np.percentile(latencies, 50)), 2) if len(latencies) else None,
            "p95_ms": round(float(np.percentile(latencies, 95)), 2) if len(latencies) else None,
            "backlog_age_s": self._backlog_age(),
            "seq": memory.seq if memory else None,
            "epoch": memory.epoch if memory else None,
            "mark": self.lane.payments.mark,
            "ring": self.lane.ringing,
            "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "profiles_bytes": sum(profiles.values()),
            "profiles": profiles,
        }

    def _backlog_age(self) -> float:
        """Seconds for which the first payment waits that the owner knows of and has not claimed."""
        waiting = [each for each in self.lane.backlog if each.kind == "payments"]
        if not waiting:
            return 0.0
        first = min(waiting, key=lambda each: each.first)
        self.lane.cursor.execute(OLDEST, [self.lane.id, first.first, first.last])
        row = self.lane.cursor.fetchone()
        return round(float(row[0]), 3) if row else 0.0
