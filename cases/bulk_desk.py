"""Many cases at once: the confirmation that says what would happen, and the page that says what did."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from cases import bulk, handover, listing, pieces
from cases.bulk import SPANS, Forecast, NoSuchPlan, Order, Plan, RefusedBulk
from cases.closing import IncompleteClose
from cases.cursors import number
from cases.listing import Address
from cases.models import Case, Queue
from cases.querysets import by_urgency
from cases.queue_desk import case_ids
from cases.tags import tags_in
from cases.workflow import CaseError

SPAN_WORDS = {"1h": "1 h", "4h": "4 h", "1d": "1 d", "3d": "3 d"}


@require_GET
def matching(request: HttpRequest) -> JsonResponse:
    """How many cases the address shows and how much money stands in them, up to the bound of a bulk act."""
    found = listing.matching(Address.read(request.GET), request.user)
    ids = list(by_urgency(found).values_list("pk", flat=True)[: bulk.MOST + 1])
    told = bulk.forecast(ids[: bulk.MOST], request.user)
    return JsonResponse({"count": told.cases, "amount": told.amount, "more": len(ids) > bulk.MOST})


@require_GET
def confirm(request: HttpRequest) -> HttpResponse:
    """What an act on these cases would do. The cases are those of now: what comes later is not swept along."""
    address, everything = Address.read(request.GET).plain, "all" in request.GET
    try:
        ids = case_ids(request.GET.getlist("case"))
        plan = bulk.plan(
            request.GET.get("act", ""),
            by=request.user,
            ids=ids,
            address=address if everything else None,
            back=address.url(),
        )
    except RefusedBulk as refusal:
        return _refused(request, refusal)
    return _confirmation(request, plan)


@require_http_methods(["GET", "POST"])
def run(request: HttpRequest, token: str) -> HttpResponse:
    """Carry a plan out (POST), and say what became of each case (GET)."""
    if request.method == "GET":
        return _result(request, token)
    try:
        plan = bulk.recall(token, request.user)
        bulk.carry_out(token, _order(request, plan), by=request.user)
    except IncompleteClose as refusal:
        return _confirmation(request, plan, refusal.errors, status=422)
    except NoSuchPlan as refusal:
        return _refused(request, refusal, status=410)
    except CaseError as refusal:
        return _confirmation(request, plan, {"": str(refusal)}, status=422)
    return redirect("admin:queue_bulk_run", token)


def _refused(request: HttpRequest, refusal: CaseError, status: int = 409) -> HttpResponse:
    context = {"refusal": refusal, "unfinished": status == 202}
    title = "Not done yet" if status == 202 else "Not possible"
    return pieces.of_queue(request, "cases/queue/refused.html", context, title, status=status)


def _confirmation(
    request: HttpRequest, plan: Plan, errors: dict[str, str] | None = None, status: int = 200
) -> HttpResponse:
    told = bulk.forecast(plan.ids, request.user, plan.what)
    context = {
        "plan": plan,
        "act": plan.what,
        "told": told,
        "title": _title(plan, told),
        "errors": errors or {},
        "form": request.POST,
        **_choices(request, plan),
    }
    return pieces.of_queue(request, "cases/queue/confirm.html", context, context["title"], status=status)


def _title(plan: Plan, told: Forecast) -> str:
    cases = "1 case" if told.cases == 1 else f"{told.cases:,} cases"
    return {
        "assign": f"Assign {cases}",
        "move": f"Move {cases} to another queue",
        "tag": f"Tag {cases}",
        "snooze": f"Snooze {cases}",
        "legitimate": f"Close {cases} as legitimate",
        "reopen": f"Open {cases} again",
    }[plan.act]


def _choices(request: HttpRequest, plan: Plan) -> dict[str, Any]:
    """What the form offers; only what this act asks for is read."""
    if plan.act == "assign":
        others = handover.colleagues(request.user)[:100] if request.user.has_perm("cases.lead_queue") else []
        return {"people": [request.user, *others]}
    if plan.act == "move":
        return {"queues": bulk.queues_to_move_to(request.user)}
    if plan.act == "snooze":
        return {"spans": SPAN_WORDS.items()}
    return {"close_reasons": bulk.legitimate_reasons()} if plan.act == "legitimate" else {}


def _order(request: HttpRequest, plan: Plan) -> Order:
    """The answers of the form; what is no answer is none. Raises RefusedTag."""
    form, act = request.POST, plan.act
    span = SPANS.get(form.get("span", "")) if act == "snooze" else None
    return Order(
        reason=form.get("reason", "")[:2000],
        to=_person(request, form.get("to", "")) if act == "assign" else None,
        queue=Queue.objects.filter(slug=form.get("queue", "")).first() if act == "move" else None,
        add=tuple(tags_in(form.get("add", ""))) if act == "tag" else (),
        remove=tuple(tags_in(form.get("remove", ""))) if act == "tag" else (),
        until=timezone.now() + span if span else None,
        close_reason=form.get("close_reason", "") if act == "legitimate" else "",
    )


def _person(request: HttpRequest, pk: str) -> Any:
    return get_user_model().objects.filter(pk=number(pk), is_active=True).first()


def _result(request: HttpRequest, token: str) -> HttpResponse:
    try:
        plan = bulk.recall(token, request.user)
    except NoSuchPlan as refusal:
        return _refused(request, refusal, status=410)
    if not plan.finished and bulk.has_begun(token):
        return _refused(request, CaseError("It is still being done. Load this page again in a moment."), status=202)
    if not plan.finished:
        return _confirmation(request, plan)
    causes: dict[str, list[int]] = {}
    for case_id, cause in plan.skipped:
        causes.setdefault(cause, []).append(case_id)
    meant = Case.objects.filter(pk__in=[*plan.done, *plan.asked]).select_related("lane")
    context = {
        "plan": plan,
        "act": plan.what,
        "amount": bulk.amount_of(meant),
        "causes": sorted(causes.items(), key=lambda item: (-len(item[1]), item[0])),
        "back": plan.back,
    }
    return admin.site.render(request, "cases/queue/result.html", context, title=plan.counts)
