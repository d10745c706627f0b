"""Staff conflict: of a relative's or an own account a person sees nothing, wherever they look, and can do nothing."""

import json
from typing import Any

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from cases import approvals, assignment, graph, mentions, quality, services
from cases.entities import Entity
from cases.models import Case, Exclusion, QualityReview, Queue
from cases.querysets import for_member
from fraudsite import palette
from tests.cases.acting import WHY
from tests.cases.linking import link
from tests.factories import (
    LEAD,
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_lane,
    make_queue,
    make_user,
)
from transactions.codes import entity_key

KEY = entity_key("customer", "cust-qxzv")
SHARED: dict[str, Any] = {"device": "dev-shared", "merchant": "shop-1"}
SEES: tuple[str, ...] = (*LEAD, "cases.approve_case", "cases.review_quality", "cases.unmask")
SEES += ("scoring.view_decision", "transactions.view_transaction", "cases.view_note", "cases.view_caseevent")


@pytest.fixture
def mate(db):
    return make_user("mate", *WORK)


@pytest.fixture
def ines(mate):
    """Who is kept from the customer: her brother."""
    cache.clear()
    user = make_user("ines", *SEES)
    Exclusion.objects.create(user=user, customer=KEY, reason="Her brother.", added_by=mate)
    return user


@pytest.fixture
def queue(ines, mate):
    make_close_reason("denies")
    return make_queue(ines, mate, quality_share=1.0)


@pytest.fixture
def his(queue):
    """The brother's case, with a card of his own and a device that others use too."""
    own: dict[str, Any] = {"card": "tok-his", "document": {"card": {"token": "tok-his", "last4": "4417"}}}
    alert = make_alert("cust-qxzv", external_id="ext-qxzv", **own, **SHARED)
    link(alert.transaction)
    return make_case(alert, queue=queue)


@pytest.fixture
def other(queue):
    alert = make_alert("cust-0182", **SHARED)
    link(alert.transaction)
    return make_case(alert, queue=queue)


@pytest.fixture
def as_ines(client, ines):
    client.force_login(ines)
    return client


def entity(kind, token, name="entity"):
    return reverse(f"admin:{name}", args=[kind, str(entity_key(kind, token))])


LOOKS = {
    "queue": lambda case: "/desk/queue/",
    "all of it": lambda case: "/desk/queue/?sort=-score",
    "search by number": lambda case: f"/desk/queue/?q={case.pk}",
    "search by customer": lambda case: "/desk/queue/?q=cust-qxzv&status=",
    "search by payment": lambda case: "/desk/queue/?q=ext-qxzv",
    "live": lambda case: "/desk/live/",
    "shared device": lambda case: entity("device", "dev-shared"),
    "its links": lambda case: entity("device", "dev-shared", "entity_links"),
    "merchant": lambda case: entity("merchant", "shop-1"),
    "my day": lambda case: "/desk/my-day/",
    "board": lambda case: "/desk/board/",
    "quality": lambda case: "/desk/quality/",
    "late labels": lambda case: "/desk/late-labels/",
    "second looks": lambda case: "/desk/case-approvals/",
    "mentions": lambda case: "/desk/mentions/",
    "customers at risk": lambda case: "/desk/dashboard/customers/",
    "payments": lambda case: "/desk/dashboard/rows/?kind=alerts",
    "their export": lambda case: "/desk/dashboard/rows/?kind=alerts&format=csv",
    "records of cases": lambda case: "/desk/cases/case/",
    "records of lines": lambda case: "/desk/cases/caseevent/",
    "records of alerts": lambda case: "/desk/alerts/alert/",
    "records of payments": lambda case: "/desk/transactions/transaction/",
}


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_shows_the_case_the_payment_or_the_customer(as_ines, his, other, look):
    text = as_ines.get(LOOKS[look](his)).content.decode()
    searched = text.replace("cust-qxzv", "").replace("ext-qxzv", "").replace(f"q={his.pk}", "")  # what she typed
    searched = searched.replace(f'value="{his.pk}"', "").replace(f"Search: {his.pk}", "")
    assert "qxzv" not in searched
    assert f"{his.number}<" not in searched


@pytest.mark.parametrize("look", ["queue", "live", "shared device", "board", "customers at risk", "records of cases"])
def test_others_see_both(client, mate, his, other, look):
    mate.user_permissions.set(make_user("twin", *SEES).user_permissions.all())
    client.force_login(mate)
    text = client.get(LOOKS[look](his)).content.decode()
    assert "qxzv" in text or f"{his.number}<" in text


PIECES = ("", "timeline/", "alerts/", "rules/", "graph/", "history/", "files/", "verdicts/", "lease/", "people/")


@pytest.mark.parametrize("piece", PIECES)
def test_no_piece_of_the_case_exists(as_ines, his, piece):
    assert as_ines.get(f"/desk/cases/{his.pk}/{piece}").status_code == 404


def test_no_act_no_preview_no_report_and_no_way_from_the_alert(as_ines, his):
    where = reverse("admin:case", args=[his.pk])
    for path in ("claim/", "note/", "tags/", "pack/pdf/", "pack/zip/", "history/csv/", "presence/", "files/"):
        assert as_ines.post(where + path, {"text": "Hello"}).status_code == 404
    assert as_ines.get(f"/desk/queue/preview/{his.pk}/").status_code == 404
    assert as_ines.post(f"/desk/queue/assign/{his.pk}/").status_code == 404
    fresh = make_alert("cust-qxzv")
    assert as_ines.get(reverse("admin:case_by_alert", args=[fresh.pk])).status_code == 404
    his.refresh_from_db()
    assert (his.status, his.assignee, his.events.count()) == ("new", None, 0)


@pytest.mark.parametrize(("kind", "token"), [("customer", "cust-qxzv"), ("card", "tok-his")])
def test_neither_the_customer_nor_the_card_has_a_page_or_is_found(as_ines, ines, his, other, kind, token):
    for name in ("entity", "entity_links"):
        assert as_ines.get(entity(kind, token, name)).status_code == 404
    assert as_ines.post(entity(kind, token, "entity_unmask"), {"reason": "I want to see it."}).status_code == 404
    for text in (token, "4417"):
        assert 'data-testid="entity-none"' in as_ines.get("/desk/entities/", {"q": text}).content.decode()
    assert as_ines.get("/desk/find/", {"q": token}).json() == {"found": []}
    assert palette.found(ines, his.number) == []


def test_the_graph_leaves_out_who_is_kept_from_the_reader(ines, mate, his, other):
    around = Entity("device", entity_key("device", "dev-shared"), make_lane().pk)
    seen = {reader.username: set(graph.around(around, reader).nodes) for reader in (ines, mate)}
    assert seen["mate"] - seen["ines"] == {("customer", KEY), ("card", entity_key("card", "tok-his"))}
    told = json.dumps(graph.as_data(graph.of_case(other, ines)))
    assert "qxzv" not in told and str(KEY) not in told


def test_an_incident_with_one_payment_of_his_is_hidden_as_a_whole(as_ines, ines, mate):
    shops = make_queue(ines, mate, name="Shops", grouping=Queue.Grouping.MERCHANT)
    incident = make_case(make_alert("cust-1", score=900, **SHARED), make_alert("cust-qxzv", **SHARED), queue=shops)
    assert incident.customer != KEY
    assert not for_member(ines).exists() and for_member(mate).get() == incident
    assert as_ines.get(reverse("admin:case", args=[incident.pk])).status_code == 404
    with pytest.raises(services.NotAllowed, match="kept from"):
        services.claim(incident.pk, ines)
    assert services.claim_next(ines) is None
    member = assignment.Member(ines, 0, {KEY})
    assert not member.may_have(incident) and assignment.Member(mate, 0).may_have(incident)


def test_nothing_of_his_waits_for_her_review_approval_or_answer(ines, mate, queue, his):
    queue.four_eyes_from = None
    services.claim(his.pk, mate)
    with pytest.raises(mentions.RefusedMention):
        services.add_note(his.pk, "@ines please look.", by=mate)
    services.close_case(his.pk, "legitimate", by=mate, close_reason="denies", rationale=WHY)
    services.reopen_case(his.pk, by=mate, note="He called back about it.")
    Case.objects.filter(pk=his.pk).update(contradicted_at=timezone.now())
    assert QualityReview.objects.filter(case=his).exists()
    assert not quality.pending(ines).exists() and not approvals.pending(ines).exists()
    other = make_user("other", *SEES)
    queue.members.add(other)
    assert quality.pending(other).exists() and approvals.pending(other).exists()
