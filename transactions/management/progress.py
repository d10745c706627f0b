"""What the import commands share: whose file it is, a progress bar, the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from transactions import rates
from transactions.imports import rejects_path
from transactions.models import ApiClient, ImportJob, Lane


def client_named(name: str | None) -> ApiClient:
    """The API client of that name; without a name the first one, made with its lane where there is none at all."""
    clients = ApiClient.objects.select_related("lane").order_by("pk")
    if name is None:
        return clients.first() or _first_client()
    try:
        return clients.get(name=name)
    except ApiClient.DoesNotExist:
        known = ", ".join(clients.values_list("name", flat=True)) or "none; make one with create_client"
        raise CommandError(f"There is no API client {name}. Known: {known}.") from None


def _first_client() -> ApiClient:
    lane, _ = Lane.objects.get_or_create(name="cards")
    rates.seed(lane.base_currency)
    return ApiClient.objects.create(name="bank", lane=lane)


@contextmanager
def shown(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal; yields what an import calls with (done, of)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def report(out: Any, job: ImportJob, path: Path) -> None:
    """The summary of a finished job."""
    seconds = (job.finished_at - job.started_at).total_seconds() if job.finished_at else 0
    out.write(f"{path.name}: {job.next_row:,} rows read, {job.accepted:,} stored, {job.known:,} known before, ")
    out.write(f"{job.rejected:,} rejected; import {job.pk} finished after {seconds:,.0f} s.")
    if job.rejected:
        out.write(f"What was wrong with the rejected rows stands in {rejects_path(path)}")
