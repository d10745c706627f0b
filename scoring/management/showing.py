"""What the commands of this app share with a terminal: which lane is meant, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from transactions.models import Lane


def the_lane(name: str | None) -> Lane:
    """The lane of that name, or the only one. Raises CommandError."""
    lanes = list(Lane.objects.filter(name=name) if name else Lane.objects.filter(sandbox=False).order_by("pk")[:2])
    if len(lanes) == 1:
        return lanes[0]
    known = ", ".join(Lane.objects.order_by("pk").values_list("name", flat=True)) or "none yet"
    raise CommandError(f"Name the lane with --lane; there are: {known}.")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; gives the function to tell it (done, whole)."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
