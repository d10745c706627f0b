"""What the queue page asks for beside its rows: the filters as a form, saved views, and how many cases each shows."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from cases import handover, pieces, saved
from cases.chips import ASSIGNEES, DUE
from cases.listing import Address
from cases.querysets import for_member, open_ones, queues_of
from cases.queue_desk import VIEWS
from cases.templatetags.cases import CHANNELS
from cases.workflow import CaseError, Disposition, Status
from scoring.models import ReasonCode, Rule

COUNTED_FOR = 15  # seconds
MOST_OFFERED = 300


@require_GET
def filters(request: HttpRequest) -> HttpResponse:
    """Every filter of the list as one form, filled with those of the address."""
    address = Address.read(request.GET)
    people = [(str(each.pk), each.get_full_name() or each.username) for each in handover.colleagues(request.user)[:100]]
    context = {
        "address": address,
        "queues": _boxes(address, "queue", queues_of(request.user).values_list("slug", "name")),
        "statuses": _boxes(address, "status", Status.choices),
        "outcomes": _boxes(address, "outcome", Disposition.choices),
        "channels": _boxes(address, "channel", CHANNELS.items()),
        "assignees": [("", "Anybody or nobody"), *ASSIGNEES.items(), *people],
        "dues": [("", "Any time"), *DUE.items()],
        "snoozed": [("", "With snoozed ones"), ("no", "Without snoozed ones"), ("yes", "Only snoozed ones")],
        "codes": _codes(),
        "tags": _tags(request.user),
    }
    return pieces.of_queue(request, "cases/queue/filters.html", context, "Filters")


def _boxes(address: Address, name: str, choices: Any) -> list[tuple[str, str, bool]]:
    chosen = address.several(name)
    return [(value, words, value in chosen) for value, words in choices]


def _codes() -> list[tuple[str, str]]:
    """Reason codes and rules, to choose from while typing."""
    found = list(ReasonCode.objects.values_list("code", "title")[:MOST_OFFERED])
    return found + list(Rule.objects.values_list("code", "name")[:MOST_OFFERED])


def _tags(user: Any) -> list[str]:
    """The tags of open cases, to choose from while typing."""
    tagged = open_ones(for_member(user)).exclude(tags=[]).values_list("tags", flat=True)
    return sorted({tag for tags in tagged[:MOST_OFFERED] for tag in tags})[:MOST_OFFERED]


@require_GET
def views(request: HttpRequest) -> HttpResponse:
    """The form that saves the present filters, and one's views with what can be done to them."""
    address = Address.read(request.GET)
    context = {"address": address, "own": request.user.saved_views.all()[: saved.MOST_VIEWS], "most": saved.MOST_VIEWS}
    return pieces.of_queue(request, "cases/queue/save_view.html", context, "Saved views")


@require_POST
def save_view(request: HttpRequest) -> HttpResponse:
    """Keep the filters of the address under a name."""
    address = Address.read(QueryDict(request.POST.get("address", "").removeprefix("?")))
    try:
        view = saved.save_view(
            request.POST.get("name", ""),
            address,
            by=request.user,
            shared="shared" in request.POST,
            default="default" in request.POST,
        )
    except CaseError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"Saved: {view.name}.")
    return redirect(reverse("admin:queue") + (address.url() if address != Address() else "?sort=priority"))


@require_POST
def view_act(request: HttpRequest, view_id: int, act: str) -> HttpResponse:
    """Delete, share or open with a saved view."""
    if act not in VIEW_ACTS:
        raise Http404
    try:
        VIEW_ACTS[act](view_id, by=request.user)
    except CaseError as refusal:
        messages.error(request, str(refusal))
    return redirect(reverse("admin:queue") + "?sort=priority")


VIEW_ACTS: dict[str, Any] = {
    "delete": saved.delete_view,
    "share": saved.share_view,
    "default": saved.make_default,
}


@require_GET
def counts(request: HttpRequest) -> JsonResponse:
    """How many cases each view of the rail shows, counted up to a bound and kept for some seconds."""
    addresses = {title: Address(**parts) for title, parts in VIEWS}
    addresses |= {str(view.pk): saved.address_of(view) for view in saved.views_for(request.user)}
    asked = "&".join(f"{name}{address.url()}" for name, address in addresses.items())
    key = f"queue-counts:{request.user.pk}:{crc32(asked.encode())}"  # a view just saved is counted at once
    found = cache.get(key)
    if found is None:
        found = {name: saved.count_words(address, request.user) for name, address in addresses.items()}
        cache.set(key, found, COUNTED_FOR)
    return JsonResponse(found)
