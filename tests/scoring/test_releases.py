"""What is in force: the highest release of a lane, assembled into a judge that survives a missing model."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection

from scoring import releases, seeds
from scoring.features import N_FEATURES
from scoring.models import ReasonCode, Release, Rule
from tests.factories import make_lane
from tests.scoring.standing import standing
from tests.scoring.test_governance import make_model
from transactions.facts import blank

pytestmark = pytest.mark.django_db


def test_the_highest_release_of_a_lane_is_in_force(lane):
    first = standing(lane)
    second = releases.activate(lane, by="test", reason="Again")
    with connection.cursor() as cursor:
        assert releases.current(cursor, lane.pk) == second.pk > first.pk
        assert releases.current(cursor, 32000) is None
    assert (second.policy, second.rules, second.model) == (first.policy, first.rules, first.model)


def test_a_judge_without_a_model_judges_by_rules(lane):
    judge = releases.assemble(standing(lane).pk)
    assert judge.scorer is None
    assert judge.flaw == ""
    assert [rule.flaw for rule in judge.ruleset.rules] == [""] * len(seeds.RULES)
    facts = blank(1)
    mask = judge.ruleset.evaluate(facts, np.full((1, N_FEATURES), np.nan, "f4"))
    assert judge.policy.judge(np.array([-1], "i2"), mask, judge.ruleset, facts).outcomes.tolist() == [1]


def test_a_model_that_cannot_be_loaded_is_a_flaw_and_is_tried_again(lane, monkeypatch):
    release = releases.activate(lane, model=make_model(lane, "gone"), by="test", reason="First model")
    judge = releases.assemble(release.pk)
    assert judge.scorer is None
    assert "FileNotFound" in judge.flaw
    assert judge.names["model_version"] == "gone"
    assert releases.assemble(release.pk) is judge
    monkeypatch.setattr(releases, "RETRY", -1.0)
    monkeypatch.setattr(releases.registry, "load", lambda model: "scorer")
    assert releases.assemble(release.pk).scorer == "scorer"


def test_a_judge_is_assembled_once(lane, django_assert_num_queries):
    release = standing(lane)
    judge = releases.assemble(release.pk)
    with django_assert_num_queries(0):
        assert releases.assemble(release.pk) is judge


def test_a_first_release_needs_a_policy():
    with pytest.raises(ValueError, match="policy"):
        releases.activate(make_lane("empty"), by="test", reason="Nothing yet")


def test_seeding_again_changes_nothing(lane):
    before = standing(lane)
    assert seeds.seed(lane) == before
    assert Rule.objects.filter(lane=lane).count() == len(seeds.RULES)
    assert ReasonCode.objects.count() == len(seeds.REASON_CODES)
    assert Release.objects.filter(lane=lane).count() == 1
