"""Raising alerts with the decisions they belong to, and explaining them afterwards.

`alert_rows` builds the rows of a batch as columns for the lane's own COPY, so that an alert stands or falls with its
decision. What the model contributed takes milli-seconds a row, so `explain` computes it after the commit, from rows
that have none yet, and freezes it.
"""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone

from alerts.models import Alert
from scoring import reasons, releases
from scoring.features import N_FEATURES
from transactions.codes import OUTCOME
from transactions.facts import MINUTE

log = logging.getLogger(__name__)

RECENT = timedelta(days=1)  # alerts that are older stay without an explanation
STOPPED = ("challenge", "review", "decline")
HELD = OUTCOME.code("review")
_DECLINE = OUTCOME.code("decline")
_STOPS = np.isin(np.arange(128), [OUTCOME.code(text) for text in STOPPED])  # by outcome code
FREEZE = """
    INSERT INTO alert_explanation (alert_id, base, margin, kept, model_version, computed_at)
    SELECT * FROM unnest(%s::bigint[], %s::float8[], %s::float8[], %s::text[], %s::text[], %s::timestamptz[])
        ON CONFLICT DO NOTHING"""

Columns = dict[str, tuple[str, Any]]


def stopped(outcomes: np.ndarray) -> np.ndarray:
    """Which decisions raise an alert: a mask of shape (n,) over outcome codes."""
    return _STOPS[outcomes]


def severity(scores: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """1 (most urgent) to 4, by score; whatever the score, a decline is at least 2 and a held payment at least 3."""
    by_score = np.select([scores >= 900, scores >= 700, scores >= 500], [1, 2, 3], 4)
    least = np.select([outcomes == _DECLINE, outcomes == HELD], [2, 3], 4)
    return np.minimum(by_score, least).astype("i2")


def alert_rows(
    facts: np.ndarray,
    decisions: np.ndarray,
    *,
    customer_refs: Sequence[str],
    reasons: Sequence[Sequence[dict[str, Any]]],
    rules: Sequence[Sequence[dict[str, Any]]],
    hold_minutes: int,
) -> Columns:
    """The columns of `alert` for n stopped payments, for `transactions.binary.store(cursor, "alert", columns)`.

    `facts` (n,) of dtype FACTS; `decisions` (n,) with the fields `id seq decided_at outcome score` (times in
    micro-seconds since 2000); `reasons` and `rules` per payment as in `Alert`, the first reason being the top one. A
    payment sent to review is held for `hold_minutes`.
    """
    held = decisions["outcome"] == HELD
    until = (decisions["decided_at"] + hold_minutes * MINUTE).tolist()
    return {
        "id": ("int8", facts["id"]),
        "decision_id": ("int8", decisions["id"]),
        "lane": ("int2", facts["lane"]),
        "seq": ("int8", decisions["seq"]),
        "raised_at": ("timestamptz", decisions["decided_at"]),
        "occurred_at": ("timestamptz", facts["occurred_at"]),
        "outcome": ("int2", decisions["outcome"].astype("i2")),
        "score": ("int2", decisions["score"].astype("i2")),
        "severity": ("int2", severity(decisions["score"], decisions["outcome"])),
        "customer": ("int8", facts["customer"]),
        "merchant": ("int8", facts["merchant"]),
        "device": ("int8", facts["device"]),
        "amount": ("int8", facts["amount"]),
        "currency": ("int2", facts["currency"]),
        "amount_base": ("int8", facts["amount_base"]),
        "channel": ("int2", facts["channel"]),
        "country": ("int2", country(facts)),
        "customer_ref": ("text", list(customer_refs)),
        "top_reason": ("text", [said[0]["text"][:200] if said else "" for said in reasons]),
        "reasons": ("jsonb", [json.dumps(list(said)) for said in reasons]),
        "rules": ("jsonb", [json.dumps(list(hits)) for hits in rules]),
        "hold_until": ("timestamptz", [at if hold else None for at, hold in zip(until, held, strict=True)]),
    }


def country(facts: np.ndarray) -> np.ndarray:
    """Where the money went: the counterparty's or merchant's country, else where the payment was made."""
    other = np.where(facts["counterparty_country"] != 0, facts["counterparty_country"], facts["merchant_country"])
    return np.where(other != 0, other, facts["location_country"]).astype("i2")


def unexplained(limit: int, *, within: timedelta = RECENT) -> list[Alert]:
    """The newest alerts whose decision used a model and that have no explanation; decisions loaded."""
    recent = Alert.objects.filter(raised_at__gte=timezone.now() - within, explanation__isnull=True)
    scored = recent.exclude(decision__margin=float("nan")).defer("reasons", "rules")
    return list(scored.select_related("decision").order_by("-raised_at")[:limit])


def explain(*, limit: int = 200, within: timedelta = RECENT) -> int:
    """Compute and freeze what is owed, newest first; returns how many were explained. Safe to run twice."""
    due: dict[int, list[Alert]] = {}
    for alert in unexplained(limit, within=within):
        due.setdefault(alert.decision.release_id, []).append(alert)
    rows = [row for release_id, alerts in due.items() for row in explanations(release_id, alerts)]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(FREEZE, [list(column) for column in zip(*rows, strict=True)])
    return len(rows)


def explanations(release_id: int, alerts: Sequence[Alert]) -> list[tuple[Any, ...]]:
    """What the model of one release contributed to its alerts, from the decisions' stored vectors: rows for `FREEZE`.

    None for an alert while the model cannot be loaded, or whose vector is of a kernel that this software no longer has.
    """
    judge = releases.assemble(release_id)
    fit = [alert for alert in alerts if judge.scorer and len(alert.decision.features) == N_FEATURES * 4]
    if len(fit) < len(alerts):
        log.warning("alerts stay unexplained", extra={"alerts": len(alerts) - len(fit), "release": release_id})
    if not fit:
        return []
    vectors = np.frombuffer(b"".join(bytes(alert.decision.features) for alert in fit), "<f4").reshape(len(fit), -1)
    told = reasons.contributions_of(judge.scorer, vectors, currency=judge.currency)
    now = timezone.now()
    return [
        (alert.pk, each.base, each.margin, json.dumps(each.kept), judge.model_version, now)
        for alert, each in zip(fit, told, strict=True)
    ]
