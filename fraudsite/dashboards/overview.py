"""Overview: what was decided, how much fraud it caught and missed, how precise the alerts were, how fast it went."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.http import HttpRequest

from alerts import charts
from alerts.live import amount_text
from fraudsite import tallies
from fraudsite.dashboards.links import rows_url
from fraudsite.figures import (
    Cell,
    Column,
    Figure,
    Plot,
    Span,
    Sums,
    Table,
    base_currency,
    count,
    every,
    moments,
    money,
    name_of,
    rows,
    share,
    tallied,
    tallied_over_time,
    text,
)
from fraudsite.measures import measure
from fraudsite.worked import quantile
from transactions.codes import EXPONENT, OUTCOME

STOPPED = ("challenge", "review", "decline")
OUTCOMES = ("approve", *STOPPED)
_CODES = {name: OUTCOME.code(name) for name in OUTCOMES}


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """The range's figures, charts and tables for whoever may see decisions."""
    if not request.user.has_perm("scoring.view_decision"):
        return {"figures": [], "plots": [], "tables": []}
    currency = base_currency()
    total = {outcome: sums for (_, outcome), sums in tallied(tallies.TOTAL, span).items()}
    over_time = tallied_over_time(tallies.TOTAL, span)
    return {
        "figures": figures(total, span, currency),
        "plots": [outcomes_plot(over_time, span), money_plot(over_time, span, currency)],
        "tables": [],
        "currency": currency,
    }


def of(total: dict[int, Sums], names: tuple[str, ...]) -> Sums:
    """Some outcomes together."""
    found = Sums()
    for name in names:
        found += total.get(_CODES[name], Sums())
    return found


def figures(total: dict[int, Sums], span: Span, currency: str) -> list[Figure]:
    """The strip at the top."""
    everything, stopped, approved = of(total, OUTCOMES), of(total, STOPPED), of(total, ("approve",))
    labelled = stopped.fraud + stopped.legitimate
    return [
        Figure(
            measure("decisions"),
            f"{everything.payments:,}",
            note=", ".join(f"{of(total, (name,)).payments:,} {name}" for name in STOPPED),
            href=rows_url(span, kind="decisions"),
        ),
        Figure(
            measure("stopped"),
            *_per_cent(stopped.payments, everything.payments),
            note=f"{stopped.payments:,} of {everything.payments:,}",
            href=rows_url(span, kind="alerts"),
        ),
        Figure(
            measure("caught"),
            *_per_cent(stopped.fraud_value, everything.fraud_value),
            note=f"{_money(stopped.fraud_value, currency)}, {stopped.fraud:,} of {everything.fraud:,} payments",
            href=rows_url(span, verdict="fraud", outcome="stopped"),
        ),
        Figure(
            measure("missed"),
            amount_text(approved.fraud_value, currency).rsplit(".", 1)[0],
            currency,
            f"{approved.fraud:,} payments",
            rows_url(span, verdict="fraud", outcome="approve"),
        ),
        Figure(
            measure("alert_precision"),
            *_per_cent(stopped.fraud, labelled),
            note=f"{stopped.fraud:,} of {labelled:,} labelled",
            href=rows_url(span, outcome="stopped"),
        ),
        latency(span),
    ]


def _per_cent(part: int, whole: int) -> tuple[str, str]:
    return (f"{100 * part / whole:.1f}", "%") if whole else ("–", "")


def _money(minor: int, currency: str) -> str:
    return f"{amount_text(minor, currency)} {currency}"


def latency(span: Span) -> Figure:
    """How long live payments waited for their decision, from the roll-up's scale."""
    counts: Counter[int] = Counter()
    for (key, _), sums in tallied(tallies.LATENCY, span).items():
        counts[key + 1] += sums.payments  # the scale of times begins at 1 with bucket 1
    found = [quantile(counts, each) for each in (0.5, 0.9, 0.99)]
    if found[0] is None:
        return Figure(measure("latency"), "–", note="no live payment in this range")
    p50, p90, p99 = ((value or 0) / 1000 for value in found)
    busiest = busiest_hour(span)
    return Figure(
        measure("latency"), f"{p50:,.0f}", "ms p50", f"{p90:,.0f} p90, {p99:,.0f} p99; busiest hour {busiest}/s"
    )


def busiest_hour(span: Span) -> str:
    """Decisions a second in the busiest hour."""
    found = rows(
        "SELECT sum(payments)::bigint FROM decision_tally WHERE cut = %s AND grain = 'h' AND at >= %s AND at < %s"
        " GROUP BY at ORDER BY 1 DESC LIMIT 1",
        [tallies.TOTAL, span.start, span.end],
    )
    return f"{(found[0][0] if found else 0) / timedelta(hours=1).total_seconds():,.1f}"


def outcomes_plot(over_time: dict[Any, Sums], span: Span) -> Plot:
    """Stopped payments by outcome over time; the twin has the approved ones too."""
    starts = moments(span)
    names = [name_of(at, span) for at in starts]
    columns = [{name: over_time.get((at, 0, _CODES[name]), Sums()).payments for name in OUTCOMES} for at in starts]
    chart = charts.stacked(columns, names, STOPPED, every=every(len(names)))
    lines = [
        [text(name), *(count(column[each]) for each in OUTCOMES), stopped_share(column)]
        for name, column in zip(names, columns, strict=True)
    ]
    unit = "Hour" if span.hourly else "Day"
    head = [Column(unit, numeric=False), *(Column(name.capitalize()) for name in OUTCOMES)]
    stopped = Column("Stopped", measure="stopped", parts=("stopped", "decisions"))
    table = Table("outcomes", "Decisions by outcome", [*head, stopped], lines)
    legend = tuple((name, name.capitalize()) for name in STOPPED)
    return Plot(
        "Stopped payments",
        f"per {unit.lower()}, by outcome; approved ones are in the table",
        chart,
        table,
        legend=legend,
    )


def stopped_share(column: dict[str, int]) -> Cell:
    """What was stopped of one hour's or day's payments."""
    return share(sum(column[name] for name in STOPPED), sum(column.values()))


def money_plot(over_time: dict[Any, Sums], span: Span, currency: str) -> Plot:
    """Fraud caught and missed in money over time."""
    starts = moments(span)
    names = [name_of(at, span) for at in starts]
    unit = "hour" if span.hourly else "day"
    parts = []
    for at in starts:
        total = {code: over_time.get((at, 0, code), Sums()) for code in _CODES.values()}
        parts.append({"caught": of(total, STOPPED), "missed": of(total, ("approve",))})
    digits = 10 ** EXPONENT.get(currency, 2)
    columns = [{name: round(sums.fraud_value / digits) for name, sums in part.items()} for part in parts]
    chart = charts.stacked(columns, names, ("caught", "missed"), every=every(len(names)))
    lines = [
        [
            text(name),
            money(part["caught"].fraud_value, currency),
            count(part["caught"].fraud),
            money(part["missed"].fraud_value, currency),
            count(part["missed"].fraud),
        ]
        for name, part in zip(names, parts, strict=True)
    ]
    head = [
        Column(unit.capitalize(), numeric=False),
        Column(f"Caught, {currency}", measure="caught"),
        Column("Payments"),
        Column(f"Missed, {currency}", measure="missed"),
        Column("Payments"),
    ]
    table = Table("fraud_money", "Fraud caught and missed", head, lines)
    hint = f"{currency} per {unit}, by labels known now; young fraud is not known yet"
    legend = (("caught", "Caught"), ("missed", "Missed"))
    return Plot("Fraud in money", hint, chart, table, legend=legend)
