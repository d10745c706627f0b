"""What the lead's pages draw besides the shared parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template

from cases import calendar, quality, routing

register = template.Library()
OLD = 3  # from this bucket of the backlog on, cases stand out


@register.simple_tag
def aged(count: int, whole: int, age: int) -> str:
    """The class of a cell of the backlog: darker with its share; cases older than three days stand out."""
    if not count:
        return "d-quiet"
    if age >= OLD:
        return "h-x"
    return "h-3" if count > whole / 2 else "h-2" if count > whole / 4 else "h-1"


@register.filter
def percent(value: float | None) -> str:
    """97.3, or a dash where there is nothing to tell."""
    return "–" if value is None else f"{value:.1f}"


@register.filter
def cause(code: str) -> str:
    """Why a close was chosen for review, in words."""
    return quality.KINDS.get(code, "By chance")


@register.filter
def conditions(value: dict[str, Any]) -> str:
    """A route's conditions as a sentence."""
    return routing.in_words(value)


@register.filter
def hours(queue: Any) -> str:
    """A queue's working hours in words."""
    return calendar.in_words(queue.working_hours, queue.time_zone)


@register.filter
def at(values: Any, key: Any) -> Any:
    """The value of a key; 0 if it is not there, or if there are no values (a template gives "" for what is missing)."""
    return values.get(key, 0) if isinstance(values, Mapping) else 0
