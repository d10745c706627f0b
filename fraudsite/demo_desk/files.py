"""Small files that the demo's people attach: a call log, a list of payments, a picture. All are made here."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Iterable
from datetime import datetime
from random import Random

WIDTH, HEIGHT = 240, 120


def call_log(moment: datetime, person: str, rng: Random) -> bytes:
    """The short record of a call."""
    lines = [
        f"Call of {moment:%d %b %Y %H:%M} UTC by {person}",
        f"Length: {rng.randrange(2, 14)} min {rng.randrange(60)} s",
        "Identity: date of birth, last two payments",
        "Said: the phone was out of hand for an hour, nothing was ordered.",
    ]
    return ("\n".join(lines) + "\n").encode()


def payments(rows: Iterable[tuple[object, ...]]) -> bytes:
    """Payments as a merchant's bank sends them: time, amount, terminal."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("time", "amount", "currency", "terminal"))
    writer.writerows(rows)
    return out.getvalue().encode()


def receipt(rng: Random) -> bytes:
    """A picture of a receipt: grey lines of print on white paper, as PNG."""
    rows = [_line(rng) if (y // 8) % 2 and 8 < y < HEIGHT - 12 else b"\xff" * WIDTH for y in range(HEIGHT)]
    raw = b"".join(b"\x00" + row for row in rows)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _line(rng: Random) -> bytes:
    return bytes(0x55 if 16 < x < WIDTH - 16 and rng.random() < 0.55 else 0xFF for x in range(WIDTH))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
