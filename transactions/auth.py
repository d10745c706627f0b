"""API keys: a prefix that may be shown and 32 random bytes that are stored hashed, sent as `Authorization: Bearer` or
`X-Api-Key`.

The secret has full entropy, so one SHA-256 keeps it safe and costs nothing. A key that was found is believed for
`BELIEVED_SECONDS` without asking the database again; a revoked or expired key is refused after that at the latest.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from transactions.models import ApiClient, ApiKey
from transactions.problems import Problem

SCOPES = {
    "transactions:write": "Send payments and have them judged",
    "transactions:read": "Read own payments, their decisions and why",
    "transactions:rescreen": "Have own payments judged again",
    "labels:write": "Report what became known of own payments",
    "reasons:read": "Read the catalogue of reason codes",
    "lists:read": "Read lists and what stands on them",
    "lists:write": "Put on and take off; block and allow lists by proposals that a person approves",
    "cases:read": "Read what became of cases with own payments",
}
BELIEVED_SECONDS = 5.0
USE_NOTED_EACH = timedelta(minutes=1)
CHALLENGE = 'Bearer realm="fraud desk"'
_MOST_BELIEVED = 10_000


@dataclass(frozen=True)
class Machine:
    """Who calls: the key in use and its client. Stands where a view looks for a user."""

    key: ApiKey
    client: ApiClient

    pk = None
    is_authenticated = True
    is_active = True
    is_anonymous = False


_believed: dict[str, tuple[float, ApiKey]] = {}


def issue_key(
    client: ApiClient,
    *,
    scopes: Sequence[str] = tuple(SCOPES),
    expires_at: datetime | None = None,
    networks: Sequence[str] = (),
) -> tuple[ApiKey, str]:
    """A new key of the client and its full text, which is known only now. Raises ValueError for an unknown scope."""
    unknown = set(scopes) - SCOPES.keys()
    if unknown:
        raise ValueError(f"unknown scopes: {', '.join(sorted(unknown))}")
    prefix = f"fd_{'test' if client.lane.sandbox else 'live'}_{secrets.token_hex(6)}"
    secret = secrets.token_hex(32)
    key = ApiKey.objects.create(
        client=client,
        prefix=prefix,
        secret_hash=_hashed(secret),
        scopes=list(scopes),
        expires_at=expires_at,
        networks=[str(ip_network(network)) for network in networks],
    )
    return key, f"{prefix}_{secret}"


def revoke_key(key: ApiKey) -> None:
    """End a key now; other processes follow within `BELIEVED_SECONDS`."""
    key.revoked_at = key.revoked_at or timezone.now()
    key.save(update_fields=["revoked_at"])
    forget(key.prefix)


def forget(prefix: str | None = None) -> None:
    """Ask the database about the key (or all keys) again."""
    if prefix is None:
        _believed.clear()
    _believed.pop(prefix or "", None)


class KeyAuthentication(BaseAuthentication):
    """DRF authentication: `request.user` is the Machine, `request.auth` the ApiClient."""

    def authenticate(self, request: Request) -> tuple[Machine, ApiClient] | None:
        text = _sent_key(request)
        if text is None:
            return None
        prefix, _, secret = text.rpartition("_")
        key = _find(prefix)
        if key is None or not hmac.compare_digest(_hashed(secret), bytes(key.secret_hash)) or not _is_usable(key):
            raise Problem("invalid-key", headers={"WWW-Authenticate": CHALLENGE + ', error="invalid_token"'})
        _check_network(key, request)
        _note_use(key)
        return Machine(key, key.client), key.client

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class HasScope(BasePermission):
    """The view names in `scopes` which scope each method needs; a method that is not named needs a valid key only."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.user, Machine):
            return False
        needed = view.scopes.get(request.method)
        if needed and needed not in request.user.key.scopes:
            raise Problem("missing-scope", f"This needs the scope {needed}.")
        return True


def _sent_key(request: Request) -> str | None:
    kind, _, value = get_authorization_header(request).decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return request.headers.get("X-Api-Key") or None


def _hashed(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _find(prefix: str) -> ApiKey | None:
    believed = _believed.get(prefix)
    if believed and time.monotonic() - believed[0] < BELIEVED_SECONDS:
        return believed[1]
    key = ApiKey.objects.select_related("client__lane").filter(prefix=prefix).first() if prefix.isascii() else None
    if key is not None:
        if len(_believed) >= _MOST_BELIEVED:
            _believed.clear()
        _believed[prefix] = (time.monotonic(), key)
    return key


def _is_usable(key: ApiKey) -> bool:
    expired = key.expires_at is not None and key.expires_at <= timezone.now()
    return key.revoked_at is None and not expired and key.client.enabled


def _check_network(key: ApiKey, request: Request) -> None:
    if not key.networks:
        return
    try:
        address = ip_address(caller_address(request))
    except ValueError:
        raise Problem("network-not-allowed") from None
    if not any(address in ip_network(network) for network in key.networks):
        raise Problem("network-not-allowed")


def caller_address(request: Any) -> str:
    """The caller's IP: the peer's, or behind our own proxy the address which that proxy saw."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if forwarded and getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        return forwarded.rsplit(",", 1)[-1].strip()
    return request.META.get("REMOTE_ADDR", "")


def _note_use(key: ApiKey) -> None:
    """Write `last_used_at` at most once a minute, whichever process comes first."""
    now = timezone.now()
    if key.last_used_at and now - key.last_used_at < USE_NOTED_EACH:
        return
    long_ago = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - USE_NOTED_EACH)
    ApiKey.objects.filter(long_ago, pk=key.pk).update(last_used_at=now)
    key.last_used_at = now
