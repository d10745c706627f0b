"""CPU time and memory by process, from /proc: the whole tree below each named process, children that ended included.

A process's own `cutime` holds its ended and awaited children, so adding that of all living members of a tree counts
every second once. A process that ends between two looks takes its seconds into its parent's `cutime`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
Seconds = dict[str, float]


def stat(pid: int) -> tuple[int, float]:
    """The parent's id and the CPU seconds of a process with its ended children. Raises OSError when it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15])) / TICK


class Look:
    """All processes at one moment: who descends from whom, and the CPU seconds of each."""

    def __init__(self) -> None:
        self.children: dict[int, list[int]] = defaultdict(list)
        self.seconds: dict[int, float] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    parent, self.seconds[int(entry.name)] = stat(int(entry.name))
                except OSError:
                    continue
                self.children[parent].append(int(entry.name))

    def tree(self, root: int, without: Collection[int] = ()) -> list[int]:
        """`root` and all that descend from it, but for the trees below `without`."""
        found, waiting = [], [root]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += [child for child in self.children[pid] if child not in without]
        return found

    def cpu(self, root: int, without: Collection[int] = ()) -> float:
        """CPU seconds that the tree has used so far."""
        return sum(self.seconds.get(pid, 0.0) for pid in self.tree(root, without))


def cpu(root: int) -> float:
    """CPU seconds that the tree below `root` has used so far."""
    return Look().cpu(root)


def _kilobytes(pid: int, field: str) -> int:
    path = f"/proc/{pid}/smaps_rollup" if field == "Pss" else f"/proc/{pid}/status"
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


class Accounts:
    """CPU seconds of named process trees since `start`. What is named itself does not count for its parent."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)
        self.begun: Seconds = {}
        self.start()

    def start(self) -> None:
        """Count from now."""
        self.begun = self._now()

    def used(self) -> Seconds:
        """Seconds by name since `start`."""
        return {name: max(0.0, now - self.begun.get(name, 0.0)) for name, now in self._now().items()}

    def each(self, count: int) -> Seconds:
        """Micro-seconds of CPU for each of `count` things, in all and by name, most first."""
        used = {name: round(1e6 * seconds / max(1, count), 1) for name, seconds in self.used().items()}
        ordered = dict(sorted(used.items(), key=lambda pair: -pair[1]))
        return {"all": round(sum(used.values()), 1), **ordered}

    def memory(self, field: str = "VmHWM") -> Seconds:
        """MiB by name: peak resident size; of Postgres, whose processes share buffers, the proportional size now."""
        look, found = Look(), {}
        for name, pid in self.pids.items():
            wanted = "Pss" if name == "postgres" else field
            total = sum(_kilobytes(each, wanted) for each in look.tree(pid, self._others(pid)))
            found[name] = round(total / 1024, 1)
        return found

    def _now(self) -> Seconds:
        look = Look()
        return {name: look.cpu(pid, self._others(pid)) for name, pid in self.pids.items()}

    def _others(self, pid: int) -> set[int]:
        return set(self.pids.values()) - {pid}
