"""Bulk over HTTP to decided, client included, on top of millions of stored payments.

    python -m benchmarks.bulk [--stored 5_000_000] [--minutes 10] [--payload minimal|full] [--rate 0]
                              [--connections 4] [--lines 5000] [--paced-lines 1000] [--paced-minutes 2]

First flat out, then paced at 10,000 a second and at two thirds of what was sustained (or at `--rate`), where the delay
from the commit of a payment to the commit of its decision is measured by Postgres' own commit times. Decided payments
are counted by the lane's cursor at both ends of the measured time. The limit beside it: plain COPY of the same rows
into copies of the tables, before and after.
"""

from __future__ import annotations

import argparse
import time
from datetime import timedelta
from typing import Any

from benchmarks import calibration
from benchmarks.copying import Copies
from benchmarks.drain import alert_share
from benchmarks.feeder import Feeder, Sheets
from benchmarks.fill import PER_DAY, fill, last_id, last_moment
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, percentiles, say

MOST_A_SECOND = 30_000  # for which days of the crowd's clock are left free
SHEETS = 60  # different bodies of one size
WARM_SECONDS = 15.0
AGAIN_SECONDS = 15.0  # between looks at whether half a percent is still stopped
DRAIN_SECONDS = 300.0
DELAYS = 200_000  # payments whose commit times are compared
SAMPLE = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(d.xmin) - pg_xact_commit_timestamp(t.xmin))::float8,
           d.latency / 1e6::float8
      FROM transaction t JOIN decision d ON d.id = t.id * 64 + 1
     WHERE t.id BETWEEN %s AND %s AND t.lane = %s AND t.id %% %s = 0"""


def main() -> None:
    """Fill, calibrate, start, flat out, paced; `--runs` times."""
    parser = options(__doc__, stored="40_000" if QUICK else "5_000_000", runs=1)
    parser.add_argument("--minutes", type=float, default=0.3 if QUICK else 10.0, help="Flat out.")
    parser.add_argument("--paced-minutes", type=float, default=0.2 if QUICK else 2.0)
    parser.add_argument("--payload", choices=["minimal", "full"], default="minimal")
    parser.add_argument("--rate", type=float, default=0.0, help="Only paced, at so many payments a second.")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--lines", type=int, default=5_000, help="Payments in a body, flat out.")
    parser.add_argument("--paced-lines", type=int, default=1_000, help="Payments in a body, paced.")
    parser.add_argument("--proxy", action="store_true", help="Through the proxy instead of the web process's own port.")
    asked = parser.parse_args()
    results = Results("bulk", asked)
    seconds = 60 * (asked.minutes + 2 * asked.paced_minutes) + 6 * WARM_SECONDS
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload, ahead=int(asked.runs * seconds * MOST_A_SECOND))
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small)
        ground.start()
        results.about |= ground.about()
        for _ in range(asked.runs):
            run(ground, results, asked)
    results.finish()


def run(ground: Ground, results: Results, asked: argparse.Namespace) -> None:
    """Flat out, then paced."""
    rates = {"paced": asked.rate}
    if not asked.rate:
        found = phase(ground, asked, seconds=60 * asked.minutes, lines=asked.lines)
        results.add(f"{asked.payload}, flat out", found)
        rates = {"paced at two thirds of 15,000": 10_000.0, "paced at two thirds of it": 2 / 3 * found["per_second"]}
    for name, rate in rates.items():
        found = phase(ground, asked, seconds=60 * asked.paced_minutes, lines=asked.paced_lines, rate=rate)
        results.add(f"{asked.payload}, {name}", {"asked_per_second": round(rate), **found})


def phase(ground: Ground, asked: argparse.Namespace, *, seconds: float, lines: int, rate: float = 0.0) -> Result:
    """Post for so long; all figures of it."""
    sheets = prepared(ground, asked.payload, lines=lines, connections=asked.connections)
    port = ground.port if asked.proxy else ground.web_port
    feeder = Feeder(sheets, port=port, key=ground.key, rate=rate)
    say(f"posting the {asked.payload} payload, {lines:,} a body, {f'{rate:,.0f} a second' if rate else 'flat out'} …")
    before = ground.standing()
    feeder.start()
    time.sleep(min(WARM_SECONDS, seconds / 3))
    calibration.by_what_came(ground, before)
    time.sleep(1.0)
    window = watched(ground, feeder, seconds)
    sent = feeder.stop()
    if sent.failed:
        say(f"trouble while posting: {sent.failed[:3]} ({len(sent.failed)} in all)")
    behind = catch_up(ground)
    bodies = percentiles(sent.latencies, 1000)
    return {
        **window,
        **delays(ground, window["first_id"], window["last_id"]),
        "alerts": alert_share(ground, window["first_id"], window["last_id"]),
        "body_ms": {name: bodies[name] for name in ("p50", "p95")},
        "statuses": {str(status): count for status, count in sent.statuses.items()},
        "waited_seconds": round(sent.waited, 1),
        "catch_up_seconds": behind,
        "troubles": len(sent.failed),
        **limits(ground, window),
    }


def prepared(ground: Ground, payload: str, *, lines: int, connections: int, count: int = SHEETS) -> Sheets:
    """Bodies of the crowd that go on where its clock stands."""
    from transactions.facts import moment

    clock = moment(last_moment(ground, 0)) + timedelta(days=1 / PER_DAY)
    each = max(1, count // connections)
    return Sheets.make(payload, lines=lines, count=each, connections=connections, seed=int(time.time()), clock=clock)


def watched(ground: Ground, feeder: Feeder, seconds: float) -> Result:
    """Count what is decided and used for so long, while it goes on."""
    accounts = ground.accounts()
    began, before, posted, first = time.perf_counter(), ground.standing(), feeder.sent.accepted, last_id(ground)
    told, rates, set_at = (began, before), [], began
    while (left := began + seconds - time.perf_counter()) > 0 and any(each.is_alive() for each in feeder.threads):
        time.sleep(min(10.0, left))
        now = (time.perf_counter(), ground.standing())
        rates.append((now[1] - told[1]) / max(1e-9, now[0] - told[0]))
        say(f"  {now[1] - before:,} decided, {rates[-1]:,.0f} a second, {feeder.sent.accepted - posted:,} accepted")
        told = now
        if now[0] - set_at >= AGAIN_SECONDS:  # profiles that grow shift the scores, and with them the alerts
            calibration.by_what_came(ground, before)
            set_at = now[0]
    took, decided = told[0] - began, told[1] - before
    return {
        "per_second": round(decided / took),
        "slowest_ten_seconds": round(min(rates, default=0)),
        "decided": decided,
        "seconds": round(took, 1),
        "cpu_us": accounts.each(decided),
        "rss_mib": accounts.memory(),
        "first_id": first + 1,
        "last_id": max(first + 1, last_id(ground)),
    }


def catch_up(ground: Ground) -> float:
    """Wait until everything accepted is decided; how many seconds that took. Raises SystemExit when it never is."""
    began = time.monotonic()
    while time.monotonic() - began < DRAIN_SECONDS:
        if not owed(ground):
            return round(time.monotonic() - began, 1)
        time.sleep(0.2)
    raise SystemExit(f"{owed(ground):,} payments are still undecided")


def owed(ground: Ground) -> int:
    """Live payments of the lane above its mark without a decision."""
    with ground.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM transaction t WHERE t.lane = %s AND t.intake = 1"
            " AND t.id > (SELECT mark FROM lane_cursor WHERE lane = %s)"
            " AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1 OFFSET 0)",
            [ground.lane.pk, ground.lane.pk],
        )
        return cursor.fetchone()[0]


def delays(ground: Ground, first: int, last: int) -> Result:
    """From the commit of a payment to the commit of its decision, and from acceptance to decision, milli-seconds."""
    each = max(1, (last - first) // DELAYS)
    with ground.cursor() as cursor:
        cursor.execute(SAMPLE, [first, last, ground.lane.pk, each])
        rows = cursor.fetchall()
    found: dict[str, Any] = {"commit_to_decision_ms": percentiles([row[0] for row in rows if row[0] is not None], 1000)}
    return found | {"accepted_to_decision_ms": percentiles([row[1] for row in rows], 1000)}


def limits(ground: Ground, window: Result) -> Result:
    """Plain COPY of the last of these rows, and how the rate compares."""
    last = window["last_id"]
    copies = Copies(ground, max(window["first_id"], last - 99_999), last).measure()
    ratios = {
        f"ratio_to_copy_{name}": round(window["per_second"] / copies[f"copy_{name}_per_second"], 3)
        for name in ("kept", "all")
    }
    return copies | ratios


if __name__ == "__main__":
    main()
