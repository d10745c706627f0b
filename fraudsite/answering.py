"""Answers of the API: the decision object, from what the lane just judged or from rows.

`judge_now` hands a waiting request to its lane; `find` reads what was decided earlier. Both are hung into
`transactions.answers` when the house starts, because the API lives on the ground floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connection

from alerts.models import Alert
from cases.models import CaseAlert
from scoring.models import BAND, DEGRADED, Release
from scoring.services import resolutions
from transactions import ring
from transactions.codes import OUTCOME

if TYPE_CHECKING:
    from transactions.services import Prepared

MOST_REASONS = 5
HELD = "review"
LATEST = """
    SELECT d.transaction_id, d.outcome, d.score, d.band, d.degraded, d.latency, d.release_id
      FROM unnest(%s) AS asked (id)
      JOIN LATERAL (SELECT * FROM decision WHERE id BETWEEN asked.id * 64 + 1 AND asked.id * 64 + 63
                     ORDER BY id DESC LIMIT 1) d ON true"""


def decision_object(
    *,
    outcome: int,
    score: int,
    band: int,
    degraded: int,
    latency: int,
    release: int,
    names: dict[str, str],
    reasons: Sequence[Mapping[str, Any]] = (),
    case_id: int | None = None,
    resolution: tuple[str, datetime] | None = None,
) -> dict[str, Any]:
    """A decision as the API gives it (spec 2.2); codes as stored, `latency` in micro-seconds."""
    text = OUTCOME.text(outcome)
    return {
        "outcome": text,
        "score": score if score >= 0 else None,
        "band": BAND.text(band) or None,
        "reasons": list(reasons[:MOST_REASONS]),
        "case_id": case_id,
        "resolution": resolution[0] if resolution else ("pending" if text == HELD else None),
        "resolved_at": resolution[1].isoformat() if resolution else None,
        **names,
        "degraded": degraded > 0,
        "degraded_cause": DEGRADED.text(degraded) or None,
        "latency_ms": round(latency / 1000, 3),
        "release": release,
    }


def find(transaction_ids: list[int]) -> dict[int, dict[str, Any]]:
    """The decision objects of those payments that are decided, by transaction id; the newest screening of each."""
    with connection.cursor() as cursor:
        cursor.execute(LATEST, [list(transaction_ids)])
        rows = cursor.fetchall()
    ids = [row[0] for row in rows]
    reasons = dict(Alert.objects.filter(pk__in=ids).values_list("pk", "reasons")) if ids else {}
    cases = dict(CaseAlert.objects.filter(alert_id__in=reasons).values_list("alert_id", "case_id")) if reasons else {}
    resolved = resolutions(list(reasons)) if reasons else {}
    return {
        each: decision_object(
            outcome=outcome,
            score=score,
            band=band,
            degraded=degraded,
            latency=latency,
            release=release,
            names=names(release),
            reasons=reasons.get(each, ()),
            case_id=cases.get(each),
            resolution=resolved.get(each),
        )
        for each, outcome, score, band, degraded, latency, release in rows
    }


@lru_cache(maxsize=64)
def names(release_id: int) -> dict[str, str]:
    """How the API names what a release judged by; a release never changes."""
    release = Release.objects.select_related("model", "policy").get(pk=release_id)
    return {
        "model_version": release.model.version if release.model else "",
        "ruleset_version": f"release-{release.pk}",
        "threshold_set": f"policy-{release.policy.number}",
    }


def judge_now(prepared: Prepared, patience: float) -> dict[str, Any] | None:
    """Have the one payment of a waiting request judged by its lane; see `transactions.answers` for the reply.

    None when the patience (seconds) is out, nobody owns the lane or Valkey is gone: then the caller keeps the payment
    itself, and does not wait in vain.
    """
    try:
        owned = ring.seems_alive(prepared.lane_id)
        raw = ring.ask(prepared.lane_id, prepared.dump(), patience=patience) if owned else None
    except ring.RingGone:
        return None
    if raw is None:
        return None
    reply = msgspec.json.decode(raw)
    if reply["decision"] is None and not reply["conflict"]:
        reply["decision"] = find([reply["id"]]).get(reply["id"])
    return reply
