"""Any decision explained, now or in years: from what was stored with it, and the release that judged it.

What an alert froze is told as it stands (its reasons, the values its rules saw, the model's contributions). For every
other decision the same is computed again from the stored vector, by the model and the rules of its release, which never
change; the answer says so. Contributions add up to the margin, the trees' sum before calibration; the check is part of
the answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from django.db import connection

from alerts.models import Alert
from alerts.services import STOPPED
from scoring import features, reasons, releases, wording
from scoring.entries import entry_ids, sentence, told
from scoring.models import BAND, BASIS, DEGRADED, Decision, ListEntry, decision_id
from scoring.wording import Seen
from transactions import binary
from transactions.facts import FACT_COLUMNS, FACTS

CLOSE = 1e-3  # of margin: float32 sums of some hundred trees, and six decimals kept of each contribution
FACTS_OF = f"SELECT {', '.join(FACT_COLUMNS)} FROM transaction WHERE id = %s"
OTHER_KERNEL = "The stored vector is of kernel {}, which this software no longer has; its values cannot be named."
NO_MODEL = "The model of this release cannot be loaded; its contributions cannot be computed."


def live_decision(transaction_id: int, screening: int | None = None) -> Decision | None:
    """The decision with the highest screening, or the one of that number; one look at the primary key."""
    if screening is not None:
        return Decision.objects.filter(pk=decision_id(transaction_id, screening)).first()
    of_payment = Decision.objects.filter(pk__range=(decision_id(transaction_id, 1), decision_id(transaction_id, 63)))
    return of_payment.order_by("-pk").first()


def explain_decision(decision: Decision) -> dict[str, Any]:
    """Everything that judging saw and did, as plain JSON (docs/integrate.md tells each field)."""
    judge = releases.assemble(decision.release_id)
    alert = Alert.objects.select_related("explanation").filter(pk=decision.transaction_id).first()
    alert = alert if alert is not None and alert.decision_id == decision.pk else None
    vector = _vector(decision)
    facts, mask = _facts(decision.transaction_id), np.frombuffer(decision.rule_hits, "u1")
    told = _contributions(decision, judge, alert, vector)
    return {
        "transaction_id": decision.transaction_id,
        "screening": decision.screening,
        "seq": decision.seq,
        "decided_at": decision.decided_at.isoformat(),
        "outcome": decision.outcome,
        "score": decision.score if decision.score >= 0 else None,
        "band": BAND.text(decision.band) or None,
        "probability": _finite(decision.probability),
        "basis": BASIS.text(decision.basis) or None,
        "degraded": decision.degraded > 0,
        "degraded_cause": DEGRADED.text(decision.degraded) or None,
        "reasons": _reasons(decision, judge, alert, vector, facts, mask),
        "rules": alert.rules if alert else _rules(judge, vector, facts, mask),
        "lists": list_entries(decision.list_hits),
        "features": _features(vector, judge.currency) if vector is not None else [],
        "model": told,
        "release": {"id": decision.release_id, **judge.names, "kernel_version": decision.kernel_version},
        "notes": [] if vector is not None else [OTHER_KERNEL.format(decision.kernel_version)],
    }


def reasons_of(transaction_ids: list[int]) -> dict[int, list[Any]]:
    """The reasons of live decisions that no alert keeps: stopped by a re-screening where another decision raised it."""
    found = {}
    for transaction_id in transaction_ids:
        decision = live_decision(transaction_id)
        if decision is None or decision.outcome not in STOPPED:
            continue
        judge, facts = releases.assemble(decision.release_id), _facts(transaction_id)
        mask = np.frombuffer(decision.rule_hits, "u1")
        found[transaction_id] = _reasons(decision, judge, None, _vector(decision), facts, mask)
    return found


def _vector(decision: Decision) -> np.ndarray | None:
    """The stored vector (N_FEATURES,) f4; None where it belongs to another kernel."""
    is_ours = decision.kernel_version == features.KERNEL_VERSION and len(decision.features) == features.N_FEATURES * 4
    return np.frombuffer(decision.features, "<f4") if is_ours else None


def _facts(transaction_id: int) -> np.ndarray:
    with connection.cursor() as cursor:
        return binary.fetch(cursor, FACTS_OF, [transaction_id], FACTS)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _features(vector: np.ndarray, currency: str) -> list[dict[str, Any]]:
    """Every feature with the value that was seen; null where it was not known."""
    seen = Seen(vector, currency)
    return [
        {
            "name": feature.name,
            "title": feature.description,
            "unit": feature.unit,
            "window": feature.window,
            "entity": feature.entity,
            "value": _finite(value),
            "text": wording.sentence(feature.name, seen),
        }
        for feature, value in zip(features.FEATURES, vector.tolist(), strict=True)
    ]


def _reasons(
    decision: Decision,
    judge: releases.Judge,
    alert: Alert | None,
    vector: np.ndarray | None,
    facts: np.ndarray,
    mask: np.ndarray,
) -> list[Any]:
    if alert is not None:
        return list(alert.reasons)
    entries = told(entry_ids(decision.list_hits))
    if decision.outcome not in STOPPED:
        return list(reasons.list_reasons(entries, decisive=False)) if decision.basis else []
    if vector is None:
        return []
    return list(reasons.sentences(vector, facts, mask, ruleset=judge.ruleset, currency=judge.currency, entries=entries))


def _rules(judge: releases.Judge, vector: np.ndarray | None, facts: np.ndarray, mask: np.ndarray) -> list[Any]:
    """The rules hit, with the values they saw."""
    if vector is None or not mask.any():
        return []
    return reasons.rule_hits(vector, facts, mask, ruleset=judge.ruleset, currency=judge.currency)


def list_entries(hits: bytes | memoryview) -> list[dict[str, Any]]:
    """The list entries that a decision hit, in their order; `hits` as stored: ids, int64, little-endian."""
    ids = entry_ids(hits)
    found = ListEntry.objects.select_related("list").in_bulk(ids) if ids else {}
    return [
        {
            "entry": entry.pk,
            "list": entry.list.name,
            "kind": entry.list.kind,
            "subject": entry.list.subject,
            "value": entry.value,
            "text": sentence(entry),
            "reason": entry.reason,
            "added_at": entry.added_at.isoformat(),
            "expires_at": entry.expires_at.isoformat() if entry.expires_at else None,
        }
        for entry in (found[each] for each in ids if each in found)
    ]


# --- the model's part -------------------------------------------------------------------------------------------------


def _contributions(
    decision: Decision, judge: releases.Judge, alert: Alert | None, vector: np.ndarray | None
) -> dict[str, Any] | None:
    """What the model made of it, summed by reason code and each by each; None where no model judged."""
    if not math.isfinite(decision.margin):
        return None
    frozen = getattr(alert, "explanation", None) if alert else None
    if frozen is not None:
        return _told(decision, frozen.base, reasons.parts_of(frozen.kept), recomputed=False)
    if vector is None or judge.scorer is None:
        return {
            "margin": decision.margin,
            "note": OTHER_KERNEL.format(decision.kernel_version) if judge.scorer else NO_MODEL,
        }
    told = reasons.contributions(judge.scorer, vector, currency=judge.currency)
    return _told(decision, told.base, told.contributions, recomputed=True)


def _told(decision: Decision, base: float, parts: list[dict[str, Any]], *, recomputed: bool) -> dict[str, Any]:
    total = base + math.fsum(part["contribution"] for part in parts)
    difference = total - decision.margin
    return {
        "margin": decision.margin,
        "base": base,
        "groups": reasons.grouped(parts),
        "contributions": parts,
        "adds_up": {
            "ok": abs(difference) <= CLOSE,
            "sum": round(total, 6),
            "difference": round(difference, 6),
            "within": CLOSE,
        },
        "recomputed": recomputed,
    }
