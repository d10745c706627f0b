"""The queue's list: what its address says (filters, order, place) turned into rows. Keyset pages, no COUNT."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.db.models import Q, QuerySet
from django.utils import timezone

from cases.models import Case, CaseAlert
from cases.querysets import URGENCY, for_member, open_ones, overdue
from cases.workflow import Status
from transactions.codes import entity_key
from transactions.models import ApiClient, TransactionKey

PAGE = 50
MOST_FOUND = 200
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
ASSIGNEES = ("me", "none")
LATE = "late"


class BadAddress(ValueError):
    """The address says something that no list has."""


@dataclass(frozen=True)
class Address:
    """The queue page's address, understood. Empty text: not filtered."""

    queue: str = ""
    status: str = ""
    assignee: str = ""
    due: str = ""
    q: str = ""
    sort: str = ""
    after: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Address:
        """From the query string; what cannot be understood is left out."""
        values = {name: str(query.get(name, "")).strip() for name in cls.__dataclass_fields__}
        if values["status"] not in Status:
            values["status"] = ""
        if values["assignee"] not in ASSIGNEES:
            values["assignee"] = ""
        if values["sort"].lstrip("-") not in SORTS:
            values["sort"] = ""
        values["due"] = LATE if values["due"] == LATE else ""
        values["q"] = values["q"][:140].replace("\x00", "")
        return cls(**values)

    @property
    def column(self) -> str:
        """The column the list is ordered by."""
        return self.sort.lstrip("-") or ("closed" if self.status == Status.CLOSED else "priority")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-") or (not self.sort and self.status == Status.CLOSED)

    def order(self) -> list[tuple[str, bool]]:
        """The order as (field, descending) pairs."""
        return [(name.lstrip("-"), name.startswith("-") != self.descending) for name in SORTS[self.column]]

    def url(self, **changes: str) -> str:
        """The query string of this address with some parts changed; every change goes back to the first page."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"after": ""} | changes
        return "?" + urlencode({name: value for name, value in parts.items() if value})

    @property
    def without_search(self) -> str:
        """The same list without the search."""
        return self.url(q="")

    @property
    def is_filtered(self) -> bool:
        return any((self.queue, self.status, self.assignee, self.due, self.q))


@dataclass(frozen=True)
class Page:
    """The rows of one page, and the address of the next (empty: this is the last)."""

    rows: list[Case]
    more: str


def page(address: Address, user: Any) -> Page:
    """The cases that the address asks for and the person may see. Raises BadAddress for a place that cannot be."""
    cases = _filtered(address, user).select_related("queue", "assignee", "lane")
    order = address.order()
    cases = cases.order_by(*[f"-{name}" if descending else name for name, descending in order])
    if address.after:
        cases = cases.filter(_beyond(order, _place(address.after, order)))
    rows = list(cases[: PAGE + 1])
    more = address.url(after=_cursor(rows[PAGE - 1], order)) if len(rows) > PAGE else ""
    return Page(rows[:PAGE], more)


def _filtered(address: Address, user: Any) -> QuerySet[Case]:
    cases = for_member(user)
    if address.status:
        cases = cases.filter(status=address.status)
    elif not address.q:
        cases = open_ones(cases)
    if address.queue:
        cases = cases.filter(queue__slug=address.queue)
    if address.assignee:
        cases = cases.filter(assignee=user) if address.assignee == "me" else cases.filter(assignee__isnull=True)
    if address.due:
        cases = overdue(timezone.now(), cases)
    return cases.filter(pk__in=_found(address.q)) if address.q else cases


def _found(text: str) -> set[int]:
    """Cases by case number, customer, payment (our id or the bank's own) or the last four digits of a card.

    Each way is a query of its own with an index to go by; together in one they would read every case.
    """
    found = set(_newest(Case.objects.filter(customer=entity_key("customer", text)), "pk"))
    found |= set(_newest(CaseAlert.objects.filter(pk__in=_payments(text)), "case"))
    digits = text.upper().removeprefix("C-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        found |= {int(digits)} | set(_newest(CaseAlert.objects.filter(pk=int(digits)), "case"))
        if len(digits) == 4:
            cards = CaseAlert.objects.exclude(case__status=Status.CLOSED)
            found |= set(_newest(cards.filter(alert__transaction__detail__document__card__last4=digits), "case"))
    return found


def _newest(rows: QuerySet[Any], name: str) -> list[int]:
    return list(rows.order_by("-pk").values_list(name, flat=True)[:MOST_FOUND])


def _payments(external_id: str) -> list[int]:
    """Payments that some client of the bank calls so."""
    clients = dict(ApiClient.objects.values_list("pk", "lane"))
    if not clients or len(external_id) > 64:
        return []
    keys = TransactionKey.objects.filter(lane__in=set(clients.values()), client__in=clients, external_id=external_id)
    return list(keys.values_list("pk", flat=True))


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
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def _place(cursor: str, order: list[tuple[str, bool]]) -> list[Any]:
    try:
        values = msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[str | int])
        place = [_value(name, value) for (name, _), value in zip(order, values, strict=True)]
    except (ValueError, msgspec.DecodeError):
        raise BadAddress("This place in the list cannot be.") from None
    return place


def _value(name: str, value: str | int) -> Any:
    if name.endswith("_at"):
        return datetime.fromisoformat(str(value))
    return str(value) if name == "customer_ref" else int(value)


def next_wake(user: Any) -> datetime | None:
    """When the next sleeping case of the person's queues wakes."""
    sleeping = for_member(user).filter(status=Status.WAITING, wake_at__isnull=False)
    return sleeping.order_by("wake_at").values_list("wake_at", flat=True).first()


def other_sides(cases: list[Case]) -> dict[int, str]:
    """Of each case, who was paid by its highest alert: the merchant's name, or the counterparty masked."""
    parts = CaseAlert.objects.filter(case__in=cases).order_by("case", "-alert__score", "-pk").distinct("case")
    rows = parts.values_list(
        "case",
        "alert__transaction__detail__document__merchant__name",
        "alert__transaction__detail__document__counterparty__id",
        "alert__transaction__detail__document__counterparty__country",
    )
    return {case: name or _payee(token, country) for case, name, token, country in rows}


def _payee(token: str | None, country: str | None) -> str:
    return f"{country or ''}•• {token[-4:] if len(token) > 4 else ''}".strip() if token else ""
