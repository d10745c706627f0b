"""A Django process beside a running desk, kept open: a question takes milliseconds, where a command takes seconds.

What a test cannot do as a person in a browser (let an hour pass, look into the history's rows) is a function of
`tests/browser/deeds.py`, done there with the desk's own servers and services.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from fraudsite import embedded
from fraudsite.embedded import ROOT
from tests.running import RunningDesk

COMMAND = "from tests.browser.inside import serve; serve()"
MARK = "answer "
Told = TypeVar("Told")


class Inside:
    """Does deeds on a desk's servers; arguments and answers travel as JSON."""

    def __init__(self, desk: RunningDesk) -> None:
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", COMMAND]
        servers = embedded.addresses(desk.state)  # named, so that this process does not keep them up
        environment = desk.environment | {"DATABASE_URL": servers.database_url, "VALKEY_URL": servers.valkey_url}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, deed: Callable[..., Told], **arguments: Any) -> Told:
        """What the deed answers there. Raises AssertionError with the trace of what went wrong."""
        asked, answers = self.process.stdin, self.process.stdout
        assert asked is not None and answers is not None
        asked.write(json.dumps([deed.__name__, arguments]) + "\n")
        asked.flush()
        line = next((line for line in answers if line.startswith(MARK)), "")
        assert line, "the process inside the desk has ended"
        told = json.loads(line.removeprefix(MARK))
        assert "trouble" not in told, told["trouble"]
        return told["answer"]

    def stop(self) -> None:
        """Let it end; its servers stay."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def serve() -> None:
    """In that process: do one deed a line until nobody asks any more."""
    from tests.browser import deeds

    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            told: dict[str, Any] = {"answer": getattr(deeds, name)(**arguments)}
        except Exception:  # whatever it was, the test that asked has to hear of it
            told = {"trouble": traceback.format_exc()}
        print(MARK + json.dumps(told, default=str), flush=True)
