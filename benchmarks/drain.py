"""A backlog drained by a lane, beside plain COPY of the same rows in the same run, over more and more stored payments.

    python -m benchmarks.drain [--rows 200_000] [--stored 200_000,1_000_000,10_000_000] [--payload full]
    python -m benchmarks.drain --rows 50_000 --stored 0 --runs 1 --small --profile [--state /tmp/x]

The lane runs in this process, with its memory loaded before the clock starts; the backlog is committed, and nobody told
the lane of it. `--profile` prints where the lane's own time goes.
"""

from __future__ import annotations

import cProfile
import pstats
import time

from benchmarks import calibration
from benchmarks.copying import Copies
from benchmarks.fill import Filler, fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, say

MOST_COPIED = 100_000


def main() -> None:
    """Fill to each level in turn; at each, `--runs` times a backlog and the limit."""
    parser = options(__doc__, stored="20_000,40_000" if QUICK else "200_000,1_000_000,10_000_000")
    parser.add_argument("--rows", type=int, default=20_000 if QUICK else 200_000, help="Payments in the backlog.")
    parser.add_argument("--payload", choices=["minimal", "full"], default="minimal")
    parser.add_argument("--profile", action="store_true", help="Print the lane's functions by their own time.")
    asked = parser.parse_args()
    results = Results("drain", asked)
    levels = numbers(asked.stored)
    with Ground(asked.state, small=asked.small) as ground:
        ahead = levels[-1] + (asked.rows * asked.runs + calibration.TRIED) * len(levels)
        for stored in levels:
            fill(ground, stored, payload=asked.payload, ahead=ahead)
            calibration.at_half_a_percent(ground, asked.payload, quick=asked.small)
            filler, before = Filler(ground, payload=asked.payload, seed=stored + 1), ground.standing()
            for _ in range(asked.runs):
                calibration.by_what_came(ground, before)
                results.add(f"{stored:,} stored", once(ground, filler, asked.rows, profile=asked.profile))
        results.about |= ground.about()
    compare(results)
    results.finish()


def once(ground: Ground, filler: Filler, rows: int, *, profile: bool = False) -> Result:
    """One backlog stored, drained and copied."""
    from fraudsite import pipeline

    say(f"a backlog of {rows:,} …")
    keeper = pipeline.Keeper(filler.lane_id, lambda: False, once=True)
    keeper.work()  # nothing is owed: loads the memory and the judge
    first, last = filler.owed(rows)
    with ground.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    accounts, before, began = ground.accounts(), keeper.taken, time.perf_counter()
    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.runcall(keeper.work)
    else:
        keeper.work()
    took = time.perf_counter() - began
    taken, used = keeper.taken - before, accounts.used()
    if taken != rows:
        raise SystemExit(f"{taken:,} of {rows:,} payments were drained")
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    micro = {name: round(1e6 * used.get(key, 0.0) / rows, 2) for name, key in CPU.items()}
    found: Result = {
        "per_second": round(rows / took),
        "cpu_us": {"all": round(sum(micro.values()), 2), **micro},
        "alerts": alert_share(ground, first, last),
    }
    found |= Copies(ground, first, min(last, first + MOST_COPIED - 1)).measure()
    for name in ("kept", "judged", "all"):
        found[f"ratio_to_copy_{name}"] = round(found["per_second"] / found[f"copy_{name}_per_second"], 3)
    pages = ground.accounts().memory()
    return found | {"rss_mib": {"lane": pages["client"], "postgres": pages["postgres"]}}


CPU = {"lane": "client", "postgres": "postgres", "valkey": "valkey"}


def alert_share(ground: Ground, first: int, last: int) -> float:
    """Share of the payments from `first` to `last` that were stopped, in percent."""
    with ground.cursor() as cursor:
        bounds = [first, last, ground.lane.pk]
        cursor.execute("SELECT count(*) FROM alert WHERE id BETWEEN %s AND %s AND lane = %s", bounds)
        stopped = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM transaction WHERE id BETWEEN %s AND %s AND lane = %s", bounds)
        return round(100 * stopped / max(1, cursor.fetchone()[0]), 3)


def compare(results: Results) -> None:
    """How the rate over many stored payments compares with the rate over few."""
    rates = {arm: row["per_second"] for arm, row in results.summary().items()}
    first = next(iter(rates.values()))
    results.about["rate_to_first_level"] = {arm: round(rate / first, 3) for arm, rate in rates.items()}
    say(f"rate by level against the first: {results.about['rate_to_first_level']}")


if __name__ == "__main__":
    main()
