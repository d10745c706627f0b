"""How fast the kernel walks payments: rows a second, one payment alone, and the same rows merely copied beside it.

    python benchmarks/kernel.py [--payments 400000]

The mix: 50,000 customers with a card and mostly their own device, 10,000 merchants, thirty days, a label for every
hundredth payment. Wall-clock and CPU time are both stated, for a shared machine is slower than itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
os.environ.setdefault("FRAUD_MODE", "demo")
# Settings want servers; nothing here speaks to one.
os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1/none")
os.environ.setdefault("VALKEY_URL", "redis://127.0.0.1")

import django
import numpy as np


def payments(n: int, *, seed: int = 1, customers: int = 50_000, merchants: int = 10_000, devices: int = 60_000) -> Any:
    """`n` payments of a month, dtype FACTS, in order of time."""
    from transactions.facts import DAY, blank

    rng = np.random.default_rng(seed)
    facts = blank(n)
    customer = rng.integers(1, customers, n)
    facts["id"], facts["stage"], facts["merchant_country"] = np.arange(1, n + 1), 1, 133
    facts["occurred_at"] = 9_820 * DAY + np.sort(rng.integers(0, 30 * DAY, n))
    facts["customer"], facts["card"] = customer, customer + 10**12
    facts["merchant"], facts["mcc"] = rng.integers(1, merchants, n), rng.integers(5000, 5100, n)
    facts["device"] = np.where(rng.random(n) < 0.9, customer, rng.integers(1, devices, n)) + 10**13
    facts["ip"] = facts["device"] + 10**13
    facts["amount"] = facts["amount_base"] = rng.integers(100, 20_000, n)
    facts["lat"], facts["lon"] = rng.uniform(40, 50, n), rng.uniform(0, 10, n)
    return facts


def labels(facts: Any, every: int) -> Any:
    """A fraud label, known a week later, for one payment in `every`."""
    from scoring.profiles import LABEL_ROW
    from transactions.facts import DAY

    chosen = facts[::every]
    rows = np.zeros(len(chosen), LABEL_ROW)
    rows["id"], rows["transaction_id"] = np.arange(1, len(chosen) + 1), chosen["id"]
    rows["known_at"], rows["verdict"], rows["source"] = chosen["occurred_at"] + 7 * DAY, 2, 4
    return rows


def measured(name: str, rows: int, work: Callable[[], object]) -> None:
    """Run `work` over `rows` rows and print what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:32} {rows / wall:12,.0f} rows/s   {cpu / rows * 1e6:8.2f} µs CPU a row")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=400_000)
    n = parser.parse_args().payments
    django.setup()
    from scoring import epochs, features
    from scoring.profiles import Profiles

    features.warm_up()
    facts = payments(n)
    events = features.events_from_facts(facts, 1)
    memory, replayed = Profiles(), Profiles()
    print(f"{features.N_FEATURES} features")
    measured("copy of the same rows (limit)", n, events.copy)
    measured("kernel, empty memory", n, lambda: features.advance(memory, events))
    measured("kernel, full memory", n, lambda: features.advance(memory, events))
    measured("one payment at a time", 2_000, lambda: [features.advance(memory, events[-1:]) for _ in range(2_000)])
    pieces = [facts[at : at + 32_768] for at in range(0, n, 32_768)]
    measured("time replay with labels", n, lambda: list(epochs.time_replay(pieces, labels(facts, 100), replayed)))
    measured("digest", n, memory.digest)
    for kind, used in memory.memory().items():
        print(f"{kind:14} {used / 2**20:8.1f} MiB")


if __name__ == "__main__":
    main()
