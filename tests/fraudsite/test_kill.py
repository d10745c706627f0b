"""kill -9 of scorer, worker, web and Valkey under live traffic: nothing lost, nothing decided twice, the log replays.

Real processes on servers of their own that sync to disk. Every client behaves as a bank does: it sends the same body
again until it gets a 2xx, and every 2xx is a promise that is held against the database at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fraudsite import embedded, supervisor
from fraudsite.embedded import ROOT
from fraudsite.supervisor import Child
from tests.transactions.documents import make_document

pytestmark = pytest.mark.slow

CLIENTS = 4
BEFORE_KILL, AFTER_KILL = 2.0, 1.0  # seconds of traffic
PATIENCE = 60.0
SEED = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
from fraudsite import demo
from scoring import features, seeds
from scoring.models import Rule, RuleVersion
from scoring.releases import activate, in_force, with_rule
from transactions.auth import issue_key
features.warm_up()  # compiled once for all processes
lane, client = demo.seed_basics()
seeds.seed(lane)
rule = Rule.objects.create(lane=lane, code="R-900", name="Large")
version = RuleVersion.objects.create(rule=rule, number=1, expression="amount > 900", outcome="review",
                                     reason_id="VELOCITY", sentence="Large", created_by="test")
activate(lane, by="test", reason="test", rules=with_rule(in_force(lane).rules, version, "live"))
print("SEEDED", lane.pk, issue_key(client)[1])
"""


@dataclass
class Traffic:
    """Clients that send payments and labels until they are stopped, and what they were promised."""

    port: int
    key: str
    over: threading.Event = field(default_factory=threading.Event)
    promised: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    labelled: list[int] = field(default_factory=list)
    failures: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client is still sending"

    def _client(self, number: int) -> None:
        dice = random.Random(number)
        for n in range(1_000_000):
            if self.over.is_set():
                return
            self._pay(f"c{number}-{n}", dice)
            time.sleep(0.01)

    def _pay(self, name: str, dice: random.Random) -> None:
        changes = {"customer__id": f"customer-{dice.randrange(40)}", "amount__value": dice.randrange(1, 1000_00)}
        document = make_document(name, **changes)
        answer = self._until_kept("/api/v1/transactions", document, {200, 202})
        self.promised.setdefault(name, []).append(answer)
        if dice.random() < 0.1:  # the answer was lost on the way, the bank sends it again
            self.promised[name].append(self._until_kept("/api/v1/transactions", document, {200, 202}))
        if dice.random() < 0.1:
            label = {
                "transaction_id": answer[1]["id"],
                "verdict": dice.choice(["fraud", "legitimate"]),
                "source": "customer",
            }
            self.labelled.append(self._until_kept("/api/v1/labels", label, {201})[1]["id"])

    def _until_kept(self, path: str, document: dict[str, Any], kept: set[int]) -> tuple[int, dict[str, Any]]:
        body = json.dumps(document).encode()
        until = time.monotonic() + PATIENCE
        while True:
            status, answer = self._post(path, body)
            if status in kept:
                return status, answer
            assert status in (0, 429, 500, 502, 503), (status, answer)
            assert time.monotonic() < until, "never kept"
            self.failures += 1
            time.sleep(0.1)

    def _post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            link.request(
                "POST", path, body, {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            )
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}
        finally:
            link.close()


@dataclass
class House:
    """Servers, scorer, worker and web, each started again when it dies."""

    state: Path
    database_url: str
    lane: int
    key: str
    port: int
    children: dict[str, Child]
    over: threading.Event = field(default_factory=threading.Event)

    def tend(self) -> None:
        while not self.over.wait(0.05):
            for child in self.children.values():
                if child.process is not None and child.process.poll() is not None:
                    child.note_death()
                if child.process is None and time.monotonic() >= child.start_at:
                    child.start()

    def kill(self, name: str) -> None:
        """As the kernel would do it, with everything it had forked."""
        if name == "valkey":
            os.kill(embedded.process_ids(self.state)["valkey"], signal.SIGKILL)
        else:
            self.children[name].signal(signal.SIGKILL)

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        link = psycopg2.connect(self.database_url)
        try:
            with link, link.cursor() as cursor:
                cursor.execute(query, params)
                return cursor.fetchall()
        finally:
            link.close()

    def number(self, query: str) -> int:
        return int(self.rows(query)[0][0])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.1)


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    state = tmp_path / "state"
    servers = embedded.ensure_servers(state)
    environment = {"DATABASE_URL": servers.database_url, "VALKEY_URL": servers.valkey_url, "FRAUD_STATE": str(state)}
    monkeypatch.setenv("FRAUD_STATE", str(state))
    lane, key = manage(environment, "shell", "-c", SEED).split("SEEDED ")[1].split()
    port = embedded.free_port()
    celery = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "fraudsite.celery",
        "worker",
        "--without-gossip",
        "--without-mingle",
    ]
    granian = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
    scorer_environment = environment | {"FRAUD_LANE": lane}
    children = {
        "scorer": Child(
            "scorer", [*celery, "-Q", f"lane.{lane}", "-P", "threads", "-c", "1"], environment=scorer_environment
        ),
        "worker": Child("worker", [*celery, "-Q", "default", "-c", "1"], environment=environment),
        "web": Child(
            "web", [*granian, "--blocking-threads", "8", "fraudsite.wsgi:application"], environment=environment
        ),
    }
    made = House(state, servers.database_url, int(lane), key, port, children)
    keeper = threading.Thread(target=made.tend)
    for child in children.values():
        child.start()
    keeper.start()
    yield made
    made.over.set()
    keeper.join()
    for child in children.values():
        child.signal(signal.SIGKILL)
        if child.process is not None:
            child.process.wait(10)
    embedded.release(state)
    embedded.wait_until_stopped(state)
    embedded.forget(state)


def test_killing_each_process_under_live_traffic_loses_nothing_and_decides_nothing_twice(house: House):
    wait_for(lambda: supervisor.answers(house.port, "/readyz"), "the web")
    wait_for(lambda: house.number("SELECT count(*) FROM lane_status") == 1, "the scorer")
    traffic = Traffic(house.port, house.key)
    traffic.start()
    for name in ("scorer", "worker", "web", "valkey"):
        time.sleep(BEFORE_KILL)
        house.kill(name)
        time.sleep(AFTER_KILL)
        goes_on(traffic, f"payments after {name} was killed")
    traffic.stop()
    wait_for(lambda: owed(house) == 0, "the last decisions")
    wait_for(lambda: house.number(WITHOUT_CASE) == 0, "the last cases")
    assert traffic.failures > 0, "no client noticed anything: was anything killed?"
    promises_are_kept(house, traffic)
    said = manage(
        {"DATABASE_URL": house.database_url, "FRAUD_STATE": str(house.state)}, "verify", str(house.lane), "--replay"
    )
    assert f"gives all {len(traffic.promised)} stored vectors" in said


def goes_on(traffic: Traffic, what: str) -> None:
    known = len(traffic.promised)
    wait_for(lambda: len(traffic.promised) > known + 20, what)


WITHOUT_CASE = "SELECT count(*) FROM alert a WHERE NOT EXISTS (SELECT FROM case_alert c WHERE c.alert_id = a.id)"
OWED = """SELECT (SELECT count(*) FROM transaction t
                 WHERE NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1))
               + (SELECT count(*) FROM label l WHERE NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id))"""


def owed(house: House) -> int:
    return house.number(OWED)


def promises_are_kept(house: House, traffic: Traffic) -> None:
    """Each name was kept once and decided once, and every answer said the same of it as the database does."""
    query = (
        """SELECT t.external_id, t.id, d.score, d.seq FROM transaction t JOIN decision d ON d.transaction_id = t.id"""
    )
    stored = {name: (id_, score, seq) for name, id_, score, seq in house.rows(query)}
    assert set(stored) == set(traffic.promised)
    assert house.number("SELECT count(*) FROM decision") == len(stored)
    assert house.number("SELECT count(*) FROM lane_log WHERE kind = 1") == len(stored)
    outcomes = {1: "approve", 2: "challenge", 3: "review", 4: "decline"}
    decided = dict(house.rows("SELECT transaction_id, outcome FROM decision"))
    for name, answers in traffic.promised.items():
        for status, answer in answers:
            assert answer["id"] == stored[name][0]
            if status == 200:
                assert answer["decision"]["outcome"] == outcomes[decided[answer["id"]]]
    assert {row[0] for row in house.rows("SELECT id FROM label")} >= set(traffic.labelled)
