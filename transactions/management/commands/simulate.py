"""Posts the simulated bank's payments to the real API, and later, for a part of the frauds, what became known of them.

A client like any other: keep-alive HTTP, one thread for each connection, the same body sent again until it is answered.
A server that restarts, refuses or is overloaded only makes it wait. Weeks of reporting delay pass in minutes here.
"""

from __future__ import annotations

import heapq
import json
import os
import queue
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from transactions.simulator import Bank, Simulated, expected_wait, instant

HASTE = 1 / 400  # of the reporting delay in life: five days become twenty minutes
PATIENCE = 10.0  # seconds until a request counts as lost
LONGEST_WAIT = 15.0


class Gone(Exception):
    """The simulation was told to stop while something still waited for an answer."""


@dataclass
class Tally:
    """What came back, for the line that is printed now and then."""

    answers: Counter = field(default_factory=Counter)
    outcomes: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    complaint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: int, answer: dict, took: float) -> None:
        with self.lock:
            self.answers[status] += 1
            self.outcomes[(answer.get("decision") or {}).get("outcome", "")] += 1
            self.seconds = [*self.seconds[-999:], took]
            if status >= 400:
                self.complaint = json.dumps(answer)[:300]

    def line(self) -> str:
        with self.lock:
            taken = sorted(self.seconds) or [0.0]
            outcomes = " ".join(f"{name} {n}" for name, n in sorted(self.outcomes.items()) if name)
            answers = " ".join(f"{status}×{n}" for status, n in sorted(self.answers.items()))
            median = taken[len(taken) // 2] * 1000
            complaint, self.complaint = self.complaint, ""
        return f"{answers or 'nothing answered yet'} · {outcomes} · {median:.0f} ms {complaint}".rstrip()


class Caller:
    """One keep-alive connection to the API, which is made anew after every failure."""

    def __init__(self, url: str, key: str, stop: threading.Event):
        parts = urlsplit(url)
        self.host, self.secure = parts.netloc, parts.scheme == "https"
        self.path = parts.path.rstrip("/") + "/api/v1/"
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.stop = stop
        self.connection: HTTPConnection | None = None

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict]:
        """The status and body of the first answer that is one: 429 and 5xx are waited out. Raises Gone once stopped."""
        data, wait = json.dumps(body).encode(), 0.25
        while not self.stop.is_set():
            try:
                status, answer, pause = self._once(path, data, headers)
                if status != 429 and status < 500:
                    return status, answer
            except (OSError, HTTPException, ValueError):
                self.close()
                pause = 0.0
            self.stop.wait(max(pause, wait * random.uniform(0.7, 1.3)))
            wait = min(wait * 2, LONGEST_WAIT)
        raise Gone

    def _once(self, path: str, data: bytes, headers: dict[str, str]) -> tuple[int, dict, float]:
        if self.connection is None:
            self.connection = (HTTPSConnection if self.secure else HTTPConnection)(self.host, timeout=PATIENCE)
        self.connection.request("POST", self.path + path, data, self.headers | headers)
        response = self.connection.getresponse()
        body = response.read()
        after = response.headers.get("Retry-After", "")
        return response.status, json.loads(body or b"{}"), float(after) if after.isdigit() else 0.0

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None


class Simulation:
    """One paced producer, a few callers, and one that brings the labels when they are due."""

    def __init__(self, bank: Bank, *, url: str, key: str, tps: float, threads: int, labels: bool):
        self.bank, self.url, self.key, self.tps, self.labels = bank, url, key, tps, labels
        self.stop = threading.Event()
        self.tally = Tally()
        self.queue: queue.Queue[Simulated] = queue.Queue(maxsize=4 * threads)
        self.due: list[tuple[float, int, dict]] = []
        self.tie = count()
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]
        self.threads.append(threading.Thread(target=self._report, daemon=True))

    def run(self, seconds: float | None) -> None:
        """Send until `seconds` are over (None: until `stop` is set)."""
        end = time.monotonic() + seconds if seconds else float("inf")
        for thread in self.threads:
            thread.start()
        stream, pace = self.bank.live(time.time), random.Random(self.bank.run)
        when = time.monotonic()
        while time.monotonic() < end and not self.stop.wait(max(0.0, when - time.monotonic())):
            self._enqueue(next(stream))
            # A queue that was full does not let a flood through afterwards.
            when = max(when + expected_wait(self.tps, pace), time.monotonic() - 1.0)
        while not self.queue.empty() and not self.stop.is_set():
            self.stop.wait(0.05)
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE + 1)

    def _enqueue(self, payment: Simulated) -> None:
        while not self.stop.is_set():
            try:
                return self.queue.put(payment, timeout=0.5)
            except queue.Full:
                continue
        return None

    def _send(self) -> None:
        caller = Caller(self.url, self.key, self.stop)
        while not self.stop.is_set() or not self.queue.empty():
            try:
                simulated = self.queue.get(timeout=0.2)
            except queue.Empty:
                continue
            began = time.monotonic()
            try:
                status, answer = caller.post("transactions", simulated.payment, Prefer="wait=2")
            except Gone:
                break
            self.tally.note(status, answer, time.monotonic() - began)
            if status < 300:
                self._remember(simulated)
        caller.close()

    def _remember(self, simulated: Simulated) -> None:
        report = simulated.report
        if report is None or not self.labels or report.source == "investigator":  # who judges on the desk itself
            return
        wait = max(20.0, report.delay * HASTE)
        label = {
            "external_id": simulated.payment["external_id"],
            "verdict": report.verdict,
            "source": report.source,
            "happened_at": simulated.payment["occurred_at"],
        }
        if report.fraud_type:
            label["fraud_type"] = report.fraud_type
        with self.tally.lock:
            heapq.heappush(self.due, (time.monotonic() + wait, next(self.tie), label))

    def _report(self) -> None:
        caller = Caller(self.url, self.key, self.stop)
        while not self.stop.wait(0.5):
            while (label := self._next_due()) is not None:
                try:
                    status, answer = caller.post("labels", label | {"known_at": instant(time.time())})
                except Gone:
                    return
                if status >= 400:
                    self.tally.note(status, answer, 0.0)

    def _next_due(self) -> dict | None:
        with self.tally.lock:
            if self.due and self.due[0][0] <= time.monotonic():
                return heapq.heappop(self.due)[2]
        return None


class Command(BaseCommand):
    help = "Post simulated payments, and labels later, to a running desk's API."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", required=True, help="Address of the desk, e.g. http://127.0.0.1:8000")
        parser.add_argument(
            "--key",
            default=os.environ.get("FRAUD_API_KEY"),
            required="FRAUD_API_KEY" not in os.environ,
            help="API key that may write payments and labels; FRAUD_API_KEY keeps it out of process lists.",
        )
        parser.add_argument("--tps", type=float, default=2.0, help="Payments a second, on average.")
        parser.add_argument("--seed", type=int, default=7, help="Which bank; the demo's history is of bank 7.")
        parser.add_argument("--seconds", type=float, help="Stop after so long; without it, run until interrupted.")
        parser.add_argument("--threads", type=int, default=4, help="Connections kept open.")
        parser.add_argument("--frauds", type=float, default=1.0, help="How many frauds begin, relative to life.")
        parser.add_argument("--no-labels", action="store_true", help="Payments only.")
        parser.add_argument("--every", type=float, default=60.0, help="Seconds between two lines of figures.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["key"]:
            raise CommandError("An API key is needed: --key or FRAUD_API_KEY.")
        run = f"{int(time.time()) - 1_700_000_000:x}"
        bank = Bank(options["seed"], run=run)
        bank.frauds = options["frauds"]
        simulation = Simulation(
            bank,
            url=options["url"],
            key=options["key"],
            tps=options["tps"],
            threads=options["threads"],
            labels=not options["no_labels"],
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: simulation.stop.set())
        self._figures(simulation, options["every"])
        simulation.run(options["seconds"])
        self._print(simulation)

    def _figures(self, simulation: Simulation, every: float) -> None:
        def talk() -> None:
            while not simulation.stop.wait(every):
                self._print(simulation)

        threading.Thread(target=talk, daemon=True).start()

    def _print(self, simulation: Simulation) -> None:
        self.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {simulation.tally.line()}")
        self.stdout.flush()
