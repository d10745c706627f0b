"""The live feed: group names, message shapes and publishing. The only file that speaks to the channel layer.

Pushes are hints. The rows in Postgres are the feed, `(lane, seq)` is its order, and every push says after which alert
it comes (`after`), so that whoever missed one notices and reads the rows instead. So nothing here may fail, slow down
or stop a lane: publishing hands over to one background thread; when Valkey is gone the push is dropped and counted.

Messages to a browser:

    {"type": "alerts", "lane": 1, "alerts": [alert, …]}           in order of seq, each alert once; with "to", the seq
                                                                  reached, for whom some alerts are withheld
    {"type": "late", "lane": 1, "alerts": [alert, …]}             raised by a re-screening: outside that order
    {"type": "sample", "lane": 1, "decisions": 93, "seconds": 0.5, "rate": 186.0, "p50": 13.0, "p95": 26.0,
     "outcomes": {"approve": 91, …}, "shown": [row, …]}           what was decided in the last half second
    {"type": "heartbeat", "latest": {"1": 1207}, "at": "…Z"}      the last alert of each lane, every few seconds

and from one: {"type": "resume", "after": {"1": 1190}}.
"""

import asyncio
import hashlib
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from alerts.models import Alert
from transactions import tally
from transactions.codes import CHANNEL, CURRENCY, EXPONENT, OUTCOME
from transactions.facts import moment
from transactions.masks import masked

log = logging.getLogger(__name__)

ALERTS = "alerts"
SAMPLES = "decisions"
ENDS = "desk_ends_at"  # in a session: when it ends, in seconds since 1970
TICK = 0.5  # seconds between two samples of a lane
SHOWN = 6  # payments shown of a sample
PATIENCE = 2.0  # seconds that one push may take
LATENCIES = 2000  # latencies kept of a tick for its percentiles
LONGEST = 500  # alerts in one message

BANDS = ((900, "critical"), (700, "high"), (500, "medium"), (0, "low"))
# What a channel layer raises when Valkey is gone or slow (ValueError: see transactions.ring.GONE).
LOST = (RedisError, OSError, ValueError, ChannelFull, TimeoutError)

Rows = Mapping[str, tuple[str, Any]]  # columns as `services.alert_rows` builds them
Batch = tuple[int, int | None, Rows]  # lane, the alert pushed before (LATE: these stand outside the order), alerts
LATE = -1

# What was dropped since the process started, by the name of the error.
dropped: Counter[str] = Counter()


def _drop(cause: str) -> None:
    dropped[cause] += 1
    tally.add("websocket_dropped", cause=cause)


def amount_text(minor: int, currency: str) -> str:
    """Minor units as a decimal text with the currency's own decimals: (189900, "EUR") gives "1,899.00"."""
    decimals = EXPONENT.get(currency, 2)
    whole, rest = divmod(abs(int(minor)), 10**decimals)
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole:,}.{rest:0{decimals}d}" if decimals else f"{sign}{whole:,}"


def band(score: int) -> str:
    """The severity word of a score, "low" where there is none."""
    return next((name for floor, name in BANDS if score >= floor), "low")  # -1: no model spoke


def stamp(at: datetime) -> str:
    """UTC in ISO form, to the milli-second."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shape(
    *,
    alert_id: int,
    lane: int,
    seq: int,
    raised_at: datetime,
    occurred_at: datetime,
    outcome: str,
    score: int,
    severity: int,
    top_reason: str,
    customer_ref: str,
    amount: int,
    amount_base: int,
    currency: str,
    channel: str,
) -> dict[str, Any]:
    """An alert as the browser gets it."""
    return {
        "id": alert_id,
        "seq": seq,
        "lane": lane,
        "raised_at": stamp(raised_at),
        "occurred_at": stamp(occurred_at),
        "outcome": outcome,
        "score": score,
        "band": band(score),
        "severity": severity,
        "reason": top_reason,
        "customer": masked(customer_ref, "CU"),
        "amount": amount_text(amount, currency),
        "amount_base": int(amount_base),
        "currency": currency,
        "channel": channel,
    }


SHOWN_COLUMNS = [
    *("lane", "seq", "raised_at", "occurred_at", "outcome", "score", "severity", "top_reason"),
    *("customer_ref", "amount", "amount_base", "currency", "channel"),
]
_READ: dict[str, Callable[[int], Any]] = {
    "raised_at": moment,
    "occurred_at": moment,
    "outcome": OUTCOME.text,
    "currency": CURRENCY.text,
    "channel": CHANNEL.text,
}


def message(alert: Alert) -> dict[str, Any]:
    """A stored alert as a message."""
    return shape(alert_id=alert.pk, **{name: getattr(alert, name) for name in SHOWN_COLUMNS})


def messages(columns: Rows) -> list[dict[str, Any]]:
    """The rows that `services.alert_rows` built as messages, without reading them back."""
    values = {name: _plain(name, columns[name][1]) for name in SHOWN_COLUMNS}
    return [
        shape(alert_id=alert_id, **{name: values[name][i] for name in SHOWN_COLUMNS})
        for i, alert_id in enumerate(_plain("id", columns["id"][1]))
    ]


def _plain(name: str, values: Any) -> list[Any]:
    """A column as Python values: numbers as numbers, codes as texts, times as moments."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [_READ[name](value) for value in plain] if name in _READ else plain


def publish(lane_id: int, columns: Rows) -> None:
    """Push the alerts of `services.alert_rows`, in order of seq, after their commit; returns at once, never waits.

    The row of an alert that is not pushed stays in Postgres, where every socket finds it at its next heartbeat.
    """
    if len(columns["id"][1]):
        _pushes.alerts(int(lane_id), columns)


def publish_late(lane_id: int, columns: Rows) -> None:
    """Push alerts that a re-screening raised: they bear the seq of a decision long past, so no cursor finds them."""
    if len(columns["id"][1]):
        _pushes.late(int(lane_id), columns)


def publish_sample(
    lane_id: int, facts: np.ndarray, outcomes: np.ndarray, scores: np.ndarray, latency: np.ndarray
) -> None:
    """Take a decided batch into the lane's sample; returns at once and never raises.

    `facts` (n,) of dtype FACTS; `outcomes` and `scores` (n,) as stored; `latency` (n,) in micro-seconds.
    """
    if len(facts):
        _pushes.sample(int(lane_id), (facts, outcomes, scores, latency))


def alerts_raised(lane_id: int, after: int | None, columns: Rows) -> Iterator[dict[str, Any]]:
    """The pushes of one batch, each naming the alert before it; late ones name none."""
    rows = messages(columns)
    for at in range(0, len(rows), LONGEST):
        part = rows[at : at + LONGEST]
        if after == LATE:
            yield {"type": "alerts.late", "lane": lane_id, "alerts": part}
            continue
        yield {"type": "alerts.raised", "lane": lane_id, "after": after, "alerts": part}
        after = part[-1]["seq"]


Decided = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # facts, outcomes, scores, latency of a batch


class Sample:
    """What one lane decided since the last tick: counts in full, payments by chance. Due a tick after it began.

    The lane only hands its batches over; they are counted when the tick is over, by the thread that sends.
    """

    MOST = 100_000  # payments kept of a tick; more come only while Valkey is slow to answer, which may be for long

    def __init__(self, since: float, due: float) -> None:
        self.since = since
        self.due = due
        self.decisions = 0
        self.batches: list[Decided] = []

    def add(self, batch: Decided) -> None:
        """Take in a batch."""
        if self.decisions < self.MOST:
            self.batches.append(batch)
            self.decisions += len(batch[0])
        else:
            _drop("sample full")

    def _latencies(self) -> np.ndarray:
        """The first latencies of the tick in milli-seconds: enough for its percentiles."""
        kept, measured = [], 0
        for _, _, _, latency in self.batches:
            if measured >= LATENCIES:
                break
            kept.append(latency[: LATENCIES - measured])
            measured += len(kept[-1])
        return np.concatenate(kept) / 1000

    def _shown(self) -> list[dict[str, Any]]:
        """A few payments of the tick, each with the same chance, in the order in which they were decided."""
        rows, starts = [], np.cumsum([0, *(len(batch[0]) for batch in self.batches[:-1])])
        for chosen in sorted(random.sample(range(self.decisions), min(SHOWN, self.decisions))):
            at = int(np.searchsorted(starts, chosen, side="right")) - 1
            facts, outcomes, scores, _ = self.batches[at]
            i = chosen - int(starts[at])
            rows.append(sample_row(facts[i], int(outcomes[i]), int(scores[i])))
        return rows

    def message(self, lane_id: int, now: float) -> dict[str, Any]:
        """The sample as the browser gets it."""
        seconds = max(now - self.since, 0.001)
        counts = np.bincount(np.concatenate([batch[1] for batch in self.batches])).tolist()
        p50, p95 = np.percentile(self._latencies(), [50, 95])
        return {
            "type": "decisions.sampled",
            "lane": lane_id,
            "decisions": self.decisions,
            "seconds": round(seconds, 3),
            "rate": round(self.decisions / seconds, 1),
            "p50": round(float(p50), 1),
            "p95": round(float(p95), 1),
            "outcomes": {OUTCOME.text(code): count for code, count in enumerate(counts) if count},
            "shown": self._shown(),
        }


def sample_row(fact: np.void, outcome: int, score: int) -> dict[str, Any]:
    """One decided payment as the stream shows it: by a mark of its customer's key, never by a reference."""
    currency = CURRENCY.text(fact["currency"])
    return {
        "customer": f"CU ••{int(fact['customer']) & 0xFFFF:04x}",
        "amount": amount_text(int(fact["amount"]), currency),
        "currency": currency,
        "channel": CHANNEL.text(fact["channel"]),
        "outcome": OUTCOME.text(outcome),
        "score": score,
        "occurred_at": stamp(moment(int(fact["occurred_at"]))),
    }


class Pushes:
    """The one thread that speaks to the channel layer, so that no lane ever waits for Valkey.

    Alerts wait in a bounded queue (the oldest stay: whoever misses the newer ones reads the rows), samples are
    coalesced for each lane. The thread has its own event loop and connections; after a fork a new one is started on
    first use.
    """

    WAITING = 1000

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._queue: list[Batch] = []
        self._notes: list[tuple[str, dict[str, Any]]] = []
        self._samples: dict[int, Sample] = {}
        self._ticked: dict[int, float] = {}
        self._last: dict[int, int] = {}
        self._busy = False
        self._thread: threading.Thread | None = None

    def alerts(self, lane_id: int, columns: Rows) -> None:
        """Queue a batch, with the last alert that this process pushed before it (None for the first)."""
        with self._lock:
            self._start()
            after = self._last.get(lane_id)
            self._last[lane_id] = int(columns["seq"][1][-1])
            self._wait((lane_id, after, columns))

    def late(self, lane_id: int, columns: Rows) -> None:
        """Queue alerts that stand outside their lane's order."""
        with self._lock:
            self._start()
            self._wait((lane_id, LATE, columns))

    def note(self, group: str, push: dict[str, Any]) -> None:
        """Queue a word to a group that is no alert."""
        with self._lock:
            self._start()
            if len(self._notes) < self.WAITING:
                self._notes.append((group, push))
                self._lock.notify()

    def _wait(self, batch: Batch) -> None:
        if len(self._queue) >= self.WAITING:
            _drop("queue full")
            return
        self._queue.append(batch)
        self._lock.notify()

    def sample(self, lane_id: int, batch: Decided) -> None:
        """Add a batch to the lane's sample."""
        with self._lock:
            self._start()
            if lane_id not in self._samples:
                now = time.monotonic()
                self._samples[lane_id] = Sample(max(self._ticked.get(lane_id, 0.0), now - TICK), now + TICK)
                self._lock.notify()
            self._samples[lane_id].add(batch)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything handed over was pushed or dropped (for tests and for a stopping process)."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self._lock:
                if not (self._queue or self._notes or self._samples or self._busy):
                    return True
            time.sleep(0.01)
        return False

    def _start(self) -> None:
        if self._process != os.getpid():
            self._reset()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="live-pushes", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        while True:
            batches, notes, samples = self._due()
            for group, note in notes:
                loop.run_until_complete(_send(group, note))
            for batch in batches:  # alerts first: a sample takes a moment to count
                for push in alerts_raised(*batch):
                    loop.run_until_complete(_send(ALERTS, push))
            for lane_id, sample in samples:
                loop.run_until_complete(_send(SAMPLES, sample.message(lane_id, time.monotonic())))
            with self._lock:
                self._busy = False

    def _due(self) -> tuple[list[Batch], list[tuple[str, dict[str, Any]]], list[tuple[int, Sample]]]:
        """Wait for alerts, notes or a sample whose tick is over; what is returned is being sent (`_busy`)."""
        with self._lock:
            while not self._queue and not self._notes and not self._ripe():
                self._lock.wait(self._rest())
            ripe = [(lane_id, self._samples.pop(lane_id)) for lane_id in self._ripe()]
            self._ticked |= dict.fromkeys((lane_id for lane_id, _ in ripe), time.monotonic())
            batches, self._queue = self._queue, []
            notes, self._notes = self._notes, []
            self._busy = True
            return batches, notes, ripe

    def _rest(self) -> float | None:
        """Seconds until the next sample is due; None while there is none."""
        dues = [sample.due for sample in self._samples.values()]
        return max(0.001, min(dues) - time.monotonic()) if dues else None

    def _ripe(self) -> list[int]:
        now = time.monotonic()
        return [lane_id for lane_id, sample in self._samples.items() if now >= sample.due]


def of_session(key: str) -> str:
    """The group of a session's sockets; the key itself would be as good as a password."""
    return f"session.{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def end_session(key: str) -> None:
    """Tell the sockets of a session that it was signed out. One that misses it finds out at its next check."""
    _pushes.note(of_session(key), {"type": "session.ended"})


async def _send(group: str, push: dict[str, Any]) -> None:
    """One push; a dead or slow Valkey costs only this push."""
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async with asyncio.timeout(PATIENCE):
            await layer.group_send(group, push)
    except LOST as error:
        _drop(type(error).__name__)
        log.warning("live push dropped: %s", error, extra={"group": group, "lane": push.get("lane")})


_pushes = Pushes()
flush = _pushes.flush
