"""The working calendar of a queue: minutes count only while its people are at work.

Working hours are given per weekday in the queue's own zone, `[[0, "08:00", "18:00"], …]`; none means around the clock.
Every span is turned into two moments of UTC for its own day, so a day on which clocks change is as long as it really
is: a span over the lost hour is an hour shorter, one over the doubled hour an hour longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
SHORTEST_WEEK = 60  # minutes of work a week, so that every due time is found within a few years
FARTHEST = 3660  # days that are looked at before minutes count around the clock again
DAY_MINUTES = 24 * 60
ONE_DAY = timedelta(days=1)

Span = tuple[int, int]  # minutes after midnight, by the wall clock
Week = tuple[tuple[Span, ...], ...]  # seven days from Monday


class BadHours(ValueError):
    """Working hours that cannot be; the text says which entry and why."""


@dataclass(frozen=True)
class Hours:
    """When people work: spans of each weekday in a zone. An empty week means around the clock."""

    zone: ZoneInfo
    week: Week = ()

    def add(self, start: datetime, minutes: float) -> datetime:
        """The moment at which so many working minutes have passed since `start` (UTC)."""
        left, start = timedelta(minutes=minutes), start.astimezone(UTC)
        if not self.week or left <= timedelta():
            return start + left
        for opens, closes in self._spans(start):
            begin = max(opens, start)
            if closes - begin >= left:
                return begin + left
            left -= max(closes - begin, timedelta())
        return start + timedelta(minutes=minutes)  # no work for ten years

    def between(self, start: datetime, end: datetime) -> float:
        """How many working minutes lie between two moments; negative if `end` comes first."""
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        if end < start:
            return -self.between(end, start)
        if not self.week:
            return (end - start) / timedelta(minutes=1)
        worked = timedelta()
        for opens, closes in self._spans(start):
            if opens >= end:
                break
            worked += max(min(closes, end) - max(opens, start), timedelta())
        return worked / timedelta(minutes=1)

    def is_open(self, at: datetime) -> bool:
        """True while people are at work."""
        if not self.week:
            return True
        opens, closes = next(self._spans(at.astimezone(UTC)))
        return opens <= at < closes

    def _spans(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The working spans that end after `start`, in order, as moments of UTC."""
        day = start.astimezone(self.zone).date() - ONE_DAY  # yesterday's may reach over a change of the clocks
        for _ in range(FARTHEST):
            for opens, closes in self.week[day.weekday()]:
                span = self._moment(day, opens), self._moment(day, closes)
                if span[1] > max(start, span[0]):
                    yield span
            day += ONE_DAY

    def _moment(self, day: date, minute: int) -> datetime:
        """That time of that day. An hour that is skipped counts as its end; one that comes twice as its first."""
        if minute == DAY_MINUTES:
            day, minute = day + ONE_DAY, 0
        local = datetime.combine(day, time(minute // 60, minute % 60), self.zone)
        moment = local.astimezone(UTC)
        is_skipped = moment.astimezone(self.zone).replace(tzinfo=None) != local.replace(tzinfo=None)
        return _end_of_gap(local) if is_skipped else moment


def _end_of_gap(local: datetime) -> datetime:
    """The moment clocks jump, for a wall time that the jump leaves out."""
    before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
    assert before is not None and after is not None  # the zone is ours
    low, high = local.replace(fold=1).astimezone(UTC), local.astimezone(UTC)
    zone = local.tzinfo
    for _ in range(40):  # bisection to the second
        if high - low <= timedelta(seconds=1):
            break
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)


ALWAYS = Hours(ZoneInfo("UTC"))


def of(queue: Any) -> Hours:
    """The calendar of a queue. Hours that cannot be (written past the form) count as around the clock."""
    if not queue.working_hours:
        return ALWAYS
    try:
        return _parsed(json.dumps(queue.working_hours), queue.time_zone)
    except BadHours:
        return ALWAYS


@lru_cache(maxsize=200)
def _parsed(text: str, time_zone: str) -> Hours:
    return parse(json.loads(text), time_zone)


def parse(working_hours: Any, time_zone: str) -> Hours:
    """Working hours as stored, understood. Raises BadHours, whose text can be shown."""
    zone = zone_of(time_zone)
    if not isinstance(working_hours, list):
        raise BadHours('Working hours are a list: [[0, "08:00", "18:00"], …].')
    days: list[list[Span]] = [[] for _ in WEEKDAYS]
    for entry in working_hours:
        weekday, span = _entry(entry)
        days[weekday].append(span)
    week = tuple(tuple(_joined(spans)) for spans in days)
    total = sum(end - start for spans in week for start, end in spans)
    if working_hours and total < SHORTEST_WEEK:
        raise BadHours(f"A week needs {SHORTEST_WEEK} working minutes or more.")
    return Hours(zone, week if total < 7 * DAY_MINUTES and working_hours else ())


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises BadHours."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadHours(f"There is no time zone {name!r}. Zones are named like Europe/Berlin.") from None


def _entry(entry: Any) -> tuple[int, Span]:
    if not isinstance(entry, (list, tuple)) or len(entry) != 3:
        raise BadHours(f'{entry!r} is no entry. One reads [0, "08:00", "18:00"]: weekday from Monday, from, to.')
    weekday, start, end = entry
    if type(weekday) is not int or not 0 <= weekday <= 6:
        raise BadHours(f"{weekday!r} is no weekday. Monday is 0, Sunday is 6.")
    span = _minute(start), _minute(end)
    if span[0] >= span[1]:
        raise BadHours(f"{WEEKDAYS[weekday]} {start}–{end} ends before it starts. Split a night at 24:00.")
    return weekday, span


def _minute(text: Any) -> int:
    if not isinstance(text, str) or not CLOCK.fullmatch(text):
        raise BadHours(f"{text!r} is no time of day. It reads 08:00, up to 24:00.")
    return int(text[:2]) * 60 + int(text[3:])


def _joined(spans: list[Span]) -> list[Span]:
    """Sorted, overlaps merged."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def in_words(working_hours: list[list[Any]], time_zone: str) -> str:
    """For people: "Mon–Fri 08:00–18:00, Europe/Berlin", or "around the clock"."""
    return ", ".join([*in_lines(working_hours).splitlines(), time_zone]) if working_hours else "around the clock"


# --- as people write it -----------------------------------------------------------------------------------------------

SHORT = {name[:3].lower(): number for number, name in enumerate(WEEKDAYS)}
LINE = re.compile(
    r"(?P<first>[a-z]{3})[a-z]*(?:\s*[-–]\s*(?P<last>[a-z]{3})[a-z]*)?\s+(?P<spans>[\d:,\s–-]+)", re.IGNORECASE
)


def from_lines(text: str) -> list[list[Any]]:
    """Working hours as people write them, one line for some days: "Mon–Fri 08:00–18:00". Raises BadHours."""
    return [entry for line in text.splitlines() if line.strip() for entry in _from_line(line.strip())]


def _from_line(line: str) -> Iterator[list[Any]]:
    found = LINE.fullmatch(line)
    if not found:
        raise BadHours(f"“{line}” cannot be read. Write: Mon–Fri 08:00–18:00")
    first, last = (SHORT.get((found[name] or found["first"]).lower()) for name in ("first", "last"))
    if first is None or last is None or last < first:
        raise BadHours(f"“{line}” names no days of one week. Write: Mon–Fri 08:00–18:00")
    for span in found["spans"].split(","):
        start, _, end = (part.strip() for part in span.replace("–", "-").partition("-"))
        for weekday in range(first, last + 1):
            _entry([weekday, start, end])
            yield [weekday, start, end]


def in_lines(working_hours: list[list[Any]]) -> str:
    """The other way: a line for each run of days that share a span."""
    by_span: dict[str, list[int]] = {}
    for weekday, start, end in working_hours:
        by_span.setdefault(f"{start}–{end}", []).append(weekday)
    return "\n".join(f"{_run(run)} {span}" for span, days in by_span.items() for run in _runs(sorted(set(days))))


def _runs(days: list[int]) -> list[tuple[int, int]]:
    """Days that follow each other, as (first, last)."""
    runs: list[tuple[int, int]] = []
    for day in days:
        if runs and runs[-1][1] == day - 1:
            runs[-1] = runs[-1][0], day
        else:
            runs.append((day, day))
    return runs


def _run(run: tuple[int, int]) -> str:
    first, last = (WEEKDAYS[day][:3] for day in run)
    return first if first == last else f"{first}–{last}"
