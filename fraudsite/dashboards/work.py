"""Desk: how long cases wait and are worked, whether they are decided right, what is left, and what it was worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Count, Min
from django.http import HttpRequest
from django.utils import timezone

from alerts.live import amount_text
from cases.models import Case, QualityReview, Queue
from cases.querysets import for_member, open_ones, queues_of, sees_everything
from cases.workflow import FRAUD, Disposition
from fraudsite import tallies, worked
from fraudsite.dashboards.links import queue_url, rows_url
from fraudsite.figures import (
    Cell,
    Column,
    Figure,
    Plot,
    Span,
    Table,
    about,
    base_currency,
    count,
    moments,
    money,
    name_of,
    seconds,
    share,
    spread_lines,
    tallied,
    text,
    worked_over_time,
)
from fraudsite.figures import worked as worked_in
from fraudsite.measures import measure
from fraudsite.templatetags.desk import words
from transactions.codes import CHANNEL

GENUINE = ("legitimate", "legitimate_useful")
AGES: tuple[tuple[int, int | None], ...] = ((0, 4), (4, 24), (24, 72), (72, 240), (240, None))  # hours
AGE_NAMES = ("0–4 h", "4–24 h", "1–3 d", "3–10 d", "over 10 d")
LISTED = 100  # people
MOST_TOLD = 99
Counted = dict[int, dict[tuple[int, int, int], int]]


def build(request: HttpRequest, span: Span) -> dict[str, Any]:
    """All measures of the person's queues; measures of single people for leads and auditors only."""
    queues = list(queues_of(request.user))
    ids = [queue.pk for queue in queues]
    found = worked_in(range(1, 16), span, ids)
    reviews = reviewed(ids, span)
    currency = base_currency()
    tables = [
        times(queues, found, span),
        by_priority(found),
        by_outcome(found, span),
        quality(queues, found, reviews, span),
        backlog(queues),
        rates(queues, found),
    ]
    if may_see_people(request.user):
        tables.append(people(found))
    tables.append(value(span, currency))
    return {
        "figures": figures(found, reviews, span, currency),
        "plots": [flow(ids, found, span)],
        "tables": tables,
        "contradicted": contradicted(request.user),
    }


def contradicted(user: Any) -> str:
    """How many closes a late label contradicts and nobody has dealt with, for leads, who deal with them."""
    if not user.has_perm("cases.lead_queue"):
        return ""
    found = for_member(user).filter(contradicted_at__isnull=False).values_list("pk", flat=True)[: MOST_TOLD + 1]
    return f"{MOST_TOLD}+" if len(found) > MOST_TOLD else str(len(found) or "")


def may_see_people(user: Any) -> bool:
    """Whether figures of single people are shown: to those who lead, and to auditors."""
    return user.has_perm("cases.lead_queue") or sees_everything(user)


# --- picking numbers out of what was counted --------------------------------------------------------------------------


def scale(
    counted: dict[tuple[int, int, int], int], *, queue: int | None = None, part: int | None = None
) -> Counter[int]:
    """{step of the scale: how many}, of one queue or part, or of all."""
    found: Counter[int] = Counter()
    for (of_queue, of_part, bucket), n in counted.items():
        if queue in (None, of_queue) and part in (None, of_part):
            found[bucket] += n
    return found


def number(
    counted: dict[tuple[int, int, int], int], *, queue: int | None = None, parts: Iterable[int] | None = None
) -> int:
    """How many, of one queue and some parts, or of all."""
    wanted = None if parts is None else set(parts)
    return sum(
        n
        for (of_queue, part, _), n in counted.items()
        if queue in (None, of_queue) and (wanted is None or part in wanted)
    )


def kept(counted: dict[tuple[int, int, int], int], queue: int | None = None) -> tuple[int, int]:
    """Cases closed in time, and all that were closed."""
    mine = {key: n for key, n in counted.items() if queue in (None, key[0])}
    return sum(n for (_, _, bucket), n in mine.items() if bucket == 1), sum(mine.values())


def places(words_of: Iterable[str]) -> list[int]:
    """Dispositions as the roll-up has them."""
    return [worked.DISPOSITIONS.index(word) for word in words_of]


def decisive(found: Counted, queue: int | None = None) -> tuple[int, int]:
    """Closed as legitimate, and closed as legitimate or fraud."""
    genuine = number(found[worked.CLOSED], queue=queue, parts=places(GENUINE))
    return genuine, genuine + number(found[worked.CLOSED], queue=queue, parts=places(FRAUD))


def pair(counts: Counter[int], href: str = "") -> list[Cell]:
    """p50 with how many there were, and p90."""
    total = sum(counts.values())
    return [
        seconds(worked.quantile(counts, 0.5), total, href),
        seconds(worked.quantile(counts, 0.9)),
    ]


def reviewed(queues: list[int], span: Span) -> dict[int, Counter[str]]:
    """{queue: {finding: how many}} of the reviews done in the range."""
    done = QualityReview.objects.filter(queue__in=queues, reviewed_at__gte=span.start, reviewed_at__lt=span.end)
    counts: dict[int, Counter[str]] = {queue: Counter() for queue in queues}
    for queue, finding, n in done.exclude(finding="").values_list("queue", "finding").annotate(n=Count("pk")):
        counts[queue][finding] += n
    return counts


# --- figures and charts -----------------------------------------------------------------------------------------------


def figures(found: Counted, reviews: dict[int, Counter[str]], span: Span, currency: str) -> list[Figure]:
    """The strip: due dates, time, false positives, QA and money."""
    in_time, closed = kept(found[worked.KEPT])
    decided = scale(found[worked.DECISION])
    p50, p90 = worked.quantile(decided, 0.5), worked.quantile(decided, 0.9)
    genuine, decisive_ones = decisive(found)
    checked = sum((Counter(each) for each in reviews.values()), Counter())
    done, fates = sum(checked.values()), fates_of(span)
    closed_url = queue_url(span, status="closed")
    blocked, lost, recovered = (sum(row.get(fate, 0) for row in fates.values()) for fate in (1, 2, 3))
    return [
        Figure(
            measure("kept"), *_share(in_time, closed), note=f"{in_time:,} of {closed:,}, target 95 %", href=closed_url
        ),
        Figure(
            measure("decision"),
            about(p50),
            "p50" if p50 is not None else "",
            f"{about(p90)} p90, {sum(decided.values()):,} cases",
            closed_url,
        ),
        Figure(
            measure("false_positives"),
            *_share(genuine, decisive_ones),
            note=f"{genuine:,} of {decisive_ones:,} decisive",
            href=queue_url(span, status="closed", outcome=",".join(GENUINE)),
        ),
        Figure(
            measure("blocked"),
            amount_text(blocked, currency).rsplit(".", 1)[0],
            currency,
            f"lost {amount_text(lost, currency)}, recovered {amount_text(recovered, currency)}",
            rows_url(span, verdict="fraud"),
        ),
        Figure(
            measure("disagreement"),
            *_share(checked["disagree"], done),
            note=f"{checked['disagree']:,} of {done:,} reviewed",
        ),
    ]


def _share(part: int, whole: int) -> tuple[str, str]:
    return (f"{100 * part / whole:.1f}", "%") if whole else ("–", "")


def flow(ids: list[int], found: Counted, span: Span) -> Plot:
    """Cases opened and closed per hour, or per day in long ranges, as two lines."""
    counted = worked_over_time((worked.OPENED, worked.CLOSED), span, ids)
    starts = moments(span)
    names = [name_of(at, span) for at in starts]
    opened = [counted.get((at, worked.OPENED), 0) for at in starts]
    closed = [counted.get((at, worked.CLOSED), 0) for at in starts]
    chart, paths = spread_lines([opened, closed], names)
    unit = "hour" if span.hourly else "day"
    lines = [
        [
            text(name),
            count(into),
            count(out),
            Cell(f"{into / out:.2f}" if out else "–", round(into / out, 4) if out else ""),
        ]
        for name, into, out in zip(names, opened, closed, strict=True)
    ]
    head = [Column(unit.capitalize(), numeric=False), Column("Opened"), Column("Closed")]
    table = Table("flow", "Opened and closed", [*head, Column("Ratio", measure="inflow_ratio")], lines)
    into, out = sum(opened), sum(closed)
    ratio = f", ratio {into / out:.2f}" if out else ""
    hint = f"per {unit}; {into:,} in, {out:,} out{ratio}"
    drawn = (("quiet2", paths[1]), ("", paths[0]))
    return Plot("Opened and closed", hint, chart, table, "lines", (("line", "Opened"), ("dash", "Closed")), drawn)


# --- tables -----------------------------------------------------------------------------------------------------------


def times(queues: list[Queue], found: Counted, span: Span) -> Table:
    """Waiting, handling and deciding, by queue."""
    lines = []
    for queue in queues:
        url = queue_url(span, status="closed", queue=queue.slug)
        lines.append(
            [
                text(queue.name, queue_url(queue=queue.slug)),
                *pair(scale(found[worked.TOUCH], queue=queue.pk)),
                *pair(scale(found[worked.HANDLING], queue=queue.pk), url),
                *pair(scale(found[worked.DECISION], queue=queue.pk), url),
                share(*kept(found[worked.KEPT], queue.pk), url),
            ]
        )
    head = [
        Column("Queue", numeric=False),
        Column("First touch p50", measure="touch"),
        Column("p90"),
        Column("Handling p50", measure="handling"),
        Column("p90"),
        Column("Decision p50", measure="decision"),
        Column("p90"),
        Column("Due kept", measure="kept", parts=("kept", "closed")),
    ]
    return Table("times", "Times by queue", head, lines, "the small number is how many cases were counted")


def by_priority(found: Counted) -> Table:
    """First touch and decision by priority; the target speaks of the most urgent."""
    lines = [
        [
            text(f"P{level}"),
            *pair(scale(found[worked.TOUCH], part=level)),
            *pair(scale(found[worked.DECISION], part=level)),
        ]
        for level in (1, 2, 3, 4)
    ]
    head = [Column("Priority", numeric=False), Column("First touch p50", measure="touch"), Column("p90")]
    head += [Column("Decision p50", measure="decision"), Column("p90")]
    return Table("priorities", "Times by priority", head, lines, "target for P1: claimed within 15 min")


def by_outcome(found: Counted, span: Span) -> Table:
    """How long cases were worked, by what they turned out to be."""
    total = number(found[worked.CLOSED])
    lines = []
    for disposition in Disposition:
        [place] = places([disposition])
        url = queue_url(span, status="closed", outcome=disposition)
        lines.append(
            [
                text(disposition.label),
                share(number(found[worked.CLOSED], parts=[place]), total, url),
                *pair(scale(found[worked.HANDLING], part=place)),
            ]
        )
    head = [Column("Outcome", numeric=False), Column("Closed", parts=("closed", "all closed"))]
    head += [Column("Handling p50", measure="handling"), Column("p90")]
    return Table("outcomes", "Handling by outcome", head, lines)


def quality(queues: list[Queue], found: Counted, reviews: dict[int, Counter[str]], span: Span) -> Table:
    """Whether cases were decided right, by queue."""
    lines = []
    for queue in queues:
        genuine, decisive_ones = decisive(found, queue.pk)
        findings = reviews.get(queue.pk, Counter())
        lines.append(
            [
                text(queue.name, queue_url(queue=queue.slug)),
                share(
                    genuine,
                    decisive_ones,
                    queue_url(span, status="closed", queue=queue.slug, outcome=",".join(GENUINE)),
                ),
                share(number(found[worked.REOPENED], queue=queue.pk), number(found[worked.CLOSES], queue=queue.pk)),
                share(findings["disagree"], sum(findings.values())),
                share(findings["process_error"], sum(findings.values())),
                share(number(found[worked.CONTRADICTED], queue=queue.pk), decisive_ones),
            ]
        )
    head = [
        Column("Queue", numeric=False),
        Column("False positives", measure="false_positives", parts=("legitimate", "decisive")),
        Column("Reopened", measure="reopened", parts=("reopened", "closes")),
        Column("QA disagrees", measure="disagreement", parts=("disagree", "reviewed")),
        Column("Process errors", measure="disagreement", parts=("process errors", "reviewed")),
        Column("Contradicted", measure="contradicted", parts=("contradicted", "decisive")),
    ]
    return Table("quality", "Quality by queue", head, lines)


def backlog(queues: list[Queue], now: datetime | None = None) -> Table:
    """Open cases by age, as of now: open ones have an index of their own."""
    now = now or timezone.now()
    counts: dict[int, list[int]] = {queue.pk: [0] * len(AGES) for queue in queues}
    oldest: dict[int, datetime] = {}
    mine = open_ones(Case.objects.filter(queue__in=queues))
    for place, age in enumerate(AGES):
        for queue, n, first in (
            _aged(mine, now, age).values_list("queue").annotate(n=Count("pk"), first=Min("opened_at"))
        ):
            counts[queue][place] = n
            oldest[queue] = min(first, oldest.get(queue, first))
    lines = []
    for queue in queues:
        total = sum(counts[queue.pk])
        url = queue_url(queue=queue.slug, sort="-age")
        waited = (now - oldest[queue.pk]).total_seconds() if queue.pk in oldest else None
        cells = [_heat(n, total, place, url) for place, n in enumerate(counts[queue.pk])]
        lines.append(
            [text(queue.name, queue_url(queue=queue.slug)), *cells, count(total, url), seconds(waited, href=url)]
        )
    foot = _all(counts, oldest, now) if lines else []
    head = [Column("Queue", numeric=False), *(Column(name) for name in AGE_NAMES), Column("Open", measure="backlog")]
    return Table(
        "backlog",
        "Backlog by age",
        [*head, Column("Oldest")],
        lines,
        f"open cases at {timezone.localtime(now):%H:%M}",
        foot,
        heat=True,
    )


def _all(counts: dict[int, list[int]], oldest: dict[int, datetime], now: datetime) -> list[Cell]:
    """All queues together."""
    sums = [sum(column) for column in zip(*counts.values(), strict=True)]
    age = (now - min(oldest.values())).total_seconds() if oldest else None
    return [text("All"), *map(count, sums), count(sum(sums)), seconds(age)]


def _aged(cases: Any, now: datetime, age: tuple[int, int | None]) -> Any:
    least, most = age
    cases = cases.filter(opened_at__lte=now - timedelta(hours=least)) if least else cases
    return cases if most is None else cases.filter(opened_at__gt=now - timedelta(hours=most))


def _heat(n: int, total: int, place: int, url: str) -> Cell:
    css = "d-quiet" if not n else "h-x" if place >= 3 else "h-3" if n > total / 2 else "h-2" if n > total / 4 else "h-1"
    return Cell(f"{n:,}", n, url if n else "", css=css)


def rates(queues: list[Queue], found: Counted) -> Table:
    """Cases and alerts per worked hour, by queue."""
    lines = [[text(queue.name, queue_url(queue=queue.slug)), *rate_cells(found, queue.pk)] for queue in queues]
    return Table("rates", "Work by queue", [Column("Queue", numeric=False), *rate_columns()], lines)


def rate_columns() -> list[Column]:
    return [Column("Closed"), Column("Had in hand"), Column("Lease hours"), Column("Cases an hour", measure="rate")]


def rate_cells(found: Counted, queue: int) -> list[Cell]:
    """Closed, closed in hand, hours, rate."""
    handled, time = number(found[worked.HANDLED], queue=queue), number(found[worked.SECONDS], queue=queue)
    return [count(number(found[worked.CLOSED], queue=queue)), count(handled), *hourly(handled, time)]


def hourly(handled: int, time: int) -> list[Cell]:
    """Hours, and cases an hour with what they come from."""
    hours = time / 3600
    if not time:
        return [Cell("0.0", 0, css="d-quiet"), Cell("–", "", css="d-quiet")]
    return [Cell(f"{hours:,.1f}", round(hours, 3)), Cell(f"{handled / hours:,.1f}", round(handled / hours, 3))]


def people(found: Counted) -> Table:
    """The same by person, in the order of names: never a ranking."""
    ids = {part for each in (worked.PERSON_CLOSED, worked.PERSON_SECONDS) for _, part, _ in found[each]}
    lines = []
    users = get_user_model().objects.filter(pk__in=ids).order_by("first_name", "last_name", "username")
    for user in users[:LISTED]:
        closed = number(found[worked.PERSON_CLOSED], parts=[user.pk])
        handled = number(found[worked.PERSON_HANDLED], parts=[user.pk])
        time = number(found[worked.PERSON_SECONDS], parts=[user.pk])
        lines.append(
            [text(user.get_full_name() or user.get_username()), count(closed), count(handled), *hourly(handled, time)]
        )
    hint = "for leads and auditors, by name"
    return Table("people", "Work by person", [Column("Person", numeric=False), *rate_columns()], lines, hint)


def fates_of(span: Span) -> dict[int, dict[int, int]]:
    """{channel: {fate: value}}."""
    found: dict[int, dict[int, int]] = {}
    for (channel, fate), sums in tallied(tallies.FATE, span).items():
        found.setdefault(channel, {})[fate] = sums.value
    return found


def value(span: Span, currency: str) -> Table:
    """What fraud and mistakes cost or did not cost, by channel."""
    fates = fates_of(span)
    names = ("blocked", "lost", "recovered", "wrongly_blocked", "wrongly_stopped")
    order = sorted(fates, key=lambda channel: -sum(fates[channel].values()))
    lines = []
    for channel in order:
        name = CHANNEL.text(channel)
        cells = []
        for fate, each in zip(tallies.FATES, names, strict=True):
            verdict = "legitimate" if each.startswith("wrongly") else "fraud"
            cells.append(
                money(fates[channel].get(fate, 0), currency, rows_url(span, verdict=verdict, channel=name, fate=each))
            )
        lines.append([text(words(name), raw=name), *cells])
    foot = [text("All")] if lines else []
    if lines:
        foot += [money(sum(row.get(fate, 0) for row in fates.values()), currency) for fate in tallies.FATES]
    head = [Column("Channel", numeric=False), *(Column(measure(each).name, measure=each) for each in names)]
    hint = f"{currency}, by labels known now"
    return Table("value", "Value by channel", head, lines, hint, foot, "Nothing was labelled in this range.")
