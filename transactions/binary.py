"""Columns between NumPy and Postgres by COPY BINARY, a batch at a time.

Fixed-width columns travel without any per-row Python: a row on the wire is one NumPy record (field count, then length
and big-endian value of every field). Only columns of varying length are joined from pieces, one slice a row. Times
are int8 micro-seconds since 2000-01-01, which is Postgres' own form, see `transactions/facts.py`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from struct import Struct
from typing import Any

import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, length of the (empty) extension
TRAILER = b"\xff\xff"

# Fixed-width types of Postgres as they stand on the wire. bytea is fixed when given as an array of shape (n, bytes).
WIRE: dict[str, np.dtype] = {
    "bool": np.dtype("u1"),
    "int2": np.dtype(">i2"),
    "int4": np.dtype(">i4"),
    "int8": np.dtype(">i8"),
    "timestamptz": np.dtype(">i8"),
    "float4": np.dtype(">f4"),
    "float8": np.dtype(">f8"),
    "uuid": np.dtype("V16"),
}
VARYING = {"text", "bytea", "jsonb"}
OF_WIDTH = {"i2": "int2", "i4": "int4", "i8": "int8", "f4": "float4", "f8": "float8", "b1": "bool"}

Column = tuple[str, Any]
_length = Struct(">i").pack


def fetch(cursor: Any, select: str, params: Sequence[Any] | Mapping[str, Any] | None, dtype: np.dtype) -> np.ndarray:
    """The rows of `select` as a structured array of `dtype`, whose fields stand in the order of the select list.

    Integer, float and bool columns of the very widths of `dtype`, none NULL. A sub-array field (as `("f4", (40,))`)
    takes a bytea of just that many bytes, as it is; `V16` takes a uuid. Raises ValueError when a column does not fit.
    """
    buffer = io.BytesIO()
    query = cursor.mogrify(select, params).decode() if params is not None else select
    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", buffer)
    return parse(buffer.getbuffer(), dtype)


def parse(raw: memoryview | bytes, dtype: np.dtype) -> np.ndarray:
    """What COPY TO STDOUT BINARY sent, as an array of `dtype`. Raises ValueError when a column does not fit."""
    names = dtype.names or ()
    wire = _row([(name, _wire_of(dtype[name])) for name in names])
    size = len(raw) - len(HEADER) - len(TRAILER)
    if size % wire.itemsize:
        _refuse(raw, wire, dtype)
    rows = np.frombuffer(raw, wire, size // wire.itemsize, len(HEADER))
    if not all((rows[f"#{name}"] == wire[name].itemsize).all() for name in names):
        _refuse(raw, wire, dtype)
    result = np.empty(len(rows), dtype)
    for name in names:
        field = rows[name]
        result[name] = field if dtype[name].subdtype is None else field.view(dtype[name].base)
    return result


def fixed(records: np.ndarray) -> dict[str, Column]:
    """The fields of a structured array as columns for `store`, typed by their widths."""
    return {name: (OF_WIDTH[records.dtype[name].str[1:]], records[name]) for name in records.dtype.names or ()}


def store(cursor: Any, table: str, columns: Mapping[str, Column]) -> int:
    """Append rows to `table` by COPY; returns how many.

    `columns` is `{name: (type, values)}`: values are an array, a list, or one scalar for all rows (then a plain
    int, float, str or bytes). Types are the keys of WIRE and VARYING. bytea as a uint8 array of shape (n, bytes) is
    fixed-width; None stands for NULL and makes its column a varying one. jsonb takes bytes or str of JSON.
    """
    n = next(len(values) for _, values in columns.values() if not _scalar(values))
    if n:
        names = ", ".join(f'"{name}"' for name in columns)
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)", io.BytesIO(encode(columns, n)))
    return n


def encode(columns: Mapping[str, Column], n: int) -> bytes:
    """The byte stream of COPY FROM STDIN BINARY for `n` rows; see `store`."""
    parts: list[Any] = []
    run: dict[str, Column] = {}
    first = True
    for name, (kind, values) in columns.items():
        if _is_fixed(kind, values):
            run[name] = (kind, values)
            continue
        parts.append(_pieces(run, n, len(columns) if first else None))
        first, run = False, {}
        parts.append(_varying(kind, values, n))
    if first:
        return b"".join((HEADER, _records(run, n, len(columns)).tobytes(), TRAILER))
    if run:
        parts.append(_pieces(run, n, None))
    return b"".join((HEADER, *chain.from_iterable(zip(*parts, strict=True)), TRAILER))


def _row(fields: list[tuple[str, np.dtype]], counted: bool = True) -> np.dtype:
    layout: list[Any] = [("#", ">i2")] if counted else []
    for name, wire in fields:
        layout += [(f"#{name}", ">i4"), (name, wire)]
    return np.dtype(layout)


def _wire_of(kind: np.dtype) -> np.dtype:
    if kind.subdtype is not None:
        return np.dtype(("u1", (kind.itemsize,)))
    return kind if kind.kind == "V" else kind.newbyteorder(">")


def _refuse(raw: memoryview | bytes, wire: np.dtype, dtype: np.dtype) -> None:
    """Name the first column of the first row that does not fit; called only when something does not."""
    fields: Any = wire.fields
    for name in dtype.names or ():
        at = len(HEADER) + fields[f"#{name}"][1]
        got = int.from_bytes(bytes(raw[at : at + 4]), "big", signed=True)
        if got != wire[name].itemsize:
            raise ValueError(f"column {name} has {got} bytes where {wire[name].itemsize} were expected")
    raise ValueError("a column is NULL or of another width than its field")


def _scalar(values: Any) -> bool:
    return values is None or isinstance(values, (int, float, str, bytes, np.generic))


def _is_fixed(kind: str, values: Any) -> bool:
    if kind == "bytea":
        return isinstance(values, np.ndarray) and values.ndim == 2
    if kind in VARYING or values is None:
        return False
    return _scalar(values) or isinstance(values, np.ndarray) or None not in values


def _records(run: Mapping[str, Column], n: int, fields: int | None) -> np.ndarray:
    """A run of fixed-width columns as wire records; with the row's field count when it opens the row."""
    kinds = [(name, _width(kind, values)) for name, (kind, values) in run.items()]
    records = np.empty(n, _row(kinds, counted=fields is not None))
    if fields is not None:
        records["#"] = fields
    for name, (kind, values) in run.items():
        records[f"#{name}"] = records.dtype[name].itemsize
        records[name] = _values(kind, values)
    return records


def _width(kind: str, values: Any) -> np.dtype:
    if kind == "bytea":
        return np.dtype(("u1", (values.shape[1],)))
    return WIRE[kind]


def _values(kind: str, values: Any) -> Any:
    if kind != "uuid":
        return values
    return np.void(values) if isinstance(values, bytes) else np.asarray(values, "V16")


def _pieces(run: Mapping[str, Column], n: int, fields: int | None) -> Any:
    """One bytes object for each row."""
    records = _records(run, n, fields)
    width, raw = records.dtype.itemsize, records.tobytes()
    return [raw[at : at + width] for at in range(0, n * width, width)] if width else repeat(b"", n)


def _varying(kind: str, values: Any, n: int) -> list[bytes]:
    """One column as length and value for each row."""
    encoder = _ENCODERS[kind] if kind in _ENCODERS else _fixed_encoder(kind)
    if _scalar(values):
        return [_piece(encoder, values)] * n
    return [_piece(encoder, value) for value in values]


def _piece(encoder: Any, value: Any) -> bytes:
    if value is None:
        return _length(-1)
    raw = encoder(value)
    return _length(len(raw)) + raw


def _fixed_encoder(kind: str) -> Any:
    if kind == "uuid":
        return bytes
    wire: Any = WIRE[kind]
    return lambda value: np.array(value, wire).tobytes()


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


_ENCODERS = {"text": _text, "bytea": bytes, "jsonb": lambda value: b"\x01" + _text(value)}
