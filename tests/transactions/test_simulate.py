"""The simulating client: it waits out a server that is down, sends the same body again, and brings labels later."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from transactions.management.commands import simulate
from transactions.management.commands.simulate import Caller, Gone, Simulation
from transactions.simulator import Bank, Report, Simulated


class Stub(ThreadingHTTPServer):
    """Remembers what it was sent, and answers with the statuses that the test laid out."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Desk)
        self.seen, self.statuses = [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Desk(BaseHTTPRequestHandler):
    """Answers with the statuses that are laid out, then always with 200."""

    server: Stub
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body, self.headers["Authorization"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        answer = json.dumps({"decision": {"outcome": "approve"}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def desk():
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_overloaded_server_gets_the_same_body_again(desk, monkeypatch):
    desk.statuses = [503, 429]
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda seconds: False)
    caller = Caller(desk.url, "key", stop)
    status, answer = caller.post("transactions", {"n": 1})
    caller.close()
    assert status == 200
    assert answer["decision"]["outcome"] == "approve"
    assert [body for _, body, _ in desk.seen] == [{"n": 1}] * 3
    assert desk.seen[0][2] == "Bearer key"


def test_a_caller_that_is_stopped_gives_up():
    stop = threading.Event()
    stop.set()
    with pytest.raises(Gone):
        Caller("http://127.0.0.1:9", "key", stop).post("transactions", {})


def test_payments_arrive_at_about_the_rate_asked_for(desk):
    bank = Bank(3, customers=40, merchants=60, run="t")
    simulation = Simulation(bank, url=desk.url, key="key", tps=60, threads=2, labels=True)
    simulation.run(1.0)
    sent = [body for path, body, _ in desk.seen if path.endswith("/transactions")]
    assert 20 < len(sent) < 120
    assert simulation.tally.answers[200] == len(sent)


def test_a_report_becomes_a_label_when_it_is_due(desk, monkeypatch):
    monkeypatch.setattr(simulate.time, "monotonic", lambda: 1_000.0)
    simulation = Simulation(Bank(3, customers=20, merchants=60), url=desk.url, key="key", tps=1, threads=1, labels=True)
    payment = {"external_id": "a-1", "occurred_at": "2026-11-01T10:00:00.000Z"}
    simulation._remember(Simulated(payment, 0.0, "mule", Report("fraud", "customer", "payer_manipulated", 60.0)))
    simulation._remember(Simulated(payment, 0.0, "mule", Report("fraud", "investigator", "mule", 60.0)))
    assert simulation._next_due() is None
    monkeypatch.setattr(simulate.time, "monotonic", lambda: 1_030.0)
    label = simulation._next_due()
    assert label is not None
    assert label["external_id"] == "a-1"
    assert label["fraud_type"] == "payer_manipulated"
    assert simulation._next_due() is None  # investigators label on the desk itself
