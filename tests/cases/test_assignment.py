"""Auto-assignment: who gets a new case, and when it goes back."""

from datetime import timedelta

import pytest
from django.utils import timezone

from alerts import online
from cases import absence, assignment, services
from cases.assignment import Member, choose
from cases.history import NotAllowed
from cases.models import Absence, Case, CaseEvent, Exclusion
from cases.workflow import Status
from tests.factories import LEAD, WORK, make_case, make_queue, make_user


def here(monkeypatch, *people):
    """Make these people present, and nobody else."""
    present = {person.pk for person in people}
    monkeypatch.setattr(online, "among", lambda ids: present & set(ids))


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK)


@pytest.fixture
def tomas(db):
    return make_user("tomas", *WORK)


@pytest.fixture
def queue(ines, tomas):
    return make_queue(ines, tomas, auto_assign=True, load_limit=2)


def cases_of(person):
    return set(Case.objects.filter(assignee=person).values_list("grouping_key", flat=True))


@pytest.mark.parametrize(
    "loads, limit, excluded, expected",
    [
        ([3, 1, 2], 10, None, 1),
        ([1, 1], 10, None, 0),  # of equals the first
        ([2, 2], 2, None, None),
        ([5, 1], 10, 1, 0),
        ([], 10, None, None),
    ],
)
def test_the_member_with_most_room_gets_it(loads, limit, excluded, expected):
    members = [Member(i, load, {77} if i == excluded else set()) for i, load in enumerate(loads)]
    chosen = choose(Case(customer=77), members, limit)
    assert (chosen.user if chosen else None) == expected


def test_new_cases_go_to_those_present_evenly_and_up_to_the_limit(queue, ines, tomas, monkeypatch):
    here(monkeypatch, ines, tomas)
    for number in range(5):
        make_case(queue=queue, grouping_key=number, priority=1 + number % 4)
    assert [assignment.assign_waiting(), assignment.assign_waiting()] == [4, 0]
    assert (len(cases_of(ines)), len(cases_of(tomas))) == (2, 2)
    left = Case.objects.get(assignee=None)
    assert left.priority == 4  # the least urgent one waits


def test_an_assigned_case_is_theirs_but_not_in_hand(queue, ines, monkeypatch):
    here(monkeypatch, ines)
    case = make_case(queue=queue)
    assignment.assign_waiting()
    case.refresh_from_db()
    assert (case.status, case.assignee, case.lease_until, case.claimed_at) == (Status.NEW, ines, None, None)
    event = CaseEvent.objects.get(case=case)
    assert (event.kind, event.actor, event.after, event.data["to"]) == ("assigned", None, "ines", ines.pk)
    assert services.claim(case.pk, ines).status == Status.IN_REVIEW


def test_nobody_present_means_nothing_is_assigned(queue, monkeypatch):
    here(monkeypatch)
    make_case(queue=queue)
    assert assignment.assign_waiting() == 0


def test_only_queues_that_want_it_assign(ines, monkeypatch):
    here(monkeypatch, ines)
    make_case(queue=make_queue(ines, name="Plain"))
    assert assignment.assign_waiting() == 0


def test_who_is_away_or_kept_from_the_customer_gets_nothing(queue, ines, tomas, monkeypatch):
    here(monkeypatch, ines, tomas)
    case = make_case(queue=queue)
    now = timezone.now()
    Absence.objects.create(user=ines, starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1))
    Exclusion.objects.create(user=tomas, customer=case.customer, reason="Brother", added_by=ines)
    assert assignment.assign_waiting() == 0
    Exclusion.objects.all().delete()
    assert assignment.assign_waiting() == 1
    assert len(cases_of(tomas)) == 1


def test_the_load_counts_over_all_queues(queue, ines, monkeypatch):
    here(monkeypatch, ines)
    other = make_queue(ines, name="Other")
    for number in range(2):
        make_case(queue=other, grouping_key=number, assignee=ines, status=Status.IN_REVIEW)
    make_case(queue=queue)
    assert assignment.assign_waiting() == 0


def test_what_a_queue_gave_goes_back_when_its_holder_leaves(queue, ines, tomas, monkeypatch):
    here(monkeypatch, ines)
    case = make_case(queue=queue)
    assignment.assign_waiting()
    assert assignment.take_back() == 0
    here(monkeypatch, tomas)
    assert [assignment.take_back(), assignment.take_back()] == [1, 0]
    assignment.assign_waiting()
    case.refresh_from_db()
    assert case.assignee == tomas
    kinds = list(CaseEvent.objects.filter(case=case).order_by("pk").values_list("kind", flat=True))
    assert kinds == ["assigned", "unassigned", "assigned"]


def test_what_a_person_gave_stays_unless_the_holder_is_on_leave(queue, ines, tomas, monkeypatch):
    here(monkeypatch)
    case = make_case(queue=queue, assignee=ines)
    CaseEvent.objects.create(case=case, kind="assigned", actor=tomas)
    assert assignment.take_back() == 0
    absence.plan(ines, timezone.now() - timedelta(hours=1), timezone.now() + timedelta(days=1), by=ines)
    assert assignment.take_back() == 1


def test_a_case_that_woke_stays_with_whom_it_slept_for(queue, ines, monkeypatch):
    here(monkeypatch, ines)
    case = make_case(queue=queue)
    assignment.assign_waiting()
    services.claim(case.pk, ines)
    Case.objects.update(status=Status.NEW)  # waited and woke
    here(monkeypatch)
    assert assignment.take_back() == 0


def test_a_case_in_hand_is_never_taken_back(queue, ines, monkeypatch):
    here(monkeypatch)
    services.claim(make_case(queue=queue).pk, ines)
    assert assignment.take_back() == 0


def test_presence_is_a_mark_that_runs_out(ines):
    assert online.among([ines.pk + 1_000_000]) == set()
    online.seen(ines.pk)
    assert online.among([ines.pk, ines.pk + 1_000_000]) == {ines.pk}


# --- absences ---------------------------------------------------------------------------------------------------------


def test_people_plan_their_own_absence_and_leads_their_teams(queue, ines, tomas):
    start, end = timezone.now() + timedelta(days=1), timezone.now() + timedelta(days=2)
    lead = make_user("lead", *LEAD)
    with pytest.raises(NotAllowed):
        absence.plan(tomas, start, end, by=ines)
    with pytest.raises(NotAllowed):
        absence.plan(tomas, start, end, by=lead)  # leads another queue
    queue.members.add(lead)
    first = absence.plan(tomas, start, end, by=lead)
    assert absence.plan(tomas, start, end, by=tomas) == first  # a double click is one absence
    assert absence.away([tomas.pk]) == {}
    assert absence.away([tomas.pk], start) == {tomas.pk: end}


def test_an_absence_has_an_order_and_a_bound(ines):
    now = timezone.now()
    for start, end in [
        (now, now),
        (now - timedelta(days=2), now - timedelta(days=1)),
        (now, now + timedelta(days=999)),
    ]:
        with pytest.raises(absence.WrongAbsence) as refused:
            absence.plan(ines, start, end, by=ines)
        assert set(refused.value.errors) == {"ends_at"}


def test_a_running_absence_ends_now_and_a_coming_one_goes(ines, tomas):
    now = timezone.now()
    running = absence.plan(ines, now - timedelta(hours=1), now + timedelta(days=1), by=ines)
    coming = absence.plan(ines, now + timedelta(days=2), now + timedelta(days=3), by=ines)
    with pytest.raises(NotAllowed):
        absence.cancel(coming.pk, by=tomas)
    for _ in range(2):
        absence.cancel(running.pk, by=ines)
        absence.cancel(coming.pk, by=ines)
    assert absence.away([ines.pk]) == {}
    assert list(Absence.objects.values_list("pk", flat=True)) == [running.pk]
