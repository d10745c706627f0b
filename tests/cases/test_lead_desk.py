"""The lead's pages: who may open which, what they cost, and what their forms do."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from cases import quality
from cases.models import Absence, Case, CaseEvent, CheckItem, Exclusion, QualityReview, Queue, Route
from cases.templatetags.lead import at as at_of
from cases.workflow import Status
from tests.factories import LEAD, READ, WORK, make_alert, make_case, make_lane, make_queue, make_user
from transactions.codes import entity_key

PAGES = {"board": 403, "quality": 403, "routes": 403, "my_day": 200, "absences": 200}


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK, first_name="Ines", last_name="Verbeek")


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD, "cases.review_quality", "cases.view_route", "cases.change_route")


@pytest.fixture
def queue(ines, lead):
    return make_queue(ines, lead)


@pytest.fixture
def as_lead(client, lead, queue):
    client.force_login(lead)
    return client


@pytest.fixture
def as_ines(client, ines, queue):
    client.force_login(ines)
    return client


def at(name, *args):
    return reverse(f"admin:{name}", args=args)


def test_who_leads_opens_all_pages_and_the_others_their_own(client, lead, ines, queue):
    client.force_login(lead)
    assert {name: client.get(at(name)).status_code for name in PAGES} == dict.fromkeys(PAGES, 200)
    client.force_login(ines)
    assert {name: client.get(at(name)).status_code for name in PAGES} == PAGES
    assert client.post(at("rebalance"), {"case": 1}).status_code == 403


def test_an_auditor_changes_nothing(client, queue):
    client.force_login(make_user("auditor", *READ, "cases.view_route", "cases.view_queue"))
    assert client.get(at("routes")).status_code == 200
    assert client.post(at("routes"), {"save": 1}).status_code == 403
    assert client.get(at("my_day")).status_code == 403


def test_the_board_shows_cells_people_and_cases_within_its_queries(as_lead, queue, ines, django_assert_max_num_queries):
    for number in range(30):
        make_case(queue=queue, grouping_key=number, opened_at=timezone.now() - timedelta(hours=number * 4))
    make_case(queue=make_queue(name="Elsewhere"), customer="elsewhere")
    as_lead.get(at("board"))  # the shell's own caches
    with django_assert_max_num_queries(16):
        page = as_lead.get(at("board")).content.decode()
    assert 'data-testid="board-open">30<' in page
    assert "Ines Verbeek" in page
    assert "Elsewhere" not in page
    cell = as_lead.get(at("board") + "?queue=cards&age=4").content.decode()
    assert "over 10 d" in cell and "No open case here" in cell
    assert as_lead.get(at("board") + "?queue=nope&age=99&who=x").status_code == 200


def test_a_lead_gives_cases_to_a_person_each_with_its_own_line(as_lead, lead, ines, queue):
    cases = [make_case(queue=queue, grouping_key=number) for number in range(3)]
    elsewhere = make_case(queue=make_queue(name="Elsewhere"))
    ids = [case.pk for case in cases] + [elsewhere.pk]
    answer = as_lead.post(
        at("rebalance"), {"case": ids, "to": f"person:{ines.pk}", "note": "Late shift.", "queue": "cards"}, follow=True
    )
    assert set(Case.objects.filter(assignee=ines)) == set(cases)
    events = CaseEvent.objects.filter(kind="assigned")
    assert {event.case_id for event in events} == {case.pk for case in cases}
    assert all((event.actor, event.note) == (lead, "Late shift.") for event in events)
    text = answer.content.decode()
    assert "3 cases went to Ines Verbeek" in text
    assert f"1 stayed. {elsewhere.number}" in text
    assert answer.redirect_chain[-1][0].endswith("?queue=cards#cases")


def test_a_lead_moves_cases_to_a_queue_with_a_reason(as_lead, queue, lead):
    other, case = make_queue(lead, name="Other"), make_case(queue=queue)
    form = {"case": case.pk, "to": f"queue:{other.pk}"}
    assert "Say why they move" in as_lead.post(at("rebalance"), form, follow=True).content.decode()
    as_lead.post(at("rebalance"), form | {"note": "Wrong queue."})
    assert Case.objects.get().queue == other


@pytest.mark.parametrize("form", [{}, {"case": "x"}, {"case": "1", "to": "planet:9"}, {"case": "1", "to": "person:0"}])
def test_a_move_of_nothing_or_to_nowhere_says_so(as_lead, form):
    answer = as_lead.post(at("rebalance"), form, follow=True).content.decode()
    assert "Choose a" in answer


# --- quality ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def review(queue, ines):
    now = timezone.now()
    case = make_case(
        queue=queue, status=Status.CLOSED, closed_at=now, closed_by=ines, disposition="legitimate", rationale="Known."
    )
    quality.sample(case, disposition="legitimate", closed_at=now, by=ines, seed=0.0)
    return QualityReview.objects.get()


def test_a_review_is_made_on_its_page(as_lead, review, lead):
    assert review.case.number in as_lead.get(at("quality")).content.decode()
    refused = as_lead.post(at("review", review.pk), {"finding": "disagree", "comment": "no"})
    assert refused.status_code == 422
    assert "what was wrong" in refused.content.decode()
    as_lead.post(at("review", review.pk), {"finding": "agree"})
    review.refresh_from_db()
    assert (review.finding, review.reviewer) == ("agree", lead)
    assert as_lead.get(at("review", review.pk)).status_code == 200


def test_ones_own_close_is_refused_by_a_direct_post(as_lead, review, lead):
    QualityReview.objects.update(decided_by=lead)
    assert as_lead.post(at("review", review.pk), {"finding": "agree"}).status_code == 403
    assert 'data-testid="review-form"' not in as_lead.get(at("review", review.pk)).content.decode()


def test_reviews_of_other_queues_do_not_exist(as_lead, review):
    QualityReview.objects.update(queue=make_queue(name="Elsewhere"))
    assert as_lead.get(at("review", review.pk)).status_code == 404


def test_rates_of_people_are_for_leads_alone(client, queue, review):
    reviewer = make_user("reviewer", *WORK, "cases.review_quality")
    queue.members.add(reviewer)
    client.force_login(reviewer)
    page = client.get(at("quality")).content.decode()
    assert 'data-testid="quality-people"' not in page
    assert review.case.number in page


# --- my day and absences ----------------------------------------------------------------------------------------------


def test_my_day_shows_my_work_and_not_a_mates(as_ines, ines, lead, queue, django_assert_max_num_queries):
    mine = make_case(queue=queue, assignee=ines, status=Status.IN_REVIEW, grouping_key=1)
    theirs = make_case(queue=queue, assignee=lead, status=Status.IN_REVIEW, grouping_key=2)
    as_ines.get(at("my_day"))
    with django_assert_max_num_queries(14):
        page = as_ines.get(at("my_day")).content.decode()
    assert mine.number in page
    assert theirs.number not in page


def test_an_absence_is_planned_and_cancelled_on_its_page(as_ines, ines, lead):
    start, end = "2030-01-01T08:00", "2030-01-08T08:00"
    refused = as_ines.post(at("absences"), {"user": ines.pk, "starts_at": end, "ends_at": start})
    assert (refused.status_code, "ends after it starts" in refused.content.decode()) == (422, True)
    assert as_ines.post(at("absences"), {"user": lead.pk, "starts_at": start, "ends_at": end}).status_code == 422
    as_ines.post(at("absences"), {"user": ines.pk, "starts_at": start, "ends_at": end, "note": "Leave"})
    planned = Absence.objects.get()
    assert (planned.user, planned.note) == (ines, "Leave")
    as_ines.post(at("absences"), {"cancel": planned.pk})
    assert not Absence.objects.exists()


def test_nobody_cancels_a_strangers_absence(as_ines, lead):
    now = timezone.now()
    theirs = Absence.objects.create(user=lead, starts_at=now + timedelta(days=1), ends_at=now + timedelta(days=2))
    assert as_ines.post(at("absences"), {"cancel": theirs.pk}).status_code == 403
    assert Absence.objects.exists()


# --- routes and records -----------------------------------------------------------------------------------------------


def test_a_route_says_what_it_would_take_before_it_is_saved(as_lead, queue):
    high = make_queue(name="High")
    for score in (950, 920, 650):
        make_alert("anna", score=score)
    form = {"name": "High", "lane": make_lane().pk, "position": 5, "queue": high.pk, "is_active": "on"}
    tried = as_lead.post(at("routes") + "?new=1", form | {"score_from": 900, "try": 1}).content.decode()
    assert "Of the last 3 alerts this route would take 2" in tried.replace("\n", " ")
    assert not Route.objects.exists()
    refused = as_lead.post(at("routes") + "?new=1", form | {"score_from": 900, "score_below": 800, "save": 1})
    assert refused.status_code == 422
    as_lead.post(at("routes") + "?new=1", form | {"channels": ["atm"], "countries": "de, fr", "save": 1})
    assert Route.objects.get().conditions == {"channels": ["atm"], "countries": ["DE", "FR"]}
    assert as_lead.get(at("routes") + f"?route={Route.objects.get().pk}").status_code == 200


@pytest.mark.parametrize("values", ["", None, {}])
def test_figures_of_what_is_missing_are_zero(values):
    assert at_of(values, 7) == 0 and at_of({7: 3}, 7) == 3


def test_the_routing_page_opens_before_there_is_a_lane_or_a_queue(client, db):
    client.force_login(make_user("setter", "cases.view_route", "cases.change_route"))
    assert client.get(at("routes")).status_code == 200
    make_lane()
    assert "No queue in cards yet" in client.get(at("routes")).content.decode()


@pytest.fixture
def as_platform(client, db):
    names = [
        f"cases.{act}_{model}" for act in ("view", "add", "change") for model in ("queue", "exclusion", "checkitem")
    ]
    client.force_login(make_user("platform", *names, "cases.view_absence", "cases.view_snippet", "cases.view_route"))
    return client


def queue_form(**changes):
    values = {
        "name": "Cards", "slug": "cards", "lane": make_lane().pk, "grouping": "customer", "weight": 0,
        "lease_minutes": 15, "time_zone": "Europe/Berlin", "load_limit": 10, "quality_share": "0.02",
        "sla_1": 30, "sla_2": 120, "sla_3": 480, "sla_4": 1440, "working_hours": "Mon–Fri 08:00–18:00",
    }  # fmt: skip
    return values | changes


def test_a_queue_is_made_with_hours_and_times_in_fields_of_their_own(as_platform, ines):
    answer = as_platform.post(at("cases_queue_add"), queue_form(members=[ines.pk], quality_always=["bulk"]))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    queue = Queue.objects.get()
    assert queue.sla == {"1": 30, "2": 120, "3": 480, "4": 1440}
    assert queue.working_hours[0] == [0, "08:00", "18:00"]
    assert (list(queue.members.all()), queue.quality_always) == ([ines], ["bulk"])
    page = as_platform.get(at("cases_queue_change", queue.pk)).content.decode()
    assert "Mon–Fri 08:00–18:00" in page
    assert as_platform.get(at("cases_queue_changelist")).status_code == 200


def test_who_may_only_look_at_a_queue_reads_when_its_cases_are_due(client, db):
    queue = make_queue(make_user("ines"), slug="cards")
    client.force_login(make_user("auditor", "cases.view_queue"))
    page = client.get(at("cases_queue_change", queue.pk)).content.decode()
    assert "P1 30 min, P2 2 h 00" in page
    assert "P1 due after" not in page


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"working_hours": "whenever"}, "working_hours"),
        ({"working_hours": "Mon 08:00–08:10"}, "working_hours"),
        ({"sla_1": 999}, "sla_1"),
        ({"sla_2": 0}, "sla_2"),
        ({"quality_share": 2}, "quality_share"),
        ({"load_limit": 0}, "load_limit"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
    ],
)
def test_a_queue_that_cannot_be_is_refused_beside_its_field(as_platform, changes, field):
    answer = as_platform.post(at("cases_queue_add"), queue_form(**changes))
    assert list(answer.context["adminform"].form.errors) == [field]


def test_a_queue_with_open_cases_keeps_its_grouping_and_never_escalates_to_itself(as_platform):
    queue = make_queue()
    make_case(queue=queue)
    form = queue_form(grouping="merchant", escalates_to=queue.pk)
    answer = as_platform.post(at("cases_queue_change", queue.pk), form)
    assert set(answer.context["adminform"].form.errors) == {"grouping", "escalates_to"}


def test_an_exclusion_names_the_customer_as_the_bank_does(as_platform, ines):
    form = {"user": ines.pk, "reference": "cust-0001", "reason": "Her brother."}
    for _ in range(2):
        answer = as_platform.post(at("cases_exclusion_add"), form)
    kept = Exclusion.objects.get()
    assert (kept.customer, kept.added_by.username) == (entity_key("customer", "cust-0001"), "platform")
    assert "reference" in answer.context["adminform"].form.errors
    assert "cust-0001" not in as_platform.get(at("cases_exclusion_changelist")).content.decode()


def test_a_checklist_item_offers_the_fraud_types(as_platform):
    form = {"fraud_type": "nonsense", "position": 1, "text": "Call the customer"}
    assert "fraud_type" in as_platform.post(at("cases_checkitem_add"), form).context["adminform"].form.errors
    as_platform.post(at("cases_checkitem_add"), form | {"fraud_type": "mule"})
    assert CheckItem.objects.get().fraud_type == "mule"


@pytest.mark.parametrize("model", ["absence", "snippet", "route", "exclusion", "checkitem"])
def test_the_records_can_be_browsed(as_platform, model):
    assert as_platform.get(at(f"cases_{model}_changelist")).status_code == 200
