"""Many payments in one body, one JSON object a line: read as a batch, each line judged as if it had come alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from transactions import schema, services
from transactions.batches import Batch
from transactions.models import ApiClient
from transactions.problems import Problem
from transactions.reading import doubles_keys, escapes_ascii, is_untidy
from transactions.schema import Payment

MOST_LINES = 5_000
MOST_BYTES = 10_000_000  # of the body, and of what it unpacks to
GZIP = 31  # zlib's window bits for a gzip header and trailer


@dataclass
class Reading:
    """A body read: the good payments ready to be stored, with their line numbers (from 1), and the problems of the
    other lines."""

    lines: int
    prepared: services.Prepared | None = None
    numbers: list[int] = field(default_factory=list)
    problems: dict[int, Problem] = field(default_factory=dict)


def unpacked(body: bytes) -> bytes:
    """A gzipped body, unpacked within the limit. Raises Problem."""
    made = bytearray()
    try:
        while body:
            inflater = zlib.decompressobj(GZIP)
            made += inflater.decompress(body, MOST_BYTES + 1 - len(made))
            if len(made) > MOST_BYTES:
                raise too_large()
            if not inflater.eof:
                raise zlib.error("cut off")
            body = inflater.unused_data
    except zlib.error:
        raise Problem("bad-request", "The body is not gzip, whatever Content-Encoding says.") from None
    return bytes(made)


def too_large() -> Problem:
    return Problem("body-too-large", f"At most {MOST_LINES:,} lines and {MOST_BYTES // 10**6} MB, unpacked.")


def read(body: bytes, *, client: ApiClient, now: datetime) -> Reading:
    """The payments of a body. Raises Problem only for a body that is too large or empty; lines have their own."""
    if len(body) > MOST_BYTES:
        raise too_large()
    rows = body.split(b"\n")
    numbers = [number for number, row in enumerate(rows, start=1) if row and not row.isspace()]
    if not numbers:
        raise Problem("bad-request", "The body has no line.")
    if len(numbers) > MOST_LINES:
        raise too_large()
    reading = Reading(len(numbers))
    batch = Lines(client, now, reading.problems)
    made = batch.gather((number, rows[number - 1]) for number in numbers)
    if batch.payments:
        reading.numbers = batch.numbers
        reading.prepared = services.rows_of(
            batch.payments, made, client=client, received_at=now, documents=batch.documents
        )
    return reading


class Lines(Batch[bytes]):
    """Rows that are JSON as it was sent, where msgspec takes a key that stands twice."""

    def quickly(self, row: bytes) -> Payment:
        return schema.decode_quickly(row)

    def closely(self, row: bytes) -> Payment:
        return schema.decode(row, exempt=self.client.exempt_fields, now=self.now, backlog=True)

    def odd(self, every: bytes) -> Iterator[int]:
        if max(map(len, self.rows), default=0) <= schema.MOST_BYTES and _is_plain(self.rows, every):
            return
        for n, (row, document) in enumerate(zip(self.rows, self.documents, strict=True)):
            if len(row) > schema.MOST_BYTES or is_untidy(document) or doubles_keys(row, document):
                yield n


def _is_plain(rows: Sequence[bytes], every: bytes) -> bool:
    """Whether no line, whose canonical forms are `every`, can be untidy or have a key twice.

    `is_untidy` and `doubles_keys` of all lines at once, by what is quick to find in megabytes; False is no verdict. No
    line has more keys in its canonical form, so the sums differ where one line does.
    """
    sent = b"".join(rows)
    apart = b'" ' in sent or any(space in sent and b'"' + space in sent for space in (b"\t", b"\r"))
    if apart or escapes_ascii(sent) or sent.count(b'":') != every.count(b'":'):
        return False
    return not is_untidy(every)
