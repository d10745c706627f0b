"""One act on many cases: what would happen is said first, then each case is done for itself.

A plan freezes which cases were meant when the confirmation was shown, so that what arrives meanwhile is never swept
along. Each case goes through the same service as alone: its own lock, right, line of history and labels; a queryset
update would leave no trace. What refuses is skipped with its cause. A plan is carried out once, however often it is
sent.

Closing many cases is asked of a second person (`approvals.ask_bulk`) and only ever as legitimate: fraud is decided case
by case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any

from django.core.cache import cache
from django.db import models
from django.utils import timezone

from alerts.live import amount_text
from cases import approvals, handover, listing, services, tags
from cases.closing import IncompleteClose
from cases.listing import Address
from cases.models import Case, CloseReason, Queue
from cases.notes import refuse_card_numbers
from cases.querysets import by_urgency, for_member, queues_of
from cases.workflow import SHORTEST_RATIONALE, CaseError, Disposition, Status

MOST = 1000
MOST_CLOSED = 100
KEPT = 60 * 60  # seconds a plan and its result can be asked for
SPANS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "3d": timedelta(days=3)}


class NoSuchPlan(CaseError):
    """The confirmation is too old, or another person's."""

    def __init__(self) -> None:
        super().__init__("This confirmation is too old. Select the cases again.")


class RefusedBulk(CaseError):
    """What was asked of many cases cannot be: too many, no right, or something is missing."""


@dataclass(frozen=True)
class Act:
    """Something that can be done to many cases: its words, the right it needs, how many at once."""

    name: str
    title: str
    done: str
    right: str = "work_case"
    most: int = MOST
    reopens: bool = False


ACTS: dict[str, Act] = {
    each.name: each
    for each in (
        Act("assign", "Assign", "assigned"),
        Act("move", "Move to another queue", "moved", right="lead_queue"),
        Act("tag", "Tag", "tagged"),
        Act("snooze", "Snooze", "snoozed"),
        Act("legitimate", "Close as legitimate", "closed", right="bulk_close", most=MOST_CLOSED),
        Act("reopen", "Open again", "opened again", right="close_case", most=MOST_CLOSED, reopens=True),
    )
}


def acts_for(user: Any) -> list[Act]:
    """The acts whose right the person holds."""
    return [act for act in ACTS.values() if user.has_perm("cases.work_case") and user.has_perm(f"cases.{act.right}")]


# --- what would happen ------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """Cases that one act was asked for, and afterwards what became of each."""

    act: str
    by: int
    ids: list[int]
    back: str = ""  # the query of the list it was asked for
    more: bool = False  # there were more than can be taken at once
    token: str = field(default_factory=lambda: token_urlsafe(16))
    done: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)  # of a second person; nothing has changed in these yet
    skipped: list[tuple[int, str]] = field(default_factory=list)
    words: str = ""
    finished: bool = False

    @property
    def what(self) -> Act:
        return ACTS[self.act]

    @property
    def counts(self) -> str:
        """How many went which way: "3 opened again, 1 sent for approval, 2 skipped"."""
        parts = [f"{len(self.done):,} {self.what.done}"] if self.done or not self.asked else []
        parts += [f"{len(self.asked):,} sent for approval"] if self.asked else []
        return ", ".join([*parts, *([f"{len(self.skipped):,} skipped"] if self.skipped else [])])

    def keep(self) -> Plan:
        """Keep it for the hour in which it can be carried out and looked at."""
        cache.set(_key(self.token), asdict(self), KEPT)
        return self


def plan(act: str, *, by: Any, ids: Iterable[int] = (), address: Address | None = None, back: str = "") -> Plan:
    """A plan for these cases, or for all that an address shows (the most urgent ones, up to the act's bound).

    `back` is the list from which it was asked for. Raises RefusedBulk.
    """
    if act not in ACTS or ACTS[act] not in acts_for(by):
        raise RefusedBulk("Your role does not allow this for many cases at once.")
    most = ACTS[act].most
    wanted = for_member(by).filter(pk__in=list(ids)[: MOST + 1]) if address is None else listing.matching(address, by)
    chosen = list(by_urgency(wanted).values_list("pk", flat=True)[: most + 1])
    if not chosen:
        raise RefusedBulk("No case is selected.")
    if address is None and len(chosen) > most:
        raise RefusedBulk(f"At most {most:,} cases at once.")
    return Plan(act, by.pk, chosen[:most], back, len(chosen) > most).keep()


def recall(token: str, by: Any) -> Plan:
    """The plan of a confirmation. Raises NoSuchPlan."""
    kept = cache.get(_key(token))
    if kept is None or kept["by"] != by.pk:
        raise NoSuchPlan
    return Plan(**kept)


def has_begun(token: str) -> bool:
    """Whether somebody has sent the confirmation off."""
    return cache.get(f"{_key(token)}:begun") is not None


def _key(token: str) -> str:
    return f"bulk:{token}"


@dataclass(frozen=True)
class Forecast:
    """What the confirmation states: how many cases, payments and how much money; who will be skipped, and why."""

    cases: int
    alerts: int
    amount: str
    skipped: list[tuple[str, int]]

    @property
    def left(self) -> int:
        return self.cases - sum(count for _, count in self.skipped)


def forecast(ids: list[int], by: Any, act: Act | None = None) -> Forecast:
    """What stands in the cases now; the acts themselves look again."""
    rows = list(Case.objects.filter(pk__in=ids).select_related("lane", "assignee"))
    causes: dict[str, int] = {}
    for case in rows:
        cause = _why_not(case, by, act) if act else ""
        if cause:
            causes[cause] = causes.get(cause, 0) + 1
    alerts = sum(case.alert_count for case in rows)
    return Forecast(len(rows), alerts, amount_of(rows), sorted(causes.items()))


def amount_of(cases: Iterable[Case]) -> str:
    """The money of cases in their lanes' base currencies."""
    sums: dict[str, int] = {}
    for case in cases:
        currency = case.lane.base_currency
        sums[currency] = sums.get(currency, 0) + case.amount_base
    return " and ".join(f"{amount_text(total, currency)} {currency}" for currency, total in sorted(sums.items()))


def _why_not(case: Case, by: Any, act: Act) -> str:
    """Why a case will be skipped, as far as can be seen now."""
    if act.name == "tag":
        return ""
    if act.reopens:
        return "" if case.status == Status.CLOSED else "not closed"
    if case.status == Status.CLOSED:
        return "closed"
    if case.status == Status.PENDING_APPROVAL:
        return "waiting for approval"
    leads = act.name == "assign" and by.has_perm("cases.lead_queue")
    if _in_other_hands(case, by) and not leads:
        return f"in use by {case.assignee.get_full_name() or case.assignee}"
    return ""


def _in_other_hands(case: Any, by: Any) -> bool:
    alive = case.lease_until is not None and case.lease_until > timezone.now()
    return case.status == Status.IN_REVIEW and alive and case.assignee_id not in (None, by.pk)


# --- carrying it out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What the confirmation was answered with."""

    reason: str = ""
    to: Any = None
    queue: Queue | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    until: datetime | None = None
    close_reason: str = ""


def carry_out(token: str, order: Order, *, by: Any) -> Plan:
    """Do it, once: a second call returns the plan as it stands. Raises NoSuchPlan, RefusedBulk, IncompleteClose."""
    plan = recall(token, by)
    act = plan.what
    if act not in acts_for(by):
        raise RefusedBulk("Your role does not allow this for many cases at once.")
    check(act, order, by)
    if not cache.add(f"{_key(token)}:begun", True, KEPT):
        return recall(token, by)
    try:
        DO_ALL.get(act.name, _each)(plan, order, by)
    except CaseError:
        cache.delete(f"{_key(token)}:begun")  # nothing was done: it may be sent again
        raise
    plan.words = _words(order)
    plan.finished = True
    return plan.keep()


def check(act: Act, order: Order, by: Any) -> None:
    """Raise IncompleteClose naming what is missing, or RefusedText."""
    errors: dict[str, str] = {}
    if len(order.reason.strip()) < SHORTEST_RATIONALE:
        errors["reason"] = f"Needs {SHORTEST_RATIONALE} characters; {len(order.reason.strip())} so far."
    if act.name == "assign" and order.to is None:
        errors["to"] = "Choose a person."
    if act.name == "move" and (order.queue is None or not queues_to_move_to(by).filter(pk=order.queue.pk).exists()):
        errors["queue"] = "Choose a queue."
    if act.name == "tag" and not (order.add or order.remove):
        errors["tags"] = "Name a tag to put on or to take off."
    if act.name == "snooze" and order.until is None:
        errors["span"] = "Choose how long."
    if act.name == "legitimate" and not legitimate_reasons().filter(pk=order.close_reason).exists():
        errors["close_reason"] = "Choose a reason that fits a legitimate case."
    if errors:
        raise IncompleteClose(errors)
    refuse_card_numbers(order.reason)


def _each(plan: Plan, order: Order, by: Any) -> None:
    for case_id in plan.ids:
        try:
            is_done = DOES[plan.act](case_id, order, by)
        except CaseError as refusal:
            plan.skipped.append((case_id, str(refusal)))
        else:
            (plan.done if is_done else plan.asked).append(case_id)


def _assign(case_id: int, order: Order, by: Any) -> bool:
    handover.assign(case_id, order.to, by=by, note=order.reason)
    return True


def _move(case_id: int, order: Order, by: Any) -> bool:
    assert order.queue is not None  # checked before the first case
    handover.move_to_queue(case_id, order.queue, by=by, note=order.reason)
    return True


def _tag(case_id: int, order: Order, by: Any) -> bool:
    tags.change_tags(case_id, by=by, add=order.add, remove=order.remove)
    return True


def _snooze(case_id: int, order: Order, by: Any) -> bool:
    assert order.until is not None  # checked before the first case
    services.snooze(case_id, order.until, by=by, note=order.reason)
    return True


def _reopen(case_id: int, order: Order, by: Any) -> bool:
    """Open it again and give it back to its queue: nobody takes a hundred cases in hand. False: it was one's own close,
    so a second person is asked and the case is still closed."""
    case = services.reopen_case(case_id, by=by, note=order.reason)
    if case.status == Status.CLOSED:
        return False
    services.release(case_id, by)
    return True


# Each does its act on one case; True if it is done, False if a second person has to agree first.
DOES: dict[str, Callable[[int, Order, Any], bool]] = {
    "assign": _assign,
    "move": _move,
    "tag": _tag,
    "snooze": _snooze,
    "reopen": _reopen,
}


def _ask(plan: Plan, order: Order, by: Any) -> None:
    """Ask a second person to close them; what cannot be asked for is told with its cause."""
    asked = approvals.ask_bulk(
        plan.ids,
        by=by,
        disposition=Disposition.LEGITIMATE,
        close_reason=order.close_reason,
        rationale=order.reason.strip(),
    )
    plan.asked = [case_id for each in asked for case_id in each.request["cases"]]
    causes = {int(case_id): cause for each in asked for case_id, cause in each.request.get("skipped", {}).items()}
    plan.skipped = [(case_id, causes.get(case_id, "gone")) for case_id in plan.ids if case_id not in set(plan.asked)]


DO_ALL: dict[str, Callable[[Plan, Order, Any], None]] = {"legitimate": _ask}


def _words(order: Order) -> str:
    """To whom, where, what: for the result's title."""
    if order.to is not None:
        return f"to {order.to.get_full_name() or order.to.get_username()}"
    if order.queue is not None:
        return f"to {order.queue.name}"
    if order.until is not None:
        return f"until {timezone.localtime(order.until):%d %b %H:%M}"
    return ", ".join(order.add)


# --- choices ----------------------------------------------------------------------------------------------------------


def queues_to_move_to(user: Any) -> models.QuerySet[Queue]:
    """Queues of the lanes the person works in."""
    return Queue.objects.filter(lane__in=queues_of(user).values("lane"))


def legitimate_reasons() -> models.QuerySet[CloseReason]:
    """The structured reasons that fit a legitimate case."""
    return CloseReason.objects.filter(dispositions__contains=[Disposition.LEGITIMATE])
