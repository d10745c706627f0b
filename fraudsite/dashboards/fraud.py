"""Fraud: where it comes from (channel, country, merchant, device), in payments and money, with the rows behind it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from alerts.desk import remembered
from alerts.live import amount_text
from fraudsite import tallies
from fraudsite.dashboards.links import entity_url, rows_url
from fraudsite.figures import (
    Cell,
    Column,
    Figure,
    Span,
    Sums,
    Table,
    base_currency,
    count,
    money,
    rows,
    share,
    tallied,
    text,
    value_share,
)
from fraudsite.measures import measure
from fraudsite.templatetags.desk import masked, words
from transactions.codes import CHANNEL, COUNTRY, OUTCOME
from transactions.models import TransactionDetail

TOP = 15
KEPT_SECONDS = 30
PREFIX = {"device": "DV", "merchant": "ME"}
APPROVE = OUTCOME.code("approve")
# Device or merchant: the entities with the most fraud, out of the index on time alone.
ENTITY_SQL = """
SELECT {column}, count(*), sum(amount_base)::bigint,
       sum(amount_base) FILTER (WHERE outcome <> %s)::bigint, max(transaction_id)
  FROM labelled_payment WHERE verdict = 2 AND at >= %s AND at < %s AND {column} <> 0
 GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT %s
"""


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """Figures of all fraud, and a table for each cut."""
    currency = base_currency()
    by_channel = {
        name: tallied(cut, span) for name, cut in (("channel", tallies.CHANNEL), ("country", tallies.COUNTRY))
    }
    total = summed(by_channel["channel"])
    tables = [
        by_code("channel", "By channel", by_channel["channel"], total, span, currency),
        by_code("country", "By place", by_channel["country"], total, span, currency),
        by_entity("merchant", "By merchant", total, span, currency),
        by_entity("device", "By device", total, span, currency),
    ]
    return {"figures": figures(total, by_channel["channel"], span, currency), "plots": [], "tables": tables}


def summed(found: dict[tuple[int, int], Sums]) -> Sums:
    """All keys and outcomes together."""
    total = Sums()
    for sums in found.values():
        total += sums
    return total


def figures(total: Sums, by_channel: dict[tuple[int, int], Sums], span: Span, currency: str) -> list[Figure]:
    """All fraud of the range: payments, money, rate, and what was caught of it."""
    missed = summed({key: sums for key, sums in by_channel.items() if key[1] == APPROVE})
    caught = total.fraud_value - missed.fraud_value
    rate = f"{10_000 * total.fraud_value / total.value:.1f}" if total.value else "–"
    return [
        Figure(
            measure("fraud_rate"),
            rate,
            "bp of value",
            f"{total.fraud:,} of {total.payments:,} payments",
            rows_url(span, verdict="fraud"),
        ),
        Figure(
            measure("fraud_value"),
            amount_text(total.fraud_value, currency).rsplit(".", 1)[0],
            currency,
            "labelled fraud in this range",
            rows_url(span, verdict="fraud"),
        ),
        Figure(
            measure("caught"),
            f"{100 * caught / total.fraud_value:.1f}" if total.fraud_value else "–",
            "%" if total.fraud_value else "",
            f"{amount_text(caught, currency)} of {amount_text(total.fraud_value, currency)} {currency}",
            rows_url(span, verdict="fraud", outcome="stopped"),
        ),
    ]


def columns(title: str, currency: str) -> list[Column]:
    """The head that all cuts share."""
    return [
        Column(title, numeric=False),
        Column("Fraud"),
        Column(f"Fraud, {currency}"),
        Column("Share of fraud", measure="fraud_share", parts=("value", "all fraud")),
        Column("Caught", measure="caught", parts=("caught", "fraud")),
    ]


def by_code(name: str, title: str, found: dict[tuple[int, int], Sums], total: Sums, span: Span, currency: str) -> Table:
    """Channels or countries: all payments are known by them, so the fraud rate is too."""
    table = {"channel": CHANNEL, "country": COUNTRY}[name]
    sums: dict[int, Sums] = {}
    missed: dict[int, int] = {}
    for (key, outcome), each in found.items():
        sums.setdefault(key, Sums())
        sums[key] += each
        missed[key] = missed.get(key, 0) + (each.fraud_value if outcome == APPROVE else 0)
    order = sorted(sums, key=lambda key: (-sums[key].fraud_value, -sums[key].payments))[:TOP]
    lines = []
    for key in order:
        code, each = table.text(key), sums[key]
        url = rows_url(span, verdict="fraud", **{name: code}) if code else ""
        lines.append(
            [
                text(words(code) if name == "channel" else code, raw=code) if code else text("not sent"),
                count(each.fraud, url),
                money(each.fraud_value, currency, url),
                value_share(each.fraud_value, total.fraud_value, currency),
                value_share(each.fraud_value - missed[key], each.fraud_value, currency, told=True),
                share(each.fraud, each.payments),
            ]
        )
    head = [*columns(title.removeprefix("By ").capitalize(), currency)]
    rate = Column("Fraud rate", measure="fraud_rate", parts=("fraud", "payments"))
    return Table(name, title, [*head, rate], lines, empty="No payment was judged in this range.")


def by_entity(kind: str, title: str, total: Sums, span: Span, currency: str) -> Table:
    """The merchants or devices with the most fraud."""
    key = f"dashboard:fraud:{kind}:{span.start:%Y%m%d%H}:{span.end:%Y%m%d%H}"
    found = remembered(key, KEPT_SECONDS, lambda: top_entities(kind, span))
    names = names_of(kind, [row[4] for row in found])
    lines = []
    for entity, payments, value, caught, sample in found:
        url = rows_url(span, verdict="fraud", **{kind: entity})
        lines.append(
            [
                Cell(names.get(sample, "not sent"), entity, entity_url(kind, entity)),
                count(payments, url),
                money(value, currency, url),
                value_share(value, total.fraud_value, currency),
                value_share(caught or 0, value, currency, told=True),
            ]
        )
    hint = f"the {TOP} with the most fraud in money"
    return Table(
        kind, title, columns(kind.capitalize(), currency), lines, hint, empty="No fraud is known in this range."
    )


def top_entities(kind: str, span: Span) -> list[tuple[Any, ...]]:
    """(key, payments, value, caught value, a payment) of the entities with the most fraud."""
    return rows(ENTITY_SQL.format(column=kind), [APPROVE, span.start, span.end, TOP])


def names_of(kind: str, payments: list[int]) -> dict[int, str]:
    """What to call the merchant or device of each payment: a merchant's name; a device by its last characters."""
    shown = TransactionDetail.objects.filter(pk__in=payments).values_list("pk", "document")
    parts = {payment: document.get(kind) or {} for payment, document in shown}
    return {payment: part.get("name") or masked(part.get("id"), PREFIX[kind]) for payment, part in parts.items()}
