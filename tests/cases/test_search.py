"""The one box: each thing a person may type finds its cases, and only those they may see."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases import listing, search, services
from cases.cards import note_cards
from cases.listing import Address
from cases.models import CaseCard
from tests.factories import WORK, make_alert, make_case, make_queue, make_transaction, make_user
from transactions.models import TransactionKey


@pytest.fixture
def owner(db):
    return make_user("owner", *WORK)


@pytest.fixture
def queue(owner):
    return make_queue(owner)


@pytest.fixture
def case(queue):
    payment = make_transaction("anna-0001", external_id="order-77", card="tok-9", document={"card": {"last4": "4242"}})
    TransactionKey.objects.create(
        id=payment.pk, lane=payment.lane, client=payment.client, external_id="order-77", body_hash=b"0" * 16
    )
    return make_case(make_alert(payment=payment), queue=queue)


def found(text, user):
    return set(listing.matching(Address.read({"q": text}), user))


def test_each_way_finds_the_case(case, owner, queue):
    make_case(make_alert("ben"), queue=queue)
    payment = case.case_alerts.get().pk
    for text in (case.number, case.number.lower(), str(case.pk), str(payment), "order-77", "anna-0001", "4242"):
        assert case in found(text, owner), text


def test_a_card_is_found_by_its_last_four_digits_in_closed_cases_too(case, owner, queue):
    note_cards(case.case_alerts.values_list("pk", flat=True))  # noting again changes nothing
    assert found("4242", owner) == {case}
    case.status, case.disposition, case.closed_at = "closed", "legitimate", case.opened_at
    case.save()
    assert found("4242", owner) == {case}
    assert found("4243", owner) == set()


def test_opening_a_case_notes_its_cards(queue):
    make_alert("anna", document={"card": {"last4": "9876"}})
    make_alert("ben")
    services.open_cases()
    assert list(CaseCard.objects.values_list("last4", flat=True)) == ["9876"]


def test_a_customer_is_found_in_the_case_of_a_merchant(owner):
    queue = make_queue(owner, name="Merchants", grouping="merchant")
    case = make_case(make_alert("anna", merchant="m-1"), make_alert("ben", merchant="m-1"), queue=queue)
    assert found("anna", owner) == found("ben", owner) == {case}


def test_nobody_finds_cases_of_queues_that_are_not_theirs(case):
    stranger = make_user("stranger", *WORK)
    for text in (case.number, "order-77", "anna-0001", "4242", str(case.pk)):
        assert found(text, stranger) == set()
    assert search.named_case(case.number, stranger) is None


@pytest.mark.parametrize(
    "text", ["", " ", "'; drop table", "C-", "C-99999999999999999999", "9" * 30, "\x00", "%", "١٢٣٤"]
)
def test_whatever_is_typed_is_a_search_and_no_error(case, owner, text):
    found(text, owner)


def test_each_statement_of_a_search_goes_by_an_index(case, owner):
    """With the tables' own scans forbidden, Postgres still finds an index for every look: none needs a whole table."""
    with CaptureQueriesContext(connection) as told:
        list(search.find("4242"))
    big = ('"case_card"', '"case_alert"', '"alert"', '"transaction_key"', '"case"')
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for each in told:
            if any(table in each["sql"] for table in big):
                cursor.execute("EXPLAIN " + each["sql"])
                plan = "\n".join(row[0] for row in cursor.fetchall())
                assert "Seq Scan" not in plan, plan


def test_the_models_and_the_migrations_agree(db):
    call_command("makemigrations", "cases", check=True, dry_run=True, verbosity=0)
