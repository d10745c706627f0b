"""Rows for tests, inserted directly: a payment with its decision, alert and case without running a lane.

Each maker takes what the test cares about and fills in the rest; ids come from the real sequences.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from alerts.models import Alert, AlertExplanation
from cases.cards import note_cards
from cases.models import Case, CaseAlert, CloseReason, Queue
from scoring.models import Decision, HoldResolution, PolicyVersion, Release, decision_id
from transactions.codes import entity_key
from transactions.models import ApiClient, Lane, Transaction, TransactionDetail

_numbers = count(1)

WORK = ("cases.view_case", "cases.work_case", "cases.close_case", "alerts.view_alert")
LEAD = (*WORK, "cases.lead_queue")
READ = ("cases.view_case", "alerts.view_alert")
SENTENCE = "7 payments in 10 min; usual 0–1"
ALERT_ONLY = ("raised_at", "severity", "country", "hold_until", "top_reason", "reasons", "rules")
COPIED = (
    "occurred_at",
    "customer",
    "customer_ref",
    "merchant",
    "device",
    "amount",
    "currency",
    "amount_base",
    "channel",
    "lane",
)
THRESHOLDS = {"default": {"challenge": 500, "review": 700, "decline": 900}}


def make_lane(name: str = "cards", **fields: Any) -> Lane:
    """A lane by name; the same one when asked again."""
    return Lane.objects.get_or_create(name=name, defaults=fields)[0]


def make_client(lane: Lane | None = None, name: str = "bank") -> ApiClient:
    """An API client of a lane; the same one when asked again."""
    return ApiClient.objects.get_or_create(name=name, defaults={"lane": lane or make_lane()})[0]


def make_user(username: str, *permissions: str, **fields: Any) -> Any:
    """A member of staff with permissions given as "app.codename". A password costs time: give one only to sign in."""
    user = get_user_model().objects.create_user(username, is_staff=True, **fields)
    for name in permissions:
        app, codename = name.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return get_user_model().objects.get(pk=user.pk)


def make_release(lane: Lane | None = None, *, default_resolution: str = "released") -> Release:
    """The lane's newest release, made with policy 1 and no rules if there is none."""
    lane = lane or make_lane()
    release = Release.objects.filter(lane=lane).first()
    if release:
        return release
    policy, _ = PolicyVersion.objects.get_or_create(
        lane=lane,
        number=1,
        defaults={"thresholds": THRESHOLDS, "default_resolution": default_resolution, "created_by": "test"},
    )
    return Release.objects.create(lane=lane, policy=policy, kernel_version=1, reason="test", activated_by="test")


def make_transaction(
    customer: str = "cust-0001", *, lane: Lane | None = None, document: dict | None = None, **fields: Any
) -> Transaction:
    """A payment with its document. Tokens given as text (`card="tok-1"`) become entity keys and enter the document."""
    lane = lane or make_lane()
    client = make_client(lane)
    now = timezone.now()
    values: dict[str, Any] = {
        "occurred_at": now,
        "received_at": now,
        "amount": 12500,
        "currency": "EUR",
        "type": "purchase",
        "channel": "ecommerce",
        **fields,
    }
    tokens = {
        kind: values[kind]
        for kind in ("account", "card", "device", "merchant", "counterparty")
        if isinstance(values.get(kind), str)
    }
    values |= {kind: entity_key(kind, token) for kind, token in tokens.items()}
    values.setdefault("amount_base", values["amount"])
    values.setdefault("external_id", f"test-{next(_numbers)}")
    payment = Transaction.objects.create(
        id=_next("transaction_id_seq"),
        lane=lane.pk,
        client=client.pk,
        customer=entity_key("customer", customer),
        customer_ref=customer,
        **values,
    )
    shown = {"external_id": payment.external_id, "customer": {"id": customer}} | {
        kind: {"token" if kind == "card" else "id": token} for kind, token in tokens.items()
    }
    TransactionDetail.objects.create(transaction=payment, document=shown | (document or {}))
    return payment


def make_decision(
    payment: Transaction | None = None, *, outcome: str = "review", score: int = 800, **fields: Any
) -> Decision:
    """The payment's first decision."""
    payment = payment or make_transaction()
    values: dict[str, Any] = {
        "seq": payment.pk,
        "decided_at": payment.received_at + timedelta(milliseconds=9),
        "latency": 9000,
        "probability": score / 1000,
        "margin": 1.2,
        "band": 3 if score >= 900 else 2 if score >= 700 else 1 if score >= 500 else 0,
        "kernel_version": 1,
        "rule_hits": b"",
        "features": b"",
        **fields,
    }
    values.setdefault("release", make_release(Lane.objects.get(pk=payment.lane)))
    return Decision.objects.create(
        id=decision_id(payment.pk),
        transaction=payment,
        lane=payment.lane,
        screening=1,
        outcome=outcome,
        score=score,
        **values,
    )


def make_alert(
    customer: str = "cust-0001",
    *,
    payment: Transaction | None = None,
    outcome: str = "review",
    score: int = 800,
    **fields: Any,
) -> Alert:
    """An alert with its payment and decision; a reviewed payment is held for two hours.

    Fields of `ALERT_ONLY` are the alert's, all others go to the payment.
    """
    own = {name: fields.pop(name) for name in ALERT_ONLY if name in fields}
    payment = payment or make_transaction(customer, **fields)
    decision = make_decision(payment, outcome=outcome, score=score)
    values: dict[str, Any] = {
        "raised_at": decision.decided_at,
        "severity": 1 if score >= 900 else 2 if score >= 700 else 3,
        "country": "DE",
        "hold_until": decision.decided_at + timedelta(hours=2) if outcome == "review" else None,
        "top_reason": SENTENCE,
        "reasons": [{"code": "VELOCITY", "text": SENTENCE, "source": "rule", "contribution": 0.0}],
        "rules": [{"rule": "R-101", "version": 2, "mode": "live", "text": SENTENCE, "values": {"card_count_10m": 7}}],
    }
    values |= {name: getattr(payment, name) for name in COPIED} | own
    return Alert.objects.create(
        transaction=payment, decision=decision, seq=decision.seq, outcome=outcome, score=score, **values
    )


def make_explanation(alert: Alert, *parts: tuple[str, float, float]) -> AlertExplanation:
    """Frozen contributions, given as (feature, value, contribution)."""
    given = parts or [("card_count_10m", 7.0, 1.4), ("customer_age_days", 900.0, -0.3)]
    found = [[name, value, amount, f"{name} is {value:g}"] for name, value, amount in given]
    return AlertExplanation.objects.create(
        alert=alert,
        base=-3.2,
        margin=-3.2 + sum(amount for _, _, amount in given),
        kept={"currency": "EUR", "parts": found},
        model_version="m1",
    )


def make_queue(*members: Any, name: str = "Cards", lane: Lane | None = None, **fields: Any) -> Queue:
    """A queue of the lane with these members; the same one when asked again."""
    queue, _ = Queue.objects.get_or_create(
        slug=name.lower().replace(" ", "-"), defaults={"name": name, "lane": lane or make_lane(), **fields}
    )
    queue.members.add(*members)
    return queue


def make_case(*alerts: Alert, queue: Queue | None = None, customer: str = "cust-0001", **fields: Any) -> Case:
    """An open case of these alerts (one is made if none is given)."""
    alerts = alerts or (make_alert(customer),)
    queue = queue or make_queue()
    worst = max(alerts, key=lambda alert: alert.score)
    copied = {
        name: getattr(worst, name)
        for name in ("customer", "customer_ref", "score", "top_reason", "amount", "currency", "channel", "country")
    }
    values: dict[str, Any] = {
        "grouping_key": worst.customer,
        "priority": worst.severity,
        "due_at": timezone.now() + timedelta(minutes=30),
        "alert_count": len(alerts),
        "amount_base": sum(alert.amount_base for alert in alerts),
        **copied,
        **fields,
    }
    case = Case.objects.create(lane=queue.lane, queue=queue, **values)
    CaseAlert.objects.bulk_create([CaseAlert(alert=alert, case=case) for alert in alerts])
    note_cards(alert.pk for alert in alerts)
    return case


def make_close_reason(code: str = "customer_denies", *dispositions: str) -> CloseReason:
    """A close reason that fits every disposition unless some are named."""
    fits = list(dispositions) or [value for value, _ in Case.Disposition.choices]
    return CloseReason.objects.get_or_create(
        code=code, defaults={"title": "Customer denies the payment", "dispositions": fits}
    )[0]


def _next(sequence: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(%s)", [sequence])
        return int(cursor.fetchone()[0])


def past_the_undo() -> None:
    """As if the seconds in which a close can be taken back were over: its resolutions are final."""
    HoldResolution.objects.update(final_at=timezone.now())
