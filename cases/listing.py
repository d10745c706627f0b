"""The queue's list: what its address says (filters, order, place) turned into rows. Keyset pages, no COUNT.

Open cases are few (ten thousand) and every filter over them is a scan of one partial index. Closed ones are many: with
a filter or an order that no index serves, the list looks through the `LOOKED_THROUGH` closed last, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from cases import cursors, search
from cases.models import Case, CaseAlert
from cases.querysets import URGENCY, for_member, open_ones
from cases.workflow import Disposition, Status
from transactions.codes import CHANNEL, CURRENCY, EXPONENT
from transactions.masks import masked
from transactions.models import Lane

PAGE = 50
LOOKED_THROUGH = 20_000
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
MOST_VALUES = 20  # of one filter
# What each sorting column orders by; the id makes every order total.
SORTS: dict[str, tuple[str, ...]] = {
    "priority": URGENCY,
    "score": ("score", "id"),
    "case": ("id",),
    "customer": ("customer_ref", "id"),
    "amount": ("amount_base", "id"),
    "alerts": ("alert_count", "id"),
    "age": ("opened_at", "id"),
    "due": ("due_at", "id"),
    "closed": ("closed_at", "id"),
}
LATE, TODAY, LATER = "late", "today", "later"
YES, NO = "yes", "no"
TAG = re.compile(r"[\w .:/-]{1,30}")


class BadAddress(ValueError):
    """The address says something that no list has."""


# --- reading the address ----------------------------------------------------------------------------------------------


def _one_of(*values: str) -> Callable[[str], str]:
    return lambda text: text if text in values else ""


def _many(fits: Callable[[str], bool]) -> Callable[[str], str]:
    """Several values with commas between them; what does not fit is left out."""

    def clean(text: str) -> str:
        parts = dict.fromkeys(part.strip() for part in text.split(",")[:MOST_VALUES])
        return ",".join(part for part in parts if part and fits(part))

    return clean


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text, re.ASCII) is not None


def _text(pattern: str) -> Callable[[str], str]:
    return lambda text: text if re.fullmatch(pattern, text, re.ASCII) else ""


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def _sort(text: str) -> str:
    return text if text.removeprefix("-") in SORTS else ""


def _countries(text: str) -> str:
    return _many(_matches(r"[A-Z]{2}"))(text.upper())


# How each part of the address is understood.
PARTS: dict[str, Callable[[str], str]] = {
    "queue": _many(_matches(r"[\w-]{1,40}")),
    "status": _many(lambda text: text in Status),
    "assignee": _text(r"me|none|any|\d{1,9}"),
    "score_from": _text(r"\d{1,4}"),
    "score_to": _text(r"\d{1,4}"),
    "amount_from": _text(r"\d{1,12}(\.\d{1,3})?"),
    "amount_to": _text(r"\d{1,12}(\.\d{1,3})?"),
    "currency": lambda text: text.upper() if text.upper() in CURRENCY else "",
    "reason": _text(r"[\w.-]{1,40}"),
    "channel": _many(lambda text: text in CHANNEL),
    "mcc": _many(_matches(r"\d{4}")),
    "country": _countries,
    "tag": lambda text: text if TAG.fullmatch(text) else "",
    "due": _one_of(LATE, TODAY, LATER),
    "since": _day,
    "until": _day,
    "outcome": _many(lambda text: text in Disposition),
    "snoozed": _one_of(YES, NO),
    "q": lambda text: text[:140].replace("\x00", ""),
    "sort": _sort,
    "after": lambda text: text[:400],
}
FILTERS = tuple(name for name in PARTS if name not in ("q", "sort", "after"))
UNINDEXED = tuple(name for name in FILTERS if name not in ("queue", "status", "since", "until"))


@dataclass(frozen=True)
class Address:
    """The queue page's address, understood. Empty text: not filtered."""

    queue: str = ""
    status: str = ""
    assignee: str = ""
    score_from: str = ""
    score_to: str = ""
    amount_from: str = ""
    amount_to: str = ""
    currency: str = ""
    reason: str = ""
    channel: str = ""
    mcc: str = ""
    country: str = ""
    tag: str = ""
    due: str = ""
    since: str = ""
    until: str = ""
    outcome: str = ""
    snoozed: str = ""
    q: str = ""
    sort: str = ""
    after: str = ""

    @classmethod
    def read(cls, query: Mapping[str, Any]) -> Address:
        """From a query string (repeated names are several values); what cannot be understood is left out."""
        several = getattr(query, "getlist", None)
        given = {name: ",".join(several(name)) if several else str(query.get(name, "")) for name in PARTS}
        return cls(**{name: clean(given[name].strip()) for name, clean in PARTS.items()})

    @property
    def column(self) -> str:
        """The column the list is ordered by."""
        return self.sort.lstrip("-") or ("closed" if self.only_closed else "priority")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-") or (not self.sort and self.only_closed)

    @property
    def only_closed(self) -> bool:
        """A disposition is only a closed case's."""
        return self.status == Status.CLOSED or (bool(self.outcome) and not self.status)

    @property
    def may_be_closed(self) -> bool:
        return self.only_closed or Status.CLOSED in self.status.split(",") or (bool(self.q) and not self.status)

    def order(self) -> list[tuple[str, bool]]:
        """The order as (field, descending) pairs."""
        return [(name.lstrip("-"), name.startswith("-") != self.descending) for name in SORTS[self.column]]

    @property
    def is_partial(self) -> bool:
        """Whether only the cases closed last are looked through."""
        if self.q or not self.may_be_closed:
            return False
        served = self.only_closed and self.column == "closed"
        return not served or any(getattr(self, name) for name in UNINDEXED if name != "outcome")

    def url(self, **changes: str) -> str:
        """The query string of this address with some parts changed; every change goes back to the first page."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)} | {"after": ""} | changes
        return "?" + urlencode({name: value for name, value in parts.items() if value}, safe=",")

    @property
    def plain(self) -> Address:
        """The same list from its beginning: what a view keeps."""
        return replace(self, after="")

    @property
    def without_search(self) -> str:
        """The same list without the search."""
        return self.url(q="")

    @property
    def is_filtered(self) -> bool:
        return bool(self.q) or any(getattr(self, name) for name in FILTERS)

    def several(self, name: str) -> list[str]:
        """The values of a part that takes several."""
        return [value for value in getattr(self, name).split(",") if value]


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """The rows of one page, and the address of the next (empty: this is the last)."""

    rows: list[Case]
    more: str


def page(address: Address, user: Any) -> Page:
    """The cases that the address asks for and the person may see. Raises BadAddress for a place that cannot be."""
    order = address.order()
    names = [f"-{name}" if descending else name for name, descending in order]
    cases = matching(address, user)
    if address.after:
        cases = cases.filter(_beyond(order, _place(address.after, order)))
    found = cases.order_by(*names).values("pk")[: PAGE + 1]  # sorted as keys: whole rows of thousands are wide
    related = Case.objects.select_related("queue", "assignee", "lane")
    rows = list(related.filter(pk__in=found).order_by(*names))
    more = address.url(after=_cursor(rows[PAGE - 1], order)) if len(rows) > PAGE else ""
    return Page(rows[:PAGE], more)


def matching(address: Address, user: Any) -> QuerySet[Case]:
    """All cases that the address asks for and the person may see, in no order; bounded where an index cannot help."""
    cases = _by_status(for_member(user), address)
    if address.is_partial:
        cases = _among_the_last(cases, address)
    if address.q:
        cases = cases.filter(pk__in=search.find(address.q))
    return _narrowed(cases, address, user)


def _by_status(cases: QuerySet[Case], address: Address) -> QuerySet[Case]:
    if not address.may_be_closed:
        cases = open_ones(cases)  # names the predicate of the partial indexes
    if address.only_closed:
        cases = cases.filter(status=Status.CLOSED)
    elif address.status:
        cases = cases.filter(status__in=address.several("status"))
    if address.queue:
        cases = cases.filter(queue__slug__in=address.several("queue"))
    return cases.filter(**_days(address))


def _days(address: Address) -> dict[str, datetime]:
    """The days asked for: of the opening, or of the closing where only closed cases are."""
    name, bounds = ("closed_at" if address.only_closed else "opened_at"), {}
    if address.since:
        bounds[f"{name}__gte"] = _midnight(date.fromisoformat(address.since))
    if address.until:
        bounds[f"{name}__lt"] = _midnight(date.fromisoformat(address.until)) + timedelta(days=1)
    return bounds


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _among_the_last(cases: QuerySet[Case], address: Address) -> QuerySet[Case]:
    """The open ones of these, and those of them that are among the closed last.

    A bound on the time, not a list of cases: so the index on it is walked, and only as far as the page needs.
    """
    closed = cases.filter(status=Status.CLOSED).order_by("-closed_at").values("closed_at")
    since = Coalesce(Subquery(closed[LOOKED_THROUGH - 1 : LOOKED_THROUGH]), Value(LONG_AGO))
    last = Q(status=Status.CLOSED, closed_at__gte=since)
    return cases.filter(last if address.only_closed else last | ~Q(status=Status.CLOSED))


def _narrowed(cases: QuerySet[Case], address: Address, user: Any) -> QuerySet[Case]:
    """What stands in the case itself, then what stands in its alerts."""
    conditions = _of_people(address, user) & _of_money(address) & _of_time(address)
    for name, column in (("channel", "channel"), ("country", "country"), ("outcome", "disposition")):
        if getattr(address, name):
            conditions &= Q(**{f"{column}__in": address.several(name)})
    if address.tag:
        conditions &= Q(tags__contains=[address.tag]) & ~Q(tags=[])  # the second names the index's predicate
    for inside in _of_alerts(address):
        conditions &= Q(Exists(inside.filter(case=OuterRef("pk"))))
    return cases.filter(conditions)


def _of_people(address: Address, user: Any) -> Q:
    named: dict[str, Q] = {
        "": Q(),
        "me": Q(assignee=user),
        "none": Q(assignee__isnull=True),
        "any": Q(assignee__isnull=False),
    }
    return named[address.assignee] if address.assignee in named else Q(assignee=int(address.assignee))


def _of_money(address: Address) -> Q:
    """The score; and the amount in its own currency if one is named, else all of the case in the base currency."""
    found = Q()
    for name, bound in (("from", "gte"), ("to", "lte")):
        score, amount = getattr(address, f"score_{name}"), getattr(address, f"amount_{name}")
        if score:
            found &= Q(**{f"score__{bound}": int(score)})
        if amount:
            column = "amount" if address.currency else "amount_base"
            unit = 10 ** EXPONENT.get(address.currency or base_currency(), 2)
            found &= Q(**{f"{column}__{bound}": round(float(amount) * unit)})
    return found & Q(currency=address.currency) if address.currency else found


def base_currency() -> str:
    """The currency in which amounts without one are meant: the lanes' own, which share one in practice."""
    return Lane.objects.order_by("pk").values_list("base_currency", flat=True).first() or "EUR"


def _of_time(address: Address) -> Q:
    now = timezone.now()
    tomorrow = _midnight(timezone.localdate() + timedelta(days=1))
    due = {
        "": Q(),
        LATE: Q(due_at__lt=now),
        TODAY: Q(due_at__gte=now, due_at__lt=tomorrow),
        LATER: Q(due_at__gte=tomorrow),
    }[address.due]
    if address.due:
        due &= ~Q(status=Status.CLOSED)
    asleep = Q(status=Status.WAITING)
    return due & {"": Q(), YES: asleep, NO: ~asleep}[address.snoozed]


def _of_alerts(address: Address) -> list[QuerySet[CaseAlert]]:
    """What a case must have among its alerts, one condition each."""
    found = []
    if address.reason:
        said = Q(alert__reasons__contains=[{"code": address.reason}])
        found.append(CaseAlert.objects.filter(said | Q(alert__rules__contains=[{"rule": address.reason}])))
    if address.mcc:
        codes = [int(code) for code in address.several("mcc")]
        found.append(CaseAlert.objects.filter(alert__transaction__mcc__in=codes))
    return found


# --- places -----------------------------------------------------------------------------------------------------------


def _beyond(order: list[tuple[str, bool]], place: list[Any]) -> Q:
    """Rows after a place in a mixed order: (a > x) or (a = x and b < y) or …"""
    first, bound = order[0][0], "lte" if order[0][1] else "gte"
    condition, equal = Q(), Q()
    for (name, descending), value in zip(order, place, strict=True):
        condition |= equal & Q(**{f"{name}__{'lt' if descending else 'gt'}": value})
        equal &= Q(**{name: value})
    return condition & Q(**{f"{first}__{bound}": place[0]})  # tells the index where to begin


def _cursor(case: Case, order: list[tuple[str, bool]]) -> str:
    values = [getattr(case, name) for name, _ in order]
    return cursors.text_of(values)


def _place(cursor: str, order: list[tuple[str, bool]]) -> list[Any]:
    try:
        values = cursors.values_of(cursor, list[str | int])
        place = [_value(name, value) for (name, _), value in zip(order, values, strict=True)]
    except ValueError:
        raise BadAddress("This place in the list cannot be.") from None
    return place


def _value(name: str, value: str | int) -> Any:
    if name.endswith("_at"):
        return datetime.fromisoformat(str(value))
    return str(value) if name == "customer_ref" else int(value)


# --- beside the rows --------------------------------------------------------------------------------------------------


def next_wake(user: Any) -> datetime | None:
    """When the next sleeping case of the person's queues wakes."""
    sleeping = for_member(user).filter(status=Status.WAITING, wake_at__isnull=False)
    return sleeping.order_by("wake_at").values_list("wake_at", flat=True).first()


def count(cases: QuerySet[Case], most: int) -> int:
    """How many there are, counted up to `most` + 1: a bounded look, never a COUNT over all."""
    return cases.order_by()[: most + 1].count()


# Of each case the highest of its newest alerts (an incident has hundreds), and only those payments' documents are taken
# apart.
SIDES = """
SELECT c.id, d.document::jsonb #>> '{merchant,name}', d.document::jsonb #>> '{counterparty,id}',
       d.document::jsonb #>> '{counterparty,country}', d.document::jsonb #>> '{device,id}'
  FROM unnest(%s::bigint[]) AS c (id)
 CROSS JOIN LATERAL (SELECT a.id FROM (SELECT alert_id FROM case_alert WHERE case_id = c.id
                                        ORDER BY alert_id DESC LIMIT 20) m
                       JOIN alert a ON a.id = m.alert_id ORDER BY a.score DESC, a.id DESC LIMIT 1) a
  JOIN transaction_detail d ON d.id = a.id"""


@dataclass(frozen=True)
class Side:
    """Who was paid by a case's highest alert, and with which device; masked but for merchants."""

    paid: str = ""
    merchant: str = ""
    device: str = ""


def other_sides(cases: list[Case]) -> dict[int, Side]:
    """Of each case, the other side of its highest alert; of one with very many, among the newest."""
    with connection.cursor() as cursor:
        cursor.execute(SIDES, [[case.pk for case in cases]])
        rows = cursor.fetchall()
    return {
        case: Side(merchant or _payee(payee, country), merchant or "", masked(device))
        for case, merchant, payee, country, device in rows
    }


def _payee(token: str | None, country: str | None) -> str:
    return f"{country or ''}{masked(token)}" if token else ""
