"""Numbers and places in lists as addresses and forms carry them: anybody may have changed them, so they are read with
suspicion."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

Place = tuple[datetime, str, int]  # of lists that are read newest first by moment, kind and number
BEGINNING: Place = (datetime.max.replace(tzinfo=UTC), "~", 2**62)


def number(text: str | None) -> int:
    """The whole number that a text names; 0, which no row has, for anything else."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else 0


def text_of(place: Sequence[Any]) -> str:
    """A place as text for an address."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def values_of(text: str, kind: Any) -> Any:
    """The values that `text_of` wrote, as `kind`. Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def place_of(text: str) -> Place:
    """The place that a text names; nonsense, like no text, names the beginning."""
    try:
        return values_of(text, Place) if text else BEGINNING
    except ValueError:
        return BEGINNING
