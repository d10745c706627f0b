"""Gives a bank system access to the API: prints its key, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.transaction import atomic
from django.utils import timezone

from transactions import rates
from transactions.auth import SCOPES, issue_key
from transactions.models import ApiClient, Lane


class Command(BaseCommand):
    help = "Create an API client (or one more key of an existing one) and print the key. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--lane", default="cards", help="The portfolio its payments belong to; made if missing.")
        parser.add_argument("--base-currency", default="EUR", help="Of a new lane.")
        parser.add_argument("--sandbox", action="store_true", help="A new lane is a sandbox: keys begin with fd_test_.")
        parser.add_argument("--scope", action="append", choices=sorted(SCOPES), help="May be repeated; default: all.")
        parser.add_argument("--days", type=int, help="The key expires after so many days.")
        parser.add_argument("--network", action="append", default=[], help="Allowed network, such as 192.0.2.0/24.")

    @atomic
    def handle(self, *args: Any, **options: Any) -> None:
        lane, is_new = Lane.objects.get_or_create(
            name=options["lane"],
            defaults={"base_currency": options["base_currency"], "sandbox": options["sandbox"]},
        )
        client, _ = ApiClient.objects.get_or_create(name=options["name"], defaults={"lane": lane})
        if client.lane_id != lane.pk:
            raise CommandError(f"{client} belongs to the lane {client.lane}; a client has one lane.")
        if is_new and rates.seed(lane.base_currency):
            self.stderr.write("The new lane has rough exchange rates only; enter your own under Currency rates.")
        expires = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        try:
            _, text = issue_key(
                client, scopes=options["scope"] or list(SCOPES), expires_at=expires, networks=options["network"]
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(text)
