"""The acts on one case. Every act is a plain form; scripts under static/cases/ only add comfort.

A refusal comes back as the same page with a sentence, and what the person wrote is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods, require_POST

from cases import approvals, checklists, handover, services, sightings, world
from cases.case_desk import case_page, readable
from cases.close_form import exceptions_of, listings_of
from cases.closing import IncompleteClose, set_verdicts
from cases.cursors import number
from cases.history import NoSuchCase, NotAllowed
from cases.models import Case
from cases.notes import RefusedText
from cases.pieces import is_piece
from cases.querysets import for_member
from cases.workflow import CaseError, Disposition, Status

PAGE = 100  # payments on a page of verdicts
LONGEST = 10**5  # minutes or hours that a form can name; the services have bounds of their own
MOST_PAYMENTS = 5000  # of one case that an act can name at once


@require_POST
def case_act(request: HttpRequest, case_id: int, act: str) -> HttpResponse:
    """Do something with a case. Done: back to the page; refused: the page again, with the reason and one's words."""
    if act not in ACTS:
        raise Http404
    readable(request, case_id)
    try:
        return ACTS[act](request, case_id) or redirect("admin:case", case_id)
    except CaseError as error:
        if is_piece(request):
            return JsonResponse({"detail": str(error)}, status=_status(error))
        return case_page(request, readable(request, case_id), form=request.POST, refusal=error, status=_status(error))


def _status(error: CaseError) -> int:
    if isinstance(error, NotAllowed):
        return 403
    if isinstance(error, NoSuchCase):
        return 404
    return 422 if isinstance(error, (IncompleteClose, RefusedText)) else 409


# --- who has it -------------------------------------------------------------------------------------------------------


def _claim(request: HttpRequest, case_id: int) -> None:
    services.claim(case_id, request.user)


def _take_over(request: HttpRequest, case_id: int) -> None:
    services.take_over(case_id, request.user, note=request.POST.get("note", ""))


def _release(request: HttpRequest, case_id: int) -> None:
    services.release(case_id, request.user)


def _escalate(request: HttpRequest, case_id: int) -> HttpResponse | None:
    """Up to where the queue escalates to; who is no member there does not see the case any more."""
    case = services.escalate(case_id, by=request.user, note=request.POST.get("note", ""), version=_version(request))
    if for_member(request.user).filter(pk=case_id).exists():
        return None
    messages.success(request, f"{case.number} went to {case.queue.name}; you do not see it any more.")
    return redirect("admin:queue")


def _wait(request: HttpRequest, case_id: int) -> None:
    services.wait(
        case_id,
        _until(request),
        by=request.user,
        note=request.POST.get("note", ""),
        wake_on=request.POST.get("wake_on", ""),
        version=_version(request),
    )


def _until(request: HttpRequest) -> datetime:
    exact = parse_datetime(request.POST.get("until", "") or "-")
    if exact is not None:
        return exact if timezone.is_aware(exact) else timezone.make_aware(exact)
    return timezone.now() + timedelta(minutes=min(number(request.POST.get("minutes")), LONGEST))


def _priority(request: HttpRequest, case_id: int) -> None:
    level = request.POST.get("level", "")
    services.set_priority(
        case_id,
        int(level) if level in ("1", "2", "3", "4") else 0,
        by=request.user,
        note=request.POST.get("note", ""),
        version=_version(request),
    )


@require_POST
def hand_over(request: HttpRequest) -> HttpResponse:
    """All one's open work to a colleague, with one note."""
    to = get_user_model().objects.filter(pk=number(request.POST.get("to", ""))).first()
    try:
        if to is None:
            raise NotAllowed("Choose a colleague.")
        done = handover.hand_over(to, by=request.user, note=request.POST.get("note", ""))
    except CaseError as error:
        messages.error(request, str(error))
    else:
        name = to.get_full_name() or to.get_username()
        messages.success(request, f"{_cases(len(done.taken))} handed to {name}.")
        for case, cause in done.kept[:10]:
            messages.warning(request, f"{case.number} stays with you. {cause}")
    home = "my_day" if "my_day" in admin.site.pages else "queue"
    return redirect(f"admin:{home}")


def _cases(n: int) -> str:
    return "1 case" if n == 1 else f"{n} cases"


# --- what is written down ---------------------------------------------------------------------------------------------


def _check(request: HttpRequest, case_id: int) -> HttpResponse | None:
    """A step of the checklist: `tick` or `untick` names it."""
    done = "tick" in request.POST
    item = number(request.POST.get("tick" if done else "untick", ""))
    case = checklists.tick(case_id, item, done=done, by=request.user)
    if is_piece(request):
        return JsonResponse({"version": case.version, "done": done})
    return None


# --- acts on the world ------------------------------------------------------------------------------------------------


def _payments(request: HttpRequest, case_id: int) -> None:
    """Release, block or hold longer what is held; `do` says which."""
    act, note, version = request.POST.get("do", ""), request.POST.get("note", ""), _version(request)
    ids = _named_payments(request, case_id)
    if act == "hold":
        until = timezone.now() + timedelta(hours=min(number(request.POST.get("hours")), LONGEST))
        services.hold_longer(case_id, ids, until, by=request.user, note=note, version=version)
    else:
        services.resolve_payments(case_id, ids, act, by=request.user, note=note, version=version)


def _named_payments(request: HttpRequest, case_id: int) -> list[int]:
    if "all" not in request.POST:
        return [named for each in request.POST.getlist("payment") if (named := number(each))]
    rows = Case(pk=case_id).case_alerts.filter(alert__hold_until__isnull=False)
    return list(rows.order_by("pk").values_list("pk", flat=True)[:MOST_PAYMENTS])


def _list(request: HttpRequest, case_id: int) -> None:
    wishes = listings_of(request.POST)
    if not wishes:
        raise world.ListRefused("Choose what goes on which list, and for how long.")
    services.put_on_list(case_id, wishes, by=request.user, note=request.POST.get("note", ""))


# --- closing ----------------------------------------------------------------------------------------------------------


def _close(request: HttpRequest, case_id: int) -> HttpResponse:
    """Close, then go on: to the next case if wanted. A second click lands where the first one led."""
    form, began = request.POST, timezone.now()
    closed = _closed(request, case_id)
    request.session["auto_next"] = onwards = "next" in form
    is_repeat = _is_repeat(closed, began)
    if not is_repeat:
        messages.success(request, _closed_words(request, closed))
    following = (_case_in_hand(request.user) if is_repeat else services.claim_next(request.user)) if onwards else None
    if following:
        return redirect("admin:case", following.pk)
    return redirect(reverse("admin:queue") + "?none=1") if onwards else redirect("admin:case", case_id)


def _closed(request: HttpRequest, case_id: int) -> Case:
    form = request.POST
    try:
        return services.close_case(
            case_id,
            form.get("disposition", ""),
            by=request.user,
            fraud_type=form.get("fraud_type", ""),
            close_reason=form.get("close_reason", ""),
            rationale=form.get("rationale", ""),
            verdicts=exceptions_of(form),
            listings=listings_of(form),
            second="second" in form,
            version=_version(request),
        )
    except world.ListRefused as error:
        raise IncompleteClose({"lists": str(error)}) from None


def _is_repeat(closed: Case, began: datetime) -> bool:
    """True if an earlier request closed it, or asked for a second person."""
    if closed.status == Status.PENDING_APPROVAL:
        return not closed.approvals.filter(answer="", made_at__gte=began).exists()
    return closed.closed_at is not None and closed.closed_at < began


def _closed_words(request: HttpRequest, closed: Case) -> str:
    """What was done, and for some seconds the way back."""
    url = reverse("admin:case", args=[closed.pk])
    link = format_html('<a href="{}">{}</a>', url, closed.number)
    if closed.status == Status.PENDING_APPROVAL:
        return format_html("{} waits for a second person to approve the close.", link)
    words = format_html("{} is closed: {}.", link, closed.get_disposition_display().lower())
    if closed.undo_until is None:
        return words
    return format_html(
        '{} <form class="d-undo" method="post" action="{}" data-undo="9" data-testid="undo-bar">'
        '<input type="hidden" name="csrfmiddlewaretoken" value="{}"><span>{} closed.</span>'
        '<button type="submit" class="d-btn" data-testid="undo" aria-keyshortcuts="Z">Undo'
        ' <kbd class="d-key">Z</kbd></button></form>',
        words,
        reverse("admin:case_act", args=[closed.pk, "undo"]),
        get_token(request),
        closed.number,
    )


def _case_in_hand(user: Any) -> Case | None:
    return Case.objects.filter(assignee=user, status=Status.IN_REVIEW).order_by("-claimed_at").first()


def _undo(request: HttpRequest, case_id: int) -> None:
    """Take the close back: the case is open again, in one's hands."""
    services.undo_close(case_id, by=request.user)
    messages.success(request, "The close is taken back: labels are withdrawn, payments are held as before.")


def _reopen(request: HttpRequest, case_id: int) -> None:
    case = services.reopen_case(case_id, by=request.user, note=request.POST.get("note", ""))
    if case.status == Status.CLOSED:
        messages.success(request, "You closed it yourself, so a second person has to agree. The request is made.")
    else:
        messages.success(request, f"{case.number} is open again, in your hands.")


def _withdraw(request: HttpRequest, case_id: int) -> None:
    """Take back one's own request about this case."""
    asked = Case(pk=case_id).approvals.filter(answer="").first()
    if asked is None:
        raise approvals.NoSuchRequest
    approvals.withdraw(asked.pk, by=request.user)


@require_http_methods(["GET", "POST"])
def case_verdicts(request: HttpRequest, case_id: int) -> HttpResponse:
    """Every payment of a case, page by page, to set single ones otherwise before the case is closed as a whole."""
    found, refusal = readable(request, case_id), None
    if request.method == "POST":
        try:
            set_verdicts(case_id, exceptions_of(request.POST), by=request.user, version=_version(request))
        except CaseError as error:
            refusal = error
        else:
            messages.success(request, "Kept. The close dialog counts them.")
            return redirect(request.get_full_path())
    sightings.looked(request, found)
    before = number(request.GET.get("before", ""))
    rows = found.case_alerts.select_related("alert", "alert__transaction__resolution").order_by("-pk")
    shown = list((rows.filter(pk__lt=before) if before else rows)[: PAGE + 1])
    given = exceptions_of(request.POST)
    context = {
        "case": found,
        "rows": [(row, given.get(row.pk, row.verdict)) for row in shown[:PAGE]],
        "older": shown[PAGE - 1].pk if len(shown) > PAGE else None,
        "dispositions": Disposition.choices,
        "refusal": refusal,
        "may_set": found.assignee_id == request.user.pk and found.status == Status.IN_REVIEW,
    }
    status = _status(refusal) if refusal else 200
    return admin.site.render(request, "cases/verdicts.html", context, title=f"{found.number}, payments", status=status)


def _version(request: HttpRequest) -> int | None:
    """The version the person's page showed. A form without one is refused as stale, not trusted."""
    return number(request.POST.get("version", ""))


ACTS: dict[str, Callable[[HttpRequest, int], HttpResponse | None]] = {
    "claim": _claim,
    "take-over": _take_over,
    "release": _release,
    "escalate": _escalate,
    "wait": _wait,
    "priority": _priority,
    "check": _check,
    "payments": _payments,
    "list": _list,
    "close": _close,
    "undo": _undo,
    "reopen": _reopen,
    "withdraw": _withdraw,
}
