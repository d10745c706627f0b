"""From a bank's own columns to the canonical fields: names, constants, units, look-ups of values.

A mapping is a TOML file (docs/integrate.md shows one). Without it the canonical dotted names are the columns. Values
that cannot be converted are faults of their row, told like any other; the schema checks everything else.
"""

from __future__ import annotations

import collections.abc
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import repeat
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from transactions.codes import EXPONENT
from transactions.problems import FieldError
from transactions.reading import Part, members

EPOCH_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
MONEY_UNITS = ("minor", "decimal")
NEARLY = Decimal("0.000001")  # what binary floating point may add to an amount


class BadMapping(Exception):
    """The mapping does not fit the file or the schema; the text is one sentence."""


class Column(msgspec.Struct, forbid_unknown_fields=True):
    """How one canonical field is made out of the file.

    `columns` are joined by a space. `unit` is minor or decimal for money, s, ms or us for times since 1970; `format` is
    that of strptime. `values` looks a value up, `default` stands for what is empty or not listed. `strip` are
    characters to take away; `absolute` drops the sign of money; `prefix` is put before a text.
    """

    column: str = ""
    columns: list[str] = []
    unit: str = ""
    format: str = ""
    zone: str = ""
    values: dict[str, str] = {}
    default: str = ""
    strip: str = ""
    prefix: str = ""
    absolute: bool = False

    @property
    def sources(self) -> list[str]:
        return self.columns or [self.column]


class Mapping(msgspec.Struct, forbid_unknown_fields=True):
    """The whole TOML file. `zone` is for times without an offset; `decimal` is the decimal mark of money and
    degrees."""

    columns: dict[str, Column | str]
    constants: dict[str, str | int | float] = {}
    zone: str = ""
    decimal: str = "."
    delimiter: str = ""
    encoding: str = "utf-8-sig"

    def column(self, name: str) -> Column:
        """How the canonical field `name` is made."""
        found = self.columns[name]
        return Column(column=found) if isinstance(found, str) else found


def read_mapping(path: Path) -> Mapping:
    """The mapping in a TOML file. Raises BadMapping."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Mapping)
    except (OSError, UnicodeDecodeError) as error:
        raise BadMapping(f"The mapping {path} cannot be read.") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadMapping(f"The mapping {path} is wrong: {error}.") from error


def plain_mapping(columns: Sequence[str]) -> Mapping:
    """For a file whose columns bear the canonical names."""
    return Mapping(columns={name: name for name in columns})


# --- the fields a mapping may name ------------------------------------------------------------------------------------

Converter = Callable[[Any], Any]
Columns = collections.abc.Mapping[str, Sequence[Any]]


def fields(kind: type[Part], prefix: str = "") -> dict[str, Any]:
    """The leaves of a struct by dotted name, with their types; `metadata` stands for `metadata.<any key>`."""
    found: dict[str, Any] = {}
    for name, member in members(kind).items():
        if member.struct is None:
            found[prefix + name] = member.kind
        else:
            found |= fields(member.struct, f"{prefix}{name}.")
    return found


def _sort(kind: Any) -> str:
    """What a leaf's values are: int, float, datetime, date, set, or text."""
    base = getattr(kind, "__origin__", kind)
    names = {int: "int", float: "float", datetime: "datetime", date: "date", set: "set"}
    return names.get(base, "set" if str(kind).startswith("set") else "text")


# --- a mapping made ready for a file ----------------------------------------------------------------------------------


@dataclass
class _Node:
    """A place of the document: its leaves, and the objects below it."""

    leaves: list[str] = field(default_factory=list)
    nodes: dict[str, _Node] = field(default_factory=dict)


class Reader:
    """Turns batches of a file's columns into documents of the API's shape."""

    def __init__(self, mapping: Mapping, kind: type[Part], available: Sequence[str]) -> None:
        self.mapping = mapping
        known = fields(kind)
        self.sorts = {name: _sort(self._kind_of(name, known)) for name in [*mapping.columns, *mapping.constants]}
        self.columns = {name: mapping.column(name) for name in mapping.columns}
        self.sources = list(dict.fromkeys(source for column in self.columns.values() for source in column.sources))
        self._check(available)
        self.root = _Node()
        for name in self.sorts:
            self._place(name)

    def documents(self, values: Columns, rows: int) -> tuple[list[dict[str, Any]], dict[int, list[FieldError]]]:
        """One document for each row, and what could not be converted by row."""
        faults: dict[int, list[FieldError]] = {}
        made: dict[str, Any] = {name: [value] * rows for name, value in self.mapping.constants.items()}
        for name in sorted(self.columns, key=_money_last):
            made[name] = list(self._converted(name, values, rows, made, faults))
        return self._assembled(self.root, "", made, rows), faults

    def _kind_of(self, name: str, known: dict[str, Any]) -> Any:
        if name.startswith("metadata.") and "metadata" in known:
            return str
        if name not in known or name == "metadata":
            raise BadMapping(f"The schema has no field {name}; columns need the canonical names or a mapping.")
        return known[name]

    def _check(self, available: Sequence[str]) -> None:
        missing = [source for source in self.sources if source not in available]
        if missing:
            raise BadMapping(f"The file has no column {', '.join(missing)}. It has: {', '.join(available)}.")
        for name, column in self.columns.items():
            allowed = {"int": MONEY_UNITS if name.endswith(".value") else (), "datetime": tuple(EPOCH_UNITS)}
            if column.unit and column.unit not in allowed.get(self.sorts[name], ()):
                raise BadMapping(f"{name} cannot have the unit {column.unit}.")
            if (zone := column.zone or self.mapping.zone) and not _is_zone(zone):
                raise BadMapping(f"There is no time zone {zone}.")

    def _place(self, name: str) -> None:
        node = self.root
        parts = name.split(".", 1) if name.startswith("metadata.") else name.split(".")
        for part in parts[:-1]:
            node = node.nodes.setdefault(part, _Node())
        node.leaves.append(parts[-1])

    def _assembled(self, node: _Node, prefix: str, made: dict[str, Any], rows: int) -> list[dict[str, Any]]:
        """Nested dicts, column by column: what is empty is left out, so is an object without members."""
        names = node.leaves
        columns = [made[prefix + name] for name in names]
        if columns:
            documents = [
                {name: value for name, value in zip(names, values, strict=True) if value is not None}
                for values in zip(*columns, strict=True)
            ]
        else:
            documents = [{} for _ in range(rows)]
        for part, below in node.nodes.items():
            inner = self._assembled(below, f"{prefix}{part}.", made, rows)
            for document, member in zip(documents, inner, strict=True):
                if member:
                    document[part] = member
        return documents

    # --- conversion of one column
    # --------------------------------------------------------------------------------------

    def _converted(
        self,
        name: str,
        values: Columns,
        rows: int,
        made: dict[str, Any],
        faults: dict[int, list[FieldError]],
    ) -> Iterator[Any]:
        column = self.columns[name]
        raw = _joined([values[source] for source in column.sources])
        if column.values or column.default:
            raw = _looked_up(column, raw)
        sort = self.sorts[name]
        if sort == "text" and not (column.prefix or column.strip) and _are_texts(raw):
            yield from raw
            return
        if sort == "datetime" and column.format:
            raw = _parsed_times(raw, column.format)
        convert = self._converter(name, sort, column)
        currencies = self._currencies(name, made, rows) if column.unit == "decimal" else repeat(None, rows)
        for row, (value, currency) in enumerate(zip(raw, currencies, strict=True)):
            if value is None:
                yield None
                continue
            try:
                yield (
                    convert(value) if currency is None else _minor_units(value, currency, column, self.mapping.decimal)
                )
            except (ValueError, InvalidOperation, OverflowError) as error:
                reason = str(error) if isinstance(error, _Unfit) else "It cannot be read as the mapping says."
                faults.setdefault(row, []).append(FieldError(_pointer(name), "invalid-format", reason))
                yield None

    def _currencies(self, name: str, made: dict[str, Any], rows: int) -> Any:
        """The currency beside an amount, row by row."""
        currencies = made.get(name.removesuffix("value") + "currency")
        if currencies is None:
            raise BadMapping(f"{name} is decimal, so {name.removesuffix('value')}currency must be mapped too.")
        return ((currency or "") for currency in currencies)

    def _converter(self, name: str, sort: str, column: Column) -> Converter:
        zone = column.zone or self.mapping.zone
        if sort == "datetime":
            return _time_converter(column, ZoneInfo(zone) if zone else None)
        if sort == "date":
            return lambda value: _day(value, column.format)
        if sort == "int":
            return lambda value: _whole(value, column.strip)
        if sort == "float":
            mark = self.mapping.decimal
            if mark == ".":
                return lambda value: round(float(value), 4)
            return lambda value: round(float(str(value).replace(mark, ".")), 4)
        if sort == "set":
            return lambda value: str(value).replace("|", " ").replace(",", " ").replace(";", " ").split()
        prefix = column.prefix
        return lambda value: prefix + _text(value, column.strip)


class _Unfit(ValueError):
    """A value that cannot be converted, with a reason for people."""


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _money_last(name: str) -> bool:
    """Currencies come before the amounts that need their exponent."""
    return name.endswith(".value")


def _pointer(name: str) -> str:
    return "/" + name.replace(".", "/")


def _joined(columns: list[Sequence[Any]]) -> Sequence[Any]:
    if len(columns) == 1:
        return columns[0]
    return [" ".join(str(part) for part in parts if part is not None) or None for parts in zip(*columns, strict=True)]


def _looked_up(column: Column, raw: Sequence[Any]) -> list[Any]:
    """The values' translations; without a default, what is not listed stays as it is."""
    default = column.default or None
    texts = raw if _are_texts(raw) else [None if value is None else _text(value, "") for value in raw]
    if not column.values:
        return [text or default for text in texts]
    found = column.values.get
    return [default if text is None else found(text) or default or text for text in texts]


def _are_texts(raw: Sequence[Any]) -> bool:
    """Whether a column holds texts and gaps only; its first value tells, as columns of CSV and Parquet are of one
    type."""
    return isinstance(next((value for value in raw if value is not None), ""), str)


def _text(value: Any, strip: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, bool):
        value = str(value).lower()
    text = str(value)
    return text.translate(dict.fromkeys(map(ord, strip))) if strip else text


def _whole(value: Any, strip: str) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise _Unfit("Not a whole number.")
    return int(value if isinstance(value, int | float) else _text(value, strip))


def _minor_units(value: Any, currency: str, column: Column, mark: str) -> int:
    """A decimal amount as minor units of its currency, exact; digits beyond the currency's exponent are refused."""
    exponent = EXPONENT.get(currency)
    if exponent is None:
        raise _Unfit("Its currency is not known, so its decimals are not.")
    text = repr(value) if isinstance(value, float) else str(value).strip()
    for character in column.strip:
        text = text.replace(character, "")
    amount = Decimal(text.replace(mark, ".")).scaleb(exponent)
    whole = amount.to_integral_value()
    if whole != amount and not (isinstance(value, float) and abs(whole - amount) < NEARLY):
        raise _Unfit("More decimals than its currency has.")
    return abs(int(whole)) if column.absolute else int(whole)


def _day(value: Any, form: str) -> str:
    if isinstance(value, date):
        return value.strftime("%Y-%m-%d")
    return datetime.strptime(value, form).strftime("%Y-%m-%d") if form else str(value)


def _parsed_times(raw: Sequence[Any], form: str) -> list[Any]:
    """Texts parsed by a format, all at once; what does not fit stays a text and is refused later."""
    times = pl.Series(raw, dtype=pl.String, strict=False).str.to_datetime(form, time_unit="us", strict=False).to_list()
    return [text if time is None else time for text, time in zip(raw, times, strict=True)]


def _time_converter(column: Column, zone: ZoneInfo | None) -> Converter:
    if column.unit:
        factor = EPOCH_UNITS[column.unit]
        return lambda value: _since_1970(value, factor)

    def convert(value: Any) -> datetime:
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            if column.format:
                raise _Unfit("It does not have the format of the mapping.")
            value = datetime.fromisoformat(value.strip())
        if value.tzinfo is None:
            if zone is None:
                raise _Unfit("A time without an offset; name its zone in the mapping.")
            value = value.replace(tzinfo=zone)
        return _utc(value)

    return convert


def _since_1970(value: Any, factor: int) -> datetime:
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        micros = int(value) * factor
    else:
        micros = int(Decimal(repr(value) if isinstance(value, float) else str(value)) * factor)
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000 // 1000 * 1000)


def _utc(at: datetime) -> datetime:
    """In UTC and whole milliseconds, which is as fine as payments are told apart."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
