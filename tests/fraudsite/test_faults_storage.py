"""Full disks and a database that takes no writes: nothing half-stored, nobody told otherwise, the lane goes on.

Each test names the line of `docs/lane-protocol.md` that it tries to break. Files really cannot be written (a limit on
the size of this process's files), and the database really refuses writes where it can be made to.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from fraudsite import pipeline
from scoring import epochs, lanes
from scoring.lanes import own_lane
from scoring.models import Decision, Epoch
from scoring.services import FAILED_TWICE
from tests.fraudsite.test_faults import decided, sound
from tests.judging import keep, rows, wait_for
from tests.transactions.documents import make_document
from transactions import auth
from transactions.models import ApiClient

FACTS = ("transaction_key", "transaction", "transaction_detail")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a page."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def profiles(tmp_path: Path, settings: Any) -> Path:
    settings.PROFILE_DIR = tmp_path
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def written(lane: Any) -> None:
    """Let the snapshot under way come to its end, good or bad."""
    end = time.monotonic() + 20
    while lane.saving is not None and time.monotonic() < end:
        time.sleep(0.01)
        lane.go_on_saving()
    assert lane.saving is None


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_snapshot_that_finds_no_room_stops_nothing_and_leaves_nothing(
    bank: ApiClient, profiles: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """Judge ("snapshots: write aside, fsync, rename"): a snapshot only shortens a rebuild."""
    settings.SNAPSHOT_ROWS = 1
    with own_lane(bank.lane_id) as lane:
        for n in range(3):
            keep(bank, f"pay-{n}")
            lane.sweep_all()
            pipeline.judge(lane, lane.claim(patience=0))
            with full_disk():
                lane.save_if_due()
                written(lane)
        assert lane.memory is not None and files(profiles) == []
        monkeypatch.setattr(lane, "save_again_at", 0.0)
        lane.save_if_due()
        written(lane)
        assert [name.split("-")[1] for name in files(profiles)] == [f"{3:014d}"]
    sound(bank)


def test_an_epoch_whose_base_finds_no_room_stays_ready_and_the_lane_goes_on(
    bank: ApiClient, profiles: Path, monkeypatch: pytest.MonkeyPatch
):
    """Epoch switch 2 and 3 ("saves and fsyncs the result as the base", only then judges the log row)."""
    keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    epoch = epochs.build(bank.lane_id, reason="a test")
    keep(bank, "pay-2")
    with full_disk():
        assert pipeline.drain(bank.lane_id) == 1
        assert Epoch.objects.get(pk=epoch.pk).status == "ready" and len(files(profiles)) == 1
    assert rows("SELECT epoch FROM lane_cursor") == [(0,)]
    keep(bank, "pay-3")
    pipeline.drain(bank.lane_id)
    assert rows("SELECT epoch FROM lane_cursor") == [(1,)]
    sound(bank)


@contextmanager
def no_room(table: str) -> Iterator[None]:
    """The database's own disk is full for rows of this table: the error is the server's, whichever way they come."""
    with connection.cursor() as cursor:
        cursor.execute(
            """CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"""
        )
        cursor.execute(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room()")
    try:
        yield
    finally:
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER no_room ON {table}")


@pytest.mark.parametrize("table", ["decision", "lane_log"])
def test_a_full_disk_of_the_database_is_no_fault_of_the_payment(bank: ApiClient, table: str):
    """Judge ("a payment that fails twice is decided by the fallback"): only its own failures count."""
    ids = keep(bank, "pay-1")
    keeper = pipeline.Keeper(bank.lane_id, lambda: False, once=True)
    with no_room(table):
        for _ in range(4):
            with pytest.raises(pipeline.LOST):
                keeper.work()
    keeper.work()
    assert decided() == ids and not Decision.objects.filter(degraded=FAILED_TWICE).exists()
    sound(bank)


# --- a database that takes no writes ----------------------------------------------------------------------------------


class Caller:
    """A bank's client of the API."""

    def __init__(self, bank: ApiClient) -> None:
        auth.forget()
        self.key = auth.issue_key(bank)[1]
        self.http = Client(raise_request_exception=False)

    def post(self, path: str, body: object, kind: str = "application/json") -> Any:
        return self.http.post(
            f"/api/v1/{path}",
            body,
            content_type=kind,
            headers={"Authorization": f"Bearer {self.key}", "Prefer": "respond-async"},
        )


def assert_come_again(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0


@pytest.fixture
def read_only(bank: ApiClient) -> Iterator[Any]:
    """A switch: `read_only(True)` and the database refuses writes, in this session and in new ones."""
    name = connection.settings_dict["NAME"]

    def switch(on: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {"on" if on else "off"}')
            cursor.execute(f"SET default_transaction_read_only = {'on' if on else 'off'}")

    yield switch
    switch(False)


def test_a_database_that_takes_no_writes_is_answered_with_503_and_decides_when_it_does(bank: ApiClient, read_only: Any):
    """Ingest 4 ("never 2xx"); Owner 4. A primary that became a standby refuses writes with an error of its own."""
    caller = Caller(bank)
    waiting = keep(bank, "before")
    label = {"transaction_id": waiting[0], "verdict": "fraud"}
    caller.post("labels", {**label, "transaction_id": 1})  # the key's use is noted while that can be
    read_only(True)
    assert_come_again(caller.post("transactions", make_document("refused")))
    assert_come_again(caller.post("labels", label))
    with pytest.raises(pipeline.LOST):
        pipeline.drain(bank.lane_id)
    read_only(False)
    assert [rows(f"SELECT count(*) FROM {table}") for table in FACTS] == [[(1,)]] * 3
    assert caller.post("transactions", make_document("refused")).status_code == 202
    sound(bank)
    assert not Decision.objects.filter(degraded=FAILED_TWICE).exists() and len(decided()) == 2


@pytest.mark.parametrize("table", FACTS)
def test_a_disk_that_fills_up_in_the_middle_of_an_ingest_keeps_nothing_of_it(bank: ApiClient, table: str):
    """Ingest 2 and 4: key, payment and document are one commit."""
    caller = Caller(bank)
    many = b"".join(json.dumps(make_document(f"bulk-{n}")).encode() + b"\n" for n in range(70))
    with no_room(table):
        assert_come_again(caller.post("transactions", make_document("pay-1")))
        assert_come_again(caller.post("transactions/bulk", many, "application/x-ndjson"))
    assert [rows(f"SELECT count(*) FROM {each}") for each in FACTS] == [[(0,)]] * 3
    assert caller.post("transactions", make_document("pay-1")).status_code == 202
    assert caller.post("transactions/bulk", many, "application/x-ndjson").status_code == 202
    sound(bank)
    assert len(decided()) == 71


def test_a_session_that_is_cut_under_a_request_is_answered_with_503_and_the_next_one_works(bank: ApiClient):
    """Ingest 4, with the connection that a web thread keeps: the server was restarted between two requests."""
    caller = Caller(bank)
    pid = connection.connection.info.backend_pid if connection.connection else 0
    with closing(lanes.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    first, second = caller.post("transactions", make_document("pay-1")), None
    if first.status_code != 202:
        assert_come_again(first)
        connections.close_all()
        second = caller.post("transactions", make_document("pay-1"))
    assert (second or first).status_code == 202
    wait_for(lambda: rows("SELECT count(*) FROM transaction") == [(1,)])
