"""The embedded servers: private, found again, restarted when they die, gone when nobody needs them."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from fraudsite import embedded, keeper


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("a folder with spaces") / "state"
    embedded.ensure_servers(folder, throw_away=True)
    yield folder
    embedded.release(folder)
    assert embedded.wait_until_stopped(folder)


def eventually(check: Callable[[], object], patience: float = 15.0) -> object:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def postgres_answers(state: Path) -> bool:
    try:
        with psycopg2.connect(embedded.addresses(state).database_url) as link, link.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone() == (1,)
    except psycopg2.OperationalError:
        return False


def valkey_answers(state: Path) -> bool:
    try:
        return redis.from_url(embedded.addresses(state).valkey_url).ping()
    except redis.ConnectionError:
        return False


def test_both_servers_answer_and_need_their_password(state: Path) -> None:
    assert postgres_answers(state) and valkey_answers(state)
    url = embedded.addresses(state).database_url
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(url, password="guess")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(
            port=redis.from_url(embedded.addresses(state).valkey_url).connection_pool.connection_kwargs["port"],
            password="guess",
        ).ping()


def test_text_sorts_by_code_point(state: Path) -> None:
    with psycopg2.connect(embedded.addresses(state).database_url) as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        assert cursor.fetchone() == ("C.UTF-8", "UTF8")


def test_the_state_folder_and_its_book_are_private(state: Path) -> None:
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "servers.json").stat().st_mode) == 0o600


def test_postgres_never_runs_as_root(state: Path) -> None:
    owner = os.stat(f"/proc/{embedded.process_ids(state)['postgres']}").st_uid
    assert owner != 0


@pytest.mark.parametrize(("name", "answers"), [("postgres", postgres_answers), ("valkey", valkey_answers)])
def test_a_killed_server_comes_back_at_the_same_address(
    state: Path, name: str, answers: Callable[[Path], bool]
) -> None:
    before, killed = embedded.addresses(state), embedded.process_ids(state)[name]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: embedded.process_ids(state)[name] != killed and answers(state))
    assert embedded.addresses(state) == before


def test_a_second_user_joins_the_running_servers(state: Path) -> None:
    code = (
        "import sys, pathlib; from fraudsite import embedded;"
        "print(embedded.ensure_servers(pathlib.Path(sys.argv[1])).database_url)"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, state], cwd=embedded.ROOT, capture_output=True, text=True, check=True
    )
    assert second.stdout.strip() == embedded.addresses(state).database_url
    assert postgres_answers(state)


def test_servers_of_a_killed_user_stop_and_the_next_start_works(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    code = (
        "import sys, pathlib, time; from fraudsite import embedded;"
        "embedded.ensure_servers(pathlib.Path(sys.argv[1])); print('up', flush=True); time.sleep(60)"
    )
    user = subprocess.Popen([sys.executable, "-c", code, folder], cwd=embedded.ROOT, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None and user.stdout.readline() == "up\n"
    with psycopg2.connect(embedded.addresses(folder).database_url) as link, link.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS n")
    link.close()
    user.kill()
    user.wait()
    user.stdout.close()
    assert embedded.wait_until_stopped(folder)
    embedded.ensure_servers(folder)
    with psycopg2.connect(embedded.addresses(folder).database_url) as link, link.cursor() as cursor:
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchone() == (7,)
    link.close()
    # A keeper killed with -9 takes its servers along, and whoever comes next finds none of them in the way.
    os.kill(embedded.process_ids(folder)["keeper"], signal.SIGKILL)
    eventually(lambda: not embedded.keeper_alive(folder))
    embedded.ensure_servers(folder)
    assert postgres_answers(folder) and valkey_answers(folder)
    embedded.release(folder)
    assert embedded.wait_until_stopped(folder)


def test_a_full_log_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with open(log, "ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()
        embedded.trim_log(log, limit=50)
        writer.write(b"y")
    assert log.read_bytes() == b"y"
    assert (tmp_path / "web.log.1").stat().st_size == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_without_the_right_to_search_the_servers_move_to_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    embedded.make_private(state)
    assert keeper._settle(state).data == state / "servers"
    monkeypatch.setattr(keeper, "_keep_search", lambda libc: None)
    home = keeper._settle(state)
    assert home == keeper._settle(state)
    assert home.run([home.postgres / "bin" / "initdb", "--version"]).returncode == 0
    assert not home.data.is_relative_to(state)
    embedded.forget(state)
    assert not home.data.parent.exists()
