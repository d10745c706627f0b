"""Customers at high risk right now: from the alerts of the last day, by the index on their time, as of this second."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from cases.models import Case
from cases.querysets import for_member, kept_from, open_ones
from fraudsite.dashboards.links import entity_url, queue_url
from fraudsite.figures import Cell, Column, Figure, Span, Table, base_currency, count, money, rows, text
from fraudsite.measures import measure
from fraudsite.templatetags.desk import masked
from fraudsite.templatetags.desk import span as span_text

WINDOW = timedelta(hours=24)
TOP = 50
NEWEST = 20_000  # alerts looked at, at most
HIGH = 700
RISK_SQL = """
WITH newest AS MATERIALIZED (
    SELECT id, customer, customer_ref, score, amount_base, raised_at, hold_until, top_reason FROM alert
     WHERE raised_at >= %(since)s ORDER BY raised_at DESC LIMIT %(newest)s),
     told AS (
    SELECT n.*, n.hold_until > %(now)s AND h.transaction_id IS NULL AS is_held
      FROM newest n LEFT JOIN hold_resolution h ON h.transaction_id = n.id AND n.hold_until IS NOT NULL
     WHERE n.customer <> 0)
SELECT customer, max(customer_ref), max(score), count(*), sum(amount_base)::bigint, max(raised_at),
       count(*) FILTER (WHERE is_held) AS held, (array_agg(top_reason ORDER BY score DESC, id DESC))[1]
  FROM told GROUP BY 1 HAVING max(score) >= %(high)s OR bool_or(is_held)
 ORDER BY count(*) FILTER (WHERE is_held) > 0 DESC, 3 DESC, 5 DESC, 1
 LIMIT %(top)s
"""


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """The riskiest customers with their open case; the range of the address does not matter here."""
    now = timezone.now()
    values = {"since": now - WINDOW, "newest": NEWEST, "now": now, "high": HIGH, "top": TOP}
    kept = kept_from(request.user)
    found = [row for row in rows(RISK_SQL, values) if row[0] not in kept]
    customers = [row[0] for row in found]
    cases, past, currency = open_cases(request.user, customers), earlier_fraud(customers), base_currency()
    lines = [line(row, cases.get(row[0]), past.get(row[0], 0), currency, now) for row in found]
    hint = "alerts of the last 24 hours; who has a payment held now comes first"
    empty = "No customer stands out now. The list fills as payments are stopped."
    return {
        "figures": figures(found, sum(each in cases for each in customers)),
        "plots": [],
        "tables": [Table("customers", "Highest risk first", columns(currency), lines, hint, empty=empty)],
        "fresh": now,
    }


def figures(found: list[tuple[Any, ...]], covered: int) -> list[Figure]:
    """How many there are, with money held, and without a case that the reader could work."""
    held = sum(row[6] > 0 for row in found)
    more = "+" if len(found) == TOP else ""
    return [
        Figure(measure("risk"), f"{len(found)}{more}", "customers", f"score from {HIGH} or a payment held"),
        Figure(measure("held_now"), str(held), "customers", "with a payment that waits for a person", queue_url()),
        Figure(measure("covered"), str(covered), "customers", f"of {len(found)} have an open case in your queues"),
    ]


def columns(currency: str) -> list[Column]:
    return [
        Column("Customer", numeric=False),
        Column("Risk", measure="risk"),
        Column("Why", numeric=False),
        Column("Alerts"),
        Column(f"Stopped, {currency}"),
        Column("Held now", measure="held_now"),
        Column("Fraud before"),
        Column("Last alert"),
        Column("Open case", numeric=False),
    ]


def line(row: tuple[Any, ...], case: Case | None, past: int, currency: str, now: Any) -> list[Cell]:
    """One customer."""
    customer, reference, score, alerts, value, last, held, reason = row
    here = entity_url("customer", customer)
    return [
        Cell(masked(reference, "CU"), masked(reference, "CU"), here),
        Cell(str(score), score, css="score"),
        Cell(reason, reason, css="cut"),
        count(alerts, here),
        money(value, currency, here),
        Cell(str(held), held, css="held" if held else "d-quiet"),
        count(past, here),
        Cell(f"{span_text((now - last).total_seconds())} ago", last.isoformat()),
        case_cell(case),
    ]


def case_cell(case: Case | None) -> Cell:
    """The case to open, with who has it."""
    if case is None:
        return text("none in your queues", raw="")
    who = (case.assignee.get_full_name() or case.assignee.get_username()) if case.assignee else "nobody"
    return Cell(case.number, case.number, reverse("admin:case", args=[case.pk]), f"{case.get_status_display()}, {who}")


def open_cases(user: Any, customers: list[int]) -> dict[int, Case]:
    """The most urgent open case of each customer, as far as the reader may see it."""
    found = open_ones(for_member(user)).filter(customer__in=customers).select_related("assignee", "queue")
    return {case.customer: case for case in found.order_by("-priority", "-due_at", "id")}


def earlier_fraud(customers: list[int]) -> dict[int, int]:
    """How many closed cases of each customer were fraud, by the index on customers."""
    fraud = Q(status="closed", disposition__in=["confirmed_fraud", "suspected_fraud"])
    found = Case.objects.filter(fraud, customer__in=customers).values_list("customer", "pk")[: TOP * 20]
    past: dict[int, int] = {}
    for customer, _ in found:
        past[customer] = past.get(customer, 0) + 1
    return past
