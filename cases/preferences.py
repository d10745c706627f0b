"""How a person wants the desk: one small record for each, read with the person and never asked for twice in a request.

The sign-in backend joins the row to the user, so that reading costs no query of its own. Values are checked when they
are written *and* when they are read: a value that is no longer offered falls back to its default.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.db.transaction import atomic

from cases.models import DeskPreference

CHOICES: dict[str, dict[str, str]] = {
    "theme": {"system": "As the system", "light": "Light", "dark": "Dark"},
    "density": {"normal": "Normal", "dense": "Dense"},
    "motion": {"system": "As the system", "reduced": "Reduced"},
}
# Every single key of the desk and what it does; the profile page offers them for a change.
KEYS: dict[str, str] = {
    "n": "Next case",
    "j": "Next row or event",
    "k": "Previous row or event",
    "o": "Open",
    "x": "Select row",
    "a": "Assign to me",
    "f": "Confirm fraud",
    "l": "Legitimate",
    "e": "Escalate",
    "s": "Snooze",
    "c": "Write note",
    "r": "Show new rows",
    "u": "Back to list",
    "p": "Pause the live page",
    "z": "Undo",
    "g": "Go to … (then a second key)",
    "/": "Search",
    "?": "Help",
}
# Letters that nobody uses by default are free as well; a space would press buttons.
KEY_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "/?.,;'[]-=")


@dataclass(frozen=True)
class Preferences:
    """What a person chose; the defaults are what somebody new gets."""

    theme: str = "system"
    density: str = "normal"
    motion: str = "system"
    time_zone: str = ""  # empty: the browser's
    shortcuts: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)  # a key of KEYS → the one that replaces it
    sound: bool = False
    auto_next: bool = True

    def for_browser(self, zone: str) -> dict[str, Any]:
        """What the page's scripts read from the element `desk-preferences`."""
        return asdict(self) | {"zone": zone}


def of(user: Any) -> Preferences:
    """The person's preferences; the defaults for somebody unknown."""
    if not user.is_authenticated:
        return Preferences()
    try:
        values = user.desk_preference.values
    except DeskPreference.DoesNotExist:
        return Preferences()
    return Preferences(**{name: value for name, value in values.items() if _allowed(name, value)})


@atomic
def save(user: Any, **changes: Any) -> Preferences:
    """Change some preferences of a person. Raises ValidationError naming each value that is not offered."""
    wrong = {name: [_complaint(name, value)] for name, value in changes.items() if not _allowed(name, value)}
    if wrong:
        raise ValidationError(wrong)
    DeskPreference.objects.get_or_create(user=user)
    kept = DeskPreference.objects.select_for_update().get(user=user)
    kept.values = {name: value for name, value in {**kept.values, **changes}.items() if name in NAMES}
    kept.save(update_fields=["values"])
    user.desk_preference = kept
    return of(user)


@cache
def zones() -> frozenset[str]:
    """Every time zone that can be chosen."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def remapped(wanted: Mapping[str, str]) -> dict[str, str]:
    """Only the keys that differ from their default."""
    return {key: new for key, new in wanted.items() if new != key}


def _allowed(name: str, value: Any) -> bool:
    if name in CHOICES:
        return isinstance(value, str) and value in CHOICES[name]
    if name == "time_zone":
        return isinstance(value, str) and (value == "" or value in zones())
    if name == "keys":
        return isinstance(value, dict) and not key_complaint(value)
    return name in NAMES and isinstance(value, bool)


def _complaint(name: str, value: Any) -> str:
    if name == "keys" and isinstance(value, dict):
        return key_complaint(value)
    return f"{value!r} is not offered."


def key_complaint(keys: Mapping[str, str]) -> str:
    """What is wrong with a change of keys, empty if nothing is."""
    for key, new in keys.items():
        if key not in KEYS:
            return f"There is no shortcut {key!r}."
        if not isinstance(new, str) or new not in KEY_CHARACTERS:
            return f"“{KEYS[key]}” needs one letter, digit or sign, not {new!r}."
    taken = [keys.get(key, key) for key in KEYS]
    twice = next((key for key in taken if taken.count(key) > 1), "")
    return f"The key {twice.upper()} would do two things." if twice else ""


NAMES = frozenset(each.name for each in fields(Preferences))
