"""Ids as ranges: what is known, and the gaps between."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.ranges import Ids, first_of, runs

some_ids = st.sets(st.integers(1, 60))


def of(ids: set[int], most: int = 4_096) -> Ids:
    known = Ids(most)
    for one in ids:  # in the order of the set, which is none
        known.add(one, one)
    return known


def test_ids_become_ranges_without_gaps():
    assert runs(np.array([1, 2, 3, 7, 9, 10])) == [(1, 3), (7, 7), (9, 10)]
    assert runs(np.arange(5, 9)) == [(5, 8)]
    assert runs(np.empty(0, "i8")) == []


@given(some_ids, st.integers(0, 60), st.integers(0, 60))
def test_the_gaps_are_just_the_ids_that_are_not_known(ids: set[int], above: int, upto: int):
    known = of(ids)
    missing = [one for first, last in known.gaps(above, upto) for one in range(first, last + 1)]
    assert missing == [one for one in range(above + 1, upto + 1) if one not in ids]
    assert all((one in known) == (one in ids) for one in range(62))


@given(some_ids, st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=5))
def test_ranges_that_overlap_or_touch_become_one(ids: set[int], ranges: list[tuple[int, int]]):
    known = of(ids)
    for first, more in ranges:
        known.add(first, first + more)
        ids |= set(range(first, first + more + 1))
    together = runs(np.array(sorted(ids), "i8"))
    assert list(zip(known.firsts, known.lasts, strict=True)) == together


@given(some_ids, st.integers(0, 60))
def test_what_is_forgotten_is_a_gap_again(ids: set[int], upto: int):
    known = of(ids)
    known.forget(upto)
    assert known.gaps(0, 60) == of({one for one in ids if one > upto}).gaps(0, 60)


def test_beyond_its_bound_the_lowest_ranges_are_forgotten():
    assert of({1, 3, 5, 7}, most=2).gaps(0, 8) == [(1, 4), (6, 6), (8, 8)]


def test_the_first_ranges_are_cut_where_enough_is_taken():
    assert first_of([(1, 3), (5, 9), (20, 30)], 5) == [(1, 3), (5, 6)]
    assert first_of([(1, 3)], 5) == [(1, 3)]
    assert first_of([], 5) == []
