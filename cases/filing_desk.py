"""The page of a case's reports of suspicious activity: for those with the right alone, and each look is kept."""

from __future__ import annotations

from datetime import date

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cases import filings
from cases.case_desk import readable
from cases.history import NotAllowed
from cases.sightings import saw
from cases.workflow import CaseError


@require_http_methods(["GET", "POST"])
def filing(request: HttpRequest, case_id: int) -> HttpResponse:
    """What was decided about reporting the case; POST adds what holds from now on."""
    case, refusal = readable(request, case_id), None
    if request.method == "POST":
        try:
            _keep(request, case_id)
        except CaseError as error:
            refusal = error
        else:
            messages.success(request, "Kept. Only those with the right see it.")
            return redirect("admin:case_filing", case_id)
    saw(request, "report_viewed", case=case)
    rows = filings.of(case, request.user)
    newest = rows[0] if rows else None
    context = {
        "case": case,
        "rows": rows,
        "due": filings.due_on(newest) if newest else None,
        "today": timezone.localdate(),
        "decisions": filings.Decision.choices,
        "given": request.POST if refusal else newest,
        "refusal": refusal,
        "errors": getattr(refusal, "errors", {}),
        "may_keep": getattr(case, "is_member", False) and request.user.has_perm(f"cases.{filings.KEEP}"),
    }
    status = 403 if isinstance(refusal, NotAllowed) else 422 if refusal else 200
    title = f"{case.number}, suspicious activity"
    return admin.site.render(request, "cases/filing.html", context, title=title, status=status)


def _keep(request: HttpRequest, case_id: int) -> None:
    form = request.POST
    filings.keep(
        case_id,
        by=request.user,
        decision=form.get("decision", ""),
        detected_on=_day(form.get("detected_on", "")),
        filed_on=_day(form.get("filed_on", "")),
        reference=form.get("reference", ""),
        note=form.get("note", ""),
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
