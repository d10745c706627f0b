"""Labels that come after the close: which of them contradict a case, and what a lead does about it."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from cases import approvals, late_labels, services
from cases.history import NotAllowed
from cases.models import Case, CaseEvent
from cases.workflow import CaseError
from tests.factories import LEAD, WORK, make_alert, make_case, make_close_reason, make_queue, make_user
from transactions.services import LabelIn, record_labels

WHY = "Customer denies the payment on the phone."


@pytest.fixture(autouse=True)
def no_place():
    cache.delete(late_labels._PLACE)


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK)


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD, "cases.approve_case")


@pytest.fixture
def queue(owner, lead):
    make_close_reason("denies")
    return make_queue(owner, lead)


@pytest.fixture
def closed(queue, owner):
    """A function that closes a fresh case so and gives it back."""

    def close(disposition="legitimate"):
        case = services.claim(make_case(make_alert("cust-1"), queue=queue).pk, owner)
        kind = "account_takeover" if "fraud" in disposition else ""
        return services.close_case(
            case.pk, disposition, by=owner, fraud_type=kind, close_reason="denies", rationale=WHY
        )

    return close


def say(case, verdict, source="chargeback"):
    now = timezone.now()
    [alert] = case.case_alerts.all()
    record_labels([LabelIn(transaction_id=alert.pk, verdict=verdict, source=source, known_at=now, happened_at=now)])


@pytest.mark.parametrize(
    ("disposition", "verdict", "source", "contradicts"),
    [
        ("legitimate", "fraud", "chargeback", True),
        ("legitimate_useful", "fraud", "customer", True),
        ("confirmed_fraud", "legitimate", "customer", True),
        ("suspected_fraud", "legitimate", "customer", True),
        ("legitimate", "legitimate", "customer", False),
        ("confirmed_fraud", "fraud", "chargeback", False),
        ("inconclusive", "fraud", "chargeback", False),
        ("legitimate", "fraud", "investigator", False),
    ],
)
def test_a_later_label_contradicts_a_close_that_says_otherwise(closed, disposition, verdict, source, contradicts):
    case = closed(disposition)
    say(case, verdict, source)
    assert late_labels.mark_contradictions() == contradicts
    case.refresh_from_db()
    assert bool(case.contradicted_at) == contradicts
    assert bool(late_labels.of(case)) == contradicts


def test_marking_twice_tells_once(closed):
    case = closed()
    say(case, "fraud")
    assert [late_labels.mark_contradictions(), late_labels.mark_contradictions()] == [1, 0]
    cache.delete(late_labels._PLACE)
    assert late_labels.mark_contradictions() == 0
    [line] = CaseEvent.objects.filter(case=case, kind="late_label")
    assert (line.actor, line.before, line.after) == (None, "legitimate", "fraud (chargeback)")


def test_a_withdrawn_chargeback_contradicts_nothing(closed):
    case = closed()
    say(case, "fraud")
    say(case, "withdrawn")
    assert late_labels.mark_contradictions() == 0


def test_a_label_from_before_the_close_is_not_late(queue, owner):
    case = services.claim(make_case(make_alert("cust-1"), queue=queue).pk, owner)
    say(case, "fraud")
    services.close_case(case.pk, "legitimate", by=owner, close_reason="denies", rationale=WHY)
    assert late_labels.mark_contradictions() == 0


def test_a_lead_leaves_the_case_closed_with_a_reason(closed, lead, owner):
    case = closed()
    say(case, "fraud")
    late_labels.mark_contradictions()
    assert late_labels.waiting(lead) == [case]
    with pytest.raises(NotAllowed):
        late_labels.leave_closed(case.pk, by=owner, reason="The chargeback is for another payment.")
    with pytest.raises(CaseError, match="Say why"):
        late_labels.leave_closed(case.pk, by=lead, reason="no")
    for _ in range(2):
        late_labels.leave_closed(case.pk, by=lead, reason="The chargeback is for another payment.")
    assert CaseEvent.objects.filter(case=case, kind="left_closed").count() == 1
    assert late_labels.waiting(lead) == []
    assert late_labels.mark_contradictions() == 0


def test_a_lead_opens_the_case_again(closed, lead):
    case = closed()
    say(case, "fraud")
    late_labels.mark_contradictions()
    opened = late_labels.reopen(case.pk, by=lead, reason="The chargeback proves it was fraud.")
    case = Case.objects.get(pk=case.pk)
    assert (opened.status, case.assignee, case.contradicted_at) == ("in_review", lead, None)
    assert late_labels.waiting(lead) == []


def test_the_look_begins_at_yesterdays_labels(closed):
    case = closed()
    say(case, "fraud")
    assert late_labels._label_before(timezone.now() - timedelta(days=1)) < late_labels._newest_label()


def test_ones_own_close_is_opened_again_only_with_a_second_person(closed, lead, owner, client):
    owner.user_permissions.set(lead.user_permissions.all())
    owner = type(owner).objects.get(pk=owner.pk)
    case = closed()
    say(case, "fraud")
    late_labels.mark_contradictions()
    client.force_login(owner)
    page = client.get("/desk/late-labels/").content.decode()
    assert "Ask to open again" in page
    given = {"case": case.pk, "act": "reopen", "reason": "The chargeback proves it was fraud."}
    answer = client.post("/desk/late-labels/", given, follow=True).content.decode()
    assert f"You closed {case.number} yourself, so a second person has to agree." in answer
    case.refresh_from_db()
    assert case.status == "closed" and case.contradicted_at is not None
    page = client.get("/desk/late-labels/").content.decode()
    assert 'data-testid="late-asked"' in page and 'data-testid="late-reopen"' not in page
    asked = approvals.asked_of([case])[case.pk]
    approvals.approve(asked.pk, by=lead, reason="I see it as you do.")
    case.refresh_from_db()
    assert (case.status, case.assignee, case.contradicted_at) == ("in_review", owner, None)


def test_anothers_close_is_open_at_once_and_the_page_says_so(closed, lead, client):
    case = closed()
    say(case, "fraud")
    late_labels.mark_contradictions()
    client.force_login(lead)
    given = {"case": case.pk, "act": "reopen", "reason": "The chargeback proves it was fraud."}
    answer = client.post("/desk/late-labels/", given, follow=True).content.decode()
    assert f"{case.number} is open again, in your hands." in answer
