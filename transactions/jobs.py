"""Bulk jobs: what became of every line of a request, kept in one row that is written together with its payments.

The answer to a bulk request names a job; its payments are committed by then. The job's row never changes: whether a
payment is decided is asked of the decisions, so nobody has to tell the job.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone

from transactions import answers, services
from transactions.bulk import Reading
from transactions.codes import INTAKE
from transactions.models import ApiClient, BulkJob, Transaction, TransactionKey
from transactions.problems import FieldError, Problem, body_of
from transactions.services import Inserted

AT_ONCE = 500  # lines of a result that are looked up together
TAKEN = FieldError("/external_id", "duplicate-external-id", "You used it for a payment with another body.")
INSERT = """
    INSERT INTO bulk_job (lane, client, created_at, lines, accepted, known, rejected, ids, rejects)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"""
_LINES = np.dtype("<i4")
_IDS = np.dtype("<i8")


def take_in(reading: Reading, *, client: ApiClient) -> BulkJob:
    """Keep the payments of a request and its job in one commit, and ring. Raises OperationalError if that is unsure."""
    made: list[BulkJob] = []

    def note(cursor: Any, inserted: Inserted | None) -> None:
        made.append(_insert(cursor, reading, inserted, client))

    if reading.prepared is None:
        with connection.cursor() as cursor:
            note(cursor, None)
    else:
        services.store(reading.prepared, also=note)
    return made[-1]


def _insert(cursor: Any, reading: Reading, inserted: Inserted | None, client: ApiClient) -> BulkJob:
    rejects = {number: told(problem) for number, problem in reading.problems.items()}
    numbers, ids, accepted = np.empty(0, _LINES), np.empty(0, _IDS), 0
    if inserted is not None and reading.prepared is not None:
        for n in np.flatnonzero(inserted.conflict).tolist():
            conflict = told(Problem("duplicate-external-id", errors=[TAKEN]))
            rejects[reading.numbers[n]] = {"external_id": reading.prepared.external_ids[n], **conflict}
        numbers, ids = np.array(reading.numbers, _LINES)[~inserted.conflict], inserted.ids[~inserted.conflict]
        accepted = int(inserted.won.sum())
    job = BulkJob(
        lane=client.lane_id,
        client=client.pk,
        created_at=timezone.now(),
        lines=reading.lines,
        accepted=accepted,
        known=len(ids) - accepted,
        rejected=len(rejects),
        ids=packed(numbers, ids),
        rejects=zlib.compress(json.dumps(rejects).encode(), 1) if rejects else b"",
    )
    values = [job.lane, job.client, job.created_at, job.lines, job.accepted, job.known, job.rejected]
    cursor.execute(INSERT, [*values, job.ids, job.rejects])
    job.pk = cursor.fetchone()[0]
    return job


def told(problem: Problem) -> dict[str, Any]:
    """The problem document of a line. It knows no request and, like every problem, no value that was sent."""
    return {"problem": body_of(problem)}


def packed(numbers: np.ndarray, ids: np.ndarray) -> bytes:
    """Line numbers and ids, both mostly consecutive: as differences they shrink to almost nothing."""
    steps = (np.diff(numbers, prepend=_LINES.type(0)), np.diff(ids, prepend=_IDS.type(0)))
    return zlib.compress(steps[0].astype(_LINES).tobytes() + steps[1].astype(_IDS).tobytes(), 1)


def unpacked(raw: bytes | memoryview) -> tuple[np.ndarray, np.ndarray]:
    """What `packed` was given: line numbers and ids, position by position."""
    steps = zlib.decompress(raw)
    n = len(steps) // (_LINES.itemsize + _IDS.itemsize)
    cut = n * _LINES.itemsize
    return np.cumsum(np.frombuffer(steps[:cut], _LINES)), np.cumsum(np.frombuffer(steps[cut:], _IDS))


# --- what a client may read -------------------------------------------------------------------------------------------


def of_client(job_id: int, client: ApiClient) -> BulkJob:
    """The client's own job. Raises Problem."""
    found = BulkJob.objects.filter(pk=job_id, client=client.pk, lane=client.lane_id).first() if job_id < 2**63 else None
    if found is None:
        raise Problem("not-found")
    return found


def decided(job: BulkJob) -> tuple[int, bool]:
    """How many payments of the job are decided, and whether none is still to be: history is owed no decision."""
    ids = unpacked(job.ids)[1].tolist()
    count = answers.count(ids) if ids else 0
    if count == len(ids) or not job.known:
        return count, count == len(ids)
    found = Transaction.objects.filter(pk__in=ids, intake=INTAKE.code("history"))
    history = set(found.values_list("pk", flat=True))
    return count, count + sum(each in history for each in ids) >= len(ids)  # a payment may stand in several lines


def result(job: BulkJob) -> Iterator[bytes]:
    """The job's lines in their order, as NDJSON: each with its payment and decision as of now, or its problem."""
    lines: dict[int, dict[str, Any]] = json.loads(zlib.decompress(job.rejects)) if job.rejects else {}
    rejects = {int(number): reject for number, reject in lines.items()}
    numbers, ids = unpacked(job.ids)
    payments = dict(zip(numbers.tolist(), ids.tolist(), strict=True))
    order = sorted([*payments, *rejects])
    for start in range(0, len(order), AT_ONCE):
        part = order[start : start + AT_ONCE]
        yield _lines(part, {number: payments[number] for number in part if number in payments}, rejects)


def _lines(part: list[int], payments: dict[int, int], rejects: dict[int, dict[str, Any]]) -> bytes:
    asked = list(set(payments.values()))
    names = dict(TransactionKey.objects.filter(pk__in=asked).values_list("pk", "external_id"))
    decisions = answers.find(asked) if asked else {}
    rows = [
        _kept(number, payments[number], names, decisions) if number in payments else _refused(number, rejects[number])
        for number in part
    ]
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _kept(number: int, each: int, names: dict[int, str], decisions: dict[int, Any]) -> dict[str, Any]:
    decision = decisions.get(each)
    status = "decided" if decision else "pending"
    return {"line": number, "id": each, "external_id": names.get(each), "status": status, "decision": decision}


def _refused(number: int, reject: dict[str, Any]) -> dict[str, Any]:
    name = reject.get("external_id")
    return {"line": number, "id": None, "external_id": name, "status": "rejected", "problem": reject["problem"]}
