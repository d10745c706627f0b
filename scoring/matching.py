"""Who of a batch is on which list: whole columns against sorted keys, never a payment at a time.

The entries that count are those of the release's lists version; of these, the ones that stood when the payment was
accepted (`received_at`, a fact of its row): from `since` until before `until`. So the same payment under the same
release hits the same entries for ever, whenever it is asked.

A list of customers, cards … is matched by entity key, of countries by code, of BINs by the first six or eight digits,
of networks by the innermost one that holds the address and all that hold that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from django.db import connection

from scoring.models import List
from transactions import binary
from transactions.codes import OUTCOME

ENTRY: Final = np.dtype(
    [
        ("id", "i8"),
        ("list", "i4"),
        ("key", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("prefix", "i2"),
        ("since", "i8"),
        ("until", "i8"),
    ]
)
SELECT = """
    SELECT e.id, e.list_id, e.key, e.high, e.low, e.prefix, e.valid_from,
           coalesce(least(e.expires_at, r.removed_at), 'infinity')
      FROM scoring_listentry e
      JOIN scoring_list l ON l.id = e.list_id
      LEFT JOIN scoring_listremoval r ON r.entry_id = e.id AND r.version <= %(version)s
     WHERE l.lane_id = %(lane)s AND e.version <= %(version)s"""
ADDED_SINCE = " AND e.version > %(after)s"
REMOVED_SINCE = " AND e.version <= %(after)s AND r.version > %(after)s"

# The columns of a payment that an entry of each subject is held against.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in ("customer", "card", "account", "device", "ip", "merchant", "counterparty", "bin")},
    "country": ("merchant_country", "counterparty_country", "location_country"),
}
V4_FIRST, V4_LAST = bytes(10) + b"\xff" * 2 + bytes(4), bytes(10) + b"\xff" * 6  # IPv4 addresses as 128 bits
APPROVE = OUTCOME.code("approve")
NOWHERE: Final = np.empty(0, np.intp)
Pairs = tuple[np.ndarray, np.ndarray]  # rows of the batch and places in the entries, one pair for each hit
NO_PAIRS: Final[Pairs] = (NOWHERE, NOWHERE)


@dataclass(frozen=True)
class Listing:
    """What a list is: settled when it was made."""

    id: int
    name: str
    kind: str
    subject: str
    outcome: int
    skips: bool


class Keys:
    """Entries by one number: entity key, country code or BIN. 0, which is "not sent", is never an entry's."""

    def __init__(self, keys: np.ndarray, places: np.ndarray):
        order = np.argsort(keys, kind="stable")
        self.keys, self.places = keys[order], places[order]
        self.low_bits = (1 << (16 * len(keys)).bit_length()) - 1
        self.sieve = np.zeros(self.low_bits + 1, bool)  # most keys are told off by their low bits: one look, no search
        self.sieve[keys & self.low_bits] = True

    def find(self, column: np.ndarray) -> Pairs:
        """Every (row, entry) whose keys are equal; `column` int64."""
        rows = self.sieve[column & self.low_bits].nonzero()[0]
        if not len(rows):
            return NO_PAIRS
        column = column[rows]
        first, behind = np.searchsorted(self.keys, column), np.searchsorted(self.keys, column, "right")
        counts = behind - first
        return np.repeat(rows, counts), self.places[_runs(first, counts)]


class Bins(Keys):
    """Entries by BIN: one of six digits holds all of eight that begin with it."""

    def find(self, column: np.ndarray) -> Pairs:
        """Every (row, entry) with an equal BIN or one that the row's begins with."""
        rows, places = super().find(column)
        others, theirs = super().find(np.where(column > 999_999, column // 100, 0))
        return (np.concatenate([rows, others]), np.concatenate([places, theirs])) if len(others) else (rows, places)


class Networks:
    """Networks of addresses, which nest or lie apart: what holds an address is the last to begin, or one around it."""

    def __init__(self, entries: np.ndarray, places: np.ndarray):
        first, last = bounds(entries["high"], entries["low"], entries["prefix"])
        order = np.lexsort((entries["prefix"], first))
        self.first, self.last, self.places = first[order], last[order], places[order]
        self.around = self._nesting()
        self.blocks = self._blocks()

    def _blocks(self) -> np.ndarray:
        """Which blocks of 65,536 IPv4 addresses any network touches: most addresses are told off by that."""
        touched = np.zeros(65_537, "i4")
        for first, last in zip(self.first.tolist(), self.last.tolist(), strict=True):
            begin, end = max(_padded(first), V4_FIRST), min(_padded(last), V4_LAST)
            if begin <= end:
                touched[int.from_bytes(begin[12:14], "big")] += 1
                touched[int.from_bytes(end[12:14], "big") + 1] -= 1
        return np.cumsum(touched)[:-1] > 0

    def _nesting(self) -> np.ndarray:
        """For each network the place of the next larger one that holds it; -1 = none."""
        around = np.full(len(self.first), -1, np.intp)
        ends, still = self.last.tolist(), [-1]
        for place, begin in enumerate(self.first.tolist()):
            while still[-1] >= 0 and _padded(ends[still[-1]]) < _padded(begin):
                still.pop()
            around[place] = still[-1]
            still.append(place)
        return around

    def find(self, high: np.ndarray, low: np.ndarray) -> Pairs:
        """Every (row, entry) whose network holds the address, given as two int64."""
        is_v4 = (high == 0) & (low >> 32 == 0xFFFF)
        asked = np.where(is_v4, self.blocks[(low >> 16) & 0xFFFF], (high | low) != 0).nonzero()[0]
        if not len(asked):
            return NO_PAIRS
        rows, places = self._holding(address(high[asked], low[asked]))
        return asked[rows], places

    def _holding(self, addresses: np.ndarray) -> Pairs:
        at = np.searchsorted(self.first, addresses, "right") - 1
        found: list[Pairs] = []
        rows = np.flatnonzero(at >= 0)
        at = at[rows]
        while len(rows):
            inside = addresses[rows] <= self.last[at]
            found.append((rows[inside], self.places[at[inside]]))
            at = self.around[at]
            rows, at = rows[at >= 0], at[at >= 0]
        if not found:
            return NO_PAIRS
        return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def _padded(raw: bytes) -> bytes:
    return raw.ljust(16, b"\0")  # NumPy drops zeros at the end of a text


def address(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Addresses of 128 bits as 16 bytes each, which sort and compare as the numbers do; shape (n,), dtype S16."""
    whole = np.empty((len(high), 2), ">u8")
    whole[:, 0], whole[:, 1] = high.astype("i8").view("u8"), low.astype("i8").view("u8")
    return whole.view("S16")[:, 0]


def bounds(high: np.ndarray, low: np.ndarray, prefix: np.ndarray) -> Pairs:
    """The first and the last address of each network, dtype S16."""
    upper, lower = _mask(prefix), _mask(prefix.astype("i8") - 64)
    high, low = high.astype("i8").view("u8"), low.astype("i8").view("u8")
    first, last = (high & upper, low & lower), (high | ~upper, low | ~lower)
    return address(*(each.view("i8") for each in first)), address(*(each.view("i8") for each in last))


def _mask(bits: np.ndarray) -> np.ndarray:
    """The leading `bits` (0 to 64, clipped) of 64 set."""
    bits = np.clip(bits, 0, 64).astype("u8")
    every = np.uint64(2**64 - 1)
    return np.where(bits == 0, np.uint64(0), every << (np.uint64(64) - np.maximum(bits, np.uint64(1))))


def _runs(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, … counts[0] of them, then the next run."""
    starts = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return starts + np.arange(counts.sum())


@dataclass(frozen=True)
class Lists:
    """The lists of a lane at one version, ready to match; `subjects` has the entries of each subject, indexed."""

    lane_id: int
    version: int
    listings: Mapping[int, Listing]
    entries: np.ndarray
    subjects: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        lane_id: int,
        version: int,
        listings: Mapping[int, Listing],
        entries: np.ndarray,
        known: Lists | None = None,
    ) -> Lists:
        """Index the entries; `known` are earlier lists, whose entries are the first of these: what did not change since
        is taken over."""
        names = list(COLUMNS)
        kinds = _of_lists({each.id: names.index(each.subject) for each in listings.values()}, entries)
        found = dict(known.subjects) if known is not None else {}
        for kind in set(kinds[len(known.entries) if known is not None else 0 :].tolist()):
            found[names[kind]] = _index(names[kind], entries, np.flatnonzero(kinds == kind))
        return cls(lane_id, version, listings, entries, found)

    def match(self, facts: np.ndarray) -> Found:
        """What the payments hit. `facts`: (n,) of dtype FACTS."""
        return Found(self, facts)

    def chosen(self, choice: str, subject: str, is_kind: bool) -> list[int]:
        """Ids of the lists of `subject` that a rule names: one by its name, or all of a kind."""
        named = [each for each in self.listings.values() if each.subject == subject]
        return [each.id for each in named if (each.kind if is_kind else each.name) == choice]

    @cached_property
    def floors(self) -> np.ndarray:
        """The least outcome that a hit of each entry demands: int16, approve for all but those of block lists."""
        listings = self.listings.values()
        floor = {each.id: each.outcome if each.kind == "block" else APPROVE for each in listings}
        return _of_lists(floor, self.entries)

    @cached_property
    def skipping(self) -> np.ndarray:
        """Which entries let a payment pass unseen: bool."""
        return _of_lists({each.id: int(each.skips) for each in self.listings.values()}, self.entries) == 1


def _of_lists(of_lists: Mapping[int, int], entries: np.ndarray) -> np.ndarray:
    """What holds for each list, for each entry: int16."""
    table = np.zeros(max(of_lists, default=0) + 1, "i2")
    table[list(of_lists)] = list(of_lists.values())
    return table[entries["list"]]


def _index(subject: str, entries: np.ndarray, places: np.ndarray) -> Any:
    if subject == "ip":
        return Networks(entries[places], places)
    return (Bins if subject == "bin" else Keys)(entries["key"][places], places)


@dataclass
class Found:
    """What a batch hit on a lane's lists."""

    lists: Lists
    facts: np.ndarray
    _pairs: dict[tuple[str, str], Pairs] = field(default_factory=dict)

    def pairs(self, subject: str, column: str) -> Pairs:
        """Valid hits of `column` on the entries of `subject`."""
        if (subject, column) not in self._pairs:
            self._pairs[subject, column] = self._find(subject, column)
        return self._pairs[subject, column]

    def _find(self, subject: str, column: str) -> Pairs:
        index = self.lists.subjects.get(subject)
        if index is None:
            return NO_PAIRS
        if subject == "ip":
            rows, places = index.find(self.facts["ip_high"], self.facts["ip_low"])
        else:
            rows, places = index.find(self.facts[column].astype("i8"))
        if not len(rows):
            return NO_PAIRS
        at, entries = self.facts["received_at"][rows], self.lists.entries[places]
        valid = (entries["since"] <= at) & (at < entries["until"])
        return rows[valid], places[valid]

    @cached_property
    def hits(self) -> Pairs:
        """All hits of the columns that lists are held against, each once, by row and then by entry."""
        found = [self.pairs(subject, column) for subject in self.lists.subjects for column in COLUMNS[subject]]
        found = [each for each in found if len(each[0])]
        if not found:
            return NO_PAIRS
        entries = len(self.lists.entries)
        rows, places = np.divmod(np.unique(np.concatenate([each[0] * entries + each[1] for each in found])), entries)
        return rows, places

    def without(self, left_out: np.ndarray) -> Pairs:
        """`hits` but for the rows that are True in `left_out`."""
        rows, places = self.hits
        kept = ~left_out[rows]
        return rows[kept], places[kept]

    def is_on(self, subject: str, column: str, listings: Iterable[int]) -> np.ndarray:
        """Whether each payment's `column` stands on one of these lists: bool of shape (n,)."""
        on = np.zeros(len(self.facts), bool)
        rows, places = self.pairs(subject, column)
        if len(rows):
            on[rows[np.isin(self.lists.entries["list"][places], list(listings))]] = True
        return on


# --- from the database ------------------------------------------------------------------------------------------------


def listings_of(lane_id: int) -> dict[int, Listing]:
    """Every list of the lane, by id."""
    return {
        each.pk: Listing(each.pk, each.name, each.kind, each.subject, OUTCOME.code(each.outcome), each.skips_scoring)
        for each in List.objects.filter(lane_id=lane_id)
    }


def load(lane_id: int, version: int, known: Lists | None = None) -> Lists:
    """The lists of the lane at `version`; what is new since `known` is read alone, where that is an earlier version."""
    listings = listings_of(lane_id)
    if known is not None and (known.lane_id != lane_id or known.version > version):
        known = None
    params = {"lane": lane_id, "version": version, "after": known.version if known else -1}
    with connection.cursor() as cursor:
        entries = binary.fetch(cursor, SELECT + ADDED_SINCE, params, ENTRY)
        if known is not None:
            ended = binary.fetch(cursor, SELECT + REMOVED_SINCE, params, ENTRY)
            entries = np.concatenate([_ended(known.entries, ended), entries])
    return Lists.of(lane_id, version, listings, entries, known)


def _ended(entries: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The entries with those in `ended` until when they were taken off."""
    if not len(ended):
        return entries
    entries, order = entries.copy(), np.argsort(entries["id"])
    entries["until"][order[np.searchsorted(entries["id"], ended["id"], sorter=order)]] = ended["until"]
    return entries
