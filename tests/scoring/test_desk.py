"""The tuning pages: who may open them, what a button does, and how a refusal looks."""

from __future__ import annotations

import json
import re

import pytest
from django.core.cache import cache
from django.urls import reverse

from scoring import governance
from scoring.models import Proposal, Rule
from tests.factories import make_decision, make_transaction
from tests.scoring.standing import standing
from tests.scoring.test_governance import LOWER, make_model

pytestmark = pytest.mark.django_db
PAGES = ("thresholds", "rules", "approvals", "models")


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()


def form(**changed) -> dict:
    data = {f"{step}-default": score for step, score in LOWER["default"].items()}
    return data | {"reason": "Too much gets through"} | changed


@pytest.fixture
def proposal(lane, proposer) -> Proposal:
    return governance.propose_policy(lane, LOWER, by=proposer, reason="Too much gets through")


def test_every_page_opens_with_and_without_data_under_the_strict_policy(client, lane, proposer, proposal):
    client.force_login(proposer)
    make_decision(make_transaction(), release=standing(lane), rule_hits=bytes([1] * 15))
    model = make_model(
        lane, metrics={"test": {"auc": 0.91, "calibration": [{"promised": 0.1, "actual": 0.2, "payments": 9}]}}
    )
    pages = [reverse(f"admin:{name}") for name in PAGES]
    pages += [reverse("admin:rule", args=[Rule.objects.first().pk]), reverse("admin:approval", args=[proposal.pk])]
    for page in [*pages, reverse("admin:model", args=[model.pk])]:
        response = client.get(page)
        assert response.status_code == 200, page
        text = response.content.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style", text), page
        assert all('src="' in tag or "application/json" in tag for tag in re.findall(r"<script[^>]*>", text)), page


def test_pages_are_shut_for_who_has_no_right(client, lane, django_user_model):
    client.force_login(django_user_model.objects.create_user("gast", is_staff=True))
    assert {client.get(reverse(f"admin:{name}")).status_code for name in PAGES} == {403}


def test_the_thresholds_page_carries_the_histogram_and_those_in_force(client, lane, proposer):
    make_decision(make_transaction(), score=812, release=standing(lane), rule_hits=bytes(15))
    client.force_login(proposer)
    text = client.get(reverse("admin:thresholds")).content.decode()
    [found] = re.findall(r'id="thresholds-data" type="application/json">(.*?)</script>', text, re.S)
    data = json.loads(found)
    assert data["now"] == standing(lane).policy.thresholds
    assert data["histogram"]["bars"] == {"ecommerce": {"1": [[812, 1, 0, 0, 0, 0]]}}
    for control in ("threshold-review-default", "threshold-decline-default", "effect-table", "propose"):
        assert f'data-testid="{control}"' in text


def test_proposing_thresholds_leads_to_the_proposal(client, lane, proposer):
    client.force_login(proposer)
    response = client.post(
        reverse("admin:thresholds"), form() | {"own-atm": "1", "challenge-atm": 1, "review-atm": 2, "decline-atm": 3}
    )
    proposal = Proposal.objects.get()
    assert response.url == reverse("admin:approval", args=[proposal.pk])
    assert proposal.after["thresholds"] == {**LOWER, "atm": {"challenge": 1, "review": 2, "decline": 3}}


def test_how_long_payments_are_held_is_proposed_on_the_same_page(client, lane, proposer):
    client.force_login(proposer)
    page = reverse("admin:thresholds")
    assert client.post(page, form(hold_minutes="0")).status_code == 422
    assert client.post(page, form(default_resolution="eaten")).status_code == 422
    client.post(page, form(hold_minutes="45", default_resolution="blocked"))
    after = Proposal.objects.get().after
    assert (after["hold_minutes"], after["default_resolution"]) == (45, "blocked")


def test_thresholds_that_cannot_be_are_refused_and_stay_in_the_form(client, lane, proposer):
    client.force_login(proposer)
    response = client.post(reverse("admin:thresholds"), form(**{"review-default": 950}))
    assert response.status_code == 422
    assert "must rise" in response.content.decode()
    assert 'value="950"' in response.content.decode()
    assert client.post(reverse("admin:thresholds"), form(**{"review-default": "much"})).status_code == 422
    assert not Proposal.objects.exists()


def test_the_proposer_is_refused_with_403_and_a_message_even_by_a_bare_post(client, proposal, proposer):
    client.force_login(proposer)
    response = client.post(reverse("admin:approval", args=[proposal.pk]), {"act": "approve"})
    assert response.status_code == 403
    assert "another person has to decide" in response.content.decode()
    proposal.refresh_from_db()
    assert proposal.status == "pending"


def test_who_lacks_the_right_is_refused_with_403(client, proposal, stranger):
    client.force_login(stranger)
    assert client.post(reverse("admin:approval", args=[proposal.pk]), {"act": "approve"}).status_code == 403


def test_another_person_approves_and_goes_back_by_one_click(client, lane, proposal, approver):
    client.force_login(approver)
    page = reverse("admin:approval", args=[proposal.pk])
    response = client.post(page, {"act": "approve", "note": "Agreed"})
    assert response.status_code == 302
    assert standing(lane).policy.thresholds == LOWER
    assert client.post(page, {"act": "approve"}).status_code == 409
    client.post(page, {"act": "revert"})
    back = Proposal.objects.get(reverts=proposal)
    assert back.proposed_by == approver
    assert str(proposal.pk) in back.reason
    assert 'data-testid="revert"' in client.get(reverse("admin:approvals")).content.decode()


def test_rejecting_and_withdrawing_from_the_page(client, lane, proposal, proposer, approver):
    page = reverse("admin:approval", args=[proposal.pk])
    client.force_login(approver)
    assert client.post(page, {"act": "reject", "note": ""}).status_code == 422
    assert client.post(page, {"act": "reject", "note": "No"}).status_code == 302
    other = governance.propose_policy(lane, LOWER, by=proposer, reason="Again")
    client.force_login(proposer)
    assert client.post(reverse("admin:approval", args=[other.pk]), {"act": "withdraw"}).status_code == 302
    assert client.post(reverse("admin:approval", args=[other.pk]), {"act": "dance"}).status_code == 422
    assert [each.status for each in Proposal.objects.order_by("pk")] == ["rejected", "withdrawn"]


def test_switching_a_rule_and_changing_its_text_from_the_page(client, lane, proposer):
    rule = Rule.objects.get(lane=lane, code="R-101")
    page = reverse("admin:rule", args=[rule.pk])
    client.force_login(proposer)
    expression = rule.versions.get().expression
    client.post(page, {"mode": "shadow", "expression": expression, "reason": "Noisy"})
    switched = Proposal.objects.get()
    assert (switched.after["mode"], switched.after["number"]) == ("shadow", 1)
    response = client.post(page, {"mode": "live", "expression": "amont > 5", "reason": "Sharper"})
    assert response.status_code == 422
    assert "did you mean amount" in response.content.decode()
    client.post(page, {"mode": "live", "expression": "amount > 5", "reason": "Sharper"})
    assert Proposal.objects.first().after["expression"] == "amount > 5"


def test_promoting_a_model_from_the_page(client, lane, proposer):
    model = make_model(lane)
    client.force_login(proposer)
    response = client.post(reverse("admin:model", args=[model.pk]), {"reason": "Better"})
    assert response.url == reverse("admin:approval", args=[Proposal.objects.get(model=model).pk])
    assert client.post(reverse("admin:model", args=[model.pk]), {"reason": ""}).status_code == 422


def test_stock_lists_of_versions_and_decisions_are_read_only_and_never_count(
    client, lane, admin_user, django_assert_max_num_queries
):
    make_decision(make_transaction(), release=standing(lane))
    client.force_login(admin_user)
    for name in (
        "decision",
        "release",
        "policyversion",
        "ruleversion",
        "modelversion",
        "proposal",
        "reasoncode",
        "rule",
    ):
        with django_assert_max_num_queries(8):
            response = client.get(reverse(f"admin:scoring_{name}_changelist"))
        assert response.status_code == 200, name
        assert client.get(reverse(f"admin:scoring_{name}_add")).status_code == 403
    decision = standing(lane)
    assert client.post(reverse("admin:scoring_release_delete", args=[decision.pk]), {"post": "yes"}).status_code == 403
