"""What the rows say of an entity: sums in windows, sharing, verdicts, lists; and how it reads."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from cases import entities
from cases.entities import Entity
from cases.models import CaseCard, Exclusion
from scoring.models import List, ListEntry
from tests.cases.linking import link
from tests.factories import (
    READ,
    WORK,
    make_alert,
    make_case,
    make_decision,
    make_lane,
    make_queue,
    make_transaction,
    make_user,
)
from transactions import partitions
from transactions.codes import entity_key
from transactions.columns import address_of
from transactions.models import Label

pytestmark = pytest.mark.django_db


def ago(**span):
    return timezone.now() - timedelta(**span)


def entity(kind, token):
    return Entity(kind, entities.key_of(kind, token), make_lane().pk)


def label(payment, verdict, *, number, source="investigator"):
    now = timezone.now()
    times = {"happened_at": now, "known_at": now, "recorded_at": now}
    return Label.objects.create(
        id=number, lane=payment.lane, transaction=payment, verdict=verdict, source=source, fraud_type="", **times
    )


@pytest.fixture
def shared():
    """Two customers with one device, at three times; one payment declined."""
    payments = [
        make_transaction("anna", device="dev-1", card="tok-a", amount=100, occurred_at=ago(minutes=30)),
        make_transaction("ben", device="dev-1", amount=250, occurred_at=ago(hours=30), merchant="shop-1"),
        make_transaction("ben", device="dev-1", amount=1000, occurred_at=ago(days=40), merchant="shop-2"),
        make_transaction("ben", device="dev-2", amount=7, occurred_at=ago(minutes=1)),
    ]
    link(*payments)
    for payment, outcome in zip(payments, ("decline", "approve", "approve", "approve"), strict=True):
        make_decision(payment, outcome=outcome)
    return payments


def test_windows_sum_the_payments_of_all_who_share_it(shared):
    known = entities.known(entity("device", "dev-1"))
    assert [(each.name, each.count, each.sum) for each in known.windows] == [
        ("1 h", 1, 100),
        ("24 h", 1, 100),
        ("7 d", 2, 350),
        ("30 d", 2, 350),
        ("90 d", 3, 1350),
    ]
    assert [each.decline_rate for each in known.windows] == ["100 %", "100 %", "50 %", "50 %", "33 %"]
    longest = known.windows[-1]
    assert (longest.customers, longest.cards, longest.devices, longest.paid_to) == (2, 1, 1, 2)
    assert (known.payments, known.customers, known.is_partial) == (3, 2, False)
    assert known.first_seen == shared[2].occurred_at
    assert known.last_seen == shared[0].occurred_at
    assert [row["id"] for row in known.recent] == [each.pk for each in shared[:3]]


@pytest.mark.parametrize(
    ("kind", "token", "count"), [("customer", "ben", 3), ("merchant", "shop-1", 1), ("card", "tok-a", 1)]
)
def test_every_kind_is_told_from_its_own_payments(shared, kind, token, count):
    known = entities.known(entity(kind, token))
    assert (known.payments, known.windows[-1].count) == (count, count)
    assert known.first_seen and known.newest_payment in {each.pk for each in shared}
    assert entities.exists(entity(kind, token))
    assert not entities.exists(entity(kind, "somebody else"))


def test_nothing_is_known_of_a_stranger():
    known = entities.known(entity("device", "never seen"))
    assert (known.payments, known.first_seen, known.recent, known.cases) == (0, None, [], [])
    assert known.windows[0].decline_rate == ""


def test_only_the_label_in_force_counts(shared):
    label(shared[0], "legitimate", number=1)
    label(shared[0], "fraud", number=2, source="chargeback")
    label(shared[1], "fraud", number=3)
    label(shared[1], "withdrawn", number=4)
    known = entities.known(entity("device", "dev-1"))
    assert (known.fraud, known.legitimate) == (1, 0)


def test_an_entity_that_many_share_is_told_from_the_newest(shared, monkeypatch):
    monkeypatch.setattr(entities, "MOST_SHARING", 1)
    known = entities.known(entity("device", "dev-1"))
    assert known.is_partial
    assert (known.payments, known.customers) == (1, 2)


def test_the_number_of_statements_does_not_grow_with_the_payments(shared, django_assert_num_queries):
    for _ in range(20):
        link(make_transaction("anna", device="dev-1"))
    device = entity("device", "dev-1")
    with django_assert_num_queries(2):
        entities.known(device)


def test_names_are_masked_and_read_from_a_payment_that_has_them():
    document = {
        "customer": {"id": "cust-4417", "since": "2017-03-01"},
        "account": {"id": "BE71096123456769", "country": "BE"},
        "card": {"token": "tok-81c2aa", "last4": "1234", "scheme": "visa"},
        "device": {"id": "device-9f3a11c21deadbeef", "ip": "185.220.101.14", "os": "Android 15", "flags": ["tor"]},
        "merchant": {"id": "mer-1", "name": "Kaufhof Nord", "mcc": "5311"},
        "counterparty": {"id": "LT-payee-7730", "country": "LT"},
    }
    expected = {
        "customer": ("CU ••4417", "cust-4417"),
        "account": ("BE ••6769", "BE71096123456769"),
        "card": ("•••• 1234", "tok-81c2aa"),
        "device": ("device-9…beef", "device-9f3a11c21deadbeef"),
        "ip": ("185.220.101.0/24", "185.220.101.14"),
        "merchant": ("Kaufhof Nord", "mer-1"),
        "counterparty": ("LT ••7730", "LT-payee-7730"),
    }
    for kind, (shown, full) in expected.items():
        name = entities.name_in(document, kind, entities.key_of(kind, full))
        assert (name.masked, name.full, name.shown(False), name.shown(True)) == (shown, full, shown, full)
        assert entities.name_in(document, kind, 42) == entities.Name()  # another one's document
    assert entities.names({("card", 1): 10**12}) == {("card", 1): entities.Name()}  # erased


def test_an_identifier_finds_what_it_names_whatever_its_kind(shared):
    lane = make_lane().pk
    ip = address_of("10.1.2.3").key
    link(
        make_transaction(
            "carl", ip=ip, counterparty="payee-1", account="acc-1", document={"device": {"ip": "10.1.2.3"}}
        )
    )
    for text, kinds in {
        "anna": ["customer"],
        "dev-1": ["device"],
        "tok-a": ["card"],
        "shop-1": ["merchant"],
        "payee-1": ["counterparty"],
        "acc-1": ["account"],
        " 10.1.2.3 ": ["ip"],
        "nobody": [],
        "": [],
        "x" * 129: [],
    }.items():
        assert [each.entity.kind for each in entities.find(text, [lane])] == kinds, text
    assert entities.find("anna", []) == []


def test_a_card_is_found_by_its_last_digits_once_one_of_its_payments_was_stopped():
    case = make_case(make_alert("anna", card="tok-a"), make_alert("anna", card="tok-a"))
    for row in case.case_alerts.all():
        CaseCard.objects.create(row=row, last4="1234")
    [found] = entities.find("1234", [make_lane().pk])
    assert found.entity == entity("card", "tok-a")
    assert entities.find("1234", [make_lane("transfers").pk]) == []


def test_of_another_queues_case_a_person_learns_only_that_it_is_there():
    ines = make_user("ines", *WORK)
    mine = make_queue(ines)
    own = make_case(make_alert("anna", device="dev-1"), queue=mine)
    other = make_case(make_alert("anna", device="dev-1"), queue=make_queue(name="Fraud ring"))
    for about in (entity("customer", "anna"), entity("device", "dev-1")):
        told = entities.cases_of(about, [own.pk, other.pk], ines)
        assert {each.case.pk: each.may_read for each in told} == {own.pk: True, other.pk: False}
    auditor = make_user("auditor", *READ)
    assert all(each.may_read for each in entities.cases_of(entity("customer", "anna"), [], auditor))


def test_a_person_sees_the_lanes_of_their_queues_and_is_kept_from_relatives():
    ines = make_user("ines", *WORK)
    make_queue(ines)
    transfers = make_lane("transfers")
    assert entities.lanes_of(ines) == [make_lane().pk]
    assert transfers.pk in entities.lanes_of(make_user("auditor", *READ))
    anna = entity("customer", "anna")
    assert not entities.is_kept_from(ines, anna)
    Exclusion.objects.create(user=ines, customer=anna.key, reason="Her sister.", added_by=ines)
    assert entities.is_kept_from(ines, anna)
    assert not entities.is_kept_from(ines, Entity("device", anna.key, anna.lane))


def entry(held, **fields):
    times = {"valid_from": timezone.now(), "reason": "Mule", "author": "ines", "version": 1}
    return ListEntry.objects.create(list=held, value="shown", **times | fields)


def test_lists_are_told_while_an_entry_stands_and_networks_hold_addresses():
    lane = make_lane()
    make = {"lane": lane, "created_by": "ines"}
    mules = List.objects.create(name="mules", kind="block", subject="counterparty", outcome="decline", **make)
    nets = List.objects.create(name="nets", kind="watch", subject="ip", **make)
    payee = entity("counterparty", "payee-1")
    standing = entry(mules, key=payee.key)
    entry(mules, key=payee.key, valid_from=ago(days=2), expires_at=ago(days=1))
    assert entities.listed(payee) == [standing]
    assert entities.listed_keys(lane.pk, [payee.key, 5]) == {("counterparty", payee.key)}
    address = address_of("10.1.2.3")
    network = entry(nets, high=0, low=(0xFFFF << 32) | (10 << 24) | (1 << 16), prefix=96 + 16)
    entry(nets, high=0, low=(0xFFFF << 32) | (11 << 24), prefix=96 + 8)
    assert entities.listed(Entity("ip", address.key, lane.pk), "10.1.2.3") == [network]
    assert entities.listed(entity("card", "tok-a")) == []


def test_neighbours_come_newest_first_and_are_counted_beyond_what_is_shown():
    for number in range(7):
        link(make_transaction(f"customer-{number}", device="dev-1", occurred_at=ago(days=number)))
    by_kind, total = entities.linked(entity("device", "dev-1"), each=3)
    assert total == 7
    assert [row.key for row in by_kind["customer"]] == [entity_key("customer", f"customer-{n}") for n in range(3)]
    link(make_transaction("customer-0", merchant="shop-1", card="tok-a"))
    by_kind, _ = entities.linked(entity("customer", "customer-0"))
    assert set(by_kind) == {"card", "device"}
    by_kind, total = entities.linked(entity("merchant", "shop-1"))
    assert [row.key for row in by_kind["customer"]] == [entity_key("customer", "customer-0")]
    assert total == 1


@pytest.fixture
def ids_far_ahead(db):
    """Whatever is drawn or set here is forgotten afterwards: no rollback takes a sequence back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value, is_called FROM transaction_id_seq")
        before = cursor.fetchone()
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval('transaction_id_seq', %s, %s)", before)


@pytest.mark.usefixtures("ids_far_ahead")
@pytest.mark.parametrize("sorted_in", [False, True])
def test_a_merchants_payments_are_found_newest_or_oldest_first_over_all_blocks(sorted_in):
    """Ids are spread over four hundred blocks of the index, as those of fifty million payments are."""
    block = 2**17
    ids = [1, 2, block - 1, block, 5 * block + 3, 21 * block, 22 * block, 86 * block, 399 * block, 400 * block + 7]
    with connection.cursor() as cursor:
        for table in ("transaction", "transaction_detail"):
            cursor.execute("SELECT extend_partitions(%s, %s, %s)", [table, partitions.WIDTH, 500 * block])
        for id_ in ids:
            for number, shop in ((id_, "shop-1"), (id_ + 10, "shop-2")):
                cursor.execute("SELECT setval('transaction_id_seq', %s, false)", [number])
                make_transaction("ben", merchant=shop)
        if sorted_in:
            partitions.sort_in()
        shop = entity("merchant", "shop-1")

        def found(most: int, newest: bool = True) -> list[int]:
            query = "SELECT payments_of_merchant(%s::smallint, %s, %s, %s)"
            cursor.execute(query, [shop.lane, shop.key, most, newest])
            return [row[0] for row in cursor.fetchall()]

        assert found(100) == ids[::-1] and found(100, newest=False) == ids
        assert [found(n) for n in (1, 4)] == [ids[-1:], ids[:-5:-1]]
        assert [found(n, newest=False) for n in (1, 4)] == [ids[:1], ids[:4]]
    known = entities.known(shop)
    assert (known.payments, known.newest_payment) == (len(ids), ids[-1])
    assert not entities.exists(entity("merchant", "shop-3"))


def test_who_does_not_own_the_index_leaves_it_to_autovacuum(caplog):
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger; GRANT SELECT ON pg_inherits TO stranger; SET LOCAL ROLE stranger")
    assert partitions.sort_in() == 0
    assert "autovacuum" in caplog.text
