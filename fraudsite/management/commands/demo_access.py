"""Who may use a demo: its people with random passwords and an API key for the simulator, kept in `demo.json`."""

from __future__ import annotations

import json
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fraudsite import demo
from fraudsite.roles import PEOPLE, seed_groups, seed_people
from fraudsite.supervisor import write_private
from transactions.auth import issue_key
from transactions.models import ApiClient, ApiKey


class Command(BaseCommand):
    help = "Make the demo's people and API key, unless they are there. Demo mode only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--show", action="store_true", help="Print the log-ins and the API key.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill in what `demo.json` lacks, and let the database follow it."""
        if not settings.DEMO:
            raise CommandError("Known log-ins belong into a demo (FRAUD_MODE=demo).")
        path = settings.STATE_DIR / "demo.json"
        access = _read(path)
        passwords = {name: user["password"] for name, user in access["users"].items()}
        passwords |= {name: secrets.token_urlsafe(12) for name in PEOPLE if name not in passwords}
        access["users"] = {name: {"username": name, "password": passwords[name]} for name in PEOPLE}
        seed_groups()
        seed_people(passwords)
        _, client = demo.seed_basics()
        access["api_key"] = _valid_key(access["api_key"]) or _new_key(client)
        write_private(path, access)
        if options["show"]:
            self.stdout.write(path.read_text())


def _read(path: Path) -> dict[str, Any]:
    known = json.loads(path.read_text()) if path.exists() else {}
    return {"url": "", "api_key": "", "users": {}} | known


def _valid_key(key: str) -> str:
    """The key, if this database still knows it (it may have been wiped under the file)."""
    known = ApiKey.objects.filter(prefix=key.rpartition("_")[0], revoked_at=None)
    return key if key and known.exists() else ""


def _new_key(client: ApiClient) -> str:
    _, text = issue_key(client)
    return text
