"""The pages of those who lead, and of everybody's own day: board, quality, routing, absences, my day.

Views translate and call services. Nothing here ranks people: numbers of one person are shown to that person, and the
load of a team to those who share the work out.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cases import absence, board, day, quality, rebalancing, routing, sightings
from cases.cursors import number
from cases.history import NotAllowed
from cases.lead_forms import AbsenceForm, RouteForm
from cases.models import QualityReview, Queue, Route
from cases.notes import RefusedText
from cases.querysets import concerning_kept, queues_of
from cases.workflow import CaseError
from transactions.models import Lane

MOST_SKIPPED = 5  # causes that a message names
MOST_TOLD = 12  # alerts that a review lists


# --- the board --------------------------------------------------------------------------------------------------------


@require_GET
def board_page(request: HttpRequest) -> HttpResponse:
    """Backlog, flow and people of the queues the lead is a member of; a cell's cases, to be given to others."""
    queues = list(queues_of(request.user).select_related("lane").order_by("name"))
    rows = board.rows(queues)
    hours, people = board.flow(rows), board.people(queues)
    place = _place(request, queues)
    context = {
        "rows": rows,
        "total": board.total(rows),
        "ages": [name for name, _, _ in board.AGES],
        "hours": hours,
        "chart": board.drawn(hours),
        "people": people,
        "online": sum(each.is_online for each in people),
        "formulas": board.FORMULAS,
        "as_of": timezone.now(),
        "may_move": request.user.has_perm("cases.lead_queue"),
        **_listed(place, queues, people, request.user),
    }
    return admin.site.render(request, "cases/lead/board.html", context, title="Lead board")


def _place(request: HttpRequest, queues: list[Queue]) -> dict[str, Any]:
    """Which cell of the board the address names."""
    named = request.GET.get("queue", "")
    age = request.GET.get("age", "")
    return {
        "queue": next((queue for queue in queues if queue.slug == named), None),
        "age": next((place for place in range(len(board.AGES)) if str(place) == age), None),
        "holder": number(request.GET.get("who")) or None,
    }


def _listed(place: dict[str, Any], queues: list[Queue], people: list[board.Colleague], user: Any) -> dict[str, Any]:
    wanted = board.cell(place["queue"], place["age"], queues, place["holder"], reader=user)
    cases = list(wanted[: board.MOST_LISTED + 1])
    holder = next((each.user for each in people if each.user.pk == place["holder"]), None)
    parts = [
        place["queue"].name if place["queue"] else "",
        board.AGES[place["age"]][0] if place["age"] is not None else "",
        (holder.get_full_name() or holder.get_username()) if holder else "",
    ]
    return {
        "cases": cases[: board.MOST_LISTED],
        "more": len(cases) > board.MOST_LISTED,
        "place": place,
        "place_words": ", ".join(filter(None, parts)),
        "back": _query(place),
        "most": board.MOST_LISTED,
    }


def _query(place: dict[str, Any]) -> str:
    parts = {
        "queue": place["queue"].slug if place["queue"] else "",
        "age": "" if place["age"] is None else place["age"],
        "who": place["holder"] or "",
    }
    return urlencode({name: value for name, value in parts.items() if value != ""})


@require_POST
def rebalance(request: HttpRequest) -> HttpResponse:
    """Give the chosen cases to a person or a queue; says how many went, and which did not and why."""
    form = request.POST
    ids = [named for text in form.getlist("case") if (named := number(text))]
    try:
        moved = rebalancing.rebalance(ids, form.get("to", ""), by=request.user, note=form.get("note", "").strip()[:500])
    except CaseError as error:
        messages.error(request, str(error))
    else:
        _tell(request, moved)
    back = _query(_place_of(form, request))
    return redirect(reverse("admin:board") + (f"?{back}" if back else "") + "#cases")


def _place_of(form: Any, request: HttpRequest) -> dict[str, Any]:
    copy = request.GET.copy()
    copy.update({name: form.get(name, "") for name in ("queue", "age", "who")})
    request.GET = copy
    return _place(request, list(queues_of(request.user)))


def _tell(request: HttpRequest, moved: rebalancing.Moved) -> None:
    if moved.done:
        messages.success(request, f"{moved.done} case{'s' if moved.done > 1 else ''} went to {moved.to}.")
    if moved.skipped:
        causes = [f"C-{case}: {text}" for case, text in list(moved.skipped.items())[:MOST_SKIPPED]]
        rest = len(moved.skipped) - len(causes)
        messages.warning(
            request,
            f"{len(moved.skipped)} stayed. {' '.join(causes)}" + (f" And {rest} more." if rest > 0 else ""),
        )


# --- quality ----------------------------------------------------------------------------------------------------------


@require_GET
def quality_page(request: HttpRequest) -> HttpResponse:
    """What waits for a second look, and what second looks found."""
    queues = list(queues_of(request.user).order_by("name"))
    leads = request.user.has_perm("cases.lead_queue")
    may_review = request.user.has_perm("cases.review_quality")
    rates = quality.rates_by_queue(queues)
    pending = list(quality.pending(request.user)[: quality.MOST_PENDING + 1])
    context = {
        "reviews": pending[: quality.MOST_PENDING],
        "more": len(pending) > quality.MOST_PENDING,
        "may_review": may_review,
        "queues": queues,
        "rates": rates,
        "overall": quality.summed(rates),
        "people": quality.rates_by_person(queues) if leads else None,
        "days": quality.WINDOW.days,
    }
    return admin.site.render(request, "cases/lead/quality.html", context, title="Quality")


def pending_reviews(request: HttpRequest) -> QuerySet[QualityReview] | None:
    """The reviews that wait for the person, for the rail."""
    return quality.pending(request.user) if request.user.has_perm("cases.review_quality") else None


@require_http_methods(["GET", "POST"])
def review_page(request: HttpRequest, review_id: int) -> HttpResponse:
    """One close looked at again: what was decided and why, and what the reviewer says of it."""
    found = _readable_review(request, review_id)
    refusal, form = None, request.POST
    if request.method == "POST":
        try:
            made = quality.review(
                review_id,
                form.get("finding", ""),
                by=request.user,
                comment=form.get("comment", ""),
                reopen="reopen" in form,
            )
        except CaseError as error:
            refusal = error
        else:
            messages.success(request, f"Your finding on {found.case.number} is kept.{_what_follows(form, made)}")
            return redirect("admin:case", found.case_id) if "reopen" in form else redirect("admin:quality")
    sightings.looked(request, found.case)
    status = 403 if isinstance(refusal, NotAllowed) else 422 if refusal else 200
    return admin.site.render(
        request, "cases/lead/review.html", _review_context(found, form, refusal), title="Review", status=status
    )


def _what_follows(form: Any, made: QualityReview) -> str:
    if "reopen" not in form:
        return ""
    return " It is open again, in your hands." if made.reopened else " A second person has to agree to open it again."


def _readable_review(request: HttpRequest, review_id: int) -> QualityReview:
    """The review, if the person may see cases of its queue; else it does not exist."""
    related = ("case", "case__lane", "case__close_reason", "queue", "decided_by", "reviewer")
    reviews = QualityReview.objects.select_related(*related).filter(queue__in=queues_of(request.user).values("pk"))
    return get_object_or_404(reviews.exclude(case__in=concerning_kept(request.user)), pk=review_id)


def _review_context(found: QualityReview, form: Any, refusal: CaseError | None) -> dict[str, Any]:
    alerts = found.case.case_alerts.select_related("alert").order_by("-alert__score", "pk")
    return {
        "review": found,
        "case": found.case,
        "alerts": alerts[:MOST_TOLD],
        "rest": max(found.case.alert_count - MOST_TOLD, 0),
        "events": found.case.events.select_related("actor")[:MOST_TOLD],
        "findings": quality.Finding.choices,
        "finding": form.get("finding", ""),
        "comment": form.get("comment", "") if not isinstance(refusal, RefusedText) else "",
        "reopen": "reopen" in form,
        "refusal": refusal,
    }


# --- my day -----------------------------------------------------------------------------------------------------------


@require_GET
def my_day(request: HttpRequest) -> HttpResponse:
    """The person's own work and figures, and the way to hand it on."""
    shift = day.shift(request.user)
    context = {
        "shift": shift,
        "summary": shift.text(),
        "own": day.own_figures(request.user),
        "found": quality.found_of(request.user),
        "most": day.MOST_SHOWN,
        "as_of": timezone.now(),
        "hand_over_url": admin.site.page_url("hand_over", request.user),
        "colleagues": _takers(request.user),
    }
    return admin.site.render(request, "cases/lead/day.html", context, title="My day")


def _takers(user: Any) -> list[tuple[Any, bool]]:
    """Who shares a queue with the person, and whether they are away."""
    mine = Queue.members.through.objects.filter(user=user).values("queue")
    through = Queue.members.through.objects.filter(queue__in=mine).exclude(user=user).values("user")
    people = get_user_model().objects.filter(pk__in=through, is_active=True)
    found = list(people.order_by("first_name", "last_name", "username"))
    away = absence.away([each.pk for each in found])
    return [(each, each.pk in away) for each in found]


# --- absences ---------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def absences(request: HttpRequest) -> HttpResponse:
    """Who is away and when: one's own to plan; a lead's, of everybody in the lead's queues."""
    people = absence.colleagues(request.user)
    form = AbsenceForm(request.POST or None, people=people, initial={"user": request.user.pk})
    if request.method == "POST":
        if "cancel" in request.POST:
            return _cancel(request)
        if form.is_valid() and _plan(request, form):
            return redirect("admin:absences")
    context = {
        "form": form,
        "absences": absence.upcoming(people),
        "leads": request.user.has_perm("cases.lead_queue"),
        "now": timezone.now(),
    }
    return admin.site.render(
        request, "cases/lead/absences.html", context, title="Absences", status=422 if form.errors else 200
    )


def _plan(request: HttpRequest, form: AbsenceForm) -> bool:
    """True if it is kept; else the form says why not."""
    given = form.cleaned_data
    try:
        absence.plan(given["user"], given["starts_at"], given["ends_at"], by=request.user, note=given["note"])
    except absence.WrongAbsence as error:
        for name, text in error.errors.items():
            form.add_error(name, text)
        return False
    messages.success(request, "The absence is noted. Nothing is assigned meanwhile.")
    return True


def _cancel(request: HttpRequest) -> HttpResponse:
    named = number(request.POST.get("cancel"))
    if not named:
        raise Http404
    try:
        absence.cancel(named, by=request.user)
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from None
    messages.success(request, "The absence is taken back.")
    return redirect("admin:absences")


# --- routes -----------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def routes(request: HttpRequest) -> HttpResponse:
    """Which alerts go to which queue: the routes in order with what each takes of the last alerts, and one to change.

    "Try" shows what would become of the same alerts without saving anything.
    """
    lane = _lane(request)
    if lane is None:
        return admin.site.render(request, "cases/lead/routes.html", title="Routing")
    chosen = _route(request)
    may_change = request.user.has_perm("cases.change_route")
    if request.method == "POST" and not may_change:
        raise PermissionDenied
    form = RouteForm(request.POST or None, instance=chosen, initial={"lane": lane.pk}) if _is_editing(request) else None
    if request.method == "POST" and form is not None and form.is_valid() and "save" in request.POST:
        form.save()
        messages.success(request, f"The route {form.instance.name} is saved. It holds for the alerts to come.")
        return redirect(reverse("admin:routes") + f"?lane={lane.name}")
    context = _routes_context(request, lane, form, may_change)
    return admin.site.render(
        request, "cases/lead/routes.html", context, title="Routing", status=422 if form and form.errors else 200
    )


def _routes_context(request: HttpRequest, lane: Lane, form: RouteForm | None, may_change: bool) -> dict[str, Any]:
    alerts = routing.last_alerts(lane.pk)
    queues = list(Queue.objects.filter(lane=lane).order_by("name"))
    saved = list(Route.objects.filter(lane=lane).select_related("queue").order_by("position", "pk"))
    now, then = routing.standing(lane, alerts), None
    if form is not None and form.is_bound and form.is_valid() and queues:
        now, then = routing.tried(form.instance, alerts)
    return {
        "lane": lane,
        "lanes": Lane.objects.order_by("name"),
        "routes": saved,
        "queues": queues,
        "now": now,
        "then": then,
        "form": form,
        "draft": form.instance if form is not None else None,
        "sample": len(alerts),
        "may_change": may_change,
    }


def _is_editing(request: HttpRequest) -> bool:
    return request.method == "POST" or "route" in request.GET or "new" in request.GET


def _lane(request: HttpRequest) -> Lane | None:
    named = request.GET.get("lane", "")
    lanes = list(Lane.objects.order_by("name"))
    return next((lane for lane in lanes if lane.name == named), lanes[0] if lanes else None)


def _route(request: HttpRequest) -> Route | None:
    named = number(request.GET.get("route"))
    return get_object_or_404(Route, pk=named) if named else None
