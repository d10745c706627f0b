"""All benchmarks one after the other, each in a process and folder of its own: `make bench`, or `QUICK=1 make bench`.

    python -m benchmarks [--into FOLDER] [--only drain,bulk] [--runs 5] [--state FOLDER]

Results go to FOLDER as JSON (default `.local/bench`), one file each; docs/performance.md is filled from them by
`python -m benchmarks.report FOLDER`. One that fails does not keep the others from running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.kit import QUICK, ROOT, say


class Entry(NamedTuple):
    """A benchmark: the name of its results, its module, its own arguments, and the most minutes it may take."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    minutes: int = 30


# What needs the least time and says the most comes first; the desk's set takes most room on disk.
PLAN = (
    Entry("kernel", "kernel", minutes=10),
    Entry("decisions", "decisions", minutes=75),
    Entry("bulk-minimal", "bulk", ("--payload", "minimal"), minutes=45),
    Entry("bulk-full", "bulk", ("--payload", "full", "--minutes", "0.2" if QUICK else "3"), minutes=40),
    Entry("screen", "screen", minutes=25),
    Entry("restart", "restart", minutes=25),
    Entry("drain", "drain", minutes=90),
    Entry("epoch", "epoch", minutes=60),
    Entry("two_lanes", "two_lanes", minutes=30),
    Entry("history", "history", minutes=30),
    Entry("soak", "soak", minutes=30),
    Entry("desk", "desk", minutes=60),
)
WITHOUT_OPTIONS = {"kernel"}  # prints only


def main() -> None:
    """Run what was asked for; the exit code is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / ".local" / "bench")
    parser.add_argument("--only", default="", help="Names, separated by commas.")
    asked, rest = parser.parse_known_args()
    chosen = [each for each in PLAN if not asked.only or each.name in asked.only.split(",")]
    asked.into.mkdir(parents=True, exist_ok=True)
    outcomes = [one(each, asked.into, rest) for each in chosen]
    for each, (code, took) in zip(chosen, outcomes, strict=True):
        say(f"{each.name:14} {'done' if code == 0 else f'FAILED ({code})'} after {took / 60:.1f} min")
    sys.exit(any(code for code, _ in outcomes))


def one(entry: Entry, into: Path, rest: list[str]) -> tuple[int, float]:
    """Run one benchmark within its time, its output here and in a file; its exit code and seconds."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{entry.module}", *entry.arguments]
    if entry.module not in WITHOUT_OPTIONS:
        command += [*rest, "--json", str(into / f"{entry.name}.json")]
    say(f"=== {' '.join(command[3:])}")
    began = time.monotonic()

    def end() -> None:
        say(f"{entry.name} took more than {entry.minutes} minutes and is ended")
        process.terminate()

    with open(into / f"{entry.name}.log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        watch = threading.Timer(60 * entry.minutes, end)
        watch.start()
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            print(line, end="", flush=True)
        code = process.wait()
        watch.cancel()
    return code, time.monotonic() - began


if __name__ == "__main__":
    main()
