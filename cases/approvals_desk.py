"""The checker's pages: what waits for a second person, what it would change, and the answer with its reason."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from alerts.live import amount_text
from cases import approvals, factsheet
from cases.close_form import FRAUD_WORDS
from cases.history import NotAllowed
from cases.models import Approval, Case, CloseReason
from cases.querysets import without_kept
from cases.verdicts import Verdict
from cases.workflow import LABEL, RESOLUTION, CaseError, Disposition, Status
from scoring.models import List

SHOWN = 100


def waiting(request: HttpRequest) -> QuerySet[Approval]:
    """What waits for this person, for the rail."""
    return approvals.pending(request.user)


@require_GET
def requests(request: HttpRequest) -> HttpResponse:
    """What waits for this person's answer, their own requests, and what was answered lately."""
    seen = approvals.visible(request.user)
    mine = seen.filter(answer="", maker=request.user, expires_at__gt=timezone.now()).order_by("expires_at", "pk")
    answered = seen.exclude(answer="").order_by("-answered_at")
    context = {
        "waiting": [_row(each) for each in approvals.pending(request.user)[:SHOWN]],
        "mine": [_row(each) for each in mine[:SHOWN]],
        "answered": [_row(each) for each in answered[:20]],
        "now": timezone.now(),
    }
    return admin.site.render(request, "cases/approvals.html", context, title="Second looks")


def _row(asked: Any) -> dict[str, Any]:
    case = asked.case
    return {
        "asked": asked,
        "what": _what(asked),
        "causes": [approvals.CAUSES.get(cause, cause) for cause in asked.causes],
        "amount": f"{amount_text(case.amount_base, case.lane.base_currency)} {case.lane.base_currency}" if case else "",
    }


def _what(asked: Any) -> str:
    if asked.kind == Approval.Kind.REOPEN:
        return f"Open {asked.case.number} again"
    words = Disposition(asked.request["disposition"]).label.lower()
    if asked.kind == Approval.Kind.BULK_CLOSE:
        return f"Close {len(asked.request['cases'])} cases as {words}"
    return f"Close {asked.case.number} as {words}"


@require_http_methods(["GET", "POST"])
def one_request(request: HttpRequest, approval_id: int) -> HttpResponse:
    """One request: what it changes, before and after; approve or reject. A refusal comes back with the words."""
    asked: Any = approvals.visible(request.user).filter(pk=approval_id).first()
    if asked is None:
        raise Http404
    refusal, status = None, 200
    if request.method == "POST":
        try:
            return _act(request, asked)
        except CaseError as error:
            refusal, status = error, 403 if isinstance(error, NotAllowed) else 409
            asked.refresh_from_db()
    is_maker = asked.maker_id == request.user.pk
    is_open = asked.answer == "" and asked.expires_at > timezone.now()
    context = {
        **_row(asked),
        "refusal": refusal,
        "diff": _diff(asked),
        "cases": _cases(asked, request.user),
        "skipped": _skipped(asked),
        "exceptions": len(asked.request.get("exceptions", {})),
        "is_maker": is_maker,
        "may_answer": is_open and not is_maker and request.user.has_perm("cases.approve_case"),
        "may_withdraw": is_open and is_maker,
        "reason": request.POST.get("reason", ""),
        "is_over": asked.answer == "" and not is_open,
    }
    return admin.site.render(request, "cases/approval.html", context, title="Second look", status=status)


def _act(request: HttpRequest, asked: Approval) -> HttpResponse:
    act, reason = request.POST.get("act", ""), request.POST.get("reason", "")
    if act == "approve":
        done = approvals.approve(asked.pk, by=request.user, reason=reason)
        messages.success(request, "Approved." + _left_out(done))
    elif act == "reject":
        approvals.reject(asked.pk, by=request.user, reason=reason)
        messages.success(request, "Rejected: it is back with who asked.")
    elif act == "withdraw":
        approvals.withdraw(asked.pk, by=request.user)
        messages.success(request, "Withdrawn.")
    else:
        raise CaseError("There is no such answer.")
    if request.user.has_perm("cases.approve_case"):
        return redirect("admin:case_approvals")
    return redirect("admin:case", asked.case_id) if asked.case_id else redirect("admin:queue")


def _left_out(done: Approval) -> str:
    if done.kind != Approval.Kind.BULK_CLOSE:
        return ""
    return f" {len(done.request['closed'])} closed, {len(done.request.get('skipped', {}))} left out."


# --- what would change ------------------------------------------------------------------------------------------------


def _diff(asked: Any) -> list[tuple[str, str, str]]:
    """(what, before, after) of everything that approving it changes."""
    case = asked.case
    if asked.kind == Approval.Kind.REOPEN:
        return [
            ("Status", "Closed", Status.IN_REVIEW.label),
            ("Disposition", case.get_disposition_display(), "none until it is closed again"),
            ("Assignee", "–", _name(asked.maker)),
        ]
    verdict = Verdict.from_data(asked.request)
    before = Status(case.status).label if case else "open"
    lines = [("Status", before, "Closed"), ("Disposition", "–", Disposition(verdict.disposition).label)]
    if verdict.fraud_type:
        words = FRAUD_WORDS.get(verdict.fraud_type) or factsheet.spoken(verdict.fraud_type)
        lines.append(("Fraud type", "–", words))
    reason = CloseReason.objects.filter(pk=verdict.close_reason).first()
    lines.append(("Reason", "–", f"{verdict.close_reason} {reason}" if reason else verdict.close_reason))
    if case:
        lines += _payments(case, verdict)
    return lines + _lists(verdict)


def _payments(case: Case, verdict: Verdict) -> list[tuple[str, str, str]]:
    """How many payments are labelled and what becomes of those held; counted over all, also of an incident."""
    rows = case.case_alerts.values_list("pk", "alert__hold_until", "alert__transaction__resolution__resolution")
    labels: dict[str, int] = {}
    ends: dict[str, int] = {}
    for pk, hold, resolution in rows:
        said = verdict.of(pk)
        labels[LABEL.get(said, "no label")] = labels.get(LABEL.get(said, "no label"), 0) + 1
        if hold is not None and resolution is None:
            word = RESOLUTION.get(said, "as the policy says")
            ends[word] = ends.get(word, 0) + 1
    lines = [("Labels", "–", ", ".join(f"{n} {word}" for word, n in sorted(labels.items())))]
    if ends:
        lines.append(("Held payments", "held", ", ".join(f"{n} {word}" for word, n in sorted(ends.items()))))
    return lines


def _lists(verdict: Verdict) -> list[tuple[str, str, str]]:
    names = dict(List.objects.filter(pk__in=[each.list_id for each in verdict.listings]).values_list("pk", "name"))
    return [("List", "–", f"{names.get(each.list_id, '?')} for {each.days} days") for each in verdict.listings]


def _cases(asked: Any, reader: Any) -> list[Case]:
    """The cases of a request about many, as far as the reader may know of them."""
    ids = asked.request.get("cases", [])
    seen = without_kept(Case.objects.filter(pk__in=ids), reader)
    return list(seen.select_related("lane").order_by("pk")[:SHOWN]) if ids else []


def _skipped(asked: Any) -> list[tuple[str, str]]:
    return sorted(asked.request.get("skipped", {}).items())


def _name(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())
