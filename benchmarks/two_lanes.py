"""Two lanes at once: two portfolios, each with an owner of its own, fed over the same API; beside it one lane alone.

    python -m benchmarks.two_lanes [--minutes 1] [--lines 5000] [--stored 200_000]

On two cores two lanes share what one has; what counts is that neither stands in the other's way: the sum should be what
one lane alone does in the same run (the limit), shared evenly. With more cores the sum grows with the owners.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import calibration
from benchmarks.bulk import WARM_SECONDS, prepared
from benchmarks.feeder import Feeder
from benchmarks.fill import fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, say

SECOND = "second"


def main() -> None:
    """Fill the first lane, make the second, start both owners; one lane, then two, `--runs` times."""
    parser = options(__doc__, stored="20_000" if QUICK else "200_000", runs=3)
    parser.add_argument("--minutes", type=float, default=0.15 if QUICK else 1.0)
    parser.add_argument("--lines", type=int, default=5_000)
    parser.add_argument("--payload", choices=["minimal", "full"], default="minimal")
    asked = parser.parse_args()
    results = Results("two_lanes", asked)
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload, ahead=int(asked.runs * 150 * asked.minutes * 30_000))
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small)
        other = second_lane(ground)
        ground.start()
        results.about |= ground.about()
        for _ in range(asked.runs):
            alone = both(ground, asked, {ground.lane.pk: ground.key})
            results.add("one lane", alone)
            shared = both(ground, asked, {ground.lane.pk: ground.key, **other})
            ratio = round(shared["per_second"] / max(1, alone["per_second"]), 3)
            results.add("two lanes", {**shared, "sum_to_one_lane": ratio})
    results.finish()


def second_lane(ground: Ground) -> dict[int, str]:
    """A lane like the first, judging by copies of its rules, policy and model; its client's key by the lane's id."""
    from scoring import releases
    from scoring.models import ModelVersion, PolicyVersion, Rule, RuleVersion
    from transactions.auth import issue_key
    from transactions.models import ApiClient, Lane

    first = releases.in_force(ground.lane)
    if first is None:
        raise SystemExit("the first lane has no release")
    lane, _ = Lane.objects.get_or_create(name=SECOND, defaults={"base_currency": ground.lane.base_currency})
    client, _ = ApiClient.objects.get_or_create(name=SECOND, defaults={"lane": lane})
    if releases.in_force(lane) is None:
        rules = []
        for entry in first.rules:
            version = RuleVersion.objects.select_related("rule").get(pk=entry["version"])
            rule = Rule.objects.create(lane=lane, code=version.rule.code, name=version.rule.name, owner="benchmark")
            rules.append({**entry, "version": _copy(version, rule=rule).pk})
        model = first.model
        if model is not None:
            model = _copy(model, lane=lane, stage=ModelVersion.Stage.CANDIDATE)
        policy = PolicyVersion.objects.create(
            lane=lane, number=1, thresholds=first.policy.thresholds, created_by="benchmark"
        )
        releases.activate(lane, by="benchmark", reason="Benchmark", model=model, policy=policy, rules=rules)
    return {lane.pk: issue_key(client)[1]}


def _copy(row: Any, **changed: Any) -> Any:
    row.pk = None
    row._state.adding = True
    for name, value in changed.items():
        setattr(row, name, value)
    row.save()
    return row


def both(ground: Ground, asked: argparse.Namespace, lanes: dict[int, str]) -> Result:
    """Feed the lanes flat out at once; what each decided."""
    say(f"posting to {len(lanes)} at once …")
    feeders = {}
    for n, (lane, key) in enumerate(lanes.items()):
        sheets = prepared(ground, asked.payload, lines=asked.lines, connections=4 // len(lanes))
        sheets.first_run += n * 1_000_000
        feeders[lane] = Feeder(sheets, port=ground.web_port, key=key)
    for feeder in feeders.values():
        feeder.start()
    time.sleep(WARM_SECONDS / (5 if QUICK else 1))
    accounts, before, began = ground.accounts(), standings(ground), time.perf_counter()
    time.sleep(60 * asked.minutes)
    took, after = time.perf_counter() - began, standings(ground)
    rates = {str(lane): round((after[lane] - before.get(lane, 0)) / took) for lane in lanes}
    decided = sum(after[lane] - before.get(lane, 0) for lane in lanes)
    used, memory = accounts.each(decided), accounts.memory()
    sent = [feeder.stop() for feeder in feeders.values()]
    deadline = time.monotonic() + 300
    while undecided(ground) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {
        "per_second": round(decided / took),
        "by_lane": rates,
        "cpu_us": used,
        "rss_mib": memory,
        "troubles": sum(len(one.failed) for one in sent),
        "left_undecided": undecided(ground),
    }


def standings(ground: Ground) -> dict[int, int]:
    """Each lane's seq."""
    with ground.cursor() as cursor:
        cursor.execute("SELECT lane, seq FROM lane_cursor")
        return dict(cursor.fetchall())


def undecided(ground: Ground) -> int:
    """Live payments above their lane's mark without a decision."""
    with ground.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM lane_cursor c JOIN transaction t ON t.lane = c.lane AND t.id > c.mark"
            " WHERE t.intake = 1 AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1)"
        )
        return cursor.fetchone()[0]


if __name__ == "__main__":
    main()
