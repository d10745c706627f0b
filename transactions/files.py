"""Rows of a bank's file, a batch at a time: CSV (also gzipped) and Parquet, whatever its size.

CSV is read as a stream, so that line numbers are true even with line breaks inside quotes; Parquet by polars in slices.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

SLICE = 100_000  # rows of a Parquet file that are decoded at once
MAGIC_GZIP = b"\x1f\x8b"
MAGIC_PARQUET = b"PAR1"


class BadFile(Exception):
    """The file cannot be read as a table; the text is one sentence for the person at the terminal."""


@dataclass
class Batch:
    """Consecutive rows of a file. `values[name]` are one column's values (texts in CSV; None: empty), `lines` where
    they stand.

    `broken` are lines that do not have the columns of the header; they count as rows. `done` is the place in the
    file after this batch, in the unit of `Table.size`.
    """

    rows: int
    lines: list[int]
    values: Mapping[str, Sequence[Any]]
    broken: list[int]
    done: int


class Table:
    """A file with named columns. `size` is its length in bytes (CSV) or rows (Parquet), for a progress bar."""

    columns: list[str]
    size: int

    def batches(self, *, skip: int, rows: int, columns: Sequence[str]) -> Iterator[Batch]:
        """The rows after the first `skip` ones, in batches of `rows`; only these columns."""
        raise NotImplementedError


def open_table(path: Path, *, delimiter: str = "", encoding: str = "utf-8-sig") -> Table:
    """The table in a file; its kind is told by its first bytes. Raises BadFile."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}.") from error
    if magic == MAGIC_PARQUET:
        return ParquetTable(path)
    return CsvTable(path, gzipped=magic.startswith(MAGIC_GZIP), delimiter=delimiter, encoding=encoding)


class CsvTable(Table):
    """Comma-, semicolon- or tab-separated text with a header line."""

    def __init__(self, path: Path, *, gzipped: bool, delimiter: str, encoding: str) -> None:
        self.path, self.gzipped, self.encoding = path, gzipped, encoding
        self.size = path.stat().st_size
        with self._text() as (text, _):
            header = text.readline()
        self.delimiter = delimiter or max(",;\t|", key=header.count)
        self.columns = next(csv.reader([header], delimiter=self.delimiter), [])
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise BadFile(f"The first line of {path} must name the columns, each once.")

    def batches(self, *, skip: int, rows: int, columns: Sequence[str]) -> Iterator[Batch]:
        with self._text() as (text, raw):
            reader = csv.reader(text, delimiter=self.delimiter)
            next(reader)
            records = self._records(reader)
            for _ in islice(records, skip):
                pass
            while taken := list(islice(records, rows)):
                yield self._batch(taken, columns, raw.tell())

    def _records(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        try:
            for record in reader:
                if record:
                    yield reader.line_num, record
        except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            kind = type(error).__name__
            raise BadFile(f"Line {reader.line_num + 1} of {self.path} cannot be read ({kind}).") from error

    def _batch(self, taken: list[tuple[int, list[str]]], columns: Sequence[str], done: int) -> Batch:
        width = len(self.columns)
        good = [(line, record) for line, record in taken if len(record) == width]
        by_column = list(zip(*(record for _, record in good), strict=True)) or [()] * width
        values = {name: [text or None for text in by_column[self.columns.index(name)]] for name in columns}
        broken = [line for line, record in taken if len(record) != width]
        return Batch(len(taken), [line for line, _ in good], values, broken, done)

    @contextmanager
    def _text(self) -> Iterator[tuple[io.TextIOWrapper, Any]]:
        with self.path.open("rb") as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if self.gzipped else raw
            try:
                yield io.TextIOWrapper(stream, encoding=self.encoding, newline=""), raw
            except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, LookupError) as error:
                raise BadFile(f"{self.path} cannot be read as {self.encoding} text.") from error


class ParquetTable(Table):
    """A Parquet file; its values keep their types, and a line is a row counted from 1."""

    def __init__(self, path: Path) -> None:
        try:
            self.frame = pl.scan_parquet(path)
            self.columns = self.frame.collect_schema().names()
            self.size = self.frame.select(pl.len()).collect().item()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BadFile(f"{path} cannot be read as Parquet.") from error

    def batches(self, *, skip: int, rows: int, columns: Sequence[str]) -> Iterator[Batch]:
        for start in range(skip, self.size, SLICE):
            part = self.frame.select(list(columns)).slice(start, SLICE).collect()
            for offset in range(0, len(part), rows):
                piece = part.slice(offset, rows)
                first = start + offset
                values = {name: piece[name].to_list() for name in columns}
                lines = list(range(first + 1, first + len(piece) + 1))
                yield Batch(len(piece), lines, values, [], first + len(piece))
