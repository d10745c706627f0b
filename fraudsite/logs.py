"""Logs: one JSON object a line, an id for every request, no card number whatever anybody logs."""

import contextvars
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse

from transactions.pan import SHORTEST, is_card_number

log = logging.getLogger("fraudsite.request")

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
trace_id: contextvars.ContextVar[str] = contextvars.ContextVar("trace_id", default="")

# What callers may send as their own request id; anything else is replaced.
SAFE_ID = re.compile(r"[A-Za-z0-9._\-]{8,128}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
FIELDS = ("user_id", "client_id", "method", "route", "status", "duration_s", "lane", "count")
QUIET = ("/livez", "/readyz", "/metrics", "/static/")

_DIGITS = re.compile(r"(?<![0-9.])[0-9](?:[ -]?[0-9]){11,18}(?![0-9])")


def scrub(text: str) -> str:
    """`text` with everything that is a card number, written in one or in groups, blotted out."""
    if len(text) < SHORTEST:
        return text
    return _DIGITS.sub(_blot, text)


def _blot(found: re.Match[str]) -> str:
    digits = found.group().replace(" ", "").replace("-", "")
    return "[card number]" if is_card_number(digits) else found.group()


class JsonLines(logging.Formatter):
    """A log record as one line of JSON: ts, level, logger, msg, ids, and the named extras in FIELDS."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if trace_id.get():
            line["trace_id"] = trace_id.get()
        line.update({name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({name: scrub(v) if isinstance(v, str) else v for name, v in line.items()}, default=str)


# Nothing of this is in a line, and each costs a look at every record: where it was logged, thread, process, task.
logging._srcfile = None  # the switch that logging's own documentation names
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class RequestLog:
    """Middleware: takes or makes X-Request-Id, follows traceparent, logs one line a request, no query, no body."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        request_id.set(_own_id(request))
        request.request_id = request_id.get()  # for the doors below, which must not import this floor
        trace = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        trace_id.set(trace.group(1) if trace else "")
        response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id.get()
        if not request.path.startswith(QUIET):
            _write_line(request, response, time.perf_counter() - started)
        return response


def _own_id(request: HttpRequest) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if given and SAFE_ID.fullmatch(given) else secrets.token_hex(16)


def _write_line(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    match = getattr(request, "resolver_match", None)
    user = getattr(request, "user", None)
    client = getattr(request, "auth", None)
    log.log(
        logging.ERROR if response.status_code >= 500 else logging.INFO,
        "request",
        extra={
            "method": request.method,
            "route": match.route if match else None,
            "status": response.status_code,
            "duration_s": round(seconds, 4),
            "user_id": getattr(user, "pk", None),
            "client_id": getattr(client, "pk", None),
        },
    )
