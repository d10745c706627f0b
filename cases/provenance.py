"""Where an act came from: the request's id and address, and the roles the person held. Each line of history keeps them.

Services take no request. The middleware leaves what an auditor asks for in a context variable, and `history.write`
puts it into the line; a worker's lines have none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any

from django.http import HttpRequest, HttpResponse

from transactions.auth import caller_address
from transactions.problems import request_id

_here: ContextVar[dict[str, str] | None] = ContextVar("provenance", default=None)


class Provenance:
    """Middleware: while a request is answered, its id and address are known to the services below."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _here.set(_of(request))
        try:
            return self.get_response(request)
        finally:
            _here.reset(token)


def provenance(by: Any) -> dict[str, Any]:
    """What a line of history keeps of its origin: {"request", "ip", "role"}, each only where there is one."""
    told: dict[str, Any] = dict(_here.get() or {})
    if by is not None and (roles := roles_of(by)):
        told["role"] = roles
    return told


def roles_of(user: Any) -> str:
    """The person's roles as text; looked up once for each loaded user."""
    if not hasattr(user, "_roles_told"):
        user._roles_told = ", ".join(sorted(user.groups.values_list("name", flat=True)))
    return user._roles_told


def address_of(request: HttpRequest) -> str | None:
    """The person's IP address, or None where the server knows none."""
    try:
        return str(ip_address(caller_address(request)))
    except ValueError:
        return None


def _of(request: HttpRequest) -> dict[str, str]:
    told = {"request": request_id(request)[:64], "ip": address_of(request) or ""}
    return {name: value for name, value in told.items() if value}
