"""How the recipe does on a public card simulator, rebuilt from its published description.

    .venv/bin/python benchmarks/handbook.py [--delay-days 7] [--folds 4]

5,000 customers and 10,000 terminals on a 100 × 100 map; customers pay at terminals within reach, Poisson in number,
normal in amount. Frauds: every amount above 220; two terminals a day, compromised for 28 days; three customers a day, a
third of whose payments for 14 days are five times as high. Protocol: train a week, wait for labels, test a week. The
published best of any model there is AUC 0.879, average precision 0.687, card precision@100 0.305 (7 days of delay).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
os.environ.setdefault("FRAUD_MODE", "demo")
os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # nothing here asks a database
os.environ.setdefault("VALKEY_URL", "redis://127.0.0.1:1/0")

CUSTOMERS, TERMINALS, REACH = 5_000, 10_000, 5.0
FIRST_DAY = 6_665  # 2018-04-01, in days since 2000-01-01
START = 115  # training starts on 2018-07-25


def payments(days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns day, second, customer, terminal, cents (structured, in time order), and whether each is fraud."""
    rng = np.random.default_rng(seed)
    homes, tills = rng.uniform(0, 100, (CUSTOMERS, 2)), rng.uniform(0, 100, (TERMINALS, 2))
    mean, rate = rng.uniform(5, 100, CUSTOMERS), rng.uniform(0, 4, CUSTOMERS)
    parts = []
    for customer in range(CUSTOMERS):
        near = np.flatnonzero(((tills - homes[customer]) ** 2).sum(axis=1) < REACH**2)
        day = np.repeat(np.arange(days), rng.poisson(rate[customer], days))
        second = rng.normal(43_200, 20_000, len(day)).astype("i8")
        amount = rng.normal(mean[customer], mean[customer] / 2, len(day))
        amount = np.where(amount < 0, rng.uniform(0, 2 * mean[customer], len(day)), amount)
        keep = (second > 0) & (second < 86_400) & (len(near) > 0)
        till = near[rng.integers(0, max(1, len(near)), len(day))] if len(near) else np.zeros(len(day), "i8")
        parts.append(np.column_stack([day, second, np.full(len(day), customer), till, np.round(amount * 100)])[keep])
    table = np.concatenate(parts).astype("i8")
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    return _with_frauds(table, days, rng)


def _with_frauds(table: np.ndarray, days: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    day, customer, terminal = table[:, 0], table[:, 2], table[:, 3]
    frauds = table[:, 4] > 22_000
    for start in range(days):
        bad = rng.choice(TERMINALS, 2, replace=False)
        frauds |= (day >= start) & (day < start + 28) & np.isin(terminal, bad)
    for start in range(days):
        bad = rng.choice(CUSTOMERS, 3, replace=False)
        rows = np.flatnonzero((day >= start) & (day < start + 14) & np.isin(customer, bad))
        chosen = rng.choice(rows, len(rows) // 3, replace=False)
        table[chosen, 4] *= 5
        frauds[chosen] = True
    return table, frauds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-days", type=int, default=7)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    import django

    django.setup()
    from scoring import backtest, dataset
    from transactions import codes, facts
    from transactions.facts import DAY, SECOND

    began = time.monotonic()
    table, frauds = payments(START + 7 * (asked.folds - 1) + 14 + asked.delay_days, asked.seed)
    print(f"{len(table):,} payments, {frauds.mean():.2%} fraud, made in {time.monotonic() - began:.0f} s", flush=True)
    rows = facts.blank(len(table))
    rows["id"] = np.arange(1, len(rows) + 1)
    rows["occurred_at"] = rows["received_at"] = (FIRST_DAY + table[:, 0]) * DAY + table[:, 1] * SECOND
    rows["customer"], rows["terminal"] = table[:, 2] + 1, table[:, 3] + 1
    rows["amount"] = rows["amount_base"] = table[:, 4]
    rows["lane"], rows["stage"] = 1, codes.STAGE.code("authorisation")
    rows["type"] = codes.TYPE.code("purchase")
    labels = np.zeros(int(frauds.sum()), dataset.KNOWN_LABEL)
    labels["id"] = np.arange(1, len(labels) + 1)
    labels["transaction_id"], labels["happened"] = rows["id"][frauds], rows["occurred_at"][frauds]
    labels["known_at"] = labels["happened"] + asked.delay_days * DAY
    labels["verdict"], labels["source"] = codes.VERDICT.code("fraud"), codes.LABEL_SOURCE.code("import")
    day = facts.moment((FIRST_DAY + START) * DAY).date()
    plan = backtest.folds(day, train=7, delay=asked.delay_days, test=7, count=asked.folds, step=7)
    began = time.monotonic()
    batches = (rows[start : start + 16_384] for start in range(0, len(rows), 16_384))
    data = dataset.replay(batches, labels, windows=[(fold.begin, fold.stop) for fold in plan])
    print(f"replayed in {time.monotonic() - began:.0f} s", flush=True)
    outcomes = []
    for fold in plan:
        began = time.monotonic()
        outcomes.append(backtest.evaluate(data, fold))
        print(f"fold in {time.monotonic() - began:.0f} s: {_line(backtest.flat(outcomes[-1].figures))}", flush=True)
    print("all payments:      ", _line(backtest.mean(outcomes)))
    print("not known before:  ", _line(backtest.mean(outcomes, "unknown_before")))


def _line(row: dict[str, float]) -> str:
    return (
        f"AUC {row['auc']:.3f}, AP {row['average_precision']:.3f}, CP@100 {row['card_precision_100']:.3f},"
        f" recall {row['recall at 0.1%']:.3f} at 0.1 %, {row['recall at 2.1%']:.3f} at 2.1 %"
    )


if __name__ == "__main__":
    main()
