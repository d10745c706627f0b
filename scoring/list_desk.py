"""The lists' pages: what there is, what stands on each, and how it gets there and off again.

Putting on and taking off are one act with two ways: a watch list obeys at once, a block or allow list gets a proposal.
The page says which before the button is pressed, and what the entry will do.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from scoring import entries, governance, lists
from scoring.desk import HISTORY, lane_of, number, page
from scoring.models import List, ListEntry, Proposal
from scoring.presentation import list_does
from scoring.refusals import GovernanceError, NotPossible

MOST_BYTES = 1_000_000  # of a file of entries
EXAMPLES = {
    "customer": "the bank's own customer id",
    "card": "the card's token, never its number",
    "account": "the account's token",
    "device": "the device id that payments carry",
    "ip": "203.0.113.7 or 203.0.113.0/24",
    "merchant": "the merchant's id",
    "counterparty": "the payee's token",
    "country": "DE, FR …",
    "bin": "six or eight digits",
}


@require_http_methods(["GET", "POST"])
def all_lists(request: HttpRequest) -> HttpResponse:
    """Every list with what it does and where it is used; a form that makes one."""
    lane, refusal = lane_of(request), None
    if request.method == "POST":
        try:
            return _made(request, lane)
        except GovernanceError as error:
            refusal = error
    used = lists.users(lane)
    rows = [{"list": each, "does": list_does(each), "users": used.get(each.name, [])} for each in lists.of_lane(lane)]
    context = {
        "lane": lane,
        "rows": rows,
        "kinds": List.Kind.choices,
        "subjects": List.Subject.choices,
        "outcomes": lists.OUTCOMES,
        "may_make": request.user.has_perm("scoring.add_list"),
        "form": request.POST,
    }
    return page(request, "lists", context, "Lists", refusal)


def _made(request: HttpRequest, lane: Any) -> HttpResponse:
    made = lists.create_list(
        lane,
        request.POST.get("name", "").strip(),
        kind=request.POST.get("kind", ""),
        subject=request.POST.get("subject", ""),
        outcome=request.POST.get("outcome", ""),
        skips_scoring=bool(request.POST.get("skips_scoring")) and request.POST.get("kind") == List.Kind.ALLOW,
        description=request.POST.get("description", ""),
        by=request.user,
    )
    messages.success(request, f"List {made.name} is made. It does nothing until something stands on it.")
    return redirect("admin:list", made.pk)


@require_http_methods(["GET", "POST"])
def one_list(request: HttpRequest, pk: int) -> HttpResponse:
    """What stands on a list, who put it there and why; forms that put on, take off, and take in a file."""
    held, refusal = get_object_or_404(List.objects.select_related("lane"), pk=pk), None
    if request.method == "POST":
        try:
            return _act(request, held)
        except GovernanceError as error:
            refusal = error
    return page(request, "list", _context(request, held), held.name, refusal)


def _context(request: HttpRequest, held: List) -> dict[str, Any]:
    asked, before = request.GET.get("q", "").replace("\x00", "").strip(), number(request.GET.get("before"))
    past = request.GET.get("show") == "past"
    found = _asked(held, asked) if asked else held.entries.all()
    found = found.exclude(pk__in=entries.standing(held.entries.all())) if past else entries.standing(found)
    found = (found.filter(pk__lt=before) if before else found).select_related("removal", "proposal")
    shown = list(found[: HISTORY + 1])
    leaving = held.entries.filter(pk=number(request.GET.get("remove") or request.POST.get("entry"))).first()
    pending = held.proposals.filter(status=Proposal.Status.PENDING).select_related("proposed_by")
    return {
        "lane": held.lane,
        "list": held,
        "does": list_does(held),
        "users": lists.users(held.lane).get(held.name, []),
        "entries": shown[:HISTORY],
        "older": shown[HISTORY - 1].pk if len(shown) > HISTORY else None,
        "past": past,
        "asked": asked,
        "leaving": leaving,
        "pending": pending[:20],
        "example": EXAMPLES[held.subject],
        "may_change": request.user.has_perm(f"scoring.{'watch' if held.kind == List.Kind.WATCH else 'propose'}_list"),
        "at_once": held.kind == List.Kind.WATCH,
        "now": timezone.now(),
        "form": request.POST,
    }


def _asked(held: List, text: str) -> Any:
    """Entries of the very subject that `text` names, else those whose shown value begins with it."""
    try:
        subject = entries.read_subject(held.subject, text)
    except entries.EntryError:
        return held.entries.filter(value__istartswith=text)
    exact = {name: getattr(subject, name) for name in ("key", "high", "low", "prefix")}
    found = held.entries.filter(**exact)
    return found if found.exists() else held.entries.filter(value__istartswith=text)


def _act(request: HttpRequest, held: List) -> HttpResponse:
    act, reason = request.POST.get("act"), request.POST.get("reason", "")
    done: Any
    if act == "add":
        ends = lists.read_time(request.POST.get("expires_at", ""))
        done = lists.put_on(held, request.POST.get("value", ""), by=request.user, reason=reason, expires_at=ends)
    elif act == "remove":
        entry = held.entries.filter(pk=number(request.POST.get("entry"))).first()
        if entry is None:
            raise NotPossible("There is no such entry.")
        done = lists.take_off(entry, by=request.user, reason=reason)
    elif act == "import":
        done = _imported(request, held, reason)
    else:
        raise NotPossible("There is no such act.")
    return _answer(request, held, done)


def _imported(request: HttpRequest, held: List, reason: str) -> Proposal | list[ListEntry]:
    file = request.FILES.get("file")
    if file is None or file.size > MOST_BYTES:
        raise NotPossible(f"Choose a CSV file of at most {MOST_BYTES // 1_000_000} MB.")
    try:
        text = file.read().decode()
    except UnicodeDecodeError:
        raise NotPossible("The file is not text in UTF-8.") from None
    drafts = lists.read_file(held, text, author=request.user.get_username(), reason=reason)
    if not drafts:
        raise NotPossible("Everything in the file stands on the list already.")
    if held.kind != List.Kind.WATCH:
        return governance.propose_list(held, drafts, by=request.user, reason=reason)
    return lists.add_watch_entries(held, drafts, by=request.user)


def _answer(request: HttpRequest, held: List, done: Any) -> HttpResponse:
    """Where people go after the act; a proposal is shown only to those who may see proposals."""
    if not isinstance(done, Proposal):
        messages.success(request, f"In force: the next payment meets {held.name} as it is now.")
        return redirect("admin:list", held.pk)
    messages.success(request, f"Proposed as number {done.pk}. Another person has to approve it.")
    if request.user.has_perm("scoring.view_proposal"):
        return redirect("admin:approval", done.pk)
    return redirect("admin:list", held.pk)


@require_GET
def exported(request: HttpRequest, pk: int) -> HttpResponse:
    """The standing entries as a CSV file; that it was taken stays written."""
    held = get_object_or_404(List, pk=pk)
    admin.site.exported(request, what="list", list=held.name)
    response = HttpResponse(lists.written(held), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{held.name}.csv"'
    return response
