"""A lane's memory: what is known of each customer, card, device, merchant … when the next payment is judged.

One record of fixed width per entity, found through an open-addressing hash table; nothing is ever removed between
epochs. Windows are kept over rows of steps (minutes, ten minutes, hours, days), each row with the step it stands at,
so that a window is the running step and the whole steps before it: never less than its name says, at most one step
more. Besides the records there are two flat tables: pairs of entities with the time they were first seen together,
and the label in force of each labelled payment.

Everything is 64-bit words of NumPy, moved only by `scoring/features.py`; sums are integers (minor units of the base
currency), so nothing depends on how a stream is cut. Capacity grows before a batch, never inside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from transactions.codes import ENTITY
from transactions.facts import DAY, HOUR, MINUTE

LAYOUT_VERSION = 1

NEVER = -(2**62)  # a time, or a step, before all others

# --- the records ------------------------------------------------------------------------------------------------------

KINDS: tuple[str, ...] = (*ENTITY, "mcc", "lane")
CUSTOMER, ACCOUNT, CARD, DEVICE, IP, MERCHANT, TERMINAL, COUNTERPARTY, MCC, LANE = range(10)

# Words that every record begins with.
WORDS = (
    "key",
    "first_at",
    "last_at",
    "payments",
    "customers",  # distinct customers ever seen with it
    "cards",  # distinct cards ever seen with it
    "frauds",  # payments whose label in force is fraud
    "last_fraud",  # newest known_at of those
    "run_start",  # occurred_at of the first and last fraud of the current run, and its length
    "run_last",
    "run_length",
    "clean_since",  # occurred_at of the newest payment known to be legitimate that ended a run
    "clean_count",  # spending payments not known as fraud: count, sum, sum of squares (float64)
    "clean_sum",
    "clean_square",
    "night_payments",
)
(
    KEY,
    FIRST,
    LAST,
    PAYMENTS,
    CUSTOMERS,
    CARDS,
    FRAUDS,
    LAST_FRAUD,
    RUN_START,
    RUN_LAST,
    RUN_LENGTH,
    CLEAN_SINCE,
    CLEAN_COUNT,
    CLEAN_SUM,
    CLEAN_SQUARE,
    NIGHT,
) = range(len(WORDS))

# Rows of windows: length of a step in micro-seconds, how many are held, and the windows kept over them, in steps (the
# running one and the whole ones before it).
MINUTES, TENS, HOURS, DAYS, LABELS = range(5)
STEP = (MINUTE, 10 * MINUTE, HOUR, DAY, DAY)
SLOTS = (11, 7, 25, 31, 31)
WINDOWS = np.array([[11, 0, 0, 0], [7, 0, 0, 0], [25, 0, 0, 0], [2, 8, 15, 31], [2, 8, 15, 31]])
N_WINDOWS = (1, 1, 1, 4, 4)
D1, D7, D14, D30 = range(4)  # windows of DAYS and LABELS

_HELD = {
    "customer": (MINUTES, TENS, HOURS, DAYS, LABELS),
    "account": (HOURS, DAYS, LABELS),
    "card": (MINUTES, TENS, HOURS, DAYS, LABELS),
    "device": (TENS, HOURS, LABELS),
    "ip": (TENS, HOURS, LABELS),
    "merchant": (HOURS, DAYS, LABELS),
    "terminal": (HOURS, DAYS, LABELS),
    "counterparty": (HOURS, DAYS, LABELS),
    "mcc": (DAYS, LABELS),
    "lane": (DAYS, LABELS),
}
SET_SLOTS = (16, 8, 8)  # recent merchants, countries, devices of a customer: keys, then times


def _ring_words(ring: int) -> int:
    """Words of one row: the step it stands at; count and sum of each window; then by step, round and round, sums and
    (as halves) counts. Days also hold maxima by step and the largest of them. For labels a count is of frauds, a sum of
    legitimate ones.
    """
    n = SLOTS[ring]
    return 1 + 2 * N_WINDOWS[ring] + (1 + n if ring == DAYS else 0) + n + (n + 1) // 2


def _offsets() -> tuple[np.ndarray, tuple[int, ...], dict[str, int]]:
    offsets = np.full((len(KINDS), len(SLOTS)), -1, np.int64)
    widths, extra = [], {}
    for kind, name in enumerate(KINDS):
        at = len(WORDS)
        for ring in _HELD[name]:
            offsets[kind, ring] = at
            at += _ring_words(ring)
        if kind == CUSTOMER:
            for word in ("lat", "lon", "place_at"):
                extra[word], at = at, at + 1
            for word, n in zip(("merchants", "countries", "devices"), SET_SLOTS, strict=True):
                extra[word], at = at, at + 2 * n
        widths.append(-(-at // 8) * 8)  # records begin on a cache line
    return offsets, tuple(widths), extra


OFFSETS, WIDTHS, _EXTRA = _offsets()
LAT, LON, PLACE_AT = (
    _EXTRA["lat"],
    _EXTRA["lon"],
    _EXTRA["place_at"],
)  # lat and lon are float64; place_at NEVER = unknown
SEEN_MERCHANTS, SEEN_COUNTRIES, SEEN_DEVICES = _EXTRA["merchants"], _EXTRA["countries"], _EXTRA["devices"]
N_MERCHANTS, N_COUNTRIES, N_DEVICES = SET_SLOTS

# Rows of labels as the lane takes them in: codes of VERDICT and LABEL_SOURCE (a higher source outranks).
LABEL_ROW = np.dtype([("id", "i8"), ("transaction_id", "i8"), ("known_at", "i8"), ("verdict", "i2"), ("source", "i2")])
NONE, LEGITIMATE, FRAUD = 0, 1, 2  # a label in force

# The last word of a label's entry: day it was counted on << 16 | rank << 8 | odd amount << 4 | label in force.
RANK_SHIFT, ODD_BIT, DAY_SHIFT = 8, 16, 16


# --- hash tables ------------------------------------------------------------------------------------------------------


@njit(cache=True)
def slot_of(table: Any, key: Any) -> Any:
    """Where `key` stands in `table` (capacity a power of two; first word the key, 0 = free), or its free place."""
    mask = table.shape[0] - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(24)) & mask
    while table[slot, 0] != key and table[slot, 0] != 0:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def place_of(index: Any, key: Any, kind: Any) -> Any:
    """Where the entity (`key`, `kind`) stands in `index`, or the free place for it (second word 0)."""
    mask = index.shape[0] - 1
    mixed = (np.uint64(key) + np.uint64(kind)) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64(mixed >> np.uint64(24)) & mask
    while index[place, 1] != 0 and (index[place, 0] != key or index[place, 1] & 15 != kind):
        place = (place + 1) & mask
    return place


@njit(cache=True)
def _spread_index(index: np.ndarray, entries: np.ndarray) -> None:
    """Put `entries` (n, 2) into the empty `index`."""
    for i in range(entries.shape[0]):
        place = place_of(index, entries[i, 0], entries[i, 1] & 15)
        index[place, 0] = entries[i, 0]
        index[place, 1] = entries[i, 1]


@njit(cache=True)
def _spread(table: np.ndarray, entries: np.ndarray) -> None:
    """Put `entries` (n, words) into the empty `table`."""
    for i in range(entries.shape[0]):
        slot = slot_of(table, entries[i, 0])
        for j in range(entries.shape[1]):
            table[slot, j] = entries[i, j]


@njit(cache=True)
def _take(table: np.ndarray, rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> int:
    """Bring label rows into the table in their order; the number of payments that were not labelled before."""
    added = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        slot = slot_of(table, row.transaction_id)
        packed = table[slot, 3]
        old[i] = packed & 3
        if table[slot, 0] == 0:
            table[slot, 0] = row.transaction_id
            added += 1
            wins = True
        else:
            rank = (packed >> RANK_SHIFT) & 255
            later = row.known_at > table[slot, 1] or (row.known_at == table[slot, 1] and row.id > table[slot, 2])
            wins = row.source > rank or (row.source == rank and later)
        if wins:
            effect = row.verdict if row.verdict <= FRAUD else NONE
            table[slot, 1] = row.known_at
            table[slot, 2] = row.id
            kept = (packed >> DAY_SHIFT) << DAY_SHIFT | (packed & ODD_BIT)
            table[slot, 3] = kept | (np.int64(row.source) << RANK_SHIFT) | effect
        new[i] = table[slot, 3] & 3
    return added


def _power(n: int) -> int:
    """The smallest power of two that is at least `n` and 16."""
    return max(16, 1 << (int(n) - 1).bit_length())


class Arrays(NamedTuple):
    """What the kernel works on. Views of one memory: `words` as integers, `halves` as int32, `floats` as float64."""

    used: np.ndarray  # rows in use of each kind, then pairs, then labels, then words
    entities: np.ndarray  # (capacity, 2): key, word at which the record begins << 4 | kind
    words: np.ndarray  # every record, one after the other
    halves: np.ndarray
    floats: np.ndarray
    pairs: np.ndarray  # (capacity, 2): key of the pair, first seen together
    labels: np.ndarray  # (capacity, 4): transaction, known_at, label id, packed


PAIRS, LABELLED, USED = len(KINDS), len(KINDS) + 1, len(KINDS) + 2
KIND_BITS = 4
FIRST_WORD = 8  # no record begins at 0, so that 0 says "free" in the index
PAIRS_OF_PAYMENT = 8
WORDS_OF_PAYMENT = sum(WIDTHS)

_MAGIC = b"profiles\n"


class BadSnapshot(ValueError):
    """A file of profiles that is damaged, of another layout, or not the one that was asked for."""


class Profiles:
    """The memory of one lane, and the place in its log (`epoch`, `seq`, `token`) that it stands for."""

    def __init__(self, lane: int = 0) -> None:
        self.lane = lane
        self.epoch = 0
        self.seq = 0
        self.token = bytes(16)
        self._used = np.zeros(len(KINDS) + 3, np.int64)
        self._used[USED] = FIRST_WORD
        self._index = np.zeros((16, 2), np.int64)
        self._words = np.zeros(4096, np.int64)
        self._pairs = np.zeros((16, 2), np.int64)
        self._labels = np.zeros((16, 4), np.int64)
        self.arrays = self._bind()

    def _bind(self) -> Arrays:
        words = self._words
        views = words, words.view(np.int32), words.view(np.float64)
        return Arrays(self._used, self._index, *views, self._pairs, self._labels)

    # --- room

    def reserve(self, payments: int) -> None:
        """Make room for what `payments` more may bring: at most one new entity of each kind, and their pairs."""
        used = self._used
        entities = 2 * (int(used[: len(KINDS)].sum()) + len(KINDS) * payments)
        words = int(used[USED]) + WORDS_OF_PAYMENT * payments
        pairs = 2 * (int(used[PAIRS]) + PAIRS_OF_PAYMENT * payments)
        if words > len(self._words) or entities > len(self._index) or pairs > len(self._pairs):
            self._grow(words, entities, pairs)

    def _grow(self, words: int, entities: int, pairs: int) -> None:
        if words > len(self._words):
            wider = np.zeros(_power(words), np.int64)
            wider[: self._used[USED]] = self._words[: self._used[USED]]
            self._words = wider
        if entities > len(self._index):
            self._index = _index(self._entities(), entities)
        if pairs > len(self._pairs):
            self._pairs = _table(self._pairs[self._pairs[:, 0] != 0], pairs)
        self.arrays = self._bind()

    def _entities(self) -> np.ndarray:
        return self._index[self._index[:, 1] != 0]

    # --- labels

    def take_labels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take label rows in, in their order: the labels in force before and after each, two int8 arrays.

        `rows` has dtype LABEL_ROW (transaction ids are at least 1). In force is the row that is highest by rank of its
        source, then known_at, then id, of all rows taken in so far; a withdrawn verdict in force means none. Only the
        table of labels changes here: risk moves when `features.advance` sees the label event.
        """
        need = 2 * (int(self._used[LABELLED]) + len(rows))
        if need > len(self._labels):
            self._labels = _table(self._labels[self._labels[:, 0] != 0], need)
            self.arrays = self._bind()
        old, new = np.zeros(len(rows), np.int8), np.zeros(len(rows), np.int8)
        if len(rows):
            self._used[LABELLED] += _take(self._labels, np.ascontiguousarray(rows, LABEL_ROW), old, new)
        return old, new

    # --- content

    def count(self, kind: str) -> int:
        """How many entities of `kind` are known."""
        return int(self._used[KINDS.index(kind)])

    def memory(self) -> dict[str, int]:
        """Bytes in use by kind of entity (records with their share of the index), and by `pairs` and `labels`."""
        held = {kind: int(self._used[i]) * (WIDTHS[i] * 8 + 32) for i, kind in enumerate(KINDS)}
        return {**held, "pairs": int(self._used[PAIRS]) * 32, "labels": int(self._used[LABELLED]) * 64}

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
        for table in (self._pairs, self._labels):
            entries = table[table[:, 0] != 0]
            digest.update(entries[np.argsort(entries[:, 0])].tobytes())
        return digest.digest()

    def _parts(self) -> list[tuple[str, np.ndarray]]:
        pairs, labels = (table[table[:, 0] != 0] for table in (self._pairs, self._labels))
        words = self._words[: self._used[USED], None]
        return [("used", self._used[:, None]), ("entities", self._entities()), ("words", words),
                ("pairs", pairs), ("labels", labels)]  # fmt: skip

    def save(self, path: Path | str) -> str:
        """Write a snapshot that is either wholly there or not at all; its SHA-256 as hex."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.aside")
        try:
            with open(aside, "wb") as file:
                sha256 = self._write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return sha256

    def _write(self, file) -> str:
        parts = self._parts()
        header = {
            "layout": LAYOUT_VERSION,
            "widths": WIDTHS,
            "lane": self.lane,
            "epoch": self.epoch,
            "seq": self.seq,
            "token": self.token.hex(),
            "parts": [[name, *part.shape] for name, part in parts],
        }
        digest = hashlib.sha256()
        head = _MAGIC + json.dumps(header).encode() + b"\n"
        blocks: list[bytes | memoryview] = [head]
        blocks += [np.ascontiguousarray(part).data.cast("B") for _, part in parts if len(part)]
        for block in blocks:
            digest.update(block)
            file.write(block)
        file.write(digest.digest())
        return digest.hexdigest()

    @classmethod
    def load(cls, path: Path | str, sha256: str = "") -> Self:
        """The profiles in the file at `path`, checked against its own hash, and against `sha256` if given.

        Raises BadSnapshot for a damaged or foreign file, FileNotFoundError if there is none.
        """
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            header = _read_header(file, digest)
            profiles = cls(header["lane"])
            profiles.epoch, profiles.seq = header["epoch"], header["seq"]
            profiles.token = bytes.fromhex(header["token"])
            parts = [_read_part(file, digest, rows, words) for _, rows, words in header["parts"]]
            if file.read() != digest.digest() or sha256 not in ("", digest.hexdigest()):
                raise BadSnapshot(f"{Path(path).name} is not the snapshot that was written.")
        profiles._fill(*parts)
        return profiles

    def _fill(
        self, used: np.ndarray, entities: np.ndarray, words: np.ndarray, pairs: np.ndarray, labels: np.ndarray
    ) -> None:
        self._used = used[:, 0].copy()
        self._words = words[:, 0]
        self._index = _index(entities, 2 * len(entities))
        self._pairs = _table(pairs, 2 * len(pairs))
        self._labels = _table(labels, 2 * len(labels))
        self.arrays = self._bind()


def _index(entities: np.ndarray, capacity: int) -> np.ndarray:
    index = np.zeros((_power(capacity), 2), np.int64)
    _spread_index(index, entities)
    return index


def _table(entries: np.ndarray, capacity: int) -> np.ndarray:
    table = np.zeros((_power(capacity), entries.shape[1]), np.int64)
    _spread(table, entries)
    return table


def _read_header(file, digest) -> dict:
    magic = file.read(len(_MAGIC))
    line = file.readline(65_536)
    digest.update(magic + line)
    if magic != _MAGIC:
        raise BadSnapshot("This is no file of profiles.")
    try:
        header = json.loads(line)
        layout, widths = header["layout"], tuple(header["widths"])
    except (ValueError, KeyError) as error:
        raise BadSnapshot("The snapshot's header cannot be read.") from error
    if layout != LAYOUT_VERSION or widths != WIDTHS:
        raise BadSnapshot(f"The snapshot has layout {layout}; this kernel reads {LAYOUT_VERSION}.")
    return header


def _read_part(file, digest, rows: int, words: int) -> np.ndarray:
    part = np.empty((rows, words), np.int64)
    if rows:
        block = part.data.cast("B")
        if file.readinto(block) != len(block):
            raise BadSnapshot("The snapshot ends too early.")
        digest.update(block)
    return part
