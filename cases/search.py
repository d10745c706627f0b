"""One box finds a case: by its number, a payment (our id or the bank's own), a customer, or a card's last four digits.

Each way is a statement of its own with an index to go by; together in one they would read every case.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.models import QuerySet

from alerts.models import Alert
from cases.cursors import number
from cases.models import Case, CaseAlert, CaseCard
from cases.querysets import for_member
from transactions.codes import entity_key
from transactions.models import ApiClient, TransactionKey

MOST_FOUND = 200  # newest cases of each way


def find(text: str) -> set[int]:
    """The cases that a text may mean, whoever may see them: the caller narrows them to a person's own."""
    customer = entity_key("customer", text)
    found = _newest(Case.objects.filter(customer=customer), "pk")
    found |= _of_payments(Alert.objects.filter(customer=customer).order_by("-pk").values("pk")[:MOST_FOUND])
    found |= _of_payments(_by_external_id(text))
    named = number(text.upper().removeprefix("C-"))
    if named:
        found |= {named} | _of_payments([named])
    if re.fullmatch(r"[0-9]{4}", text):
        cards = CaseCard.objects.filter(last4=text).order_by("-row").values("row")[:MOST_FOUND]
        found |= _of_payments(cards)
    return found


def named_case(text: str, user: Any) -> int | None:
    """The case that a text names by its full number (C-48213), if the person may see it."""
    match = re.fullmatch(r"[Cc]-(\d{1,18})", text)
    return for_member(user).filter(pk=int(match[1])).values_list("pk", flat=True).first() if match else None


def kind(text: str) -> str:
    """What a text looks like, for the record of who searched what: the text itself may name a customer."""
    if re.fullmatch(r"[Cc]-\d+", text):
        return "case"
    if text.isascii() and text.isdigit():
        return "card" if len(text) == 4 else "number"
    return "reference"


def _newest(rows: QuerySet[Any], name: str) -> set[int]:
    return set(rows.order_by("-pk").values_list(name, flat=True)[:MOST_FOUND])


def _of_payments(ids: Any) -> set[int]:
    return _newest(CaseAlert.objects.filter(pk__in=ids), "case")


def _by_external_id(text: str) -> list[int]:
    """Payments that some client of the bank calls so."""
    clients = dict(ApiClient.objects.values_list("pk", "lane"))
    if not clients or len(text) > 64:
        return []
    keys = TransactionKey.objects.filter(lane__in=set(clients.values()), client__in=clients, external_id=text)
    return list(keys.values_list("pk", flat=True))
