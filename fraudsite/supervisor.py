"""`make run`: the whole desk under one process, on one origin, with its state in one folder.

Servers, migrations, demo data and static files first; then the children, each in its own process group, watched and
restarted with a growing pause; one line with the address and the log-ins once everything is ready. A signal stops all
in order. Children ask the kernel to be told of the supervisor's death, so that even `kill -9` leaves nothing behind.
"""

import ctypes
import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fraudsite import embedded
from fraudsite.embedded import ROOT, ServerTrouble
from fraudsite.keeper import PR_SET_PDEATHSIG

READY_SECONDS = 120.0
STOP_SECONDS = 8.0
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
MAX_DEATHS = 8  # of one child within a minute
CELERY = [sys.executable, "-m", "celery", "-A", "fraudsite.celery"]
WORKER = [*CELERY, "worker", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
LEAST_FREE_BYTES = 300_000_000
PEOPLE = ("investigator", "investigator2", "lead", "admin", "approver", "auditor")

CADDYFILE = """{{
	admin off
	auto_https off
	persist_config off
	grace_period 2s
	log {{
		level WARN
	}}
}}
http://:{port} {{
	bind {hosts}
	@uploads path_regexp ^/desk/cases/[0-9]+/files/$
	request_body @uploads {{
		max_size 130MB
	}}
	@others not path_regexp ^/desk/cases/[0-9]+/files/$
	request_body @others {{
		max_size 16MB
	}}
	handle /metrics {{
		respond 404
	}}
	handle /ws/* {{
		reverse_proxy 127.0.0.1:{live} {{
			lb_try_duration 15s
			lb_try_interval 100ms
			stream_close_delay 1s
		}}
	}}
	handle {{
		reverse_proxy 127.0.0.1:{web} {{
			lb_try_duration 15s
			lb_try_interval 100ms
		}}
	}}
}}
"""


def say(text: str) -> None:
    """One line to the person at the terminal, at once."""
    print(text, flush=True)


# --- children ---------------------------------------------------------------------------------------------------------


@dataclass
class Child:
    """One process of the desk: how to start it, how to know that it is ready, when it died."""

    name: str
    command: list[str]
    ready: Callable[[], bool] = lambda: True
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)
    start_at: float = 0.0

    @property
    def log(self) -> Path:
        return embedded.state_folder() / "logs" / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it in a group of its own, its output appended to its log."""
        embedded.trim_log(self.log)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )

    def note_death(self) -> None:
        """Clear away what is left of its group and choose the moment of its next start."""
        self.signal(signal.SIGKILL)
        now = time.monotonic()
        self.deaths = [moment for moment in self.deaths if now - moment < 60] + [now]
        self.start_at = now + PAUSES[min(len(self.deaths), len(PAUSES)) - 1]
        self.process = None

    def signal(self, number: int) -> None:
        """Send a signal to its whole group, if there is any left."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    def last_lines(self, count: int = 12) -> str:
        """The end of its log, for the message when it is given up."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line[:300]}" for line in lines[-count:])


def _die_with_parent(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


# --- readiness --------------------------------------------------------------------------------------------------------


def answers(port: int, path: str) -> bool:
    """Whether http://127.0.0.1:port/path answers 200 within two seconds."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        link.request("GET", path)
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def lane_alive(lane: int) -> bool:
    """Whether the lane's owner reports itself (its key in Valkey expires when it stops)."""
    import redis

    embedded.provide()
    try:
        with redis.Redis.from_url(os.environ["VALKEY_URL"], socket_timeout=2) as client:
            return bool(client.exists(f"alive:{lane}"))
    except redis.RedisError:
        return False


# --- the desk ---------------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """Everything `make run` starts, in the order of its start."""

    state: Path
    host: str
    port: int
    web_port: int = 0
    live_port: int = 0
    children: list[Child] = field(default_factory=list)
    own_servers: bool = True
    stopping: bool = False

    @property
    def url(self) -> str:
        return (
            f"http://localhost:{self.port}" if self.host in {"", "0.0.0.0", "::"} else f"http://{self.host}:{self.port}"
        )

    def prepare(self) -> None:
        """Servers, tables, demo data, static files: everything a child may rely on."""
        with Step("Starting Postgres and Valkey"):
            self.own_servers = not _servers_named()
            embedded.provide(self.state)
            _note_foreign_servers(self.state, self.own_servers)
        prepare_data()

    def plan(self) -> None:
        """Name the children; ports of web and live are private to this machine."""
        self.web_port, self.live_port = embedded.free_port(), embedded.free_port()
        python = sys.executable
        granian = [python, "-m", "granian", "--host", "127.0.0.1", "--workers", "1", "--no-access-log"]
        self.children = [
            *(self._scorer(lane) for lane in _lanes()),
            Child("worker", [*WORKER, "-Q", "default", "-n", "worker@desk", "-c", "2"]),
            Child("beat", [*CELERY, "beat", "--pidfile=", "--loglevel", "WARNING"]),
            Child(
                "web",
                [*granian, "--interface", "wsgi", "--port", str(self.web_port), "--blocking-threads", "24",
                 "--backpressure", "200", "--workers-kill-timeout", "3", "fraudsite.wsgi:application"],
                lambda: answers(self.web_port, "/readyz"),
            ),
            Child(
                "live",
                [*granian, "--interface", "asginl", "--port", str(self.live_port), "--workers-kill-timeout", "3",
                 "fraudsite.asgi:application"],
                lambda: answers(self.live_port, "/livez"),
            ),
            Child("proxy", self._proxy_command(), lambda: answers(self.port, "/livez"), self._proxy_environment()),
        ]  # fmt: skip

    def start(self) -> None:
        """Start all children and wait until each reports ready; raises ServerTrouble."""
        with Step("Starting web, live, scorer, worker and beat"):
            for child in self.children:
                child.start()
            deadline = time.monotonic() + READY_SECONDS
            waiting = list(self.children)
            while waiting and not self.stopping:
                self.tend()
                waiting = [child for child in waiting if not (child.is_running and child.ready())]
                if time.monotonic() > deadline:
                    raise ServerTrouble(_not_ready(waiting[0]))
                time.sleep(0.1)
        if not self.stopping:
            self._start_standbys()
        self._write_run_file()

    def _start_standbys(self) -> None:
        """A second scorer for each lane, once the first ones own them: it takes over without a cold start."""
        standbys = [self._scorer(lane, "standby") for lane in _lanes()]
        for child in standbys:
            child.start()
        self.children += standbys

    def start_traffic(self) -> None:
        """The simulator, posting to the real API (FRAUD_TRAFFIC payments a second; 0 = none)."""
        rate = os.environ.get("FRAUD_TRAFFIC", "2")
        if rate == "0" or self.stopping:
            return
        access = read_access(self.state)
        command = [sys.executable, "manage.py", "simulate", "--url", f"http://127.0.0.1:{self.port}", "--tps", rate]
        simulator = Child("simulator", command, environment={"FRAUD_API_KEY": access["api_key"]})
        simulator.start()
        self.children.append(simulator)
        self._write_run_file()

    def announce(self) -> None:
        """Write the address into demo.json and print the one line that people wait for."""
        access = read_access(self.state)
        access["url"] = self.url
        write_private(self.state / "demo.json", access)
        people = ", ".join(
            f"{name} / {access['users'][name]['password']}" for name in PEOPLE if name in access["users"]
        )
        say(f"\nFraud desk: {self.url}/  log in as {people}  API key {access['api_key']}\n")

    def watch(self) -> None:
        """Tend the children until a signal arrives."""
        while not self.stopping:
            self.tend()
            time.sleep(0.2)

    def tend(self) -> None:
        """Restart what died, after a pause that grows; give up with one sentence on what keeps dying."""
        self._tend_servers()
        changed = False
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                child.note_death()
                if len(child.deaths) >= MAX_DEATHS:
                    raise ServerTrouble(
                        f"{child.name} died {MAX_DEATHS} times within a minute and is given up; its last lines"
                        f" (all in {child.log}):\n{child.last_lines()}"
                    )
                say(f"{child.name} ended unexpectedly; it is started again (log: {child.log}).")
            if child.process is None and time.monotonic() >= child.start_at:
                child.start()
                changed = True
            embedded.trim_log(child.log)
        if changed:
            self._write_run_file()

    def stop(self) -> None:
        """Traffic and doors first, then the workers, then the servers; nothing is left behind."""
        doors = {"simulator", "proxy", "web", "live", "beat"}
        _stop_all([child for child in self.children if child.name in doors])
        _stop_all([child for child in self.children if child.name not in doors])
        (self.state / "run.json").unlink(missing_ok=True)
        embedded.release(self.state)
        if self.own_servers:
            embedded.wait_until_stopped(self.state)

    def _tend_servers(self) -> None:
        if self.own_servers and not embedded.keeper_alive(self.state):
            embedded.ensure_servers(self.state)

    def _scorer(self, lane: int, role: str = "scorer") -> Child:
        command = [*WORKER, "-Q", f"lane.{lane}", "-n", f"{role}{lane}@desk", "-P", "threads", "-c", "2"]
        name = role if lane == 1 else f"{role}{lane}"
        return Child(name, command, lambda: lane_alive(lane), {"FRAUD_LANE": str(lane)})

    def _proxy_command(self) -> list[str]:
        folder = self.state / "proxy"
        folder.mkdir(mode=0o700, exist_ok=True)
        hosts = " ".join(_listen_addresses(self.host))
        text = CADDYFILE.format(port=self.port, hosts=hosts, web=self.web_port, live=self.live_port)
        (folder / "Caddyfile").write_text(text)
        caddy = Path(sys.executable).parent / "caddy"
        return [str(caddy), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]

    def _proxy_environment(self) -> dict[str, str]:
        """Caddy writes to its own folder here, not to the home folder."""
        folder = str(self.state / "proxy")
        return {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder}

    def _write_run_file(self) -> None:
        pids = {child.name: child.process.pid for child in self.children if child.process is not None}
        write_private(self.state / "run.json", {"pid": os.getpid(), "url": self.url, "children": pids})


def _stop_all(children: list[Child]) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(child.is_running for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children:
        child.signal(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()


def _not_ready(child: Child) -> str:
    return f"{child.name} was not ready within {READY_SECONDS:.0f} seconds; its last lines (all in {child.log}):\n" + (
        child.last_lines()
    )


# --- preparation ------------------------------------------------------------------------------------------------------


class Step:
    """A line for a step of the start: what happens, and how long it took."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> None:
        self.started = time.monotonic()
        print(f"{self.text} …", end="\n" if not sys.stdout.isatty() else "", flush=True)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None and sys.stdout.isatty():
            say(f" {time.monotonic() - self.started:.1f} s")
        elif sys.stdout.isatty():
            say("")


def prepare_data() -> None:
    """`manage.py prepare_demo`, with its progress on the terminal. Raises ServerTrouble when it fails."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "prepare_demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        # Ctrl-C is for the supervisor, which then ends the command: no traceback of somebody half-way.
        start_new_session=True,
        preexec_fn=_die_with_parent(os.getpid()),
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise ServerTrouble("The desk cannot start: `manage.py prepare_demo` failed, as said above.")


def _servers_named() -> bool:
    """Whether the environment names servers of its own."""
    named = {name.removesuffix("_FILE") for name, value in os.environ.items() if value}
    return "DATABASE_URL" in named and bool(named & {"VALKEY_URL", "REDIS_URL"})


def _note_foreign_servers(state: Path, own: bool) -> None:
    """Remember servers named by the environment, so that `manage.py` in this clone finds the same."""
    path = state / "addresses.json"
    if own:
        path.unlink(missing_ok=True)
    else:
        write_private(path, {name: os.environ[name] for name in ("DATABASE_URL", "VALKEY_URL")})


def _lanes() -> list[int]:
    """The lanes that get a scorer, as the database lists them."""
    import psycopg2

    link = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=10)
    try:
        with link, link.cursor() as cursor:
            cursor.execute("SELECT id FROM transactions_lane ORDER BY id")
            return [row[0] for row in cursor.fetchall()]
    finally:
        link.close()


def read_access(state: Path) -> dict[str, Any]:
    """demo.json: the API key and the demo users' passwords."""
    return json.loads((state / "demo.json").read_text())


def write_private(path: Path, content: object) -> None:
    """Write JSON that only this user may read, whole or not at all."""
    aside = path.with_suffix(".new")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    os.replace(aside, path)


# --- the machine ------------------------------------------------------------------------------------------------------


def chosen_port() -> int:
    """PORT, default 8000; raises ServerTrouble when it is no port or taken."""
    text = os.environ.get("PORT", "8000")
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ServerTrouble(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _listen_addresses(host: str) -> list[str]:
    if host != "localhost":
        return [host]
    return ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def check_port(host: str, port: int) -> None:
    """Raises ServerTrouble with one sentence when nobody can listen there."""
    for address in _listen_addresses(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EACCES:
                    raise ServerTrouble(
                        f"Port {port} needs more rights than you have; try `make run PORT=8001`."
                    ) from None
                raise ServerTrouble(
                    f"Port {port} is in use by another program; try `make run PORT={port + 1}`."
                ) from None


def check_disk(state: Path) -> None:
    """Raises ServerTrouble when too little space is left to work with."""
    free = shutil.disk_usage(state).free
    if free < LEAST_FREE_BYTES:
        raise ServerTrouble(
            f"The disk is full: {free // 1_000_000} MB left at {state}, {LEAST_FREE_BYTES // 1_000_000} MB needed."
        )


def claim_folder(state: Path) -> IO[str]:
    """The lock that makes this the one supervisor of the state folder; raises ServerTrouble."""
    embedded.make_private(state)
    embedded.make_private(state / "logs")
    lock = embedded.open_lock(state / "run.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ServerTrouble(f"The desk already runs from {state}; stop it first, or use another FRAUD_STATE.") from None
    return lock


def set_environment(state: Path) -> None:
    """What every child and command of this run shares."""
    os.environ.update(
        FRAUD_MODE="demo",
        FRAUD_STATE=str(state),
        DJANGO_SETTINGS_MODULE="fraudsite.settings",
        PYTHONUNBUFFERED="1",
        PYTHONUTF8="1",
    )


def reset(state: Path) -> None:
    """Wipe everything a state folder holds; raises ServerTrouble while anything uses it."""
    if not state.exists():
        say(f"Nothing to wipe at {state}.")
        return
    lock = claim_folder(state)
    if embedded.in_use(state):
        raise ServerTrouble(f"The servers of {state} are in use; stop the desk and running commands first.")
    embedded.forget(state)
    lock.close()
    say(f"Wiped {state}.")


def main() -> int:
    """Run the desk until a signal; the exit code is 1 when something kept it from running."""
    state = embedded.state_folder()
    host = os.environ.get("HOST", "localhost")
    desk: Desk | None = None
    try:
        if sys.argv[1:] == ["reset"]:
            reset(state)
            return 0
        lock = claim_folder(state)
        port = chosen_port()
        check_port(host, port)
        check_disk(state)
        set_environment(state)
        desk = Desk(state, host, port)
        _stop_on_signal(desk)
        live(desk)
        lock.close()
        return 0
    except (ServerTrouble, OSError) as trouble:
        return _give_up(trouble)
    except KeyboardInterrupt:
        return 0
    finally:
        if desk is not None:
            say("Stopping …")
            desk.stop()


def live(desk: Desk) -> None:
    """From nothing to a running desk, and on until it is told to stop."""
    desk.prepare()
    desk.plan()
    desk.start()
    if not desk.stopping:
        desk.announce()
        desk.start_traffic()
    desk.watch()


def _stop_on_signal(desk: Desk) -> None:
    def stop(number: int, frame: object) -> None:
        # During preparation there is nothing to tend: leave at once. Later the loops see the flag.
        first, desk.stopping = not desk.stopping, True
        if first and not desk.children:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _give_up(trouble: Exception) -> int:
    if isinstance(trouble, OSError) and trouble.errno == errno.ENOSPC:
        say("The disk is full; free some space and start again.")
    elif isinstance(trouble, OSError):
        say(f"Cannot go on: {trouble.strerror} ({trouble.filename}).")
    else:
        say(str(trouble))
    return 1


if __name__ == "__main__":
    sys.exit(main())
