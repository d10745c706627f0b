"""The case page: why it was flagged, the facts, the timeline, the lease. Views translate and call services.

The parts of other modules give their share of the page's context: `close_form`, `record_desk` and `entity_desk`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from alerts.models import Alert
from cases import (
    dossier,
    entity_desk,
    factsheet,
    late_labels,
    pieces,
    places,
    presence,
    record_desk,
    services,
    sightings,
)
from cases.attachments import file_counts
from cases.changes import compared, for_page, since
from cases.close_form import check_groups, close_form
from cases.cursors import number
from cases.evaluated import definition, evaluated, rule_version
from cases.history import StaleCase
from cases.models import Approval, Case, CaseAlert, Queue
from cases.querysets import kept_from, sees_everything, without_kept
from cases.rights import rights
from cases.routing import subject_of
from cases.timeline import SHOWS, timeline
from cases.workflow import CaseError, Status

LOOKS_AGAIN = timedelta(minutes=1)  # for so long after an alert its page looks by itself for the case
SUBJECTS = ("merchant", "device")  # what an incident may be about, as the document names them


@require_GET
def by_alert(request: HttpRequest, alert_id: int) -> HttpResponse:
    """From an alert to its case; just after an alert its case may still be on its way."""
    case_id = CaseAlert.objects.filter(pk=alert_id).values_list("case_id", flat=True).first()
    if case_id:
        return redirect("admin:case", case_id)
    alert = get_object_or_404(Alert, pk=alert_id)
    if alert.customer in kept_from(request.user):
        raise Http404
    context = {"alert": alert, "is_new": timezone.now() - alert.raised_at < LOOKS_AGAIN}
    return admin.site.render(request, "cases/opening.html", context, title="The case is being opened")


@require_GET
def case(request: HttpRequest, case_id: int) -> HttpResponse:
    """One case: why it was flagged, the facts, the customer's timeline, and what can be done."""
    return case_page(request, readable(request, case_id))


def readable(request: HttpRequest, case_id: int) -> Case:
    """The case, if the person may read it; else it does not exist. `my_queues`: those the person is a member of."""
    mine = Queue.members.through.objects.filter(user=request.user.pk).values("queue_id")
    cases = Case.objects.select_related("queue__escalates_to", "assignee", "lane", "close_reason", "closed_by")
    files = file_counts(OuterRef("pk"))
    pending = Exists(Approval.objects.filter(case=OuterRef("pk"), answer=""))
    told = cases.annotate(my_queues=ArraySubquery(mine), file_count=files, has_request=pending)
    found = without_kept(told.filter(pk=case_id), request.user).first()
    if found is None:
        raise Http404
    found.is_member = found.queue_id in found.my_queues
    if not found.is_member:
        if not sees_everything(request.user):
            raise Http404
        found.my_queues = list(Queue.objects.values_list("pk", flat=True))
    return found


def case_page(
    request: HttpRequest,
    case: Case,
    *,
    form: QueryDict | None = None,
    refusal: CaseError | None = None,
    status: int = 200,
) -> HttpResponse:
    """The whole page of a case, with what a refused act said and what the person wrote."""
    alerts, chosen = dossier.opened(case, _named(request))
    others = dossier.beyond(case, alerts)
    show = request.GET.get("show", "")
    entries, older = timeline(case, queues=case.my_queues, show=show)
    context = {
        "case": case,
        "alerts": alerts,
        "more_alerts": alerts[-1].alert.seq if others else 0,
        "chosen": chosen,
        "entries": entries,
        "older": older,
        "show": show,
        "shows": SHOWS.items(),
        "refusal": refusal,
        "conflict": compared(refusal.missed, case.alert_count) if isinstance(refusal, StaleCase) else [],
        "at_risk": dossier.at_risk(case, dossier.sums(alerts, others)),
        "subject": subject_of(case.queue.grouping, *(chosen.document.get(kind) for kind in SUBJECTS))
        if chosen
        else None,
        "customers": f"{len({each.alert.customer for each in alerts})}{'+' if others else ''}",
        "late_labels": late_labels.of(case) if case.contradicted_at else [],
        "watchers": presence.look(case.pk, request.user),
        **rights(request, case),
        **(_why(case, alerts, others, chosen) if chosen else {}),
        **record_desk.case_context(request, case, form=form, refusal=refusal),
        **entity_desk.case_context(request, case),
    }
    if context["may_close"] and context["is_mine"]:
        context["closing"] = close_form(request, case, alerts, form, refusal, others, chosen, context["checks"])
    context["check_groups"] = check_groups(context["checks"])
    sightings.looked(request, case)
    return admin.site.render(request, "cases/case.html", context, title=case.number, status=status)


def _why(
    case: Case, alerts: list[dossier.Flagged], others: list[dossier.Sum], chosen: dossier.Flagged
) -> dict[str, Any]:
    payment, decision = chosen.alert.transaction, chosen.alert.decision
    then = factsheet.past(case, payment, case.my_queues)
    hold = dossier.hold_words(chosen)
    words = f"{decision.outcome.capitalize()}, {chosen.latency_ms:,.0f} ms" + (f"; {hold}" if hold else "")
    rest = [each for each in alerts if each.alert.pk != chosen.alert.pk]
    return {
        "short": dossier.in_short(chosen),
        "money": dossier.money(dossier.sums(alerts, others)),
        "gauge": dossier.gauge(chosen),
        "again": dossier.judged_again(chosen),
        "facts": factsheet.facts(payment, chosen.document, then, words),
        "past": then,
        "map": places.drawn(then.places, payment.pk),
        "others": rest[: dossier.SHORT_LIST],
        "other_count": case.alert_count - 1,
    }


def _named(request: HttpRequest) -> int | None:
    """The alert that the address names."""
    return number(request.GET.get("alert")) or None


@require_GET
def case_timeline(request: HttpRequest, case_id: int) -> HttpResponse:
    """Older lines of the timeline, or those of one kind, as a piece of the page."""
    found = readable(request, case_id)
    show = request.GET.get("show", "")
    entries, older = timeline(found, queues=found.my_queues, show=show, before=request.GET.get("before", ""))
    context = {"case": found, "entries": entries, "older": older, "show": show}
    return pieces.of_case(
        request, found, "cases/timeline.html", context, "earlier", whole="cases/case/timeline_list.html"
    )


@require_GET
def case_alerts(request: HttpRequest, case_id: int) -> HttpResponse:
    """Older alerts of a case that has many, as rows of the page's table."""
    found = readable(request, case_id)
    alerts = dossier.flagged(found, number(request.GET.get("before")))
    more = alerts[-1].alert.seq if len(alerts) == dossier.MOST_ALERTS else 0
    context = {"case": found, "alerts": alerts, "more_alerts": more, "is_closed": found.status == Status.CLOSED}
    return pieces.of_case(
        request, found, "cases/case/alert_rows.html", context, "alerts", whole="cases/case/alert_table.html"
    )


@require_GET
def case_rules(request: HttpRequest, case_id: int) -> HttpResponse:
    """Every rule and list that the decision of one alert was held against, hits and others."""
    found = readable(request, case_id)
    chosen = dossier.in_full(found, _named(request))
    if chosen is None:
        raise Http404
    context = {"case": found, "chosen": chosen, "found": evaluated(chosen.alert)}
    return pieces.of_case(request, found, "cases/case/evaluated.html", context, "all rules")


@require_GET
def rule_as_fired(request: HttpRequest, lane: str, code: str, number: int) -> HttpResponse:
    """One version of a rule as it judged, to be read only; whatever the rule says today."""
    version = rule_version(lane, code, number)
    if version is None:
        raise Http404
    return admin.site.render(request, "cases/rule.html", definition(version), title=f"{code} v{number}")


@require_http_methods(["GET", "POST"])
def case_lease(request: HttpRequest, case_id: int) -> HttpResponse:
    """Renew the lease of a page that is open and used (POST); a look (GET) tells only whether the case changed."""
    found = readable(request, case_id)
    if request.method == "GET":
        return JsonResponse({"version": found.version})
    try:
        until = services.renew_lease(case_id, request.user)
    except CaseError as error:
        return JsonResponse({"detail": str(error)}, status=409)
    return JsonResponse({"seconds": int((until - timezone.now()).total_seconds()), "version": found.version})


@require_POST
def case_presence(request: HttpRequest, case_id: int) -> HttpResponse:
    """A page in view says so every few seconds, and hears who else looks and what changed. It renews nothing."""
    found = readable(request, case_id)
    if request.POST.get("leave"):
        presence.leave(case_id, request.user)
        return JsonResponse({})
    version = number(request.POST.get("version")) or found.version
    changed = since(found, version) if version < found.version else []
    return JsonResponse(
        {
            "people": [person._asdict() for person in presence.look(case_id, request.user)],
            "version": found.version,
            "changes": [for_page(change) for change in changed],
        }
    )
