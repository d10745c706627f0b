"""An epoch of ten million payments with labels: a lane's whole memory rebuilt by time replay, beside nothing else.

    python -m benchmarks.epoch [--stored 10_000_000] [--labelled 0.01]

Fills a lane, has it take in the labels, then runs `manage.py build_epoch`, and lets the owner switch to what was built.
The limit beside it: the same payments merely read out of Postgres in the same order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.fill import fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, ROOT, Result, Results, numbers, options, say

LABELS_AT_ONCE = 20_000


def main() -> None:
    """Fill, label, build, switch."""
    parser = options(__doc__, stored="60_000" if QUICK else "10_000_000", runs=1)
    parser.add_argument("--labelled", type=float, default=0.01, help="Share of the payments with a label, half frauds.")
    parser.add_argument("--payload", choices=["minimal", "full"], default="full")
    asked = parser.parse_args()
    results = Results("epoch", asked)
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload)
            known = label(ground, int(stored * asked.labelled))
            for _ in range(asked.runs):
                results.add(f"{stored:,} payments", {"labels": known, **build(ground)})
        say(ground.manage("verify"))
        results.about |= ground.about()
    results.finish()


def label(ground: Ground, count: int) -> int:
    """Labels of `count` payments of the crowd, some days later than these, taken in by the lane; how many there are."""
    from fraudsite import pipeline
    from transactions.services import record_labels

    with ground.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM label")
        there = cursor.fetchone()[0]
        if there >= count:
            return there
        after = int((ground.state / "crowd-began-after").read_text())
        cursor.execute("SELECT last_value FROM transaction_id_seq")
        rng = np.random.default_rng(5)
        ids = np.unique(rng.integers(after + 1, cursor.fetchone()[0] + 1, count - there))
        say(f"{len(ids):,} labels …")
        for start in range(0, len(ids), LABELS_AT_ONCE):
            some = ids[start : start + LABELS_AT_ONCE].tolist()
            cursor.execute("SELECT id, occurred_at FROM transaction WHERE id = ANY(%s)", [some])
            rows = cursor.fetchall()
            verdicts = np.where(rng.random(len(rows)) < 0.5, "fraud", "legitimate").tolist()
            days = rng.integers(1, 20, len(rows)).tolist()
            record_labels([_label(*each) for each in zip(rows, verdicts, days, strict=True)])
    began = time.monotonic()
    taken = pipeline.drain(ground.lane.pk)
    say(f"the lane took in {taken:,} labels in {time.monotonic() - began:.0f} s")
    return there + len(ids)


def _label(row: tuple[int, Any], verdict: str, days: int) -> Any:
    from datetime import UTC, datetime, timedelta

    from transactions.services import LabelIn

    transaction_id, happened = row
    known = min(happened + timedelta(days=days), datetime.now(UTC))
    return LabelIn(transaction_id, verdict, "chargeback", known_at=known, happened_at=happened)


def build(ground: Ground) -> Result:
    """Build the next epoch, switch to it, read the same rows."""
    from fraudsite import pipeline
    from scoring.models import Epoch

    accounts, began = ground.accounts(), time.monotonic()
    say("build_epoch …")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "build_epoch", "main"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    _, code, usage = os.wait4(process.pid, 0)
    took, server = time.monotonic() - began, accounts.used()["postgres"]
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"build_epoch ended with {process.returncode}")
    epoch = Epoch.objects.filter(lane=ground.lane).order_by("-number").first()
    assert epoch is not None
    say(f"built in {took:.0f} s; switching …")
    began = time.monotonic()
    pipeline.drain(ground.lane.pk)
    switch = time.monotonic() - began
    epoch.refresh_from_db()
    read = limit(ground)
    rows = max(1, epoch.payments)
    return {
        "seconds": round(took, 1),
        "payments": epoch.payments,
        "epoch_labels": epoch.labels,
        "per_second": round(rows / took),
        "cpu_us": {
            "all": round(1e6 * (usage.ru_utime + usage.ru_stime + server) / rows, 2),
            "build_epoch": round(1e6 * (usage.ru_utime + usage.ru_stime) / rows, 2),
            "postgres": round(1e6 * server / rows, 2),
        },
        "peak_mib": round(usage.ru_maxrss / 1024),
        "switch_seconds": round(switch, 1),
        "live": epoch.status == Epoch.Status.LIVE,
        "read_alone_seconds": round(read, 1),
        "ratio_to_reading": round(took / read, 2),
    }


def limit(ground: Ground) -> float:
    """Seconds to read the same payments' facts in the order of time."""
    from transactions.facts import FACT_COLUMNS

    names = ", ".join(FACT_COLUMNS)
    with ground.cursor() as cursor, open(os.devnull, "wb") as nowhere:
        began = time.monotonic()
        cursor.copy_expert(
            f"COPY (SELECT {names} FROM transaction WHERE lane = {int(ground.lane.pk)} ORDER BY occurred_at, id)"
            " TO STDOUT (FORMAT binary)",
            nowhere,
        )
        return time.monotonic() - began


if __name__ == "__main__":
    main()
