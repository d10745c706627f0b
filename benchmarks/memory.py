"""Memory as a server that has run for a while has it: full of file cache, so that what is needed comes from there.

    python -m benchmarks.memory FILE [--leave 1_500]

A virtual machine's memory that was never used, or was given back, comes from its host page by page at 4 to 17 µs each
(`dd` of a gigabyte shows it: the second run over the same file is thirty times as fast), which is as much as a whole
payment costs, and falls on whoever happens to ask: Postgres for its files, the lane for a snapshot. So a long file of
nothing is read, which fills the cache and writes nothing. It stays as long as the file does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.kit import say

STEP = 1 << 24


def fill(path: Path, *, leave: int = 1_500) -> None:
    """Read a sparse file at `path` until no more than `leave` megabytes are free."""
    with open(path, "wb") as file:
        file.truncate(_megabytes("MemTotal") << 20)
    read = 0
    with open(path, "rb", buffering=0) as file:
        while _megabytes("MemFree") > leave and file.read(STEP):
            read += STEP
    say(f"memory: {read >> 20:,} MB of file cache read; {_megabytes('MemFree'):,} MB free")


def _megabytes(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) >> 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def main() -> None:
    """Fill, and leave the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--leave", type=int, default=1_500, help="Megabytes that stay free.")
    asked = parser.parse_args()
    fill(asked.file, leave=asked.leave)


if __name__ == "__main__":
    main()
