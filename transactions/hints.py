"""What is wrong with a field, in words that help and never repeat what was sent."""

from __future__ import annotations

import re

from transactions import codes
from transactions.codes import CodeTable
from transactions.problems import FieldError

# (fragment of msgspec's own message, code): the first that is found.
_FAULTS = (
    ("Invalid enum", "invalid-value"),
    ("timezone", "invalid-time"),
    ("RFC3339", "invalid-time"),
    ("Invalid date", "invalid-time"),
    ("matching regex", "invalid-format"),
    ("of length", "out-of-range"),
    ("<=", "out-of-range"),
    (">=", "out-of-range"),
    ("out of range", "out-of-range"),
)
_POSITION = re.compile(r"at `\$\[(\d+)\]`")

_TABLES: dict[str, CodeTable] = {
    "type": codes.TYPE,
    "stage": codes.STAGE,
    "direction": codes.DIRECTION,
    "channel": codes.CHANNEL,
    "instrument": codes.INSTRUMENT,
    "segment": codes.SEGMENT,
    "card/scheme": codes.SCHEME,
    "funding": codes.FUNDING,
    "entry_mode": codes.ENTRY_MODE,
    "method": codes.AUTHENTICATION,
    "sca": codes.SCA,
    "exemption": codes.EXEMPTION,
    "status": codes.THREE_DS,
    "vop_result": codes.VOP,
    "transfer/scheme": codes.TRANSFER_SCHEME,
    "source": codes.LOCATION_SOURCE,
}
_COUNTRY_HINT = "An ISO 3166-1 alpha-2 code in capitals; the United Kingdom is GB."
_TIME_HINT = "RFC 3339 with an offset, such as 2026-11-21T10:00:00Z."
_HASH_HINT = "64 hexadecimal digits of a keyed hash."
_HINTS = {
    "external_id": "1 to 64 of the characters A–Z a–z 0–9 . _ : -",
    "original_external_id": "1 to 64 of the characters A–Z a–z 0–9 . _ : -",
    "uetr": "A UUID of version 4.",
    "value": "An integer of minor units from 0 to 999999999999999: no decimal point, no text.",
    "currency": "An active ISO 4217 code in capitals, such as EUR.",
    "country": _COUNTRY_HINT,
    "issuer_country": _COUNTRY_HINT,
    "occurred_at": _TIME_HINT,
    "first_seen_at": _TIME_HINT,
    "started_at": _TIME_HINT,
    "since": "A date such as 2019-04-30.",
    "opened_at": "A date such as 2019-04-30.",
    "birth_year": "A year as an integer.",
    "email_hash": _HASH_HINT,
    "phone_hash": _HASH_HINT,
    "name_hash": _HASH_HINT,
    "bin": "6 digits, or 8 where the scheme permits.",
    "last4": "4 digits.",
    "cvv_result": "One character, the result code; never the security code.",
    "avs_result": "One character, the result code.",
    "eci": "2 digits.",
    "mcc": "4 digits of ISO 18245.",
    "bic": "8 or 11 characters of ISO 9362, in capitals.",
    "ip": "An IPv4 or IPv6 address.",
    "language": "A BCP 47 tag such as de-CH.",
    "flags": "A list out of " + ", ".join(codes.DEVICE_FLAGS) + ".",
    "lat": "A number of degrees from -90 to 90 with at most 4 decimals.",
    "lon": "A number of degrees from -180 to 180 with at most 4 decimals.",
}
_LENGTH = re.compile(r"of length (>=|<=) (\d+)")


def fault(pointer: str, told: str) -> FieldError:
    """msgspec's message as ours, without the value that it may repeat."""
    code = next((code for fragment, code in _FAULTS if fragment in told), "wrong-type")
    length = _LENGTH.search(told)
    words = hint(pointer)
    if length and not words:
        words = f"At {'most' if length[1] == '<=' else 'least'} {length[2]} characters."
    position = _POSITION.search(told)
    if position:
        pointer = f"{pointer}/{position[1]}"
    return FieldError(pointer, code, words or "Expected a text.")


def hint(pointer: str) -> str:
    """What the field at `pointer` wants, in words; empty if there is nothing to say."""
    parts = pointer.split("/")
    for name in ("/".join(parts[-2:]), parts[-1]):
        if name in _TABLES:
            return "One of: " + ", ".join(_TABLES[name]) + "."
    return _HINTS.get(parts[-1], "")
