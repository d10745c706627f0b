"""Payments for tests on a whole desk: each by a customer of its own, so that no test taints another's."""

from __future__ import annotations

from itertools import count
from typing import Any

from transactions import schema

_numbers = count(1)


def ordinary(name: str) -> dict[str, Any]:
    """An everyday payment by a customer with a card, device and merchant that nobody else uses."""
    number = next(_numbers)
    payment = schema.example_payment(external_id=f"{name}-{number}")
    payment["customer"]["id"] = f"cus-{name}-{number}"
    payment["card"]["token"] = f"tok-{name}-{number}"
    payment["device"] |= {"id": f"dev-{name}-{number}", "ip": f"198.51.100.{number % 250}"}
    payment["merchant"]["id"] = f"mer-{name}-{number}"
    return payment


def steered(name: str) -> dict[str, Any]:
    """A large payment while somebody else steers the device: a seeded rule holds it for review."""
    payment = ordinary(name)
    payment["amount"] = {"value": 90_000, "currency": "EUR"}
    payment["device"]["flags"] = ["remote_access"]
    return payment
