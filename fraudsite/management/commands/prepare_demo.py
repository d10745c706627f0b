"""What `make run` needs before its processes start, in one process: tables, people, demo data, static files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from fraudsite.embedded import ROOT


class Command(BaseCommand):
    help = "Bring tables, people, demo data and static files up to date. Safe to run again."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Each step looks first whether there is anything to do."""
        if _unapplied():
            self._step("Bringing the database up to date", lambda: call_command("migrate", verbosity=0))
        call_command("demo_access", stdout=self.stdout)
        self.stdout.write("Demo data …")
        call_command("seed_demo", stdout=self.stdout)
        if _static_changed():
            self._step("Collecting static files", _collect_static)

    def _step(self, text: str, work: Callable[[], None]) -> None:
        self.stdout.write(f"{text} …")
        self.stdout.flush()
        began = time.monotonic()
        work()
        self.stdout.write(f"  done in {time.monotonic() - began:.1f} s")


def _unapplied() -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _static_changed() -> bool:
    stamp = settings.STATE_DIR / "static.stamp"
    return not stamp.exists() or stamp.read_text() != _static_hash()


def _collect_static() -> None:
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    (settings.STATE_DIR / "static.stamp").write_text(_static_hash())


def _static_hash() -> str:
    """Names, sizes and times of our own static files, and the pinned packages that bring theirs."""
    digest = hashlib.sha256((ROOT / "requirements.txt").read_bytes())
    for path in sorted((ROOT / "static").rglob("*")):
        facts = path.stat()
        digest.update(f"{path.relative_to(ROOT)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
