"""What no single field of a payment can tell: times, company that fields need, identifiers in the clear.

`broken` is asked of payments that may lack members (UNSET) where another fault was found before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import UNSET

from transactions import pan
from transactions.hints import hint
from transactions.problems import FieldError

if TYPE_CHECKING:
    from transactions.schema import Location, Payment

AHEAD = timedelta(minutes=5)
OLDEST = timedelta(days=90)
NEED_ORIGINAL = frozenset({"refund", "reversal"})
_IBAN = re.compile(r"([A-Z]{2})([0-9]{2})([A-Z0-9]{11,30})")
_IBAN_REGISTRY = """
AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 EE:20
EG:29 ES:24 FI:18 FR:27 GB:22 GE:22 GI:23 GR:27 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20
LB:28 LI:21 LT:20 LU:20 LV:21 MC:27 MD:24 ME:22 MK:19 MT:31 NL:18 NO:15 PK:24 PL:28 PT:25 QA:29 RO:24 RS:22
SA:24 SE:24 SI:19 SK:24 SM:27 TN:24 TR:26 UA:29 VA:22 XK:20
"""
_IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _IBAN_REGISTRY.split()}


def broken(payment: Payment, now: datetime, backlog: bool) -> Iterator[FieldError]:
    """What no single field can tell. Members may be UNSET where another fault was found before."""
    yield from _timing(payment, now, backlog)
    yield from _company(payment)
    if payment.card and payment.card.token and not pan.is_card_token(payment.card.token):
        yield FieldError("/card/token", "pan-not-accepted", "A token, never the card number.")
    if payment.device and payment.device.ip and not canonical_ip(payment.device.ip):
        yield FieldError("/device/ip", "invalid-format", hint("/device/ip"))
    if payment.location:
        yield from _coordinates(payment.location)
    if payment.customer and payment.customer.birth_year and payment.customer.birth_year > now.year:
        yield FieldError("/customer/birth_year", "out-of-range", "Not in the future.")
    yield from _clear_identifiers(payment)


def _timing(payment: Payment, now: datetime, backlog: bool) -> Iterator[FieldError]:
    at = payment.occurred_at
    if not at:
        return
    if at.microsecond % 1000:
        yield FieldError("/occurred_at", "invalid-time", "Not finer than milliseconds.")
    elif at > now + AHEAD:
        yield FieldError("/occurred_at", "invalid-time", "More than 5 minutes in the future.")
    elif at < now - OLDEST and not backlog:
        yield FieldError("/occurred_at", "invalid-time", "Older than 90 days; import history by file.")
    elif at.year < 1980:
        yield FieldError("/occurred_at", "invalid-time", "Before 1980.")


def _company(payment: Payment) -> Iterator[FieldError]:
    """Fields that others make necessary."""
    means = payment.means
    if means == "account" and not (payment.account and payment.account.id):
        yield FieldError("/account/id", "required", "Required where the instrument is an account.")
    if means == "card" and not (payment.card and payment.card.token):
        yield FieldError("/card/token", "required", "Required where the instrument is a card.")
    if payment.type == "transfer" and not (payment.counterparty and payment.counterparty.id):
        yield FieldError("/counterparty/id", "required", "Required for a transfer.")
    if (payment.type in NEED_ORIGINAL or payment.stage == "reversal") and not payment.original_external_id:
        yield FieldError("/original_external_id", "required", "Required for a refund or reversal.")
    how = payment.authentication
    if how and how.sca == "exempt" and not how.exemption:
        yield FieldError("/authentication/exemption", "required", "Required where sca is exempt.")


def _coordinates(location: Location) -> Iterator[FieldError]:
    for name in ("lat", "lon"):
        degrees = getattr(location, name)
        if degrees is UNSET:
            if location.lat is not location.lon:
                yield FieldError(f"/location/{name}", "required", "lat and lon come together.")
        elif round(degrees, 4) != degrees:
            yield FieldError(f"/location/{name}", "invalid-format", hint(f"/location/{name}"))


def _clear_identifiers(payment: Payment) -> Iterator[FieldError]:
    """E-mail addresses as customer ids and IBANs in the clear."""
    if payment.customer and payment.customer.id and "@" in payment.customer.id:
        yield FieldError("/customer/id", "sensitive-data-not-accepted", "A key of your own, never an e-mail address.")
    for name in ("account", "counterparty"):
        part = getattr(payment, name)
        if part and part.id and is_iban(part.id):
            yield FieldError(f"/{name}/id", "sensitive-data-not-accepted", "A token, never the IBAN itself.")


def is_iban(text: str) -> bool:
    """Whether a text is an IBAN in the clear: a country's length and right check digits."""
    text = text.replace(" ", "")
    found = _IBAN.fullmatch(text)
    if not found or _IBAN_LENGTHS.get(found[1]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


@lru_cache(maxsize=65_536)
def canonical_ip(text: str) -> str:
    """The address in the form of RFC 5952; empty if it is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
