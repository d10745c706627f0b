"""All tests in two halves beside each other: `make test`. Whole desks and browsers mostly wait, all else computes.

Each half is a pytest of its own with its own servers; the half with the desks is told after the other has ended. What
failed beside the others is asked once more alone: seconds that a desk promises are not promised on a machine that
computes something else. It is said, and a test that fails then too has failed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
FAILED = 1  # pytest's code for tests that failed, and not for anything else


def main() -> int:
    """Run both; 0 if both pass."""
    with tempfile.TemporaryDirectory(prefix="fraud-desk-told-") as folder:
        told, slow, fast = Path(folder) / "told", half(folder, "slow"), half(folder, "not slow")
        with told.open("wb") as file:
            desks = subprocess.Popen(slow, stdout=file, stderr=subprocess.STDOUT)
        try:
            of_all_else = subprocess.call(fast)
            print("\nWhole desks and browsers:", flush=True)
            of_desks = desks.wait()
            print(told.read_text(), flush=True)
            return max([asked_again(fast, of_all_else), asked_again(slow, of_desks)])
        except KeyboardInterrupt:
            desks.wait()
            return 130


def half(folder: str, mark: str) -> list[str]:
    """The command for the tests of one mark, with a memory of its own for what failed."""
    return [*PYTEST, "-m", mark, "-o", f"cache_dir={folder}/{mark.replace(' ', '-')}"]


def asked_again(command: list[str], code: int) -> int:
    """The code of a half, or, where tests failed in it, of these alone."""
    if code != FAILED:
        return code
    print("What failed beside the others, alone:", flush=True)
    return subprocess.call([*command, "--last-failed"])


if __name__ == "__main__":
    sys.exit(main())
