"""Samples of closed cases, second reviews, and what they say."""

import pytest
from django.utils import timezone

from cases import quality, services
from cases.history import NotAllowed
from cases.models import Case, CaseEvent, QualityReview
from cases.workflow import Status
from tests.factories import LEAD, WORK, make_alert, make_case, make_close_reason, make_queue, make_user

WHY = "Customer denies the payment on the phone."
REVIEWER = (*LEAD, "cases.review_quality")


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK)


@pytest.fixture
def lead(db):
    return make_user("lead", *REVIEWER)


@pytest.fixture
def queue(ines, lead):
    make_close_reason("denies")
    return make_queue(ines, lead, quality_share=0.02)


def closed(queue, by, disposition="legitimate", score=640):
    """A case that this person closed."""
    case = make_case(make_alert("anna", score=score), queue=queue, grouping_key=Case.objects.count() + 1)
    services.claim(case.pk, by)
    return services.close_case(case.pk, disposition, by=by, close_reason="denies", rationale=WHY)


def drawn(case, seed=0.5, **fields):
    """What the case draws by that number; the draw at its own close is left aside."""
    QualityReview.objects.all().delete()
    values = {"disposition": case.disposition, "closed_at": case.closed_at, "by": case.closed_by} | fields
    return quality.sample(case, seed=seed, **values)


@pytest.fixture
def review(queue, ines):
    case = closed(queue, ines)
    drawn(case, seed=0.001)
    return QualityReview.objects.get()


def test_every_close_keeps_its_number_and_the_chosen_ones_a_row(queue, ines):
    queue.quality_share = 1.0
    queue.save()
    case = closed(queue, ines)
    kept = CaseEvent.objects.get(case=case, kind="closed").data["quality"]
    found = QualityReview.objects.get()
    assert kept == {"seed": found.seed, "chosen_for": "random"}
    assert 0 <= found.seed < 1
    assert (found.case, found.decided_by, found.closed_at) == (case, ines, Case.objects.get().closed_at)


@pytest.mark.parametrize(
    "seed, share, chosen", [(0.019, 0.02, "random"), (0.02, 0.02, ""), (0.0, 0.0, ""), (0.999, 1.0, "random")]
)
def test_chance_chooses_by_the_stored_number(queue, ines, seed, share, chosen):
    queue.quality_share = share
    queue.save()
    case = Case.objects.select_related("queue").get(pk=closed(queue, ines).pk)
    assert drawn(case, seed).chosen_for == chosen
    assert QualityReview.objects.count() == bool(chosen)


@pytest.mark.parametrize(
    "score, disposition, ways, chosen",
    [
        (640, "legitimate", {"bulk": True}, "bulk"),
        (640, "legitimate", {"override": True}, ""),  # not in this queue's policy
        (910, "legitimate", {}, "legitimate_above_block"),
        (899, "legitimate", {}, ""),
        (910, "inconclusive", {}, ""),
        (910, "legitimate", {"bulk": True}, "bulk"),
    ],
)
def test_some_closes_are_always_reviewed(queue, ines, score, disposition, ways, chosen):
    case = closed(queue, ines, disposition, score)
    assert drawn(case, **ways).chosen_for == chosen


def test_the_threshold_is_the_channels_own():
    thresholds = {"default": {"decline": 900}, "atm": {"decline": 800}, "api": {"review": 1}}
    found = [quality.block_threshold(thresholds, channel) for channel in ("atm", "branch", "api")]
    assert found == [800, 900, 1001]


def test_a_close_taken_back_takes_its_sample_with_it(review):
    quality.unsample(review.case)
    assert not QualityReview.objects.exists()


def test_a_second_person_says_what_they_found(review, lead):
    for _ in range(2):  # a double click is one finding
        found = quality.review(review.pk, "agree", by=lead)
    assert (found.reviewer, found.finding, found.reopened) == (lead, "agree", False)
    event = CaseEvent.objects.get(kind="reviewed")
    assert (event.actor, event.after) == (lead, "agree")
    with pytest.raises(quality.AlreadyReviewed):
        quality.review(review.pk, "disagree", by=lead, comment="The device was new.")


def test_nobody_reviews_their_own_close(review, ines, queue):
    reviewer = make_user("both", *REVIEWER)
    queue.members.add(reviewer)
    QualityReview.objects.update(decided_by=reviewer)
    with pytest.raises(NotAllowed, match="somebody else"):
        quality.review(review.pk, "agree", by=reviewer)
    assert not quality.pending(reviewer).exists()


def test_reviewing_needs_the_right_and_the_membership(review, ines):
    for person in (make_user("mate", *WORK), make_user("stranger", *REVIEWER)):
        with pytest.raises(NotAllowed):
            quality.review(review.pk, "agree", by=person)
    with pytest.raises(services.NoSuchCase):
        quality.review(review.pk + 99, "agree", by=ines)


@pytest.mark.parametrize(
    "finding, comment, reopen",
    [("", "", False), ("disagree", "no", False), ("process_error", "", False), ("agree", "", True)],
)
def test_a_finding_says_enough(review, lead, finding, comment, reopen):
    with pytest.raises(quality.IncompleteReview):
        quality.review(review.pk, finding, by=lead, comment=comment, reopen=reopen)
    assert QualityReview.objects.get().finding == ""


def test_a_card_number_is_refused_in_a_comment(review, lead):
    with pytest.raises(services.RefusedText):
        quality.review(review.pk, "disagree", by=lead, comment="It was " + "4111 " + "1111 " * 3)


def test_a_disagreement_can_open_the_case_again(review, lead):
    quality.review(review.pk, "disagree", by=lead, comment="The device was new that day.", reopen=True)
    case = Case.objects.get()
    assert (case.status, case.assignee) == (Status.IN_REVIEW, lead)
    assert QualityReview.objects.get().reopened
    assert not quality.pending(lead).exists()


def test_a_reopening_that_is_refused_keeps_no_finding(review, lead, queue, ines):
    case = Case.objects.get()
    make_case(queue=queue, grouping_key=case.grouping_key)  # another one is open meanwhile
    with pytest.raises(services.AnotherIsOpen):
        quality.review(review.pk, "disagree", by=lead, comment="The device was new that day.", reopen=True)
    assert QualityReview.objects.get().finding == ""


def test_a_case_opened_again_needs_no_review_of_its_old_close(review, lead, ines):
    Case.objects.update(closed_at=timezone.now())
    with pytest.raises(quality.NoLongerStands):
        quality.review(review.pk, "agree", by=lead)
    assert not quality.pending(lead).exists()


def test_rates_are_told_by_queue_and_by_person(queue, ines, lead):
    for finding, comment in (
        ("agree", ""),
        ("disagree", "It was fraud after all."),
        ("process_error", "No call made."),
    ):
        case = closed(queue, ines)
        QualityReview.objects.filter(case=case).delete()
        quality.sample(case, disposition="legitimate", closed_at=case.closed_at, by=ines, seed=0.0)
        quality.review(QualityReview.objects.get(case=case).pk, finding, by=lead, comment=comment)
    [rate] = quality.rates_by_queue([queue])
    assert (rate.name, rate.reviewed, rate.disagreed, rate.process) == ("Cards", 3, 1, 1)
    assert rate.share == pytest.approx(33.33, abs=0.01)
    assert [each.name for each in quality.rates_by_person([queue])] == ["ines"]
    assert quality.found_of(ines).disagreed == 1
    assert quality.summed([rate, rate]).reviewed == 6
    assert quality.rates_by_queue([make_queue(lead, name="Empty")])[0].share is None


def test_a_reopening_that_needs_a_second_person_is_told_as_such(review, lead, client):
    Case.objects.update(closed_by=lead)  # the close is the reviewer's own after all
    client.force_login(lead)
    given = {"finding": "disagree", "comment": "The device was new that day.", "reopen": "1"}
    page = client.post(f"/desk/quality/{review.pk}/", given, follow=True).content.decode()
    assert "A second person has to agree to open it again." in page
    assert (Case.objects.get().status, QualityReview.objects.get().reopened) == (Status.CLOSED, False)


def test_a_reopened_case_is_told_as_such(review, lead, client):
    client.force_login(lead)
    given = {"finding": "disagree", "comment": "The device was new that day.", "reopen": "1"}
    page = client.post(f"/desk/quality/{review.pk}/", given, follow=True).content.decode()
    assert "It is open again, in your hands." in page
