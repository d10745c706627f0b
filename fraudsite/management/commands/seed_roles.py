"""Make the desk's roles, and with --people the persons of a demo."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fraudsite.roles import PEOPLE, seed_groups, seed_people


class Command(BaseCommand):
    help = "Create or refresh the roles (groups and permissions). Safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--people",
            action="store_true",
            help='Read {"username": "password", …} as JSON from the input; make those people.',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Groups first, then the people, who need them."""
        seed_groups()
        if options["people"]:
            seed_people(_passwords(sys.stdin.read()))
        self.stdout.write("Roles are in place.")


def _passwords(text: str) -> dict[str, str]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise CommandError(f"The input is not JSON: {error}") from None
    unknown = set(given) - set(PEOPLE)
    if unknown:
        raise CommandError(f"Unknown username {min(unknown)}; there are {', '.join(PEOPLE)}.")
    return given
