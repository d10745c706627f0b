"""The way in for machines: requests to the API pass a chain of their own, before the views that they share with nobody.

Sessions, messages, forms, static files and page policies mean nothing to a bank's system, and cost several times what
the answer costs. What remains: the log line with its request id, the host and transport rules, the answer's length, and
one figure a request for Prometheus. The chain is chosen by the address alone (`fraudsite.wsgi`); views answer the same
behind either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPMethod, HTTPStatus
from typing import Any

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.module_loading import import_string
from prometheus_client import Histogram

PREFIX = "/api/v1/"
MOST_HOSTS = 1_000
METHODS = frozenset(HTTPMethod)  # others are counted together: anybody may make them up
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SECONDS = Histogram("fraud_api_request_seconds", "Requests to the API.", ["method", "route", "status"], buckets=BUCKETS)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class MachineHandler(WSGIHandler):
    """Django's handler with the middleware of `settings.API_MIDDLEWARE`."""

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler = convert_exception_to_response(self._get_response)
        for path in reversed(settings.API_MIDDLEWARE):
            handler = convert_exception_to_response(import_string(path)(handler))
        self._middleware_chain = handler

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """The answer with its length, which people's chain tells too: without it the server sends pieces."""
        response = super().get_response(request)
        if isinstance(response, HttpResponse) and response.status_code != HTTPStatus.NO_CONTENT:
            response.headers.setdefault("Content-Length", str(len(response.content)))
        return response


def split(people: WsgiApp, machines: WsgiApp) -> WsgiApp:
    """One application: the API's addresses to `machines`, all others to `people`."""

    def application(asked: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        chosen = machines if asked.get("PATH_INFO", "").startswith(PREFIX) else people
        return chosen(asked, start_response)

    return application


class Threshold:
    """Middleware: the host must be one of ours, looked up once for each spelling of it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.known: set[tuple[str, ...]] = set()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        said = (request.META.get("HTTP_HOST", ""), request.META.get("SERVER_NAME", ""))
        if said not in self.known:
            request.get_host()  # raises DisallowedHost
            if len(self.known) < MOST_HOSTS:
                self.known.add(said)
        return self.get_response(request)


class Figures:
    """Middleware: how long each route takes, by status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.kept: dict[tuple[str, str, int], Any] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        response = self.get_response(request)
        match = request.resolver_match
        method = request.method if request.method in METHODS else "other"
        said = (method or "", match.route if match else "", response.status_code)
        known = self.kept.get(said)
        if known is None:
            known = self.kept[said] = SECONDS.labels(*said)
        known.observe(time.perf_counter() - started)
        return response
