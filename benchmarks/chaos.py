"""Kills random processes of a whole desk under live traffic, then holds every promise against the database.

    .venv/bin/python -m benchmarks.chaos [--kills 10] [--payments 10000] [--minutes 10] [--seed N]

A desk of its own starts (state in a temporary folder, free ports, a small demo past). A bank sends payments one by one
and in bulk, and labels, through the API; investigators close cases; an epoch is built and switched to; meanwhile
scorer, web, worker, beat, Valkey, Postgres (the whole server, or one backend) and now and then the live server, the
proxy or the keeper are killed with -9, each time while payments flow, and sometimes again before the desk is back. The
bank behaves as a bank does: it sends the same body until it is answered 2xx, and every 2xx is a promise. At the end
each promise is held against the rows, and the log is replayed. Exit 1 names what was lost, doubled or changed; the
desk's folder is then kept. The same seed gives the same payments and choices; which moment a kill hits stays chance.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from fraudsite import embedded
from tests import running
from transactions.codes import OUTCOME

SINGLES, BULKS = 6, 2  # clients that send one payment at a time, and many
LARGEST_BULK = 400
SLACK = 100  # payments that may be sent beyond a kill's share
KINDS = {"scorer": 4, "standby": 2, "web": 4, "postgres": 4, "valkey": 3, "backend": 3, "worker": 3, "beat": 1.5,
         "live": 0.5, "proxy": 0.5, "keeper": 0.5}  # fmt: skip
SERVERS = {"postgres", "valkey"}  # the keeper restarts these, and gives up when both together die 9 times a minute
MOST_DEATHS = 5  # of one process within a minute: the supervisor gives up at 8
AGAIN = 0.25  # of the kills come before the desk is back from the one before
BACK_SECONDS = 90.0  # a desk that has not come back by then never will
SETTLE_SECONDS = 180.0
LABELLED, ALERTING, RESENT = 0.08, 0.006, 0.05  # shares of the payments
SNAPSHOT_ROWS = 1_000  # payments between two snapshots of the lane, so that kills meet them
NDJSON = "application/x-ndjson"
RETRY = {0, 429, 500, 502, 503, 504}


class Broken(Exception):
    """Something that must never happen has happened; the text names it."""


# --- the bank ---------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was promised, and how the answers went."""

    payments: dict[str, int] = field(default_factory=dict)  # external id → id, of every 2xx
    outcomes: dict[str, str] = field(default_factory=dict)  # external id → what a 200 said
    labels: list[int] = field(default_factory=list)
    closes: dict[int, str] = field(default_factory=dict)  # case → disposition
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    sent: int = 0
    retried: int = 0
    broken: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, name: str, id_: int, outcome: str = "") -> None:
        """A 2xx was given for the payment; every further one must say the same."""
        with self.lock:
            if self.payments.setdefault(name, id_) != id_:
                self.broken.append(f"payment {name} was answered with id {self.payments[name]} and then {id_}")
            if outcome and self.outcomes.setdefault(name, outcome) != outcome:
                self.broken.append(f"payment {name} was answered {self.outcomes[name]} and then {outcome}")

    def answered(self, what: str, status: int) -> None:
        with self.lock:
            self.answers[what][status] += 1
            self.retried += status in RETRY


class Budget:
    """How many payments may be sent so far: each kill releases the next share, so that all of them meet traffic."""

    def __init__(self, total: int, shares: int) -> None:
        self.total, self.shares = total, shares
        self.taken = 0
        self.allowed = total // shares
        self.over = False
        self.turn = threading.Condition()

    def take(self, most: int) -> int:
        """Up to `most` payments to send now; waits for the next share; 0 when all are sent or it is over."""
        with self.turn:
            while not self.over and self.taken < self.total and self.taken >= min(self.total, self.allowed + SLACK):
                self.turn.wait(0.5)
            granted = 0 if self.over else min(most, min(self.total, self.allowed + SLACK) - self.taken)
            self.taken += granted
            return granted

    def release(self, share: int) -> None:
        """Let the payments of the first `share` + 1 shares be sent."""
        with self.turn:
            self.allowed = self.total * (share + 1) // self.shares
            self.turn.notify_all()

    def end(self) -> None:
        with self.turn:
            self.over = True
            self.turn.notify_all()


class Caller:
    """One keep-alive connection to the API, made anew after every failure."""

    def __init__(self, url: str, key: str) -> None:
        self.address = urlsplit(url).netloc
        self.headers = {"Authorization": f"Bearer {key}"}
        self.link: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, float]:
        """Status (0: no answer came), body, and the seconds to wait before the next try."""
        try:
            if self.link is None:
                self.link = http.client.HTTPConnection(self.address, timeout=20)
            self.link.request(method, path, body, self.headers | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = self.link.getresponse()
            after = answer.headers.get("Retry-After", "")
            return answer.status, answer.read(), min(float(after), 2.0) if after.isdigit() else 0.1
        except (OSError, http.client.HTTPException):
            self.close()
            return 0, b"", 0.1

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.link = None


@dataclass
class Bank:
    """The clients: what they send, and the threads that send it."""

    url: str
    key: str
    budget: Budget
    seed: int
    customers: int
    tally: Tally = field(default_factory=Tally)
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    bulk: bool = True

    def start(self) -> None:
        """Start the clients."""
        jobs = [self._singles] * SINGLES + [self._bulks] * (BULKS if self.bulk else 0)
        for n, job in enumerate(jobs):
            self.threads.append(threading.Thread(target=self._client, args=(job, n), daemon=True))
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        """Wait until everything that the budget allowed is answered."""
        for thread in self.threads:
            while thread.is_alive():
                thread.join(1.0)
                if self.tally.broken:
                    raise Broken(self.tally.broken[0])

    def _client(self, job: Callable[[Caller, random.Random, str], None], n: int) -> None:
        caller = Caller(self.url, self.key)
        try:
            job(caller, random.Random(f"{self.seed} {n}"), f"{self.seed}-{n}")
        except Broken as error:
            self.tally.broken.append(str(error))
        finally:
            caller.close()

    def _singles(self, caller: Caller, dice: random.Random, prefix: str) -> None:
        n = 0
        while self.budget.take(1):
            n += 1
            name = f"{prefix}-{n}"
            document = payment(name, dice, self.customers)
            id_ = self.pay(caller, document)
            if dice.random() < RESENT:  # the answer was lost on the bank's side: the same body comes again
                self.pay(caller, document)
            if dice.random() < LABELLED:
                self._label(caller, dice, id_)

    def pay(self, caller: Caller, document: dict[str, Any]) -> int:
        """Send one payment until it is answered 2xx; its id."""
        body = json.dumps(document).encode()
        status, raw = self._until(caller, "single", "/api/v1/transactions", body, {200, 202})
        answer = json.loads(raw)
        decision = answer.get("decision") or {}
        self.tally.keep(document["external_id"], answer["id"], decision.get("outcome", "") if status == 200 else "")
        return answer["id"]

    def _label(self, caller: Caller, dice: random.Random, id_: int) -> None:
        verdict, source = dice.choice(["fraud", "legitimate"]), dice.choice(["customer", "chargeback"])
        label = {"transaction_id": id_, "verdict": verdict, "source": source}
        raw = self._until(caller, "label", "/api/v1/labels", json.dumps(label).encode(), {201})[1]
        with self.tally.lock:
            self.tally.labels.append(json.loads(raw)["id"])

    def _bulks(self, caller: Caller, dice: random.Random, prefix: str) -> None:
        n = 0
        while granted := self.budget.take(dice.randrange(1, LARGEST_BULK)):
            documents = [payment(f"{prefix}-{n + i}", dice, self.customers) for i in range(granted)]
            n += granted
            ids = self._send_bulk(caller, documents)
            if dice.random() < RESENT:
                self._send_bulk(caller, documents)
            for id_ in dice.sample(ids, int(len(ids) * LABELLED * dice.random())):
                self._label(caller, dice, id_)

    def _send_bulk(self, caller: Caller, documents: list[dict[str, Any]]) -> list[int]:
        """Send payments as one body until it is answered 202, then fetch what became of each line; their ids."""
        body = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
        job = json.loads(self._until(caller, "bulk", "/api/v1/transactions/bulk", body, {202}, NDJSON)[1])
        told = self._until(caller, "bulk result", f"/api/v1/jobs/{job['id']}/result", None, {200}, NDJSON)[1]
        lines = [json.loads(line) for line in told.splitlines()]
        names = [line["external_id"] for line in lines if line["id"]]
        if job["rejected"] or names != [document["external_id"] for document in documents]:
            raise Broken(f"of {len(documents)} lines {len(names)} were kept: {told[-300:].decode(errors='replace')}")
        for line in lines:
            self.tally.keep(line["external_id"], line["id"], (line["decision"] or {}).get("outcome", ""))
        return [line["id"] for line in lines]

    def _until(
        self, caller: Caller, what: str, path: str, body: bytes | None, kept: set[int], kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """The first answer with one of the statuses `kept`, however often it takes."""
        while True:
            status, raw, pause = caller.call("GET" if body is None else "POST", path, body, Content_Type=kind)
            self.tally.answered(what, status)
            if status in kept:
                return status, raw
            if status not in RETRY:
                raise Broken(f"a {what} was refused with {status}: {raw[:300].decode(errors='replace')}")
            if self.over.wait(pause):
                raise Broken(f"time was up while a {what} was still unanswered")


def payment(name: str, dice: random.Random, customers: int) -> dict[str, Any]:
    """A payment of one of `customers`; a few are of the kind that a seeded rule stops, and a few are clearings."""
    who, shop = dice.randrange(customers), dice.randrange(max(20, customers // 10))
    alerting = dice.random() < ALERTING
    at = datetime.now(UTC) - timedelta(seconds=dice.randrange(60))
    made: dict[str, Any] = {
        "external_id": name,
        "type": "purchase",
        "channel": "ecommerce",
        "occurred_at": at.isoformat(timespec="milliseconds"),
        "amount": {"value": dice.randrange(200_00, 900_00) if alerting else dice.randrange(1_00, 90_00),
                   "currency": "EUR"},
        "customer": {"id": f"chaos-{who}", "country": "DE"},
        "card": {"token": f"tok-chaos-{who}", "issuer_country": "DE", "entry_mode": "ecommerce"},
        "merchant": {"id": f"chaos-shop-{shop}", "mcc": "5812", "country": "DE"},
        "device": {"id": f"chaos-dev-{who}", "ip": f"198.51.{who % 200}.{who % 251}",
                   "flags": ["remote_access"] if alerting else []},
    }  # fmt: skip
    if dice.random() < 0.03:
        made["stage"] = "clearing"
    return made


# --- the desk and its processes ---------------------------------------------------------------------------------------


class Victims:
    """The desk's processes, by the supervisor's and the keeper's own books."""

    def __init__(self, desk: running.RunningDesk) -> None:
        self.desk = desk

    def main(self, kind: str) -> int:
        """The process id of a kind's (first) process, 0 while there is none."""
        try:
            if kind in SERVERS or kind == "keeper":
                return embedded.process_ids(self.desk.state).get(kind, 0)
            return self.desk.children.get(kind, 0)
        except (OSError, ValueError, KeyError):
            return 0

    def choose(self, kind: str, dice: random.Random) -> int:
        """A process to kill: of a child its first or one of its group, of Postgres the server or one backend."""
        if kind == "backend":
            backends = [pid for pid, parent, _ in processes() if parent and parent == self.main("postgres")]
            return dice.choice(sorted(backends)) if backends else 0
        first = self.main(kind)
        group = [pid for pid, _, pgid in processes() if first and pgid == first]
        return first if kind in SERVERS or not group or dice.random() < 0.7 else dice.choice(sorted(group))


def processes() -> Iterator[tuple[int, int, int]]:
    """(pid, parent, process group) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                yield int(entry.name), int(fields[1]), int(fields[2])


@dataclass
class Kill:
    """One kill: of what, when, and how long until the desk was itself again (None: killed again before)."""

    kind: str
    pid: int
    at: float
    back: float | None = None


class Killer:
    """Kills while payments flow, and watches the desk come back."""

    def __init__(self, desk: running.RunningDesk, bank: Bank, kills: int, deadline: float) -> None:
        self.victims = Victims(desk)
        self.bank, self.count, self.deadline = bank, kills, deadline
        self.dice = random.Random(f"{bank.seed} killer")
        self.caller = Caller(bank.url, bank.key)
        self.kills: list[Kill] = []
        self.unanswered: list[dict[str, Any]] = []
        self.probes = 0

    def run(self) -> None:
        """All kills, each in its share of the payments. Raises Broken when the desk stays away or time is up."""
        budget = self.bank.budget
        for n in range(self.count):
            budget.release(n)
            self._wait_for_traffic(int(budget.total * (n + self.dice.random() * 0.9) / budget.shares))
            self._kill()
            if n == self.count - 1 or self.dice.random() >= AGAIN:
                self._see_it_back(self.kills[-1])
            else:
                time.sleep(self.dice.random() * 3)
            if n % 10 == 9:
                say(f"  {n + 1} kills, {len(self.bank.tally.payments):,} payments acknowledged")
        budget.release(budget.shares)

    def _wait_for_traffic(self, mark: int) -> None:
        while self.bank.budget.taken < mark:
            time.sleep(0.005)
            self._check()
        time.sleep(self.dice.random() * 0.2)

    def _check(self) -> None:
        if self.bank.tally.broken:
            raise Broken(self.bank.tally.broken[0])
        if self.victims.desk.process.poll() is not None:
            raise Broken(f"the supervisor gave up after {len(self.kills)} kills; see {self.victims.desk.output}")
        if time.monotonic() > self.deadline:
            raise Broken(f"time was up after {len(self.kills)} kills")

    def _kill(self) -> None:
        while True:
            kind = self.dice.choices(list(KINDS), list(KINDS.values()))[0]
            pid = self.victims.choose(kind, self.dice) if self._may_die(kind) else 0
            if pid and signalled(pid):
                self.kills.append(Kill(kind, pid, time.monotonic()))
                return
            self._check()

    def _may_die(self, kind: str) -> bool:
        kin = SERVERS if kind in SERVERS else {kind}
        lately = [kill for kill in self.kills if kill.kind in kin and time.monotonic() - kill.at < 60]
        return len(lately) < MOST_DEATHS

    def _see_it_back(self, kill: Kill) -> None:
        """Until a payment sent after the kill is decided in its answer, and the process is there again."""
        while not (self._decides() and self._is_replaced(kill)):
            self._check()
            if time.monotonic() - kill.at > BACK_SECONDS:
                raise Broken(f"{BACK_SECONDS:.0f} s after {kill.kind} was killed the desk was not back")
            time.sleep(0.05)
        kill.back = time.monotonic() - kill.at

    def _decides(self) -> bool:
        """Whether one more payment is answered with its decision. What is not answered is sent again at the end."""
        self.probes += 1
        document = payment(f"{self.bank.seed}-probe-{self.probes}", self.dice, self.bank.customers)
        document.pop("stage", None)
        status, raw, _ = self.caller.call(
            "POST", "/api/v1/transactions", json.dumps(document).encode(), Content_Type="application/json"
        )
        self.bank.tally.answered("single", status)
        if status in {200, 202}:
            answer = json.loads(raw)
            outcome = answer["decision"]["outcome"] if status == 200 else ""
            self.bank.tally.keep(document["external_id"], answer["id"], outcome)
        elif status in RETRY:
            self.unanswered.append(document)
        else:
            raise Broken(f"a payment was refused with {status}: {raw[:300].decode(errors='replace')}")
        return status == 200

    def send_again(self) -> None:
        """What the desk did not answer while it came back, as a bank would."""
        for document in self.unanswered:
            self.bank.pay(self.caller, document)

    def _is_replaced(self, kill: Kill) -> bool:
        if kill.kind == "backend" or alive(kill.pid):
            return kill.kind == "backend"
        first = self.victims.main(kill.kind)
        return bool(first) and alive(first) and (kill.kind not in {"worker", "beat"} or is_connected(first))


def signalled(pid: int) -> bool:
    """Kill -9; whether there was something to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def is_connected(pid: int) -> bool:
    """Whether a process that answers nobody (worker, beat) has come as far as to hold a connection."""
    try:
        return any(os.readlink(each).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


# --- the investigators ------------------------------------------------------------------------------------------------


class Investigators:
    """Two people who close every case they get, and a lead who is the second person where one is needed.

    In a thread of this process, through the same services as the desk.
    """

    def __init__(self, tally: Tally, seed: int) -> None:
        self.tally, self.dice = tally, random.Random(f"{seed} investigators")
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        from django.db import Error, connection

        from cases.workflow import CaseError

        names = ["investigator", "investigator2"]
        while not self.over.wait(0.1):
            try:
                self._one_case(self.dice.choice(names))
            except CaseError:
                continue
            except Error:  # the database was killed; the next case is worked on a new connection
                connection.close()

    def _one_case(self, name: str) -> None:
        from django.contrib.auth import get_user_model

        from cases.services import claim_next, close_case

        person = get_user_model().objects.get(username=name)
        case = claim_next(person)
        if case is None:
            self.over.wait(0.3)
            return
        said: dict[str, Any] = self.dice.choice(
            [
                {"disposition": "confirmed_fraud", "fraud_type": "account_takeover", "close_reason": "FR-01"},
                {"disposition": "legitimate", "close_reason": "LG-01"},
                {"disposition": "inconclusive", "close_reason": "IN-01"},
            ]
        )
        case = close_case(case.pk, by=person, rationale="Closed while things were killed.", **said)
        if case.status == "pending_approval":
            self._approve(case.pk)
        self.tally.closes[case.pk] = said["disposition"]

    def _approve(self, case_id: int) -> None:
        """Agree to the close, as somebody else. Raises CaseError, then it is not closed."""
        from django.contrib.auth import get_user_model

        from cases import approvals
        from cases.models import Approval

        asked = Approval.objects.get(case=case_id, answer="")
        approvals.approve(asked.pk, by=get_user_model().objects.get(username="lead"))


class Builder:
    """Builds epochs beside the traffic, in a process of its own each, and again when one was disturbed."""

    def __init__(self, desk: running.RunningDesk, killer: Killer, epochs: int) -> None:
        self.desk, self.killer, self.epochs = desk, killer, epochs
        self.built = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        for n in range(self.epochs):
            while len(self.killer.kills) < (n + 1) * self.killer.count // (self.epochs + 1):
                if self.over.wait(0.2):
                    return
            while not self.over.is_set():
                try:
                    self.desk.manage("build_epoch", "main", "--reason", "built while things are killed", seconds=600)
                except subprocess.CalledProcessError:
                    self.over.wait(1.0)
                else:
                    self.built += 1
                    break


# --- what must hold at the end ----------------------------------------------------------------------------------------


class Promises:
    """Every promise of the tally held against the rows, on one connection."""

    def __init__(self, url: str, tally: Tally, lane: int, above: int) -> None:
        self.url, self.tally, self.lane, self.above = url, tally, lane, above

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        from scoring.models import DEGRADED  # once Django is set up

        params = {"lane": self.lane, "above": self.above, "ids": self.tally.labels}
        with closing(psycopg2.connect(self.url, connect_timeout=10)) as link, link.cursor() as cursor:
            cursor.execute(query, params | {"fallback": DEGRADED.code("failed_twice")})
            return cursor.fetchall()

    def number(self, query: str) -> int:
        return int(self.rows(query)[0][0])

    def owed(self) -> dict[str, int]:
        """What is still to be done by itself: decisions, labels to take in, cases to open."""
        return {name: n for name, query in OWED.items() if (n := self.number(query))}

    def broken(self) -> Iterator[str]:
        """Each promise that was not kept, as a sentence."""
        stored = {name: (id_, code) for name, id_, code in self.rows(STORED)}
        for name, id_ in self.tally.payments.items():
            found = stored.get(name)
            if found is None:
                yield f"payment {name} (id {id_}) was acknowledged and is not there"
            elif found[0] != id_:
                yield f"payment {name} was acknowledged as {id_} and is stored as {found[0]}"
            elif found[1] is None:
                yield f"payment {name} (id {id_}) has no live decision"
            elif (told := self.tally.outcomes.get(name)) and told != OUTCOME.text(found[1]):
                yield f"payment {name} was answered {told} and is decided {OUTCOME.text(found[1])}"
        for name in stored.keys() - self.tally.payments.keys():
            yield f"payment {name} is stored though it was never acknowledged and sent until it was"
        for name, query in NONE_MAY.items():
            if found_rows := self.rows(query):
                yield f"{name}: {len(found_rows)}, the first {found_rows[0]}"

    def labels(self) -> Iterator[str]:
        """Labels that were acknowledged and are not there, or not taken in exactly once."""
        found = dict(self.rows("SELECT id, 1 FROM label WHERE id = ANY(%(ids)s)"))
        yield from (
            f"label {each} was acknowledged and is not there" for each in self.tally.labels if each not in found
        )
        if len(set(self.tally.labels)) != len(self.tally.labels):
            yield "two labels were acknowledged with one id"

    def closes(self) -> Iterator[str]:
        """Cases whose closing was acknowledged and is not there."""
        closed = dict(self.rows("SELECT id, disposition FROM \"case\" WHERE status = 'closed'"))
        for case, disposition in self.tally.closes.items():
            if closed.get(case) != disposition:
                yield f"case {case} was closed as {disposition} and is {closed.get(case, 'open')}"


STORED = """
    SELECT k.external_id, t.id, d.outcome FROM transaction_key k JOIN transaction t USING (id)
      LEFT JOIN decision d ON d.id = t.id * 64 + 1 WHERE t.lane = %(lane)s AND t.id > %(above)s"""
OWED = {
    "payments without a decision": """
        SELECT count(*) FROM transaction t WHERE t.lane = %(lane)s AND t.intake = 1
           AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1)""",
    "labels not taken in": """
        SELECT count(*) FROM label l WHERE l.lane = %(lane)s AND l.import_job IS NULL
           AND NOT EXISTS (SELECT FROM lane_log g WHERE g.label_id = l.id)""",
    "epochs not switched to": """
        SELECT count(*) FROM scoring_epoch WHERE lane_id = %(lane)s AND status = 'ready'""",
    "alerts without a case": """
        SELECT count(*) FROM alert a WHERE a.lane = %(lane)s
           AND NOT EXISTS (SELECT FROM case_alert c WHERE c.alert_id = a.id)""",
}
ROLL_UPS = """
    SELECT cut, grain, at::text, lane, key, outcome, payments, value, fraud, fraud_value, legitimate, legitimate_value
      FROM decision_tally WHERE payments <> 0 OR fraud <> 0 OR legitimate <> 0"""
JUDGED = f"""
    SELECT count(*) FROM decision
     WHERE lane = %(lane)s AND screening = 1 AND outcome <> {OUTCOME.code("recorded")}"""
NONE_MAY = {
    "payments decided twice": """
        SELECT transaction_id FROM decision WHERE lane = %(lane)s AND screening = 1 GROUP BY 1 HAVING count(*) > 1""",
    "payments judged by the fallback though nothing was wrong with them": """
        SELECT transaction_id FROM decision WHERE lane = %(lane)s AND degraded = %(fallback)s""",
    "labels with another number of rows in the log than one": """
        SELECT l.id FROM label l LEFT JOIN lane_log g ON g.label_id = l.id
         WHERE l.lane = %(lane)s AND l.import_job IS NULL GROUP BY 1 HAVING count(g.seq) <> 1""",
    "payments of closed cases that their closing did not label exactly once": """
        SELECT c.id, a.alert_id FROM "case" c JOIN case_alert a ON a.case_id = c.id
         WHERE c.lane_id = %(lane)s AND c.status = 'closed' AND a.alert_id > %(above)s
           AND (SELECT count(*) FROM label l WHERE l.transaction_id = a.alert_id
                   AND l.reason LIKE 'C-' || c.id || ': %%')
               <> (CASE WHEN coalesce(nullif(a.verdict, ''), c.disposition) IN ('confirmed_fraud', 'legitimate')
                   THEN 1 ELSE 0 END)""",
    "closed cases with another number of closings in their history than one": """
        SELECT c.id FROM "case" c LEFT JOIN case_event e ON e.case_id = c.id AND e.kind = 'closed'
         WHERE c.lane_id = %(lane)s AND c.status = 'closed' GROUP BY 1 HAVING count(e.id) <> 1""",
}


# --- a run ------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


@dataclass
class Run:
    """One run over a desk of its own: what was asked for, and what came of it."""

    options: argparse.Namespace
    state: Path
    desk: running.RunningDesk = field(init=False)
    bank: Bank = field(init=False)
    killer: Killer = field(init=False)
    builder: Builder = field(init=False)
    promises: Promises = field(init=False)
    began: float = field(default_factory=time.monotonic)

    def go(self) -> list[str]:
        """Start, kill, stop, and give every broken promise."""
        os.environ["FRAUD_SNAPSHOT_ROWS"] = str(SNAPSHOT_ROWS)
        try:
            self.desk = running.start(self.state)
            self._prepare()
            say(f"  the desk is up after {time.monotonic() - self.began:.0f} s: {self.desk.url}")
            self.began = time.monotonic()
            self._traffic_and_kills()
            self._settle()
            say(f"  all is decided after {time.monotonic() - self.began:.0f} s; stopping and checking")
        finally:
            if hasattr(self, "desk"):
                self.desk.stop()
        return list(self._differences())

    def _prepare(self) -> None:
        servers = embedded.addresses(self.state)
        os.environ |= {"DATABASE_URL": servers.database_url, "VALKEY_URL": servers.valkey_url,
                       "FRAUD_STATE": str(self.state), "FRAUD_MODE": "demo", "LOG_LEVEL": "ERROR",
                       "DJANGO_SETTINGS_MODULE": "fraudsite.settings"}  # fmt: skip
        import django

        django.setup()
        options, access = self.options, self.desk.access
        budget = Budget(options.payments, options.kills + 1)
        customers = max(500, options.payments // 4)
        self.bank = Bank(self.desk.url, access["api_key"], budget, options.seed, customers, bulk=not options.no_bulk)
        self.killer = Killer(self.desk, self.bank, options.kills, self.began + options.minutes * 60)
        self.promises = Promises(servers.database_url, self.bank.tally, lane=1, above=0)
        self.promises.above = self.promises.number("SELECT max(id) FROM transaction")

    def _traffic_and_kills(self) -> None:
        people = Investigators(self.bank.tally, self.options.seed)
        self.builder = Builder(self.desk, self.killer, self.options.epochs)
        people.thread.start()
        self.builder.thread.start()
        self.bank.start()
        try:
            self.killer.run()
            self.bank.join()
            self.killer.send_again()
            self.builder.thread.join(600)
        except BaseException:
            self.bank.over.set()
            raise
        finally:
            self.bank.budget.end()
            people.over.set()
            self.builder.over.set()
            people.thread.join(30)

    def _settle(self) -> None:
        """Wait until the desk has done by itself what it still owed."""
        until = time.monotonic() + SETTLE_SECONDS
        while owed := self.promises.owed():
            if time.monotonic() > until:
                raise Broken(f"{SETTLE_SECONDS:.0f} s after the last kill there still were {owed}")
            time.sleep(0.5)

    def _differences(self) -> Iterator[str]:
        """On the servers alone: promises, invariants, the replay of the log, and what the owner held in memory."""
        embedded.ensure_servers(self.state)
        try:
            self.promises.url = embedded.addresses(self.state).database_url
            yield from self.promises.broken()
            if wrong := sum(answers[500] for answers in self.bank.tally.answers.values()):
                yield f"{wrong} calls were answered 500, though nothing was wrong with them"
            yield from self.promises.labels()
            yield from self.promises.closes()
            yield from self._roll_ups_differ()
            yield from self._owner_differs()
            yield from self._replay_differs()
        finally:
            embedded.release(self.state)
            embedded.wait_until_stopped(self.state)

    def _roll_ups_differ(self) -> Iterator[str]:
        """The dashboards' roll-ups, which followed all along, against counting every row again."""
        self.desk.manage("tally_desk", seconds=1800)
        followed = set(self.promises.rows(ROLL_UPS))
        self.desk.manage("tally_desk", "--rebuild", seconds=1800)
        if differ := followed ^ set(self.promises.rows(ROLL_UPS)):
            yield f"{len(differ)} rows of the roll-ups are not what counting again gives, one is {min(differ)}"

    def _owner_differs(self) -> Iterator[str]:
        """The owner saves its memory when it ends in good order; `verify` compares that file with the replay."""
        [(epoch, seq, token)] = self.promises.rows(
            "SELECT epoch, seq, encode(uuid_send(token), 'hex') FROM lane_cursor WHERE lane = %(lane)s"
        )
        name = f"{epoch:06d}-{seq:014d}-{token}.profiles"
        if not list(self.state.glob(f"**/{name}")):
            yield f"the owner left no snapshot of its memory at seq {seq}"

    def _replay_differs(self) -> Iterator[str]:
        try:
            said = self.desk.manage("verify", str(self.promises.lane), "--replay", "--all-epochs", seconds=1800)
        except subprocess.CalledProcessError as error:
            yield f"verify: {error.stderr.strip().splitlines()[-1]}"
            return
        for line in said.strip().splitlines():
            say(f"  {line}")
        judged = self.promises.number(JUDGED)
        if f"all {judged} stored vectors" not in said:
            yield f"not all {judged} stored vectors were held against the replay"


def report(run: Run) -> None:
    """The table: kills and recovery by process, then the payments and answers."""
    kills, tally = run.killer.kills, run.bank.tally
    say(f"\n{'killed':<10}{'times':>6}{'back p50':>10}{'max':>8}   (s, until a payment sent after it is decided again)")
    for kind in KINDS:
        back = [kill.back for kill in kills if kill.kind == kind and kill.back is not None]
        times = sum(kill.kind == kind for kill in kills)
        if times:
            figures = f"{statistics.median(back):>10.1f}{max(back):>8.1f}" if back else f"{'–':>10}{'–':>8}"
            say(f"{kind:<10}{times:>6}{figures}")
    again = sum(kill.back is None for kill in kills)
    say(f"{'all':<10}{len(kills):>6}   {again} of them followed by the next kill before the desk was back")
    seconds = time.monotonic() - run.began
    kept = f"{len(tally.payments):,} payments and {len(tally.labels):,} labels acknowledged"
    built = run.builder.built if hasattr(run, "builder") else 0
    say(f"{kept}, {len(tally.closes):,} cases closed, {built} epochs built; {seconds:.0f} s")
    say(f"{tally.retried:,} calls sent again")
    for what, answers in tally.answers.items():
        told = ", ".join(f"{status or 'no answer'}: {n:,}" for status, n in sorted(answers.items()))
        say(f"answers to {what}: {told}")


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--payments", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=40, help="give up after so long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--epochs", type=int, default=1, help="how many to build meanwhile")
    parser.add_argument("--no-bulk", action="store_true", help="send payments one by one only")
    parser.add_argument("--keep", action="store_true", help="keep the desk's folder also when all is well")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run, report; 0 only if every promise was kept."""
    options = options_of(arguments)
    state = Path(tempfile.mkdtemp(prefix="fraud-desk-chaos-")) / "state"
    say(f"{options.kills} kills over {options.payments:,} payments, seed {options.seed}")
    run = Run(options, state)
    try:
        broken = run.go()
    except Broken as error:
        broken = [str(error)]
    if hasattr(run, "killer"):
        report(run)
    for sentence in broken[:20]:
        say(f"BROKEN: {sentence}")
    if broken or options.keep:
        say(f"{len(broken)} promises broken; the desk's folder is kept: {state}")
    else:
        say("Nothing lost, nothing doubled; the log replays bit for bit.")
        shutil.rmtree(state.parent, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
