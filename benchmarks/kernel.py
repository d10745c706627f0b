"""How fast the kernel walks payments: with and without feature rows, one payment alone, and the memory it takes.

    python benchmarks/kernel.py [--payments 400000]

The mix: 50,000 customers with a card and mostly their own device, 60,000 devices and IPs, 10,000 merchants, thirty
days, a label for every hundredth payment. The limit beside it: the same rows merely copied. Wall-clock and CPU time are
both stated, for a shared machine is slower than itself; each figure is the best of three, and its ratio to the copy
stands beside it.
"""

from __future__ import annotations

import argparse
import gc
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


def measured(name: str, rows: int, work: Callable[[], object], limit: float = 0.0) -> float:
    """Run `work` over `rows` rows three times and print what it took at best; micro-seconds of CPU a row."""
    walls, cpus = [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    took = min(cpus) / rows * 1e6
    ratio = f"   {took / limit:6.1f} copies" if limit else ""
    print(f"{name:34} {rows / min(walls):12,.0f} rows/s   {took:7.2f} µs CPU = {1e6 / took:11,.0f} a CPU second{ratio}")
    return took


def grown(events: Any) -> Any:
    """A memory that has seen the events."""
    from scoring import features
    from scoring.profiles import Profiles

    memory = Profiles()
    features.advance(memory, events, emit=False)
    return memory


def speed(facts: Any) -> Any:
    """Print the figures of the walk; the memory after it."""
    from scoring import epochs, features
    from scoring.profiles import Profiles

    events, n = features.events_from_facts(facts, 1), len(facts)
    half = n // 2
    memories = [grown(events[:half]) for _ in range(6)]
    one, first = events[-1:], facts[-1:]
    limit = measured("the same rows copied (limit)", n, events.copy)
    measured("empty memory, silent", n, lambda: features.advance(Profiles(), events, emit=False), limit)
    measured("month-old memory, silent", n - half, lambda: silent(memories.pop(), events[half:]), limit)
    measured("month-old memory, feature rows", n - half, lambda: features.advance(memories.pop(), events[half:]), limit)
    memory = grown(events)
    measured("one payment at a time", 2_000, lambda: [features.advance(memory, one) for _ in range(2_000)])
    measured("its event made of facts", 2_000, lambda: [features.events_from_facts(first, 1) for _ in range(2_000)])
    pieces = [facts[at : at + 32_768] for at in range(0, n, 32_768)]
    known = labels(facts, 100)
    measured("time replay with labels and rows", n, lambda: list(epochs.time_replay(pieces, known, Profiles())))
    measured("digest", n, memory.digest)
    return memory


def silent(memory: Any, events: Any) -> Any:
    """Walk without making rows."""
    from scoring import features

    return features.advance(memory, events, emit=False)


def room(memory: Any) -> None:
    """Print what the memory takes, by kind of entity and for each one."""
    from scoring.profiles import bytes_each

    each = bytes_each()
    for kind, used in memory.memory().items():
        count = used // each[kind]
        print(f"{kind:14} {count:12,} of {each[kind]:6,} bytes = {used / 2**20:8.1f} MiB")
    print(f"{'in all':14} {sum(memory.memory().values()) / 2**20:40.1f} MiB")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=400_000)
    n = parser.parse_args().payments
    django.setup()
    from scoring import features

    features.warm_up()
    print(f"{features.N_FEATURES} features; {resident():.0f} MiB resident before the first payment")
    facts = payments(n)
    memory = speed(facts)
    room(memory)
    del memory, facts
    gc.collect()
    base = resident()
    kept = grown(features.events_from_facts(payments(n), 1))
    gc.collect()
    print(f"{'resident':14} {resident() - base:40.1f} MiB for {sum(kept.arrays.used[:10]):,} entities")


def resident() -> float:
    """MiB of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


if __name__ == "__main__":
    main()
