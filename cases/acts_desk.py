"""The acts on one case. Every act is a plain form; scripts under static/cases/ only add comfort.

A refusal comes back as the same page with a sentence, and what the person wrote is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from cases import services
from cases.case_desk import case_page, readable
from cases.close_form import exceptions_of
from cases.closing import IncompleteClose
from cases.history import NoSuchCase, NotAllowed
from cases.models import Case
from cases.notes import RefusedText
from cases.workflow import CaseError, Status


@require_POST
def case_act(request: HttpRequest, case_id: int, act: str) -> HttpResponse:
    """Do something with a case. Done: back to the page; refused: the page again, with the reason and one's words."""
    if act not in ACTS:
        raise Http404
    readable(request, case_id)
    try:
        return ACTS[act](request, case_id) or redirect("admin:case", case_id)
    except CaseError as error:
        return case_page(request, readable(request, case_id), form=request.POST, refusal=error, status=_status(error))


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
        verdicts=exceptions_of(form),
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
