"""Ten minutes under steady load: memory of every process over time, and how much of it grows.

    python -m benchmarks.soak [--minutes 10] [--rate 2000] [--singles 20] [--stored 1_000_000]

Bulk at a rate and single payments beside it, a socket that listens, a page of the desk now and then. Sizes are sampled
every few seconds; the slope is a line through the second half, when caches are full. Profiles grow with new entities
only, and the crowd's are all known before.
"""

from __future__ import annotations

import argparse
import threading
import time
from urllib.request import Request, urlopen

import numpy as np

from benchmarks import calibration, crowd
from benchmarks.bulk import catch_up, prepared
from benchmarks.client import Address, post
from benchmarks.decisions import Arm, requests
from benchmarks.feeder import Feeder
from benchmarks.fill import fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Results, numbers, options, percentiles, say, table
from benchmarks.screen import Listener, headers, latest_alert, sign_in, socket

EACH_SECONDS = 5.0
PAGES = ("/desk/", "/desk/alerts/", "/desk/transactions/transaction/")


def main() -> None:
    """Fill, start, load, sample."""
    parser = options(__doc__, stored="40_000" if QUICK else "1_000_000", runs=1)
    parser.add_argument("--minutes", type=float, default=0.7 if QUICK else 10.0)
    parser.add_argument("--rate", type=float, default=500 if QUICK else 2_000)
    parser.add_argument("--singles", type=float, default=20.0, help="Single payments a second beside it.")
    parser.add_argument("--payload", choices=["minimal", "full"], default="full")
    asked = parser.parse_args()
    results = Results("soak", asked)
    with Ground(asked.state, small=asked.small) as ground:
        ahead = int(asked.rate * 60 * asked.minutes * 1.3)
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload, ahead=ahead)
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small)
        ground.start()
        results.about |= ground.about()
        soak(ground, results, asked)
    results.finish()


def soak(ground: Ground, results: Results, asked: argparse.Namespace) -> None:
    """Load from three sides, samples all along."""
    sheets = prepared(ground, asked.payload, lines=500, connections=2)
    feeder = Feeder(sheets, port=ground.web_port, key=ground.key, rate=asked.rate)
    over = threading.Event()
    latencies: list[float] = []
    with socket(ground, f"/ws/alerts/?after={latest_alert(ground)}&samples=1") as link:
        listener = Listener(link)
        listener.start()
        beside = [
            threading.Thread(target=_singles, args=(ground, asked, over, latencies), daemon=True),
            threading.Thread(target=_visits, args=(ground, over), daemon=True),
        ]
        for thread in beside:
            thread.start()
        accounts, before = ground.accounts(), ground.standing()
        feeder.start()
        times, sizes = sampled(ground, 60 * asked.minutes)
        decided = ground.standing() - before
        used = accounts.each(decided)
        over.set()
        sent = feeder.stop()
        for thread in beside:
            thread.join(60)
        link.close()
    catch_up(ground)
    slopes = {name: slope(times, column) for name, column in sizes.items()}
    rows = [(name, column[0], column[len(column) // 2], column[-1], slopes[name]) for name, column in sizes.items()]
    print(table(rows, ("process", "first MiB", "middle MiB", "last MiB", "MiB a minute")), flush=True)
    results.add(
        f"{asked.minutes:g} minutes",
        {
            "rss_first_mib": {name: round(column[0], 1) for name, column in sizes.items()},
            "rss_last_mib": {name: round(column[-1], 1) for name, column in sizes.items()},
            "mib_a_minute": slopes,
            "decided": decided,
            "cpu_us": used,
            "single_ms": percentiles(latencies, 1000),
            "accepted": sent.accepted,
            "troubles": len(sent.failed),
            "alerts_heard": len(listener.came),
        },
    )


def sampled(ground: Ground, seconds: float) -> tuple[list[float], dict[str, list[float]]]:
    """Resident MiB of each process every few seconds."""
    began = time.monotonic()
    times: list[float] = []
    sizes: dict[str, list[float]] = {}
    while time.monotonic() - began < seconds:
        times.append(time.monotonic() - began)
        for name, size in ground.accounts().memory("VmRSS").items():
            if name != "client":
                sizes.setdefault(name, []).append(size)
        if len(times) % 6 == 1:
            say("  " + ", ".join(f"{name} {column[-1]:,.0f}" for name, column in sizes.items()))
        time.sleep(EACH_SECONDS)
    return times, sizes


def slope(times: list[float], sizes: list[float]) -> float:
    """MiB a minute, by a line through the second half."""
    half = len(times) // 2
    if len(times) - half < 3 or len(sizes) != len(times):
        return 0.0
    return round(60 * float(np.polyfit(times[half:], sizes[half:], 1)[0]), 3)


def _singles(ground: Ground, asked: argparse.Namespace, over: threading.Event, latencies: list[float]) -> None:
    """Single payments at a small rate, in portions."""
    arm = Arm("judged", Address.of(f"http://127.0.0.1:{ground.web_port}/api/v1/transactions", headers(ground)))
    payload = crowd.Payload(asked.payload)
    while not over.is_set():
        portion = requests(arm, payload, max(1, int(5 * asked.singles)))
        latencies += post(arm.address, portion, concurrency=4, rate=asked.singles).latencies


def _visits(ground: Ground, over: threading.Event) -> None:
    """Somebody looks at a page every other second."""
    cookie, number = sign_in(ground), 0
    while not over.wait(2.0):
        number += 1
        request = Request(ground.access["url"] + PAGES[number % len(PAGES)], headers={"Cookie": cookie})
        try:
            urlopen(request, timeout=20).read()
        except OSError as error:
            say(f"  {request.full_url}: {error}")


if __name__ == "__main__":
    main()
