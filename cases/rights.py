"""Who has a case, and what a person may do with it now: which buttons the page shows. The services check again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from cases import approvals, checklists, preferences
from cases.leases import may_take_escalated
from cases.models import Approval, Case
from cases.workflow import CLAIMABLE, Status

SNOOZES = (
    ("1 h", timedelta(hours=1)),
    ("4 h", timedelta(hours=4)),
    ("1 d", timedelta(days=1)),
    ("3 d", timedelta(days=3)),
)
EVENTS = (("", "Only then"), ("customer", "Or when the customer answers"), ("chargeback", "Or with a chargeback"))


def rights(request: HttpRequest, case: Case) -> dict[str, Any]:
    """What the case page shows of acts; `case` as `case_desk.readable` gives it."""
    user, now = request.user, timezone.now()
    member = bool(getattr(case, "is_member", False))
    in_hand = case.status == Status.IN_REVIEW and case.assignee_id is not None
    alive = in_hand and case.lease_until is not None and case.lease_until > now
    leads = member and user.has_perm("cases.lead_queue")
    works = member and user.has_perm("cases.work_case")
    mine = alive and case.assignee_id == user.pk
    closed = case.status == Status.CLOSED
    closes = member and user.has_perm("cases.close_case")
    return {
        "is_mine": mine,
        "is_others": alive and not mine,
        "has_lapsed": in_hand and not alive and case.assignee_id == user.pk,
        "lease_seconds": max(0, int((case.lease_until - now).total_seconds())) if alive and case.lease_until else 0,
        "lease_whole": case.queue.lease_minutes * 60,
        "may_work": works,
        "may_claim": works and not alive and (case.status in CLAIMABLE or in_hand) and _may_take(case, user, leads),
        "may_take_over": leads and alive and not mine,
        "may_lead": leads,
        "may_close": closes,
        "may_prioritise": works and not closed,
        "is_closed": closed,
        "asks_to_reopen": closed and case.closed_by_id == user.pk,
        "escalation": _escalation(case) if mine else None,
        "snoozes": [(words, int(span.total_seconds() // 60)) for words, span in SNOOZES],
        "wake_events": EVENTS,
        "auto_next": request.session.get("auto_next", preferences.of(user).auto_next),
        "undo_seconds": _undo_seconds(case, user, now) if closes else 0,
        "pending": _pending(case, user),
        "checks": checklists.steps(case) if mine else [],
    }


def _may_take(case: Case, user: Any, leads: bool) -> bool:
    return leads or case.status != Status.ESCALATED or may_take_escalated(case.queue, user)


def _escalation(case: Case) -> dict[str, Any]:
    """Where it would go, and whether the person would lose sight of it; said before it is done."""
    target = case.queue.escalates_to
    return {"queue": target, "loses_sight": target is not None and target.pk not in getattr(case, "my_queues", [])}


def _undo_seconds(case: Case, user: Any, now: Any) -> int:
    if case.status != Status.CLOSED or case.closed_by_id != user.pk or case.undo_until is None:
        return 0
    return max(0, int((case.undo_until - now).total_seconds()))


def _pending(case: Case, user: Any) -> dict[str, Any] | None:
    """The open request about this case, if there can be one."""
    if case.status not in (Status.PENDING_APPROVAL, Status.CLOSED) or not getattr(case, "has_request", True):
        return None
    asked: Any = Approval.objects.filter(case=case, answer="").select_related("maker").first()
    if asked is None:
        return None
    may_check = asked.maker_id != user.pk and user.has_perm("cases.approve_case")
    causes = [approvals.CAUSES.get(cause, cause) for cause in asked.causes]
    return {"asked": asked, "causes": causes, "is_maker": asked.maker_id == user.pk, "may_check": may_check}
