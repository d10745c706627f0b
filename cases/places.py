"""A map of where a customer paid, as a drawing of its own: degrees, dots and a scale, no tiles and no network.

Flat projection with longitudes shortened by the middle latitude; the window fits the dots with some air around them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

WIDTH, HEIGHT = 320, 190
AIR = 0.18  # of the window, on each side
LEAST = 0.08  # degrees of latitude that a window shows at least: about 9 km
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60)
LINES = 4  # about so many lines of the grid each way
KM = 111.195  # of one degree of latitude
SAME = 0.0005  # degrees: nearer places are one dot


class Place(NamedTuple):
    """Where and when one payment happened."""

    id: int
    at: datetime
    lat: float
    lon: float
    amount: str


@dataclass
class Dot:
    """One place of the map: its payments, and whether the shown payment is among them."""

    lat: float
    lon: float
    x: float = 0.0
    y: float = 0.0
    payments: list[Place] = field(default_factory=list)
    is_chosen: bool = False

    @property
    def radius(self) -> float:
        """Grows with the payments, slowly."""
        return round(min(4 + math.log2(len(self.payments)), 9), 1)


@dataclass(frozen=True)
class Map:
    """The drawing: grid lines with their degrees, dots, the way to the shown payment, and the scale."""

    dots: list[Dot]
    meridians: list[dict[str, Any]]
    parallels: list[dict[str, Any]]
    way: str
    scale_width: float
    scale_words: str
    words: str


def drawn(places: Sequence[Place], chosen: int) -> Map | None:
    """The map of these places (newest first); None without any. `chosen`: id of the payment that is shown."""
    if not places:
        return None
    dots = _dots(places, chosen)
    south, west, height, width = _window(dots)
    for dot in dots:
        dot.x = round((dot.lon - west) / width * WIDTH, 1)
        dot.y = round((south + height - dot.lat) / height * HEIGHT, 1)
    lat_step, lon_step = _step(height), _step(width)
    km = _round_km(height * KM / 3)
    return Map(
        dots=sorted(dots, key=lambda dot: (dot.is_chosen, -len(dot.payments))),
        meridians=[_line(lon, "EW", (lon - west) / width * WIDTH) for lon in _grid(west, width, lon_step)],
        parallels=[
            _line(lat, "NS", (south + height - lat) / height * HEIGHT) for lat in _grid(south, height, lat_step)
        ],
        way=_way(places, chosen, dots),
        scale_width=round(km / KM / height * HEIGHT, 1),
        scale_words=f"{km:g} km",
        words=_words(places, dots, chosen),
    )


def _dots(places: Sequence[Place], chosen: int) -> list[Dot]:
    dots: list[Dot] = []
    for place in places:
        near = (each for each in dots if abs(each.lat - place.lat) < SAME and abs(each.lon - place.lon) < SAME)
        dot = next(near, None)
        if dot is None:
            dots.append(dot := Dot(place.lat, place.lon))
        dot.payments.append(place)
        dot.is_chosen |= place.id == chosen
    return dots


def _window(dots: list[Dot]) -> tuple[float, float, float, float]:
    """(south, west, height, width) in degrees: all dots with air, in the shape of the drawing."""
    lats, lons = [dot.lat for dot in dots], [dot.lon for dot in dots]
    middle_lat, middle_lon = (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2
    squeeze = max(math.cos(math.radians(middle_lat)), 0.1)
    shape = WIDTH / HEIGHT
    height = max((max(lats) - min(lats)), (max(lons) - min(lons)) * squeeze / shape, LEAST) / (1 - 2 * AIR)
    width = height * shape / squeeze
    return middle_lat - height / 2, middle_lon - width / 2, height, width


def _step(length: float) -> float:
    return next((step for step in STEPS if length / step <= LINES), STEPS[-1])


def _grid(begin: float, length: float, step: float) -> list[float]:
    first = math.ceil(begin / step)
    return [round(n * step, 4) for n in range(first, math.floor((begin + length) / step) + 1)]


def _line(degrees: float, letters: str, at: float) -> dict[str, Any]:
    there = (degrees + 180) % 360 - 180 if letters == "EW" else degrees
    letter = letters[there < 0] if there else ""
    return {"at": round(at, 1), "text": f"{abs(there):g}°{letter}"}


def _round_km(length: float) -> float:
    size = 10 ** math.floor(math.log10(length))
    return next(factor * size for factor in (5, 2, 1) if factor * size <= length)


def _before(places: Sequence[Place], chosen: int) -> tuple[Place | None, Place | None]:
    """The shown payment and the one before it."""
    at = next((i for i, place in enumerate(places) if place.id == chosen), None)
    if at is None:
        return None, None
    return places[at], places[at + 1] if at + 1 < len(places) else None


def _way(places: Sequence[Place], chosen: int, dots: list[Dot]) -> str:
    """The line from the place before to the shown payment's, as a path; "" where they are one."""
    now, before = _before(places, chosen)
    ends = [next((dot for dot in dots if place in dot.payments), None) for place in (before, now) if place]
    if len(ends) < 2 or ends[0] is ends[1] or not (ends[0] and ends[1]):
        return ""
    return f"M{ends[0].x} {ends[0].y} L{ends[1].x} {ends[1].y}"


def _words(places: Sequence[Place], dots: list[Dot], chosen: int) -> str:
    n = len(places)
    said = f"{n} payment{'s' * (n != 1)} with coordinates at {len(dots)} place{'s' * (len(dots) != 1)}"
    now, before = _before(places, chosen)
    if not (now and before):
        return said
    return f"{said}; {distance_km(now, before):,.0f} km from the payment before"


def distance_km(one: Place, other: Place) -> float:
    """The way between two places along the sphere."""
    a, b = math.radians(one.lat), math.radians(other.lat)
    east = math.radians(other.lon - one.lon)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * 6371 * math.asin(min(1.0, math.sqrt(half)))
