"""All tests in two halves beside each other: `make test`. Whole desks and browsers mostly wait, all else computes.

Each half is a pytest of its own with its own servers; the half with the desks is told after the other has ended. What
failed there beside the others is asked once more alone: seconds that a desk promises are not promised on a machine that
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
        told, slow = Path(folder) / "told", [*PYTEST, "-m", "slow", "-o", f"cache_dir={folder}/cache"]
        with told.open("wb") as file:
            desks = subprocess.Popen(slow, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = subprocess.call([*PYTEST, "-m", "not slow"])
            print("\nWhole desks and browsers:", flush=True)
            of_desks = desks.wait()
            print(told.read_text(), flush=True)
            if of_desks == FAILED:
                print("What failed beside the others, alone:", flush=True)
                of_desks = subprocess.call([*slow, "--last-failed"])
        except KeyboardInterrupt:
            desks.wait()
            return 130
    return code or of_desks


if __name__ == "__main__":
    sys.exit(main())
