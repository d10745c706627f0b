"""A dashboard's table as CSV: plain values for a spreadsheet, which must not run any of them as a formula.

Every export is a look that the auditor can find: who, which table, which range.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse

from cases.audit import escaped
from cases.sightings import saw
from fraudsite.figures import Cell, Column, Span, Table

NUMBER = re.compile(r"-\d+(\.\d+)?", re.ASCII)


def response(request: HttpRequest, page: str, table: Table, span: Span) -> HttpResponse:
    """The table as a download, and the line that says that it was taken."""
    saw(request, "exported", dashboard=page, table=table.key, range=span.query, rows=len(table.rows))
    since, until = span.days()
    answer = HttpResponse(as_csv(table), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{page}-{table.key}-{since}-{until}.csv"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def as_csv(table: Table) -> str:
    """Head, rows and foot; a share is three columns: per cent and the two numbers it comes from."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([safe(title) for column in table.columns for title in titles(column)])
    for line in [*table.rows, *([table.foot] if table.foot else [])]:
        pairs = zip(table.columns, line, strict=True)
        writer.writerow([safe(value) for column, cell in pairs for value in values(column, cell)])
    return "\ufeff" + out.getvalue()


def titles(column: Column) -> Iterator[str]:
    """The heads of a column."""
    if not column.parts:
        yield column.title
        return
    yield f"{column.title}, %"
    for part in column.parts:
        yield f"{column.title}: {part}"


def values(column: Column, cell: Cell) -> tuple[Any, ...]:
    """The values of a cell, as many as its column has heads."""
    if not column.parts:
        return (cell.raw[0],) if isinstance(cell.raw, tuple) else (cell.raw,)
    return cell.raw if isinstance(cell.raw, tuple) else (cell.raw, "", "")


def safe(value: Any) -> Any:
    """Text that no spreadsheet runs; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = value.replace("\x00", "")
    return text if NUMBER.fullmatch(text) else escaped(text)
