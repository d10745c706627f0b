"""Rules: how often each version hit, how often it was right, and what share of the fraud in money it stopped."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from fraudsite import tallies
from fraudsite.figures import (
    Cell,
    Column,
    Figure,
    Span,
    Sums,
    Table,
    base_currency,
    count,
    interval,
    money,
    share,
    tallied,
    text,
    value_share,
)
from fraudsite.measures import measure
from scoring.models import RuleVersion
from transactions.codes import OUTCOME

APPROVE = OUTCOME.code("approve")
MOST = 200


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """One line a rule version that hit in the range, the most hits first; live and shadow apart."""
    currency = base_currency()
    hits, stopped = by_version(span)
    fraud_value = sum(sums.fraud_value for sums in tallied(tallies.TOTAL, span).values())
    order = sorted(hits, key=lambda key: (key % 2, -hits[key].payments))[:MOST]
    versions = RuleVersion.objects.select_related("rule").in_bulk([key // 2 for key in order])
    lines = [
        line(versions[key // 2], key % 2 == 1, hits[key], stopped.get(key, Sums()), fraud_value, currency)
        for key in order
        if key // 2 in versions
    ]
    hint = "by version; the bar is the 95 % interval of the precision"
    empty = "No rule hit in this range."
    return {
        "figures": figures(hits),
        "plots": [],
        "tables": [Table("rules", "Rules", columns(currency), lines, hint, empty=empty)],
    }


def by_version(span: Span) -> tuple[dict[int, Sums], dict[int, Sums]]:
    """{rule version id × 2 + shadow: sums}, over all outcomes and over stopped payments."""
    hits: dict[int, Sums] = {}
    stopped: dict[int, Sums] = {}
    for (key, outcome), sums in tallied(tallies.RULE, span).items():
        hits.setdefault(key, Sums())
        hits[key] += sums
        if outcome != APPROVE:
            stopped.setdefault(key, Sums())
            stopped[key] += sums
    return hits, stopped


def figures(hits: dict[int, Sums]) -> list[Figure]:
    """All live rules together."""
    total = Sums()
    for key, sums in hits.items():
        if key % 2 == 0:
            total += sums
    labelled = total.fraud + total.legitimate
    live = sum(key % 2 == 0 for key in hits)
    return [
        Figure(measure("rule_hits"), f"{total.payments:,}", "", f"of {live:,} live versions"),
        Figure(
            measure("rule_precision"),
            f"{100 * total.fraud / labelled:.1f}" if labelled else "–",
            "%" if labelled else "",
            f"{total.fraud:,} of {labelled:,} labelled hits",
        ),
        Figure(
            measure("false_positives"),
            f"{100 * total.legitimate / labelled:.1f}" if labelled else "–",
            "%" if labelled else "",
            f"{total.legitimate:,} of {labelled:,} labelled hits",
        ),
    ]


def columns(currency: str) -> list[Column]:
    return [
        Column("Rule", numeric=False),
        Column("Name", numeric=False),
        Column("Mode", numeric=False),
        Column("Hits", measure="rule_hits"),
        Column("Precision", measure="rule_precision", parts=("fraud", "labelled")),
        Column("False positives", measure="false_positives", parts=("legitimate", "labelled")),
        Column(f"Fraud stopped, {currency}"),
        Column("Share of fraud value", measure="rule_share", parts=("stopped", "all fraud")),
    ]


def line(version: Any, shadow: bool, hits: Sums, stopped: Sums, fraud_value: int, currency: str) -> list[Cell]:
    """One rule version. A rule in shadow stops nothing: what it would add is in its precision."""
    labelled = hits.fraud + hits.legitimate
    own = Sums() if shadow else stopped
    return [
        text(f"{version.rule.code} v{version.number}", reverse("admin:rule", args=[version.rule_id])),
        Cell(version.rule.name, version.rule.name, css="cut"),
        text("shadow" if shadow else "live"),
        count(hits.payments),
        interval(hits.fraud, labelled),
        share(hits.legitimate, labelled),
        money(own.fraud_value, currency),
        value_share(own.fraud_value, fraud_value, currency),
    ]
