"""The history of a case as an auditor reads it: what was done and who looked, in one list that only grows.

Events and sightings are append-only tables (the database refuses to change their rows). Read together, newest first,
by the moment, the kind and the number: that order is total, so pages by cursor lose and double nothing. A chain of
hashes over the lines comes later; `Line.number` names each line for it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection

from cases import cursors, filings
from cases.models import Case
from cases.querysets import sees_everything

PAGE = 50
MOST_EXPORTED = 100_000
COLUMNS = (
    "number", "at", "kind", "actor", "role", "ip", "request", "before", "after", "note", "data",
)  # fmt: skip
_HASH = re.compile(r"[0-9a-f]{64}")
_ORIGIN = ("role", "ip", "request")

_LINES = """
SELECT * FROM (
  (SELECT e.at, 'event' AS source, e.id, e.kind, u.username, trim(u.first_name || ' ' || u.last_name) AS name,
          e.before, e.after, e.note, e.data, NULL::inet AS ip, '' AS request
     FROM case_event e LEFT JOIN {users} u ON u.id = e.actor_id
    WHERE e.case_id = %(case)s AND (e.at, 'event', e.id) < (%(at)s, %(source)s, %(id)s)
    ORDER BY e.at DESC, e.id DESC LIMIT %(limit)s)
  UNION ALL
  (SELECT s.at, 'look', s.id, s.act, u.username, trim(u.first_name || ' ' || u.last_name), '', '', s.reason, s.data,
          s.ip, s.request_id
     FROM sighting s JOIN {users} u ON u.id = s.actor_id
    WHERE s.case_id = %(case)s AND (s.at, 'look', s.id) < (%(at)s, %(source)s, %(id)s)
      AND (%(all)s OR s.actor_id = %(me)s) AND (%(reports)s OR s.act <> 'report_viewed')
    ORDER BY s.at DESC, s.id DESC LIMIT %(limit)s)) AS line
 ORDER BY at DESC, source DESC, id DESC LIMIT %(limit)s"""


@dataclass(frozen=True)
class Line:
    """One line: an event (something was done) or a look (somebody saw, searched, took away)."""

    at: datetime
    source: str
    id: int
    kind: str
    username: str
    name: str
    before: str
    after: str
    note: str
    data: dict[str, Any]
    ip: str
    request: str
    role: str

    @property
    def number(self) -> str:
        """What names this line for good: E-12 for an event, L-7 for a look."""
        return f"{'E' if self.source == 'event' else 'L'}-{self.id}"

    @property
    def place(self) -> cursors.Place:
        """Where the line stands in the whole list."""
        return self.at, self.source, self.id

    @property
    def who(self) -> str:
        """The person's name; a line without one was written by the desk itself."""
        return self.name or self.username or "the system"

    @property
    def is_look(self) -> bool:
        return self.source == "look"

    @property
    def details(self) -> str:
        """What the line's data say, as text; empty parts and the case's version are left out."""
        told = {name: value for name, value in self.data.items() if name != "version" and value not in ("", [], {})}
        return "; ".join(f"{name.replace('_', ' ')}: {_spoken(value)}" for name, value in told.items())


def history(case: Case, reader: Any, *, before: str = "", limit: int = PAGE) -> tuple[list[Line], str]:
    """A page of the case's history, newest first, and the cursor of the next ("" at the end).

    Everybody who may read the case sees what was done to it. Who looked is told to those who lead and those who audit;
    others see their own looks.
    """
    at, source, number = cursors.place_of(before)
    values = {"case": case.pk, "at": at, "source": source, "id": number, "limit": limit + 1}
    statement = _LINES.replace("{users}", get_user_model()._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(statement, values | _looks_of(reader))
        lines = [_line(row) for row in cursor.fetchall()]
    return lines[:limit], cursors.text_of(lines[limit - 1].place) if len(lines) > limit else ""


def _looks_of(reader: Any) -> dict[str, Any]:
    """Whose looks, and whether looks at reports of suspicious activity, which would tell that there is one."""
    return {"all": sees_all_looks(reader), "me": reader.pk, "reports": filings.may_see(reader)}


def sees_all_looks(reader: Any) -> bool:
    """Those who lead a queue and those who audit."""
    return reader.has_perm("cases.lead_queue") or sees_everything(reader)


def every_line(case: Case, reader: Any) -> Iterator[Line]:
    """The whole history as this person may see it, newest first, read page by page; bounded."""
    before, told = "", 0
    while told < MOST_EXPORTED:
        lines, before = history(case, reader, before=before, limit=1000)
        yield from lines
        told += len(lines)
        if not before:
            return


def as_csv(lines: Iterator[Line]) -> Iterator[str]:
    """The lines as CSV, head first; what a spreadsheet would take for a formula is escaped."""
    yield _csv_row(COLUMNS)
    for line in lines:
        yield _csv_row(escaped(value) for value in _record(line).values())


def as_json(lines: Iterator[Line], case: Case) -> Iterator[str]:
    """The lines as one JSON document, written as they are read."""
    yield f'{{"case": {json.dumps(case.number)}, "lines": ['
    for position, line in enumerate(lines):
        yield ("," if position else "") + "\n" + json.dumps(_record(line, plain=False), ensure_ascii=False)
    yield "\n]}\n"


def escaped(value: Any) -> str:
    """A value that no spreadsheet computes: with an apostrophe before what begins like a formula."""
    text = str(value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text


def _record(line: Line, *, plain: bool = True) -> dict[str, Any]:
    at = line.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data: Any = json.dumps(line.data, ensure_ascii=False, sort_keys=True) if plain else line.data
    actor = line.username or "the system"
    values = (line.number, at, line.kind, actor, line.role, line.ip, line.request, line.before, line.after, line.note)
    return dict(zip(COLUMNS, (*values, data), strict=True))


def _csv_row(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue()


def _line(row: Any) -> Line:
    at, source, number, kind, username, name, before, after, note, data, ip, request = row
    data = json.loads(data) if isinstance(data, str) else dict(data or {})
    role, told_ip, told_request = (str(data.pop(part, "") or "") for part in _ORIGIN)
    return Line(
        at=at,
        source=source,
        id=number,
        kind=kind,
        username=username or "",
        name=name or "",
        before=before,
        after=after,
        note=note,
        data=data,
        ip=str(ip or told_ip).removesuffix("/32").removesuffix("/128"),
        request=request or told_request,
        role=role,
    )


def _spoken(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in value.items())
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f"{value[:8]}…{value[-6:]}"
    if isinstance(value, list):
        return ", ".join(map(str, value[:8])) + (f" and {len(value) - 8} more" if len(value) > 8 else "")
    return str(value)
