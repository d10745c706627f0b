"""The investigator's pages: queue, next case, case, and the acts on it. Views translate and call services.

Every act is a plain form; scripts under static/cases/ only add comfort. A refusal comes back as the same page with a
sentence, and what the person wrote is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from alerts.models import Alert
from cases import dossier, factsheet, listing, services
from cases.closing import IncompleteClose, reasons_to_close
from cases.history import NoSuchCase, NotAllowed
from cases.listing import Address, BadAddress
from cases.models import Case, CaseAlert, Queue
from cases.notes import RefusedText
from cases.querysets import for_member, queues_of, sees_everything, unassigned
from cases.timeline import KINDS, TOLD, timeline
from cases.workflow import CLAIMABLE, CaseError, Disposition, Status
from transactions.codes import FRAUD_TYPE
from transactions.models import Lane

MOST_EVENTS = 200
MOST_COUNTED = 1000
SNOOZES = (
    ("1 h", timedelta(hours=1)),
    ("4 h", timedelta(hours=4)),
    ("1 d", timedelta(days=1)),
    ("3 d", timedelta(days=3)),
)

FRAUD_WORDS = {"lost_stolen": "Lost or stolen", "synthetic_id": "Synthetic identity"}

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


# --- the queue --------------------------------------------------------------------------------------------------------


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


@require_GET
def by_alert(request: HttpRequest, alert_id: int) -> HttpResponse:
    """From an alert to its case; just after an alert its case may still be on its way."""
    case_id = CaseAlert.objects.filter(pk=alert_id).values_list("case_id", flat=True).first()
    if case_id:
        return redirect("admin:case", case_id)
    alert = get_object_or_404(Alert, pk=alert_id)
    return admin.site.render(request, "cases/opening.html", {"alert": alert}, title="The case is being opened")


# --- the case ---------------------------------------------------------------------------------------------------------


@require_GET
def case(request: HttpRequest, case_id: int) -> HttpResponse:
    """One case: why it was flagged, the facts, the customer's timeline, and what can be done."""
    return _case_page(request, _readable(request, case_id))


def _readable(request: HttpRequest, case_id: int) -> Case:
    """The case, if the person may read it; else it does not exist."""
    membership = Queue.members.through.objects.filter(queue=OuterRef("queue"), user=request.user.pk)
    cases = Case.objects.select_related("queue", "assignee", "lane", "close_reason", "closed_by")
    found = cases.annotate(is_member=Exists(membership)).filter(pk=case_id).first()
    if found is None or not (found.is_member or sees_everything(request.user)):
        raise Http404
    return found


def _case_page(
    request: HttpRequest,
    case: Case,
    *,
    form: QueryDict | None = None,
    refusal: CaseError | None = None,
    status: int = 200,
) -> HttpResponse:
    alerts = dossier.flagged(case)
    chosen = _chosen(request, alerts)
    entries, more = timeline(case, queues=[case.queue_id], show=request.GET.get("show", ""))
    context = {
        "case": case,
        "alerts": alerts,
        "chosen": chosen,
        "entries": entries,
        "older": more,
        "show": request.GET.get("show", ""),
        "shows": [("", "All"), *((name, name.capitalize()) for name in KINDS)],
        "notes": case.notes.select_related("author"),
        "events": [_line(event) for event in case.events.select_related("actor")[:MOST_EVENTS]],
        "refusal": refusal,
        "note_text": form.get("text", "") if form is not None and not isinstance(refusal, RefusedText) else "",
        **_rights(request, case),
        **(_why(case, alerts, chosen) if chosen else {}),
    }
    if context["may_close"] and context["is_mine"]:
        context["closing"] = _close_form(request, alerts, form, refusal)
    return admin.site.render(request, "cases/case.html", context, title=case.number, status=status)


def _why(case: Case, alerts: list[dossier.Flagged], chosen: dossier.Flagged) -> dict[str, Any]:
    payment, decision = chosen.alert.transaction, chosen.alert.decision
    then = factsheet.past(case, payment)
    hold = dossier.hold_words(chosen)
    words = f"{decision.outcome.capitalize()}, {chosen.latency_ms:,.0f} ms" + (f"; {hold}" if hold else "")
    return {
        "short": dossier.in_short(alerts),
        "money": dossier.money(alerts),
        "at_risk": dossier.at_risk(case, alerts),
        "gauge": dossier.gauge(chosen),
        "again": dossier.judged_again(chosen),
        "facts": factsheet.facts(payment, chosen.document, then, words),
        "past": then,
        "others": [each for each in alerts if each is not chosen],
    }


def _chosen(request: HttpRequest, alerts: list[dossier.Flagged]) -> dossier.Flagged | None:
    """The alert that the address names, else the worst."""
    named = request.GET.get("alert", "")
    return next((each for each in alerts if str(each.alert.pk) == named), dossier.worst(alerts) if alerts else None)


def _rights(request: HttpRequest, case: Case) -> dict[str, Any]:
    """Who has the case, and what this person may do with it now."""
    user, now = request.user, timezone.now()
    member = getattr(case, "is_member", False)
    in_hand = case.status in (Status.IN_REVIEW, Status.PENDING_APPROVAL) and case.assignee_id is not None
    alive = in_hand and case.lease_until is not None and case.lease_until > now
    leads = member and user.has_perm("cases.lead_queue")
    works = member and user.has_perm("cases.work_case")
    return {
        "is_mine": alive and case.assignee_id == user.pk,
        "is_others": alive and case.assignee_id != user.pk,
        "has_lapsed": in_hand and not alive and case.assignee_id == user.pk,
        "lease_seconds": max(0, int((case.lease_until - now).total_seconds())) if alive and case.lease_until else 0,
        "lease_whole": case.queue.lease_minutes * 60,
        "may_work": works,
        "may_claim": works
        and not alive
        and (case.status in CLAIMABLE or in_hand)
        and (leads or case.status != Status.ESCALATED),
        "may_take_over": leads and alive and case.assignee_id != user.pk,
        "may_close": member and user.has_perm("cases.close_case"),
        "is_closed": case.status == Status.CLOSED,
        "snoozes": [(words, int(span.total_seconds() // 60)) for words, span in SNOOZES],
        "auto_next": request.session.get("auto_next", True),
    }


def _line(event: Any) -> dict[str, Any]:
    icon, _ = TOLD.get(event.kind, ("history", ""))
    return {"event": event, "icon": icon}


def _close_form(
    request: HttpRequest, alerts: list[dossier.Flagged], form: QueryDict | None, refusal: CaseError | None
) -> dict[str, Any]:
    """The close dialog: its choices, what was chosen so far, and what would follow."""
    given = form if form is not None else QueryDict()
    wanted = given.get("disposition") or request.GET.get("close", "")
    disposition = wanted if wanted in Disposition else Disposition.CONFIRMED_FRAUD
    exceptions = _exceptions(given)
    return {
        "open": "disposition" in given or bool(request.GET.get("close")),
        "dispositions": Disposition.choices,
        "disposition": disposition,
        "fraud_types": [(value, FRAUD_WORDS.get(value) or factsheet.spoken(value)) for value in FRAUD_TYPE],
        "fraud_type": given.get("fraud_type", ""),
        "reasons": reasons_to_close(),
        "reason": given.get("close_reason", ""),
        "rationale": given.get("rationale", "") if not isinstance(refusal, RefusedText) else "",
        "errors": refusal.errors if isinstance(refusal, IncompleteClose) else {},
        "exceptions": [(each, exceptions.get(each.alert.pk, "")) for each in alerts],
        "effects": dossier.consequences(alerts, disposition, exceptions),
        "script": dossier.for_script(alerts),
    }


@require_GET
def case_timeline(request: HttpRequest, case_id: int) -> HttpResponse:
    """Older lines of the timeline, as a piece of the page."""
    found = _readable(request, case_id)
    show = request.GET.get("show", "")
    entries, more = timeline(found, queues=[found.queue_id], show=show, before=request.GET.get("before", ""))
    context = {"case": found, "entries": entries, "older": more, "show": show}
    if request.headers.get("X-Requested-With") == "desk":
        return render(request, "cases/timeline.html", context)
    return admin.site.render(request, "cases/older.html", context, title=f"{found.number}, earlier")


@require_http_methods(["GET", "POST"])
def case_lease(request: HttpRequest, case_id: int) -> HttpResponse:
    """Renew the lease of a page that is open and used (POST); a look (GET) tells only whether the case changed."""
    found = _readable(request, case_id)
    if request.method == "GET":
        return JsonResponse({"version": found.version})
    try:
        until = services.renew_lease(case_id, request.user)
    except CaseError as error:
        return JsonResponse({"detail": str(error)}, status=409)
    return JsonResponse({"seconds": int((until - timezone.now()).total_seconds()), "version": found.version})


# --- acts -------------------------------------------------------------------------------------------------------------


@require_POST
def case_act(request: HttpRequest, case_id: int, act: str) -> HttpResponse:
    """Do something with a case. Done: back to the page; refused: the page again, with the reason and one's words."""
    if act not in ACTS:
        raise Http404
    _readable(request, case_id)
    try:
        return ACTS[act](request, case_id) or redirect("admin:case", case_id)
    except CaseError as error:
        return _case_page(request, _readable(request, case_id), form=request.POST, refusal=error, status=_status(error))


def _status(error: CaseError) -> int:
    if isinstance(error, NotAllowed):
        return 403
    if isinstance(error, NoSuchCase):
        return 404
    return 422 if isinstance(error, (IncompleteClose, RefusedText)) else 409


def _claim(request: HttpRequest, case_id: int) -> None:
    services.claim(case_id, request.user)


def _take_over(request: HttpRequest, case_id: int) -> None:
    services.take_over(case_id, request.user, note=request.POST.get("note", ""))


def _release(request: HttpRequest, case_id: int) -> None:
    services.release(case_id, request.user)


def _note(request: HttpRequest, case_id: int) -> HttpResponse:
    services.add_note(case_id, request.POST.get("text", ""), by=request.user)
    return redirect(reverse("admin:case", args=[case_id]) + "#notes")


def _escalate(request: HttpRequest, case_id: int) -> None:
    services.escalate(case_id, by=request.user, note=request.POST.get("note", ""), version=_version(request))


def _wait(request: HttpRequest, case_id: int) -> None:
    services.wait(
        case_id, _until(request), by=request.user, note=request.POST.get("note", ""), version=_version(request)
    )


def _until(request: HttpRequest) -> datetime:
    exact = parse_datetime(request.POST.get("until", "") or "-")
    if exact is not None:
        return exact if timezone.is_aware(exact) else timezone.make_aware(exact)
    minutes = request.POST.get("minutes", "")
    return timezone.now() + timedelta(minutes=int(minutes) if minutes.isdigit() and len(minutes) < 7 else 0)


def _reopen(request: HttpRequest, case_id: int) -> None:
    services.reopen_case(case_id, by=request.user, note=request.POST.get("note", ""))


def _close(request: HttpRequest, case_id: int) -> HttpResponse:
    """Close, then go on: to the next case if wanted. A second click lands where the first one led."""
    form, began = request.POST, timezone.now()
    closed = services.close_case(
        case_id,
        form.get("disposition", ""),
        by=request.user,
        fraud_type=form.get("fraud_type", ""),
        close_reason=form.get("close_reason", ""),
        rationale=form.get("rationale", ""),
        verdicts=_exceptions(form),
        version=_version(request),
    )
    request.session["auto_next"] = onwards = "next" in form
    is_repeat = closed.closed_at is not None and closed.closed_at < began
    if not is_repeat:
        messages.success(request, _closed_words(closed))
    following = (_case_in_hand(request.user) if is_repeat else services.claim_next(request.user)) if onwards else None
    if following:
        return redirect("admin:case", following.pk)
    return redirect(reverse("admin:queue") + "?none=1") if onwards else redirect("admin:case", case_id)


def _closed_words(closed: Case) -> str:
    url = reverse("admin:case", args=[closed.pk])
    return format_html(
        '<a href="{}">{}</a> is closed: {}.', url, closed.number, closed.get_disposition_display().lower()
    )


def _case_in_hand(user: Any) -> Case | None:
    return Case.objects.filter(assignee=user, status=Status.IN_REVIEW).order_by("-claimed_at").first()


def _version(request: HttpRequest) -> int | None:
    """The version the person's page showed. A form without one is refused as stale, not trusted."""
    given = request.POST.get("version", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0


def _exceptions(form: QueryDict) -> dict[int, str]:
    """Payments set otherwise than the case: fields named verdict-<alert id>."""
    return {int(name[8:]): value for name, value in form.items() if re.fullmatch(r"verdict-\d{1,18}", name) and value}


ACTS: dict[str, Callable[[HttpRequest, int], HttpResponse | None]] = {
    "claim": _claim,
    "take-over": _take_over,
    "release": _release,
    "note": _note,
    "escalate": _escalate,
    "wait": _wait,
    "close": _close,
    "reopen": _reopen,
}
