"""A whole desk for tests that need one: the supervisor of `make run` in a process of its own, with its own servers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from fraudsite.embedded import ROOT

FOREIGN = {"DATABASE_URL", "VALKEY_URL", "REDIS_URL", "FRAUD_MODE"}
SMALL_PAST = {"FRAUD_DEMO_DAYS": "30", "FRAUD_DEMO_PER_DAY": "300"}  # enough to train a model on, and soon there
START_SECONDS = 280.0
STOP_SECONDS = 40.0


@dataclass
class RunningDesk:
    """Where it answers, who may log in, and which processes it consists of."""

    state: Path
    output: Path
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def access(self) -> dict[str, Any]:
        """demo.json: url, api_key, users."""
        return json.loads((self.state / "demo.json").read_text())

    @property
    def url(self) -> str:
        return self.access["url"]

    @property
    def children(self) -> dict[str, int]:
        """Process ids by name: scorer, standby, worker, beat, web, live, proxy."""
        return json.loads((self.state / "run.json").read_text())["children"]

    def api(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Call the API with the demo's key; problems are answers too."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self.access['api_key']}", "Content-Type": "application/json", **headers},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as problem:
            return problem.code, json.load(problem)

    def page(self, path: str, session: str = "") -> str:
        """A page of the desk as the browser of `session` (see `sign_in`) gets it."""
        request = urllib.request.Request(self.url + path, headers={"Cookie": session})
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.read().decode()

    def sign_in(self, username: str) -> str:
        """Sign in by the form; the Cookie header of the session."""
        jar = CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        browser.open(f"{self.url}/desk/login/", timeout=15).read()
        token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
        form = {**self.access["users"][username], "csrfmiddlewaretoken": token, "next": "/desk/"}
        request = urllib.request.Request(f"{self.url}/desk/login/", urlencode(form).encode(), {"Referer": self.url})
        assert browser.open(request, timeout=15).url.endswith("/desk/")
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)

    def manage(self, *arguments: str, seconds: float = 120) -> str:
        """What a manage.py command on this desk's servers prints; it may take so many seconds."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=seconds, check=True
        )
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to use this desk's servers."""
        named = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return named | {"FRAUD_STATE": str(self.state), **SMALL_PAST}

    def socket(self, path: str, session: str) -> ClientConnection:
        """An open web socket on the desk's one origin."""
        address = self.url.replace("http", "ws", 1) + path
        return connect(address, origin=Origin(self.url), additional_headers={"Cookie": session}, open_timeout=15)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def start(self, traffic: str = "0") -> None:
        """Start on a free port and wait for the line; raises AssertionError with the output when it ends before."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        environment = self.environment | {"PORT": port, "FRAUD_TRAFFIC": traffic}
        with open(self.output, "wb") as file:
            command = [sys.executable, "-m", "fraudsite.supervisor"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while "Fraud desk: http" not in self.output.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(self.output.read_text())
            time.sleep(0.1)


def start(state: Path, *, traffic: str = "0") -> RunningDesk:
    """A desk with its state in `state`, seeded and ready."""
    desk = RunningDesk(state, state.with_suffix(".out"))
    desk.start(traffic)
    return desk
