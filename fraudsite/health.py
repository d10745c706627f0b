"""Probes and figures for machines: is the process alive, may it get traffic, how does the house do.

`/livez` touches nothing but the process, or a database outage would restart everything. `/readyz` fails only for what
makes every request fail: the database and its migrations; all else is reported (`degrading.py`). Probes come from
orchestrators without a sign-in and with any Host header, so a middleware answers them before all others.
"""

import logging
from collections.abc import Callable
from secrets import compare_digest

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse

log = logging.getLogger(__name__)

OK, FAILED = "ok", "failed"
FATAL = ("database", "migrations")
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
    from fraudsite.metrics import page  # at the first scrape: a probe must not load the house

    return page(request)


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
        "backlog": "unknown",
        "rescreening": "unknown",
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
    """How the lanes do: `scorer`, `model`, `backlog` and `rescreening`, each "ok" or the word of what is degraded."""
    from fraudsite import degrading
    from scoring.models import LaneStatus

    heard = LaneStatus.objects.exists()
    checks = {
        "scorer": OK if heard else "silent",
        "model": OK if heard else "unknown",
        "backlog": OK,
        "rescreening": OK,
    }
    for each in degrading.found():
        if each.check in checks and checks[each.check] == OK:
            checks[each.check] = each.word
    return checks
