"""Tags: which words are tags, how many, and that each change is told."""

import pytest

from cases import services, tags
from cases.history import NotAllowed, StaleCase
from cases.models import CaseEvent
from tests.factories import WORK, make_case, make_queue, make_user


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK)


@pytest.fixture
def case(owner):
    return make_case(queue=make_queue(owner))


@pytest.mark.parametrize(
    ("typed", "found"),
    [("", []), ("Mule", ["mule"]), ("mule, ring  mule;#été", ["mule", "ring", "été"]), ("app-scam", ["app-scam"])],
)
def test_tags_are_plain_words_in_lower_case(typed, found):
    assert tags.tags_in(typed) == found


@pytest.mark.parametrize("typed", ["a/b", "<b>", "x" * 31, "-dash"])
def test_anything_else_is_no_tag(typed):
    with pytest.raises(tags.RefusedTag):
        tags.tags_in(typed)


def test_tags_come_and_go_with_a_line_each(case, owner):
    tags.add_tags(case.pk, ["mule", "ring"], by=owner)
    tags.add_tags(case.pk, ["ring"], by=owner)
    changed = tags.remove_tags(case.pk, ["mule"], by=owner)
    assert changed.tags == ["ring"]
    told = CaseEvent.objects.filter(case=case, kind="tagged").order_by("pk")
    assert [(line.data["added"], line.data["removed"]) for line in told] == [(["mule", "ring"], []), ([], ["mule"])]
    assert [(line.before, line.after) for line in told] == [("", "mule, ring"), ("mule, ring", "ring")]


def test_a_case_has_at_most_ten_tags(case, owner):
    with pytest.raises(tags.RefusedTag, match="at most 10"):
        tags.add_tags(case.pk, [f"tag{n}" for n in range(11)], by=owner)


def test_strangers_tag_nothing_and_stale_forms_overwrite_nothing(case, owner):
    with pytest.raises(NotAllowed):
        tags.add_tags(case.pk, ["mule"], by=make_user("stranger", *WORK))
    services.claim(case.pk, owner)
    with pytest.raises(StaleCase):
        tags.add_tags(case.pk, ["mule"], by=owner, version=1)
