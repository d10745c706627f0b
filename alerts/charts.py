"""Charts as numbers: the geometry that templates write into SVG attributes; a chart needs neither script nor style.

Across, everything is per cent of the plot; down, pixels, so that text keeps its size at every width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log10

TOP = 8
PLOT = 174
AXIS = 18  # room for the labels below


@dataclass(frozen=True)
class Bar:
    """One piece of a column: where it stands, whose it is, and what it says when pointed at."""

    x: float
    width: float
    y: float
    height: float
    series: str
    says: str


@dataclass(frozen=True)
class Mark:
    """A grid line (y) or a label of the axis (x), with its text."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Chart:
    """What a template draws: bars or a line over a grid. `height` is of the whole picture, in pixels."""

    grid: list[Mark]
    ticks: list[Mark]
    bars: list[Bar] = field(default_factory=list)
    line: str = ""
    area: str = ""
    plot: int = PLOT

    @property
    def bottom(self) -> int:
        return TOP + self.plot

    @property
    def height(self) -> int:
        return self.bottom + AXIS

    @property
    def label_y(self) -> int:
        return self.bottom + 16


def nice_step(most: float, steps: int = 3) -> float:
    """The least of 1, 2, 5, 10, … that spans `most` in `steps` steps."""
    least = max(most, 1) / steps
    power = 10 ** int(log10(least)) if least >= 1 else 1
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def grid_to(most: float, plot: int = PLOT) -> tuple[list[Mark], float]:
    """Grid lines from 0 to a round number not below `most`; the round number."""
    step = nice_step(most)
    count = max(ceil(max(most, 1) / step), 1)
    top = step * count
    return [Mark(TOP + plot * (1 - i / count), short(step * i)) for i in range(count + 1)], top


def short(number: float) -> str:
    """1,200 as "1.2k": for axes only."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def stacked(columns: Sequence[Mapping[str, int]], names: Sequence[str], series: Sequence[str], *, every: int) -> Chart:
    """Columns of counts, `series` from the ground up; a label under each `every`-th of `names`."""
    grid, top = grid_to(max((sum(column.get(name, 0) for name in series) for column in columns), default=0))
    pitch = 100 / max(len(columns), 1)
    bars: list[Bar] = []
    for i, column in enumerate(columns):
        foot = float(TOP + PLOT)
        for name in series:
            height = PLOT * column.get(name, 0) / top
            if height:
                foot -= height
                says = f"{names[i]}: {column[name]:,} {name}"
                bars.append(Bar(i * pitch, pitch * 0.78, foot, max(height - 1, 0.5), name, says))
    return Chart(grid, ticks(names, every, pitch, pitch * 0.39), bars)


def histogram(counts: Sequence[int], names: Sequence[str], series: Sequence[str], *, axis: Sequence[str]) -> Chart:
    """Counts on a logarithmic scale (score distributions span powers of ten).

    `names` say what a bar counts, `series` its colour, `axis` what stands under its left edge (each fourth is shown).
    """
    powers = max(ceil(log10(max(max(counts, default=0), 10))), 1)
    grid = [Mark(TOP + PLOT * (1 - i / powers), short(10**i)) for i in range(powers + 1)]
    pitch = 100 / max(len(counts), 1)
    bars = []
    for i, count in enumerate(counts):
        if count:
            height = max(PLOT * log10(count) / powers, 2)
            bars.append(Bar(i * pitch, pitch * 0.86, TOP + PLOT - height, height, series[i], f"{names[i]}: {count:,}"))
    return Chart(grid, ticks(axis, 4, pitch, 0.0), bars)


def line(values: Sequence[float], names: Sequence[str], *, every: int) -> Chart:
    """One line over time with its area, in a box of 100 × 100 that the template stretches."""
    grid, top = grid_to(max(values, default=0))
    pitch = 100 / max(len(values) - 1, 1)
    points = " L".join(f"{i * pitch:.2f} {100 - 100 * value / top:.1f}" for i, value in enumerate(values))
    path = f"M{points}" if values else ""
    area = f"{path} L100 100 L0 100 Z" if values else ""
    return Chart(grid, ticks(names, every, pitch, 0.0), line=path, area=area)


def ticks(names: Sequence[str], every: int, pitch: float, shift: float) -> list[Mark]:
    """Labels under each `every`-th column; the first and the last keep inside the picture."""
    marks = []
    for i in range(0, len(names), every):
        at = i * pitch + shift
        anchor = "start" if at < 2 else "end" if at > 97 else "middle"
        marks.append(Mark(0.0 if anchor == "start" else min(at, 100.0), names[i], anchor))
    return marks
