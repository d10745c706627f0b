"""COPY BINARY both ways: what goes in comes out, bit for bit, and what does not fit is named."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import connection
from psycopg2.errors import UndefinedTable

from transactions import binary

pytestmark = pytest.mark.django_db

KINDS = {
    "small": ("int2", "i2", [-1, 0, 32767]),
    "whole": ("int4", "i4", [-(2**31), 0, 7]),
    "large": ("int8", "i8", [-(2**63), 0, 2**62]),
    "share": ("float4", "f4", [np.nan, -0.0, 1.5]),
    "exact": ("float8", "f8", [np.inf, 0.1, -3.0]),
    "flag": ("bool", "?", [True, False, True]),
}


@pytest.fixture
def cursor():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE held (small int2, whole int4, large int8, share float4, exact float8, flag bool,"
            " at timestamptz, token uuid, raw bytea, name text, document jsonb) ON COMMIT DROP"
        )
        yield cursor


def columns() -> dict[str, Any]:
    return {name: (kind, np.array(values, dtype)) for name, (kind, dtype, values) in KINDS.items()}


def test_fixed_columns_come_back_bit_for_bit(cursor):
    assert binary.store(cursor, "held", columns()) == 3
    dtype = np.dtype([(name, kind[1]) for name, kind in KINDS.items()])
    found = binary.fetch(cursor, f"SELECT {', '.join(KINDS)} FROM held", None, dtype)
    for name, (_, _, values) in KINDS.items():
        assert found[name].tobytes() == np.array(values, dtype[name]).tobytes(), name


def test_a_structured_array_is_stored_by_the_widths_of_its_fields(cursor):
    records = np.zeros(4, [("small", "i2"), ("large", "i8"), ("share", "f4")])
    records["large"] = np.arange(4)
    binary.store(cursor, "held", binary.fixed(records))
    found = binary.fetch(cursor, "SELECT small, large, share FROM held WHERE large > %s", [1], records.dtype)
    assert found["large"].tolist() == [2, 3]


def test_varying_columns_scalars_and_null_go_in_beside_fixed_ones(cursor):
    token = UUID(int=7)
    binary.store(
        cursor,
        "held",
        {
            "name": ("text", ["a", "größer", None]),
            "small": ("int2", 5),
            "large": ("int8", [1, None, 3]),
            "token": ("uuid", token.bytes),
            "raw": ("bytea", [b"", b"\x00\x01", b"x"]),
            "document": ("jsonb", [b'{"a":1}', '{"b":"\u20ac"}', json.dumps([])]),
            "at": ("timestamptz", np.zeros(3, "i8")),
        },
    )
    cursor.execute(
        "SELECT name, small, large, token, raw, document::text, extract(year FROM at) FROM held ORDER BY raw"
    )
    rows = [(row[0], row[1], row[2], row[3], bytes(row[4]), row[5], int(row[6])) for row in cursor.fetchall()]
    assert rows == [
        ("a", 5, 1, token, b"", '{"a": 1}', 2000),
        ("größer", 5, None, token, b"\x00\x01", '{"b": "€"}', 2000),
        (None, 5, 3, token, b"x", "[]", 2000),
    ]


def test_rows_of_bytes_are_fixed_width_and_read_back_as_what_they_are(cursor):
    matrix = np.arange(12, dtype="<f4").reshape(3, 4)
    binary.store(cursor, "held", {"raw": ("bytea", matrix.view("u1")), "whole": ("int4", np.arange(3))})
    found = binary.fetch(cursor, "SELECT whole, raw FROM held", None, np.dtype([("n", "i4"), ("row", "f4", (4,))]))
    assert (found["row"] == matrix).all()


def test_nothing_is_stored_and_fetched_as_nothing(cursor):
    assert binary.store(cursor, "held", {"small": ("int2", np.empty(0, "i2"))}) == 0
    assert len(binary.fetch(cursor, "SELECT small FROM held", None, np.dtype([("small", "i2")]))) == 0


@pytest.mark.parametrize(
    ("select", "dtype", "sentence"),
    [
        ("SELECT 1::int8, NULL::int8", [("a", "i8"), ("b", "i8")], "column b has -1 bytes where 8"),
        ("SELECT 1::int4", [("a", "i8")], "column a has 4 bytes where 8"),
        ("SELECT '\\x0102'::bytea", [("a", "u1", (3,))], "column a has 2 bytes where 3"),
    ],
)
def test_a_column_that_does_not_fit_is_named(cursor, select: str, dtype: list, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        binary.fetch(cursor, select, None, np.dtype(dtype))


@pytest.mark.parametrize("n", [0, 1, 5_000])
def test_what_is_done_beside_is_done_once_whatever_there_is_to_store(cursor, n: int):
    done: list[int] = []
    assert binary.store(cursor, "held", {"large": ("int8", np.arange(n))}, beside=lambda: done.append(n)) == n
    assert done == [n]
    assert len(binary.fetch(cursor, "SELECT large FROM held", None, np.dtype([("large", "i8")]))) == n


def test_what_is_done_beside_is_done_while_postgres_takes_the_rows_in(cursor, monkeypatch: pytest.MonkeyPatch):
    begun, sent, encode = threading.Event(), threading.Event(), binary.encode

    def encoded(columns: Any, n: int) -> bytes:
        assert begun.wait(20), "the COPY waits for what is done beside it, and must not"
        sent.set()
        return encode(columns, n)

    def beside() -> None:
        begun.set()
        assert sent.wait(20), "what is done beside waits for the COPY, and must not"

    monkeypatch.setattr(binary, "encode", encoded)
    assert binary.store(cursor, "held", {"large": ("int8", np.arange(binary.MANY))}, beside=beside) == binary.MANY


@pytest.mark.parametrize("n", [binary.MANY - 1, binary.MANY])
def test_of_two_errors_that_of_the_database_is_raised(cursor, n: int):
    def beside() -> None:
        raise KeyError("not the session's fault")

    with pytest.raises(UndefinedTable):
        binary.store(cursor, "nowhere", {"large": ("int8", np.arange(n))}, beside=beside)


@pytest.mark.parametrize("n", [3, binary.MANY])
def test_an_error_beside_is_raised_as_what_it_is_and_the_session_goes_on(cursor, n: int):
    def beside() -> None:
        raise KeyError("not the session's fault")

    with pytest.raises(KeyError, match="not the session's fault"):
        binary.store(cursor, "held", {"large": ("int8", np.arange(n))}, beside=beside)
    assert len(binary.fetch(cursor, "SELECT large FROM held", None, np.dtype([("large", "i8")]))) == n
