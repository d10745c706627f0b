"""A scorer killed (-9) while 5,000 payments a second come in: how long until the lane decides again.

    python -m benchmarks.restart [--rate 5000] [--kills 5] [--stored 1_000_000]

With profiles of 50,000 customers, 10,000 merchants and 60,000 devices in its memory. What is killed owns the lane; the
one that stands by takes over, and the supervisor starts the killed one again, which then stands by. The clock runs
from the signal to the first decision that is committed afterwards. `--alone` kills both at once: a cold start. Beside
it: how long a process takes to start and compile nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

from benchmarks import calibration
from benchmarks.bulk import catch_up, prepared
from benchmarks.feeder import Feeder
from benchmarks.fill import fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, ROOT, Results, numbers, options, say

LINES = 500
PATIENCE = 120.0
BETWEEN_SECONDS = 20.0


def main() -> None:
    """Fill, start, post, kill again and again."""
    parser = options(__doc__, stored="40_000" if QUICK else "1_000_000", runs=1)
    parser.add_argument("--rate", type=float, default=1_000 if QUICK else 5_000)
    parser.add_argument("--kills", type=int, default=2 if QUICK else 5)
    parser.add_argument("--between", type=float, default=5.0 if QUICK else BETWEEN_SECONDS)
    parser.add_argument("--alone", action="store_true", help="Kill the one that stands by as well.")
    parser.add_argument("--payload", choices=["minimal", "full"], default="full")
    asked = parser.parse_args()
    results = Results("restart", asked)
    with Ground(asked.state, small=asked.small) as ground:
        ahead = int(asked.rate * (asked.kills + 1) * (asked.between + 30) * asked.runs)
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload, ahead=ahead)
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small)
        ground.start()
        results.about |= ground.about() | {"bare_start_seconds": bare_start()}
        for _ in range(asked.runs):
            kills(ground, results, asked)
        behind = catch_up(ground)
        verified = ground.manage("verify").count(": ")
        say(f"caught up in {behind} s; verify: {verified} lines, nothing amiss (it would have raised)")
    results.finish()


def kills(ground: Ground, results: Results, asked: argparse.Namespace) -> None:
    """Post at the rate; kill the scorer as often as asked."""
    sheets = prepared(ground, asked.payload, lines=LINES, connections=3)
    feeder = Feeder(sheets, port=ground.web_port, key=ground.key, rate=asked.rate)
    feeder.start()
    accounts, taken = ground.accounts(), ground.standing()
    found = []
    for _ in range(asked.kills):
        time.sleep(asked.between)
        found.append(one(ground, feeder, alone=asked.alone))
    sent, taken = feeder.stop(), ground.standing() - taken
    if sent.failed:
        say(f"trouble while posting: {sent.failed[:3]}")
    restarts, used = sorted(found), accounts.each(taken)
    # What a killed scorer used, and what its successors use, is on the supervisor's account: it is their parent.
    used["scorer"] = round(used["scorer"] + used.pop("standby") + used.pop("supervisor"), 1)
    results.add(
        f"killed at {asked.rate:,.0f} a second{', no stand-by' if asked.alone else ''}",
        {
            "p50_seconds": round(statistics.median(restarts), 2),
            "max_seconds": round(restarts[-1], 2),
            "all_seconds": ", ".join(f"{each:.2f}" for each in found),
            "accepted": sent.accepted,
            "statuses": {str(status): count for status, count in sent.statuses.items()},
            "cpu_us": used,
            "scorer_rss_mib": ground.accounts().memory().get("scorer"),
        },
    )


def one(ground: Ground, feeder: Feeder, *, alone: bool) -> float:
    """Kill the lane's owner now; seconds until the lane's cursor moves again."""
    from scoring.lanes import owner_of  # once Django is set up

    lane = ground.lane.pk
    with ground.cursor() as cursor:

        def standing() -> int:
            cursor.execute("SELECT seq FROM lane_cursor WHERE lane = %s", [lane])
            return cursor.fetchone()[0]

        owner = owner_of(cursor, lane)
        if owner is None:
            raise SystemExit("nobody owns the lane")
        for pid in (ground.children["scorer"], ground.children["standby"]) if alone else (owner,):
            os.killpg(pid, signal.SIGKILL)
        killed = time.perf_counter()
        time.sleep(0.05)  # a commit that was sent already may still arrive
        before = standing()
        while standing() == before:
            if time.perf_counter() - killed > PATIENCE:
                raise SystemExit(f"no decision for {PATIENCE:.0f} s after the kill")
            time.sleep(0.02)
        took = time.perf_counter() - killed
    say(f"  decides again after {took:.2f} s ({feeder.sent.accepted:,} accepted so far)")
    return took


def bare_start() -> float:
    """Seconds until a process has imported what a scorer needs, with an empty memory."""
    began = time.perf_counter()
    code = (
        "import django; django.setup(); from fraudsite import pipeline; from scoring import features; "
        "features.warm_up()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=180)
    return round(time.perf_counter() - began, 2)


if __name__ == "__main__":
    main()
