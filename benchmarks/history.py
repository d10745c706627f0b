"""A bank's own history goes in beside live traffic: payments with foreign column names, their labels, the epoch.

    python -m benchmarks.history [--rows 1_000_000] [--labelled 0.01] [--per-second 5]

Starts a whole desk of its own. Prints wall time, CPU per row and peak memory of each command, and
the latency of live payments (posted by this process) before and during it. The limit beside it: Postgres copying the
same payments' table once more.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.client import Address, post
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, ROOT, Result, Results, options, say
from benchmarks.screen import headers

END = 1_760_000_000  # the history ends here, in seconds since 1970
PAYMENTS = """
zone = "Europe/Berlin"
[columns]
external_id = "buchung"
"amount.value" = { column = "betrag", unit = "decimal" }
"amount.currency" = "whg"
occurred_at = { column = "zeit", unit = "s" }
channel = { column = "weg", values = { POS = "card_present", WEB = "ecommerce", ATM = "atm" } }
"customer.id" = { column = "kunde", prefix = "c-" }
"card.token" = { column = "karte", prefix = "k-" }
"merchant.id" = { column = "haendler", prefix = "m-" }
"merchant.mcc" = "branche"
"merchant.country" = "land"
[constants]
type = "purchase"
instrument = "card"
"""
LABELS = """
[columns]
external_id = "buchung"
verdict = { column = "betrug", values = { "1" = "fraud", "0" = "legitimate" } }
known_at = { column = "bekannt", unit = "s" }
[constants]
source = "chargeback"
"""


def write_files(folder: Path, rows: int, labels: int) -> None:
    """payments.csv, labels.csv (half of the labels are fraud) and their mappings."""
    draw = np.random.default_rng(1)
    customers = draw.integers(0, 50_000, rows)
    at = np.sort(draw.integers(END - 180 * 86_400, END, rows))
    frame = pl.DataFrame(
        {
            "buchung": [f"B-{n:09d}" for n in range(rows)],
            "zeit": at,
            "betrag": np.round(np.exp(draw.normal(3.3, 1.1, rows)), 2),
            "whg": np.where(draw.random(rows) < 0.95, "EUR", "GBP"),
            "weg": draw.choice(["POS", "WEB", "ATM"], rows, p=[0.6, 0.35, 0.05]),
            "kunde": customers,
            "karte": customers * 2 + draw.integers(0, 2, rows),
            "haendler": draw.integers(0, 8_000, rows),
            "branche": draw.choice(["5411", "5812", "5541", "5732", "4111"], rows),
            "land": draw.choice(["DE", "FR", "NL", "AT"], rows, p=[0.85, 0.05, 0.05, 0.05]),
        }
    )
    frame.write_csv(folder / "payments.csv")
    chosen = np.sort(draw.choice(rows, labels, replace=False))
    known = {
        "buchung": frame["buchung"].gather(chosen),
        "betrug": draw.integers(0, 2, len(chosen)),
        "bekannt": at[chosen] + draw.integers(86_400, 20 * 86_400, len(chosen)),
    }
    pl.DataFrame(known).write_csv(folder / "labels.csv")
    (folder / "payments.toml").write_text(PAYMENTS)
    (folder / "labels.toml").write_text(LABELS)


class Traffic(threading.Thread):
    """Posts payments at a rate, one after the other, and notes how each was answered."""

    def __init__(self, ground: Ground, per_second: float) -> None:
        super().__init__(daemon=True)
        self.address = Address.of(f"http://127.0.0.1:{ground.web_port}/api/v1/transactions", headers(ground))
        self.pause, self.over = 1 / per_second, threading.Event()
        self.answers: list[tuple[float, float, bool]] = []

    def run(self) -> None:
        """Until `over`."""
        import msgspec

        from transactions import schema

        number = 0
        while not self.over.wait(self.pause):
            number += 1
            payment = schema.example_payment(external_id=f"beside-{os.getpid()}-{number}")
            answer = post(self.address, [self.address.request(msgspec.json.encode(payment))], concurrency=1)
            for took in answer.latencies:
                self.answers.append((time.monotonic(), took, bool(answer.decided)))

    def report(self, since: float) -> Result:
        """Median and 95th percentile of the answers since `since`, and how many were not decisions."""
        found = [each for each in self.answers if each[0] >= since]
        times = sorted(each[1] * 1000 for each in found)
        if not times:
            return {"p50": None, "p95": None, "posted": 0, "undecided": 0}
        return {
            "p50": round(statistics.median(times), 2),
            "p95": round(times[int(0.95 * (len(times) - 1))], 2),
            "posted": len(times),
            "undecided": sum(not each[2] for each in found),
        }


def run(traffic: Traffic, rows: int, *arguments: str) -> Result:
    """Run a manage.py command beside the traffic; what it cost."""
    say(f"{arguments[0]} …")
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "manage.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "per_second": round(rows / (time.monotonic() - began)),
        "cpu_us_of_command": round(1e6 * (usage.ru_utime + usage.ru_stime) / rows, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "live_beside_ms": traffic.report(began),
    }


def main() -> None:
    """Start a desk, post, import, build, take everything away."""
    parser = options(__doc__, runs=1)
    parser.add_argument("--rows", type=int, default=20_000 if QUICK else 1_000_000)
    parser.add_argument("--labelled", type=float, default=0.01, help="Share of the payments with a label.")
    parser.add_argument("--per-second", type=float, default=5.0)
    asked = parser.parse_args()
    results = Results("history", asked)
    with tempfile.TemporaryDirectory() as name, Ground(asked.state, small=asked.small) as ground:
        folder, labels = Path(name), int(asked.rows * asked.labelled)
        write_files(folder, asked.rows, labels)
        ground.start()
        measure(ground, results, folder, asked.rows, labels, asked.per_second)
    results.finish()


def measure(ground: Ground, results: Results, folder: Path, rows: int, labels: int, per_second: float) -> None:
    """The three commands, beside traffic, and the limit."""
    traffic, accounts = Traffic(ground, per_second), ground.accounts()
    traffic.start()
    time.sleep(4 if QUICK else 20)
    results.add("nothing beside", {"live_ms": traffic.report(0)})
    total = 0.0
    for count, kind in ((rows, "transactions"), (labels, "labels")):
        file = folder / ("payments" if kind == "transactions" else kind)
        found = run(traffic, count, f"import_{kind}", f"{file}.csv", "--mapping", f"{file}.toml")
        results.add(f"import_{kind}", found)
        total += found["seconds"]
    found = run(traffic, rows, "build_epoch", "main")
    results.add("build_epoch", found)
    total += found["seconds"]
    traffic.over.set()
    traffic.join(30)
    copied = copy_again(rows)
    results.add(
        "all three",
        {
            "seconds": round(total, 1),
            "per_second": round(rows / total),
            "cpu_us": accounts.each(rows),
            "copied_alone_seconds": round(copied, 1),
            "ratio_to_copying": round(total / copied, 1),
        },
    )
    say(ground.manage("verify", "--replay").splitlines()[-1])


def copy_again(rows: int) -> float:
    """The limit: Postgres copying the stored payments into an empty table of the same columns; seconds."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (LIKE transaction INCLUDING INDEXES)")
        began = time.monotonic()
        cursor.execute("INSERT INTO copied SELECT * FROM transaction ORDER BY id DESC LIMIT %s", [rows])
        took = time.monotonic() - began
        cursor.execute("DROP TABLE copied")
    return took


if __name__ == "__main__":
    main()
