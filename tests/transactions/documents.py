"""Payments in the API's shape, as a bank would send them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from transactions import schema


def make_document(external_id: str = "pay-1", **changes: Any) -> dict[str, Any]:
    """The example payment of a minute ago with changes by path (`amount__value=5`); None takes a field away."""
    made = schema.example_payment(datetime.now(UTC) - timedelta(minutes=1), external_id)
    for path, value in changes.items():
        place = made
        *parents, name = path.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return made
