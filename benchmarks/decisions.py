"""One payment after the other through the real API: key, validation, features, rules, model, decision, all durable.

    python -m benchmarks.decisions [--concurrency 1,8,16,32] [--payloads minimal,full] [--stored 5_000_000]
    python -m benchmarks.decisions --compare http://127.0.0.1:9000/score --payload peer.json --header "X-Key: abc"

Beside it, in turns of the same run (A B A B …), the limit: the same POST kept but not judged; and the same POST through
the proxy. `--compare` posts the same load to any other server on this machine, in the same turns; in its payload file
{{id}} becomes a fresh id, {{now}} the time, {{customer}}, {{merchant}} and {{device}} the crowd's numbers, {{amount}}
minor units. One client process, one thread; bodies are made before the clock starts.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import calibration, crowd, kept
from benchmarks.client import Address, Answers, post
from benchmarks.drain import alert_share
from benchmarks.fill import fill, last_id
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, percentiles, say

TURNS = 4  # of each arm in one run
JSON = ("Content-Type", "application/json")
_runs = iter(range(10**9))


@dataclass
class Arm:
    """One server and way to be asked."""

    name: str
    address: Address
    more: tuple[tuple[str, str], ...] = ()
    peer: str = ""  # a payload file's text, for --compare


def main() -> None:
    """Every concurrency and payload, `--runs` times, all arms in turns."""
    parser = options(__doc__, stored="20_000" if QUICK else "1_000_000")
    parser.add_argument("--concurrency", default="1,8,16,32")
    parser.add_argument("--payloads", default="minimal,full")
    parser.add_argument("--requests", type=int, default=80 if QUICK else 1_500, help="A turn, at concurrency 8 on.")
    parser.add_argument("--compare", metavar="URL", help="Another server on this machine, posted the same load.")
    parser.add_argument("--payload", type=Path, help="The body that the other server takes.")
    parser.add_argument("--header", action="append", default=[], help="A header for it, such as 'X-Key: abc'.")
    asked = parser.parse_args()
    results = Results("decisions", asked)
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payloads.split(",")[0])
        kept.remove(ground)
        for name in asked.payloads.split(","):
            calibration.at_half_a_percent(ground, name, quick=asked.small)
            results.about |= ground.about()
            ground.start()
            try:
                measure(ground, results, asked, name)
            finally:
                kept.remove(ground)
                ground.stop()
    results.finish()


def measure(ground: Ground, results: Results, asked: argparse.Namespace, name: str) -> None:
    """All concurrencies with one payload."""
    arms, payload, before = arms_of(ground, asked), crowd.Payload(name), ground.standing()
    say(f"warming up with the {name} payload ({payload.fields} fields) …")
    for arm in arms:
        for _ in range(3):
            post(arm.address, requests(arm, payload, asked.requests // 4 + 8), concurrency=8)
    for concurrency in numbers(asked.concurrency):
        count = max(20, asked.requests // 3 if concurrency == 1 else asked.requests)
        for _ in range(asked.runs):
            calibration.by_what_came(ground, before)  # as customers pay more and more often, scores shift
            before = ground.standing()
            kept.empty(ground)
            compare(ground, results, arms, payload, concurrency=concurrency, count=count)


def arms_of(ground: Ground, asked: argparse.Namespace) -> list[Arm]:
    """The web process itself, the limit beside it, the way through the proxy, and the other server if one is named."""
    path = "/api/v1/transactions"
    web, proxy = f"http://127.0.0.1:{ground.web_port}{path}", f"http://localhost:{ground.port}{path}"
    key = {"Authorization": f"Bearer {ground.key}", "Content-Type": JSON[1]}
    unjudged = {"Authorization": f"Bearer {kept.make(ground)}", "Content-Type": JSON[1]}
    arms = [
        Arm("judged", Address.of(web, key)),
        Arm("kept only", Address.of(web, unjudged), (("Prefer", "respond-async"),)),
        Arm("judged, by proxy", Address.of(proxy, key)),
    ]
    if asked.compare:
        headers = dict(header.split(": ", 1) for header in asked.header)
        text = asked.payload.read_text() if asked.payload else ""
        arms.append(Arm("compared", Address.of(asked.compare, dict([JSON]) | headers), peer=text))
    return arms


def compare(
    ground: Ground, results: Results, arms: list[Arm], payload: crowd.Payload, *, concurrency: int, count: int
) -> None:
    """One run: every arm TURNS times in turn; a result for each arm, with its ratio to the kept one."""
    answers: dict[str, Answers] = defaultdict(Answers)
    first = last_id(ground) + 1
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for _ in range(TURNS):
        for arm in arms:
            ready, accounts = requests(arm, payload, count), ground.accounts()
            answers[arm.name] += post(arm.address, ready, concurrency=concurrency)
            for process, seconds in accounts.used().items():
                used[arm.name][process] += seconds
    rows = {name: row(answers[name], used[name]) for name in answers}
    limit = rows["kept only"]
    memory, alerts = ground.accounts().memory(), alert_share(ground, first, last_id(ground))
    for name, one in rows.items():
        ratios = {}
        if name != "kept only" and limit["p50_ms"]:
            ratios = {
                "p50_to_kept": round(one["p50_ms"] / limit["p50_ms"], 3),
                "cpu_to_kept": round(one["cpu_us"]["all"] / max(1e-9, limit["cpu_us"]["all"]), 3),
            }
        results.add(
            f"{payload.name}, {concurrency} at once, {name}", one | ratios | {"alerts": alerts, "rss_mib": memory}
        )


def requests(arm: Arm, payload: crowd.Payload, count: int) -> list[bytes]:
    """`count` requests with payments that nobody has sent before, happening now."""
    run = next(_runs) + int(datetime.now(UTC).timestamp()) % 10**7 * 1_000
    rng = np.random.default_rng(run)
    picks = crowd.draw(count, rng)
    at = datetime.now(UTC)
    if arm.peer:
        return [arm.address.request(peer_body(arm.peer, picks, n, run, at)) for n in range(count)]
    sheet = payload.sheet(picks, rng)
    payload.stamp(sheet, run, at)
    return [arm.address.request(line.tobytes(), arm.more) for line in sheet]


def peer_body(text: str, picks: crowd.Picks, n: int, run: int, at: datetime) -> bytes:
    """The other server's body with its marks filled in."""
    values = {
        "id": f"pay-{run}-{n}",
        "now": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "customer": f"{picks.customer[n]:05}",
        "merchant": f"{picks.merchant[n]:04}",
        "device": f"{picks.device[n]:05}",
        "amount": str(picks.amount[n]),
    }
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()


def row(answers: Answers, used: dict[str, float]) -> Result:
    """The figures of one arm."""
    count = max(1, len(answers.latencies))
    micro = {name: round(1e6 * seconds / count, 1) for name, seconds in sorted(used.items(), key=lambda one: -one[1])}
    times: dict[str, Any] = {f"{name}_ms": value for name, value in percentiles(answers.latencies, 1000).items()}
    return {
        **times,
        "per_second": round(answers.per_second, 1),
        "decided_share": round(answers.decided / count, 4),
        "statuses": {str(status): found for status, found in answers.statuses.items()},
        "broken": answers.broken,
        "cpu_us": {"all": round(sum(micro.values()), 1), **micro},
    }


if __name__ == "__main__":
    main()
