"""A lane's memory: what is known of each customer, card, device, merchant … when the next payment is judged.

One record of fixed width per entity, found through an open-addressing hash table; nothing is ever removed between
epochs. Windows are kept over rings of steps (minutes, ten minutes, hours, days), each with the step it stands at and
a mask of the steps that hold something, so that a window is the running step and the whole steps before it: never less
than its name says, at most one step more. What is looked at for each payment stands together at the front of a record.
Besides the records there are two flat tables: pairs of entities with the time they were first seen together, and the
marks of single payments: the label in force, and whether a payment is suspicious or was reversed.

Everything is 64-bit words of NumPy, moved only by `scoring/features.py`; sums are integers (minor units of the base
currency), so nothing depends on how a stream is cut. Capacity grows before a batch, never inside it.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from transactions.codes import ENTITY

LAYOUT_VERSION = 2

NEVER = -(2**62)  # a time before all others

# --- the records ------------------------------------------------------------------------------------------------------

KINDS: tuple[str, ...] = (*ENTITY, "mcc", "lane")
CUSTOMER, ACCOUNT, CARD, DEVICE, IP, MERCHANT, TERMINAL, COUNTERPARTY, MCC, LANE = range(10)

# Words that every record begins with, the most used ones on its first cache line.
WORDS = (
    "key",
    "first_at",
    "last_at",
    "payments",
    "frauds",  # payments whose label in force is fraud
    "last_fraud",  # newest known_at of those
    "run_length",  # frauds of the current run, and occurred_at of the first and last of them
    "run_start",
    "run_last",
    "clean_since",  # occurred_at of the newest payment known to be legitimate that ended a run
    "customers",  # distinct customers ever seen with it
    "cards",  # distinct cards ever seen with it
)
(
    KEY,
    FIRST,
    LAST,
    PAYMENTS,
    FRAUDS,
    LAST_FRAUD,
    RUN_LENGTH,
    RUN_START,
    RUN_LAST,
    CLEAN_SINCE,
    CUSTOMERS,
    CARDS,
) = range(len(WORDS))
# Customers and the lane go on with their clean history, spending payments not known as fraud: count, sum, sum of
# squares (float64). Customers then with nightly payments and the last place (float64; place_at NEVER = unknown).
CLEAN_COUNT, CLEAN_SUM, CLEAN_SQUARE, NIGHT, LAT, LON, PLACE_AT = range(len(WORDS), len(WORDS) + 7)
_MORE = {"customer": 7, "lane": 3}

# Rings: how many steps of a minute, ten minutes, an hour, a day are held. The first ones take payments in, the last two
# what became known of them and what was odd about them.
MINUTES, TENS, HOURS, WEEK, DAYS, LABELS, SUSPECTS = range(7)
STEPS_HELD = (11, 7, 25, 8, 31, 31, 8)
N_RINGS, N_VELOCITY = 7, 5
D1, D7, D14, D30 = range(4)  # windows of a place's DAYS and LABELS
DAY_STEPS, WEEK_STEPS, _FORTNIGHT, _MONTH = 2, 8, 15, 31  # the running one and the whole ones before it

# What each kind holds: by ring the words of a step (a count, or a count and a sum; for labels frauds and legitimate
# ones) and the windows kept over it, in steps.
_SHARED: dict[int, tuple[int, tuple[int, ...]]] = {TENS: (1, (7,)), HOURS: (1, (25,)), LABELS: (1, (_MONTH,))}
_PLACE: dict[int, tuple[int, tuple[int, ...]]] = {
    TENS: (1, (7,)),
    HOURS: (1, (25,)),
    DAYS: (2, (DAY_STEPS, WEEK_STEPS, _FORTNIGHT, _MONTH)),
    LABELS: (2, (DAY_STEPS, WEEK_STEPS, _FORTNIGHT, _MONTH)),
    SUSPECTS: (1, (WEEK_STEPS,)),
}
HELD: dict[str, dict[int, tuple[int, tuple[int, ...]]]] = {
    "customer": {
        MINUTES: (2, (11,)),
        TENS: (2, (7,)),
        HOURS: (2, (25,)),
        DAYS: (2, (WEEK_STEPS, _MONTH)),
        LABELS: (1, (_MONTH,)),
        SUSPECTS: (1, (WEEK_STEPS,)),
    },
    "account": {HOURS: (2, (25,)), DAYS: (2, (WEEK_STEPS, _MONTH))},
    "card": {
        MINUTES: (1, (11,)),
        TENS: (1, (7,)),
        HOURS: (2, (25,)),
        WEEK: (1, (WEEK_STEPS,)),
        LABELS: (1, (_MONTH,)),
    },
    "device": _SHARED,
    "ip": _SHARED,
    "merchant": _PLACE,
    "terminal": _PLACE,
    "counterparty": {TENS: (1, (7,)), HOURS: (2, (25,)), DAYS: (1, (_MONTH,)), LABELS: (1, (_MONTH,))},
    "mcc": {DAYS: (1, (_MONTH,)), LABELS: (1, (_MONTH,))},
    "lane": {},
}
# Small sets of a customer, as halves of words: keys (32 bits of them), then when each was last seen, in seconds.
N_MERCHANTS, N_COUNTRIES, N_DEVICES = 16, 8, 8

# Columns of RINGS, one row for each ring of each kind: which ring it is, words of a record at which its head and its
# steps stand, steps held, words of a step, how many windows, and their widths in steps.
R_RING, R_HEAD, R_SLOTS, R_HELD, R_WORDS, R_WINDOWS, R_WIDTH = range(7)
RING_COLUMNS = R_WIDTH + 4
# Columns of RECORDS, one row for each kind: rows of RINGS where its rings begin, where those end that take payments in,
# where all end; those of its labels and suspects (-1 = none); words of a record, and of its much-used front.
K_FIRST, K_VELOCITY, K_END, K_LABELS, K_SUSPECTS, K_WIDTH, K_HOT = range(7)
RECORD_COLUMNS = 7


class _Layout(NamedTuple):
    rings: np.ndarray  # (n, RING_COLUMNS)
    records: np.ndarray  # (kinds, RECORD_COLUMNS)
    ring: dict[tuple[int, int], int]  # row of RINGS of (kind, ring)
    sets: int  # word at which the small sets of a customer begin
    peaks: int  # word at which a customer's largest amounts by day begin


def _lines(words: int) -> int:
    return -(-words // 8) * 8


def _laid_out() -> _Layout:
    """The head of each ring (step << 32 | mask of steps, the running one lowest) and its totals, then its steps."""
    rows: list[list[int]] = []
    records, ring = [], {}
    sets = peaks = 0
    for kind, name in enumerate(KINDS):
        begin, at = len(rows), len(WORDS) + _MORE.get(name, 0)
        for which, (words, windows) in HELD[name].items():
            ring[kind, which] = len(rows)
            widths = [*windows, *[0] * (4 - len(windows))]
            rows.append([which, at, 0, STEPS_HELD[which], words, len(windows), *widths])
            at += 1 + words * len(windows)
        if kind == CUSTOMER:
            sets = at = _lines(at)
            at += N_MERCHANTS + N_COUNTRIES + N_DEVICES
        hot = at = _lines(at)
        for row in rows[begin:]:
            row[R_SLOTS], at = at, at + row[R_HELD] * row[R_WORDS]
        if kind == CUSTOMER:
            peaks, at = at, at + _MONTH
        velocity = begin + sum(row[R_RING] < N_VELOCITY for row in rows[begin:])
        known = [ring.get((kind, which), -1) for which in (LABELS, SUSPECTS)]
        records.append([begin, velocity, len(rows), *known, _lines(at), hot])  # records begin on a cache line
    return _Layout(np.array(rows), np.array(records), ring, sets, peaks)


LAYOUT = _laid_out()
RINGS, RECORDS, SETS, PEAKS = LAYOUT.rings, LAYOUT.records, LAYOUT.sets, LAYOUT.peaks
WIDTHS: tuple[int, ...] = tuple(RECORDS[:, K_WIDTH].tolist())


def total(kind: int, ring: int, window: int = 0, word: int = 0) -> int:
    """The word of a record of `kind` that holds a window's total of `ring`; `word` 1 is its sum."""
    row = RINGS[LAYOUT.ring[kind, ring]]
    return int(row[R_HEAD] + 1 + row[R_WORDS] * window + word)


# Rows of labels as the lane takes them in: codes of VERDICT and LABEL_SOURCE (a higher source outranks).
LABEL_ROW = np.dtype([("id", "i8"), ("transaction_id", "i8"), ("known_at", "i8"), ("verdict", "i2"), ("source", "i2")])
NONE, LEGITIMATE, FRAUD = 0, 1, 2  # a label in force

# The last word of a payment's mark: day its label was counted on << 16 | rank << 8 | bits | label in force.
RANK_SHIFT, DAY_SHIFT = 8, 16
ODD_BIT, SUSPECT_BIT, REVERSED_BIT = 16, 32, 64
KEPT_BITS = ODD_BIT | SUSPECT_BIT | REVERSED_BIT


# A table is looked at in chunks of 1 kB: which of them changed is told apart, not what in them.
CHUNK_SHIFT = 7
CHUNK = 1 << CHUNK_SHIFT  # words

# --- hash tables ------------------------------------------------------------------------------------------------------


def _pointed(typing_context, array):
    """The words of an array as a plain pointer: no bounds, no count of references, no negative places."""

    def build(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), build


def _further(typing_context, pointer, words):
    def build(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), build


# `pointer(array)` is good as long as the caller holds the array; `further(pointer, n)` is n words on.
pointer: Any = intrinsic(_pointed)
further: Any = intrinsic(_further)


@njit(cache=True)
def touch(touched: Any, word: Any) -> None:
    """Note that the chunk of `word` changes."""
    touched[word >> CHUNK_SHIFT] = np.uint8(1)


@njit(cache=True)
def touch_all(touched: Any, word: Any, n: Any) -> None:
    """Note that the chunks of `n` words from `word` on change."""
    for chunk in range(word >> CHUNK_SHIFT, ((word + n - 1) >> CHUNK_SHIFT) + 1):
        touched[chunk] = np.uint8(1)


@njit(cache=True)
def home_of(key: Any) -> Any:
    """Where a search for `key` begins, before it is cut to the capacity."""
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24))


@njit(cache=True)
def slot_of(table: Any, last: Any, words: Any, key: Any) -> Any:
    """The word at which the entry of `key` begins in `table`, or its free place.

    `table` is a pointer to entries of `words` words, the first one the key (0 = free); `last` its capacity, a power of
    two, less one.
    """
    slot = home_of(key) & last
    while table[slot * words] != key and table[slot * words] != 0:
        slot = (slot + 1) & last
    return slot * words


@njit(cache=True)
def place_of(index: Any, last: Any, key: Any, kind: Any) -> Any:
    """The word at which the entity (`key`, `kind`) stands in `index`, or the free place for it (second word 0)."""
    place = home_of(key + kind) & last
    while index[2 * place + 1] != 0 and (index[2 * place] != key or index[2 * place + 1] & 15 != kind):
        place = (place + 1) & last
    return 2 * place


@njit(cache=True)
def _spread_index(index: np.ndarray, entries: np.ndarray) -> None:
    """Put `entries` (n, 2) into the empty `index`."""
    words, last = pointer(index), index.shape[0] - 1
    for i in range(entries.shape[0]):
        place = place_of(words, last, entries[i, 0], entries[i, 1] & 15)
        words[place] = entries[i, 0]
        words[place + 1] = entries[i, 1]


@njit(cache=True)
def _spread(table: np.ndarray, entries: np.ndarray) -> None:
    """Put `entries` (n, words) into the empty `table`."""
    words, last, n = pointer(table), table.shape[0] - 1, table.shape[1]
    for i in range(entries.shape[0]):
        slot = slot_of(words, last, n, entries[i, 0])
        for j in range(n):
            words[slot + j] = entries[i, j]


@njit(cache=True)
def _take(marks: np.ndarray, touched: np.ndarray, rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> int:
    """Bring label rows into the marks in their order; the number of payments that had none before."""
    table, last, added = pointer(marks), marks.shape[0] - 1, 0
    for i in range(rows.shape[0]):
        row = rows[i]
        slot = slot_of(table, last, 4, row.transaction_id)
        touch(touched, slot)
        packed = table[slot + 3]
        old[i] = packed & 3
        if table[slot] == 0:
            table[slot] = row.transaction_id
            added += 1
        rank = (packed >> RANK_SHIFT) & 255
        later = row.known_at > table[slot + 1] or (row.known_at == table[slot + 1] and row.id > table[slot + 2])
        if row.source > rank or (row.source == rank and later):
            effect = row.verdict if row.verdict <= FRAUD else NONE
            table[slot + 1] = row.known_at
            table[slot + 2] = row.id
            kept = (packed >> DAY_SHIFT) << DAY_SHIFT | (packed & KEPT_BITS)
            table[slot + 3] = kept | (np.int64(row.source) << RANK_SHIFT) | effect
        new[i] = table[slot + 3] & 3
    return added


def _power(n: int) -> int:
    """The smallest power of two that is at least `n` and LEAST_ENTRIES."""
    return max(LEAST_ENTRIES, 1 << (int(n) - 1).bit_length())


class Arrays(NamedTuple):
    """What the kernel works on. Views of one memory: `words` as integers, `halves` as int32, `floats` as float64.

    The last four say which chunks of the tables were written to since they were cleared, a byte each.
    """

    used: np.ndarray  # rows in use of each kind, then pairs, then marks, then words
    entities: np.ndarray  # (capacity, 2): key, word at which the record begins << 4 | kind
    words: np.ndarray  # every record, one after the other
    halves: np.ndarray
    floats: np.ndarray
    pairs: np.ndarray  # (capacity, 2): key of the pair, first seen together
    marks: np.ndarray  # (capacity, 4): transaction, known_at, label id, packed
    touched_entities: np.ndarray
    touched_words: np.ndarray
    touched_pairs: np.ndarray
    touched_marks: np.ndarray


PAIRS, MARKED, USED = len(KINDS), len(KINDS) + 1, len(KINDS) + 2
KIND_BITS = 4
FIRST_WORD = 8  # no record begins at 0, so that 0 says "free" in the index
PAIRS_OF_PAYMENT = 8
WORDS_OF_PAYMENT = sum(WIDTHS)
INDEX_BYTES, PAIR_BYTES, MARK_BYTES = 16, 16, 32  # of one entry; tables are a quarter to half full
LEAST_WORDS = 4096
LEAST_ENTRIES = 64  # of a table: whole chunks, whichever it is
COLUMNS = {"entities": 2, "words": 1, "pairs": 2, "marks": 4}  # of each table
BLOCK, SCRATCH = 8, 64  # events that the kernel looks ahead, and words it needs for each


def bytes_each() -> dict[str, int]:
    """Bytes of memory that one more takes: of each kind of entity, of `pairs` and of `marks`, with tables half full."""
    each = {kind: 8 * width + 2 * INDEX_BYTES for kind, width in zip(KINDS, WIDTHS, strict=True)}
    return {**each, "pairs": 2 * PAIR_BYTES, "marks": 2 * MARK_BYTES}


class Profiles:
    """The memory of one lane, and the place in its log (`epoch`, `seq`, `token`) that it stands for."""

    def __init__(self, lane: int = 0) -> None:
        self.lane = lane
        self.epoch = 0
        self.seq = 0
        self.token = bytes(16)
        self._used = np.zeros(len(KINDS) + 3, np.int64)
        self._used[USED] = FIRST_WORD
        self._index = np.zeros((LEAST_ENTRIES, 2), np.int64)
        self._map = _new_map(LEAST_WORDS)
        self._words = np.frombuffer(self._map, np.int64)
        self._pairs = np.zeros((LEAST_ENTRIES, 2), np.int64)
        self._marks = np.zeros((LEAST_ENTRIES, 4), np.int64)
        self._touched: dict[str, np.ndarray] = {}
        self.watcher: object = None  # stands for who asks for what was touched: one at a time
        self._room = 0  # payments that may still come before anything must grow
        self.scratch = np.zeros((BLOCK, SCRATCH), np.int64)
        self.arrays = self._bind()

    def _bind(self) -> Arrays:
        words = self._words
        views = words, words.view(np.int32), words.view(np.float64)
        tables = {"entities": self._index, "words": words, "pairs": self._pairs, "marks": self._marks}
        self._touched = {name: _resized(self._touched.get(name), table) for name, table in tables.items()}
        return Arrays(self._used, self._index, *views, self._pairs, self._marks, *self._touched.values())

    # --- room

    def reserve(self, payments: int) -> None:
        """Make room for what `payments` more events may bring: at most one new entity of each kind, and their pairs."""
        if payments > self._room:
            self._grow(payments)
        self._room -= payments

    def _grow(self, payments: int) -> None:
        used = self._used
        entities = int(used[: len(KINDS)].sum())
        self._need_words(int(used[USED]) + WORDS_OF_PAYMENT * payments)
        if len(self._index) < 2 * (entities + len(KINDS) * payments):
            self._index = _index(self._entities(), 2 * (entities + len(KINDS) * payments))
        if len(self._pairs) < 2 * (int(used[PAIRS]) + PAIRS_OF_PAYMENT * payments):
            self._pairs = _table(_entries(self._pairs), 2 * (int(used[PAIRS]) + PAIRS_OF_PAYMENT * payments))
        if len(self._marks) < 2 * (int(used[MARKED]) + payments):
            self._marks = _table(_entries(self._marks), 2 * (int(used[MARKED]) + payments))
        self.arrays = self._bind()
        self._room = min(
            (len(self._words) - int(used[USED])) // WORDS_OF_PAYMENT,
            (len(self._index) // 2 - entities) // len(KINDS),
            (len(self._pairs) // 2 - int(used[PAIRS])) // PAIRS_OF_PAYMENT,
            len(self._marks) // 2 - int(used[MARKED]),
        )

    def _need_words(self, words: int) -> None:
        """Make the records' memory longer where it is: the system moves its pages, nothing is copied."""
        if words <= len(self._words):
            return
        del self.arrays, self._words
        try:
            self._map.resize(8 * _power(words))
        except BufferError:  # somebody still looks at it and keeps what is there now
            wider = _new_map(_power(words))
            wider[: 8 * self._used[USED]] = self._map[: 8 * self._used[USED]]
            self._map = wider
        _use_huge_pages(self._map)
        self._words = np.frombuffer(self._map, np.int64)

    def _entities(self) -> np.ndarray:
        return self._index[self._index[:, 1] != 0]

    # --- labels

    def take_labels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take label rows in, in their order: the labels in force before and after each, two int8 arrays.

        `rows` has dtype LABEL_ROW (transaction ids are at least 1). In force is the row that is highest by rank of its
        source, then known_at, then id, of all rows taken in so far; a withdrawn verdict in force means none. Only the
        table of marks changes here: risk moves when `features.advance` sees the label event.
        """
        old, new = np.zeros(len(rows), np.int8), np.zeros(len(rows), np.int8)
        if len(rows):
            self.reserve(len(rows))
            taken = np.ascontiguousarray(rows, LABEL_ROW)
            self._used[MARKED] += _take(self._marks, self._touched["marks"], taken, old, new)
        return old, new

    # --- content

    def count(self, kind: str) -> int:
        """How many entities of `kind` are known."""
        return int(self._used[KINDS.index(kind)])

    def memory(self) -> dict[str, int]:
        """Bytes in use by kind of entity (records with their share of the index), and by `pairs` and `marks`."""
        counts = [*self._used[: len(KINDS)], self._used[PAIRS], self._used[MARKED]]
        return {what: int(n) * width for (what, width), n in zip(bytes_each().items(), counts, strict=True)}

    def digest(self) -> bytes:
        """32 bytes that are equal exactly when the content is, whatever the capacity and the order of arrival."""
        digest = hashlib.sha256(struct.pack("<i", LAYOUT_VERSION))
        entities = self._entities()
        for kind, width in enumerate(WIDTHS):
            chosen = entities[(entities[:, 1] & 15) == kind]
            starts = chosen[np.argsort(chosen[:, 0]), 1] >> KIND_BITS
            digest.update(f"{KINDS[kind]} {len(starts)}\n".encode())
            for at in range(0, len(starts), 4096):
                digest.update(self._words[starts[at : at + 4096, None] + np.arange(width)].tobytes())
        for table in (self._pairs, self._marks):
            entries = _entries(table)
            digest.update(entries[np.argsort(entries[:, 0])].tobytes())
        return digest.digest()

    # --- for snapshots

    @property
    def used(self) -> list[int]:
        """How much is in use of everything, in the order of KINDS, pairs, marks, words."""
        return self._used.tolist()

    def tables(self) -> dict[str, np.ndarray]:
        """Every table as it lies in memory, as one row of words in whole chunks."""
        words = self._words[: -(-int(self._used[USED]) // CHUNK) * CHUNK]
        return {"entities": self._index.ravel(), "words": words, "pairs": self._pairs.ravel(),
                "marks": self._marks.ravel()}  # fmt: skip

    def take_touched(self, name: str) -> np.ndarray:
        """The chunks of a table that were written to since this was asked last, ascending."""
        touched = self._touched[name]
        chunks = np.flatnonzero(touched)
        touched[chunks] = 0
        return chunks

    def place_for(self, name: str, words: int) -> np.ndarray:
        """Where the words of a table can be written that holds so many: what stood there may go."""
        if name == "words":
            self._need_words(words)
            self.arrays = self._bind()
            return self._words[:words]
        table = np.empty((words // COLUMNS[name], COLUMNS[name]), np.int64)
        setattr(self, "_index" if name == "entities" else f"_{name}", table)
        return table.ravel()

    def adopt(self, used: list[int]) -> None:
        """Go on with what was written into the tables, of which so much is in use."""
        self._used[:] = used
        self._room = 0
        self.arrays = self._bind()

    def adopt_entries(self, entities: np.ndarray, pairs: np.ndarray, marks: np.ndarray) -> None:
        """Tables anew from their entries alone."""
        self._index = _index(entities, 2 * len(entities))
        self._pairs = _table(pairs, 2 * len(pairs))
        self._marks = _table(marks, 2 * len(marks))


def _new_map(words: int) -> mmap.mmap:
    return mmap.mmap(-1, 8 * words, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _use_huge_pages(memory: mmap.mmap) -> None:
    """Fewer misses in the table of pages; where the system has none, nothing is lost."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)


def _index(entities: np.ndarray, capacity: int) -> np.ndarray:
    index = np.zeros((_power(capacity), 2), np.int64)
    _spread_index(index, entities)
    return index


def _resized(touched: np.ndarray | None, table: np.ndarray) -> np.ndarray:
    """Room for a byte for each chunk of a table; what was noted is kept."""
    chunks = table.size >> CHUNK_SHIFT
    if touched is None or len(touched) > chunks:
        return np.zeros(chunks, np.uint8)
    return touched if len(touched) == chunks else np.append(touched, np.zeros(chunks - len(touched), np.uint8))


def _entries(table: np.ndarray) -> np.ndarray:
    return table[table[:, 0] != 0]


def _table(entries: np.ndarray, capacity: int) -> np.ndarray:
    table = np.zeros((_power(capacity), entries.shape[1]), np.int64)
    _spread(table, entries)
    return table
