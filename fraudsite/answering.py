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

from alerts.explanations import reasons_of
from alerts.models import Alert
from cases.models import CaseAlert
from scoring.entries import entry_ids, told
from scoring.models import BAND, BASIS, DEGRADED, SCREENINGS, Release
from scoring.reasons import Reason, list_reasons
from scoring.screening import histories
from scoring.services import resolutions
from transactions import ring
from transactions.codes import OUTCOME

if TYPE_CHECKING:
    from transactions.services import Prepared

MOST_REASONS = 5
HELD = "review"
LATEST = """
    SELECT d.transaction_id, d.outcome, d.score, d.band, d.degraded, d.latency, d.release_id, d.screening, d.basis,
           d.list_hits
      FROM unnest(%s) AS asked (id)
      JOIN LATERAL (SELECT * FROM decision WHERE id BETWEEN asked.id * 64 + 1 AND asked.id * 64 + 63
                     ORDER BY id DESC LIMIT 1) d ON true"""

DECIDED = """
    SELECT count(*) FROM unnest(%s::bigint[]) AS asked (id)
     WHERE EXISTS (SELECT FROM decision d WHERE d.id = asked.id * 64 + 1)"""


def decision_object(
    *,
    outcome: int,
    score: int,
    band: int,
    degraded: int,
    latency: int,
    release: int,
    names: dict[str, str],
    basis: int = 0,
    reasons: Sequence[Mapping[str, Any]] = (),
    case_id: int | None = None,
    resolution: tuple[str, datetime] | None = None,
    screening: int = 1,
    history: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A decision as the API gives it (spec 2.2); codes as stored, `latency` in micro-seconds.

    `history`: all screenings of a payment that was judged again, the first one first. Only that one can hold money.
    """
    text = OUTCOME.text(outcome)
    first = history[0]["outcome"] if history else text
    return {
        "outcome": text,
        "score": score if score >= 0 else None,
        "band": BAND.text(band) or None,
        "basis": BASIS.text(basis) or None,
        "reasons": list(reasons[:MOST_REASONS]),
        "case_id": case_id,
        "resolution": resolution[0] if resolution else ("pending" if first == HELD else None),
        "resolved_at": resolution[1].isoformat() if resolution else None,
        **names,
        "degraded": degraded > 0,
        "degraded_cause": DEGRADED.text(degraded) or None,
        "latency_ms": round(latency / 1000, 3),
        "release": release,
        "screening": screening,
        "history": list(history),
    }


def find(transaction_ids: list[int]) -> dict[int, dict[str, Any]]:
    """The decision objects of those payments that are decided, by transaction id; the newest screening of each."""
    with connection.cursor() as cursor:
        cursor.execute(LATEST, [list(transaction_ids)])
        rows = cursor.fetchall()
    ids = [row[0] for row in rows]
    alerts = {pk: kept for pk, *kept in Alert.objects.filter(pk__in=ids).values_list("pk", "reasons", "decision_id")}
    cases = dict(CaseAlert.objects.filter(alert_id__in=alerts).values_list("alert_id", "case_id")) if alerts else {}
    resolved = resolutions(list(alerts)) if alerts else {}
    reasons = {pk: kept[0] for pk, kept in alerts.items()}
    later = {row[0]: row[0] * SCREENINGS + row[7] for row in rows if row[7] > 1}
    if later:
        reasons |= {pk: () for pk, decision in later.items() if pk not in alerts or alerts[pk][1] != decision}
        reasons |= reasons_of([pk for pk in later if not reasons[pk]])
    reasons |= {row[0]: passed(row[9]) for row in rows if BASIS.text(row[8]) == "allow_list"}
    history = histories(list(later)) if later else {}
    return {
        each: decision_object(
            outcome=outcome,
            score=score,
            band=band,
            degraded=degraded,
            latency=latency,
            release=release,
            names=names(release),
            basis=basis,
            reasons=reasons.get(each, ()),
            case_id=cases.get(each),
            resolution=resolved.get(each),
            screening=screening,
            history=history.get(each, ()),
        )
        for each, outcome, score, band, degraded, latency, release, screening, basis, _ in rows
    }


def passed(list_hits: bytes | memoryview) -> Sequence[Reason]:
    """Why a payment was let through unseen: it has no alert that would keep its reasons."""
    return list_reasons(told(entry_ids(list_hits)), decisive=False)


def count(transaction_ids: list[int]) -> int:
    """How many of those payments are decided."""
    with connection.cursor() as cursor:
        cursor.execute(DECIDED, [list(transaction_ids)])
        return cursor.fetchone()[0]


@lru_cache(maxsize=64)
def names(release_id: int) -> dict[str, str]:
    """How the API names what a release judged by; a release never changes."""
    release = Release.objects.select_related("model", "policy").get(pk=release_id)
    model = None if release.pulled.get("model") else release.model
    return {
        "model_version": model.version if model else "",
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
