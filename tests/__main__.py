"""All tests in two halves beside each other: `make test`. Whole desks and browsers mostly wait, all else computes.

Each half is a pytest of its own with its own servers. The half with the desks is told after the other has ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]


def main() -> int:
    """Run both; 0 if both pass."""
    with tempfile.TemporaryFile() as told:
        desks = subprocess.Popen([*PYTEST, "-m", "slow"], stdout=told, stderr=subprocess.STDOUT)
        try:
            code = subprocess.call([*PYTEST, "-m", "not slow"])
            print("\nWhole desks and browsers:", flush=True)
            desks.wait()
        except KeyboardInterrupt:
            desks.wait()
            return 130
        told.seek(0)
        sys.stdout.buffer.write(told.read())
    return code or desks.returncode


if __name__ == "__main__":
    sys.exit(main())
