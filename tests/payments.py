"""Payments for tests on a whole desk: each by a customer of its own, so that no test taints another's."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from transactions import schema

_numbers = count(int(time.time()) << 8)  # by the clock, so that a desk used twice never sees one twice


def ordinary(name: str) -> dict[str, Any]:
    """An everyday payment by a customer with a card, device, network and merchant that nobody else uses."""
    number = next(_numbers)
    payment = schema.example_payment(external_id=f"{name}-{number}")
    payment["customer"]["id"] = f"cus-{name}-{number}"
    payment["card"]["token"] = f"tok-{name}-{number}"
    payment["device"] |= {
        "id": f"dev-{name}-{number}",
        "ip": f"2001:db8:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}::1",
    }
    payment["merchant"]["id"] = f"mer-{name}-{number}"
    return payment


def steered(name: str) -> dict[str, Any]:
    """A payment while somebody else steers the device: a seeded rule holds it for review.

    Not so large that a model, trained on a small past, declines it.
    """
    payment = ordinary(name)
    payment["amount"] = {"value": 12_000, "currency": "EUR"}
    payment["device"]["flags"] = ["remote_access"]
    return payment
