"""The lists' pages and the switches: who may, what a button does, and what it says before."""

from __future__ import annotations

import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from scoring import governance, lists, switches
from scoring.models import List, Proposal, Rule
from tests.factories import make_user
from tests.scoring.conftest import APPROVE, PROPOSE, VIEW
from tests.scoring.standing import standing

pytestmark = pytest.mark.django_db
READ = ("scoring.view_list", "scoring.view_listentry", "scoring.view_rule")
RIGHTS = (
    "scoring.propose_list",
    "scoring.approve_list",
    "scoring.watch_list",
    "scoring.add_list",
    "scoring.pull_switch",
)


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()


@pytest.fixture
def admin(db):
    return make_user("dora", *READ, *RIGHTS, *PROPOSE, *APPROVE, *VIEW)


@pytest.fixture
def other(db):
    return make_user("egon", *READ, *RIGHTS, *PROPOSE, *APPROVE, *VIEW)


@pytest.fixture
def block(lane, admin) -> List:
    return lists.create_list(lane, "stolen", kind="block", subject="card", by=admin)


def test_every_page_opens_under_the_strict_policy(client, lane, admin, block):
    client.force_login(admin)
    watch = List.objects.get(lane=lane, name="proxy-networks")
    lists.propose_entry(block, "tok-1", by=admin, reason="Stolen")
    switches.pull(lane, by=admin, reason="It went mad")
    switches.pull(lane, Rule.objects.get(lane=lane, code="R-101"), by=admin, reason="Noise")
    pages = [reverse("admin:lists"), reverse("admin:rules"), reverse("admin:models"), reverse("admin:index")]
    pages += [reverse("admin:list", args=[each.pk]) for each in (block, watch)]
    pages += [reverse("admin:list", args=[watch.pk]) + f"?{ask}" for ask in ("show=past", "q=192.0.2.0/25", "remove=1")]
    pages += [reverse("admin:rule", args=[Rule.objects.get(lane=lane, code="R-101").pk]), reverse("admin:approvals")]
    for page in pages:
        response = client.get(page)
        assert response.status_code == 200, page
        text = response.content.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style", text), page
    approvals = client.get(reverse("admin:approvals")).content.decode()
    assert "The model is off in cards." in approvals
    assert "It went mad" in approvals
    assert 'data-testid="pulled"' in client.get(reverse("admin:index")).content.decode()


def test_pages_are_shut_for_who_has_no_right(client, lane, block):
    client.force_login(make_user("gast"))
    for page in (reverse("admin:lists"), reverse("admin:list", args=[block.pk])):
        assert client.get(page).status_code == 403
    reader = make_user("leser", *READ)
    client.force_login(reader)
    text = client.get(reverse("admin:list", args=[block.pk])).content.decode()
    assert 'data-testid="add"' not in text
    posted = client.post(reverse("admin:list", args=[block.pk]), {"act": "add", "value": "tok-1", "reason": "Me"})
    assert posted.status_code == 403
    assert client.post(reverse("admin:models"), {"switch": "pull", "reason": "Me"}).status_code == 403
    assert client.post(reverse("admin:lists"), {"name": "x", "kind": "watch", "subject": "card"}).status_code == 403


def test_a_list_is_made_and_an_entry_goes_through_two_persons(client, lane, admin, other):
    client.force_login(admin)
    made = client.post(
        reverse("admin:lists"), {"name": "phones", "kind": "block", "subject": "device", "lane": "cards"}
    )
    held = List.objects.get(lane=lane, name="phones")
    assert (made.url, held.outcome) == (reverse("admin:list", args=[held.pk]), "decline")
    page = reverse("admin:list", args=[held.pk])
    entry = {"act": "add", "value": "dev-9", "reason": "Ring 12", "expires_at": "2099-01-31"}
    assert client.post(page, entry | {"reason": " "}).status_code == 422
    proposal = Proposal.objects.get(pk=client.post(page, entry).url.rstrip("/").rsplit("/")[-1])
    assert "Ring 12" in client.get(reverse("admin:approval", args=[proposal.pk])).content.decode()
    refused = client.post(reverse("admin:approval", args=[proposal.pk]), {"act": "approve"})
    assert refused.status_code == 403
    client.force_login(other)
    client.post(reverse("admin:approval", args=[proposal.pk]), {"act": "approve"})
    text = client.get(page).content.decode()
    assert ">dev-9<" in text
    asked = client.get(page + "?remove=" + str(held.entries.get().pk)).content.decode()
    assert "It counts until another person agrees." in asked
    client.post(page, {"act": "remove", "entry": held.entries.get().pk, "reason": "Mistake"})
    assert Proposal.objects.get(status="pending").before["entries"] == [held.entries.get().pk]


def test_a_watch_entry_goes_on_and_off_at_once(client, lane, admin):
    client.force_login(admin)
    held = List.objects.get(lane=lane, name="watched-devices")
    page = reverse("admin:list", args=[held.pk])
    before = standing(lane).lists_version
    assert client.post(page, {"act": "add", "value": "dev-9", "reason": "Odd"}).status_code == 302
    entry = held.entries.get(value="dev-9")
    assert client.post(page, {"act": "add", "value": "dev-9", "reason": "Odd"}).status_code == 409
    client.post(page, {"act": "remove", "entry": entry.pk, "reason": "Known"})
    assert standing(lane).lists_version == before + 2
    past = client.get(page + "?show=past").content.decode()
    assert "taken off by dora: Known" in past
    file = SimpleUploadedFile("a.csv", b"value\ndev-1\ndev-2\n", content_type="text/csv")
    client.post(page, {"act": "import", "reason": "From the bank", "file": file})
    assert held.entries.filter(origin="file").count() == 2
    csv = client.get(reverse("admin:list_export", args=[held.pk]))
    assert (csv["Content-Type"], b"dev-2,From the bank" in csv.content) == ("text/csv; charset=utf-8", True)


def test_switches_are_used_from_the_pages_with_a_reason(client, lane, admin):
    client.force_login(admin)
    rule = Rule.objects.get(lane=lane, code="R-101")
    page = reverse("admin:rule", args=[rule.pk])
    assert "Off, it is not evaluated from the next payment on" in client.get(page).content.decode()
    assert client.post(page, {"switch": "pull", "reason": ""}).status_code == 422
    client.post(page, {"switch": "pull", "reason": "Noise"})
    assert switches.is_pulled(standing(lane), rule)
    assert "Put back, it judges the next payment again" in client.get(page).content.decode()
    client.post(page, {"switch": "restore", "reason": "Quiet"})
    client.post(reverse("admin:models"), {"switch": "pull", "reason": "It went mad", "lane": "cards"})
    assert standing(lane).pulled == {"model": True}
    assert client.post(page, {"switch": "dance", "reason": "x"}).status_code == 422


def test_who_may_propose_but_not_see_proposals_stays_on_the_list(client, block):
    client.force_login(make_user("ines", *READ, "scoring.propose_list"))
    posted = client.post(reverse("admin:list", args=[block.pk]), {"act": "add", "value": "tok-1", "reason": "Stolen"})
    assert posted.url == reverse("admin:list", args=[block.pk])
    assert "waits for a second person" in client.get(posted.url).content.decode()
    assert governance.Proposal.objects.get().kind == "list"
