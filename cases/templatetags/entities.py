"""How entities read: the tabs of a payment's entities on the case page, and parts of them by name.

{% load entities %}
{% entity_tabs chosen as tabs %}     the entities of a case's payment beside its customer
{{ window|part:"devices" }}          an attribute whose name stands in a variable
"""

from __future__ import annotations

from typing import Any

from django import template

from cases import entities
from cases.dossier import Flagged

register = template.Library()

BESIDE = ("counterparty", "device", "card", "merchant", "ip")
SHORT = {"counterparty": "Payee", "ip": "Network"}


@register.simple_tag
def entity_tabs(chosen: Flagged) -> list[dict[str, Any]]:
    """What the payment names beside its customer, each with the address of its panel."""
    payment = chosen.alert.transaction
    found = []
    for kind in BESIDE:
        key = getattr(payment, kind)
        if key:
            entity = entities.Entity(kind, key, payment.lane)
            name, title = entities.name_in(chosen.document, kind, key), SHORT.get(kind, entity.title)
            found.append({"kind": kind, "key": key, "title": title, "value": name.masked, "url": entity.url()})
    return found


@register.filter
def part(thing: Any, name: str) -> Any:
    """An attribute of one of our own records."""
    return getattr(thing, name, "")
