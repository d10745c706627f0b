"""Two persons for every change to how money is judged, whatever the route."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import IntegrityError
from django.db.transaction import atomic
from django.utils import timezone

from scoring import features, governance
from scoring.models import ModelVersion, PolicyVersion, Proposal, Release, Rule, RuleVersion
from tests.factories import make_user
from tests.scoring.standing import standing, standing_version

pytestmark = pytest.mark.django_db
LOWER = {"default": {"challenge": 400, "review": 600, "decline": 900}}
HIGHER = {"default": {"challenge": 650, "review": 800, "decline": 950}}


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()


@pytest.fixture
def proposal(lane, proposer) -> Proposal:
    return governance.propose_policy(lane, LOWER, by=proposer, reason="Too much gets through")


def make_model(lane, version: str = "m1", **fields) -> ModelVersion:
    values = {
        "artefact": f"x/{version}",
        "sha256": "0" * 64,
        "kernel_version": features.KERNEL_VERSION,
        "card": {},
        **fields,
    }
    return ModelVersion.objects.create(lane=lane, version=version, **values)


def test_a_proposal_drafts_the_version_and_freezes_the_effect_and_changes_nothing(lane, proposal):
    before = standing(lane)
    assert proposal.policy.thresholds == LOWER
    assert proposal.policy.number == 2
    assert proposal.before["thresholds"] == before.policy.thresholds
    assert {"now", "proposed", "days", "payments"} <= set(proposal.effect)
    assert before.policy.number == 1


def test_approval_by_another_person_puts_it_in_force_at_once(lane, proposal, approver):
    release = governance.approve(proposal, by=approver, note="Agreed")
    proposal.refresh_from_db()
    assert standing(lane) == release
    assert release.policy == proposal.policy
    assert release.proposal == proposal
    assert (proposal.status, proposal.decided_by, proposal.decision_note) == ("approved", approver, "Agreed")
    assert release.rules == Release.objects.order_by("id").first().rules


def test_the_proposer_is_refused_by_the_service(lane, proposal, proposer):
    with pytest.raises(governance.SamePerson):
        governance.approve(proposal, by=proposer)
    with pytest.raises(governance.SamePerson):
        governance.reject(proposal, by=proposer, note="no")
    assert standing(lane).policy.number == 1


def test_the_proposer_is_refused_by_the_database(proposal, proposer):
    with pytest.raises(IntegrityError, match="approved_by_another_person"), atomic():
        Proposal.objects.filter(pk=proposal.pk).update(status="approved", decided_by=proposer)
    with pytest.raises(IntegrityError, match="approved_by_another_person"), atomic():
        Proposal.objects.filter(pk=proposal.pk).update(status="approved", decided_by=None)


def test_a_superuser_who_proposed_is_refused_all_the_same(lane):
    root = make_user("root", is_superuser=True)
    proposal = governance.propose_policy(lane, LOWER, by=root, reason="Mine")
    with pytest.raises(governance.SamePerson):
        governance.approve(proposal, by=root)


def test_the_right_is_checked_in_the_service(lane, proposal, stranger):
    with pytest.raises(governance.NotAllowed):
        governance.approve(proposal, by=stranger)
    with pytest.raises(governance.NotAllowed):
        governance.propose_policy(lane, HIGHER, by=stranger, reason="Let me")


def test_a_lead_may_propose_but_not_approve(lane, proposal):
    lead = make_user("lena", "scoring.propose_policy")
    assert governance.propose_policy(lane, HIGHER, by=lead, reason="Less work").pk
    with pytest.raises(governance.NotAllowed):
        governance.approve(proposal, by=lead)


def test_a_proposal_is_decided_once(proposal, approver):
    governance.approve(proposal, by=approver)
    for act in (governance.approve, governance.reject):
        with pytest.raises(governance.AlreadyDecided):
            act(proposal, by=approver, note="again")


def test_a_proposal_whose_base_has_changed_is_refused(lane, proposal, proposer, approver):
    other = governance.propose_policy(lane, HIGHER, by=proposer, reason="Other way")
    governance.approve(other, by=approver)
    with pytest.raises(governance.Stale):
        governance.approve(proposal, by=approver)
    proposal.refresh_from_db()
    assert proposal.status == "pending"


def test_a_change_of_a_rule_does_not_make_a_threshold_proposal_stale(lane, proposal, proposer, approver):
    rule = Rule.objects.get(lane=lane, code="R-112")
    governance.approve(governance.propose_rule(rule, mode="live", by=proposer, reason="Proved itself"), by=approver)
    release = governance.approve(proposal, by=approver)
    assert release.policy == proposal.policy
    assert governance.standing_rule(rule)[1] == "live"


def test_a_proposal_nobody_decides_on_expires(proposal, approver):
    Proposal.objects.filter(pk=proposal.pk).update(proposed_at=timezone.now() - timedelta(hours=73))
    with pytest.raises(governance.AlreadyDecided, match="expired"):
        governance.approve(proposal, by=approver)


def test_rejecting_needs_a_note_and_leaves_everything_as_it_was(lane, proposal, approver):
    with pytest.raises(governance.NotPossible):
        governance.reject(proposal, by=approver, note=" ")
    governance.reject(proposal, by=approver, note="Too many alerts")
    proposal.refresh_from_db()
    assert (proposal.status, proposal.decision_note) == ("rejected", "Too many alerts")
    assert standing(lane).policy.number == 1


def test_only_the_proposer_withdraws(proposal, proposer, approver):
    with pytest.raises(governance.NotAllowed):
        governance.withdraw(proposal, by=approver)
    assert governance.withdraw(proposal, by=proposer).status == "withdrawn"


def test_a_reason_is_needed_and_a_change(lane, proposer):
    with pytest.raises(governance.NotPossible):
        governance.propose_policy(lane, LOWER, by=proposer, reason="  ")
    with pytest.raises(governance.NoChange):
        governance.propose_policy(lane, standing(lane).policy.thresholds, by=proposer, reason="Nothing")
    with pytest.raises(governance.NotPossible, match="rise"):
        bad = {"default": {"challenge": 900, "review": 800, "decline": 950}}
        governance.propose_policy(lane, bad, by=proposer, reason="Oops")


def test_the_way_back_is_a_proposal_for_two_persons(lane, proposal, proposer, approver):
    first = standing(lane).policy.thresholds
    governance.approve(proposal, by=approver)
    proposal.refresh_from_db()
    back = governance.revert(proposal, by=approver, reason="Too many alerts")
    assert back.reverts == proposal
    with pytest.raises(governance.SamePerson):
        governance.approve(back, by=approver)
    release = governance.approve(back, by=proposer)
    assert release.policy.thresholds == first
    assert release.policy.number == 3


def test_only_an_approved_change_has_a_way_back(proposal, proposer):
    with pytest.raises(governance.NotPossible):
        governance.revert(proposal, by=proposer, reason="Back")


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_a_rule_is_switched_and_switched_back(lane, proposer, approver, mode):
    rule = Rule.objects.get(lane=lane, code="R-101")
    place = [entry["version"] for entry in standing(lane).rules].index(rule.versions.get().pk)
    proposal = governance.propose_rule(rule, mode=mode, by=proposer, reason="Too noisy")
    release = governance.approve(proposal, by=approver)
    assert release.rules[place] == {"version": rule.versions.get().pk, "mode": mode}
    assert RuleVersion.objects.filter(rule=rule).count() == 1
    proposal.refresh_from_db()
    governance.approve(governance.revert(proposal, by=proposer, reason="Missed it"), by=approver)
    assert governance.standing_rule(rule)[1] == "live"


def test_a_new_text_is_a_new_version_in_the_rules_place(lane, proposer, approver):
    rule = Rule.objects.get(lane=lane, code="R-106")
    first, _ = governance.standing_rule(rule)
    text = {"expression": "device_remote_access and amount >= 50", "outcome": "decline"}
    proposal = governance.propose_rule(rule, mode="live", text=text, by=proposer, reason="Sharper")
    assert proposal.rule_version.number == 2
    count = len(standing(lane).rules)
    release = governance.approve(proposal, by=approver)
    assert len(release.rules) == count
    assert standing_version(rule).expression == text["expression"]
    proposal.refresh_from_db()
    governance.approve(governance.revert(proposal, by=proposer, reason="Too sharp"), by=approver)
    assert governance.standing_rule(rule) == (first, "live")


def test_a_text_that_cannot_be_read_is_refused_with_its_position(lane, proposer):
    rule = Rule.objects.get(lane=lane, code="R-106")
    with pytest.raises(governance.NotPossible, match=r"did you mean amount.*character 1"):
        governance.propose_rule(rule, mode="live", text={"expression": "amont > 5"}, by=proposer, reason="Try")
    assert rule.versions.count() == 1


def test_a_model_is_promoted_and_the_old_champion_retires(lane, proposer, approver):
    one, two = make_model(lane, "m1"), make_model(lane, "m2", metrics={"test": {"auc": 0.9}})
    governance.approve(governance.propose_model(one, by=proposer, reason="First"), by=approver)
    proposal = governance.propose_model(two, by=proposer, reason="Better")
    governance.approve(proposal, by=approver)
    one.refresh_from_db(), two.refresh_from_db()
    assert (one.stage, two.stage) == ("retired", "champion")
    assert standing(lane).model == two
    proposal.refresh_from_db()
    governance.approve(governance.revert(proposal, by=approver, reason="Worse after all"), by=proposer)
    one.refresh_from_db(), two.refresh_from_db()
    assert (one.stage, two.stage) == ("champion", "retired")


def test_a_model_of_another_kernel_is_refused(lane, proposer):
    model = make_model(lane, kernel_version=features.KERNEL_VERSION + 1)
    with pytest.raises(governance.NotPossible, match="kernel"):
        governance.propose_model(model, by=proposer, reason="Newer")


def test_every_proposal_keeps_who_when_and_why(lane, proposal, approver, proposer):
    release = governance.approve(proposal, by=approver, note="Fine")
    kept = Proposal.objects.get(pk=proposal.pk)
    assert (kept.proposed_by, kept.reason, kept.decided_by) == (proposer, "Too much gets through", approver)
    assert kept.proposed_at <= kept.decided_at
    assert (release.activated_by, release.reason) == ("egon", "Too much gets through")
    assert PolicyVersion.objects.get(pk=kept.policy_id).created_by == "dora"
