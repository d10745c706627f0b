"""A light HTTP client: one thread, one selector, keep-alive connections, bodies made before the clock starts.

It costs some ten to twenty micro-seconds of CPU a request, so that on two shared cores the desk is measured and not the
load. Only this machine is ever spoken to.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

PATIENCE = 30.0  # for one answer; after that the connection is given up
CHUNKED = 2**40  # for the length of an answer that comes in pieces


@dataclass(frozen=True)
class Address:
    """Where to post, and with which headers."""

    host: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> Address:
        """From a URL on this machine. Raises SystemExit for any other."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or not _is_here(host):
            raise SystemExit(f"{url}: benchmarks speak http to this machine only (127.0.0.1)")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls("127.0.0.1" if host == "localhost" else host, parts.port or 80, path, tuple(headers.items()))

    def request(self, body: bytes, more: Iterable[tuple[str, str]] = ()) -> bytes:
        """A whole POST request as bytes."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *more)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unchunked(raw: bytes) -> bytes:
    """The body of a whole chunked answer."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(raw[end + 2 : end + 2 + size])
        at = end + 4 + size


@dataclass
class Answers:
    """What came back: latencies in seconds in order of their end, statuses, and how many bodies told a decision."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    decided: int = 0
    broken: int = 0  # connections that closed or answers that never came
    seconds: float = 0.0
    sent_at: list[float] = field(default_factory=list)

    def __iadd__(self, other: Answers) -> Answers:
        self.latencies += other.latencies
        self.sent_at += other.sent_at
        self.statuses += other.statuses
        self.decided += other.decided
        self.broken += other.broken
        self.seconds += other.seconds
        return self

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0


class _Line:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.began = 0.0
        self.received = bytearray()
        self.wanted = -1  # bytes of the whole answer, once its head is known
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        link = socket.create_connection((self.address.host, self.address.port), timeout=PATIENCE)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def send(self, request: bytes) -> None:
        self.received.clear()
        self.wanted = -1
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body when the answer is whole. Raises ConnectionError when the peer closed."""
        part = self.socket.recv(262_144)
        if not part:
            raise ConnectionError("closed by the server")
        self.received += part
        if self.wanted < 0:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = bytes(self.received[:end]).lower()
            at = head.find(b"\r\ncontent-length:")
            if at < 0 and b"\r\ntransfer-encoding: chunked" not in head:
                raise ConnectionError("an answer without a length")
            self.wanted = end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else CHUNKED
        body = self.received.find(b"\r\n\r\n") + 4
        if self.wanted == CHUNKED:
            whole = self.received.endswith(b"0\r\n\r\n")
            return (int(self.received[9:12]), unchunked(bytes(self.received[body:]))) if whole else None
        if len(self.received) < self.wanted:
            return None
        return int(self.received[9:12]), bytes(self.received[body : self.wanted])

    def closes(self) -> bool:
        """Whether the server said that it will close the connection."""
        return b"\r\nconnection: close" in bytes(self.received[: self.received.find(b"\r\n\r\n")]).lower()

    def renew(self) -> None:
        self.socket.close()
        self.socket = self._connect()


def post(
    address: Address,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    rate: float = 0.0,
    on_answer: Callable[[int, int, bytes], None] | None = None,
) -> Answers:
    """Send every request over `concurrency` connections; as fast as answers come, or `rate` a second.

    With a rate, a request's latency counts from the moment it was due, so that a slow server cannot slow down its own
    measurement. `on_answer(number of the request, status, body)`.
    """
    answers, waiting = Answers(), deque(enumerate(requests))
    with selectors.DefaultSelector() as selector:
        lines = [_Line(address) for _ in range(min(concurrency, max(1, len(requests))))]
        idle: deque[_Line] = deque(lines)
        busy: dict[_Line, int] = {}
        began = time.perf_counter()

        def due(number: int) -> float:
            return began + number / rate if rate else 0.0

        while waiting or busy:
            now = time.perf_counter()
            while idle and waiting and due(waiting[0][0]) <= now:
                line, (number, request) = idle.popleft(), waiting.popleft()
                line.send(request)
                if rate:
                    line.began = due(number)
                busy[line] = number
                selector.register(line.socket, selectors.EVENT_READ, line)
            pause = max(0.0, due(waiting[0][0]) - now) if rate and waiting and idle else 1.0
            for key, _ in selector.select(pause):
                _take(key.data, selector, answers, idle, busy, on_answer)
            _give_up_late(selector, answers, idle, busy)
        answers.seconds = time.perf_counter() - began
        for line in lines:
            line.socket.close()
    return answers


def _take(line, selector, answers, idle, busy, on_answer) -> None:
    """Read from a connection that has something; note its answer if it is whole."""
    try:
        answer = line.receive()
    except OSError:
        _drop(line, selector, answers, idle, busy)
        return
    if answer is None:
        return
    status, body = answer
    answers.latencies.append(time.perf_counter() - line.began)
    answers.sent_at.append(line.began)
    answers.statuses[status] += 1
    answers.decided += b'"outcome"' in body
    selector.unregister(line.socket)
    number = busy.pop(line)
    if line.closes():
        line.renew()
    idle.append(line)
    if on_answer is not None:
        on_answer(number, status, body)


def _drop(line, selector, answers, idle, busy) -> None:
    selector.unregister(line.socket)
    busy.pop(line)
    answers.broken += 1
    line.renew()
    idle.append(line)


def _give_up_late(selector, answers, idle, busy) -> None:
    late = time.perf_counter() - PATIENCE
    for line in [each for each in busy if each.began < late]:
        _drop(line, selector, answers, idle, busy)


def cost(count: int = 20_000) -> float:
    """Micro-seconds of CPU that this client needs for building and noting `count` requests, without a server."""
    address = Address("127.0.0.1", 1, "/")
    began = time.process_time()
    latencies = [len(address.request(b"x" * 300)) for _ in range(count)]
    return 1e6 * (time.process_time() - began) / max(1, len(np.array(latencies)))
