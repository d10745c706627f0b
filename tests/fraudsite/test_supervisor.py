"""`make run`: one clear sentence when it cannot start, dead children started again, nothing left behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from websockets.sync.client import ClientConnection

from fraudsite import embedded, supervisor
from fraudsite.embedded import ROOT, ServerTrouble
from fraudsite.supervisor import Child, Desk
from scoring.lanes import owner_of
from tests.running import RunningDesk
from transactions import schema


def eventually(check: Callable[[], object], patience: float = 15.0) -> object:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def is_judged(desk: RunningDesk, payment: dict[str, Any]) -> bool:
    """Whether the payment, sent (again) now and as it was, comes back with its decision."""
    try:
        return bool(desk.api("POST", "/api/v1/transactions", payment, Prefer="wait=5")[1].get("decision"))
    except (OSError, HTTPException):
        return False


def tend(desk: Desk) -> bool:
    desk.tend()
    return True


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fraudsite.supervisor", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("FRAUD_STATE", str(tmp_path))
    (tmp_path / "logs").mkdir()
    return Desk(tmp_path, "localhost", 8000, own_servers=False)


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(PORT=str(port), FRAUD_STATE=str(tmp_path))
    sentence = f"Port {port} is in use by another program; try `make run PORT={port + 1}`.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, sentence, "")


def test_a_port_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    done = run(PORT="http", FRAUD_STATE=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "PORT must be a number from 1 to 65535, not 'http'.\n")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(FRAUD_STATE=str(tmp_path / "file" / "state"))
    assert (done.returncode, done.stdout) == (1, f"Cannot create the folder {tmp_path}/file/state: Not a directory.\n")


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1_000_000))
    with pytest.raises(ServerTrouble, match=r"^The disk is full: 1 MB left at .*, 300 MB needed\.$"):
        supervisor.check_disk(tmp_path)


def test_a_second_start_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with supervisor.claim_folder(tmp_path):
        done = run(FRAUD_STATE=str(tmp_path))
    assert (done.returncode, done.stdout.startswith(f"The desk already runs from {tmp_path}")) == (1, True)


def test_reset_wipes_the_folder_but_not_while_it_is_used(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with supervisor.claim_folder(state):
        assert run("reset", FRAUD_STATE=str(state)).returncode == 1
    assert state.exists()
    assert run("reset", FRAUD_STATE=str(state)).returncode == 0
    assert not state.exists()
    assert run("reset", FRAUD_STATE=str(state)).returncode == 0


def test_a_killed_child_is_started_again_and_stopped_with_its_whole_group(desk: Desk) -> None:
    child = Child("web", ["/bin/sh", "-c", "sleep 300 & wait"])
    desk.children = [child]
    desk.tend()
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: tend(desk) and child.process is not None and child.process.pid != first)
    assert child.process is not None
    group = child.process.pid
    desk.stop()
    eventually(lambda: not group_exists(group))


def test_a_child_that_keeps_dying_is_given_up_with_its_last_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSES", (0.0,))
    desk.children = [Child("web", ["/bin/sh", "-c", "echo no module named web"])]
    with pytest.raises(ServerTrouble) as trouble:
        eventually(lambda: not tend(desk))
    sentence, *lines = str(trouble.value).splitlines()
    assert sentence.startswith("web died 8 times within a minute and is given up")
    assert lines[-1] == "    no module named web"


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time; from fraudsite.supervisor import Child\n"
        "child = Child('web', ['/bin/sleep', '300']); child.start(); print(child.process.pid, flush=True)\n"
        "time.sleep(60)"
    )
    (tmp_path / "logs").mkdir()
    environment = {**os.environ, "FRAUD_STATE": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
        except FileNotFoundError:
            return True

    eventually(gone)


def risky_payment(external_id: str) -> dict[str, Any]:
    """What the seeded rule on remote access sends to review."""
    payment = schema.example_payment(external_id=external_id)
    payment["amount"] = {"value": 90_000, "currency": "EUR"}
    payment["device"]["flags"] = ["remote_access"]
    return payment


def alerts_until(feed: ClientConnection, external_id: str) -> dict[str, Any]:
    """Read the socket until the alert of that payment comes."""
    while True:
        message = json.loads(feed.recv(timeout=15))
        for alert in message.get("alerts", []):
            if external_id in json.dumps(alert):
                return alert


@pytest.mark.slow
def test_a_posted_payment_is_decided_and_its_alert_seen_on_a_socket(running_desk: RunningDesk) -> None:
    session = running_desk.sign_in("investigator")
    with running_desk.socket("/ws/alerts/?after=0", session) as feed:
        status, answer = running_desk.api(
            "POST", "/api/v1/transactions", risky_payment("supervisor-1"), Prefer="wait=10"
        )
        assert status == 200 and answer["decision"]["outcome"] in ("review", "decline"), answer
        assert alerts_until(feed, str(answer["id"]))


@pytest.mark.slow
def test_a_killed_scorer_is_followed_by_the_one_that_stands_by(running_desk: RunningDesk) -> None:
    def owner() -> int | None:
        url = embedded.addresses(running_desk.state).database_url
        with closing(psycopg2.connect(url)) as link, link.cursor() as cursor:
            return owner_of(cursor, 1)

    both = {running_desk.children[name] for name in ("scorer", "standby")}
    killed = eventually(lambda: owner() in both and owner(), 20)
    assert isinstance(killed, int)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: owner() in both - {killed}, 20)
    eventually(partial(is_judged, running_desk, risky_payment("supervisor-5")), 60)
    eventually(lambda: killed not in running_desk.children.values(), 30)  # started again, to stand by


@pytest.mark.slow
def test_every_killed_process_is_replaced_and_the_desk_answers_again(running_desk: RunningDesk) -> None:
    before = running_desk.children
    servers = embedded.process_ids(running_desk.state)
    for number in [*before.values(), servers["valkey"], servers["postgres"]]:
        os.kill(number, signal.SIGKILL)

    eventually(partial(is_judged, running_desk, risky_payment("supervisor-2")), patience=90)
    eventually(lambda: all(running_desk.children.get(name) not in (None, old) for name, old in before.items()), 30)
    assert running_desk.process.poll() is None


@pytest.mark.slow
def test_a_stopped_desk_leaves_nothing_and_starts_again_in_seconds_with_its_data(running_desk: RunningDesk) -> None:
    running_desk.api("POST", "/api/v1/transactions", risky_payment("supervisor-3"), Prefer="wait=10")
    children = running_desk.children
    assert running_desk.stop() == 0
    assert not any(Path(f"/proc/{number}").exists() for number in children.values())
    assert not embedded.in_use(running_desk.state)
    began = time.monotonic()
    running_desk.start()
    assert time.monotonic() - began < 60  # 15 to 25 where nothing else runs
    status, answer = running_desk.api("GET", "/api/v1/transactions?external_id=supervisor-3")
    assert status == 200 and "supervisor-3" in json.dumps(answer)
