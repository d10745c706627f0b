"""Epochs: a lane's memory rebuilt beside live traffic, and the two replays that rebuilding rests on.

*Log replay* goes by `seq` and gives every live feature vector bit for bit. *Time replay* goes by what happened when:
payments by (occurred_at, id), each label by (the moment it became known, id) and never before its payment; of one
moment the payments come first. It builds what history would have shown: the base of a new epoch, and the rows that
training on imports sees.

A new epoch is built by anybody, without a lock: the base of exactly the payments and labels that the log held at s0,
and of the finished imports that are listed, with their labels. Then an `Epoch` row says READY. The lane's owner finds
it between two claims, brings the file up to its own cursor by log replay, saves that as the base of the epoch, and
switches by one row of the log.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import numpy as np
from django.conf import settings
from django.db import connection
from django.utils import timezone

from scoring import features, snapshots
from scoring.models import LOG_KIND, Epoch, LaneCursor
from scoring.profiles import LABEL_ROW, LAYOUT_VERSION, NEVER, Profiles
from scoring.snapshots import BadSnapshot
from transactions import binary
from transactions.codes import ENTITY, INTAKE
from transactions.facts import FACT_COLUMNS, FACTS
from transactions.models import ImportJob

if TYPE_CHECKING:
    from scoring.lanes import Lane

log = logging.getLogger(__name__)

SAVE_AGAIN_SECONDS = 60.0  # before a base that the disk had no room for is saved again
BATCH = 32_768  # payments, or rows of the log, replayed at once
HISTORY = INTAKE.code("history")
JUDGED, PROFILED, LABEL, EPOCH = (LOG_KIND.code(kind) for kind in ("judged", "profiled", "label", "epoch"))

LEFT_OUT = -1  # `old` of the log row of a payment (decided by the fallback) or label that never entered the profiles

OnBatch = Callable[[np.ndarray, np.ndarray], None]


class LogDiffers(Exception):
    """Replaying the log gave another effective label than the log holds: memory and log are not one history."""


class NoBase(Exception):
    """The base file of the running epoch is not on this disk; without it the lane's memory cannot be rebuilt."""


# --- log replay -------------------------------------------------------------------------------------------------------

# What moves the profiles: all that the kernel reads of a payment when no feature row is wanted.
_JUDGED_BY = ("mcc", "type", "stage", "direction", "sca", "three_ds")
_MOVING = {"id", "occurred_at", "amount_base", "original", "original_at", *ENTITY, *_JUDGED_BY}
_MOVING |= {"lat", "lon", "merchant_country", "location_country", "import_job"}
MOVING = np.dtype([(name, FACTS[name]) for name in FACT_COLUMNS if name in _MOVING])

_LOGGED = np.dtype(
    [
        ("seq", "i8"),
        ("log_kind", "i2"),
        ("old", "i2"),
        ("new", "i2"),
        ("label_id", "i8"),
        ("known_at", "i8"),
        ("verdict", "i2"),
        ("source", "i2"),
    ]
)
_LOG_ROWS = """
    SELECT COLUMNS, g.seq, g.kind, coalesce(g.old, 0::smallint),
           coalesce(g.new, 0::smallint), coalesce(g.label_id, 0), coalesce(l.known_at, t.occurred_at),
           coalesce(l.verdict, 0::smallint), coalesce(l.source, 0::smallint)
      FROM lane_log g JOIN transaction t ON t.id = g.transaction_id LEFT JOIN label l ON l.id = g.label_id
     WHERE g.lane = %(lane)s AND g.seq > %(after)s AND g.seq <= %(upto)s ORDER BY g.seq"""


def log_replay(
    cursor: Any, profiles: Profiles, lane_id: int, *, upto: int, on_batch: OnBatch | None = None, rows: int = BATCH
) -> None:
    """Bring `profiles` from its own seq to `upto` by the lane's log, `rows` at a time, one query on `cursor` each.

    `on_batch(events, matrix)` gets the events (dtype features.EVENT) and their feature rows (n, N_FEATURES), as they
    were when they were judged; without it no rows are made, which is twice as fast. Raises LogDiffers.
    """
    facts = MOVING if on_batch is None else FACTS
    dtype = np.dtype([*((name, facts[name]) for name in facts.names or ()), *_LOGGED.descr])
    select = _LOG_ROWS.replace("COLUMNS", _listed(facts, "t."))
    while profiles.seq < upto:
        last = min(profiles.seq + rows, upto)
        bounds = {"lane": lane_id, "after": profiles.seq, "upto": last}
        events = _logged_events(profiles, binary.fetch(cursor, select, bounds, dtype), facts)
        matrix = features.advance(profiles, events, emit=on_batch is not None).matrix
        if on_batch is not None and len(events):
            on_batch(events, matrix)
        profiles.epoch, profiles.seq, profiles.token = _log_row(cursor, lane_id, last)


def _listed(facts: np.dtype, prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in facts.names or ())


def _logged_events(profiles: Profiles, logged: np.ndarray, facts: np.dtype) -> np.ndarray:
    """Log rows as events; their labels are taken in, and must change what the log says they changed."""
    logged = logged[logged["old"] != LEFT_OUT]
    events = _events_of(logged, facts)
    events["kind"], events["seq"] = logged["log_kind"] - 1, logged["seq"]
    labels = np.flatnonzero(logged["log_kind"] == LABEL)
    if len(labels):
        events["known_at"][labels] = logged["known_at"][labels]
        old, new = profiles.take_labels(_label_rows(logged[labels]))
        differ = np.flatnonzero((old != logged["old"][labels]) | (new != logged["new"][labels]))
        if len(differ):
            raise LogDiffers(
                f"label {logged['label_id'][labels[differ[0]]]} changes something else than its log row says"
            )
        events["old"][labels], events["new"][labels] = old, new
    return events


def _events_of(records: np.ndarray, facts: np.dtype) -> np.ndarray:
    """Events of payments of which only the columns `facts` are known, their kind by stage and type."""
    events = np.zeros(len(records), features.EVENT)
    for name in facts.names or ():
        events[name] = records[name]
    events["kind"] = features.kinds_of(records)
    return events


def _label_rows(logged: np.ndarray) -> np.ndarray:
    rows = np.zeros(len(logged), LABEL_ROW)
    rows["id"], rows["transaction_id"] = logged["label_id"], logged["id"]
    for name in ("known_at", "verdict", "source"):
        rows[name] = logged[name]
    return rows


def _columns(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The fields of `dtype` out of a wider structured array."""
    narrow = np.empty(len(array), dtype)
    for name in dtype.names or ():
        narrow[name] = array[name]
    return narrow


def _log_row(cursor: Any, lane_id: int, seq: int) -> tuple[int, int, bytes]:
    cursor.execute("SELECT epoch, seq, uuid_send(token) FROM lane_log WHERE lane = %s AND seq = %s", [lane_id, seq])
    row = cursor.fetchone()
    if row is None:
        raise LogDiffers(f"the log of lane {lane_id} has no row {seq}")
    return row[0], row[1], bytes(row[2])


# --- time replay ------------------------------------------------------------------------------------------------------

# What the kernel reads of a labelled payment: this much of it waits until its label is known.
_OF_LABELLED = {"id", "occurred_at", "amount_base", "original", *ENTITY, *_JUDGED_BY}
_LABELLED = np.dtype([(name, FACTS[name]) for name in FACT_COLUMNS if name in _OF_LABELLED])
_WAITING = np.dtype([("arrival", "i8"), ("label", "i8"), ("payment", _LABELLED)])


class _Labels:
    """Labels on their way in a time replay: matched with their payments as these pass, given out when known."""

    def __init__(self, rows: np.ndarray, delay: int) -> None:
        self.rows = rows[np.argsort(rows["transaction_id"], kind="stable")]
        self.payments = np.ascontiguousarray(self.rows["transaction_id"])
        self.delay = delay
        self.waiting: list[np.ndarray] = []

    def note(self, facts: np.ndarray) -> None:
        """Take up the labels of payments that are passing."""
        first = np.searchsorted(self.payments, facts["id"], "left")
        counts = np.searchsorted(self.payments, facts["id"], "right") - first
        labelled = np.flatnonzero(counts)
        if not len(labelled):
            return
        counts = counts[labelled]
        payment = np.repeat(labelled, counts)
        within = np.arange(len(payment)) - np.repeat(np.cumsum(counts) - counts, counts)
        waiting = np.zeros(len(payment), _WAITING)
        waiting["label"] = first[payment] + within
        waiting["payment"] = _columns(facts[payment], _LABELLED)
        known, happened = self.rows["known_at"][waiting["label"]], facts["occurred_at"][payment]
        waiting["arrival"] = np.where(known == NEVER, happened + self.delay, np.maximum(known, happened))
        self.waiting.append(waiting[np.argsort(waiting["arrival"], kind="stable")])

    def due(self, before: int | None) -> np.ndarray:
        """Those that arrive before `before` (None = all that are left), by arrival and id."""
        found, left = [], []
        for chunk in self.waiting:
            cut = len(chunk) if before is None else int(np.searchsorted(chunk["arrival"], before))
            found.append(chunk[:cut])
            if cut < len(chunk):
                left.append(chunk[cut:])
        self.waiting = left
        due = np.concatenate(found) if found else np.empty(0, _WAITING)
        return due[np.lexsort((self.rows["id"][due["label"]], due["arrival"]))]

    def events(self, profiles: Profiles, due: np.ndarray) -> np.ndarray:
        """Take the labels in that are due; their events."""
        facts = np.zeros(len(due), FACTS)
        for name in _LABELLED.names or ():
            facts[name] = due["payment"][name]
        rows = self.rows[due["label"]].copy()
        rows["known_at"] = due["arrival"]
        return features.label_events(profiles, rows, facts)


def time_replay(
    facts_batches: Iterable[np.ndarray],
    label_rows: np.ndarray | None = None,
    profiles: Profiles | None = None,
    *,
    delay: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk payments and labels through the kernel in order of time; yields (facts, matrix (n, N_FEATURES)) per batch.

    `facts_batches`: arrays of dtype FACTS, ordered by (occurred_at, id) throughout, ids at least 1. `label_rows`: dtype
    profiles.LABEL_ROW, in any order; a label enters at its `known_at`, never before its payment, and where `known_at`
    is profiles.NEVER `delay` micro-seconds after its payment. Labels of payments that never pass are left out.
    `profiles` moves on; after the last batch it has also taken in the labels that are still to come. Raises ValueError
    when the order is broken.
    """
    batches = ((facts, features.events_from_facts(facts)) for facts in facts_batches)
    for facts, advanced in _replay(batches, label_rows, Profiles() if profiles is None else profiles, delay):
        yield facts, advanced.matrix


def _replay(
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    label_rows: np.ndarray | None,
    profiles: Profiles,
    delay: int,
    *,
    emit: bool = True,
) -> Iterator[tuple[np.ndarray, features.Advanced]]:
    """Walk batches of payments and their events, with the labels that became known between them."""
    labels = _Labels(np.empty(0, LABEL_ROW) if label_rows is None else label_rows, delay)
    last = NEVER
    for facts, payments in batches:
        if not len(facts):
            continue
        last = _in_order(facts["occurred_at"], last)
        labels.note(facts)
        known = labels.due(last)
        events, at = _merge(payments, labels.events(profiles, known), known["arrival"])
        matrix, links = features.advance(profiles, events, emit=emit)
        yield facts, features.Advanced(matrix if len(events) == len(facts) or not emit else matrix[at], links)
    rest = labels.due(None)
    for start in range(0, len(rest), BATCH):
        features.advance(profiles, labels.events(profiles, rest[start : start + BATCH]), emit=False)


def _in_order(times: np.ndarray, last: int) -> int:
    if times[0] < last or (np.diff(times) < 0).any():
        raise ValueError("payments must be ordered by occurred_at")
    return int(times[-1])


def _merge(payments: np.ndarray, labels: np.ndarray, arrivals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in one order of time, payments first where it is the same; and where the payments stand in it."""
    if not len(labels):
        return payments, np.arange(len(payments))
    events = np.empty(len(payments) + len(labels), features.EVENT)
    behind = np.searchsorted(payments["occurred_at"], arrivals, "right") + np.arange(len(labels))
    is_payment = np.ones(len(events), bool)
    is_payment[behind] = False
    events[behind] = labels
    at = np.flatnonzero(is_payment)
    events[at] = payments
    return events, at


# --- streaming from Postgres ------------------------------------------------------------------------------------------


PIECE = 200_000  # rows fetched at once


def stream(
    cursor: Any, select: str, params: dict[str, Any], dtype: np.dtype, *, rows: int = BATCH
) -> Iterator[np.ndarray]:
    """The rows of `select` as arrays of `dtype` of at most `rows`, in bounded memory: spooled through a temporary file.

    Columns as `binary.fetch` wants them: fixed width, none NULL.
    """
    with _spooled(cursor, select, params) as file:
        yield from _records(file, dtype, rows)


def _spooled(cursor: Any, select: str, params: dict[str, Any]) -> IO[bytes]:
    """What COPY BINARY gives, in an unnamed file that the caller closes."""
    file = _unnamed_file()
    cursor.copy_expert(f"COPY ({cursor.mogrify(select, params).decode()}) TO STDOUT (FORMAT binary)", file)
    file.seek(len(binary.HEADER))
    return file


def _unnamed_file() -> io.BufferedRandom:
    """A file beside the profiles, where there is room for it, that is gone once it is closed."""
    folder = Path(settings.PROFILE_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def _records(file: IO[bytes], dtype: np.dtype, rows: int) -> Iterator[np.ndarray]:
    names = dtype.names or ()
    width = 2 + sum(4 + dtype[name].itemsize for name in names)
    raw = file.read(width * rows)
    while raw and raw != binary.TRAILER:
        if len(raw) % width == len(binary.TRAILER):
            raw = raw[: -len(binary.TRAILER)]
        yield binary.parse(b"".join((binary.HEADER, raw, binary.TRAILER)), dtype)
        raw = file.read(width * rows)


class Runs:
    """Records (with `occurred_at` and `id`) in order of time whatever order they come in, in bounded memory.

    Each piece is sorted and written to an unnamed file; reading takes a stretch of time out of every piece at once.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.file = _unnamed_file()
        self.runs: list[_Run] = []
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def add(self, records: np.ndarray) -> None:
        """Take a piece in, of a size that fits into memory twice."""
        if len(records):
            ordered = _by_time(records)
            self.file.seek(0, os.SEEK_END)
            self.file.write(ordered.data)
            self.runs.append(_Run(self.count, len(ordered), np.ascontiguousarray(ordered["occurred_at"][::SAMPLED])))
            self.count += len(ordered)

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """All of them in order of (occurred_at, id), about `rows` at a time; what happened at one moment together."""
        if not self.runs:
            return
        samples = np.sort(np.concatenate([run.samples for run in self.runs]))
        cuts = np.unique(samples[:: max(1, rows // SAMPLED)])[1:]
        before = [0] * len(self.runs)
        for cut in [*cuts.tolist(), None]:
            upto = [run.size if cut is None else self._place(run, cut) for run in self.runs]
            stretches = zip(self.runs, before, upto, strict=True)
            parts = [self._read(run, begin, end) for run, begin, end in stretches if begin < end]
            before = upto
            if parts:
                yield _by_time(np.concatenate(parts))

    def _place(self, run: _Run, cut: int) -> int:
        """How many records of a run happened before `cut`."""
        after = int(np.searchsorted(run.samples, cut))
        begin, end = max(after - 1, 0) * SAMPLED, min(after * SAMPLED, run.size)
        return begin + int(np.searchsorted(self._read(run, begin, end)["occurred_at"], cut))

    def _read(self, run: _Run, begin: int, end: int) -> np.ndarray:
        """Records of a run. Read, not mapped: mapped pages would count as this process's memory."""
        part = np.empty(end - begin, self.dtype)
        self.file.seek((run.start + begin) * self.dtype.itemsize)
        self.file.readinto(part.data)
        return part

    def close(self) -> None:
        """Give the disk back."""
        self.file.close()


SAMPLED = 1_024  # of so many records of a run one time is held in memory


class _Run(NamedTuple):
    start: int
    size: int
    samples: np.ndarray  # of `occurred_at`, every SAMPLED-th


def _by_time(records: np.ndarray) -> np.ndarray:
    times, ids = records["occurred_at"], records["id"]
    ahead, same = times[1:] > times[:-1], times[1:] == times[:-1]
    if (ahead | (same & (ids[1:] > ids[:-1]))).all():
        return np.ascontiguousarray(records)
    return records[np.lexsort((ids, times))]


# --- building ---------------------------------------------------------------------------------------------------------

# Exactly what the log held at s0, and the listed imports: never "what is in the table".
_LOGGED_IDS = f"""
    SELECT transaction_id FROM lane_log
     WHERE lane = %(lane)s AND seq > %(after)s AND seq <= %(upto)s AND kind IN ({JUDGED}, {PROFILED})"""
_LIVE = f"SELECT {_listed(MOVING)} FROM transaction WHERE lane = %(lane)s AND intake <> {HISTORY}"
_IMPORTED = f"""
    SELECT {_listed(MOVING)} FROM transaction
     WHERE lane = %(lane)s AND intake = {HISTORY} AND import_job = ANY(%(imports)s)
       AND id > %(after)s AND id <= %(upto)s"""
_IMPORTED_IDS = """
    SELECT coalesce(min(coalesce(first_id, 1)), 1) - 1,
           max(coalesce(last_id, (SELECT last_value FROM transaction_id_seq)))
      FROM transactions_importjob WHERE id = ANY(%(imports)s) AND kind = 'transactions'"""
# Labels of imports count as the base's own only for imported payments: those of live payments come by the log.
IMPORTED_LABEL = f"""
    l.import_job = ANY(%(imports)s) AND EXISTS (
        SELECT FROM transaction b WHERE b.id = l.transaction_id AND b.lane = l.lane AND b.intake = {HISTORY}
           AND b.import_job = ANY(%(imports)s))"""
_LEFT_OUT = f"""
    SELECT transaction_id FROM lane_log
     WHERE lane = %(lane)s AND seq <= %(seq)s AND old = {LEFT_OUT} AND kind <> {LABEL}"""
_LABELS = f"""
    SELECT l.id, l.transaction_id, l.known_at, l.verdict, l.source FROM label l
      JOIN lane_log g ON g.label_id = l.id WHERE g.lane = %(lane)s AND g.seq <= %(seq)s AND g.old <> {LEFT_OUT}
     UNION
    SELECT l.id, l.transaction_id, l.known_at, l.verdict, l.source FROM label l
     WHERE l.lane = %(lane)s AND {IMPORTED_LABEL}"""


class Progress(NamedTuple):
    """How far a build is: payments replayed, of how many."""

    done: int
    total: int


def finished_imports(lane_id: int) -> list[int]:
    """The import jobs whose payments and labels belong into a base: finished, and not decided as if live."""
    jobs = ImportJob.objects.filter(lane_id=lane_id, status=ImportJob.Status.FINISHED, decide=False)
    return list(jobs.order_by("pk").values_list("pk", flat=True))


def build(
    lane_id: int,
    *,
    imports: list[int] | None = None,
    reason: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
) -> Epoch:
    """Build the lane's next epoch beside live traffic and commit it as READY; the lane's owner will switch to it.

    `imports`: ids of finished import jobs, of payments or labels (None = all); they are all the history that the epoch
    will have besides the log. Raises UnknownImport.
    """
    known = finished_imports(lane_id)
    chosen = known if imports is None else sorted(set(imports))
    if missing := sorted(set(chosen) - set(known)):
        raise UnknownImport(f"Import {missing[0]} is not a finished import of this lane.")
    cursor_row = LaneCursor.objects.filter(lane_id=lane_id).first()
    epoch, seq, token = (cursor_row.epoch, cursor_row.seq, cursor_row.token) if cursor_row else (0, 0, UUID(int=0))
    profiles = Profiles(lane_id)
    payments, labels = _build_base(profiles, {"lane": lane_id, "seq": seq, "imports": chosen}, progress)
    profiles.epoch, profiles.seq, profiles.token = epoch + 1, seq, token.bytes
    path = _folder(lane_id) / f"{epoch + 1:06d}-{seq:014d}-{uuid4().hex[:8]}.profiles"
    sha256 = snapshots.save(profiles, path)
    replaced = Epoch.objects.filter(lane_id=lane_id, number=epoch + 1).values_list("file", flat=True).first()
    row, _ = Epoch.objects.update_or_create(
        lane_id=lane_id,
        number=epoch + 1,
        defaults={
            "status": Epoch.Status.READY,
            "seq": seq,
            "token": token,
            "file": _relative(path),
            "sha256": sha256,
            "layout_version": LAYOUT_VERSION,
            "imports": chosen,
            "payments": payments,
            "labels": labels,
            "reason": reason,
            "built_at": timezone.now(),
        },
    )
    if replaced:
        (Path(settings.PROFILE_DIR) / replaced).unlink(missing_ok=True)
    return row


class UnknownImport(Exception):
    """An import job that is not there, not this lane's, not finished, or was decided as if live."""


def _build_base(profiles: Profiles, base: dict[str, Any], progress: Callable[[Progress], None]) -> tuple[int, int]:
    """Time replay of the payments and labels of `base` (lane, seq, imports); how many there were of each."""
    with connection.cursor() as cursor, closing(Runs(MOVING)) as runs:
        labels = list(stream(cursor, _LABELS, base, LABEL_ROW, rows=1_000_000))
        label_rows = np.concatenate(labels) if labels else np.empty(0, LABEL_ROW)
        cursor.execute(_LEFT_OUT, base)
        left_out = np.array([row[0] for row in cursor.fetchall()], "i8")
        for piece in _pieces(cursor, base):
            runs.add(piece)
        done = 0
        batches = ((facts, _moving_events(facts, left_out)) for facts in runs.batches(BATCH))
        for facts, advanced in _replay(batches, label_rows, profiles, 0, emit=False):
            _keep_links(cursor, int(base["lane"]), advanced.links, facts)
            done += len(facts)
            progress(Progress(done, len(runs)))
    return done, len(label_rows)


def _moving_events(facts: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    events = _events_of(facts, MOVING)
    if len(left_out):
        events["kind"][np.isin(facts["id"], left_out)] = features.PASSED
    return events


def _pieces(cursor: Any, base: dict[str, Any]) -> Iterator[np.ndarray]:
    """The payments of a base, dtype MOVING, in no order: by stretches of the log, then of the imports' ids."""
    for after in range(0, base["seq"], PIECE):
        bounds = {"lane": base["lane"], "after": after, "upto": min(after + PIECE, base["seq"])}
        ids = binary.fetch(cursor, _LOGGED_IDS, bounds, np.dtype([("id", "i8")]))["id"]
        yield _live(cursor, base["lane"], np.sort(ids))
    cursor.execute(_IMPORTED_IDS, base)
    first, last = cursor.fetchone()
    for after in range(first, last or first, PIECE):
        yield binary.fetch(cursor, _IMPORTED, base | {"after": after, "upto": min(after + PIECE, last)}, MOVING)


def _live(cursor: Any, lane_id: int, ids: np.ndarray) -> np.ndarray:
    """Live payments by their sorted ids: as one stretch where they lie close together, which they nearly always do."""
    if not len(ids):
        return np.empty(0, MOVING)
    first, last = int(ids[0]), int(ids[-1])
    if last - first < 4 * len(ids):
        bounds = {"lane": lane_id, "first": first, "last": last}
        found = binary.fetch(cursor, f"{_LIVE} AND id BETWEEN %(first)s AND %(last)s", bounds, MOVING)
        return found if len(found) == len(ids) else found[np.isin(found["id"], ids)]
    return binary.fetch(
        cursor, f"{_LIVE} AND id = ANY(%(ids)s::bigint[])", {"lane": lane_id, "ids": ids.tolist()}, MOVING
    )


def _keep_links(cursor: Any, lane_id: int, links: np.ndarray, facts: np.ndarray) -> None:
    """Insert the pairs that imported payments show, in small commits by key order: the lane inserts here too."""
    imported = facts["id"][facts["import_job"] != 0]
    links = links[np.isin(links["transaction_id"], imported)]
    if not len(links):
        return
    cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS found_link (LIKE entity_link)")
    cursor.execute("TRUNCATE found_link")
    kinds = {
        "left_kind": "int2",
        "left_key": "int8",
        "right_kind": "int2",
        "right_key": "int8",
        "seen_at": "timestamptz",
    }
    columns: dict[str, Any] = {name: (kind, links[name]) for name, kind in kinds.items()}
    binary.store(
        cursor,
        "found_link",
        {"lane": ("int2", lane_id), "transaction_id": ("int8", links["transaction_id"]), **columns},
    )
    cursor.execute(
        "INSERT INTO entity_link SELECT * FROM found_link"
        " ORDER BY lane, left_kind, left_key, right_kind, right_key ON CONFLICT DO NOTHING"
    )


def _folder(lane_id: int) -> Path:
    return Path(settings.PROFILE_DIR) / f"lane-{lane_id}" / "epochs"


def _relative(path: Path) -> str:
    return str(path.relative_to(settings.PROFILE_DIR))


# --- what a lane stands on --------------------------------------------------------------------------------------------


def imports_of(cursor: Any, lane_id: int, number: int) -> list[int]:
    """The import jobs whose payments and labels are in the base of the lane's epoch `number`."""
    cursor.execute("SELECT imports FROM scoring_epoch WHERE lane_id = %s AND number = %s", [lane_id, number])
    row = cursor.fetchone()
    return list(row[0]) if row else []


def base(cursor: Any, lane_id: int, number: int) -> Profiles:
    """The profiles that epoch `number` of the lane began with; 0 began with nothing. Raises NoBase, BadSnapshot."""
    if number == 0:
        return Profiles(lane_id)
    cursor.execute(
        "SELECT base_file, base_sha256 FROM scoring_epoch WHERE lane_id = %s AND number = %s AND status = 'live'",
        [lane_id, number],
    )
    row = cursor.fetchone()
    if row is None:
        raise NoBase(f"Lane {lane_id} runs epoch {number}, of which there is no record.")
    try:
        return snapshots.load(Path(settings.PROFILE_DIR) / row[0], row[1])
    except FileNotFoundError as error:
        raise NoBase(f"Lane {lane_id} needs {row[0]} below the folder of profiles.") from error


# --- switching, by the lane's owner -----------------------------------------------------------------------------------


class _Ready(NamedTuple):
    id: int
    number: int
    seq: int
    token: bytes
    file: str
    sha256: str


def switch_if_ready(lane: Lane) -> bool:
    """Switch the lane to its next epoch if one is ready; called by the owner between claims. True if it switched.

    The memory is replaced, and the log gains one row. A file that cannot be used (damaged, or of another history) marks
    its epoch as failed. Raises what `Lane.commit` raises.
    """
    memory = lane.memory
    if memory is None or time.monotonic() < lane.switch_again_at:
        return False
    ready = _ready(lane.cursor, lane.id, memory.epoch + 1)
    if ready is None:
        return False
    try:
        fresh = _caught_up(lane.cursor, lane.id, ready, memory)
    except (BadSnapshot, FileNotFoundError, LogDiffers) as error:
        log.error("lane %s cannot switch to epoch %s: %s", lane.id, ready.number, error)
        lane.cursor.execute(
            "UPDATE scoring_epoch SET status = 'failed' WHERE id = %s AND status = 'ready' AND file = %s",
            [ready.id, ready.file],
        )
        return False
    path = _folder(lane.id) / f"{ready.number:06d}-base-{uuid4().hex[:8]}.profiles"
    try:
        sha256 = snapshots.save(fresh, path)
    except OSError as error:  # a full disk: the epoch stays ready, and the lane in the one before
        log.error("lane %s cannot save the base of epoch %s: %s", lane.id, ready.number, error)
        lane.switch_again_at = time.monotonic() + SAVE_AGAIN_SECONDS
        return False
    switched = _commit_switch(lane, ready, fresh, path, sha256)
    (path if not switched else Path(settings.PROFILE_DIR) / ready.file).unlink(missing_ok=True)
    return switched


def _ready(cursor: Any, lane_id: int, number: int) -> _Ready | None:
    cursor.execute(
        "SELECT id, number, seq, uuid_send(token), file, sha256 FROM scoring_epoch"
        " WHERE lane_id = %s AND number = %s AND status = 'ready'",
        [lane_id, number],
    )
    row = cursor.fetchone()
    return _Ready(row[0], row[1], row[2], bytes(row[3]), row[4], row[5]) if row else None


def _caught_up(cursor: Any, lane_id: int, ready: _Ready, memory: Profiles) -> Profiles:
    """The epoch's file, brought to where `memory` stands."""
    fresh = snapshots.load(Path(settings.PROFILE_DIR) / ready.file, ready.sha256)
    if fresh.seq > 0 and _log_row(cursor, lane_id, fresh.seq)[2] != ready.token:
        raise LogDiffers(f"the file was built on another history of lane {lane_id}")
    log_replay(cursor, fresh, lane_id, upto=memory.seq)
    fresh.epoch, fresh.seq, fresh.token = ready.number, memory.seq, bytes(memory.token)
    return fresh


def _commit_switch(lane: Lane, ready: _Ready, fresh: Profiles, path: Path, sha256: str) -> bool:
    """One commit: the log row of kind epoch, the epoch live, the cursor moved. Then the memory is the new one.

    False, and nothing done, if the epoch was built anew while its file was loaded.
    """
    with lane.commit() as commit:
        seq, cursor = commit.before.seq + 1, commit.cursor
        cursor.execute(
            "UPDATE scoring_epoch SET status = 'live', base_file = %s, base_sha256 = %s, switched_at = now(),"
            " switched_seq = %s WHERE id = %s AND status = 'ready' AND file = %s",
            [_relative(path), sha256, seq, ready.id, ready.file],
        )
        if cursor.rowcount != 1:
            return False  # nothing to commit: rolled back, the memory stays
        cursor.execute(
            "INSERT INTO lane_log (lane, seq, epoch, token, kind) VALUES (%s, %s, %s, %s::uuid, %s)",
            [lane.id, seq, ready.number, str(UUID(bytes=commit.token)), EPOCH],
        )
        commit.memory = fresh
        commit.to(seq, epoch=ready.number)
    lane.imports = imports_of(lane.cursor, lane.id, ready.number)
    return True
