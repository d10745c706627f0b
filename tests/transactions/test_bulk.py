"""Bulk: the same verdict on every line as if it had come alone, and jobs that tell it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from tests.factories import make_client, make_lane
from tests.transactions.documents import make_document
from tests.transactions.test_api import Caller, problem
from transactions import answers, auth, bulk, columns, jobs, limits, schema, services
from transactions.codes import entity_key
from transactions.models import ApiClient, BulkJob, Transaction, TransactionDetail
from transactions.problems import Problem

URL = "/api/v1/transactions/bulk"
NUMBER = "4111" + "1" * 12
ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "account": {"card": None, "instrument": "account", "account": {"id": "acc-1", "country": "DE"}},
    "balance": {"account": {"id": "acc-1", "balance_before": {"value": 5, "currency": "USD"}}},
    "full card": {"card__bin": "41111111", "card__avs_result": "Y"},
    "other zone": {"occurred_at": "2026-11-01T10:00:00.120+05:30"},
    "foreign money": {"amount": {"value": 1050, "currency": "JPY"}},
    "texts to tidy": {"merchant__name": "  Cafe\u0301 ", "customer__id": " c-1"},
    "quotes": {"merchant__name": 'Joe "X" \\ Bar'},
    "other scripts": {"merchant__name": "寿司 ","merchant__city": "Αθήνα"},
    "transfer": {"type": "transfer", "counterparty": {"id": "cp-1"}, "transfer": {"scheme": "sepa_inst"}},
    "refund": {"type": "refund", "original_external_id": "pay-0"},
    "session": {"session": {"id": "s", "started_at": "2020-01-01T00:00:00Z"}, "device__flags": ["vpn", "tor"]},
    "ipv6": {"device__ip": "2001:DB8::7"},
    "terminal": {"merchant__terminal_id": "T1"},
    "order number": {"external_id": "202611220000012345"},
    "nothing much": dict.fromkeys(["card", "merchant", "device", "location", "authentication", "metadata"]),
}  # fmt: skip
BAD: dict[str, dict[str, Any]] = {
    "unknown field": {"nonsense": 1},
    "amount as text": {"amount__value": "5"},
    "country": {"customer__country": "UK"},
    "no zone": {"occurred_at": "2026-11-01T10:00:00"},
    "too fine": {"occurred_at": "2026-11-01T10:00:00.1234Z"},
    "future": {"occurred_at": "2099-01-01T00:00:00Z"},
    "long ago": {"occurred_at": "1979-01-01T00:00:00Z"},
    "card without token": {"card__token": None, "instrument": "card"},
    "account without id": {"instrument": "account"},
    "transfer to nobody": {"type": "transfer"},
    "refund of nothing": {"type": "refund"},
    "reversal of nothing": {"stage": "reversal"},
    "exempt without why": {"authentication__sca": "exempt"},
    "number as token": {"card__token": NUMBER},
    "number as customer": {"customer__id": NUMBER},
    "number as id": {"external_id": NUMBER},
    "number in text": {"merchant__name": "paid 4111 1111 " + "1111 1111"},
    "number in metadata": {"metadata": {"a": NUMBER}},
    "secret": {"metadata": {"cvv": "123"}},
    "mail address": {"customer__id": "me@example.com"},
    "iban": {"account": {"id": "DE89370400440532013000"}},
    "no address": {"device__ip": "300.1.1.1"},
    "fine place": {"location__lat": 48.123456},
    "half a place": {"location__lat": None},
    "unborn": {"customer__birth_year": 2099},
    "control character": {"merchant__name": "a\u0007b"},
    "no rate": {"amount__currency": "KPW"},
    "no rate of the balance": {"account": {"id": "a", "balance_before": {"value": 1, "currency": "KPW"}}},
}  # fmt: skip


def lines_of(*documents: Any) -> bytes:
    return b"\n".join(
        each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode() for each in documents
    )


def alone(row: bytes, client: ApiClient, now: Any) -> services.Prepared:
    payment = schema.decode(row, exempt=client.exempt_fields, now=now, backlog=True)
    return services.prepare([payment], client=client, received_at=now)


def test_each_line_becomes_the_very_row_it_would_be_alone(bank: ApiClient):
    now = timezone.now()
    documents = [make_document(**{"external_id": f"pay-{n}", **changes}) for n, changes in enumerate(ODD.values())]
    body = lines_of(*documents)
    for written in (body, body.replace(b'": ', b'"  :\t'), json_escaped(documents)):
        reading = bulk.read(written, client=bank, now=now)
        assert reading.problems == {} and reading.prepared is not None
        for n, row in enumerate(written.split(b"\n")):
            single = alone(row, bank, now)
            assert reading.prepared.facts[n].tobytes() == single.facts[0].tobytes(), list(ODD)[n]
            assert reading.prepared.documents[n] == single.documents[0]
            assert reading.prepared.body_hashes[n] == single.body_hashes[0]
            assert reading.prepared.originals.get(n) == single.originals.get(0)


def json_escaped(documents: list[Any]) -> bytes:
    return b"\n".join(json.dumps(each, indent=1).replace("\n", " ").encode() for each in documents)


def test_each_bad_line_is_refused_as_it_would_be_alone_and_the_good_ones_around_it_stay(bank: ApiClient):
    now = timezone.now()
    columns.forget()
    rows = []
    for n, changes in enumerate(BAD.values()):
        rows += [
            lines_of(make_document(f"good-{n}")),
            lines_of(make_document(**{"external_id": f"bad-{n}", **changes})),
        ]
    doubled = lines_of(make_document("twice")).replace(b'"type": "purchase"', b'"type": "purchase", "type": "purchase"')
    hidden = doubled.replace(b'"basket": "3 items"', b'"basket": "\\u0022: 3"')
    rows += [doubled, b"", hidden, b"[]", b"{nope", b'{"a":1} {"b":2}', b"\xff"]
    reading = bulk.read(b"\n".join(rows), client=bank, now=now)
    good = [2 * n + 1 for n in range(len(BAD))]
    assert reading.numbers == good and set(reading.problems) == set(range(1, len(rows) + 1)) - {*good, 2 * len(BAD) + 2}
    assert reading.lines == len(rows) - 1
    for number, found in reading.problems.items():
        with pytest.raises(Problem) as told:
            alone(rows[number - 1], bank, now)
        assert (found.code, found.errors) == (told.value.code, told.value.errors), rows[number - 1]
    assert NUMBER not in json.dumps([jobs.told(each) for each in reading.problems.values()])


def test_a_token_that_was_refused_once_is_refused_again(bank: ApiClient):
    body = lines_of(make_document("a", card__token=NUMBER))
    for _ in range(2):
        assert bulk.read(body, client=bank, now=timezone.now()).problems[1].code == "pan-not-accepted"
    bank.exempt_fields = ["/merchant/id"]
    exempt = bulk.read(lines_of(make_document("a", merchant__id=NUMBER)), client=bank, now=timezone.now())
    assert exempt.prepared is not None and exempt.prepared.facts["merchant"][0] == entity_key("merchant", NUMBER)


def test_originals_are_found_among_earlier_payments_and_in_the_batch_itself(bank: ApiClient):
    early = make_document("early", occurred_at="2026-11-01T10:00:00Z")
    [kept] = services.ingest([schema.from_document(early)], client=bank)
    stranger = make_client(make_lane("cards"), "another bank")
    services.ingest([schema.from_document(make_document("theirs"))], client=stranger)
    back = {"type": "refund", "original_external_id": "early"}
    documents = [
        make_document("r1", **back),
        make_document("r2", **{**back, "original_external_id": "new"}),
        make_document("new"),
        make_document("r3", **{**back, "original_external_id": "theirs"}),
        make_document("r4", **{**back, "original_external_id": "r4"}),
        make_document("r5", **{**back, "original_external_id": "r2"}),
        make_document("r6", **{**back, "original_external_id": "r1"}),
        make_document("round", **{**back, "original_external_id": "about"}),
        make_document("about", **{**back, "original_external_id": "round"}),
        *[make_document(f"pad-{n}") for n in range(services.BULK)],
    ]
    reading = bulk.read(lines_of(*documents), client=bank, now=timezone.now())
    assert reading.prepared is not None
    services.store(reading.prepared)
    stored = {each.external_id: each for each in Transaction.objects.all()}
    assert (stored["r1"].original, stored["r1"].original_at.isoformat()) == (kept.id, "2026-11-01T10:00:00+00:00")
    assert (stored["r2"].original, stored["r2"].original_at) == (stored["new"].pk, stored["new"].occurred_at)
    assert (stored["r5"].original, stored["r6"].original) == (stored["new"].pk, kept.id)
    assert stored["round"].original == stored["about"].original == 0
    later = schema.from_document(make_document("r7", **{**back, "original_external_id": "r5"}))
    [last] = services.ingest([later], client=bank)
    assert Transaction.objects.get(pk=last.id).original == stored["new"].pk
    assert Transaction.objects.get(pk=last.id).original_at == stored["new"].occurred_at
    assert stored["r3"].original == stored["r4"].original == stored["new"].original == 0
    again = services.Prepared.join([services.Prepared.load(reading.prepared.dump()), reading.prepared.take([1, 0])])
    assert again.originals == {**reading.prepared.originals, len(documents): "new", len(documents) + 1: "early"}


@pytest.mark.parametrize(
    ("text", "high", "low"),
    [
        ("203.0.113.7", 0, 0xFFFF_CB00_7107),
        ("::ffff:203.0.113.7", 0, 0xFFFF_CB00_7107),
        ("2001:db8::1", 0x20010DB800000000, 1),
        ("ffff::ffff:ffff:ffff:ffff", -(2**48), -1),
        ("203.0.113.007", 0, 0),
    ],
)
def test_an_address_is_kept_as_128_bits(text: str, high: int, low: int):
    assert columns.address_of(text)[1:] == (high, low)


def test_a_bin_is_kept_as_a_number(bank: ApiClient):
    made = columns.columns_of([schema.from_document(make_document(card__bin="012345"))], base="EUR").facts
    assert made["bin"][0] == 12345


# --- the door ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def caller(bank: ApiClient) -> Caller:
    auth.forget()
    limits.forget()
    return Caller(bank)


def send(caller: Caller, body: bytes, **headers: str) -> Any:
    return caller.post(body, URL, content_type="application/x-ndjson", **headers)


def result_of(caller: Caller, answer: Any) -> list[dict[str, Any]]:
    found = caller.get(answer.json()["result"])
    assert found["Content-Type"].startswith("application/x-ndjson")
    return [json.loads(row) for row in found.content.splitlines()]


def test_a_bulk_request_is_kept_before_it_is_answered_and_its_job_tells_every_line(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
):
    first = make_document("pay-0")
    body = lines_of(first, b"{}", make_document("pay-1"), b"", first, make_document("pay-1", amount__value=1))
    answer = send(caller, body)
    assert answer.status_code == 202 and answer["Retry-After"]
    job = answer.json()
    assert (job["lines"], job["accepted"], job["known"], job["rejected"]) == (5, 2, 1, 2)
    ids = dict(Transaction.objects.values_list("external_id", "pk"))
    rows = result_of(caller, answer)
    assert [(row["line"], row["id"], row["external_id"], row["status"]) for row in rows] == [
        (1, ids["pay-0"], "pay-0", "pending"),
        (2, None, None, "rejected"),
        (3, ids["pay-1"], "pay-1", "pending"),
        (5, ids["pay-0"], "pay-0", "pending"),
        (6, None, "pay-1", "rejected"),
    ]
    assert rows[1]["problem"]["errors"][0] == {
        "pointer": "/amount",
        "code": "required",
        "message": "The field is required.",
    }
    assert rows[4]["problem"]["code"] == "duplicate-external-id"
    assert TransactionDetail.objects.get(pk=ids["pay-0"]).document["merchant"]["name"] == "Café Lumière"
    decision = {"outcome": "approve"}
    monkeypatch.setattr(answers, "_find", lambda asked: dict.fromkeys(asked, decision))
    monkeypatch.setattr(answers, "_count", len)
    shown = caller.get(answer["Location"]).json()
    assert (shown["status"], shown["decided"]) == ("finished", 3)
    assert [row.get("decision") for row in result_of(caller, answer)] == [decision, None, decision, decision, None]


def test_a_bulk_request_sent_again_gives_the_same_payments(caller: Caller):
    body = lines_of(*[make_document(f"pay-{n}") for n in range(services.BULK + 1)], b"{}")
    first, again = send(caller, body), send(caller, body)
    assert result_of(caller, first) == result_of(caller, again) and Transaction.objects.count() == services.BULK + 1
    assert (again.json()["accepted"], again.json()["known"]) == (0, services.BULK + 1)
    assert caller.get(first["Location"]).json()["status"] == "running"


def test_a_job_waits_for_no_decision_of_history_in_whatever_many_lines(caller: Caller, bank: ApiClient):
    old = make_document("old")
    services.ingest([schema.from_document(old)], client=bank, intake="history")
    answer = send(caller, lines_of(old, old))
    assert answer.json()["known"] == 2
    assert caller.get(answer["Location"]).json()["status"] == "finished"


def test_a_job_of_refused_lines_alone_is_finished_and_belongs_to_its_client(caller: Caller):
    answer = send(caller, b"{}\n[]")
    assert caller.get(answer["Location"]).json()["status"] == "finished"
    stranger = Caller(make_client(make_lane("cards"), "another bank"))
    problem(stranger.get(answer["Location"]), 404, "not-found")
    problem(stranger.get(answer.json()["result"]), 404, "not-found")


def test_a_packed_body_is_unpacked_within_bounds(caller: Caller):
    body = lines_of(make_document("pay-1"))
    halves = gzip.compress(body[:50]) + gzip.compress(body[50:])
    assert send(caller, halves, **{"Content-Encoding": "gzip"}).json()["accepted"] == 1
    bomb = gzip.compress(b" " * (bulk.MOST_BYTES + 1))
    problem(send(caller, bomb, **{"Content-Encoding": "gzip"}), 413, "body-too-large")
    problem(send(caller, body, **{"Content-Encoding": "gzip"}), 400, "bad-request")
    problem(send(caller, gzip.compress(body)[:-9], **{"Content-Encoding": "gzip"}), 400, "bad-request")
    problem(send(caller, body, **{"Content-Encoding": "br"}), 415, "unsupported-media-type")


def test_a_body_beyond_the_limits_is_refused_as_a_whole(caller: Caller):
    problem(send(caller, b"{}\n" * (bulk.MOST_LINES + 1)), 413, "body-too-large")
    problem(send(caller, b" " * (bulk.MOST_BYTES + 1)), 413, "body-too-large")
    problem(send(caller, b" \n\n"), 400, "bad-request")
    problem(caller.post(b"{}", URL), 415, "unsupported-media-type")
    huge = lines_of(make_document("big", metadata={f"k{n}": "x" * 500 for n in range(50)})) + b" " * 10_000
    assert send(caller, huge).json()["rejected"] == 1
    assert not Transaction.objects.exists() and BulkJob.objects.count() == 1


def test_numbers_and_ids_of_a_job_come_back(bank: ApiClient):
    numbers, ids = np.array([1, 2, 5, 9]), np.array([7, 3, 2**60, 8])
    found = jobs.unpacked(jobs.packed(numbers, ids))
    assert found[0].tolist() == numbers.tolist() and found[1].tolist() == ids.tolist()
    assert all(len(part) == 0 for part in jobs.unpacked(jobs.packed(np.empty(0, "i4"), np.empty(0, "i8"))))
