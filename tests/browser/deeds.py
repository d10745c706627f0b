"""What a browser test has done inside the running desk: found a team, let time pass, read rows. See `inside`.

Each deed takes and gives what JSON can carry. Time is let pass by setting back the moments that rows hold; what follows
from it is left to the desk's own services.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils import timezone

from alerts import live
from cases import approvals, attachments, late_labels, saved, services
from cases.listing import Address
from cases.models import Approval, Case, CaseAlert, CaseEvent, Exclusion, QualityReview, Queue, Route, Sighting
from scoring import dataset, governance
from scoring.models import HoldResolution, Rule
from transactions.codes import COUNTRY
from transactions.facts import micros
from transactions.models import Lane, Transaction

# --- people -----------------------------------------------------------------------------------------------------------


def land_without_team() -> str:
    """A country whose payments no team takes; not those of other tests' payments."""
    taken = {"DE", "FR", *(slug[-2:].upper() for slug in Queue.objects.values_list("slug", flat=True))}
    return next(code for code in COUNTRY if code not in taken)


def found(slug: str, land: str, people: dict[str, str], escalates_to: str = "", **fields: Any) -> None:
    """A queue that takes the alerts of payments to one country, and its members ({username: role})."""
    lane = Lane.objects.get(name="main")
    above = Queue.objects.get(slug=escalates_to) if escalates_to else None
    queue = Queue.objects.create(slug=slug, name=slug.capitalize(), lane=lane, escalates_to=above, **fields)
    Route.objects.create(lane=lane, name=slug, position=1, queue=queue, conditions={"countries": [land]})
    for username, role in people.items():
        queue.members.add(hired(username, role))


def hired(username: str, role: str) -> Any:
    """A person of the desk; "ada-mt" is Ada Mt."""
    first, last = username.title().split("-")
    people = get_user_model().objects
    user, _ = people.get_or_create(
        username=username, defaults={"first_name": first, "last_name": last, "is_staff": True}
    )
    user.groups.set([Group.objects.get(name=role)])
    return user


def need_two(slug: str) -> None:
    """Every close in this queue needs a second person."""
    Queue.objects.filter(slug=slug).update(four_eyes_from=1)


def session_of(username: str) -> str:
    """A new session of a person, as the sign-in page makes it."""
    request: Any = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    login(request, get_user_model().objects.get(username=username), backend=settings.AUTHENTICATION_BACKENDS[0])
    request.session.save()
    return request.session.session_key


def end_session_in(key: str, seconds: int) -> None:
    """The session ends so soon."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    session[live.ENDS] = timezone.now().timestamp() + seconds
    session.set_expiry(seconds)
    session.save()


def keep_from(username: str, case: int) -> None:
    """Keep a person from the customer of a case."""
    people, customer = get_user_model().objects, Case.objects.get(pk=case).customer
    lead = people.get(username="lead")
    Exclusion.objects.create(
        user=people.get(username=username), customer=customer, reason="An own account", added_by=lead
    )


def add_views(username: str, many: int) -> None:
    """Saved views of a person's, as many."""
    user = get_user_model().objects.get(username=username)
    for number in range(many):
        saved.save_view(f"View {number}", Address(score_from=str(number + 1)), by=user)


# --- cases ------------------------------------------------------------------------------------------------------------


def cases_of(payments: list[int]) -> list[int | None]:
    """The case of each payment, None while it has none."""
    known = dict(CaseAlert.objects.filter(pk__in=payments).values_list("pk", "case"))
    return [known.get(payment) for payment in payments]


def spread(slug: str) -> list[dict[str, Any]]:
    """Give the cases of a queue priorities, due times and scores, many of them equal; the cases as they are now."""
    begin, told = timezone.now() + timedelta(hours=1), []
    for place, case in enumerate(Case.objects.filter(queue__slug=slug).order_by("pk")):
        case.priority, case.score = 1 + place % 3, 700 + 10 * (place % 4)
        case.due_at = begin + timedelta(minutes=20 * (place % 2))
        case.save()
        told.append({"id": case.pk, "priority": case.priority, "due": str(case.due_at), "score": case.score})
    return told


def state(case: int) -> dict[str, Any]:
    """Where a case stands."""
    found = Case.objects.select_related("assignee", "queue").get(pk=case)
    return {
        "status": found.status,
        "assignee": found.assignee.get_username() if found.assignee else None,
        "queue": found.queue.slug,
        "priority": found.priority,
        "version": found.version,
        "disposition": found.disposition,
    }


def attach(case: int, username: str, many: int) -> None:
    """So many small files with a case."""
    user = get_user_model().objects.get(username=username)
    for number in range(many):
        attachments.attach(case, f"{number}.txt", [f"Evidence {number}".encode()], by=user)


def events(case: int) -> list[str]:
    """The kinds of a case's lines of history, oldest first."""
    return list(CaseEvent.objects.filter(case=case).order_by("pk").values_list("kind", flat=True))


def looks(username: str, act: str) -> int:
    """How many looks of that kind a person's rows tell of."""
    return Sighting.objects.filter(actor__username=username, act=act).count()


def learnt(payment: int) -> int:
    """What the next training would learn of a payment: the label in force in its data set."""
    found, now = Transaction.objects.get(pk=payment), micros(timezone.now())
    data = dataset.of_lane(found.lane, begin=micros(found.occurred_at), end=now, most=10_000)
    return int(data.known(now)[data.ids.tolist().index(payment)])


# --- time -------------------------------------------------------------------------------------------------------------


def lapse(case: int) -> None:
    """The lease ran out a moment ago, and the minute's task comes by."""
    Case.objects.filter(pk=case).update(lease_until=timezone.now() - timedelta(seconds=1))
    services.lapse_leases()


def due_in(case: int, minutes: int) -> None:
    """The case is due in so many minutes; negative: it was."""
    Case.objects.filter(pk=case).update(due_at=timezone.now() + timedelta(minutes=minutes))


def note_breaches() -> int:
    """The minute's task that writes down who is late."""
    return services.mark_breaches()


def wake(case: int) -> None:
    """The case has slept long enough, and the minute's task comes by."""
    Case.objects.filter(pk=case).update(wake_at=timezone.now() - timedelta(seconds=1))
    services.wake_cases()


def past_the_undo(case: int) -> None:
    """The seconds in which the close could be taken back are over, for the case and for those who ask the API."""
    just_now = timezone.now() - timedelta(seconds=1)
    Case.objects.filter(pk=case).update(undo_until=just_now)
    HoldResolution.objects.filter(transaction__in=CaseAlert.objects.filter(case=case).values("pk")).update(
        final_at=just_now
    )


def expire_requests(case: int, hours: float) -> None:
    """The requests about a case were made so many hours ago, and the task that ends old ones comes by."""
    for asked in Approval.objects.filter(case=case, answer=""):
        asked.expires_at -= timedelta(hours=hours)
        asked.save()
    approvals.expire()


def find_late_labels() -> int:
    """The minute's task that compares labels with closed cases."""
    return late_labels.mark_contradictions()


def review_of(case: int) -> int | None:
    """The review that the close of a case was chosen for."""
    return QualityReview.objects.filter(case=case).values_list("pk", flat=True).first()


def rewrite_rule(code: str) -> int:
    """Put a new version of a rule in force, by two people: the same expression in other words; its number."""
    people = get_user_model().objects
    rule = Rule.objects.get(lane__name="main", code=code)
    standing, mode = governance.standing_rule(rule)
    assert standing is not None
    by, reason = people.get(username="admin"), "Said more plainly"
    text = {"sentence": standing.sentence + " from elsewhere"}
    proposal = governance.propose_rule(rule, mode=mode, by=by, reason=reason, text=text)
    governance.approve(proposal, by=people.get(username="approver"), note="Plainer")
    return rule.versions.order_by("-number").values_list("number", flat=True)[0]
