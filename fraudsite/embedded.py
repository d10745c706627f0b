"""Postgres and Valkey from wheels, for the demo, the commands and the tests: real servers without an installation.

One small *keeper* process (`fraudsite/keeper.py`) owns both servers of a state folder. Whoever needs them (`make run`,
any `manage.py` command, the tests) calls `ensure_servers()`, which holds a shared lock on `users.lock` for the life of
its process and starts the keeper if none is there. The keeper stops the servers as soon as nobody holds that lock any
more: the last one out turns off the lights, even when it was killed with -9, because the kernel gives up its locks.
"""

import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "fraud_desk"
SUPERUSER = "fraud"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_LIMIT = 8_000_000

_leases: dict[Path, IO[str]] = {}


class ServerTrouble(Exception):
    """A server could not be started; the text is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Servers:
    """Where the embedded servers of one state folder listen."""

    database_url: str
    valkey_url: str


def state_folder() -> Path:
    """The folder of everything this installation writes: FRAUD_STATE, else `.local` in the clone."""
    return Path(os.environ.get("FRAUD_STATE") or ROOT / ".local").absolute()


# --- for those who use the servers ------------------------------------------------------------------------------------


def ensure_servers(state: Path | None = None, *, throw_away: bool = False) -> Servers:
    """Start the servers of `state` unless they run; they stay up for the life of this process (or until `release`).

    `throw_away` servers do not sync to disk and their folder is removed with them: for tests. Raises ServerTrouble.
    """
    state = (state or state_folder()).absolute()
    make_private(state)
    if state not in _leases:
        _leases[state] = locked(state / "users.lock", fcntl.LOCK_SH, STOP_SECONDS + 10)
    with locked(state / "start.lock", fcntl.LOCK_EX, START_SECONDS * 2):
        if not keeper_alive(state):
            _spawn_keeper(state, throw_away)
    return addresses(state)


def provide(state: Path | None = None) -> None:
    """Name the servers in DATABASE_URL and VALKEY_URL unless that is done: those of the last run, else embedded."""
    for name, url in _foreign_addresses(state or state_folder()).items():
        os.environ.setdefault(name, url)
    for name in ("DATABASE_URL", "VALKEY_URL"):
        _read_from_file(name)
    if os.environ.get("REDIS_URL"):
        os.environ.setdefault("VALKEY_URL", os.environ["REDIS_URL"])
    if os.environ.get("DATABASE_URL") and os.environ.get("VALKEY_URL"):
        return
    servers = ensure_servers(state)
    os.environ.setdefault("DATABASE_URL", servers.database_url)
    os.environ.setdefault("VALKEY_URL", servers.valkey_url)


def _read_from_file(name: str) -> None:
    path = os.environ.get(f"{name}_FILE")
    if path and not os.environ.get(name):
        try:
            os.environ[name] = Path(path).read_text().strip()
        except OSError as error:
            raise ServerTrouble(f"{name}_FILE names {path}, which cannot be read ({error.strerror}).") from error


def _foreign_addresses(state: Path) -> dict[str, str]:
    """The servers that the environment of the last `make run` named, if it did."""
    path = state / "addresses.json"
    return json.loads(path.read_text()) if path.exists() else {}


def prefer_demo() -> None:
    """Choose FRAUD_MODE for a command typed in the clone: demo, unless the environment names a database of its own."""
    deployed = os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE")
    demo_here = (state_folder() / "demo.json").exists()
    os.environ.setdefault("FRAUD_MODE", "production" if deployed and not demo_here else "demo")


def release(state: Path) -> None:
    """Give up this process's claim on the servers of `state`; they stop when nobody else holds one."""
    lease = _leases.pop(state.absolute(), None)
    if lease is not None:
        lease.close()


def wait_until_stopped(state: Path, patience: float = STOP_SECONDS + 10) -> bool:
    """Wait for the keeper of `state` to end; False when it has not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not keeper_alive(state):
            return True
        time.sleep(0.1)
    return False


def keeper_alive(state: Path) -> bool:
    """Whether a keeper process holds the servers of `state`."""
    return _islocked(state / "keeper.lock")


def in_use(state: Path) -> bool:
    """Whether any process uses the servers of `state` now."""
    return _islocked(state / "users.lock") or keeper_alive(state)


def addresses(state: Path) -> Servers:
    """The URLs of the servers of `state`, as written by their keeper."""
    book = read_book(state)
    return Servers(
        f"postgresql://{SUPERUSER}:{quote(book['password'])}@127.0.0.1:{book['postgres_port']}/{DATABASE}",
        f"redis://:{quote(book['password'])}@127.0.0.1:{book['valkey_port']}/0",
    )


def process_ids(state: Path) -> dict[str, int]:
    """Process ids of `keeper`, `postgres` and `valkey`, for tests that kill them."""
    return dict(read_book(state)["pids"])


def trim_log(path: Path, limit: int = LOG_LIMIT) -> None:
    """Move an appended-to log aside as `.1` once it is over `limit` bytes, so that logs stay bounded.

    The writer keeps its descriptor (O_APPEND), so the content is copied and the file cut; lines written in between are
    lost.
    """
    try:
        if path.stat().st_size > limit:
            shutil.copyfile(path, path.with_suffix(path.suffix + ".1"))
            os.truncate(path, 0)
    except FileNotFoundError:
        return


def _spawn_keeper(state: Path, throw_away: bool) -> None:
    logs = state / "logs"
    make_private(logs)
    trim_log(logs / "keeper.log")
    command = [sys.executable, "-m", "fraudsite.keeper", str(state), *(["--throw-away"] if throw_away else [])]
    with open(logs / "keeper.log", "ab") as log:
        keeper = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert keeper.stdout is not None
    with keeper.stdout as pipe:
        answer = pipe.readline().decode().strip()
    # The keeper outlives many a command on purpose: tell the Popen object that nobody will wait for it.
    keeper.returncode = 0
    if answer != "ready":
        raise ServerTrouble(answer or f"The embedded servers did not start; see {logs / 'keeper.log'}.")


# --- locks and the book of ports and pids -----------------------------------------------------------------------------


def make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerTrouble(f"Cannot create the folder {folder}: {error.strerror}.") from error


def open_lock(path: Path) -> IO[str]:
    try:
        return open(path, "a+")
    except OSError as error:
        raise ServerTrouble(f"Cannot open {path}: {error.strerror}. Does the folder belong to another user?") from error


def locked(path: Path, kind: int, patience: float) -> IO[str]:
    handle = open_lock(path)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                handle.close()
                raise ServerTrouble(f"Another process has held {path} for {patience:.0f} seconds.") from None
            time.sleep(0.05)


def _islocked(path: Path) -> bool:
    if not path.exists():
        return False
    with open_lock(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_book(state: Path) -> dict[str, Any]:
    try:
        return json.loads((state / "servers.json").read_text())
    except FileNotFoundError:
        return {}


def write_book(state: Path, book: dict[str, Any]) -> None:
    aside = state / "servers.json.new"
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(book, file)
    os.replace(aside, state / "servers.json")


# --- ports and folders ------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A free TCP port of 127.0.0.1 below the range from which outgoing connections draw theirs."""
    for _ in range(200):
        port = random.randint(20000, 31999)
        if is_free(port):
            return port
    raise ServerTrouble("No free TCP port between 20000 and 31999 on 127.0.0.1.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def forget(state: Path) -> None:
    """Remove a state folder, and the temporary folder that it may name."""
    note = state / "elsewhere"
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
    shutil.rmtree(state, ignore_errors=True)
