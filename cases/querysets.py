"""Reading cases: who may see which, and in what order they are worked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BooleanField, F, Func, OuterRef, Q, QuerySet, Subquery

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
    """The cases of the queues the person may see; those of customers they are kept from are not among them."""
    if sees_everything(user):
        return without_kept(Case.objects.all(), user)
    return without_kept(Case.objects.filter(IsAnyOf(F("queue"), ArraySubquery(mine(user)))), user)


def mine(user: Any) -> QuerySet[Any]:
    """The ids of the queues a person is a member of, as a subquery."""
    return Queue.members.through.objects.filter(user=user.pk).values("queue_id")


class IsAnyOf(Func):
    """Whether a column is one of an array's values.

    A few queues hold nearly all cases, so lists must go by the index of their own order. With an array Postgres does;
    with `IN (SELECT …)` it would read, queue by queue, all cases that were ever closed.
    """

    template = "(%(expressions)s))"
    arg_joiner = " = ANY("
    output_field = BooleanField()


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


def kept_from(user: Any) -> frozenset[int]:
    """The customers (entity keys) of whom a person sees nothing: relatives, own accounts."""
    return frozenset(Exclusion.objects.filter(user=user.pk).values_list("customer", flat=True))


def without_kept(cases: QuerySet[Case], user: Any) -> QuerySet[Case]:
    """Without cases that concern a customer the person is kept from, be it by one of many alerts.

    Both conditions are asked once for a statement, by indexes, and find nothing for nearly everybody.
    """
    return cases.exclude(customer__in=_kept(user)).exclude(pk__in=concerning_kept(user))


def concerning_kept(user: Any) -> QuerySet[CaseAlert]:
    """The keys of the cases with an alert of a customer the person is kept from, as a subquery."""
    return CaseAlert.objects.filter(alert__customer__in=_kept(user)).values("case")


def _kept(user: Any) -> QuerySet[Exclusion]:
    return Exclusion.objects.filter(user=user.pk).values("customer")


def without_conflicts(cases: QuerySet[Case], user: Any) -> QuerySet[Case]:
    """Without cases of customers the person is kept from, and those whose last approval they asked for."""
    last = Approval.objects.filter(case=OuterRef("pk")).order_by("-pk").values("maker")[:1]
    cases = cases.annotate(last_maker=Subquery(last)).filter(Q(last_maker__isnull=True) | ~Q(last_maker=user.pk))
    return without_kept(cases, user)


def case_ids_of(transaction_ids: Iterable[int]) -> dict[int, int]:
    """The case of each payment that has one: {transaction id: case id}."""
    found = CaseAlert.objects.filter(pk__in=list(transaction_ids)).values_list("pk", "case_id")
    return dict(found)
