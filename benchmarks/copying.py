"""The limit for throughput: plain COPY of the very rows that were just stored, into copies of their tables.

The copies have the same columns, keys and indexes, are committed in batches as large as the lane's, and are synced to
disk like everything else. Rows are read and encoded before the clock starts: what is measured is COPY alone. Nobody
who keeps these rows can be faster; the copies begin empty, which favours the limit.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.ground import Ground
from benchmarks.kit import Result
from benchmarks.processes import cpu

KEPT = ("transaction_key", "transaction", "transaction_detail")  # what ingest writes
JUDGED = ("decision", "lane_log")  # what the lane writes
ROWS_AT_ONCE = 4_000
SOURCES = {
    "transaction_key": "SELECT * FROM transaction_key WHERE id BETWEEN {first} AND {last} ORDER BY id",
    "transaction": "SELECT * FROM transaction WHERE id BETWEEN {first} AND {last} ORDER BY id",
    "transaction_detail": "SELECT * FROM transaction_detail WHERE id BETWEEN {first} AND {last} ORDER BY id",
    "decision": "SELECT * FROM decision WHERE id BETWEEN {first} * 64 AND {last} * 64 + 63 ORDER BY id",
    "lane_log": "SELECT g.* FROM lane_log g JOIN decision d ON (d.lane, d.seq) = (g.lane, g.seq)"
    " WHERE d.id BETWEEN {first} * 64 AND {last} * 64 + 63 ORDER BY g.seq",
}


class Copies:
    """The rows of the payments `first` to `last` in memory, encoded, ready to be copied again and again."""

    def __init__(self, ground: Ground, first: int, last: int, *, rows_at_once: int = ROWS_AT_ONCE) -> None:
        self.ground, self.rows = ground, last - first + 1
        with ground.cursor() as cursor:
            self.pieces: dict[str, list[bytes]] = {name: [] for name in SOURCES}
            for low in range(first, last + 1, rows_at_once):
                bounds = {"first": low, "last": min(last, low + rows_at_once - 1)}
                for name, query in SOURCES.items():
                    self.pieces[name].append(_read(cursor, query.format(**bounds)))

    def measure(self, *, repeat: int = 1) -> Result:
        """Rows a second and CPU of Postgres for what ingest writes, what the lane writes, and both together."""
        found: Result = {}
        for name, tables in {"copy_kept": KEPT, "copy_judged": JUDGED, "copy_all": (*KEPT, *JUDGED)}.items():
            found |= _named(name, self._copy(tables, repeat))
        return found

    def _copy(self, tables: Sequence[str], repeat: int) -> tuple[float, float]:
        """Rows a second, and micro-seconds of Postgres a row."""
        with self.ground.cursor() as cursor:
            seconds = used = 0.0
            for _ in range(repeat):
                for name in tables:
                    cursor.execute(f"CREATE TABLE limit_{name} (LIKE {name} INCLUDING ALL)")
                server, began = self._server(), time.perf_counter()
                for n in range(len(self.pieces[tables[0]])):
                    cursor.execute("BEGIN")
                    for name in tables:
                        piece = io.BytesIO(self.pieces[name][n])
                        cursor.copy_expert(f"COPY limit_{name} FROM STDIN (FORMAT binary)", piece)
                    cursor.execute("COMMIT")
                seconds += time.perf_counter() - began
                used += self._server() - server
                cursor.execute("DROP TABLE " + ", ".join(f"limit_{name}" for name in tables))
        return self.rows * repeat / seconds, 1e6 * used / (self.rows * repeat)

    def _server(self) -> float:
        from fraudsite import embedded

        return cpu(embedded.process_ids(self.ground.state)["postgres"])


def _read(cursor: Any, query: str) -> bytes:
    buffer = io.BytesIO()
    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", buffer)
    return buffer.getvalue()


def _named(name: str, figures: tuple[float, float]) -> Result:
    return {f"{name}_per_second": round(figures[0]), f"{name}_cpu_us": round(figures[1], 2)}
