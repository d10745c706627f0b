"""Few rows by one statement: the same rows as COPY makes of them, whatever their texts hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.db import connection

from tests.judging import prepared, rows
from transactions import binary, few, services
from transactions.models import ApiClient
from transactions.services import Inserted, Prepared, key_order

NASTY = ["plain", "", "it's", 'say "no"', "back\\slash", "a,b", "(c)", "{d}", "NULL", "ümlaut €", " space "]


@pytest.fixture
def cursor(db: None) -> Iterator[Any]:
    """A plain cursor in a transaction that is rolled back; its prepared statements go with it."""
    with connection.cursor() as wrapped:
        wrapped.execute(
            "CREATE TABLE kept (n int8, f float8, r float4, at timestamptz, t text, b bytea, u uuid, j jsonb,"
            " i int2 NOT NULL DEFAULT 7)"
        )
        yield wrapped.cursor
        wrapped.execute("DEALLOCATE ALL")


def columns() -> dict[str, binary.Column]:
    n = len(NASTY)
    return {
        "f": ("float8", np.array([np.nan, 0.1, -1e300, *np.arange(n - 3) / 3])),
        "n": ("int8", np.arange(n) - 2**62),
        "r": ("float4", np.array([np.nan, np.inf, *np.arange(n - 2) / 3], "f4")),
        "at": ("timestamptz", np.arange(n) * 1_234_567_890_123),
        "t": ("text", NASTY),
        "b": ("bytea", np.arange(n * 3, dtype="u1").reshape(n, 3)),
        "u": ("uuid", b"0123456789abcdef"),
        "j": ("jsonb", [None, *[b'{"it\'s": "a \\"b\\""}'] * (n - 1)]),
    }


def test_rows_are_the_same_as_those_that_copy_writes(cursor):
    binary.store(cursor, "kept", columns())
    cursor.execute("SELECT kept::text FROM kept ORDER BY n")
    copied = cursor.fetchall()
    cursor.execute("TRUNCATE kept")
    cursor.execute(few.Few(cursor).insert("kept", columns()))
    cursor.execute("SELECT kept::text FROM kept ORDER BY n")
    assert cursor.fetchall() == copied
    assert len(copied) == len(NASTY)


def test_a_column_that_is_not_given_has_its_default_and_a_conflict_may_be_left(cursor):
    cursor.execute("CREATE UNIQUE INDEX ON kept (n)")
    statements = few.Few(cursor)
    for _ in range(2):
        cursor.execute(statements.insert("kept", {"n": ("int8", np.arange(2))}, then="ON CONFLICT DO NOTHING"))
    cursor.execute("SELECT n, i FROM kept ORDER BY n")
    assert cursor.fetchall() == [(0, 7), (1, 7)]


# --- payments ---------------------------------------------------------------------------------------------------------

ALL = "SELECT k.external_id, k.body_hash, t.*, d.document FROM transaction_key k JOIN transaction t USING (id)" \
      " JOIN transaction_detail d USING (id) ORDER BY k.external_id"  # fmt: skip


def by_one_statement(batch: Prepared) -> Inserted:
    """What the lane does with the payments of waiting requests."""
    with connection.cursor() as wrapped:
        cursor, statements, order = wrapped.cursor, few.Few(wrapped.cursor), key_order(batch)
        statements.prepare_keeping(
            "SELECT sent.id, won.id IS NOT NULL FROM sent LEFT JOIN won USING (id) ORDER BY place"
        )
        cursor.execute(f"SELECT pg_current_xact_id(); {statements.keep(batch, order)}")
        inserted = few.kept(cursor, batch, order, cursor.fetchall())
        cursor.execute("DEALLOCATE ALL")
    return inserted


def test_payments_are_the_same_rows_as_by_the_longer_way(bank: ApiClient):
    batch = prepared(bank, "pay-2", "pay-1", "pay-3")
    batch.external_ids = ["pay-2", "pay-1", 'it\'s, (so) {said} "he"']
    batch.customer_refs = ["o'brien\\", "ümlaut", ""]
    inserted = by_one_statement(batch)
    assert inserted.won.all() and not inserted.conflict.any()
    one = rows(ALL)
    with connection.cursor() as wrapped:
        wrapped.execute("DELETE FROM transaction_key; DELETE FROM transaction; DELETE FROM transaction_detail")
        longer = services.insert(wrapped.cursor, batch)
    ids = dict(zip(longer.ids.tolist(), inserted.ids.tolist(), strict=True))
    assert plain(one) == plain([(*row[:2], ids[row[2]], *row[3:]) for row in rows(ALL)])


def plain(found: list[tuple[Any, ...]]) -> list[list[str]]:
    """Rows as texts: so NaN equals itself."""
    return [[str(bytes(value) if isinstance(value, memoryview) else value) for value in row] for row in found]


def test_losers_get_the_id_of_the_winner_and_are_told_of_a_conflict(bank: ApiClient):
    first = by_one_statement(prepared(bank, "pay-1"))
    same, other = prepared(bank, "pay-1"), prepared(bank, "pay-1", amount__value=7)
    joined = by_one_statement(Prepared.join([same, prepared(bank, "pay-2"), other]))
    assert joined.won.tolist() == [False, True, False]
    assert joined.conflict.tolist() == [False, False, True]
    assert joined.ids[0] == joined.ids[2] == first.ids[0] != joined.ids[1]
