"""Auto-assignment: in queues that want it, new cases go to the member who is there and has the most room.

A case that was given to somebody is theirs but not in hand: it stays new, has an assignee and no lease, and its clock
runs. Only people who are at the desk get one; what lies untouched in the name of somebody who has left goes back, so
that no case waits for an empty chair.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import Count, OuterRef, Subquery
from django.db.transaction import atomic

from alerts import online
from cases import absence
from cases.history import write
from cases.models import Case, CaseEvent, Exclusion, Queue
from cases.querysets import by_urgency
from cases.workflow import Status

GIVERS = 4  # class of the advisory lock that lets one worker assign at a time
BATCH = 200
GIVING = ("assigned", "handed_over", "claimed", "taken_over")  # how a case came into somebody's name


@dataclass
class Member:
    """Somebody who can be given cases: how many they have, and whom they must not get."""

    user: Any
    load: int
    excluded: set[int] = field(default_factory=set)

    def may_have(self, case: Case) -> bool:
        """False for a case of a customer the person is kept from; asks for its alerts only of who is kept from any."""
        if not self.excluded or case.customer in self.excluded:
            return not self.excluded
        return not case.case_alerts.filter(alert__customer__in=self.excluded).exists()


def choose(case: Case, members: list[Member], limit: int) -> Member | None:
    """Who gets it: the one with most room, of equals the one named first; None if nobody has room."""
    able = [member for member in members if member.load < limit and member.may_have(case)]
    return min(able, key=lambda member: member.load, default=None)


@atomic
def assign_waiting(limit: int = BATCH) -> int:
    """Give the unassigned new cases of auto-assigning queues to people; how many were. Safe to run twice and at once.

    Most urgent first over all queues. Cases that somebody is claiming at this moment are left alone.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [GIVERS])
    queues = {queue.pk: queue for queue in Queue.objects.filter(auto_assign=True).order_by("pk")}
    teams = present_members(list(queues.values()))
    staffed = [pk for pk in queues if any(member.load < queues[pk].load_limit for member in teams[pk])]
    if not staffed:
        return 0
    waiting = Case.objects.filter(queue__in=staffed, status=Status.NEW, assignee__isnull=True)
    cases = list(by_urgency(waiting.select_for_update(skip_locked=True, of=("self",)))[:limit])
    return sum(_give(case, teams[case.queue_id], queues[case.queue_id].load_limit) for case in cases)


def _give(case: Case, members: list[Member], limit: int) -> bool:
    chosen = choose(case, members, limit)
    if chosen is None:
        return False
    write(case, "assigned", after=_short(chosen.user), note="Assigned by the queue.", data={"to": chosen.user.pk})
    case.assignee = chosen.user
    case.save(update_fields=["assignee", "version"])
    chosen.load += 1
    return True


def _short(user: Any) -> str:
    return str(user.get_full_name() or user.get_username())[:40]


def present_members(queues: list[Queue]) -> dict[int, list[Member]]:
    """Of each queue the members who are at the desk and not away, with their load over all queues; one object for
    each person, so that what they get in one queue counts in the next."""
    rows = Queue.members.through.objects.filter(queue__in=queues, user__is_active=True).select_related("user")
    members = list(rows.order_by("user__username"))
    people = {row.user_id: row.user for row in members}
    here = online.among(people)
    here -= set(absence.away(here))
    able = {pk: people[pk] for pk in here if people[pk].has_perm("cases.work_case")}
    loads, excluded = loads_of(able), _exclusions(able)
    known = {pk: Member(user, loads[pk], excluded.get(pk, set())) for pk, user in able.items()}
    teams: dict[int, list[Member]] = {queue.pk: [] for queue in queues}
    for row in members:
        if row.user_id in known:
            teams[row.queue_id].append(known[row.user_id])
    return teams


def loads_of(user_ids: Any) -> Counter[int]:
    """How many open cases are each person's, taken or given, by the index on assignees; sleeping ones do not count."""
    mine = Case.objects.filter(assignee__in=list(user_ids)).exclude(status__in=[Status.CLOSED, Status.WAITING])
    return Counter(dict(mine.order_by().values_list("assignee").annotate(Count("pk"))))


def _exclusions(user_ids: Any) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for user, customer in Exclusion.objects.filter(user__in=list(user_ids)).values_list("user", "customer"):
        found.setdefault(user, set()).add(customer)
    return found


@atomic
def take_back(limit: int = BATCH) -> int:
    """Free the cases that a queue gave to people who are away or gone, untouched; how many were.

    What a person took, or gave to a person, stays where it is unless that one is on a noted absence.
    """
    untouched = Case.objects.filter(status=Status.NEW, assignee__isnull=False)
    holders = set(untouched.order_by().values_list("assignee", flat=True).distinct())
    away = absence.away(holders)
    gone = holders - online.among(holders)
    last = CaseEvent.objects.filter(case=OuterRef("pk"), kind__in=GIVING).order_by("-pk")
    left = untouched.filter(assignee__in=gone | set(away))
    left = left.annotate(how=Subquery(last.values("kind")[:1]), giver=Subquery(last.values("actor")[:1]))
    cases = left.select_for_update(skip_locked=True, of=("self",)).select_related("assignee").order_by("pk")[:limit]
    by_queue = [case for case in cases if (case.how, case.giver) == ("assigned", None)]
    return sum(_free(case, away) for case in cases if case.assignee_id in away or case in by_queue)


def _free(case: Case, away: dict[int, Any]) -> bool:
    why = "They are away." if case.assignee_id in away else "They left the desk."
    write(case, "unassigned", before=_short(case.assignee), note=why)
    case.assignee = None
    case.save(update_fields=["assignee", "version"])
    return True
