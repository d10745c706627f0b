"""The pages of entities: masked, recorded, bound to lanes and queues, and quick to ask."""

import re

import pytest
from django.urls import reverse

from cases.models import Exclusion, Note, Sighting
from tests.cases.linking import link
from tests.factories import READ, WORK, make_alert, make_case, make_lane, make_queue, make_transaction, make_user
from transactions.codes import entity_key

REASON = "The customer asked which device it was."


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK, "cases.unmask")


@pytest.fixture
def case(ines):
    stopped = make_alert(
        "cust-4417", card="tok-81c2aa", device="device-1", merchant="shop-1", counterparty="payee-7730"
    )
    link(stopped.transaction, make_transaction("cust-0182", device="device-1"))
    return make_case(stopped, queue=make_queue(ines))


def url(kind, token, name="entity"):
    return reverse(f"admin:{name}", args=[kind, str(entity_key(kind, token))])


def page(response) -> str:
    return response.content.decode()


KINDS = [("customer", "cust-4417"), ("card", "tok-81c2aa"), ("device", "device-1"), ("merchant", "shop-1")]


@pytest.mark.parametrize(("kind", "token"), [*KINDS, ("counterparty", "payee-7730")])
def test_each_kind_has_a_page_with_windows_links_and_cases(as_user, ines, case, kind, token):
    response = as_user(ines).get(url(kind, token))
    text = page(response)
    assert response.status_code == 200
    for part in ("entity-windows", "entity-cases", "entity-lists", "entity-value"):
        assert f'data-testid="{part}"' in text, part
    assert case.number in text
    assert "90 d" in text
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)


def test_opening_one_is_recorded_once_and_names_the_case_it_came_from(as_user, ines, case):
    client = as_user(ines)
    for _ in range(2):
        client.get(url("device", "device-1") + f"?case={case.pk}")
    row = Sighting.objects.get()
    assert (row.act, row.actor, row.case) == ("entity_viewed", ines, case)
    assert (row.entity_kind, row.entity_key) == ("device", entity_key("device", "device-1"))


def test_values_are_masked_until_they_are_unmasked_with_a_reason(as_user, ines, case):
    client = as_user(ines)
    assert "cust-4417" not in page(client.get(url("customer", "cust-4417")))
    assert 'data-testid="unmask"' in page(client.get(url("customer", "cust-4417")))
    response = client.post(url("customer", "cust-4417", "entity_unmask"), {"reason": REASON})
    assert response.url.startswith(url("customer", "cust-4417"))
    text = page(client.get(response.url))
    assert "cust-4417" in text and 'data-testid="unmasked"' in text
    row = Sighting.objects.get(act="unmasked")
    assert (row.reason, row.entity_kind) == (REASON, "customer")
    text = page(client.get(url("device", "device-1")))
    assert "cust-4417" in text and "cust-0182" not in text


def test_a_short_reason_comes_back_with_a_sentence_and_unmasks_nothing(as_user, ines, case):
    response = as_user(ines).post(url("customer", "cust-4417", "entity_unmask"), {"reason": "because"})
    text = page(response)
    assert response.status_code == 422
    assert "at least 10 characters" in text and "cust-4417" not in text
    assert not Sighting.objects.filter(act="unmasked").exists()


def test_who_may_not_unmask_is_refused_and_sees_no_button(as_user, ines, case):
    analyst = make_user("analyst", *WORK)
    case.queue.members.add(analyst)
    client = as_user(analyst)
    assert 'data-testid="unmask"' not in page(client.get(url("customer", "cust-4417")))
    assert client.post(url("customer", "cust-4417", "entity_unmask"), {"reason": REASON}).status_code == 403
    assert client.get(url("customer", "cust-4417", "entity_unmask")).status_code in (403, 405)


def test_unmasking_leads_back_only_to_the_desk(as_user, ines, case):
    client = as_user(ines)
    back = reverse("admin:case", args=[case.pk])
    given = {"reason": REASON}
    assert client.post(url("customer", "cust-4417", "entity_unmask"), given | {"back": back}).url == back
    for bad in ("https://evil.example/desk/", "//evil.example", "/api/v1/"):
        response = client.post(url("customer", "cust-4417", "entity_unmask"), given | {"back": bad})
        assert response.url.startswith("/desk/entities/")


def test_strangers_relatives_and_nonsense_are_turned_away(as_user, ines, case):
    make_lane("transfers")
    stranger = make_user("stranger", *WORK)
    make_queue(stranger, name="Transfers", lane=make_lane("transfers"))
    for name in ("entity", "entity_links"):
        assert as_user(stranger).get(url("device", "device-1", name)).status_code == 404
    assert as_user(stranger).get(reverse("admin:case_graph", args=[case.pk])).status_code == 404
    assert as_user(make_user("modeller", "scoring.propose_model")).get(url("device", "device-1")).status_code == 403
    client = as_user(ines)
    for path in ("galaxy/5", "device/0", "device/x", "device/99999999999999999999", "device/-", "device/7"):
        assert client.get(f"/desk/entities/{path}/").status_code == 404, path
    assert client.get(url("device", "device-1") + "?lane=999").status_code == 404
    key = entity_key("customer", "cust-4417")
    Exclusion.objects.create(user=ines, customer=key, reason="Her brother.", added_by=ines)
    assert client.get(url("customer", "cust-4417")).status_code == 404


def test_a_note_of_an_entity_is_written_here_and_refused_with_a_card_number(as_user, ines, case):
    client = as_user(ines)
    where = url("device", "device-1", "entity_note")
    assert client.post(where, {"text": "Seen at three mules."}).status_code == 302
    assert "Seen at three mules." in page(client.get(url("device", "device-1")))
    number = "4111 1111 1111 1111"
    response = client.post(where, {"text": f"He said {number}"})
    assert response.status_code == 422
    assert number not in page(response)
    assert as_user(make_user("auditor", *READ)).post(where, {"text": "No."}).status_code == 403
    assert Note.objects.count() == 1


def test_an_auditor_reads_every_lane(as_user, case):
    auditor = make_user("auditor", *READ)
    text = page(as_user(auditor).get(url("device", "device-1")))
    assert case.number in text


def test_the_page_asks_little(as_user, ines, case, django_assert_max_num_queries):
    for number in range(10):
        link(make_transaction(f"customer-{number}", device="device-1"))
    client = as_user(ines)
    client.get(url("device", "device-1"))
    with django_assert_max_num_queries(22):
        client.get(url("device", "device-1"))


def test_the_panel_of_the_case_page_is_a_piece_of_a_page(as_user, ines, case):
    text = page(as_user(ines).get(url("device", "device-1"), headers={"X-Requested-With": "desk"}))
    assert "<html" not in text
    assert "entity-windows" in text and "by 2 customers" in text


def test_the_case_page_offers_its_entities_and_the_graph(as_user, ines, case):
    text = page(as_user(ines).get(reverse("admin:case", args=[case.pk])))
    for kind in ("counterparty", "device", "card", "merchant"):
        assert f'data-testid="entity-tab-{kind}"' in text
    assert 'aria-controls="graph"' in text
    assert f'data-url="{reverse("admin:case_graph", args=[case.pk])}"' in text


def test_the_graph_comes_as_data_for_scripts_and_as_a_table_without(as_user, ines, case):
    client = as_user(ines)
    path = reverse("admin:case_graph", args=[case.pk])
    data = client.get(path, headers={"X-Requested-With": "desk"}).json()
    assert {node["kind"] for node in data["nodes"]} == {"customer", "card", "device", "merchant", "counterparty"}
    text = page(client.get(path))
    assert text.count('<th scope="row">') == len(data["edges"])
    data = client.get(url("device", "device-1", "entity_links"), headers={"X-Requested-With": "desk"}).json()
    assert len(data["nodes"]) == 4


def test_the_search_finds_by_any_identifier_masks_it_and_is_recorded(as_user, ines, case):
    client = as_user(ines)
    text = page(client.get("/desk/entities/", {"q": "cust-4417"}))
    assert "CU ••4417" in text
    assert url("customer", "cust-4417") in text
    row = Sighting.objects.get(act="searched")
    assert row.data == {"role": "", "q": "••4417", "found": 1}
    assert 'data-testid="entity-none"' in page(client.get("/desk/entities/", {"q": "nobody-at-all"}))
    assert "Type or paste" in page(client.get("/desk/entities/"))
    assert Sighting.objects.filter(act="searched").count() == 2


def test_the_search_asks_little(as_user, ines, case, django_assert_max_num_queries):
    client = as_user(ines)
    client.get("/desk/entities/", {"q": "cust-4417"})
    with django_assert_max_num_queries(14):
        client.get("/desk/entities/", {"q": "cust-4417"})


def test_a_note_written_here_appears_in_later_cases_of_the_entity(as_user, ines, case):
    client = as_user(ines)
    client.post(url("device", "device-1", "entity_note"), {"text": "Seen at three mules."})
    alert = make_alert("cust-0999", device="device-1")
    link(alert.transaction)
    later = make_case(alert, queue=make_queue(ines))
    elsewhere = make_case(make_alert("cust-0998", device="device-2"), queue=make_queue(ines))
    text = page(client.get(reverse("admin:case", args=[later.pk])))
    assert "Seen at three mules." in text and "About the device" in text
    assert "Seen at three mules." not in page(client.get(reverse("admin:case", args=[elsewhere.pk])))
    client.post(reverse("admin:case_note", args=[later.pk]), {"text": "Bought in May.", "about": "device"})
    text = page(client.get(url("device", "device-1")))
    assert "Bought in May." in text and f"#note-{Note.objects.first().pk}" in text
