"""A bank's own history by file: payments and labels, resumable after a kill, without loss and without doubles.

An `ImportJob` is one file with one mapping for one client. How far it has come (`next_row`) is committed together with
the rows, so a job that was killed goes on where its last commit ended; natural keys make a payment that is there
already count as known. Rows that break the schema go to `<file>.rejects.csv`, written before the commit that passes
them.

Payments enter as intake `history`: owed no decision, they reach profiles by an epoch. With `decide` they enter live, as
if they had arrived when they happened. Labels without `known_at` are known from the job's start on, and bear `known_at
= recorded_at` as the sign that none was given.
"""

from __future__ import annotations

import csv
import gc
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from django.conf import settings
from django.db import connection, connections
from django.db.models import F
from django.db.transaction import atomic
from django.utils import timezone

from transactions import batches, labelling, partitions, querysets, rates, schema, services
from transactions.files import Batch, Table, open_table
from transactions.mapping import Mapping, Reader, plain_mapping, read_mapping
from transactions.models import ApiClient, ImportJob
from transactions.problems import FieldError, Problem
from transactions.reading import Part, is_untidy
from transactions.schema import Payment
from transactions.services import Inserted, LabelIn

ROWS = 5_000  # in one commit
TIDY_EACH = 100  # batches: room for ids to come, memory of cycles after all
HEADER = ["line", "field", "reason"]

Progress = Callable[[int, int], None]  # (done, of), in the file's own unit
Fault = tuple[int, list[FieldError]]  # line, what is wrong there


W = TypeVar("W", bound="_Payments | _Labels")


class ImportTaken(Exception):
    """Another process imports the same file now."""


@dataclass(frozen=True)
class Source:
    """A file with its mapping, ready to be read."""

    path: Path
    table: Table
    reader: Reader
    fingerprint: str


def open_source(path: Path, mapping_path: Path | None, *, kind: type[Part], decide: bool = False) -> Source:
    """The file as documents of `kind`. Raises BadFile, BadMapping."""
    mapping = read_mapping(mapping_path) if mapping_path else None
    options = mapping or Mapping(columns={})
    table = open_table(path, delimiter=options.delimiter, encoding=options.encoding)
    mapping = mapping or plain_mapping(table.columns)
    return Source(path, table, Reader(mapping, kind, table.columns), _fingerprint(path, mapping, decide))


def _fingerprint(path: Path, mapping: Mapping, decide: bool) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(msgspec.json.encode(mapping, order="sorted"))
    digest.update(b"decide" if decide else b"")
    return digest.hexdigest()


def import_transactions(
    path: Path,
    *,
    client: ApiClient,
    mapping: Path | None = None,
    decide: bool = False,
    progress: Progress | None = None,
) -> ImportJob:
    """Payments of a file, for one client; the finished job. Safe to repeat. Raises BadFile, BadMapping, ImportTaken."""
    source = open_source(path, mapping, kind=Payment, decide=decide)
    job = _job(ImportJob.Kind.TRANSACTIONS, source, client, decide)
    return _run(job, source, PAYMENTS, progress)


def import_labels(
    path: Path, *, client: ApiClient, mapping: Path | None = None, progress: Progress | None = None
) -> ImportJob:
    """Labels of a file about the client's payments; the finished job. Raises BadFile, BadMapping, ImportTaken."""
    source = open_source(path, mapping, kind=labelling.ImportedLabel)
    job = _job(ImportJob.Kind.LABELS, source, client, False)
    return _run(job, source, LABELS, progress)


def rejects_path(path: Path) -> Path:
    """Where the bad rows of a file go: beside it, or where that folder cannot be written, with the desk's data."""
    if os.access(path.parent, os.W_OK):
        return path.with_name(path.name + ".rejects.csv")
    settings.IMPORT_DIR.mkdir(parents=True, exist_ok=True)
    return settings.IMPORT_DIR / f"{path.name}.rejects.csv"


def _job(kind: str, source: Source, client: ApiClient, decide: bool) -> ImportJob:
    job, _ = ImportJob.objects.get_or_create(
        kind=kind,
        client=client,
        fingerprint=source.fingerprint,
        defaults={"lane": client.lane, "file_name": source.path.name[-255:], "decide": decide},
    )
    # The reading thread asks the database for nothing: what it needs is at hand.
    job.client = client
    rates.rates_to(client.lane.base_currency)
    return job


def _run(job: ImportJob, source: Source, kind: Kind, progress: Progress | None) -> ImportJob:
    if job.status == ImportJob.Status.FINISHED:
        return job
    with _Rejects(rejects_path(source.path)) as rejects, _no_collector():
        rejects.cut_after(_line_of(source, job.next_row))
        batches = source.table.batches(skip=job.next_row, rows=ROWS, columns=source.reader.sources)
        for number, work in enumerate(_ahead(kind.read(job, source, batch) for batch in batches)):
            if number % TIDY_EACH == 0:
                partitions.extend()
                gc.collect()
            kind.store(job, work, rejects)
            if progress:
                progress(work.batch.done, source.table.size)
    mine = ImportJob.objects.filter(pk=job.pk, next_row=job.next_row)
    if not mine.update(status=ImportJob.Status.FINISHED, finished_at=timezone.now()):
        raise ImportTaken(f"{source.path.name} is being imported by another process.")
    job.refresh_from_db()
    return job


def _ahead(items: Iterator[W]) -> Iterator[W]:
    """The items, the next one being made in a thread while the present one is stored: Postgres and we work side by
    side."""
    with ThreadPoolExecutor(1, "import") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
        pool.submit(connections.close_all)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Millions of small objects without cycles: the collector would only look at them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _line_of(source: Source, row: int) -> int:
    """The line where the `row`-th row of the file stands; 0 for none."""
    if not row:
        return 0
    last = next(source.table.batches(skip=row - 1, rows=1, columns=source.reader.sources))
    return max(last.lines + last.broken)


# --- payments ---------------------------------------------------------------------------------------------------------


@dataclass
class _Payments:
    """A batch of payments read: those that are good, ready to be stored, with their lines; and what is wrong with the
    others."""

    batch: Batch
    prepared: services.Prepared | None
    lines: list[int]
    faults: list[Fault]


class _Documents(batches.Batch[dict[str, Any]]):
    """Rows of a file as documents of the API's shape."""

    def quickly(self, row: dict[str, Any]) -> Payment:
        return msgspec.convert(row, Payment)

    def closely(self, row: dict[str, Any]) -> Payment:
        return schema.from_document(row, exempt=self.client.exempt_fields, now=self.now)

    def odd(self, every: bytes) -> Iterator[int]:
        if is_untidy(every):
            yield from (n for n, document in enumerate(self.documents) if is_untidy(document))


def _read_payments(job: ImportJob, source: Source, batch: Batch) -> _Payments:
    documents, unfit = source.reader.documents(batch.values, len(batch.lines))
    work = _Documents(job.client, timezone.now())
    made = work.gather((row, document) for row, document in enumerate(documents) if row not in unfit)
    problems = {row: problem.errors for row, problem in work.problems.items()}
    problems |= {row: _merged(errors, _faults_of(documents[row], work)) for row, errors in unfit.items()}
    faults = [(batch.lines[row], errors) for row, errors in problems.items()] + _broken(batch)
    lines = [batch.lines[row] for row in work.numbers]
    if not lines:
        return _Payments(batch, None, lines, faults)
    intake, received = ("live", None) if job.decide else ("history", job.started_at)
    prepared = services.rows_of(
        work.payments,
        made,
        client=job.client,
        received_at=received,
        intake=intake,
        import_job=job.pk,
        documents=work.documents,
    )
    return _Payments(batch, prepared, lines, faults)


def _faults_of(document: dict[str, Any], work: _Documents) -> list[FieldError]:
    """What else is wrong with a row that had a value which could not be converted."""
    try:
        work.closely(document)
    except Problem as problem:
        return problem.errors
    return []


def _store_payments(job: ImportJob, work: _Payments, rejects: _Rejects) -> None:
    """One commit: the good payments of a batch, and how far the job has come."""
    if work.prepared is None:
        rejects.write(work.faults)
        _advance(job, work.batch, rejected=len(work.faults))
        return

    def also(cursor: Any, inserted: Inserted) -> None:
        conflicts = [(work.lines[n], [_TAKEN]) for n in np.flatnonzero(inserted.conflict).tolist()]
        rejects.write(work.faults + conflicts)
        rejected = len(work.faults) + len(conflicts)
        won = int(inserted.won.sum())
        known = len(work.lines) - won - len(conflicts)
        _advance(job, work.batch, accepted=won, known=known, rejected=rejected, inserted=inserted)

    services.store(work.prepared, also=also)


_TAKEN = FieldError("/external_id", "duplicate-external-id", "The id belongs to a payment with another body.")


def _merged(unfit: list[FieldError], errors: list[FieldError]) -> list[FieldError]:
    """A value that could not be converted is missing afterwards; tell it once."""
    known = {error.pointer for error in unfit}
    return unfit + [error for error in errors if error.pointer not in known]


# --- labels -----------------------------------------------------------------------------------------------------------


@dataclass
class _Labels:
    """A batch of labels read: the good ones with their lines, and what is wrong with the others."""

    batch: Batch
    found: list[tuple[int, labelling.ImportedLabel]]
    faults: list[Fault]


def _store_labels(job: ImportJob, work: _Labels, rejects: _Rejects) -> None:
    """One commit: the good labels of a batch, and how far the job has come."""
    rows: list[LabelIn] = []
    ids = _payments_of([label for _, label in work.found], job.client)
    for (line, label), transaction_id in zip(work.found, ids, strict=True):
        if transaction_id is None:
            pointer = "/external_id" if label.external_id else "/transaction_id"
            work.faults.append((line, [FieldError(pointer, "unknown-transaction", "The client has no such payment.")]))
        else:
            rows.append(labelling.label_row(label, transaction_id, author=job.client.name, now=job.started_at))
    rejects.write(work.faults)
    with atomic(), connection.cursor() as cursor:
        lanes = np.full(len(rows), job.lane_id, "i2")
        if rows:
            services.insert_labels(cursor, rows, lanes, recorded_at=job.started_at, job=job.pk)
        _advance(job, work.batch, accepted=len(rows), rejected=len(work.faults))


def _read_labels(job: ImportJob, source: Source, batch: Batch) -> _Labels:
    documents, unfit = source.reader.documents(batch.values, len(batch.lines))
    work = _Labels(batch, [], _broken(batch))
    for row, document in enumerate(documents):
        line = batch.lines[row]
        try:
            label = labelling.imported_label(document, now=job.started_at)
        except Problem as problem:
            work.faults.append((line, _merged(unfit.get(row, []), problem.errors)))
            continue
        if row in unfit:
            work.faults.append((line, unfit[row]))
        else:
            work.found.append((line, label))
    return work


def _payments_of(labels: Sequence[labelling.ImportedLabel], client: ApiClient) -> Iterator[int | None]:
    """The ids of the client's payments that the labels name, None for those that it does not have."""
    by_name = querysets.ids_by_external_id(client, [label.external_id for label in labels if label.external_id])
    by_id = [label.transaction_id for label in labels if label.transaction_id]
    own = set(querysets.of_client(client).filter(pk__in=by_id).values_list("pk", flat=True)) if by_id else set()
    for label in labels:
        if label.external_id:
            yield by_name.get(label.external_id)
        else:
            yield (label.transaction_id or None) if label.transaction_id in own else None


# --- progress and rejects ---------------------------------------------------------------------------------------------


def _broken(batch: Batch) -> list[Fault]:
    return [(line, [FieldError("", "invalid-format", "Not as many columns as the header.")]) for line in batch.broken]


def _advance(
    job: ImportJob,
    batch: Batch,
    *,
    accepted: int = 0,
    known: int = 0,
    rejected: int = 0,
    inserted: Inserted | None = None,
) -> None:
    """Move the job past the batch, in the caller's transaction. Raises ImportTaken if somebody else did."""
    changes: dict[str, Any] = {
        "next_row": F("next_row") + batch.rows,
        "accepted": F("accepted") + accepted,
        "known": F("known") + known,
        "rejected": F("rejected") + rejected,
    }
    if inserted is not None and accepted:
        new = inserted.ids[inserted.won]
        changes |= {"last_id": int(new.max())} | ({"first_id": int(new.min())} if job.first_id is None else {})
    mine = ImportJob.objects.filter(pk=job.pk, next_row=job.next_row, status=ImportJob.Status.RUNNING)
    if not mine.update(**changes):
        raise ImportTaken(f"{job.file_name} is being imported by another process.")
    job.next_row += batch.rows
    job.first_id = changes.get("first_id", job.first_id)


class _Rejects:
    """`<file>.rejects.csv`: line, field, reason; made only when something is rejected, cut back when a job resumes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None

    def __enter__(self) -> _Rejects:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.file is not None:
            self.file.close()

    def cut_after(self, line: int) -> None:
        """Forget lines that the last commit did not pass: they will be read again."""
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= line]
        self.path.unlink()
        if kept:
            self._append(kept)

    def write(self, faults: list[Fault]) -> None:
        """Add the faults and wait until they are on disk."""
        rows = [
            [str(line), error.pointer.strip("/").replace("/", "."), f"{error.code}: {error.message}"]
            for line, errors in sorted(faults, key=lambda fault: fault[0])
            for error in errors
        ]
        if rows:
            self._append(rows)

    def _append(self, rows: list[list[str]]) -> None:
        if self.file is None:
            is_new = not self.path.exists()
            self.file = self.path.open("a", newline="", encoding="utf-8")
            if is_new:
                csv.writer(self.file).writerow(HEADER)
        csv.writer(self.file).writerows(rows)
        self.file.flush()
        os.fsync(self.file.fileno())


@dataclass(frozen=True)
class Kind(Generic[W]):
    """What is in a file: how a batch of it is read, without the database, and how it is stored, in one commit."""

    read: Callable[[ImportJob, Source, Batch], W]
    store: Callable[[ImportJob, W, _Rejects], None]


PAYMENTS = Kind(_read_payments, _store_payments)
LABELS = Kind(_read_labels, _store_labels)
