"""The live page: what was stopped, as it is stopped, and a glimpse of everything else.

The server renders the newest alerts and says up to which one (`cursor`); the socket goes on from there.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from redis.exceptions import RedisError

from alerts import charts, stream
from alerts.consumers import keyed, last_alerts
from alerts.models import Alert
from alerts.services import STOPPED
from alerts.stream import Address
from scoring.models import LaneStatus
from transactions import withheld
from transactions.codes import OUTCOME

SPAN = timedelta(hours=5)
BIN = timedelta(minutes=10)
RULE_SAMPLE = 1000  # alerts of the last hour whose rules are counted
SILENT = timedelta(seconds=30)  # a lane that has not been heard of for so long is shown as silent
ENDED = "stopped"  # what an owner says when it ends in good order
STALE = 5  # seconds that the page's figures may be old


def live_page(request: HttpRequest) -> HttpResponse:
    """`/desk/live/`."""
    cursor = last_alerts()
    address = Address.read(request.GET)
    currency = stream.base_currency()
    unit = stream.unit_of(currency)
    page = stream.rows(address, unit, withheld.customers(request.user))
    context = {
        "address": address,
        "base_currency": currency,
        "filters": stream.as_said(address, unit),
        "severities": stream.SEVERITIES,
        "outcomes": STOPPED,
        "channels": stream.CHANNELS,
        "alerts": [alert for alert in page.alerts if alert.seq <= cursor.get(alert.lane, 0)],
        "older": address.url(page.older) if page.older else "",
        "cursor": keyed(cursor),
        "as_of": timezone.now(),
        "lanes": lanes(),
        **figures(),
    }
    context["chart"] = chart_of(context["stopped"])
    return admin.site.render(request, "alerts/live.html", context, title="Live")


def figures() -> dict[str, Any]:
    """The page's counts and its chart, shared by all readers for a few seconds."""
    return remembered(
        "live:figures", STALE, lambda: {"stopped": stopped_columns(), "rules": rule_hits(), **last_hour()}
    )


def remembered(key: str, seconds: int, compute: Any) -> Any:
    """`compute()`, at most once in `seconds` over all processes; without Valkey it is computed each time."""
    try:
        found = cache.get(key)
        if found is None:
            found = compute()
            cache.set(key, found, seconds)
        return found
    except (RedisError, OSError):
        return compute()


def last_hour() -> dict[str, Any]:
    """How many alerts the last hour brought, by outcome (an index on the time)."""
    since = timezone.now() - timedelta(hours=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT outcome, count(*) FROM alert WHERE raised_at >= %s GROUP BY outcome", [since])
        counts = {OUTCOME.text(code): count for code, count in cursor.fetchall()}
    return {"hour": counts, "hour_total": sum(counts.values())}


def stopped_columns() -> dict[str, Any]:
    """Stopped payments per ten minutes over the last hours: names of the columns and their counts by outcome."""
    now = timezone.now()
    start = floor(now - SPAN)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_bin(%s, raised_at, %s), outcome, count(*) FROM alert WHERE raised_at >= %s GROUP BY 1, 2",
            [BIN, start, start],
        )
        found = {(at, OUTCOME.text(code)): count for at, code, count in cursor.fetchall()}
    starts = [start + BIN * i for i in range(int((now - start) / BIN) + 1)]
    return {"starts": starts, "columns": [{name: found.get((at, name), 0) for name in STOPPED} for at in starts]}


def floor(at: datetime) -> datetime:
    """The start of its ten minutes."""
    return at.replace(minute=at.minute - at.minute % 10, second=0, microsecond=0)


def chart_of(stopped: dict[str, Any]) -> charts.Chart:
    """The columns drawn, their names in the reader's zone."""
    names = [timezone.localtime(at).strftime("%H:%M") for at in stopped["starts"]]
    return charts.stacked(stopped["columns"], names, STOPPED, every=6)


def rule_hits() -> list[dict[str, Any]]:
    """The rules that hit most in the newest alerts of the last hour."""
    since = timezone.now() - timedelta(hours=1)
    hits = (
        Alert.objects.filter(raised_at__gte=since).order_by("-raised_at").values_list("rules", flat=True)[:RULE_SAMPLE]
    )
    counted = Counter(
        (hit.get("rule", ""), hit.get("text", "")) for rules in hits for hit in rules if hit.get("mode") != "shadow"
    )
    by_rule: dict[str, dict[str, Any]] = {}
    for (rule, text), count in counted.most_common():
        entry = by_rule.setdefault(rule, {"rule": rule, "text": text, "count": 0})
        entry["count"] += count
    return sorted(by_rule.values(), key=lambda entry: -entry["count"])[:6]


def lanes() -> list[dict[str, Any]]:
    """What each lane last said of itself."""
    now = timezone.now()
    return [
        {
            "name": status.lane.name,
            "state": status.state if status.state == ENDED or now - status.seen_at <= SILENT else "silent",
            "silent": status.state == ENDED or now - status.seen_at > SILENT,
            "degraded": status.degraded,
            "seen_at": status.seen_at,
        }
        for status in LaneStatus.objects.select_related("lane").order_by("lane__name")
    ]
