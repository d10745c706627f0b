"""Figures for dashboards: a range of time, tables whose cells know their number, and sums out of the roll-ups.

A table is made once and used three times: on the page, as the twin of a chart, and as CSV. A cell keeps its text, the
plain value for export, and the address of the rows behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import sqrt
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.utils import timezone

from alerts import charts
from alerts.live import amount_text
from fraudsite import measures
from fraudsite.models import TallyCursor
from fraudsite.templatetags.desk import span as span_text
from transactions.models import Lane

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONGEST = 366  # days of a range
RANGES = (("today", "Today"), ("24h", "24 h"), ("7d", "7 d"), ("30d", "30 d"), ("90d", "90 d"))
USUAL = "7d"
Z = 1.96  # of a 95 % interval


# --- a range of time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """From `start` to before `end`, whole hours; `key` is how the address says it.

    Ranges of days begin at the reader's midnight, so that only today is not whole.
    """

    key: str
    start: datetime
    end: datetime
    since: str = ""
    until: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Span:
        """From the address: ?range=7d, or ?since=2026-11-01&until=2026-11-07 (days of the reader, both included)."""
        now = timezone.now()
        end = floor_hour(now) + HOUR
        own = _custom(query.get("since", ""), query.get("until", ""))
        if own:
            return own
        key = query.get("range", "")
        if key == "today":
            return cls(key, midnight(timezone.localdate()), end)
        if key == "24h":
            return cls(key, end - DAY, end)
        key = key if key in dict(RANGES) else USUAL
        return cls(key, midnight(timezone.localdate() - DAY * (int(key[:-1]) - 1)), end)

    @property
    def query(self) -> str:
        """How the address says it."""
        return urlencode({"since": self.since, "until": self.until} if self.since else {"range": self.key})

    @property
    def hourly(self) -> bool:
        """Whether charts go by the hour; longer ranges go by the day."""
        return self.end - self.start <= 2 * DAY

    @property
    def title(self) -> str:
        """The range in words."""
        first, last = timezone.localtime(self.start), timezone.localtime(self.end - HOUR)
        words = {"today": "Today", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days"}
        if self.key in words:
            return words[self.key]
        return "Last 90 days" if self.key == "90d" else f"{first:%-d %b %Y} to {last:%-d %b %Y}"

    def days(self) -> tuple[str, str]:
        """First and last day, as filters of other pages take them."""
        first, last = timezone.localtime(self.start), timezone.localtime(self.end - timedelta(seconds=1))
        return first.date().isoformat(), last.date().isoformat()

    def before(self) -> Span:
        """The stretch of the same length just before."""
        return Span("", self.start - (self.end - self.start), self.start)


def _custom(since: str, until: str) -> Span | None:
    try:
        first, last = date.fromisoformat(since), date.fromisoformat(until or since)
    except ValueError:
        return None
    if not (date(2000, 1, 1) <= first <= last <= date(2100, 1, 1)):
        return None
    first = max(first, last - timedelta(days=LONGEST - 1))
    return Span("custom", midnight(first), midnight(last + DAY), first.isoformat(), last.isoformat())


def midnight(day: date) -> datetime:
    """The reader's midnight, at the full hour of UTC that the roll-ups are cut at."""
    at = datetime.combine(day, datetime.min.time(), timezone.get_current_timezone())
    return floor_hour(at)


def floor_hour(at: datetime) -> datetime:
    """The start of its hour."""
    return at.astimezone(timezone.get_fixed_timezone(0)).replace(minute=0, second=0, microsecond=0)


def grained(span: Span) -> tuple[str, list[Any]]:
    """The condition that picks a range out of a roll-up: whole days (UTC) as days, its ends as hours."""
    first, last = _day_up(span.start), span.end.replace(hour=0)
    if first >= last:
        return "grain = 'h' AND at >= %s AND at < %s", [span.start, span.end]
    return (
        "(grain = 'd' AND at >= %s AND at < %s OR grain = 'h' AND (at >= %s AND at < %s OR at >= %s AND at < %s))",
        [first, last, span.start, first, last, span.end],
    )


def _day_up(at: datetime) -> datetime:
    floor = at.replace(hour=0)
    return floor if floor == at else floor + DAY


def rows(sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def as_of(*sources: str) -> datetime | None:
    """Up to when the roll-ups have counted everything: the oldest of their sources; None before the first count."""
    found = TallyCursor.objects.exclude(as_of=None).values_list("source", "as_of")
    fit = [at for source, at in found if not sources or source.split(":")[0] in sources]
    return min(fit, default=None)


def base_currency() -> str:
    """The currency that sums are in: that of the first lane."""
    return Lane.objects.order_by("pk").values_list("base_currency", flat=True).first() or "EUR"


# --- sums out of the roll-ups -----------------------------------------------------------------------------------------

SUMS = (
    "sum(payments)::bigint, sum(value)::bigint, sum(fraud)::bigint, sum(fraud_value)::bigint,"
    " sum(legitimate)::bigint, sum(legitimate_value)::bigint"
)


@dataclass
class Sums:
    """What a key of a cut adds up to; values in minor units of the base currency."""

    payments: int = 0
    value: int = 0
    fraud: int = 0
    fraud_value: int = 0
    legitimate: int = 0
    legitimate_value: int = 0

    def __iadd__(self, other: Sums) -> Sums:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


def tallied(cut: int, span: Span) -> dict[tuple[int, int], Sums]:
    """{(key, outcome): sums} of a cut over a range."""
    where, values = grained(span)
    found = rows(
        f"SELECT key, outcome, {SUMS} FROM decision_tally WHERE cut = %s AND {where} GROUP BY 1, 2", [cut, *values]
    )
    return {(key, outcome): Sums(*sums) for key, outcome, *sums in found if any(sums)}


def tallied_over_time(cut: int, span: Span) -> dict[tuple[datetime, int, int], Sums]:
    """{(start of the hour or of the reader's day, key, outcome): sums}."""
    unit = "hour" if span.hourly else "day"
    found = rows(
        f"SELECT date_trunc(%s, at, %s), key, outcome, {SUMS} FROM decision_tally"
        " WHERE cut = %s AND grain = 'h' AND at >= %s AND at < %s GROUP BY 1, 2, 3",
        [unit, timezone.get_current_timezone_name(), cut, span.start, span.end],
    )
    return {(at, key, outcome): Sums(*sums) for at, key, outcome, *sums in found}


def worked(wanted: Sequence[int], span: Span, queues: Sequence[int]) -> dict[int, dict[tuple[int, int, int], int]]:
    """{measure: {(queue, part, bucket): n}} of some measures over a range, of these queues."""
    where, values = grained(span)
    found = rows(
        "SELECT measure, queue_id, part, bucket, sum(n)::bigint FROM work_tally"
        f" WHERE measure = ANY(%s) AND queue_id = ANY(%s) AND {where} GROUP BY 1, 2, 3, 4",
        [list(wanted), list(queues), *values],
    )
    counted: dict[int, dict[tuple[int, int, int], int]] = {each: {} for each in wanted}
    for each, queue, part, bucket, n in found:
        if n:
            counted[each][queue, part, bucket] = n
    return counted


def worked_over_time(wanted: Sequence[int], span: Span, queues: Sequence[int]) -> dict[tuple[datetime, int], int]:
    """{(start of the hour or day, measure): n}."""
    unit = "hour" if span.hourly else "day"
    found = rows(
        "SELECT date_trunc(%s, at, %s), measure, sum(n)::bigint FROM work_tally"
        " WHERE measure = ANY(%s) AND queue_id = ANY(%s) AND grain = 'h' AND at >= %s AND at < %s GROUP BY 1, 2",
        [unit, timezone.get_current_timezone_name(), list(wanted), list(queues), span.start, span.end],
    )
    return {(at, each): n for at, each, n in found}


def moments(span: Span) -> list[datetime]:
    """The starts of the range's hours or of the reader's days, up to now."""
    zone = timezone.get_current_timezone()
    end = min(span.end, timezone.now())
    if span.hourly:
        return [span.start + HOUR * i for i in range(int((end - span.start) / HOUR) + 1) if span.start + HOUR * i < end]
    first, last = timezone.localtime(span.start).date(), timezone.localtime(end - timedelta(seconds=1)).date()
    days = [first + DAY * i for i in range((last - first).days + 1)]
    return [datetime.combine(day, datetime.min.time(), zone) for day in days]


def name_of(at: datetime, span: Span) -> str:
    """How an axis calls the hour or day."""
    local = timezone.localtime(at)
    return f"{local:%H:%M}" if span.hourly else f"{local:%-d %b}"


def every(count: int) -> int:
    """How many columns share one label of the axis."""
    return max(1, -(-count // 7))


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One cell: what it shows, what it exports, and where its rows are."""

    text: str
    raw: Any = ""
    href: str = ""
    note: str = ""
    css: str = ""
    bar: tuple[float, float, float] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether its text is all there is to draw."""
        return not (self.href or self.note or self.bar or self.css in ("score", "held", "cut"))


@dataclass(frozen=True)
class Column:
    """A column's title, whether it holds numbers, and the measure whose formula its hint shows."""

    title: str
    numeric: bool = True
    measure: str = ""
    parts: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        return measures.measure(self.measure).formula if self.measure else ""


@dataclass
class Table:
    """A table of a dashboard; its key names it in addresses."""

    key: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    hint: str = ""
    foot: list[Cell] = field(default_factory=list)
    empty: str = "Nothing in this range."
    heat: bool = False

    @property
    def lines(self) -> list[list[tuple[Column, Cell]]]:
        """Rows with each cell beside its column."""
        return [list(zip(self.columns, row, strict=True)) for row in self.rows]

    @property
    def foot_line(self) -> list[tuple[Column, Cell]]:
        return list(zip(self.columns, self.foot, strict=True)) if self.foot else []


@dataclass(frozen=True)
class Figure:
    """One number of the strip at the top of a page."""

    measure: measures.Measure
    value: str
    unit: str = ""
    note: str = ""
    href: str = ""
    better: str = ""  # what changed, where the change is good or bad: ("good"|"bad", words)
    tone: str = ""


def text(value: Any, href: str = "", note: str = "", raw: Any = None) -> Cell:
    """Words."""
    return Cell(str(value), str(value) if raw is None else raw, href, note)


def count(number: int, href: str = "") -> Cell:
    """A whole number."""
    return Cell(f"{number:,}", number, href if number else "", css="" if number else "d-quiet")


def money(minor: int, currency: str, href: str = "") -> Cell:
    """An amount of the base currency, without its letters: the column's title has them."""
    shown = amount_text(minor, currency)
    return Cell(shown.replace("-", "−"), shown.replace(",", ""), href if minor else "", css="" if minor else "d-quiet")


def share(part: int, whole: int, href: str = "") -> Cell:
    """Per cent with the counts it comes from."""
    if not whole:
        return Cell("–", ("", part, whole), note="0 of 0", css="d-quiet")
    return Cell(percent(part, whole), (f"{100 * part / whole:.2f}", part, whole), href, f"{part:,} of {whole:,}")


def value_share(part: int, whole: int, currency: str, *, told: bool = False) -> Cell:
    """Per cent of an amount; the amount itself stands in another cell of the row, or is `told` beside it."""
    if not whole:
        return Cell("–", ("", "", ""), css="d-quiet")
    amounts = [amount_text(each, currency) for each in (part, whole)]
    raw = (f"{100 * part / whole:.2f}", *(each.replace(",", "") for each in amounts))
    return Cell(percent(part, whole), raw, note=amounts[0] if told else "")


def interval(part: int, whole: int, href: str = "") -> Cell:
    """A share with its 95 % interval as a bar."""
    if not whole:
        return Cell("–", ("", part, whole), note="no label yet", css="d-quiet")
    low, high = wilson(part, whole)
    bar = (round(100 * low, 1), round(100 * (high - low), 1), round(100 * part / whole, 1))
    note = f"{part:,} of {whole:,}; {100 * low:.0f}–{100 * high:.0f}"
    return Cell(percent(part, whole), (f"{100 * part / whole:.2f}", part, whole), href, note, bar=bar)


def percent(part: float, whole: float) -> str:
    """54.3 %."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def seconds(value: float | None, counted: int | None = None, href: str = "") -> Cell:
    """A length of time."""
    if value is None:
        return Cell("–", "", css="d-quiet")
    return Cell(about(value), round(value, 1), href, f"{counted:,}" if counted is not None else "")


def about(value: float | None) -> str:
    """A length of time in words, rounded to the minute: the roll-up's scale is no finer."""
    return span_text(value if value is None or value < 60 else round(value / 60) * 60)


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % interval of a share, right for few counts and for shares near 0 and 1 (Wilson 1927)."""
    p, n = part / whole, whole
    middle, spread = p + Z * Z / (2 * n), Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + Z * Z / n)), min(1.0, (middle + spread) / (1 + Z * Z / n))


# --- charts over time -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plot:
    """A chart with its twin: the same numbers as a table."""

    title: str
    hint: str
    chart: charts.Chart
    table: Table
    kind: str = "columns"
    legend: tuple[tuple[str, str], ...] = ()
    lines: tuple[tuple[str, str], ...] = ()


def spread_lines(
    series: Sequence[Sequence[float]], names: Sequence[str], plot: int = charts.PLOT
) -> tuple[charts.Chart, list[str]]:
    """Several lines over one grid: the chart with axes, and a path for each series in a box of 100 × 100."""
    grid, top = charts.grid_to(max((max(values, default=0) for values in series), default=0), plot)
    pitch = 100 / max(len(names) - 1, 1)
    paths = [
        "M" + " L".join(f"{i * pitch:.2f} {100 - 100 * value / top:.1f}" for i, value in enumerate(values))
        if values
        else ""
        for values in series
    ]
    return charts.Chart(grid, charts.ticks(names, every(len(names)), pitch, 0.0)), paths
