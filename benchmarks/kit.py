"""What all benchmarks share: options, percentiles, medians over runs, tables, and results as JSON.

A *result* is a flat dict of one measurement (one arm of one run). `Results` prints each as it comes, and the medians
over the runs at the end; with `--json` both are kept for `benchmarks.report`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
QUICK = os.environ.get("QUICK", "0") not in ("", "0", "no", "false")

Result = dict[str, Any]


def options(text: str | None, *, stored: str = "0", runs: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, help="Folder for servers and data, kept and used again (default: none).")
    parser.add_argument("--stored", default=stored, help="Decided payments stored beforehand, such as 5_000_000.")
    parser.add_argument("--runs", type=int, default=1 if QUICK else runs, help="Runs whose medians count.")
    parser.add_argument("--json", type=Path, help="Where to write all results.")
    parser.add_argument("--small", action="store_true", default=QUICK, help="A small model, soon trained (QUICK=1).")
    return parser


def numbers(text: str) -> list[int]:
    """`"200_000,1_000_000"` as whole numbers."""
    return [int(part) for part in text.split(",") if part]


def say(text: str) -> None:
    """One line of progress, at once, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def percentiles(values: Sequence[float] | np.ndarray, scale: float = 1.0) -> Result:
    """p50, p95, p99 and the maximum of `values`, times `scale`: each a value that was measured, none interpolated."""
    ordered = np.sort(np.asarray(values, "f8"))
    if not len(ordered):
        return {"p50": None, "p95": None, "p99": None, "max": None}
    at = {name: max(0, int(np.ceil(share * len(ordered))) - 1) for name, share in SHARES.items()}
    return {name: round(float(ordered[place]) * scale, 3) for name, place in at.items()}


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def medians(results: Iterable[Mapping[str, Any]]) -> Result:
    """One result of several alike: the median of each number, of nested ones too; texts as in the first."""
    rows = list(results)
    found: Result = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if isinstance(first, Mapping):
            found[name] = medians(values)
        elif values and not isinstance(first, bool | str) and all(isinstance(each, int | float) for each in values):
            found[name] = round(statistics.median(values), 4)
        else:
            found[name] = first
    return found


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """Columns aligned for a terminal: the first to the left, the others to the right."""
    texts = [[shown(each) for each in row] for row in (head, *rows)]
    widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
    return "\n".join(
        "  ".join(text.rjust(width) if n else text.ljust(width) for n, (text, width) in enumerate(line))
        for line in (zip(row, widths, strict=True) for row in texts)
    )


def shown(value: Any) -> str:
    """A number as people read it: three digits that matter, thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class Results:
    """The measurements of one benchmark by arm, in the order they came."""

    def __init__(self, name: str, asked: argparse.Namespace) -> None:
        self.name, self.file = name, asked.json
        self.about: Result = {"asked": {key: str(value) for key, value in vars(asked).items()}, **machine()}
        self.arms: dict[str, list[Result]] = {}

    def add(self, arm: str, result: Result) -> None:
        """Take in and print one measurement."""
        self.arms.setdefault(arm, []).append(result)
        say(f"{arm}: " + ", ".join(_pair(name, value) for name, value in result.items()))
        self.write()

    def summary(self) -> dict[str, Result]:
        """The medians of each arm."""
        return {arm: medians(rows) for arm, rows in self.arms.items()}

    def write(self) -> None:
        """Keep everything so far, so that an interrupted run is not lost."""
        if self.file:
            content = {"benchmark": self.name, **self.about, "medians": self.summary(), "runs": self.arms}
            self.file.parent.mkdir(parents=True, exist_ok=True)
            aside = self.file.with_suffix(".new")
            aside.write_text(json.dumps(content, indent=1))
            os.replace(aside, self.file)

    def finish(self) -> None:
        """Print the medians of all arms."""
        say(f"{self.name}: medians")
        for arm, row in self.summary().items():
            print(f"  {arm}")
            for name, value in row.items():
                print(f"    {name:32} {_plain(value)}", flush=True)
        self.write()


def _pair(name: str, value: Any) -> str:
    return f"{name} {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(_pair(name, one) for name, one in value.items()) + ")"
    return shown(value)


def machine() -> Result:
    """What it ran on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        model = platform.processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB",
        "python": sys.version.split()[0],
        "load_before": round(os.getloadavg()[0], 2),
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }
