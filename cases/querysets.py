"""Reading cases: who may see which, and in what order they are worked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from cases.models import Approval, Case, CaseAlert, Exclusion, Queue
from cases.workflow import Status

URGENCY = ("priority", "due_at", "-score", "id")


def queues_of(user: Any) -> QuerySet[Queue]:
    """The queues a person is a member of; who leads queues or audits sees them all."""
    if sees_everything(user):
        return Queue.objects.all()
    return Queue.objects.filter(members=user)


def sees_everything(user: Any) -> bool:
    """An auditor reads all and works nothing: the right to see cases without the right to work them."""
    return user.has_perm("cases.view_case") and not user.has_perm("cases.work_case")


def for_member(user: Any) -> QuerySet[Case]:
    """The cases of the queues the person may see."""
    if sees_everything(user):
        return Case.objects.all()
    return Case.objects.filter(queue__in=Queue.objects.filter(members=user).values("pk"))


def open_ones(cases: QuerySet[Case] | None = None) -> QuerySet[Case]:
    """Not closed."""
    return (Case.objects.all() if cases is None else cases).exclude(status=Status.CLOSED)


def unassigned(cases: QuerySet[Case] | None = None) -> QuerySet[Case]:
    """Open and nobody's."""
    return open_ones(cases).filter(assignee__isnull=True)


def overdue(now: datetime, cases: QuerySet[Case] | None = None) -> QuerySet[Case]:
    """Open and late."""
    return open_ones(cases).filter(due_at__lt=now)


def by_urgency(cases: QuerySet[Case]) -> QuerySet[Case]:
    """Most urgent first: priority, due, score, then age, so that the order is total."""
    return cases.order_by(*URGENCY)


def kept_from(user: Any) -> list[int]:
    """The customers (entity keys) whose cases a person never gets: relatives, own accounts."""
    return list(Exclusion.objects.filter(user=user).values_list("customer", flat=True))


def without_conflicts(cases: QuerySet[Case], user: Any) -> QuerySet[Case]:
    """Without cases that concern a customer the person is kept from, and those whose last approval they asked for."""
    last = Approval.objects.filter(case=OuterRef("pk")).order_by("-pk").values("maker")[:1]
    cases = cases.annotate(last_maker=Subquery(last)).filter(Q(last_maker__isnull=True) | ~Q(last_maker=user.pk))
    customers = kept_from(user)
    if not customers:
        return cases
    theirs = CaseAlert.objects.filter(case=OuterRef("pk"), alert__customer__in=customers)
    return cases.exclude(customer__in=customers).exclude(Exists(theirs))


def case_ids_of(transaction_ids: Iterable[int]) -> dict[int, int]:
    """The case of each payment that has one: {transaction id: case id}."""
    found = CaseAlert.objects.filter(pk__in=list(transaction_ids)).values_list("pk", "case_id")
    return dict(found)
