"""The canonical transaction: what is refused, with which pointer, and that nothing of it stays anywhere."""

from __future__ import annotations

import json
import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transactions.documents import make_document
from tests.transactions.test_pan import VISA, realistic_identifiers
from transactions import auth, codes, schema
from transactions.auth import issue_key
from transactions.models import ApiClient, Transaction, TransactionDetail, TransactionKey
from transactions.problems import Problem


def refused(body: dict[str, Any] | bytes) -> dict[str, str]:
    """{pointer: code} of the problem that the body raises."""
    with pytest.raises(Problem) as told:
        schema.decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return {error.pointer: error.code for error in told.value.errors} or {"": told.value.code}


def raw(document: dict[str, Any], old: str, new: str) -> bytes:
    text = json.dumps(document)
    assert old in text
    return text.replace(old, new, 1).encode()


LONG_AGO = (datetime.now(UTC) - timedelta(days=91)).isoformat(timespec="seconds")
SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("amount as float", {"amount__value": 10.5}, "/amount/value", "wrong-type"),
    ("amount as text", {"amount__value": "1050"}, "/amount/value", "wrong-type"),
    ("amount as a round float", {"amount__value": 1050.0}, "/amount/value", "wrong-type"),
    ("negative amount", {"amount__value": -1}, "/amount/value", "out-of-range"),
    ("amount too large", {"amount__value": 10**15}, "/amount/value", "out-of-range"),
    ("yen with decimals", {"amount": {"value": 1050.5, "currency": "JPY"}}, "/amount/value", "wrong-type"),
    ("unknown currency", {"amount__currency": "ABC"}, "/amount/currency", "invalid-value"),
    ("withdrawn currency", {"amount__currency": "HRK"}, "/amount/currency", "invalid-value"),
    ("lower-case currency", {"amount__currency": "eur"}, "/amount/currency", "invalid-value"),
    ("no amount", {"amount": None}, "/amount", "required"),
    ("time without zone", {"occurred_at": "2026-11-21 10:00"}, "/occurred_at", "invalid-time"),
    ("time without offset", {"occurred_at": "2026-11-21T10:00:00"}, "/occurred_at", "invalid-time"),
    ("time finer than ms", {"occurred_at": "2026-11-21T10:00:00.1234Z"}, "/occurred_at", "invalid-time"),
    ("time in the future", {"occurred_at": SOON}, "/occurred_at", "invalid-time"),
    ("time too old", {"occurred_at": LONG_AGO}, "/occurred_at", "invalid-time"),
    ("short MCC", {"merchant__mcc": "123"}, "/merchant/mcc", "invalid-format"),
    ("UK for GB", {"customer__country": "UK"}, "/customer/country", "invalid-value"),
    ("unknown field", {"costumer": {"id": "x"}}, "/costumer", "unknown-field"),
    ("unknown field below", {"customer__vip": True}, "/customer/vip", "unknown-field"),
    ("unknown type", {"type": "gift"}, "/type", "invalid-value"),
    ("space in the external id", {"external_id": "a b"}, "/external_id", "invalid-format"),
    ("external id too long", {"external_id": "x" * 65}, "/external_id", "out-of-range"),
    ("empty customer", {"customer__id": "  "}, "/customer/id", "out-of-range"),
    ("an e-mail as customer", {"customer__id": "a@b.example"}, "/customer/id", "sensitive-data-not-accepted"),
    ("UUID of version 1", {"uetr": "97ed4827-7b6f-11ee-b962-0242ac120002"}, "/uetr", "invalid-format"),
    ("card without token", {"card__token": None}, "/card/token", "required"),
    ("account without id", {"instrument": "account"}, "/account/id", "required"),
    ("transfer without payee", {"type": "transfer"}, "/counterparty/id", "required"),
    ("refund without original", {"type": "refund"}, "/original_external_id", "required"),
    ("exempt without exemption", {"authentication__sca": "exempt"}, "/authentication/exemption", "required"),
    ("card number as token", {"card__token": VISA}, "/card/token", "pan-not-accepted"),
    ("card number in a name", {"merchant__name": f"Shop {VISA}"}, "/merchant/name", "pan-not-accepted"),
    (
        "card number in groups",
        {"transfer__remittance": f"{VISA[:4]} {VISA[4:]}"},
        "/transfer/remittance",
        "pan-not-accepted",
    ),
    ("card number as external id", {"external_id": VISA}, "/external_id", "pan-not-accepted"),
    ("card number in metadata", {"metadata__note": VISA}, "/metadata/note", "pan-not-accepted"),
    ("card number as a key", {f"metadata__{VISA}": "x"}, "/metadata", "pan-not-accepted"),
    ("card number as unknown number", {"pan": int(VISA)}, "/pan", "pan-not-accepted"),
    ("card number in a bad field", {"uetr": VISA}, "/uetr", "pan-not-accepted"),
    ("security code", {"card__cvv": "123"}, "/card/cvv", "sensitive-data-not-accepted"),
    ("security code in metadata", {"metadata__cvc": "123"}, "/metadata/cvc", "sensitive-data-not-accepted"),
    ("PIN", {"pin": "1234"}, "/pin", "sensitive-data-not-accepted"),
    ("track data", {"metadata__track2": "x"}, "/metadata/track2", "sensitive-data-not-accepted"),
    ("an IBAN", {"account__id": "DE89" + "370400440532013000"}, "/account/id", "sensitive-data-not-accepted"),
    ("control character", {"merchant__name": "a\x07b"}, "/merchant/name", "control-character"),
    ("nested too deep", {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}, "/a/b/c/d/e/f", "too-deep"),
    ("bad IP", {"device__ip": "300.1.1.1"}, "/device/ip", "invalid-format"),
    ("bad BIC", {"counterparty__bic": "deutdeff"}, "/counterparty/bic", "invalid-format"),
    ("bad language", {"device__language": "german!"}, "/device/language", "invalid-format"),
    ("unknown device flag", {"device__flags": ["vpn", "magic"]}, "/device/flags/1", "invalid-value"),
    ("latitude too fine", {"location__lat": 48.85661}, "/location/lat", "invalid-format"),
    ("latitude off the globe", {"location__lat": 91}, "/location/lat", "out-of-range"),
    ("bad date", {"customer__since": "2019-02-30"}, "/customer/since", "invalid-time"),
    ("bad hash", {"customer__email_hash": "abc"}, "/customer/email_hash", "invalid-format"),
    ("seven digits of BIN", {"card__bin": "4111111"}, "/card/bin", "invalid-format"),
    ("51 metadata keys", {"metadata": {f"k{n}": "" for n in range(51)}}, "/metadata", "out-of-range"),
    ("metadata value too long", {"metadata__k": "x" * 501}, "/metadata/k", "out-of-range"),
    ("metadata value not a text", {"metadata__k": 5}, "/metadata/k", "wrong-type"),
    ("an array for an object", {"card": []}, "/card", "wrong-type"),
]


@pytest.mark.parametrize(("change", "pointer", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_refused_at_its_pointer(change: dict[str, Any], pointer: str, code: str):
    found = refused(make_document(**change))
    assert found.get(pointer) == code
    assert set(found) - {pointer} <= {"/card/token", "/a"}, found


def test_through_the_api_bad_input_stores_nothing_and_its_values_appear_nowhere(
    bank: ApiClient, caplog: pytest.LogCaptureFixture
):
    auth.forget()
    caplog.set_level(logging.DEBUG)
    _, key = issue_key(bank)
    http = Client(raise_request_exception=False)
    for name, change, pointer, _ in BAD:
        body = make_document(**change)
        response = http.post("/api/v1/transactions", body, content_type="application/json", headers={"X-Api-Key": key})
        assert response.status_code == 422, name
        assert response["Content-Type"] == "application/problem+json"
        assert pointer in {error["pointer"] for error in response.json()["errors"]}, name
        assert VISA not in response.content.decode() and "Shop " not in response.content.decode()
    assert VISA not in caplog.text
    assert not any(table.objects.exists() for table in (Transaction, TransactionDetail, TransactionKey))


def test_null_doubled_keys_and_a_body_that_is_no_object_are_told():
    document = make_document()
    assert refused(raw(document, '"DE"', "null")) == {"/customer/country": "wrong-type"}
    assert refused(raw(document, '"type"', '"type": "fee", "type"')) == {"/type": "duplicate-key"}
    escaped = raw(document, '"type"', '"\\u0074ype": "fee", "type"')
    assert refused(escaped) == {"/type": "duplicate-key"}
    assert refused(raw(document, '"basket"', '"basket": "x", "basket"')) == {"/metadata/basket": "duplicate-key"}
    assert refused(b"[]") == {"": "wrong-type"} and refused(b'"x"') == {"": "wrong-type"}
    assert refused(b"{") == refused(b"\xff") == refused(b'{"amount": NaN}') == {"": "invalid-json"}
    assert refused(b"[" * 30_000) == {"": "too-deep"}


def test_a_body_over_32_kib_is_413():
    with pytest.raises(Problem) as told:
        schema.decode(b" " * (schema.MOST_BYTES + 1))
    assert told.value.status == 413


def test_all_faults_of_a_body_are_told_at_once():
    body = make_document(amount__value=-5, customer__country="UK", type="transfer", nonsense=1, device__ip="x")
    assert refused(body) == {
        "/amount/value": "out-of-range",
        "/customer/country": "invalid-value",
        "/counterparty/id": "required",
        "/nonsense": "unknown-field",
        "/device/ip": "invalid-format",
    }


def test_texts_are_trimmed_and_normalised_before_they_are_measured():
    name = "Cafe\N{COMBINING ACUTE ACCENT} \N{NO-BREAK SPACE}"
    payment = schema.decode(json.dumps(make_document(merchant__name=f"  {name}", customer__id=" c-1 ")).encode())
    assert payment.document()["merchant"]["name"] == "Café" and payment.customer.id == "c-1"
    assert (
        schema.from_document(make_document(merchant__name="  " + "x" * 140)).document()["merchant"]["name"] == "x" * 140
    )


def test_quotes_and_backslashes_are_plain_text():
    payment = schema.decode(json.dumps(make_document(merchant__name='Joe\'s "Diner" \\ Bar :x')).encode())
    assert payment.document()["merchant"]["name"] == 'Joe\'s "Diner" \\ Bar :x'


def test_the_instrument_follows_from_what_was_sent():
    account = {"id": "acc-1"}
    assert schema.from_document(make_document()).means == "card"
    assert schema.from_document(make_document(card=None, account=account)).means == "account"
    assert schema.from_document(make_document(card=None)).means == "other"
    assert schema.from_document(make_document(instrument="wallet")).means == "wallet"


def test_every_field_of_the_schema_is_accepted_together():
    hash64 = "ab" * 32
    full = make_document(
        uetr="97ed4827-7b6f-41ee-b962-0242ac120002", original_external_id="o-1", stage="clearing", direction="credit",
        instrument="card", billing_amount={"value": 1, "currency": "KWD"},
        account={"id": "a", "country": "DE", "opened_at": "2020-01-01", "balance_before": {"value": 5, "currency":
        "EUR"}}, counterparty={"id": "p", "name_hash": hash64, "vop_result": "close", "bic": "DEUTDEFF500", "country":
        "DE",
                      "first_seen_at": "2024-01-01T00:00:00+01:00"},
        transfer={"scheme": "sepa_inst", "purpose": "SALA", "remittance": "rent of May"},
        session={"id": "s", "started_at": "2026-11-21T09:00:00Z"},
        customer__email_hash=hash64, customer__phone_hash=hash64, card__bin="411111", card__avs_result="Y",
        card__three_ds__exemption="tra", authentication__exemption="none", merchant__terminal_id="T1",
        device__user_agent="Mozilla/5.0", device__app_version="1.2", device__flags=["vpn", "tor", "vpn"],
    )  # fmt: skip
    assert schema.decode(json.dumps(full).encode()).document()["device"]["flags"] == ["tor", "vpn"]


def test_ten_thousand_realistic_identifiers_are_accepted_in_payments():
    draw = random.Random(7)
    tail = ("customer__id", "merchant__id", "device__id", "session__id", "metadata__order")
    for _ in range(125):
        texts = [text for text in realistic_identifiers(draw) if len(text) <= 35 and not text.isspace()]
        for start in range(0, len(texts) - len(tail) + 1, len(tail)):
            changes = dict(zip(tail, texts[start:], strict=False))
            assert schema.from_document(make_document(**changes))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([field.name for field in msgspec.structs.fields(schema.Payment)])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(FIELDS | st.text(max_size=6), JSON, max_size=4))
def test_whatever_is_sent_gives_a_payment_or_a_problem_and_both_ways_agree(changes: dict[str, Any]):
    document = make_document() | changes
    try:
        payment = schema.decode(json.dumps(document).encode())
    except Problem as problem:
        assert problem.status in (400, 413, 422) and (problem.errors or problem.status == 400)
    else:
        again = schema.decode(payment.canonical)
        assert again.canonical == payment.canonical and again.body_hash == payment.body_hash


@settings(max_examples=60, deadline=None)
@given(
    value=st.integers(0, 10**15 - 1),
    currency=st.sampled_from(list(codes.CURRENCY)),
    country=st.sampled_from(list(codes.COUNTRY)),
    name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Nd")), max_size=60),
)
def test_good_payments_keep_what_they_say(value: int, currency: str, country: str, name: str):
    document = make_document(
        amount={"value": value, "currency": currency}, customer__country=country, merchant__name=name
    )
    kept = schema.decode(json.dumps(document, ensure_ascii=False).encode()).document()
    assert kept["amount"] == {"value": value, "currency": currency} and kept["customer"]["country"] == country
    assert kept == schema.decode(json.dumps(document, ensure_ascii=True).encode()).document()


def test_body_and_document_give_the_same_payment():
    document = make_document()
    assert schema.decode(json.dumps(document).encode()).canonical == schema.from_document(document).canonical


def test_history_may_be_old_but_not_older_than_computers():
    assert schema.from_document(make_document(occurred_at="2015-01-01T00:00:00Z"))
    with pytest.raises(Problem):
        schema.from_document(make_document(occurred_at="1901-01-01T00:00:00Z"))
