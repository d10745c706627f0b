"""The queue page: its list, the preview beside it, and the way to the next case. Views translate and call services.

Filters, order and place stand in the address. What a page needs only now and then (filters, views, preview, counts) is
fetched when it is asked for, as a piece of a page; without a script each of them is a page of its own.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import connection
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from cases import bulk, handover, listing, preview, saved, services, sightings
from cases.case_desk import readable
from cases.chips import chips
from cases.cursors import number
from cases.listing import Address, BadAddress
from cases.models import Case, Queue
from cases.pieces import is_piece
from cases.querysets import for_member, queues_of, unassigned
from cases.search import kind, named_case
from cases.workflow import CaseError, Status

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
# The views that everybody has. The first names its order, so that it is not the bare page, which opens one's default.
VIEWS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Most urgent", {"sort": "priority"}),
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
    opens_with = saved.default_of(request.user) if not request.GET else None
    if opens_with:
        return redirect(f"{request.path}?{opens_with.address or 'sort=priority'}")
    if address.q:
        sightings.saw(request, "searched", place="queue", kind=kind(address.q))
    named = named_case(address.q, request.user)
    if named:
        return redirect("admin:case", named)
    seen = last_seen()
    try:
        found = listing.page(address, request.user)
    except BadAddress:
        return redirect(request.path + address.url(after=""))
    context = _rows_context(request, address, found, seen)
    if is_piece(request):
        return render(request, "cases/queue/list.html", context)
    context |= _page_context(request, address)
    return admin.site.render(request, "cases/queue.html", context, title=context["view_title"])


def waiting_cases(request: HttpRequest) -> QuerySet[Case]:
    """The cases that wait for somebody in the person's queues, for the rail."""
    return unassigned(for_member(request.user)).filter(status=Status.NEW)


def _rows_context(request: HttpRequest, address: Address, found: listing.Page, seen: dict[int, int]) -> dict[str, Any]:
    nothing = "none" in request.GET
    sides = listing.other_sides(found.rows) if found.rows else {}
    return {
        "user": request.user,
        "address": address,
        "rows": [(case, sides.get(case.pk, listing.Side())) for case in found.rows],
        "groups_otherwise": any(case.queue.grouping != Queue.Grouping.CUSTOMER for case in found.rows),
        "more": found.more,
        "is_first": not address.after,
        "first": address.url(),
        "order_words": _order_words(address),
        "looked_through": listing.LOOKED_THROUGH if address.is_partial else 0,
        "columns": [_column(address, *column) for column in COLUMNS],
        "nothing": nothing,
        "next_wake": listing.next_wake(request.user) if nothing or not found.rows else None,
        "follow": {"after": seen},
        "now": timezone.now(),
        "may_work": request.user.has_perm("cases.work_case"),
        "caption": _view_title(address, []),
    }


def _page_context(request: HttpRequest, address: Address) -> dict[str, Any]:
    views = list(saved.views_for(request.user))
    return {
        "chips": chips(address, dict(queues_of(request.user).values_list("slug", "name"))),
        "views": [_view(address, title, parts) for title, parts in VIEWS],
        "saved_views": [_saved_view(address, view, request.user) for view in views],
        "view_title": _view_title(address, views),
        "rail_part": "cases/queue/views.html",
        "acts": {act.name for act in bulk.acts_for(request.user)},
        "most": bulk.MOST,
    }


def _column(address: Address, sort: str, css: str, title: str, first: str) -> dict[str, str]:
    if not sort:
        return {"css": css, "title": title}
    mine = address.column == sort
    now = ("descending" if address.descending else "ascending") if mine else "none"
    turned = f"-{sort}" if now == "ascending" or (now == "none" and first) else sort
    return {"css": css, "title": title, "sort": now, "url": address.url(sort=turned)}


def _view(address: Address, title: str, parts: dict[str, str]) -> dict[str, Any]:
    plain = Address(**parts)
    return {"title": title, "url": plain.url(), "current": _same(address, plain), "key": title}


def _saved_view(address: Address, view: Any, user: Any) -> dict[str, Any]:
    plain = saved.address_of(view)
    theirs = "" if view.owner_id == user.pk else str(view.owner.get_full_name() or view.owner)
    return {
        "title": view.name,
        "url": plain.url() if plain != Address() else "?sort=priority",
        "current": _same(address, plain),
        "key": view.pk,
        "theirs": theirs,
        "is_default": view.is_default and not theirs,
        "is_shared": view.is_shared,
    }


def _same(address: Address, other: Address) -> bool:
    """The same list from its beginning; the usual order need not be named."""
    return _usual(address) == _usual(other)


def _usual(address: Address) -> str:
    return address.url(after="", sort="" if address.sort == "priority" else address.sort)


def _order_words(address: Address) -> str:
    if address.column == "priority":
        return "priority, due, score" if not address.descending else "least urgent first"
    return f"by {address.column}, {'highest or latest' if address.descending else 'lowest or earliest'} first"


def _view_title(address: Address, views: list[Any]) -> str:
    if address.q:
        return f"Search: {address.q}"
    named = [(title, Address(**parts)) for title, parts in VIEWS]
    named += [(view.name, saved.address_of(view)) for view in views]
    return next((title for title, plain in named if _same(address, plain)), "Cases")


# Alerts may wait for their cases by the hundred thousand; so the look begins at those that have one. Only of a lane
# that was quiet lately it goes through the alerts themselves.
LAST_SEEN = """
SELECT l.id, coalesce(
    (SELECT max(a.seq) FROM (SELECT alert_id FROM case_alert ORDER BY alert_id DESC LIMIT %s) p
       JOIN alert a ON a.id = p.alert_id WHERE a.lane = l.id),
    (SELECT a.seq FROM alert a JOIN case_alert p ON p.alert_id = a.id WHERE a.lane = l.id ORDER BY a.seq DESC LIMIT 1),
    0)
  FROM transactions_lane l"""
LATELY = 200


def last_seen() -> dict[int, int]:
    """Of each lane the last alert that has a case: what comes after is new to a page made now."""
    with connection.cursor() as cursor:
        cursor.execute(LAST_SEEN, [LATELY])
        return dict(cursor.fetchall())


def next_case(request: HttpRequest) -> HttpResponse:
    """Claim the most urgent case and open it; with nothing to claim, the queue says when the next one wakes."""
    if request.method != "POST":
        return redirect("admin:queue")
    case = services.claim_next(request.user)
    return redirect("admin:case", case.pk) if case else redirect(reverse("admin:queue") + "?none=1")


@require_GET
def case_preview(request: HttpRequest, case_id: int) -> HttpResponse:
    """A case in short, beside the list."""
    case: Any = readable(request, case_id)
    sightings.saw(request, "case_viewed", case=case, place="preview")
    context = preview.context(case, case.my_queues) | {"may_assign": _may_assign(request, case)}
    if is_piece(request):
        return render(request, "cases/queue/preview.html", context)
    return redirect("admin:case", case_id)


def _may_assign(request: HttpRequest, case: Any) -> bool:
    closed = case.status in (Status.CLOSED, Status.PENDING_APPROVAL, Status.IN_REVIEW)
    return case.is_member and not closed and case.assignee_id is None and request.user.has_perm("cases.work_case")


@require_POST
def assign_to_me(request: HttpRequest, case_id: int) -> HttpResponse:
    """Put one's name on a case without opening it; the answer is its row as it stands now."""
    readable(request, case_id)
    try:
        handover.assign(case_id, request.user, by=request.user)
    except CaseError as error:
        if is_piece(request):
            return HttpResponse(str(error), status=409, content_type="text/plain; charset=utf-8")
        messages.error(request, str(error))
    if not is_piece(request):
        return redirect("admin:queue")
    case = readable(request, case_id)
    side = listing.other_sides([case]).get(case.pk, listing.Side())
    context = {"case": case, "side": side, "user": request.user, "may_work": True}
    return render(request, "cases/queue/row.html", context)


def case_ids(values: list[str]) -> list[int]:
    """Case ids from a form. Anything else is no such case."""
    ids = [number(value) for value in values]
    if not all(ids):
        raise Http404
    return ids
