"""How fast a lane judges: the drain of a backlog, and one waiting payment after the other. Own servers, synced to disk.

    .venv/bin/python benchmarks/lane.py [--rows 40000] [--asks 500]

Prints the rate at which Postgres alone copies the same rows beside the drain.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Start servers in a temporary folder, measure, take everything away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--asks", type=int, default=500)
    options = parser.parse_args()
    from fraudsite import embedded

    state = Path(tempfile.mkdtemp(prefix="fraud-desk-bench-"))
    servers = embedded.ensure_servers(state)
    os.environ |= {
        "FRAUD_MODE": "demo",
        "FRAUD_STATE": str(state),
        "DATABASE_URL": servers.database_url,
        "VALKEY_URL": servers.valkey_url,
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
        "LOG_LEVEL": "ERROR",
    }
    try:
        measure(options.rows, options.asks)
    finally:
        embedded.release(state)
        embedded.wait_until_stopped(state)
        embedded.forget(state)
        shutil.rmtree(state, ignore_errors=True)


def measure(rows: int, asks: int) -> None:
    """Seed a lane with the seeded rules, then both figures."""
    import django

    django.setup()
    from django.core.management import call_command

    from fraudsite import demo
    from scoring import seeds

    call_command("migrate", verbosity=0)
    lane, client = demo.seed_basics()
    seeds.seed(lane)
    drain(client, rows)
    wait(client, asks)


def documents(rows: int, prefix: str) -> list:
    """Payments of the API's example shape over a thousand customers, validated."""
    from datetime import UTC, datetime, timedelta

    from transactions import schema

    at = datetime.now(UTC) - timedelta(seconds=5)
    found = []
    for n in range(rows):
        document = schema.example_payment(at, f"{prefix}-{n}")
        document["customer"] = {"id": f"customer-{n % 1000}"}
        document["merchant"]["id"] = f"merchant-{n % 300}"
        found.append(schema.from_document(document))
    return found


def drain(client, rows: int) -> None:
    """Judge a backlog of `rows` payments at once, beside a COPY of the decisions' rows alone."""
    from django.db import connection

    from fraudsite import pipeline
    from transactions import services

    payments = documents(rows, "drain")
    for start in range(0, rows, 5_000):
        services.ingest(payments[start : start + 5_000], client=client)
    began = time.perf_counter()
    taken = pipeline.drain(client.lane_id)
    took = time.perf_counter() - began
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (LIKE decision)")
        began = time.perf_counter()
        cursor.execute("INSERT INTO copied SELECT * FROM decision")
        copied = time.perf_counter() - began
    print(f"drain: {taken} payments in {took:.2f} s = {taken / took:,.0f}/s; their rows alone {taken / copied:,.0f}/s")


def wait(client, asks: int) -> None:
    """One payment after the other, handed to a lane in a process of its own and waited for."""
    import numpy as np
    from django.utils import timezone

    from fraudsite import answering
    from transactions import ring, services

    command = [sys.executable, "manage.py", "run_lane", str(client.lane_id)]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not ring.is_alive(client.lane_id):
        time.sleep(0.1)
    latencies = []
    for payment in documents(asks, "ask"):
        prepared = services.prepare([payment], client=client, received_at=timezone.now())
        began = time.perf_counter()
        reply = answering.judge_now(prepared, 5.0)
        latencies.append(time.perf_counter() - began)
        assert reply is not None and reply["decision"] is not None
    p50, p95, p99 = np.percentile(np.array(latencies) * 1000, [50, 95, 99])
    print(f"one at a time: p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms of {asks}")
    owner.terminate()
    owner.wait(20)


if __name__ == "__main__":
    main()
