"""Windows over stored payments: what a client may see, and slices of the past. All lead by an index or the primary
key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from transactions.codes import entity_key
from transactions.models import ApiClient, Lane, Transaction, TransactionDetail, TransactionKey


def of_client(client: ApiClient) -> QuerySet[Transaction]:
    """Payments that this client sent, in its own lane."""
    return Transaction.objects.filter(lane=client.lane_id, client=client.pk)


def by_external_id(client: ApiClient, external_id: str) -> Transaction | None:
    """The client's payment of that natural key."""
    ids = ids_by_external_id(client, [external_id])
    return of_client(client).filter(pk=ids[external_id]).first() if ids else None


def ids_by_external_id(client: ApiClient, external_ids: Iterable[str]) -> dict[str, int]:
    """The ids of those natural keys that the client has used."""
    keys = TransactionKey.objects.filter(lane=client.lane_id, client=client.pk, external_id__in=list(external_ids))
    return dict(keys.values_list("external_id", "id"))


def ids_of_term(term: str, most: int = 1000) -> list[int]:
    """Payments that a person may mean: by our id, by a bank's own id, or a customer's newest; each by an index."""
    found = [int(term)] if term.isdecimal() and len(term) < 19 else []
    names = TransactionKey.objects.filter(lane__in=_all(Lane), client__in=_all(ApiClient), external_id=term)
    found += names.values_list("id", flat=True)
    own = Transaction.objects.filter(customer=entity_key("customer", term)).order_by("-id")
    return found + list(own.values_list("pk", flat=True)[:most])


def _all(model: type[Lane] | type[ApiClient]) -> list[int]:
    """Every id of a small table: the leading columns of an index."""
    return list(model.objects.values_list("pk", flat=True))


def for_customer(lane_id: int, customer: str) -> QuerySet[Transaction]:
    """A customer's payments, newest first; `customer` is the bank's own id."""
    return Transaction.objects.filter(customer=entity_key("customer", customer), lane=lane_id).order_by("-id")


def before(payments: QuerySet[Transaction], at: datetime) -> QuerySet[Transaction]:
    """Those that had been accepted by `at`."""
    return payments.filter(received_at__lt=at)


def within(payments: QuerySet[Transaction], *, hours: float) -> QuerySet[Transaction]:
    """Those that happened in the last `hours`."""
    return payments.filter(occurred_at__gte=timezone.now() - timedelta(hours=hours))


def document_of(transaction_id: int) -> dict[str, Any] | None:
    """The canonical document of a payment; None once it was erased."""
    return TransactionDetail.objects.filter(pk=transaction_id).values_list("document", flat=True).first()
