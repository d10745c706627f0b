"""The link graph: one hop around a case's payments, capped, marked, and the same as a table."""

import pytest
from django.utils import timezone

from cases import graph, sightings
from cases.entities import Entity
from cases.models import Sighting
from scoring.models import List, ListEntry
from tests.cases.linking import link
from tests.cases.test_entities import label
from tests.factories import WORK, make_alert, make_case, make_lane, make_queue, make_transaction, make_user
from transactions.codes import entity_key

pytestmark = pytest.mark.django_db


def key(kind: str, token: str) -> tuple[str, int]:
    return kind, entity_key(kind, token)


@pytest.fixture
def ines():
    return make_user("ines", *WORK, "cases.unmask")


@pytest.fixture
def ring(ines):
    """Anna's case: a device that Ben and Carl share, a payee whom Dora paid; Carl's payment is fraud."""
    stopped = make_alert("anna", device="dev-1", card="tok-a", counterparty="payee-1", merchant="shop-1")
    carl = make_transaction("carl", device="dev-1", counterparty="payee-9", merchant="shop-1")
    link(
        stopped.transaction,
        make_transaction("ben", device="dev-1"),
        carl,
        make_transaction("dora", counterparty="payee-1"),
        make_transaction("anna", account="acc-1"),
    )
    label(carl, "fraud", number=1)
    return make_case(stopped, queue=make_queue(ines))


def test_it_begins_with_the_payments_and_one_hop_around_them(ring, ines):
    drawn = graph.of_case(ring, ines)
    starts = {node.entity.pair for node in drawn.nodes.values() if node.is_start}
    assert starts == {
        key("customer", "anna"),
        key("device", "dev-1"),
        key("card", "tok-a"),
        key("counterparty", "payee-1"),
        key("merchant", "shop-1"),
    }
    others = {node.entity.pair for node in drawn.nodes.values()} - starts
    assert others == {key("customer", name) for name in ("ben", "carl", "dora")} | {key("account", "acc-1")}
    assert ("CU ••", "pays to", "••ee-1") in {(each.one.label, each.relation, each.other.label) for each in drawn.rows}
    tied = {(edge.left, edge.right) for edge in drawn.edges.values()}
    assert (key("customer", "dora"), key("counterparty", "payee-1")) in tied
    assert (key("card", "tok-a"), key("device", "dev-1")) in tied
    assert (key("customer", "anna"), key("merchant", "shop-1")) in tied
    assert all(left in drawn.nodes and right in drawn.nodes for left, right in tied)


def test_confirmed_fraud_is_marked_with_words_and_a_shop_only_counts_it(ring, ines):
    drawn = graph.of_case(ring, ines)
    fraud = {node.entity.pair for node in drawn.nodes.values() if node.is_fraud}
    assert fraud == {key("customer", "carl"), key("device", "dev-1")}
    assert "1 confirmed fraud" in drawn.nodes[key("device", "dev-1")].marks
    assert drawn.nodes[key("merchant", "shop-1")].marks == ["1 confirmed fraud"]


def test_cases_and_block_lists_are_told_at_the_nodes(ring, ines):
    other = make_case(make_alert("ben"), queue=make_queue(name="Not hers"))
    done = make_case(
        make_alert("dora"),
        queue=ring.queue,
        status="closed",
        disposition="confirmed_fraud",
        closed_at=timezone.now(),
        rationale="x",
    )
    held = List.objects.create(
        lane=make_lane(), name="mules", kind="block", subject="counterparty", outcome="decline", created_by="ines"
    )
    ListEntry.objects.create(
        list=held,
        value="payee",
        key=entity_key("counterparty", "payee-1"),
        valid_from=timezone.now(),
        reason="Mule",
        author="ines",
        version=1,
    )
    nodes = graph.of_case(ring, ines).nodes
    assert nodes[key("customer", "anna")].marks == [f"open {ring.number}"]
    assert nodes[key("customer", "ben")].marks == ["open case"]
    assert other.number not in str(graph.as_data(graph.of_case(ring, ines)))
    assert f"confirmed fraud {done.number}" in nodes[key("customer", "dora")].marks
    assert nodes[key("customer", "dora")].is_fraud
    assert nodes[key("counterparty", "payee-1")].is_listed


def test_labels_are_masked_until_this_person_unmasks(ring, ines, rf):
    assert "payee-1" not in str(graph.as_data(graph.of_case(ring, ines)))
    request = rf.get("/")
    request.user = ines
    sightings.unmask(request, key("counterparty", "payee-1"), "To recall the payment")
    assert graph.of_case(ring, ines).nodes[key("counterparty", "payee-1")].label == "payee-1"
    assert graph.of_case(ring, make_user("other", *WORK)).nodes[key("counterparty", "payee-1")].label != "payee-1"
    assert Sighting.objects.count() == 1


def test_it_stops_at_the_cap_and_counts_the_others(ines, django_assert_max_num_queries):
    for number in range(40):
        link(make_transaction(f"customer-{number}", device="dev-1"))
    case = make_case(make_alert("anna", device="dev-1"), queue=make_queue(ines))
    with django_assert_max_num_queries(12):
        drawn = graph.of_case(case, ines, most=20)
    assert len(drawn.nodes) == 20
    assert drawn.nodes[key("device", "dev-1")].more == drawn.more == 40 - 18
    assert len(graph.of_case(case, ines).nodes) == 2 + graph.AROUND
    device = graph.around(Entity(*key("device", "dev-1"), make_lane().pk), ines)
    assert len(device.nodes) == 41  # a click brings those that the beginning left out


def test_what_tells_most_comes_first_when_room_is_short(ines):
    stopped = make_alert("anna", device="dev-1", counterparty="payee-1")
    around = [make_transaction(f"same-device-{n}", device="dev-1") for n in range(4)]
    paid = [make_transaction(f"same-payee-{n}", counterparty="payee-1") for n in range(4)]
    link(stopped.transaction, *around, *paid, make_transaction("anna", account="acc-1"))
    drawn = graph.Graph(make_lane().pk, most=7)
    for pair in (key("customer", "anna"), key("device", "dev-1"), key("counterparty", "payee-1")):
        drawn.add(pair)
    graph._grow(drawn, list(drawn.nodes), each=10)
    assert {pair for pair in drawn.nodes if pair[0] == "customer"} == {
        key("customer", "anna"),
        *(key("customer", f"same-payee-{n}") for n in range(4)),
    }


def test_a_click_on_a_node_adds_whom_it_was_seen_with(ring, ines):
    drawn = graph.around(Entity(*key("customer", "carl"), make_lane().pk), ines)
    assert {pair[0] for pair in drawn.nodes} == {"customer", "device", "counterparty"}
    shop = graph.around(Entity(*key("merchant", "shop-1"), make_lane().pk), ines)
    assert {key("customer", "anna"), key("customer", "carl")} <= set(shop.nodes)
    assert {edge.relation for edge in shop.edges.values()} == {"buys at"}


def test_table_and_picture_carry_the_same_relations(ring, ines):
    drawn = graph.of_case(ring, ines)
    data = graph.as_data(drawn)
    rows = {(row.one.entity.id, row.other.entity.id) for row in drawn.rows}
    assert rows == {(edge["source"], edge["target"]) for edge in data["edges"]}
    assert {node["id"] for node in data["nodes"]} == {node.entity.id for node in drawn.nodes.values()}
    assert all(node["label"] and node["url"] and node["expand"] for node in data["nodes"])


def test_an_erased_payment_leaves_a_node_without_its_name(ring, ines):
    from transactions.models import TransactionDetail

    TransactionDetail.objects.all().delete()
    assert graph.of_case(ring, ines).nodes[key("card", "tok-a")].label == "Card, erased"
