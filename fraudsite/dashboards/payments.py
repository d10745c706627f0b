"""The payments behind a figure: newest first, a page at a time by keyset, filters and range in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from cases.querysets import for_member, kept_from
from fraudsite.dashboards.links import entity_url, rows_url
from fraudsite.figures import Cell, Column, Span, Table, base_currency, money, rows, text
from fraudsite.templatetags.desk import masked, words
from scoring.models import SCREENINGS
from transactions.codes import CHANNEL, COUNTRY, OUTCOME, VERDICT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = 100
MOST_EXPORTED = 5_000
KINDS = ("labelled", "alerts", "decisions")
VERDICTS = ("fraud", "legitimate")
_REVIEW, _DECLINE = OUTCOME.code("review"), OUTCOME.code("decline")
_HELD_BACK = f"(outcome = {_DECLINE} OR outcome = {_REVIEW} AND resolution = 2)"
FATE_SQL = {
    "blocked": _HELD_BACK,
    "lost": f"NOT {_HELD_BACK}",
    "recovered": f"NOT {_HELD_BACK} AND returned > 0",
    "wrongly_blocked": _HELD_BACK,
    "wrongly_stopped": f"NOT {_HELD_BACK} AND outcome <> {OUTCOME.code('approve')}",
}
DETAILS = f"""
SELECT t.id, t.external_id, t.customer, t.customer_ref, t.channel, t.amount_base, d.score, d.outcome, m.verdict,
       m.resolution, a.case_id, coalesce(m.at, d.decided_at)
  FROM transaction t LEFT JOIN decision d ON d.id = t.id * {SCREENINGS} + 1
  LEFT JOIN labelled_payment m ON m.transaction_id = t.id LEFT JOIN case_alert a ON a.alert_id = t.id
 WHERE t.id = ANY(%s)
"""


@dataclass(frozen=True)
class Filters:
    """What the address asks for; what cannot be understood is left out."""

    kind: str = "labelled"
    verdict: str = ""
    outcome: str = ""
    channel: str = ""
    country: str = ""
    merchant: str = ""
    device: str = ""
    fate: str = ""
    after: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filters:
        given = {name: str(query.get(name, ""))[:40] for name in cls.__dataclass_fields__}
        return cls(
            kind=_in(given["kind"], KINDS) or "labelled",
            verdict=_in(given["verdict"], VERDICTS),
            outcome=_in(given["outcome"], ("stopped", *OUTCOME)),
            channel=_in(given["channel"], CHANNEL),
            country=_in(given["country"], COUNTRY),
            merchant=_number(given["merchant"]),
            device=_number(given["device"]),
            fate=_in(given["fate"], FATE_SQL),
            after=given["after"] if given["after"].replace(".", "", 1).isdecimal() else "",
        )

    def address(self, span: Span, **changes: str) -> str:
        """The address with some filters changed."""
        filters = {name: getattr(self, name) for name in self.__dataclass_fields__} | changes
        return rows_url(span, **filters)

    def words(self) -> list[tuple[str, str, str]]:
        """(what, value, name) of each filter that is set."""
        names = ("verdict", "outcome", "channel", "country", "merchant", "device", "fate")
        return [(words(name), words(getattr(self, name)), name) for name in names if getattr(self, name)]


def _in(value: str, allowed: Any) -> str:
    return value if value and value in allowed else ""


def _number(value: str) -> str:
    return value if value.isascii() and value.removeprefix("-").isdecimal() and len(value) <= 20 else ""


def build(request: HttpRequest, span: Span, limit: int = PAGE) -> dict[str, Any]:
    """A page of payments as a table, the filters as words, and the address of the next page."""
    filters = Filters.read(request.GET)
    found = places(filters, span, limit + 1)
    table = Table(
        "payments",
        "Payments",
        columns(base_currency()),
        lines(request.user, [each for each, _ in found[:limit]]),
        f"newest first, {limit:,} at a time",
        empty="No payment fits. Choose a longer range or fewer filters.",
    )
    more = filters.address(span, after=_cursor(*found[limit - 1])) if len(found) > limit else ""
    chips = [(what, value, filters.address(span, **{name: "", "after": ""})) for what, value, name in filters.words()]
    return {"figures": [], "plots": [], "tables": [table], "more": more, "chips": chips, "filters": filters}


def _cursor(payment: int, at: datetime) -> str:
    return f"{payment}.{(at - EPOCH) // timedelta(microseconds=1)}"


def places(filters: Filters, span: Span, limit: int) -> list[tuple[int, datetime]]:
    """(payment, when) of the newest that fit; each kind goes by an index of its own."""
    at, key, table = {
        "labelled": ("at", "transaction_id", "labelled_payment"),
        "alerts": ("raised_at", "id", "alert"),
        "decisions": ("decided_at", "transaction_id", "decision"),
    }[filters.kind]
    where = [f"{at} >= %s", f"{at} < %s"]
    values: list[Any] = [span.start, span.end]
    for condition, value in conditions(filters):
        where.append(condition)
        values += value
    if filters.after:
        payment, _, moment = filters.after.partition(".")
        if filters.kind == "decisions":  # in the order of their ids, which is that of their arrival
            where.append(f"{key} < %s")
            values.append(int(payment))
        else:
            where.append(f"({at}, {key}) < ('epoch'::timestamptz + %s * interval '1 microsecond', %s)")
            values += [int(moment or 0), int(payment)]
    order = f"{key} DESC" if filters.kind == "decisions" else f"{at} DESC, {key} DESC"
    if filters.kind == "decisions":
        where.append(f"screening = 1 AND outcome <> {OUTCOME.code('recorded')}")
    return rows(
        f"SELECT {key}, {at} FROM {table} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT %s", [*values, limit]
    )


def conditions(filters: Filters) -> list[tuple[str, list[Any]]]:
    """The filters in SQL; nothing in it comes from people but values."""
    found: list[tuple[str, list[Any]]] = []
    if filters.outcome == "stopped":
        found.append(("outcome <> %s", [OUTCOME.code("approve")]))
    elif filters.outcome:
        found.append(("outcome = %s", [OUTCOME.code(filters.outcome)]))
    if filters.kind == "decisions":
        return found
    found += [("channel = %s", [CHANNEL.code(filters.channel)])] if filters.channel else []
    found += [("country = %s", [COUNTRY.code(filters.country)])] if filters.country else []
    found += [(f"{kind} = %s", [int(value)]) for kind in ("merchant", "device") if (value := getattr(filters, kind))]
    if filters.kind == "labelled":
        found += [("verdict = %s", [VERDICT.code(filters.verdict)])] if filters.verdict else []
        found += [(FATE_SQL[filters.fate], [])] if filters.fate else []
    return found


def columns(currency: str) -> list[Column]:
    return [
        Column("When", numeric=False),
        Column("Payment", numeric=False),
        Column("Customer", numeric=False),
        Column("Channel", numeric=False),
        Column(f"Amount, {currency}"),
        Column("Score"),
        Column("Outcome", numeric=False),
        Column("Label", numeric=False),
        Column("Hold", numeric=False),
        Column("Case", numeric=False),
    ]


def lines(user: Any, payments: list[int]) -> list[list[Cell]]:
    """The payments' rows, in the order given; a case is named where the reader may open it."""
    kept = kept_from(user)
    found = {row[0]: row for row in rows(DETAILS, [payments]) if row[2] not in kept}
    asked = {row[10] for row in found.values() if row[10]}
    mine = set(for_member(user).filter(pk__in=asked).values_list("pk", flat=True)) if _sees_cases(user) else set()
    linked, currency = _sees_cases(user), base_currency()
    return [line(found[payment], mine, linked, currency) for payment in payments if payment in found]


def _sees_cases(user: Any) -> bool:
    return bool(user.has_perm("cases.view_case"))


def line(row: tuple[Any, ...], mine: set[int], linked: bool, currency: str) -> list[Cell]:
    """One payment."""
    payment, external, customer, reference, channel, amount, score, outcome, verdict, resolution, case, at = row
    here = reverse("admin:transactions_transaction_change", args=[payment])
    return [
        Cell(f"{timezone.localtime(at):%Y-%m-%d %H:%M}" if at else "–", at.isoformat() if at else ""),
        Cell(external, external, here, css="cut"),
        Cell(masked(reference, "CU"), masked(reference, "CU"), entity_url("customer", customer) if linked else ""),
        text(words(CHANNEL.text(channel))),
        money(amount, currency),
        Cell(str(score), score, css="score") if score is not None and score >= 0 else text("–", raw=""),
        text(words(OUTCOME.text(outcome)) if outcome else "undecided"),
        text(words(VERDICT.text(verdict)) if verdict else "–"),
        text({1: "released", 2: "blocked"}.get(resolution or 0, "–")),
        Cell(f"C-{case}", f"C-{case}", reverse("admin:case", args=[case])) if case in mine else text("–", raw=""),
    ]
