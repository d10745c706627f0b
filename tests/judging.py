"""What tests of the lane share: a bank whose payments can be judged, and ways to send them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from scoring import features
from scoring.models import ReasonCode, Release, Rule, RuleVersion
from tests.factories import make_client, make_lane, make_release
from tests.transactions.documents import make_document
from transactions import rates, schema, services
from transactions.models import ApiClient, Lane
from transactions.services import LabelIn, Prepared


def make_bank() -> ApiClient:
    """A client of the lane `cards`, with a release in force and nothing told to its ring yet."""
    features.warm_up()  # compiling inside a lane's commit would outlast its session's time-out
    rates.forget()
    lane = make_lane("cards")
    make_release(lane)
    rates.seed("EUR")
    return make_client(lane, "bank")


def live_rule(lane: Lane, expression: str, outcome: str = "review") -> Release:
    """A release with one live rule more than the one in force."""
    before = make_release(lane)
    number = Rule.objects.count() + 1
    reason, _ = ReasonCode.objects.get_or_create(
        code="VELOCITY", defaults={"title": "Velocity", "description": "", "source": "rule"}
    )
    rule = Rule.objects.create(lane=lane, code=f"R-{number}", name=f"Rule {number}")
    version = RuleVersion.objects.create(
        rule=rule,
        number=1,
        expression=expression,
        outcome=outcome,
        reason=reason,
        sentence="Amount {amount:money}",
        created_by="test",
    )
    return Release.objects.create(
        lane=lane,
        policy=before.policy,
        rules=[*before.rules, {"version": version.pk, "mode": "live"}],
        kernel_version=before.kernel_version,
        reason="test",
        activated_by="test",
    )


def payments(*names: str, **changes: Any) -> list[schema.Payment]:
    """Payments by their external ids; changes by path as in `make_document`."""
    return [schema.from_document(make_document(name, **changes)) for name in names]


def keep(bank: ApiClient, *names: str, **changes: Any) -> list[int]:
    """Ingest payments, in one commit; their ids."""
    return [receipt.id for receipt in services.ingest(payments(*names, **changes), client=bank)]


def prepared(bank: ApiClient, *names: str, **changes: Any) -> Prepared:
    """Payments as a waiting request would hand them to the lane."""
    return services.prepare(payments(*names, **changes), client=bank, received_at=datetime.now(UTC))


def label(
    transaction_id: int, verdict: str = "fraud", source: str = "investigator", *, at: datetime | None = None
) -> int:
    """One label row; its id."""
    known_at = at or datetime.now(UTC)
    return services.record_labels([LabelIn(transaction_id, verdict, source, known_at)])[0]


def rows(query: str, *params: Any) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with connection.cursor() as cursor:
        cursor.execute(query, params)
        return cursor.fetchall()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
