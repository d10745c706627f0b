"""The acts on a case, on the real database, some of them from several threads at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, connections
from django.utils import timezone

from cases import services
from cases.models import Case, CaseAlert, CaseEvent, Queue, Route
from cases.querysets import by_urgency, for_member, open_ones, overdue, unassigned
from cases.seeds import seed_close_reasons, seed_queues
from cases.workflow import Status
from scoring.models import HoldResolution
from tests.factories import LEAD, WORK, make_alert, make_case, make_close_reason, make_lane, make_queue, make_user
from transactions.codes import entity_key
from transactions.models import Label

WHY = "Customer denies the payment on the phone."


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK)


@pytest.fixture
def tomas(db):
    return make_user("tomas", *WORK)


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD)


@pytest.fixture
def queue(ines, tomas, lead):
    make_close_reason("denies")
    return make_queue(ines, tomas, lead)


def close(case, by, disposition="confirmed_fraud", **fields):
    fields = {"fraud_type": "account_takeover", "close_reason": "denies", "rationale": WHY} | fields
    return services.close_case(case.pk, disposition, by=by, **fields)


def kinds(case):
    return list(CaseEvent.objects.filter(case=case).order_by("pk").values_list("kind", flat=True))


def at_once(count: int, work: Callable[[int], object]) -> list:
    """Run `work(i)` in that many threads, all starting together, each with its own connection."""
    start = Barrier(count)

    def run(i: int) -> object:
        start.wait(10)
        try:
            return work(i)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# --- opening ----------------------------------------------------------------------------------------------------------


def claimed_by(person):
    """The most urgent case, which must be there."""
    case = services.claim_next(person)
    assert case is not None
    return case


def test_alerts_of_one_customer_share_a_case(queue):
    make_alert("anna", score=720, amount=1000)
    make_alert("anna", score=910, amount=90_000, channel="card_present")
    make_alert("ben", score=640)
    assert services.open_cases() == 3
    anna, ben = by_urgency(open_ones())
    assert (anna.customer_ref, anna.alert_count, anna.score, anna.amount, anna.amount_base) == (
        "anna",
        2,
        910,
        90_000,
        91_000,
    )
    assert (anna.priority, anna.channel, ben.alert_count) == (1, "card_present", 1)
    assert kinds(anna) == ["opened"]


def test_opening_twice_opens_once(queue):
    make_alert("anna")
    assert [services.open_cases(), services.open_cases()] == [1, 0]
    assert Case.objects.count() == 1


def test_a_new_alert_joins_the_open_case_and_may_raise_its_priority(queue):
    make_alert("anna", score=640, outcome="challenge")
    services.open_cases()
    case = Case.objects.get()
    assert case.priority == 3
    make_alert("anna", score=950, amount=700_000)
    services.open_cases()
    case.refresh_from_db()
    assert (case.priority, case.alert_count, case.score, case.amount) == (1, 2, 950, 700_000)
    assert kinds(case) == ["opened", "alert_added", "priority_raised"]


def test_a_new_alert_never_lowers_the_priority(queue):
    make_alert("anna", score=950)
    services.open_cases()
    make_alert("anna", score=510, outcome="challenge", amount=100)
    services.open_cases()
    assert Case.objects.get().priority == 1


def test_a_new_alert_wakes_a_sleeping_case(queue, ines):
    make_alert("anna")
    services.open_cases()
    case = claimed_by(ines)
    services.wait(case.pk, timezone.now() + timedelta(hours=4), by=ines)
    make_alert("anna")
    services.open_cases()
    case.refresh_from_db()
    assert (case.status, case.wake_at) == (Status.NEW, None)


def test_after_the_close_the_next_alert_opens_a_new_case(queue, ines):
    make_alert("anna")
    services.open_cases()
    close(services.claim_next(ines), ines)
    make_alert("anna")
    services.open_cases()
    assert sorted(Case.objects.values_list("status", flat=True)) == ["closed", "new"]


def test_alerts_go_to_the_queue_that_names_their_channel(ines):
    cards = make_queue(ines, name="Cards")
    payments = make_queue(ines, name="Payments", channels=["online_banking"])
    make_alert("anna", channel="online_banking")
    make_alert("ben", channel="ecommerce")
    services.open_cases()
    assert {case.customer_ref: case.queue for case in Case.objects.all()} == {"anna": payments, "ben": cards}


def test_a_queue_may_group_by_merchant(ines):
    make_queue(ines, name="Merchants", grouping="merchant")
    make_alert("anna", merchant="shop-1")
    make_alert("ben", merchant="shop-1")
    services.open_cases()
    case = Case.objects.get()
    assert (case.grouping_key, case.alert_count) == (entity_key("merchant", "shop-1"), 2)


def test_a_case_is_due_before_its_held_payment_resolves_itself(queue):
    alert = make_alert("anna", score=710, hold_until=timezone.now() + timedelta(minutes=20))
    services.open_cases()
    assert Case.objects.get().due_at == alert.hold_until


def test_an_old_alert_is_found_by_the_sweep_only(queue):
    make_alert("anna", raised_at=timezone.now() - timedelta(hours=3))
    assert services.open_cases() == 0
    assert services.open_cases(since=None) == 1


@pytest.mark.django_db(transaction=True)
def test_workers_that_open_at_once_open_each_case_once():
    make_queue(make_user("ines", *WORK))
    for number in range(12):
        make_alert(f"customer-{number % 4}")
    opened = at_once(4, lambda _: services.open_cases())
    assert sum(opened) == 12
    assert (Case.objects.count(), CaseAlert.objects.count()) == (4, 12)
    assert set(Case.objects.values_list("alert_count", flat=True)) == {3}


# --- claims and leases ------------------------------------------------------------------------------------------------


def test_the_next_case_is_the_most_urgent_of_my_queues(queue, ines):
    make_case(customer="late", queue=queue, priority=3, grouping_key=1)
    urgent = make_case(customer="urgent", queue=queue, priority=1, grouping_key=2)
    make_case(customer="elsewhere", queue=make_queue(name="Other"), priority=1, score=999, grouping_key=3)
    case = claimed_by(ines)
    assert case == urgent
    assert (case.assignee, case.status, kinds(case)) == (ines, Status.IN_REVIEW, ["claimed"])
    assert timedelta(minutes=14) < case.lease_until - timezone.now() <= timedelta(minutes=15)


def test_with_nothing_to_do_there_is_no_next_case(queue, ines):
    assert services.claim_next(ines) is None


def test_who_may_not_work_cases_gets_none(queue):
    make_case(queue=queue)
    reader = make_user("auditor", "cases.view_case")
    queue.members.add(reader)
    assert services.claim_next(reader) is None


@pytest.mark.django_db(transaction=True)
def test_two_people_pressing_next_twenty_times_get_forty_cases():
    people = [make_user("ines", *WORK), make_user("tomas", *WORK)]
    queue = make_queue(*people)
    alert = make_alert("anna")
    rows = [
        Case(
            lane=queue.lane,
            queue=queue,
            grouping_key=n,
            customer=n,
            customer_ref="x",
            top_reason="x",
            amount=1,
            due_at=timezone.now(),
        )
        for n in range(44)
    ]
    Case.objects.bulk_create(rows)
    assert alert
    claimed = at_once(2, lambda i: [claimed_by(people[i]).pk for _ in range(20)])
    assert len(set(claimed[0]) | set(claimed[1])) == 40


def test_a_case_in_hand_is_refused_to_others(queue, ines, tomas):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    with pytest.raises(services.NotYours, match="ines has this case"):
        services.claim(case.pk, tomas)
    with pytest.raises(services.NotYours):
        close(case, tomas)


def test_strangers_to_the_queue_are_refused(queue):
    case = make_case(queue=queue)
    stranger = make_user("stranger", *WORK)
    for act in (services.claim, services.take_over, lambda pk, by: services.add_note(pk, "Hello", by=by)):
        with pytest.raises(services.NotAllowed):
            act(case.pk, stranger)


def test_a_lead_takes_over_and_the_history_says_from_whom(queue, ines, tomas, lead):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    with pytest.raises(services.NotAllowed):
        services.take_over(case.pk, tomas)
    assert services.take_over(case.pk, lead).assignee == lead
    event = CaseEvent.objects.get(kind="taken_over")
    assert (event.actor, event.before) == (lead, "ines")


def test_a_lease_that_runs_out_gives_the_case_back(queue, ines):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    assert services.lapse_leases() == 0
    Case.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    with pytest.raises(services.LeaseLapsed):
        services.renew_lease(case.pk, ines)
    assert [services.lapse_leases(), services.lapse_leases()] == [1, 0]
    case.refresh_from_db()
    assert (case.status, case.assignee, kinds(case)) == (Status.NEW, None, ["claimed", "lease_expired"])


def test_a_lapsed_lease_does_not_keep_others_out_until_the_beat(queue, ines, tomas):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    Case.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert services.claim(case.pk, tomas).assignee == tomas
    assert kinds(case) == ["claimed", "lease_expired", "claimed"]


def test_renewing_a_lease_is_no_line_of_history(queue, ines):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    Case.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
    assert services.renew_lease(case.pk, ines) > timezone.now() + timedelta(minutes=14)
    assert kinds(case) == ["claimed"]


def test_an_escalated_case_is_for_leads_and_stays_escalated_when_given_back(queue, ines, tomas, lead):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    services.escalate(case.pk, by=ines, note="Beyond my limit.")
    assert services.claim_next(tomas) is None
    assert services.claim_next(lead) == case
    services.release(case.pk, lead)
    case.refresh_from_db()
    assert (case.status, case.assignee) == (Status.ESCALATED, None)


def test_a_waiting_case_wakes_when_its_time_comes(queue, ines):
    case = make_case(queue=queue, priority=2)
    services.claim(case.pk, ines)
    with pytest.raises(services.WrongTime):
        services.wait(case.pk, timezone.now() - timedelta(minutes=1), by=ines)
    services.wait(case.pk, timezone.now() + timedelta(minutes=30), by=ines, note="Customer calls back.")
    assert services.wake_cases() == 0
    Case.objects.update(wake_at=timezone.now())
    assert services.wake_cases() == 1
    case.refresh_from_db()
    assert (case.status, case.priority, case.wake_at) == (Status.NEW, 2, None)


def test_a_breach_is_written_once(queue):
    make_case(queue=queue, due_at=timezone.now() - timedelta(minutes=1))
    assert [services.mark_breaches(), services.mark_breaches()] == [1, 0]


# --- notes ------------------------------------------------------------------------------------------------------------


def test_a_note_is_kept_with_its_author(queue, ines):
    note = services.add_note(make_case(queue=queue).pk, "  Called the number on file. ", by=ines)
    assert (note.author, note.text) == (ines, "Called the number on file.")


def test_a_card_number_is_refused_in_notes_and_rationale(queue, ines):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    digits = "4111 " + "1111 " * 3
    with pytest.raises(services.RefusedText):
        services.add_note(case.pk, f"He read me {digits}", by=ines)
    with pytest.raises(services.RefusedText):
        close(case, ines, rationale=f"He read me {digits}")
    assert Case.objects.get().status == Status.IN_REVIEW


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_a_case_as_fraud_labels_its_transactions_and_blocks_what_is_held(queue, ines):
    held, declined = make_alert("anna", outcome="review"), make_alert("anna", outcome="decline", score=950)
    case = make_case(held, declined, queue=queue)
    services.claim(case.pk, ines)
    closed = close(case, ines)
    labels = {
        label.transaction_id: (label.verdict, label.source, label.fraud_type, label.author)
        for label in Label.objects.all()
    }
    assert labels == dict.fromkeys((held.pk, declined.pk), ("fraud", "investigator", "account_takeover", "ines"))
    assert list(HoldResolution.objects.values_list("transaction", "resolution", "source", "by")) == [
        (held.pk, "blocked", "case", "ines")
    ]
    assert (closed.status, closed.disposition, closed.closed_by) == ("closed", "confirmed_fraud", ines)
    event = CaseEvent.objects.get(kind="closed")
    assert (event.data["labels"], event.data["holds"], event.note) == ({"fraud": 2}, {"blocked": 1}, WHY)


@pytest.mark.parametrize(
    "disposition, verdicts, resolution",
    [
        ("suspected_fraud", [], "blocked"),
        ("legitimate", ["legitimate"], "released"),
        ("legitimate_useful", ["legitimate"], "released"),
        ("inconclusive", [], "released"),
        ("duplicate", [], "released"),
    ],
)
def test_each_disposition_has_its_label_and_its_end_of_the_hold(queue, ines, disposition, verdicts, resolution):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    close(case, ines, disposition)
    assert [label.verdict for label in Label.objects.all()] == verdicts
    assert HoldResolution.objects.get().resolution == resolution


def test_a_single_payment_can_be_set_otherwise(queue, ines):
    bad, good = make_alert("anna"), make_alert("anna")
    case = make_case(bad, good, queue=queue)
    services.claim(case.pk, ines)
    close(case, ines, verdicts={good.pk: "legitimate", bad.pk: "confirmed_fraud"})
    assert dict(Label.objects.values_list("transaction", "verdict")) == {bad.pk: "fraud", good.pk: "legitimate"}
    assert dict(HoldResolution.objects.values_list("transaction", "resolution")) == {
        bad.pk: "blocked",
        good.pk: "released",
    }
    assert dict(CaseAlert.objects.values_list("pk", "verdict")) == {bad.pk: "", good.pk: "legitimate"}


def test_closing_demands_what_the_record_needs(queue, ines):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    with pytest.raises(services.IncompleteClose) as refused:
        close(case, ines, fraud_type="", close_reason="", rationale="ok")
    assert set(refused.value.errors) == {"fraud_type", "close_reason", "rationale"}
    with pytest.raises(services.IncompleteClose):
        close(case, ines, "guilty")
    with pytest.raises(services.IncompleteClose):
        close(case, ines, verdicts={case.pk + 10**6: "legitimate"})
    assert not Label.objects.exists()


def test_a_refused_close_leaves_nothing_behind(queue, ines, monkeypatch):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)

    def fail(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr("cases.verdicts.resolve_held", fail)
    with pytest.raises(ConnectionError):
        close(case, ines)
    assert (Label.objects.count(), HoldResolution.objects.count(), Case.objects.get().status) == (0, 0, "in_review")


def test_a_stale_form_is_refused_and_told_what_it_missed(queue, ines, lead):
    make_alert("anna")
    services.open_cases()
    case = claimed_by(ines)
    make_alert("anna", score=990)
    services.open_cases()
    with pytest.raises(services.StaleCase) as refused:
        close(case, ines, version=case.version)
    assert {event.kind for event in refused.value.missed} == {"alert_added", "priority_raised"}
    close(case, ines, version=Case.objects.get().version)


def test_a_double_click_closes_once(queue, ines):
    case = make_case(queue=queue)
    case = services.claim(case.pk, ines)
    for _ in range(2):
        close(case, ines, version=case.version)
    assert (Label.objects.count(), kinds(case)) == (1, ["claimed", "closed"])


@pytest.mark.django_db(transaction=True)
def test_two_submits_at_once_close_once():
    ines = make_user("ines", *WORK)
    make_close_reason("denies")
    case = services.claim(make_case(queue=make_queue(ines)).pk, ines)
    at_once(2, lambda _: close(case, ines, version=case.version))
    assert (Label.objects.count(), kinds(case)) == (1, ["claimed", "closed"])


@pytest.mark.django_db(transaction=True)
def test_an_alert_never_lands_on_a_case_that_is_being_closed():
    ines = make_user("ines", *WORK)
    make_queue(ines)
    make_close_reason("denies")
    make_alert("anna")
    services.open_cases()
    case = claimed_by(ines)
    make_alert("anna")

    def race(i: int) -> None:
        if i:
            services.open_cases()
        else:
            close(case, ines)

    at_once(2, race)
    services.open_cases()
    closed = Case.objects.get(pk=case.pk)
    labelled = Label.objects.count()
    assert closed.status == "closed"
    assert labelled == closed.alert_count == closed.case_alerts.count()
    assert CaseAlert.objects.count() == 2


def test_a_lapsed_lease_cannot_close(queue, ines):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    Case.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    with pytest.raises(services.LeaseLapsed):
        close(case, ines)


def test_what_was_resolved_before_stays_so(queue, ines):
    alert = make_alert("anna")
    HoldResolution.objects.create(
        transaction=alert.transaction, lane=alert.lane, resolution="released", source="default"
    )
    case = make_case(alert, queue=queue)
    services.claim(case.pk, ines)
    close(case, ines)
    assert HoldResolution.objects.get().source == "default"


def test_a_reopened_case_may_be_judged_otherwise(queue, ines, tomas):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    close(case, ines)
    with pytest.raises(services.IncompleteClose):
        services.reopen_case(case.pk, by=tomas, note="oops")
    reopened = services.reopen_case(case.pk, by=tomas, note="The customer called back: it was her son.")
    assert (reopened.status, reopened.disposition, reopened.assignee) == (Status.IN_REVIEW, "", tomas)
    close(case, tomas, "inconclusive", close_reason="denies")
    assert list(Label.objects.order_by("pk").values_list("verdict", flat=True)) == ["fraud", "withdrawn"]
    assert kinds(case) == ["claimed", "closed", "reopened", "closed"]


def test_a_case_is_not_reopened_beside_another_open_one(queue, ines, tomas):
    make_alert("anna")
    services.open_cases()
    case = claimed_by(ines)
    close(case, ines)
    make_alert("anna")
    services.open_cases()
    with pytest.raises(services.AnotherIsOpen):
        services.reopen_case(case.pk, by=tomas, note="The customer called back.")


def test_labels_take_the_transaction_id_of_the_commit_first(queue, ines, django_assert_max_num_queries):
    case = make_case(queue=queue)
    services.claim(case.pk, ines)
    with django_assert_max_num_queries(25) as queries:
        close(case, ines)
    statements = [query["sql"] for query in queries]
    xid = next(i for i, sql in enumerate(statements) if "pg_current_xact_id" in sql)
    drawn = next(i for i, sql in enumerate(statements) if "label_id_seq" in sql)
    assert xid < drawn


# --- reading ----------------------------------------------------------------------------------------------------------


def test_members_see_their_queues_and_auditors_see_all(queue, ines):
    mine, other = make_case(queue=queue), make_case(queue=make_queue(name="Other"), grouping_key=5)
    assert set(for_member(ines)) == {mine}
    assert set(for_member(make_user("auditor", "cases.view_case"))) == {mine, other}
    assert set(for_member(make_user("stranger", *WORK))) == set()


def test_open_unassigned_and_overdue_say_what_they_mean(queue, ines):
    late = make_case(queue=queue, due_at=timezone.now() - timedelta(minutes=1), grouping_key=1)
    taken = make_case(queue=queue, assignee=ines, status="in_review", grouping_key=2)
    assert set(unassigned()) == {late}
    assert set(open_ones()) == {late, taken}
    assert set(overdue(timezone.now())) == {late}


def test_the_case_of_a_payment_is_found(queue):
    case = make_case(queue=queue)
    alert = case.case_alerts.get()
    assert services.case_ids_of([alert.pk, alert.pk + 1]) == {alert.pk: case.pk}


def test_seeds_can_be_sown_twice(ines):
    lane = make_lane()
    for _ in range(2):
        queues = seed_queues(lane, [ines])
        seed_close_reasons()
    assert [queue.slug for queue in queues] == ["payments", "cards"]
    assert all(list(queue.members.all()) == [ines] for queue in queues)
    assert Queue.objects.get(slug="incidents").grouping == "merchant"
    assert [(route.queue.slug, route.is_active) for route in Route.objects.all()] == [("incidents", True)]
    assert not Queue.objects.get(slug="escalations").members.exists()  # for those who lead


def test_constraints_hold_in_the_database_itself(queue):
    with connection.cursor() as cursor:
        cursor.execute("SELECT conname FROM pg_constraint WHERE conname = 'a_closed_case_has_a_disposition'")
        assert cursor.fetchone()


def test_a_person_may_set_the_priority_with_a_reason(queue, ines):
    case = make_case(queue=queue, priority=3)
    with pytest.raises(services.CaseError):
        services.set_priority(case.pk, 1, by=ines, note=" ")
    services.set_priority(case.pk, 1, by=ines, note="The customer is in the branch.")
    assert (Case.objects.get().priority, kinds(case)) == (1, ["priority_set"])
