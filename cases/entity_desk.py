"""Entities on the desk: the search, the page of each, its links as a graph, and values unmasked for ten minutes.

Every page here leaves a sighting. A person sees entities of the lanes whose queues they are a member of; of cases in
other queues only that they exist. Values are masked unless the person unmasked that one, with a reason, just now.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from cases import entities, graph, notes, sightings
from cases.cursors import number
from cases.entities import KINDS, MASKED, NAMES, Entity, Name
from cases.history import NotAllowed
from cases.models import Case
from cases.pieces import is_piece
from cases.querysets import for_member
from cases.workflow import CaseError, Status
from transactions.codes import CHANNEL, CURRENCY, OUTCOME, TYPE
from transactions.masks import masked
from transactions.models import Lane

LONGEST_KEY = 20  # characters of a signed 64-bit integer
HALF = 2**63


# --- the case page's share --------------------------------------------------------------------------------------------


def case_context(request: HttpRequest, case: Case) -> dict[str, Any]:
    """The case page's share about entities; costs no query. The panels and the graph are asked for when opened."""
    return {"graph_tab": True}


@require_GET
def case_graph(request: HttpRequest, case_id: int) -> HttpResponse:
    """The links around a case's payments: data for the page's own script, else a page with the table."""
    case = for_member(request.user).select_related("lane").filter(pk=case_id).first()
    if case is None:
        raise Http404
    sightings.saw(request, "case_viewed", case=case, part="graph")
    drawn = graph.of_case(case, request.user)
    return _graph(request, drawn, f"Links of {case.number}", reverse("admin:case", args=[case_id]))


def _graph(request: HttpRequest, drawn: graph.Graph, title: str, back: str) -> HttpResponse:
    if is_piece(request):
        return JsonResponse(graph.as_data(drawn))
    return admin.site.render(request, "cases/entity_links.html", {"graph": drawn, "back": back}, title=title)


# --- one entity -------------------------------------------------------------------------------------------------------


@require_GET
def entity(request: HttpRequest, kind: str, key: str) -> HttpResponse:
    """What is known of an entity; for the case page's own script only the panel."""
    found = _entity(request, kind, key)
    case = _case_of(request)
    sightings.saw(request, "entity_viewed", entity=found.pair, case=case)
    context = _context(request, found, case)
    if is_piece(request):
        return render(request, "cases/entity_panel.html", context)
    return admin.site.render(request, "cases/entity.html", context, title=f"{found.title} {context['value']}")


@require_GET
def entity_links(request: HttpRequest, kind: str, key: str) -> HttpResponse:
    """Whom an entity was seen with: what a click on a node adds."""
    found = _entity(request, kind, key)
    sightings.saw(request, "entity_viewed", entity=found.pair, case=_case_of(request), part="links")
    return _graph(request, graph.around(found, request.user), f"Links of a {found.title.lower()}", found.url())


@require_POST
def entity_unmask(request: HttpRequest, kind: str, key: str) -> HttpResponse:
    """Show the value for ten minutes; the reason stays for the auditor."""
    found = _entity(request, kind, key)
    back = request.POST.get("back", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None) or not back.startswith("/desk/"):
        back = found.url()
    try:
        sightings.unmask(request, found.pair, request.POST.get("reason", ""), _case_of(request))
    except sightings.RefusedReason as error:
        context = _context(request, found, None) | {"refusal": error}
        return admin.site.render(request, "cases/entity.html", context, title=found.title, status=422)
    return redirect(back)


@require_POST
def entity_note(request: HttpRequest, kind: str, key: str) -> HttpResponse:
    """Write a note that all cases of the entity show."""
    found = _entity(request, kind, key)
    try:
        notes.add_entity_note(*found.pair, request.POST.get("text", ""), by=request.user)
    except CaseError as error:
        kept = "" if isinstance(error, notes.RefusedText) else request.POST.get("text", "")
        context = _context(request, found, None) | {"note_refusal": error, "note_text": kept}
        status = 403 if isinstance(error, NotAllowed) else 422
        return admin.site.render(request, "cases/entity.html", context, title=found.title, status=status)
    return redirect(f"{found.url()}#notes")


def _entity(request: HttpRequest, kind: str, key: str) -> Entity:
    """The entity that the address names, in a lane this person may see; of whom they are kept from there is none."""
    if kind not in KINDS or len(key) > LONGEST_KEY or not key.removeprefix("-").isdecimal() or not key.isascii():
        raise Http404
    its_key = int(key)
    if not its_key or not -HALF <= its_key < HALF:
        raise Http404
    lanes = entities.lanes_of(request.user)
    wanted = request.GET.get("lane") or request.POST.get("lane", "")
    if wanted:
        lanes = [lane for lane in lanes if str(lane) == wanted]
    found = next((each for lane in lanes if entities.exists(each := Entity(kind, its_key, lane))), None)
    if found is None:
        raise Http404
    if entities.is_kept_from(request.user, found):
        raise Http404
    return found


def _case_of(request: HttpRequest) -> Case | None:
    """The case from which the person looks, if they may read it."""
    named = number(request.GET.get("case") or request.POST.get("case"))
    return for_member(request.user).filter(pk=named).first() if named else None


def _context(request: HttpRequest, found: Entity, case: Case | None) -> dict[str, Any]:
    known, hidden = entities.known(found), entities.hidden(request.user, found.lane)
    by_kind, total = entities.linked(found, without=hidden)
    linked = [row for rows in by_kind.values() for row in rows]
    seen_in = {row.pair: row.payment for row in linked}
    seen_in[found.pair] = known.newest_payment or next((row.payment for row in linked), 0)
    told = entities.names(seen_in)
    shown = sightings.unmasked(request.user, seen_in)
    name = told[found.pair]
    cases = entities.cases_of(found, known.cases, request.user)
    return {
        "entity": found,
        "case": case,
        "lane": Lane.objects.get(pk=found.lane),
        "lane_text": str(found.lane),
        "value": name.shown(found.pair in shown) or "erased",
        "name": name,
        "known": known,
        "windows": known.windows,
        "recent": [_payment(row) for row in known.recent if ("customer", row["customer"]) not in hidden],
        "open_cases": [each for each in cases if each.case.status != Status.CLOSED],
        "earlier": [each for each in cases if each.case.status == Status.CLOSED],
        "readable_cases": {each.case.pk for each in cases if each.may_read},
        "outcomes": _outcomes(cases),
        "entries": entities.listed(found, name.full if found.kind == "ip" else ""),
        "linked": [(NAMES[kind], [_neighbour(row, told, shown) for row in rows]) for kind, rows in by_kind.items()],
        "linked_total": total,
        "counted": entities.MOST_COUNTED,
        "unmasked_until": shown.get(found.pair),
        "may_unmask": found.kind in MASKED and request.user.has_perm("cases.unmask") and bool(name.full),
        "columns": _columns(found.kind),
        "notes": notes.of_entity(*found.pair),
        "may_note": found.kind in notes.ABOUT and request.user.has_perm("cases.work_case"),
    }


def _columns(kind: str) -> list[tuple[str, str]]:
    """What the windows count beside payments and money: (attribute, title); never how many there are of itself."""
    every = [("customers", "Customers"), ("cards", "Cards"), ("devices", "Devices"), ("countries", "Countries")]
    own = {"customer": "customers", "card": "cards", "device": "devices"}.get(kind)
    paid_to = [] if kind in ("merchant", "counterparty") else [("paid_to", "Paid to")]
    return [column for column in every if column[0] != own] + paid_to


def _payment(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "occurred_at": datetime.fromisoformat(row["occurred_at"]),
        "currency": CURRENCY.text(row["currency"]),
        "type": TYPE.text(row["type"]).replace("_", " ").capitalize(),
        "channel": CHANNEL.text(row["channel"]).replace("_", " "),
        "outcome": OUTCOME.text(row["outcome"]) if row["outcome"] else "",
        "score": row["score"] if (row["score"] or -1) >= 0 else None,
    }


def _neighbour(row: entities.Neighbour, told: dict[Any, Name], shown: dict[Any, Any]) -> dict[str, Any]:
    name = told.get(row.pair, Name())
    return {
        "pair": row,
        "icon": entities.ICONS[row.kind],
        "value": name.shown(row.pair in shown) or "erased",
        "hint": name.hint,
    }


def _outcomes(cases: Iterable[entities.Told]) -> list[tuple[str, int]]:
    """How the earlier cases ended, as (disposition, how many)."""
    counts: dict[str, int] = {}
    for each in cases:
        if each.case.disposition:
            counts[each.case.disposition] = counts.get(each.case.disposition, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


# --- the search -------------------------------------------------------------------------------------------------------


@require_GET
def search(request: HttpRequest) -> HttpResponse:
    """One box: a customer, card token or its last four digits, account, device, merchant, payee or IP address."""
    text = request.GET.get("q", "").strip()
    found = _found(text, request.user) if text else []
    if text:
        sightings.saw(request, "searched", q=masked(text), found=len(found))
    told = entities.names({each.entity.pair: each.payment for each in found})
    shown = sightings.unmasked(request.user, told)
    rows = [
        {
            "found": each,
            "entity": each.entity,
            "value": told[each.entity.pair].shown(each.entity.pair in shown) or "erased",
            "hint": told[each.entity.pair].hint,
            "url": each.entity.url(),
        }
        for each in found
    ]
    return admin.site.render(request, "cases/entity_search.html", {"text": text, "rows": rows}, title="Entities")


def _found(text: str, user: Any) -> list[entities.Found]:
    """What the text names in the lanes the person may see, but for those they are kept from."""
    lanes = entities.lanes_of(user)
    found = entities.find(text, lanes)
    hidden = {lane: entities.hidden(user, lane) for lane in {each.entity.lane for each in found}}
    return [each for each in found if each.entity.pair not in hidden[each.entity.lane]]
