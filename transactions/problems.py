"""Errors as machines want them: RFC 9457 problem documents with JSON pointers, one shape for every status.

A problem never repeats what was sent: a refused value may be a card number. Its `code` is stable and documented on the
API page; `type` points there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

import psycopg2
import psycopg2.errors
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from transactions import tally

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2

# code: (status, title). The catalogue of the API page and of docs/integrate.md.
CODES: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "invalid-json": (400, "The body is not valid JSON"),
    "invalid-header": (400, "A header cannot be understood"),
    "not-authenticated": (401, "An API key is needed"),
    "invalid-key": (401, "The API key is not valid"),
    "forbidden": (403, "The key may not do this"),
    "missing-scope": (403, "The key lacks the scope for this"),
    "network-not-allowed": (403, "The key may not be used from this address"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "not-acceptable": (406, "No representation that you accept"),
    "duplicate-external-id": (409, "The external_id belongs to another payment"),
    "cannot-rescreen": (409, "The payment cannot be judged again"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid-body": (422, "The body breaks the schema"),
    "pan-not-accepted": (422, "Card numbers are not accepted"),
    "sensitive-data-not-accepted": (422, "Secrets and clear identifiers are not accepted"),
    "currency-without-rate": (422, "No exchange rate for this currency"),
    "unknown-transaction": (422, "The payment is not known"),
    "too-many-requests": (429, "Too many requests"),
    "internal-error": (500, "Something broke on our side"),
    "unavailable": (503, "The service is not available for a moment"),
}

# Codes of single errors inside `errors`.
FIELD_CODES: dict[str, str] = {
    "required": "A field is missing that is needed, always or by what the other fields say.",
    "unknown-field": "A field that the schema does not know; a misspelt field would weaken the judgement silently.",
    "wrong-type": "A value of another JSON type.",
    "out-of-range": "A number or text beyond its limit.",
    "invalid-format": "A text that does not look as the field asks.",
    "invalid-value": "Not one of the values that the field knows.",
    "invalid-time": "A time without an offset, too fine, too old, or in the future.",
    "control-character": "A text with control characters.",
    "duplicate-key": "The same key twice in one object.",
    "too-deep": "Objects nested deeper than six levels.",
    "pan-not-accepted": "A card number, wherever it hides. Send a token; the value is kept nowhere.",
    "sensitive-data-not-accepted": "A security code, PIN or track data, or a personal identifier in the clear.",
    "currency-without-rate": "The desk has no exchange rate for the currency.",
    "unknown-transaction": "The desk does not know the payment.",
}


@dataclass(frozen=True, order=True)
class FieldError:
    """What is wrong at one place of the body; the message never contains the value."""

    pointer: str
    code: str
    message: str


class Problem(Exception):
    """An error that is told to the caller. `errors` names the places in the body."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail or self.title + "."
        self.errors = list(errors)
        self.headers = dict(headers or {})
        super().__init__(f"{code}: {', '.join(f'{error.pointer} {error.code}' for error in self.errors)}")

    @property
    def codes(self) -> set[str]:
        """The codes of the single errors, else the problem's own."""
        return {error.code for error in self.errors} or {self.code}


# Where one of these is among the errors, the whole problem carries its code.
FOREMOST = ("pan-not-accepted", "sensitive-data-not-accepted", "currency-without-rate")


def invalid(errors: Iterable[FieldError]) -> Problem:
    """The 422 for a body that breaks the schema at the given places."""
    ordered = sorted(errors)
    found = {error.code for error in ordered}
    code = next((code for code in FOREMOST if code in found), "invalid-body")
    return Problem(code, "See errors for each place that is wrong.", errors=ordered)


def document(problem: Problem, request: HttpRequest | Any) -> dict[str, Any]:
    """The problem's JSON object, as the answer to a request."""
    return {**body_of(problem), "instance": request.path, "request_id": request_id(request)}


def body_of(problem: Problem) -> dict[str, Any]:
    """The problem's JSON object, without the request that met it."""
    body: dict[str, Any] = {
        "type": f"/api/docs#problem-{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.errors:
        body["errors"] = [asdict(error) for error in problem.errors]
    return body


def request_id(request: HttpRequest | Any) -> str:
    """The id this request is logged under; the outermost middleware gave it."""
    return getattr(request, "request_id", "")


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: every error of an API view as a problem document."""
    problem = translate(error)
    if problem is None:
        log.error("unhandled error in the API", exc_info=error)
        problem = Problem("internal-error", "It was logged under the request_id; the request may be sent again.")
    set_rollback()
    _count(problem)
    request = context["request"]
    return Response(document(problem, request), problem.status, headers=problem.headers, content_type=MEDIA_TYPE)


def _count(problem: Problem) -> None:
    """For the metrics page: refusals that somebody should look into."""
    tally.add("api_problems", code=problem.code)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        tally.add("api_auth_failures")
    if "pan-not-accepted" in problem.codes:
        tally.add("pan_rejected")


def answer(request: HttpRequest, problem: Problem) -> JsonResponse:
    """The problem as a plain Django response, for doors that are no DRF view."""
    return JsonResponse(
        document(problem, request), status=problem.status, headers=problem.headers, content_type=MEDIA_TYPE
    )


def translate(error: Exception) -> Problem | None:
    """The problem that stands for an error of ours, of DRF, of Django or of the database; None: not foreseen."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, GONE) or isinstance(error.__cause__, READ_ONLY):
        log.warning("the database does not answer: %s", type(error).__name__)
        return Problem("unavailable", "Send the same request again.", headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, exceptions.APIException):
        return _of_drf(error)
    for kind, code in OF_DJANGO.items():
        if isinstance(error, kind):
            return Problem(code)
    return None


# The database does not answer, or takes no writes for now (a full disk, a fail-over): come again.
GONE = (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError)
READ_ONLY = psycopg2.errors.ReadOnlySqlTransaction

OF_DJANGO: dict[type[Exception], str] = {
    Http404: "not-found",
    PermissionDenied: "forbidden",
    RequestDataTooBig: "body-too-large",
}

OF_STATUS = {
    HTTPStatus.BAD_REQUEST: "bad-request",
    HTTPStatus.UNAUTHORIZED: "not-authenticated",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.NOT_ACCEPTABLE: "not-acceptable",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported-media-type",
    HTTPStatus.TOO_MANY_REQUESTS: "too-many-requests",
}


def _of_drf(error: exceptions.APIException) -> Problem:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait) + 1)
    code = OF_STATUS.get(HTTPStatus(error.status_code), "internal-error")
    detail = "" if isinstance(error, exceptions.ValidationError) else str(error.detail)
    return Problem(code, detail, headers=headers)


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """For addresses below /api/ that no view serves."""
    return answer(request, Problem("not-found"))
