"""Probes and figures for machines: is the process alive, may it get traffic, how does the house do.

`/livez` touches nothing but the process, or a database outage would restart everything. `/readyz` fails only for what
makes every request fail: the database and its migrations; Valkey and the model are reported. Probes come from
orchestrators without a sign-in and with any Host header, so a middleware answers them before all others.
"""

import logging
from collections.abc import Callable, Iterator
from secrets import compare_digest

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

OK, FAILED = "ok", "failed"
FATAL = ("database", "migrations")
LANE_SILENCE_SECONDS = 60
_migrated = False


class Probes:
    """Middleware: answers probes and /metrics before hosts, sessions and sign-ins are looked at."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.answers = {"/livez": live, "/readyz": ready, "/api/health": ready, "/metrics": metrics}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.answers.get(request.path_info)
        if answer is None:
            return self.get_response(request)
        response = answer(request) if request.method in {"GET", "HEAD"} else HttpResponse(status=405)
        response.headers["Cache-Control"] = "no-store"
        return response


def live(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": OK})


def ready(request: HttpRequest) -> HttpResponse:
    """503 unless the database answers and is migrated; each check by name, without details."""
    checks = check_all()
    fit = all(checks[name] == OK for name in FATAL)
    status = (OK if all(value == OK for value in checks.values()) else "degraded") if fit else FAILED
    response = JsonResponse({"status": status, "checks": checks}, status=200 if fit else 503)
    if not fit:
        response.headers["Retry-After"] = "5"
    return response


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text for whoever sits on this machine (not: came through the proxy) or sends METRICS_TOKEN."""
    if not _may_read_metrics(request):
        return HttpResponse(status=404)
    return ExportToDjangoView(request)


def _may_read_metrics(request: HttpRequest) -> bool:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN and compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
        return True
    near = request.META.get("REMOTE_ADDR", "") in {"127.0.0.1", "::1"}
    return near and "X-Forwarded-For" not in request.headers


def check_all() -> dict[str, str]:
    """What this process depends on: name → "ok" or what is wrong in a word or two."""
    checks = {
        "database": _check(_database),
        "migrations": FAILED,
        "valkey": _check(_valkey),
        "scorer": "unknown",
        "model": "unknown",
    }
    if checks["database"] == OK:
        checks["migrations"] = _check(_migrations)
    if checks["migrations"] == OK:
        checks |= lane_states()
    return checks


def _check(probe: Callable[[], bool]) -> str:
    try:
        return OK if probe() else FAILED
    except (DatabaseError, redis.RedisError, OSError) as error:
        log.warning("check %s failed: %s", probe.__name__, type(error).__name__)
        return FAILED


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


def _migrations() -> bool:
    """Looked up until all are applied; they are not taken back under a running process."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _migrated


def _valkey() -> bool:
    with redis.Redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
        return bool(client.ping())


def lane_states() -> dict[str, str]:
    """How the lanes last spoke of themselves: `scorer` (silent lanes) and `model` (lanes that judge by rules alone)."""
    from scoring.models import LaneStatus

    now = timezone.now()
    rows = list(LaneStatus.objects.values_list("lane_id", "seen_at", "degraded"))
    silent = [lane for lane, seen_at, _ in rows if (now - seen_at).total_seconds() > LANE_SILENCE_SECONDS]
    degraded = [lane for lane, _, cause in rows if cause not in {"", "no_ring"}]
    return {
        "scorer": OK if rows and not silent else "silent",
        "model": OK if rows and not degraded else "degraded",
    }


class DeskFigures(Collector):
    """Business gauges, read from the database at the scrape: one exporter, whichever process is asked."""

    def describe(self) -> list[Metric]:
        """Nothing in advance: registration must not touch the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields the families; none when the database is away (the scrape still shows the process's own figures)."""
        try:
            yield from (family() for family in (lane_positions, lane_silence, open_cases, oldest_cases))
        except DatabaseError as error:
            log.warning("no figures: %s", type(error).__name__)


def lane_positions() -> Metric:
    """`fraud_lane_log_total`: payments and labels taken in by each lane, ever."""
    from scoring.models import LaneCursor

    family = CounterMetricFamily(
        "fraud_lane_log", "Log rows of the lane: payments and labels taken in.", labels=["lane"]
    )
    for lane, seq in LaneCursor.objects.values_list("lane__name", "seq"):
        family.add_metric([lane], seq)
    return family


def lane_silence() -> Metric:
    """`fraud_lane_seen_age_seconds`: how long ago the lane's owner last spoke."""
    from scoring.models import LaneStatus

    family = GaugeMetricFamily(
        "fraud_lane_seen_age_seconds", "Seconds since the lane's owner reported.", labels=["lane"]
    )
    now = timezone.now()
    for lane, seen_at in LaneStatus.objects.values_list("lane__name", "seen_at"):
        family.add_metric([lane], (now - seen_at).total_seconds())
    return family


def open_cases() -> Metric:
    """`fraud_cases_open` by queue and status."""
    from django.db.models import Count

    from cases.models import Case

    family = GaugeMetricFamily("fraud_cases_open", "Cases not closed.", labels=["queue", "status"])
    rows = Case.objects.exclude(status=Case.Status.CLOSED).values_list("queue__name", "status")
    for queue, status, count in rows.annotate(count=Count("id")).order_by():
        family.add_metric([queue, status], count)
    return family


def oldest_cases() -> Metric:
    """`fraud_case_oldest_open_age_seconds` by queue."""
    from django.db.models import Min

    from cases.models import Case

    family = GaugeMetricFamily("fraud_case_oldest_open_age_seconds", "Age of the oldest open case.", labels=["queue"])
    now = timezone.now()
    rows = Case.objects.exclude(status=Case.Status.CLOSED).values_list("queue__name")
    for queue, opened in rows.annotate(opened=Min("opened_at")).order_by():
        family.add_metric([queue], (now - opened).total_seconds())
    return family


REGISTRY.register(DeskFigures())
