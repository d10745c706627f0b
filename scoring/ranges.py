"""Sets of ids as ranges without gaps: what a lane's owner knows to be dealt with, and what is left between."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np

Range = tuple[int, int]  # first and last id, both included
MOST = 4_096


class Ids:
    """A set of ids. Bounded: beyond `most` ranges the lowest are forgotten, which costs work but loses nothing."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.firsts: list[int] = []
        self.lasts: list[int] = []

    def __contains__(self, one: int) -> bool:
        at = bisect_right(self.firsts, one) - 1
        return at >= 0 and one <= self.lasts[at]

    def add(self, first: int, last: int) -> None:
        """Add a range, joined with those that it touches."""
        if self.lasts and first == self.lasts[-1] + 1:  # as nearly always
            self.lasts[-1] = last
            return
        begin, end = bisect_left(self.lasts, first - 1), bisect_right(self.firsts, last + 1)
        if begin < end:
            first, last = min(first, self.firsts[begin]), max(last, self.lasts[end - 1])
        self.firsts[begin:end], self.lasts[begin:end] = [first], [last]
        if len(self.firsts) > self.most:
            del self.firsts[0], self.lasts[0]

    def add_all(self, ids: np.ndarray) -> None:
        """Add ids, in any order."""
        for first, last in runs(np.sort(ids)):
            self.add(first, last)

    def forget(self, upto: int) -> None:
        """Drop all ids up to `upto`."""
        at = bisect_right(self.lasts, upto)
        del self.firsts[:at], self.lasts[:at]
        if self.firsts and self.firsts[0] <= upto:
            self.firsts[0] = upto + 1

    def clear(self) -> None:
        """Drop all ids."""
        self.firsts.clear()
        self.lasts.clear()

    def gaps(self, above: int, upto: int) -> list[Range]:
        """The ranges of (above, upto] that are not in the set."""
        found, first = [], above + 1
        at = bisect_right(self.lasts, above)
        while first <= upto and at < len(self.firsts) and self.firsts[at] <= upto:
            if self.firsts[at] > first:
                found.append((first, self.firsts[at] - 1))
            first = self.lasts[at] + 1
            at += 1
        if first <= upto:
            found.append((first, upto))
        return found


def runs(ids: np.ndarray) -> list[Range]:
    """Sorted ids as ranges without gaps."""
    if not len(ids):
        return []
    if len(ids) == ids[-1] - ids[0] + 1:
        return [(int(ids[0]), int(ids[-1]))]
    cuts = np.flatnonzero(np.diff(ids) > 1) + 1
    return list(zip(ids[np.append(0, cuts)].tolist(), ids[np.append(cuts - 1, -1)].tolist(), strict=True))


def first_of(ranges: Iterable[Range], most: int) -> list[Range]:
    """As many of the first ranges as hold `most` ids together; the last one is cut."""
    taken = []
    for first, last in ranges:
        if most <= 0:
            break
        taken.append((first, min(last, first + most - 1)))
        most -= last - first + 1
    return taken
