"""Saved views: kept, shared, opened first, counted up to a bound."""

import re

import pytest
from django.core.cache import cache

from cases import saved
from cases.listing import Address
from cases.models import SavedView
from tests.factories import WORK, make_alert, make_case, make_queue, make_user

QUEUE = "/desk/queue/"


@pytest.fixture
def owner(db):
    cache.clear()
    return make_user("owner", *WORK)


@pytest.fixture
def mate(db):
    return make_user("mate", *WORK, first_name="Tomas", last_name="K.")


@pytest.fixture
def queue(owner, mate):
    return make_queue(owner, mate)


@pytest.fixture
def web(client, owner):
    client.force_login(owner)
    return client


def test_a_view_keeps_filters_and_order_but_no_place(web, owner, queue):
    address = "?queue=cards&score_from=700&sort=-amount&after=xyz"
    web.post(QUEUE + "views/save/", {"name": "  High   ones ", "address": address})
    view = SavedView.objects.get()
    assert (view.name, view.address) == ("High ones", "queue=cards&score_from=700&sort=-amount")
    text = web.get(QUEUE + "?" + view.address).content.decode()
    assert re.search(r'aria-current="true"[^>]*>.{0,200}High ones', text, re.DOTALL)
    assert "<h1>High ones</h1>" in text


def test_saving_again_under_the_name_replaces_and_others_may_use_it_too(owner, mate, queue):
    saved.save_view("Mine", Address(due="late"), by=owner)
    saved.save_view("Mine", Address(due="today"), by=owner)
    saved.save_view("Mine", Address(due="later"), by=mate)
    assert [view.address for view in SavedView.objects.order_by("pk")] == ["due=today", "due=later"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_view_needs_a_name(owner, name):
    with pytest.raises(saved.RefusedView):
        saved.save_view(name, Address(), by=owner)


def test_fifty_views_are_the_most(owner):
    for number in range(50):
        saved.save_view(f"View {number}", Address(), by=owner)
    with pytest.raises(saved.RefusedView, match="50 views"):
        saved.save_view("One more", Address(), by=owner)
    saved.save_view("View 7", Address(due="late"), by=owner)
    assert saved.views_for(owner).count() == 50


def test_a_shared_view_is_seen_by_the_people_of_ones_queues_only(owner, mate, queue):
    stranger = make_user("stranger", *WORK)
    shared = saved.save_view("Team", Address(due="late"), by=owner, shared=True)
    saved.save_view("Own", Address(due="late"), by=owner)
    assert list(saved.views_for(mate)) == [shared]
    assert list(saved.views_for(stranger)) == []
    assert [view.name for view in saved.views_for(owner)] == ["Own", "Team"]


def test_only_its_owner_deletes_or_shares_a_view(client, owner, mate, queue):
    view = saved.save_view("Team", Address(due="late"), by=owner, shared=True)
    client.force_login(mate)
    for act in ("delete", "share"):
        client.post(f"{QUEUE}views/{view.pk}/{act}/")
    view.refresh_from_db()
    assert view.is_shared
    client.force_login(owner)
    client.post(f"{QUEUE}views/{view.pk}/share/")
    assert not SavedView.objects.get().is_shared
    client.post(f"{QUEUE}views/{view.pk}/delete/")
    assert not SavedView.objects.exists()
    assert client.post(f"{QUEUE}views/{view.pk}/burn/").status_code == 404


def test_the_bare_queue_opens_with_ones_default_view(web, owner, queue):
    saved.save_view("Late", Address(due="late"), by=owner, default=True)
    assert web.get(QUEUE).url == QUEUE + "?due=late"
    assert web.get(QUEUE + "?sort=priority").status_code == 200
    saved.save_view("Other", Address(due="today"), by=owner, default=True)
    assert web.get(QUEUE).url == QUEUE + "?due=today"
    saved.make_default(SavedView.objects.get(name="Other").pk, by=owner)
    assert web.get(QUEUE).status_code == 200


def test_views_are_counted_up_to_a_bound(web, owner, queue, monkeypatch):
    monkeypatch.setattr("cases.saved.MOST_COUNTED", 3)
    for number in range(5):
        make_case(make_alert(f"c-{number}"), queue=queue, score=700 + number)
    view = saved.save_view("High", Address(score_from="703"), by=owner)
    counts = web.get(QUEUE + "counts/").json()
    assert counts["Most urgent"] == "3+"
    assert counts["Late"] == "0"
    assert counts[str(view.pk)] == "2"


def test_the_dialog_lists_ones_own_views(web, owner, mate, queue):
    saved.save_view("Own one", Address(), by=owner)
    saved.save_view("Of a mate", Address(), by=mate, shared=True)
    text = web.get(QUEUE + "views/?due=late").content.decode()
    dialog = text.split('id="save-view-form"')[1]
    assert 'value="?due=late"' in dialog
    assert "Own one" in dialog
    assert "Of a mate" not in dialog
