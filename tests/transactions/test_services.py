"""Ingest and labels: idempotent, in the protocol's order of statements, one bell after the commit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection, connections
from django.db.transaction import atomic
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.transactions.documents import make_document
from transactions import partitions, schema, services, signals
from transactions.codes import entity_key
from transactions.facts import FACTS, moment
from transactions.models import ApiClient, Label, Transaction, TransactionDetail, TransactionKey
from transactions.problems import Problem
from transactions.services import LabelIn, Prepared, UnknownTransaction, ingest, prepare, record_labels


def payments(*names: str, **changes: object) -> list[schema.Payment]:
    return [schema.from_document(make_document(name, **changes)) for name in names]


@pytest.fixture
def rings():
    heard: list[dict] = []

    def hear(sender: object, **kwargs: object) -> None:
        heard.append({name: value for name, value in kwargs.items() if name != "signal"})

    signals.rang.connect(hear)
    yield heard
    signals.rang.disconnect(hear)


@pytest.mark.django_db(transaction=True)
def test_a_kept_payment_has_its_facts_its_document_and_one_ring(bank: ApiClient, rings: list[dict]):
    [receipt] = ingest(payments("pay-1", amount={"value": 1050, "currency": "JPY"}), client=bank)
    stored = Transaction.objects.get(pk=receipt.id)
    assert receipt.created and not receipt.conflict
    assert (stored.external_id, stored.amount, stored.currency, stored.amount_base) == ("pay-1", 1050, "JPY", 644)
    assert (stored.type, stored.channel, stored.instrument, stored.stage) == (
        "purchase",
        "ecommerce",
        "card",
        "authorisation",
    )
    assert (stored.customer, stored.customer_ref) == (entity_key("customer", "cus-81c2"), "cus-81c2")
    assert (stored.merchant_country, stored.mcc, stored.three_ds, stored.lane) == ("FR", 5812, "Y", bank.lane_id)
    assert TransactionDetail.objects.get(pk=receipt.id).document["merchant"]["name"] == "Café Lumière"
    assert rings == [{"lane_id": bank.lane_id, "first_id": receipt.id, "last_id": receipt.id, "kind": "payments"}]


def test_what_was_not_sent_is_told_apart_from_zero(bank: ApiClient):
    bare = make_document(
        "bare", card=None, merchant=None, device=None, location=None, authentication=None, metadata=None
    )
    bare["customer"] = {"id": "c"}
    columns = prepare([schema.from_document(bare)], client=bank, received_at=timezone.now()).facts
    assert columns["mcc"][0] == -1 and np.isnan(columns["lat"][0]) and columns["card"][0] == 0
    assert columns["balance_before"][0] == -(2**63) and columns["customer_since"][0] == -(2**31)


def test_a_terminal_is_known_under_its_merchant(bank: ApiClient):
    columns = prepare(payments("a", merchant__terminal_id="T1"), client=bank, received_at=timezone.now()).facts
    assert columns["terminal"][0] == entity_key("terminal", "mer-4711|T1")


def test_the_same_body_again_gives_the_first_payment_and_another_body_a_conflict(bank: ApiClient):
    document = make_document("pay-1")
    first, other = schema.from_document(document), schema.from_document(make_document("pay-1", amount__value=1))
    [kept] = ingest([first], client=bank)
    [again], [conflict] = ingest([first], client=bank), ingest([other], client=bank)
    assert (again.id, again.created, again.conflict) == (kept.id, False, False)
    assert (conflict.id, conflict.created, conflict.conflict) == (kept.id, False, True)
    assert Transaction.objects.count() == 1


def test_a_doubled_key_within_one_batch_is_kept_once(bank: ApiClient):
    [one] = payments("twin")
    receipts = ingest([one, *payments("alone"), one], client=bank)
    assert [receipt.created for receipt in receipts] == [True, True, False]
    assert receipts[0].id == receipts[2].id and not receipts[2].conflict


@pytest.mark.django_db(transaction=True)
def test_bulk_falls_back_when_a_key_is_taken_and_still_keeps_the_rest(bank: ApiClient, rings: list[dict]):
    names = [f"pay-{n}" for n in range(services.BULK + 5)]
    batch = payments(*names)
    [early] = ingest(batch[7:8], client=bank)
    receipts = ingest(batch, client=bank)
    assert [n for n, receipt in enumerate(receipts) if not receipt.created] == [7]
    assert receipts[7].id == early.id and not receipts[7].conflict
    assert Transaction.objects.count() == TransactionKey.objects.count() == len(names)
    assert len(rings) == 2


def test_the_xid_is_taken_in_a_statement_of_its_own_before_any_id_is_drawn(bank: ApiClient):
    with CaptureQueriesContext(connection) as seen:
        ingest(payments("pay-1"), client=bank)
    words = [query["sql"] for query in seen.captured_queries]
    xid = next(n for n, sql in enumerate(words) if "pg_current_xact_id" in sql)
    ids = next(n for n, sql in enumerate(words) if "nextval" in sql)
    keys = next(n for n, sql in enumerate(words) if "INSERT INTO transaction_key" in sql)
    assert xid < ids < keys and "nextval" not in words[xid]


def test_keys_are_inserted_in_byte_order_of_client_and_name(bank: ApiClient):
    prepared = prepare(payments("b", "a", "Z", "_"), client=bank, received_at=timezone.now())
    assert [prepared.external_ids[n] for n in services.key_order(prepared)] == ["Z", "_", "a", "b"]


@pytest.mark.django_db(transaction=True)
def test_threads_that_send_the_same_payments_crosswise_keep_each_once(bank: ApiClient):
    batch = payments(*[f"pay-{n}" for n in range(20)])

    def send(backwards: bool) -> list[int]:
        try:
            return sorted(receipt.id for receipt in ingest(batch[::-1] if backwards else batch, client=bank))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, [False, True, False, True]))
    assert all(ids == answers[0] for ids in answers) and Transaction.objects.count() == 20


def test_the_body_hash_does_not_depend_on_how_the_body_is_written():
    document = make_document("pay-1", occurred_at="2026-11-01T10:00:00.000Z")
    other = dict(reversed(document.items())) | {"occurred_at": "2026-11-01T10:00:00Z"}
    assert schema.from_document(document).body_hash == schema.from_document(other).body_hash


def test_a_batch_survives_the_way_through_bytes(bank: ApiClient):
    prepared = prepare(payments("a", "b"), client=bank, received_at=timezone.now())
    loaded = Prepared.load(prepared.dump())
    joined = Prepared.join([loaded.take([1]), loaded.take([0])])
    assert loaded.facts.dtype == FACTS and loaded.facts.tobytes() == prepared.facts.tobytes()
    assert joined.external_ids == ["b", "a"] and joined.documents == prepared.documents[::-1]


def test_a_currency_without_a_rate_is_refused_and_nothing_stored(bank: ApiClient):
    with pytest.raises(Problem) as told:
        ingest(payments("pay-1", amount__currency="KPW"), client=bank)
    assert told.value.code == "currency-without-rate" and told.value.errors[0].pointer == "/amount/currency"
    assert not Transaction.objects.exists()


def test_history_that_is_scored_as_then_arrived_when_it_happened(bank: ApiClient):
    columns = prepare(payments("old", occurred_at="2020-02-29T12:00:00Z"), client=bank, received_at=None).facts
    assert columns["received_at"][0] == columns["occurred_at"][0]
    assert moment(columns["received_at"][0]).isoformat() == "2020-02-29T12:00:00+00:00"


@pytest.mark.django_db(transaction=True)
def test_history_rings_no_bell(bank: ApiClient, rings: list[dict]):
    ingest(payments("pay-1"), client=bank, intake="history")
    assert rings == [] and Transaction.objects.get().intake == "history"


@pytest.mark.django_db(transaction=True)
def test_labels_are_rows_of_their_own_with_their_time_of_knowing(bank: ApiClient, rings: list[dict]):
    [receipt] = ingest(payments("pay-1"), client=bank)
    known = timezone.now() - timedelta(days=2)
    [fraud] = record_labels([LabelIn(receipt.id, "fraud", "chargeback", known, fraud_type="counterfeit")])
    [back] = record_labels([LabelIn(receipt.id, "withdrawn", "chargeback", timezone.now())])
    first, second = Label.objects.order_by("id")
    assert (first.pk, first.verdict, first.source, first.fraud_type, first.known_at) == (
        fraud,
        "fraud",
        "chargeback",
        "counterfeit",
        known,
    )
    assert (second.pk, second.verdict, second.lane, second.import_job) == (back, "withdrawn", bank.lane_id, None)
    assert [ring["kind"] for ring in rings] == ["payments", "labels", "labels"]


def test_a_label_takes_its_xid_before_its_id(bank: ApiClient):
    [receipt] = ingest(payments("pay-1"), client=bank)
    with CaptureQueriesContext(connection) as seen:
        record_labels([LabelIn(receipt.id, "fraud", "customer", timezone.now())])
    words = " ".join(query["sql"] for query in seen.captured_queries)
    assert words.index("pg_current_xact_id") < words.index("label_id_seq")


def test_a_label_for_an_unknown_payment_is_refused(bank: ApiClient):
    with pytest.raises(UnknownTransaction), atomic():
        record_labels([LabelIn(10**12, "fraud", "customer", timezone.now())])
    assert not Label.objects.exists()


def test_tables_that_only_grow_are_analysed_each_time_they_grew_by_half(db: None):
    with connection.cursor() as cursor:
        cursor.execute("SELECT extend_partitions('transaction', %s, %s)", [partitions.WIDTH, 3 * partitions.WIDTH])
        rare = "'autovacuum_analyze_scale_factor=0.5' = ANY(reloptions)"
        cursor.execute(f"SELECT relname FROM pg_class WHERE relkind = 'r' AND {rare}")
        thrifty = {row[0] for row in cursor.fetchall()}
    assert thrifty >= {"transaction_p0000", "transaction_p0003", "transaction_detail_p0000", "decision_p0000"}
    assert thrifty >= {"transaction_key", "lane_log"}
