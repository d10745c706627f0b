"""The checklist of a fraud type: ticks with name and time, and what the close says of open ones."""

import pytest
from django.core.cache import cache

from cases import checklists, services
from cases.models import CaseEvent, CheckItem
from cases.seeds import seed_checks
from tests.cases.acting import Team, close, kinds
from transactions.codes import FRAUD_TYPE


@pytest.fixture
def team(db):
    cache.clear()
    return Team()


@pytest.fixture
def item(team):
    return CheckItem.objects.create(fraud_type="account_takeover", text="Sessions ended", is_required=True)


def test_a_tick_is_kept_with_its_author_and_can_be_taken_off(team, item):
    case = team.case()
    for _ in range(2):
        checklists.tick(case.pk, item.pk, done=True, by=team.ines)
    [step] = checklists.steps(case)
    assert step.tick and (step.is_open, step.tick.done_by) == (False, team.ines)
    checklists.tick(case.pk, item.pk, done=False, by=team.ines)
    assert kinds(case) == ["claimed", "checked", "unchecked"]


def test_only_who_has_the_case_ticks(team, item):
    case = team.case()
    with pytest.raises(services.NotYours):
        checklists.tick(case.pk, item.pk, done=True, by=team.tomas)


def test_the_close_keeps_which_required_steps_were_open(team, item):
    close(team.case(), team.ines)
    assert CaseEvent.objects.get(kind="closed").data["open_checks"] == ["Sessions ended"]


def test_there_is_a_checklist_for_every_fraud_type(db):
    for _ in range(2):
        seed_checks()
    found = set(CheckItem.objects.exclude(fraud_type="").values_list("fraud_type", flat=True))
    assert found == set(FRAUD_TYPE)
    assert all(CheckItem.objects.filter(fraud_type=sort, is_required=True).exists() for sort in found)
