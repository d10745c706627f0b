"""The overview's state of things now: figures over all apps, from bounded queries only. Ranges are in `dashboards`.

`decision` is too big to count, so the day is cut into ten-minute bins. A bin that is over no longer changes: it is
aggregated once (BRIN on the time) and kept in the cache for a day; each look aggregates only the bin that is running.
Whatever takes longer than PATIENCE is left out and the page says so, rather than holding the reader up.
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import OperationalError, connection
from django.db.models import Count, Min, Q
from django.db.transaction import atomic
from django.http import HttpRequest
from django.utils import timezone
from psycopg2.errors import QueryCanceled
from redis.exceptions import RedisError

from alerts import charts
from alerts.desk import BIN, floor, lanes, remembered
from alerts.models import Alert
from cases.models import Case
from fraudsite import degrading
from fraudsite.dashboards import pages
from scoring.models import LaneCursor, decision_id
from scoring.switches import pulled_everywhere
from transactions.codes import OUTCOME

STALE = 5  # seconds that figures may be old
PATIENCE = "3s"  # of one query
DAY = timedelta(hours=24)
SETTLED = timedelta(minutes=2)  # a bin is over once its end is so far back: no commit is still under way
SCORE_BINS = 20
WIDTH = 50  # points of score in a bin
RECORDED = OUTCOME.code("recorded")
OUTCOMES = ("approve", "challenge", "review", "decline")
COLOURS = ((900, "decline"), (700, "review"), (500, "challenge"), (0, "approve"))
AGES = ((0, 4), (4, 24), (24, 72), (72, None))  # hours

# An imported payment has no latency: it was judged as if it had arrived long ago, and is no traffic of today.
BINS_SQL = """
SELECT date_bin('10 minutes', decided_at, %(start)s) AS bin, outcome,
       CASE WHEN score < 0 THEN NULL ELSE least(score / 50, 19) END AS score_bin,
       count(*), count(*) FILTER (WHERE degraded <> 0)
FROM decision WHERE decided_at >= %(start)s AND decided_at < %(end)s AND outcome <> %(recorded)s AND latency > 0
  AND screening = 1
GROUP BY 1, 2, 3
"""

OLDEST_SQL = """
SELECT t.received_at FROM transaction t
WHERE t.lane = %(lane)s AND t.id > %(mark)s AND t.intake = 1
  AND NOT EXISTS (SELECT FROM decision d WHERE d.id = t.id * 64 + 1)
ORDER BY t.id LIMIT 1
"""

Bin = dict[str, Any]  # {"outcomes": {text: n}, "scores": [n] * SCORE_BINS, "degraded": n}


def context(request: HttpRequest) -> dict[str, Any]:
    """What templates/desk/dashboard.html shows to this reader."""
    user: Any = request.user
    shown: dict[str, Any] = pages.frame(request, pages.DASHBOARDS["overview"])
    shown |= {"as_of": timezone.now(), "lanes": lanes(), "pulled": pulled_everywhere()}
    shown["degraded"] = degrading.found()
    if user.has_perm("scoring.view_decision"):
        shown |= decisions()
    if user.has_perm("alerts.view_alert"):
        shown["alerts"] = remembered("dashboard:alerts", STALE, alerts)
    if user.has_perm("cases.view_case"):
        shown["cases"] = remembered("dashboard:cases", STALE, cases)
    return shown


def decisions() -> dict[str, Any]:
    """The day's decisions as figures and charts; `late` instead when the database needs too long."""
    try:
        day, oldest = remembered("dashboard:decisions", STALE, lambda: (bins(timezone.now()), oldest_undecided()))
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        return {"late": True}
    total = summed(day.values())
    return {
        "day": total,
        "volume": sum(total["outcomes"].values()),
        "stopped": sum(total["outcomes"][name] for name in OUTCOMES[1:]),
        "outcomes": [(name, total["outcomes"][name]) for name in OUTCOMES],
        "oldest": max((timezone.now() - oldest).total_seconds(), 0.0) if oldest else None,
        "rate": rate_chart(day),
        "scores": score_chart(total["scores"]),
        "score_table": [(label(i), count) for i, count in enumerate(total["scores"])],
    }


def bins(now: datetime) -> dict[datetime, Bin]:
    """The last 24 hours by ten minutes, oldest first; finished bins come from the cache."""
    last = floor(now)
    starts = [last - BIN * i for i in range(int(DAY / BIN) - 1, -1, -1)]
    done = [at for at in starts if at + BIN + SETTLED <= now]
    known = kept(done)
    missing = [at for at in starts if at not in known]
    fresh = aggregate(missing[0], last + BIN, missing)
    keep({at: fresh[at] for at in missing if at in done})
    return {at: known.get(at) or fresh[at] for at in starts}


def aggregate(start: datetime, end: datetime, wanted: Sequence[datetime]) -> dict[datetime, Bin]:
    """Count the decisions between two times into the `wanted` bins."""
    found = {at: empty() for at in wanted}
    for at, outcome, score_bin, count, degraded in fetch(BINS_SQL, {"start": start, "end": end, "recorded": RECORDED}):
        if at in found:
            found[at]["outcomes"][OUTCOME.text(outcome)] += count
            if score_bin is not None:  # judged without a model
                found[at]["scores"][score_bin] += count
            found[at]["degraded"] += degraded
    return found


def empty() -> Bin:
    return {"outcomes": Counter(), "scores": [0] * SCORE_BINS, "degraded": 0}


def summed(parts: Any) -> Bin:
    """Several bins as one."""
    total = empty()
    for part in parts:
        total["outcomes"].update(part["outcomes"])
        total["scores"] = [a + b for a, b in zip(total["scores"], part["scores"], strict=True)]
        total["degraded"] += part["degraded"]
    return total


def _key(at: datetime) -> str:
    return f"dashboard:bin:{int(at.timestamp())}"


def kept(starts: Sequence[datetime]) -> dict[datetime, Bin]:
    """Finished bins from the cache; none without Valkey."""
    try:
        found = cache.get_many([_key(at) for at in starts])
    except (RedisError, OSError):
        return {}
    texts = {at: found[_key(at)] for at in starts if _key(at) in found}
    return {at: (bin := json.loads(text)) | {"outcomes": Counter(bin["outcomes"])} for at, text in texts.items()}


def keep(finished: dict[datetime, Bin]) -> None:
    """Put finished bins into the cache for as long as they are shown."""
    if not finished:
        return
    try:
        cache.set_many({_key(at): json.dumps(part) for at, part in finished.items()}, int(DAY.total_seconds()) + 3600)
    except (RedisError, OSError):
        return


def fetch(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of a query that may take PATIENCE at most (OperationalError beyond)."""
    with atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [PATIENCE])
        cursor.execute(sql, params)
        return cursor.fetchall()


def oldest_undecided() -> datetime | None:
    """When the first payment that is still owed a decision was accepted, over all lanes; None: nothing is owed.

    Only what lies above the lane's mark is looked at, so a lane in step costs a few rows.
    """
    assert decision_id(1) == 65  # OLDEST_SQL spells it out
    marks = LaneCursor.objects.values_list("lane_id", "mark")
    rows = [fetch(OLDEST_SQL, {"lane": lane, "mark": mark}) for lane, mark in marks]
    return min((found[0][0] for found in rows if found), default=None)


def rate_chart(day: dict[datetime, Bin]) -> charts.Chart:
    """Decisions a second over the day; a running bin counts its own seconds once it has some."""
    now = timezone.now()
    shown = {at: min(BIN, now - at) for at in day if now - at >= SETTLED}
    values = [sum(day[at]["outcomes"].values()) / length.total_seconds() for at, length in shown.items()]
    return charts.line(values, [timezone.localtime(at).strftime("%H:%M") for at in shown], every=24)


def score_chart(scores: Sequence[int]) -> charts.Chart:
    """How often which score was given, coloured by band."""
    colours = [next(name for floor, name in COLOURS if i * WIDTH >= floor) for i in range(SCORE_BINS)]
    return charts.histogram(
        scores, [label(i) for i in range(SCORE_BINS)], colours, axis=[str(i * WIDTH) for i in range(SCORE_BINS)]
    )


def label(i: int) -> str:
    """The scores of the i-th bin."""
    return f"{i * WIDTH}–{(i + 1) * WIDTH - (1 if i < SCORE_BINS - 1 else 0)}"


def alerts() -> dict[str, Any]:
    """Alerts of the last 24 hours and of the last one, by the index on their time."""
    now = timezone.now()
    return Alert.objects.filter(raised_at__gte=now - DAY).aggregate(
        day=Count("pk"), hour=Count("pk", filter=Q(raised_at__gte=now - timedelta(hours=1)))
    )


def cases() -> dict[str, Any]:
    """Open cases by queue and age, and how many are late; open cases have partial indexes."""
    now = timezone.now()
    ages = {f"age_{i}": Count("pk", filter=_between(now, *age)) for i, age in enumerate(AGES)}
    queues = list(
        Case.objects.exclude(status=Case.Status.CLOSED)
        .values("queue__name", "queue__slug")
        .annotate(open=Count("pk"), late=Count("pk", filter=Q(due_at__lt=now)), oldest=Min("opened_at"), **ages)
        .order_by("queue__name")
    )
    for queue in queues:
        queue["ages"] = [queue.pop(f"age_{i}") for i in range(len(AGES))]
        queue["seconds"] = (now - queue["oldest"]).total_seconds()
    closed = Case.objects.filter(closed_at__gte=now - DAY).aggregate(
        n=Count("pk"), fraud=Count("pk", filter=Q(disposition__in=["confirmed_fraud", "suspected_fraud"]))
    )
    return {
        "queues": queues,
        "open": sum(q["open"] for q in queues),
        "late": sum(q["late"] for q in queues),
        "closed": closed,
    }


def _between(now: datetime, least: int, most: int | None) -> Q:
    """Opened at least `least` and less than `most` hours ago."""
    younger = Q(opened_at__lte=now - timedelta(hours=least))
    return younger if most is None else younger & Q(opened_at__gt=now - timedelta(hours=most))
