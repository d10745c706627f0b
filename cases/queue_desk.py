"""The queue page and the way to the next case. Views translate and call services."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from alerts.models import Alert
from cases import listing, services
from cases.listing import Address, BadAddress
from cases.querysets import for_member, queues_of, unassigned
from cases.workflow import Status
from transactions.models import Lane

MOST_COUNTED = 1000

# The queue's columns: key, class of the cell, title, sorts by, first direction.
COLUMNS = (
    ("priority", "c-pri", "Pri", ""),
    ("score", "c-score", "Score", "-"),
    ("case", "c-case", "Case", "-"),
    ("customer", "c-ent", "Customer", ""),
    ("", "c-reason", "Top reason", ""),
    ("amount", "c-amt d-num", "Amount", "-"),
    ("alerts", "c-n d-num", "Alerts", "-"),
    ("", "c-chan", "Channel", ""),
    ("", "c-cp", "Paid to", ""),
    ("", "c-land", "Country", ""),
    ("age", "c-age d-num", "Age", ""),
    ("due", "c-due", "Due", ""),
    ("", "c-st", "Status", ""),
    ("", "c-who", "Assignee", ""),
)
VIEWS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Most urgent", {}),
    ("Late", {"due": "late"}),
    ("Mine", {"assignee": "me"}),
    ("Nobody’s", {"assignee": "none"}),
    ("Waiting", {"status": "waiting"}),
    ("Escalated", {"status": "escalated"}),
    ("Closed", {"status": "closed"}),
)


@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """The cases a person may see, most urgent first; filters, order and place stand in the address."""
    address = Address.read(request.GET)
    named = _named_case(address.q, request.user)
    if named:
        return redirect("admin:case", named)
    seen = last_seen()
    try:
        found = listing.page(address, request.user)
    except BadAddress:
        return redirect(request.path + address.url(after=""))
    return admin.site.render(
        request, "cases/queue.html", _queue_context(request, address, found, seen), title=_view_title(address)
    )


def open_count(request: HttpRequest) -> int:
    """How many cases wait for somebody in the person's queues, for the rail; counted up to a bound."""
    return unassigned(for_member(request.user)).filter(status=Status.NEW)[:MOST_COUNTED].count()


def _queue_context(request: HttpRequest, address: Address, found: listing.Page, seen: dict[int, int]) -> dict[str, Any]:
    nothing = "none" in request.GET
    sides = listing.other_sides(found.rows)
    return {
        "address": address,
        "rows": [(case, sides.get(case.pk, "")) for case in found.rows],
        "more": found.more,
        "is_first": not address.after,
        "first": address.url(),
        "order_words": _order_words(address),
        "columns": [_column(address, *column) for column in COLUMNS],
        "views": [_view(address, title, parts) for title, parts in VIEWS],
        "queues": queues_of(request.user),
        "statuses": Status.choices,
        "nothing": nothing,
        "next_wake": listing.next_wake(request.user) if nothing or not found.rows else None,
        "follow": {"after": seen},
        "now": timezone.now(),
        "may_work": request.user.has_perm("cases.work_case"),
    }


def _named_case(text: str, user: Any) -> int | None:
    """The case that a search names by its number, if the person may see it."""
    match = re.fullmatch(r"[Cc]-(\d{1,18})", text)
    return for_member(user).filter(pk=int(match[1])).values_list("pk", flat=True).first() if match else None


def _column(address: Address, sort: str, css: str, title: str, first: str) -> dict[str, str]:
    if not sort:
        return {"css": css, "title": title}
    mine = address.column == sort
    now = ("descending" if address.descending else "ascending") if mine else "none"
    turned = f"-{sort}" if now == "ascending" or (now == "none" and first) else sort
    return {"css": css, "title": title, "sort": now, "url": address.url(sort="" if turned == "priority" else turned)}


def _view(address: Address, title: str, parts: dict[str, str]) -> dict[str, Any]:
    plain = Address(queue=address.queue, **parts)
    current = not address.q and plain == Address(address.queue, address.status, address.assignee, address.due)
    return {"title": title, "url": plain.url(), "current": current}


def _order_words(address: Address) -> str:
    if address.column == "priority":
        return "priority, due, score" if not address.descending else "least urgent first"
    return f"by {address.column}, {'highest or latest' if address.descending else 'lowest or earliest'} first"


def _view_title(address: Address) -> str:
    if address.q:
        return f"Search: {address.q}"
    return next((view["title"] for title, parts in VIEWS if (view := _view(address, title, parts))["current"]), "Cases")


def last_seen() -> dict[int, int]:
    """Of each lane the last alert that has a case: what comes after is new to a page made now."""
    latest = Alert.objects.filter(lane=OuterRef("pk"), in_case__isnull=False).order_by("-seq").values("seq")[:1]
    return {lane: seq or 0 for lane, seq in Lane.objects.annotate(last=Subquery(latest)).values_list("pk", "last")}


def next_case(request: HttpRequest) -> HttpResponse:
    """Claim the most urgent case and open it; with nothing to claim, the queue says when the next one wakes."""
    if request.method != "POST":
        return redirect("admin:queue")
    case = services.claim_next(request.user)
    return redirect("admin:case", case.pk) if case else redirect(reverse("admin:queue") + "?none=1")
