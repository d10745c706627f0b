"""Few rows at a time: what COPY does for thousands, a prepared statement does for a handful, cheaper and at once.

A COPY is two round trips and is parsed anew each time; that is nothing for a batch and much for one payment. Here rows
travel as one literal, an array of the table's own row type, and the statements that a session needs are prepared once.
They are texts: whoever commits joins them into one message. `KEEP` stores payments by one such statement, by the steps
of protocol.md, "Ingest": the caller takes its xid in a statement before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from transactions.binary import Column, is_scalar
from transactions.facts import FACT_COLUMNS, moment
from transactions.services import Inserted, Prepared, look_up_losers

FEW = 20  # rows up to which all this is cheaper than COPY

# The transaction's facts come with their place among the sent ones where their id will stand. Ids are drawn by this
# statement, so after the xid; keys go in in the order of the arrays, which is that of their bytes.
_TOGETHER = """
    sent AS MATERIALIZED (
        SELECT nextval('transaction_id_seq') AS id, one.*
          FROM unnest($2, $3, $4, $6) WITH ORDINALITY AS one (client, external_id, body_hash, document, place)),
    won AS (
        INSERT INTO transaction_key (id, lane, client, external_id, body_hash)
        SELECT id, $1, client, external_id, body_hash FROM sent ORDER BY place
        ON CONFLICT (lane, client, external_id) DO NOTHING RETURNING id),
    rows AS (
        INSERT INTO transaction ({names}) SELECT sent.id, {others}
          FROM won JOIN sent USING (id) JOIN unnest($5) AS facts ON facts.id = sent.place),
    details AS (
        INSERT INTO transaction_detail (id, document) SELECT id, document::{document} FROM won JOIN sent USING (id))"""
KEEP = "keep_few (smallint, integer[], varchar[], bytea[], transaction[], text[])"
TEXTS = ("external_id", "customer_ref")
_MOMENTS = [FACT_COLUMNS.index(name) for name in ("occurred_at", "received_at", "original_at")]


class Few:
    """The statements of one session for few rows. Useless on another session, and after the tables changed."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._layouts: dict[str, list[tuple[str, str]]] = {}
        self._prepared: dict[tuple[str, tuple[str, ...], str], str] = {}
        self._order: list[int] = []  # where each column of `transaction` stands in FACTS and TEXTS

    def insert(self, table: str, columns: Mapping[str, Column], *, then: str = "") -> str:
        """The statement that appends rows to `table`; `columns` as for `binary.store`, `then` an ON CONFLICT clause.

        The first time for these columns it is prepared at once.
        """
        key = table, tuple(columns), then
        if key not in self._prepared:
            names = ", ".join(f'"{name}"' for name in columns)
            values = ", ".join(f'sent."{name}"' for name in columns)
            name = f"few_{len(self._prepared)}"
            self._cursor.execute(
                f"PREPARE {name} ({table}[]) AS INSERT INTO {table} ({names}) SELECT {values} FROM unnest($1) AS sent"
                f" {then}"
            )
            self._prepared[key] = name
        return f"EXECUTE {self._prepared[key]} ({rows_literal(self._layout(table), columns)})"

    def prepare_keeping(self, answer: str) -> None:
        """Prepare `KEEP`, whose last part is the select `answer` over the CTEs `sent` and `won`."""
        names = [*FACT_COLUMNS, *TEXTS]
        together = _TOGETHER.format(
            names=", ".join(f'"{name}"' for name in names),
            others=", ".join(f'facts."{name}"' for name in names[1:]),
            document=dict(self._layout("transaction_detail"))["document"],
        )
        self._order = [names.index(name) for name, _ in self._layout("transaction")]
        self._cursor.execute(f"PREPARE {KEEP} AS WITH {together} {answer}")

    def keep(self, prepared: Prepared, order: Sequence[int]) -> str:
        """The statement that stores the payments, in `order` (byte order of their keys), and answers for each."""
        rows = prepared.facts[list(order)] if len(order) > 1 else prepared.facts.copy()
        rows["id"] = np.arange(1, len(rows) + 1)
        names = [prepared.external_ids[n] for n in order]
        references = [prepared.customer_refs[n] for n in order]
        parts = (
            str(prepared.lane_id),
            _array(map(str, rows["client"].tolist())),
            _array(map(_quoted, names)),
            _array(f'"\\\\x{prepared.body_hashes[n].hex()}"' for n in order),
            _array(map(_quoted, self._payments(rows.tolist(), names, references))),
            _array(_quoted(prepared.documents[n].decode()) for n in order),
        )
        return f"EXECUTE keep_few ({', '.join(parts)})"

    def _payments(self, rows: list[tuple[Any, ...]], names: list[str], references: list[str]) -> Iterator[str]:
        """Rows of `transaction` in its own order of columns; column by column would cost more than all the rest."""
        for facts, name, reference in zip(rows, names, references, strict=True):
            values = [*facts, _quoted(name), _quoted(reference)]
            for place in _MOMENTS:
                values[place] = _moment(values[place])
            yield f"({','.join([str(values[place]) for place in self._order])})"

    def _layout(self, table: str) -> list[tuple[str, str]]:
        """Names and types of the table's columns, in the order of its row type."""
        if table not in self._layouts:
            self._cursor.execute(
                "SELECT attname, atttypid::regtype::text FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                [table],
            )
            self._layouts[table] = self._cursor.fetchall()
        return self._layouts[table]


def kept(cursor: Any, prepared: Prepared, order: Sequence[int], answers: Sequence[tuple[int, bool]]) -> Inserted:
    """What became of the payments; `answers` (id drawn, key was free) in `order`. Looks up who lost.

    A statement of its own, as the protocol wants: the one before cannot see the winners.
    """
    ids, won = np.empty(len(prepared), "i8"), np.empty(len(prepared), bool)
    ids[list(order)] = [answer[0] for answer in answers]
    won[list(order)] = [answer[1] for answer in answers]
    inserted = Inserted(ids, won, np.zeros(len(prepared), bool))
    if not won.all():
        look_up_losers(cursor, prepared, inserted)
    return inserted


# --- literals ---------------------------------------------------------------------------------------------------------


def rows_literal(layout: Sequence[tuple[str, str]], columns: Mapping[str, Column]) -> str:
    """Rows as an SQL literal, an array of the row type `layout`; columns that are not given are NULL in it."""
    n = next(len(values) for _, values in columns.values() if not is_scalar(values))
    texts = [_texts(kind, columns[name], n) if name in columns else [""] * n for name, kind in layout]
    return _array(_quoted("(" + ",".join(row) + ")") for row in zip(*texts, strict=True))


def _array(elements: Iterable[str]) -> str:
    return "'{" + ",".join(elements).replace("'", "''") + "}'"


def _quoted(text: str) -> str:
    """A text within an array or row: in double quotes, which it and the backslash are escaped for."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _texts(kind: str, column: Column, n: int) -> list[str]:
    """The column's values as Postgres reads them within a row; NULL is nothing at all."""
    read = _READERS.get(kind, str)
    values = column[1]
    if is_scalar(values):
        return [_text(read, values)] * n
    if isinstance(values, np.ndarray):
        if values.ndim == 2:
            return [f"\\\\x{row.tobytes().hex()}" for row in values]
        values = values.tolist()
        return [read(value) for value in values]
    return [_text(read, value) for value in values]


def _text(read: Callable[[Any], str], value: Any) -> str:
    return "" if value is None else read(value)


def _moment(value: int) -> str:
    return moment(value).isoformat()


def _plain(value: str | bytes) -> str:
    return _quoted(value.decode() if isinstance(value, bytes) else value)


def _bytes(value: bytes) -> str:
    return f"\\\\x{value.hex()}"


_READERS: dict[str, Callable[[Any], str]] = {
    "timestamp with time zone": _moment,
    "character varying": _plain,
    "text": _plain,
    "jsonb": _plain,
    "bytea": _bytes,
    "uuid": bytes.hex,
    "double precision": repr,
    "real": repr,
}
