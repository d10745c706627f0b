"""A bank's own history goes in beside live traffic: payments with foreign column names, their labels, the epoch.

    .venv/bin/python benchmarks/history.py [--rows 1000000] [--labelled 0.01] [--per-second 5]

Starts a whole desk of its own in a temporary folder. Prints wall time, CPU per row and peak memory of each command, and
the latency of live payments (posted by this process) before and during it. The limit beside it: Postgres copying the
same payments' table once more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
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

    def __init__(self, desk: Any, per_second: float) -> None:
        super().__init__(daemon=True)
        self.desk, self.pause, self.answers, self.over = desk, 1 / per_second, [], False

    def run(self) -> None:
        from transactions import schema

        number = 0
        while not self.over:
            number += 1
            payment = schema.example_payment(external_id=f"beside-{os.getpid()}-{number}")
            began = time.perf_counter()
            status, answer = self.desk.api("POST", "/api/v1/transactions", payment)
            took = time.perf_counter() - began
            self.answers.append((time.monotonic(), took, status, "decision" in answer))
            time.sleep(max(0.0, self.pause - took))

    def report(self, name: str, since: float) -> None:
        """Median and 95th percentile of the answers since `since`, and how many were not decisions."""
        found = [each for each in self.answers if each[0] >= since]
        times = sorted(each[1] * 1000 for each in found)
        if len(times) < 2:
            return
        undecided = sum(not each[3] for each in found)
        p95 = times[int(0.95 * (len(times) - 1))]
        print(
            f"{name:30} live p50 {statistics.median(times):6.1f} ms, p95 {p95:6.1f} ms,"
            f" {len(times)} posted, {undecided} not decided at once"
        )


def run(desk: Any, traffic: Traffic, rows: int, *arguments: str) -> float:
    """Run a manage.py command beside the traffic and print what it cost; its wall time."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "VALKEY_URL")}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment | {"FRAUD_STATE": str(desk.state)},
        stdout=subprocess.DEVNULL,
    )
    _, code, usage = os.wait4(process.pid, 0)
    took, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    print(
        f"{arguments[0]:30} {took:6.1f} s, CPU {1e6 * cpu / rows:5.1f} µs a row,"
        f" peak {usage.ru_maxrss / 1024:5.0f} MiB, exit {code}"
    )
    traffic.report("  beside it", began)
    return took


def main() -> None:
    """Start a desk, measure, take everything away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labelled", type=float, default=0.01, help="Share of the payments with a label.")
    parser.add_argument("--per-second", type=float, default=5.0)
    options = parser.parse_args()
    os.environ |= {"FRAUD_MODE": "demo", "DJANGO_SETTINGS_MODULE": "fraudsite.settings"}
    folder = Path(tempfile.mkdtemp(prefix="fraud-desk-bench-"))
    try:
        measure(folder, options.rows, int(options.rows * options.labelled), options.per_second)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, rows: int, labels: int, per_second: float) -> None:
    """Write the files, start the desk, post, import, build."""
    write_files(folder, rows, labels)
    from tests import running

    desk = running.start(folder / "state")
    try:
        os.environ |= {"FRAUD_STATE": str(desk.state)}
        import django

        from fraudsite import embedded

        embedded.provide(desk.state)
        django.setup()
        traffic = Traffic(desk, per_second)
        traffic.start()
        time.sleep(20)
        traffic.report("nothing else running", 0)
        total = 0.0
        for count, kind in ((rows, "transactions"), (labels, "labels")):
            file = folder / ("payments" if kind == "transactions" else kind)
            total += run(desk, traffic, count, f"import_{kind}", f"{file}.csv", "--mapping", f"{file}.toml")
        total += run(desk, traffic, rows, "build_epoch", "main")
        traffic.over = True
        print(f"{'all three':30} {total:6.1f} s; the promise is 300 s for a million")
        copy_again(rows)
        print(desk.manage("verify", "--replay"))
    finally:
        desk.stop()


def copy_again(rows: int) -> None:
    """The limit: Postgres copying the stored payments into an empty table of the same columns."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (LIKE transaction INCLUDING INDEXES)")
        began = time.monotonic()
        cursor.execute("INSERT INTO copied SELECT * FROM transaction ORDER BY id DESC LIMIT %s", [rows])
        print(f"{'the same payments copied':30} {time.monotonic() - began:6.1f} s inside Postgres, one table of three")
        cursor.execute("DROP TABLE copied")


if __name__ == "__main__":
    main()
