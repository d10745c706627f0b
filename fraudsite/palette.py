"""What the command palette finds on the server: cases by number, customer, payment or card, and customers themselves.

Each provider is bounded and goes by an index; what a person may not open they do not find.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.db.transaction import atomic
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from cases import search, sightings
from cases.entities import lanes_of
from cases.models import Case
from cases.querysets import for_member, kept_from
from transactions.codes import entity_key
from transactions.masks import masked
from transactions.models import Transaction

MOST = 6  # of each kind
LONGEST = 64
PATIENCE = 300  # milli-seconds that a query may take; the palette is no place to wait
CASE_NUMBER = re.compile(r"^c?-?(\d{1,18})$", re.IGNORECASE)

Found = list[dict[str, str]]


@require_GET
def find(request: HttpRequest) -> HttpResponse:
    """`/desk/find/?q=`: what has this number or name, as the palette shows it."""
    text = request.GET.get("q", "").strip().replace("\x00", "")[:LONGEST]
    if not text or not request.user.has_perm("cases.view_case"):
        return JsonResponse({"found": []})
    try:
        entries = found(request.user, text)
    except DatabaseError:
        return JsonResponse({"found": [], "late": True}, status=503)
    if entries:
        sightings.saw(request, "searched", kind=search.kind(text), found=len(entries))
    return JsonResponse({"found": entries})


@atomic
def found(user: Any, text: str) -> Found:
    """Commands that lead to what was found. Raises DatabaseError if it takes too long."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE)])
    entries = [entry for provider in PROVIDERS for entry in provider(user, text)]
    return list({entry["url"]: entry for entry in entries}.values())


def by_number(user: Any, text: str) -> Found:
    """The case of this number."""
    match = CASE_NUMBER.match(text)
    return _cases(for_member(user).filter(pk=int(match[1]))) if match else []


def by_name(user: Any, text: str) -> Found:
    """Cases of a customer, of a payment by the bank's name for it, or of a card's last digits."""
    return _cases(for_member(user).filter(pk__in=search.find(text)))


def customers(user: Any, text: str) -> Found:
    """The customer of exactly this reference, if a payment of theirs is in a lane that the person sees."""
    key = entity_key("customer", text)
    lane = Transaction.objects.filter(customer=key, lane__in=lanes_of(user)).values_list("lane", flat=True).first()
    if lane is None or key in kept_from(user):
        return []
    url = f"{reverse('admin:entity', args=['customer', str(key)])}?lane={lane}"
    label = f"Customer {masked(text, 'CU')}"
    return [{"label": label, "hint": "everything of this customer", "icon": "user-round", "url": url}]


PROVIDERS: tuple[Callable[[Any, str], Found], ...] = (by_number, customers, by_name)


def _cases(cases: QuerySet[Case]) -> Found:
    return [
        {
            "label": f"{case.number} · {masked(case.customer_ref, 'CU')}",
            "hint": f"{case.get_status_display()}, P{case.priority}",
            "icon": "inbox",
            "url": reverse("admin:case", args=[case.pk]),
        }
        for case in cases.order_by("-pk")[:MOST]
    ]
