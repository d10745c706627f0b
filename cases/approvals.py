"""Four eyes: what one person asks for and another decides. Meanwhile the case is nobody's to change.

A request keeps what shall be done as the services take it, and which payments its maker saw. An alert that joins later
makes it outdated: a checker never decides on a payment that the maker did not judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.postgres.expressions import ArraySubquery
from django.db import IntegrityError
from django.db.models import F, Q, QuerySet
from django.db.transaction import atomic

from cases.history import NotAllowed, admit, free, is_excluded, locked, move, write
from cases.leases import _lease_to, resting
from cases.models import Approval, Case, CaseAlert, Queue
from cases.notes import refuse_card_numbers
from cases.querysets import IsAnyOf, concerning_kept, mine
from cases.verdicts import Verdict, alerts_of, check, finish, goes_against_a_block, take_in_hand
from cases.workflow import SHORTEST_RATIONALE, CaseError, Disposition, Status
from transactions import clock

LIFETIME = timedelta(hours=72)
MOST_AT_ONCE = 100
BULK = frozenset({Disposition.LEGITIMATE, Disposition.LEGITIMATE_USEFUL, Disposition.DUPLICATE})
CAUSES = {
    "amount": "The amount reaches the queue's limit",
    "override": "It overrules a rule or list that blocks",
    "own": "It opens the maker's own close again",
    "bulk": "It closes many cases at once",
    "wish": "Who closes it wants a second look",
}
Kind: Any = Approval.Kind
Answer: Any = Approval.Answer


class NoSuchRequest(CaseError):
    """There is no request of that number, or none this person may know of."""

    def __init__(self) -> None:
        super().__init__("There is no such request.")


class AlreadyAnswered(CaseError):
    """Somebody has answered the request, or its time is over."""


class Outdated(CaseError):
    """The case changed in a way that the maker has not judged."""

    def __init__(self) -> None:
        super().__init__("New alerts joined the case since this was asked. Reject it, so that its maker looks again.")


# --- asking -----------------------------------------------------------------------------------------------------------


def needs(case: Case, verdict: Verdict, alerts: Sequence[CaseAlert]) -> list[str]:
    """Why closing this case so needs a second person; empty if it does not."""
    limit = case.queue.four_eyes_from
    causes = ["amount"] if limit is not None and case.amount_base >= limit else []
    return causes + (["override"] if goes_against_a_block(verdict, alerts) else [])


def ask_to_close(case: Case, verdict: Verdict, alerts: Sequence[CaseAlert], causes: list[str], *, by: Any) -> Approval:
    """Ask a second person to close a locked, checked case; it is out of everybody's hands until then."""
    request = verdict.as_data() | {"alerts": [each.pk for each in alerts]}
    made = _ask(Kind.CLOSE, case.queue, request, causes, by, case)
    data = {"approval": made.pk, "causes": causes, "disposition": verdict.disposition}
    move(case, Status.PENDING_APPROVAL, "pending_approval", by=by, note=verdict.rationale, data=data)
    case.lease_until = None
    case.save()
    return made


def ask_to_reopen(case: Case, note: str, *, by: Any) -> Approval:
    """Ask a second person to open one's own close again; the case stays closed until then."""
    made = _ask(Kind.REOPEN, case.queue, {"note": note}, ["own"], by, case)
    write(case, "reopen_asked", by=by, note=note, data={"approval": made.pk, "causes": ["own"]})
    case.save()
    return made


def _ask(kind: str, queue: Queue, request: dict[str, Any], causes: list[str], by: Any, case: Case | None) -> Approval:
    now = clock.now()
    return Approval.objects.create(
        kind=kind,
        queue=queue,
        case=case,
        request=request,
        causes=causes,
        maker=by,
        made_at=now,
        expires_at=now + LIFETIME,
    )


@atomic
def ask_bulk(
    case_ids: Iterable[int], *, by: Any, disposition: str, close_reason: str = "", rationale: str = ""
) -> list[Approval]:
    """Ask to close many cases in the same words: one request for each queue. Fraud is never found in bulk.

    Cases that are closed, in somebody's hands or of other queues are left out; `request["skipped"]` of the first
    request says why. Asking again while it is pending gives the same requests. Raises NotAllowed, IncompleteClose.
    """
    if not by.has_perm("cases.bulk_close"):
        raise NotAllowed("Your role does not allow this.")
    ids = sorted(set(case_ids))
    if not 0 < len(ids) <= MOST_AT_ONCE or disposition not in BULK:
        raise CaseError(f"1 to {MOST_AT_ONCE} cases can be closed at once, as legitimate or duplicate.")
    verdict = Verdict(disposition, "", close_reason, rationale.strip())
    check(verdict, [])
    get_user_model().objects.select_for_update(no_key=True).get(pk=by.pk)  # a double click waits here
    queues = {queue.pk for queue in by.queues.all()}
    found = Case.objects.filter(pk__in=ids).select_related("queue", "assignee").order_by("pk")
    skipped = {str(case.pk): cause for case in found if (cause := _cause_to_skip(case, by, queues))}
    wanted = [case for case in found if str(case.pk) not in skipped]
    if not wanted:
        raise CaseError("None of these cases can be closed: " + "; ".join(sorted(set(skipped.values()))) + ".")
    return _asked(wanted, verdict, skipped, by)


def _cause_to_skip(case: Case, by: Any, queues: set[int]) -> str:
    if case.queue_id not in queues:
        return "no right"
    if case.status == Status.CLOSED:
        return "closed"
    if case.status == Status.PENDING_APPROVAL:
        return "awaits approval"
    in_hand = case.status == Status.IN_REVIEW and case.assignee_id != by.pk
    return "in somebody's hands" if in_hand else "kept from it" if is_excluded(case, by) else ""


def _asked(cases: list[Case], verdict: Verdict, skipped: dict[str, str], by: Any) -> list[Approval]:
    by_queue: dict[int, list[Case]] = {}
    for case in cases:
        by_queue.setdefault(case.queue_id, []).append(case)
    made = []
    for members in by_queue.values():
        versions = {str(case.pk): case.version for case in members}
        request = verdict.as_data() | {"cases": [case.pk for case in members], "versions": versions}
        same = Approval.objects.filter(kind=Kind.BULK_CLOSE, maker=by, answer="", request__versions=versions).first()
        made.append(same or _ask(Kind.BULK_CLOSE, members[0].queue, request | {"skipped": skipped}, ["bulk"], by, None))
    return made


# --- answering --------------------------------------------------------------------------------------------------------


def approve(approval_id: int, *, by: Any, reason: str = "") -> Approval:
    """Do what was asked, as the second person. A second click changes nothing.

    Raises NotAllowed (the maker, no right, no member), AlreadyAnswered, Outdated, NoSuchRequest.
    """
    refuse_card_numbers(reason)
    try:
        with atomic():
            asked, case = _open(approval_id, by)
            if asked.answer == Answer.APPROVED and asked.checker_id == by.pk:
                return asked
            _check_open(asked)
            _answer(asked, Answer.APPROVED, by, reason)
            _carry_out(asked, case, by, reason)
            asked.save()
    except IntegrityError:
        raise CaseError("Another case of this customer is open in this queue. Work that one.") from None
    return asked


def _carry_out(asked: Approval, case: Case | None, by: Any, reason: str) -> None:
    if case is None:
        _close_many(asked, by)
        return
    if asked.kind == Kind.CLOSE:
        _close(asked, case, by, reason)
        return
    write(case, "approved", by=by, note=reason, data={"approval": asked.pk})
    take_in_hand(case, "reopened", by=asked.maker, note=asked.request["note"], data={"approved_by": by.get_username()})


def _close(asked: Approval, case: Case, by: Any, reason: str) -> None:
    alerts = alerts_of(case)
    if case.status != Status.PENDING_APPROVAL or {each.pk for each in alerts} != set(asked.request["alerts"]):
        raise Outdated
    verdict = Verdict.from_data(asked.request)
    check(verdict, alerts)
    write(case, "approved", by=by, note=reason, data={"approval": asked.pk})
    finish(case, verdict, alerts, by=asked.maker, checker=by)


def _close_many(asked: Approval, by: Any) -> None:
    closed, skipped = [], dict(asked.request.get("skipped", {}))
    for case_id in sorted(asked.request["cases"]):
        try:
            with atomic():
                _close_one(case_id, asked, by)
            closed.append(case_id)
        except CaseError as error:
            skipped[str(case_id)] = str(error)
    asked.request = asked.request | {"closed": closed, "skipped": skipped}


def _close_one(case_id: int, asked: Approval, by: Any) -> None:
    case = locked(case_id)
    if case.version != asked.request["versions"][str(case_id)]:
        raise CaseError("It changed since this was asked.")
    cause = _cause_to_skip(case, asked.maker, {asked.queue_id}) or ("kept from it" if is_excluded(case, by) else "")
    if cause:
        raise CaseError(cause)
    if case.status != Status.IN_REVIEW:
        move(case, Status.IN_REVIEW, "claimed", by=asked.maker, data={"approval": asked.pk})
    case.assignee = asked.maker
    write(case, "approved", by=by, data={"approval": asked.pk})
    finish(case, Verdict.from_data(asked.request), alerts_of(case), by=asked.maker, bulk=True, checker=by)


@atomic
def reject(approval_id: int, *, by: Any, reason: str) -> Approval:
    """Turn it down, as the second person, with the reason: the case is in its maker's hands again."""
    refuse_card_numbers(reason)
    asked, case = _open(approval_id, by)
    if asked.answer == Answer.REJECTED and asked.checker_id == by.pk:
        return asked
    _check_open(asked)
    if len(reason.strip()) < SHORTEST_RATIONALE:
        raise CaseError(f"Say in {SHORTEST_RATIONALE} characters or more why it is turned down.")
    _answer(asked, Answer.REJECTED, by, reason).save()
    _give_back(asked, case, "rejected", by, reason)
    return asked


@atomic
def withdraw(approval_id: int, *, by: Any) -> Approval:
    """Take back one's own request: the case is in one's hands again."""
    asked, case = _locked(approval_id)
    if asked.maker_id != by.pk:
        raise NotAllowed("Only who asked can withdraw it.")
    if asked.answer == Answer.WITHDRAWN:
        return asked
    _check_open(asked)
    _answer(asked, Answer.WITHDRAWN, None, "").save()
    _give_back(asked, case, "approval_withdrawn", by, "")
    return asked


def drop(asked: Approval, reason: str) -> None:
    """Withdraw a request that has lost its object; its case is locked."""
    _answer(asked, Answer.WITHDRAWN, None, reason).save()


def expire(limit: int = 200) -> int:
    """Close requests that nobody answered in time, each in its own commit; how many. Their cases are free again."""
    over = Approval.objects.filter(answer="", expires_at__lte=clock.now()).order_by("pk")
    ids = list(over.values_list("pk", flat=True)[:limit])
    return sum(_expire(each) for each in ids)


@atomic
def _expire(approval_id: int) -> bool:
    asked, case = _locked(approval_id)
    if asked.answer:
        return False
    _answer(asked, Answer.EXPIRED, None, "").save()
    if case is not None and asked.kind == Kind.CLOSE and case.status == Status.PENDING_APPROVAL:
        move(case, resting(case), "approval_expired", data={"approval": asked.pk})
        free(case)
        case.save()
    elif case is not None:
        write(case, "approval_expired", data={"approval": asked.pk})
        case.save()
    return True


def _locked(approval_id: int) -> tuple[Approval, Case | None]:
    """The request and its case, locked in the order in which closing locks: the case first."""
    case_id = Approval.objects.filter(pk=approval_id).values_list("case_id", flat=True).first()
    case = locked(case_id) if case_id else None
    found = Approval.objects.select_for_update(of=("self",)).select_related("queue", "maker", "checker")
    try:
        return found.get(pk=approval_id), case
    except Approval.DoesNotExist:
        raise NoSuchRequest from None


def _open(approval_id: int, by: Any) -> tuple[Approval, Case | None]:
    """The request and its case, locked, for somebody who may decide on it."""
    asked, case = _locked(approval_id)
    if asked.maker_id == by.pk:
        raise NotAllowed("You asked for this yourself: another person has to decide on it.")
    if not by.has_perm("cases.approve_case"):
        raise NotAllowed("Your role does not allow this.")
    if case is not None:
        admit(case, by, "approve_case")
    elif not asked.queue.members.filter(pk=by.pk).exists():
        raise NotAllowed(f"You are not a member of the queue {asked.queue.name}.")
    return asked, case


def _check_open(asked: Approval) -> None:
    if asked.answer:
        raise AlreadyAnswered(f"This request is {asked.get_answer_display().lower()} already.")
    if asked.expires_at <= clock.now():
        raise AlreadyAnswered("This request has expired.")


def _answer(asked: Approval, answer: str, by: Any, reason: str) -> Approval:
    asked.answer, asked.checker, asked.reason = answer, by, reason.strip()
    asked.answered_at = clock.now()
    return asked


def _give_back(asked: Approval, case: Case | None, kind: str, by: Any, reason: str) -> None:
    if case is None:
        return
    data = {"approval": asked.pk}
    if asked.kind == Kind.CLOSE and case.status == Status.PENDING_APPROVAL:
        move(case, Status.IN_REVIEW, kind, by=by, note=reason, data=data)
        _lease_to(case, case.assignee or asked.maker)
    else:
        write(case, kind, by=by, note=reason, data=data)
    case.save()


# --- reading ----------------------------------------------------------------------------------------------------------


def visible(user: Any) -> QuerySet[Approval]:
    """The requests of the person's queues, but for cases that concern a customer they are kept from."""
    seen = Approval.objects.select_related("queue", "case__lane", "maker", "checker")
    seen = seen.filter(IsAnyOf(F("queue"), ArraySubquery(mine(user))))
    return seen.filter(Q(case__isnull=True) | ~Q(case__in=concerning_kept(user)))


def asked_of(cases: Iterable[Case]) -> dict[int, Approval]:
    """The open request of each of these cases that has one; one statement."""
    found = Approval.objects.filter(case__in=[case.pk for case in cases], answer="").select_related("maker")
    return {asked.case_id: asked for asked in found if asked.case_id}


def pending(user: Any) -> QuerySet[Approval]:
    """What waits for this person's answer: of their queues, not their own, the one that expires first on top."""
    waiting = visible(user).filter(answer="", expires_at__gt=clock.now())
    return waiting.exclude(maker=user).order_by("expires_at", "pk")
