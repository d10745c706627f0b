"""What the team keeps beside its cases: texts, views, absences, who is kept from whom, entries of lists."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from cases import absence, saved, snippets, world
from cases.listing import Address
from cases.models import Case, Exclusion, Queue, SavedView, Snippet
from cases.workflow import Status
from fraudsite.demo_desk import words
from fraudsite.demo_desk.team import Team
from scoring import lists
from scoring.models import List, Proposal
from transactions.models import Lane

LAST = words.SNIPPETS[-1][0]  # written last: what stands before it is done
RINGS = 2
SLA = {"1": 240, "2": 480, "3": 1440, "4": 4320}  # minutes by priority, of a desk that nobody watches at night
USUAL_LIMIT, LIMIT = 1_000_000, 250_000  # minor units from which closing needs a second person


def set_up(lane: Lane) -> None:
    """What the people who lead have set before the past began: smaller sums need two persons, there is time for a
    case until the next shift, incidents are given."""
    Queue.objects.filter(lane=lane, four_eyes_from=USUAL_LIMIT).update(four_eyes_from=LIMIT, sla=SLA)
    Queue.objects.filter(lane=lane, grouping=Queue.Grouping.MERCHANT).update(auto_assign=True)


def is_kept() -> bool:
    """Whether all of this has been done before."""
    return Snippet.objects.filter(owner=None, title=LAST).exists()


def keep(lane: Lane, team: Team) -> None:
    """Everything, each part only where it is not there yet."""
    now = timezone.now()
    _keep_lists(lane, team, now)
    _keep_from(lane, team)
    _plan_absences(team, now)
    _save_views(team)
    _keep_snippets(team)


def _keep_snippets(team: Team) -> None:
    known = set(Snippet.objects.filter(owner=None).values_list("title", flat=True))
    for title, text in words.SNIPPETS:
        if title not in known:
            snippets.keep(title, text, by=team.named("lead"), team=True)


def _save_views(team: Team) -> None:
    for username, name, filters, shared in words.VIEWS:
        owner = team.named(username)
        if not SavedView.objects.filter(owner=owner, name=name).exists():
            saved.save_view(name, Address.read(filters), by=owner, shared=shared)


def _plan_absences(team: Team, now: datetime) -> None:
    morning = now.replace(hour=6, minute=0, second=0, microsecond=0)
    for username, first, last, note in words.ABSENCES:
        person = team.named(username)
        if not person.absences.exists():
            begins, ends = morning + timedelta(days=first), morning + timedelta(days=last)
            absence.plan(person, begins, ends, by=team.named("lead"), note=note)


def _keep_from(lane: Lane, team: Team) -> None:
    """One of the team is kept from a relative's cases."""
    person = team.named("amara")
    others = Case.objects.filter(lane=lane, status=Status.CLOSED).exclude(closed_by=person)
    case = others.order_by("pk").first()
    if case is not None and not person.exclusions.exists():
        Exclusion.objects.create(
            user=person, customer=case.customer, reason="Sister of the customer", added_by=team.named("lead")
        )


# --- lists ------------------------------------------------------------------------------------------------------------


def _keep_lists(lane: Lane, team: Team, now: datetime) -> None:
    """The phones of the last rings are watched for some weeks; to block their payees is proposed."""
    rings = Case.objects.filter(lane=lane, status=Status.CLOSED, disposition="confirmed_fraud", fraud_type="mule")
    cases = list(rings.order_by("-pk")[: 10 * RINGS])
    _watch(lane, team.named("investigator2"), cases, now)
    _propose(lane, team.named("petra"), cases, now)


def _watch(lane: Lane, by: Any, cases: list[Case], now: datetime) -> None:
    held = List.objects.filter(lane=lane, name="watched-devices").first()
    if held is None or held.entries.filter(author=by.get_username()).exists():
        return
    found = {_of(case, "device"): case for case in reversed(cases) if _of(case, "device")}
    drafts = [
        lists.draft(
            held,
            device,
            reason=f"{case.number}: one phone worked several accounts",
            author=by.get_username(),
            expires_at=now + timedelta(days=30 * (n + 1)),
            origin=case.number,
        )
        for n, (device, case) in enumerate(list(found.items())[-RINGS:])
    ]
    if drafts:
        lists.add_watch_entries(held, drafts, by=by)


def _propose(lane: Lane, by: Any, cases: list[Case], now: datetime) -> None:
    held = List.objects.filter(lane=lane, name="mule-accounts").first()
    case = next((case for case in cases if _payee(case)), None)
    if held is None or case is None or Proposal.objects.filter(list=held, proposed_by=by).exists():
        return
    reason = f"{case.number}: collected from a ring, confirmed by the receiving bank"
    lists.propose_entry(
        held, _payee(case), by=by, reason=reason, expires_at=now + timedelta(days=180), origin=case.number
    )


def _of(case: Case, subject: str) -> str:
    row = case.case_alerts.select_related("alert__transaction__detail").order_by("pk").first()
    return world.value_of(row.alert, subject) if row else ""


def _payee(case: Case) -> str:
    row = case.case_alerts.select_related("alert__transaction__detail").order_by("pk").first()
    document = row.alert.transaction.detail.document if row else {}
    return str((document.get("counterparty") or {}).get("id") or "")
