"""Columns between NumPy and Postgres by COPY BINARY, a batch at a time.

Fixed-width columns travel without any per-row Python: a row on the wire is one NumPy record (field count, then length
and big-endian value of every field). Only columns of varying length are joined from pieces, one slice a row. Times
are int8 micro-seconds since 2000-01-01, which is Postgres' own form, see `transactions/facts.py`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
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

MANY = 500  # rows that a thread is worth

Column = tuple[str, Any]


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
    wire = _kept_row(tuple((name, _wire_of(dtype[name])) for name in names))
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


def store(cursor: Any, table: str, columns: Mapping[str, Column], *, beside: Callable[[], None] | None = None) -> int:
    """Append rows to `table` by COPY; returns how many.

    `columns` is `{name: (type, values)}`: values are an array, a list, or one scalar for all rows (then a plain
    int, float, str or bytes). Types are the keys of WIRE and VARYING. bytea as a uint8 array of shape (n, bytes) is
    fixed-width; None stands for NULL and makes its column a varying one. jsonb takes bytes or str of JSON.

    `beside` is called while Postgres takes the rows in, if they are many enough for a thread to be worth it; it must
    leave the connection alone. What it raises is raised here, unless the COPY failed too.
    """
    n = next(len(values) for _, values in columns.values() if not is_scalar(values))
    names = ", ".join(f'"{name}"' for name in columns)
    work = partial(_copy, cursor, f"COPY {table} ({names}) FROM STDIN (FORMAT binary)", columns, n)
    if beside is not None and n >= MANY:
        _both(work, beside)
        return n
    work()
    if beside is not None:
        beside()
    return n


def _copy(cursor: Any, statement: str, columns: Mapping[str, Column], n: int) -> None:
    if n:
        raw = encode(columns, n)
        cursor.copy_expert(statement, io.BytesIO(raw), len(raw))


def _both(sent: Callable[[], None], beside: Callable[[], None]) -> None:
    """`sent` in a thread of its own, which waits without the interpreter's lock, and `beside` in this one."""
    failed: list[BaseException] = []

    def send() -> None:
        try:
            sent()
        except BaseException as error:  # raised by who waits
            failed.append(error)

    thread = threading.Thread(target=send, name="copy")
    thread.start()
    try:
        beside()
    finally:
        thread.join()
        if failed:
            raise failed[0]


def encode(columns: Mapping[str, Column], n: int) -> bytes:
    """The byte stream of COPY FROM STDIN BINARY for `n` rows; see `store`."""
    parts: list[Sequence[bytes]] = []
    run: dict[str, Column] = {}
    for name, (kind, values) in columns.items():
        if _is_fixed(kind, values):
            run[name] = (kind, values)
            continue
        raws, lengths = _varying(kind, values, n)
        run[name] = (_LENGTH, lengths)
        parts += [_pieces(run, n, None if parts else len(columns)), raws]
        run = {}
    if not parts:
        return b"".join((HEADER, _records(run, n, len(columns)).tobytes(), TRAILER))
    if run:
        parts.append(_pieces(run, n, None))
    return b"".join(chain([HEADER], chain.from_iterable(zip(*parts, strict=True)), [TRAILER]))


_LENGTH = "length"  # stands in a run of fixed-width columns for the length of the varying column behind it


def _row(fields: Sequence[tuple[str, np.dtype | None]], counted: bool = True) -> np.dtype:
    layout: list[Any] = [("#", ">i2")] if counted else []
    for name, wire in fields:
        layout += [(f"#{name}", ">i4")] + ([(name, wire)] if wire is not None else [])
    return np.dtype(layout)


_kept_row = lru_cache(maxsize=64)(_row)  # a dtype of many fields takes longer to make than to fill


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


def is_scalar(values: Any) -> bool:
    """Whether `values` is one value for all rows."""
    return values is None or isinstance(values, (int, float, str, bytes, np.generic))


def _is_fixed(kind: str, values: Any) -> bool:
    if kind == "bytea":
        return isinstance(values, np.ndarray) and values.ndim == 2
    if kind in VARYING or values is None:
        return False
    return is_scalar(values) or isinstance(values, np.ndarray) or None not in values


def _records(run: Mapping[str, Column], n: int, fields: int | None) -> np.ndarray:
    """A run of fixed-width columns as wire records; with the row's field count when it opens the row."""
    kinds = tuple((name, _width(kind, values)) for name, (kind, values) in run.items())
    records = np.empty(n, _kept_row(kinds, counted=fields is not None))
    records.view("u1").reshape(n, -1)[:] = _blank_record(kinds, fields)
    for (name, wire), (kind, values) in zip(kinds, run.values(), strict=True):
        if wire is None:
            records[f"#{name}"] = values
        else:
            records[name] = _values(kind, values)
    return records


@lru_cache(maxsize=64)
def _blank_record(kinds: tuple[tuple[str, np.dtype | None], ...], fields: int | None) -> np.ndarray:
    """The bytes of a record with its field count and all lengths that are the same in each row."""
    blank = np.zeros(1, _kept_row(kinds, counted=fields is not None))
    if fields is not None:
        blank["#"] = fields
    for name, wire in kinds:
        blank[f"#{name}"] = wire.itemsize if wire is not None else 0
    return blank.view("u1")


def _width(kind: str, values: Any) -> np.dtype | None:
    if kind == _LENGTH:
        return None
    if kind == "bytea":
        return np.dtype(("u1", (values.shape[1],)))
    return WIRE[kind]


def _values(kind: str, values: Any) -> Any:
    if kind != "uuid":
        return values
    return np.void(values) if isinstance(values, bytes) else np.asarray(values, "V16")


def _pieces(run: Mapping[str, Column], n: int, fields: int | None) -> list[bytes]:
    """One bytes object for each row."""
    records = _records(run, n, fields)
    width, raw = records.dtype.itemsize, records.tobytes()
    return [raw[at : at + width] for at in range(0, n * width, width)]


def _varying(kind: str, values: Any, n: int) -> tuple[list[bytes], Any]:
    """One column as its value for each row, and the lengths of these; that of NULL is -1."""
    encoder = _ENCODERS[kind] if kind in _ENCODERS else _fixed_encoder(kind)
    if is_scalar(values):
        raw = b"" if values is None else encoder(values)
        return [raw] * n, -1 if values is None else len(raw)
    if None in values:
        lengths = [-1 if value is None else len(encoder(value)) for value in values]
        return [b"" if value is None else encoder(value) for value in values], lengths
    raws = _texts(values) if kind == "text" else list(map(encoder, values))
    return raws, np.fromiter(map(len, raws), ">i4", n)


def _texts(values: Any) -> list[bytes]:
    """Texts of one kind, str or UTF-8 bytes, without a call for each; mixed ones with."""
    try:
        return list(map(str.encode, values)) if isinstance(values[0], str) else list(map(bytes, values))
    except TypeError:
        return list(map(_text, values))


def _fixed_encoder(kind: str) -> Any:
    if kind == "uuid":
        return bytes
    wire: Any = WIRE[kind]
    return lambda value: np.array(value, wire).tobytes()


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


_ENCODERS: dict[str, Any] = {"text": _text, "bytea": bytes, "jsonb": lambda value: b"\x01" + _text(value)}
