"""What each statement costs Postgres while a benchmark runs: the CPU of its processes, booked to what they are at.

    python -m benchmarks.booked --state FOLDER [--seconds 60]

Beside a run with `--state FOLDER`. Ten times a second, what each process of Postgres has used since the last look goes
to the statement that it shows then; so short ones are booked to their neighbours, and only long runs say anything.
Micro-seconds for each payment that the lanes took in meanwhile.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg2

TICK = 0.1
MOST = 40  # statements that are told
AT = """
    SELECT pid, backend_type || ': ' || left(regexp_replace(query, '\\s+', ' ', 'g'), 80)
      FROM pg_stat_activity WHERE pid <> pg_backend_pid()"""
TAKEN_IN = "SELECT coalesce(sum(seq), 0) FROM lane_cursor"


def main() -> None:
    """Watch, then tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    from fraudsite import embedded

    connection = psycopg2.connect(embedded.addresses(asked.state.absolute()).database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        before = _taken_in(cursor)
        used = watched(cursor, asked.seconds)
        payments = max(1, _taken_in(cursor) - before)
    print(f"{payments:,} taken in; micro-seconds of CPU each, {1e6 * sum(used.values()) / payments:.1f} in all:")
    for name, seconds in used.most_common(MOST):
        print(f"{1e6 * seconds / payments:8.2f}  {name}")


def watched(cursor: Any, seconds: float) -> Counter[str]:
    """Seconds of CPU by statement."""
    used: Counter[str] = Counter()
    last: dict[int, float] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        cursor.execute(AT)
        for pid, name in cursor.fetchall():
            now = _cpu(pid)
            if now is None:
                continue
            used[name or ""] += now - last.get(pid, now)
            last[pid] = now
        time.sleep(TICK)
    return used


def _taken_in(cursor: Any) -> int:
    cursor.execute(TAKEN_IN)
    return int(cursor.fetchone()[0])


def _cpu(pid: int) -> float | None:
    """Seconds that a process has used; None of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
