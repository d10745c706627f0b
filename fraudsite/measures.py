"""What the desk measures: each measure's name, formula, cut and target. The definition is part of the product.

Pages show the formula in a hint beside the name. Targets are defaults for a demo, not advice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One measure. `target`: what is aimed for, in words; `limit`: the same as a number, in the measure's unit."""

    key: str
    name: str
    formula: str
    cut: str = ""
    shown: str = "%"
    target: str = ""
    limit: float | None = None


_ALL = [
    # decisions
    Measure("decisions", "Decisions", "payments judged in the range; imports that were only recorded are left out"),
    Measure(
        "stopped",
        "Stopped",
        "(challenge + review + decline) ÷ decisions, each payment by its first decision",
        "outcome",
    ),
    Measure(
        "alert_precision",
        "Alert precision",
        "stopped payments labelled fraud ÷ stopped payments labelled fraud or legitimate",
        "rule, model, channel",
    ),
    Measure(
        "caught",
        "Fraud caught",
        "value of stopped payments labelled fraud ÷ value of all payments labelled fraud, base currency",
        "channel",
    ),
    Measure(
        "missed", "Fraud missed", "value of approved payments labelled fraud, base currency", "channel", "base currency"
    ),
    Measure("degraded", "Degraded", "decisions made without the model ÷ decisions", "cause"),
    Measure(
        "latency",
        "Decision latency",
        "decided − accepted, live payments; half of them took no longer than p50, nine in ten than p90,"
        " 99 in 100 than p99; steps of 9 %",
        "",
        "p50/p90/p99",
    ),
    Measure("throughput", "Throughput", "decisions in the busiest hour ÷ 3,600 s; mean over the range beside it"),
    # cases
    Measure(
        "touch",
        "Time to first touch",
        "claimed_at − created_at, of cases first claimed in the range",
        "queue, priority",
        "p50/p90",
        "15 min for P1",
        15 * 60,
    ),
    Measure(
        "handling",
        "Handling time",
        "sum of a case's leases; one that lapsed counts up to the last act in it; cases closed in the range",
        "queue, outcome",
        "p50/p90",
    ),
    Measure(
        "decision",
        "Time to decision",
        "closed_at − created_at, of cases closed in the range, around the clock",
        "queue",
        "p50/p90",
        "48 h",
        48 * 3600,
    ),
    Measure(
        "kept",
        "Due date kept",
        "cases closed before they were due ÷ cases closed, in the range",
        "queue",
        "%",
        "95 %",
        95,
    ),
    Measure(
        "rate",
        "Cases per worked hour",
        "cases closed that somebody had in hand ÷ hours of their leases",
        "queue; person for leads only",
        "rate",
    ),
    Measure(
        "false_positives",
        "False-positive share",
        "legitimate ÷ (legitimate + fraud), of what was closed or labelled with a decisive outcome",
        "rule, model version, queue",
    ),
    Measure(
        "rule_precision",
        "Rule precision",
        "hits labelled fraud ÷ hits labelled fraud or legitimate, of one rule version; 95 % interval after Wilson",
        "rule version",
    ),
    Measure(
        "rule_share",
        "Share of fraud value",
        "value of a rule's stopped hits labelled fraud ÷ value of all payments labelled fraud",
        "rule version",
    ),
    Measure("backlog", "Backlog age", "now − created_at of open cases", "queue", "buckets and oldest"),
    Measure("flow", "Opened and closed", "cases opened per hour beside cases closed per hour", "queue", "line"),
    Measure("inflow_ratio", "Inflow to outflow", "cases opened ÷ cases closed, in the range", "queue", "ratio"),
    Measure("reopened", "Reopen rate", "reopenings ÷ closes (those taken back included), in the range", "queue"),
    Measure(
        "disagreement",
        "QA disagreement",
        "reviews that disagree ÷ reviews done in the range; process errors are shown beside it",
        "queue",
    ),
    Measure(
        "contradicted",
        "Contradicted by late labels",
        "cases closed in the range whose outcome a label of higher rank contradicts ÷ cases closed with a decisive"
        " outcome",
        "queue",
    ),
    # value
    Measure(
        "blocked",
        "Blocked",
        "payments labelled fraud that were declined, or held and then blocked",
        "channel",
        "base currency",
    ),
    Measure("lost", "Lost", "payments labelled fraud that went through", "channel", "base currency"),
    Measure(
        "recovered",
        "Recovered",
        "refunds and reversals that name a lost payment, up to its amount",
        "channel",
        "base currency",
    ),
    Measure(
        "wrongly_blocked",
        "Wrongly blocked",
        "payments labelled legitimate that were declined, or held and then blocked",
        "channel",
        "base currency",
    ),
    Measure(
        "wrongly_stopped",
        "Wrongly stopped",
        "payments labelled legitimate that were challenged, or held and then released",
        "channel",
        "base currency",
    ),
    # fraud
    Measure(
        "fraud_rate",
        "Fraud rate",
        "payments labelled fraud ÷ payments judged; in value: the same of amounts",
        "channel",
    ),
    Measure("fraud_value", "Fraud", "value of all payments labelled fraud, stopped or not", "", "base currency"),
    Measure(
        "fraud_share", "Share of fraud", "value of this row ÷ value of all payments labelled fraud", "the table's cut"
    ),
    # model
    Measure(
        "matured",
        "Matured precision and recall",
        "labelled payments at least 30 days old; precision: fraud ÷ labelled at or above the score, recall:"
        " fraud at or above the score ÷ all fraud",
        "model version",
    ),
    Measure(
        "calibration",
        "Calibration",
        "share of fraud that the model promised for a tenth of its test payments, beside the share that was fraud",
        "tenth of the scores",
    ),
    Measure(
        "drift",
        "Drift",
        "population stability index: Σ (now − before) · ln(now ÷ before) over ten parts of the training payments;"
        " notable above 0.1 plus what chance explains",
        "feature",
        "index",
        "0.1",
        0.1,
    ),
    Measure(
        "risk",
        "Risk",
        "the highest score of a customer's alerts in the last 24 hours; held payments come first, then the amount",
        "customer",
        "score",
    ),
    Measure("rule_hits", "Rule hits", "payments that a rule version hit, whatever became of them", "rule version", ""),
    Measure("champion", "Champion", "the model that judges payments in the release in force", "", ""),
    Measure(
        "held_now",
        "Held now",
        "payments in review whose hold has not ended and that nobody has resolved",
        "customer",
        "",
    ),
    Measure("covered", "Covered", "customers of the list with an open case in a queue of yours", "", ""),
]
MEASURES: dict[str, Measure] = {each.key: each for each in _ALL}


def measure(key: str) -> Measure:
    """A measure by its key. Raises KeyError."""
    return MEASURES[key]
