"""Deciding a batch, and what becomes of the payments it held.

`decide` is pure: facts, the kernel's matrix and a judge in, columns out. Whether a batch has one payment or
thousands, with a model or without, it is the same few vector operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection
from django.db.transaction import atomic
from django.utils import timezone

from scoring import features
from scoring.models import DEGRADED, SCREENINGS
from scoring.policy import NO_SCORE, REVIEW
from scoring.reasons import Reason, rule_hits, sentences
from scoring.registry import to_score
from scoring.releases import Judge
from transactions.binary import Column
from transactions.codes import OUTCOME

FIRST_SCREENING = 1
RECORDED = OUTCOME.code("recorded")
MODEL_UNAVAILABLE = DEGRADED.code("model_unavailable")
MODEL_OFF = DEGRADED.code("model_off")
FAILED_TWICE = DEGRADED.code("failed_twice")
MOST_MICROS = 2**31 - 1  # the longest latency that can be stored: 35 minutes


@dataclass
class Decisions:
    """How n payments were judged, as columns of length n; `matrix` is (n, N_FEATURES) f4, `mask` (n, rules) u1."""

    judge: Judge
    facts: np.ndarray
    matrix: np.ndarray
    mask: np.ndarray
    probability: np.ndarray
    margin: np.ndarray
    scores: np.ndarray
    bands: np.ndarray
    outcomes: np.ndarray
    degraded: int

    @property
    def ids(self) -> np.ndarray:
        """The decisions' own ids."""
        return self.facts["id"] * SCREENINGS + FIRST_SCREENING

    def latency(self, decided_at: int) -> np.ndarray:
        """Micro-seconds from acceptance to `decided_at`; 0 for an import: dated back, it kept nobody waiting."""
        waited = np.clip(decided_at - self.facts["received_at"], 0, MOST_MICROS).astype("i4")
        return np.where(self.facts["import_job"] == 0, waited, 0).astype("i4")

    def columns(self, seqs: np.ndarray, decided_at: int) -> dict[str, Column]:
        """The rows of `decision`, for `transactions.binary.store`."""
        return {
            "id": ("int8", self.ids),
            "transaction_id": ("int8", self.facts["id"]),
            "seq": ("int8", seqs),
            "decided_at": ("timestamptz", decided_at),
            "latency": ("int4", self.latency(decided_at)),
            "release_id": ("int4", self.judge.release_id),
            "probability": ("float8", self.probability),
            "margin": ("float8", self.margin),
            "lane": ("int2", self.facts["lane"]),
            "screening": ("int2", FIRST_SCREENING),
            "outcome": ("int2", self.outcomes),
            "score": ("int2", self.scores),
            "band": ("int2", self.bands),
            "degraded": ("int2", np.where(self.outcomes == RECORDED, 0, self.degraded)),
            "kernel_version": ("int2", features.KERNEL_VERSION),
            "rule_hits": ("bytea", self.mask),
            "features": ("bytea", np.ascontiguousarray(self.matrix, "<f4").view("u1").reshape(len(self.facts), -1)),
        }

    def reasons(self, place: int) -> list[Reason]:
        """Why the payment at `place` was stopped, in sentences."""
        one = slice(place, place + 1)
        return sentences(
            self.matrix[place],
            self.facts[one],
            self.mask[place],
            ruleset=self.judge.ruleset,
            currency=self.judge.currency,
        )

    def hits(self, place: int) -> list[dict[str, Any]]:
        """Every rule that hit the payment at `place`, with the values it saw."""
        one = slice(place, place + 1)
        return rule_hits(
            self.matrix[place],
            self.facts[one],
            self.mask[place],
            ruleset=self.judge.ruleset,
            currency=self.judge.currency,
        )


def is_judged(facts: np.ndarray) -> np.ndarray:
    """Which payments are judged: authorisations. Clearings, advices and reversals are only profiled."""
    return features.kinds_of(facts) == features.JUDGED


def decide(facts: np.ndarray, matrix: np.ndarray, judge: Judge) -> Decisions:
    """Judge a batch: model → rules → policy. Rows that are not authorisations get the outcome `recorded` and no score.

    `facts` (n,) of dtype FACTS, `matrix` (n, N_FEATURES) float32. Without a model rules alone decide, and it is
    flagged.
    """
    n, judged = len(facts), is_judged(facts)
    probability, margin = np.full(n, np.nan), np.full(n, np.nan)
    scores = np.full(n, NO_SCORE, "i2")
    if judge.scorer is not None and judged.any():
        probability[judged], margin[judged] = judge.scorer.score(np.ascontiguousarray(matrix[judged]))
        scores[judged] = to_score(probability[judged])
    mask = judge.ruleset.evaluate(facts, matrix)
    mask[~judged] = 0
    outcomes, bands = judge.policy.judge(scores, mask, judge.ruleset, facts)
    outcomes = np.where(judged, outcomes, RECORDED).astype("i2")
    return Decisions(judge, facts, matrix, mask, probability, margin, scores, bands, outcomes, cause(judge))


def cause(judge: Judge) -> int:
    """Why the judge decides without a model, as a code of DEGRADED; 0 if it has one."""
    if judge.scorer is not None:
        return 0
    return MODEL_UNAVAILABLE if judge.flaw else MODEL_OFF


def decide_unseen(facts: np.ndarray, judge: Judge) -> Decisions:
    """The fallback for payments that cannot be judged: people look at them. No features, no model, no rules."""
    n = len(facts)
    nothing = np.full(n, np.nan)
    outcomes = np.where(is_judged(facts), REVIEW, RECORDED).astype("i2")
    return Decisions(
        judge=judge,
        facts=facts,
        matrix=np.full((n, features.N_FEATURES), np.nan, "f4"),
        mask=np.zeros((n, len(judge.ruleset.rules)), "u1"),
        probability=nothing,
        margin=nothing,
        scores=np.full(n, NO_SCORE, "i2"),
        bands=np.zeros(n, "i2"),
        outcomes=outcomes,
        degraded=FAILED_TWICE,
    )


# --- held payments ----------------------------------------------------------------------------------------------------

HELD = f"""
    SELECT d.transaction_id, d.lane FROM decision d
     WHERE d.id = ANY(%s) AND d.outcome = {REVIEW}"""
OVERDUE = f"""
    INSERT INTO hold_resolution (transaction_id, lane, resolution, source, by, resolved_at)
    SELECT a.id, a.lane, p.default_resolution, 'default', '', %s FROM alert a
      JOIN decision d ON d.id = a.decision_id
      JOIN scoring_release r ON r.id = d.release_id
      JOIN scoring_policyversion p ON p.id = r.policy_id
     WHERE a.hold_until <= %s AND a.outcome = {REVIEW}
       AND NOT EXISTS (SELECT FROM hold_resolution h WHERE h.transaction_id = a.id)
     ORDER BY a.hold_until LIMIT %s
    ON CONFLICT DO NOTHING RETURNING transaction_id"""


@atomic
def resolve_held(transaction_ids: Sequence[int], resolution: str, *, by: str, source: str) -> list[int]:
    """Release or block held payments, once and for good; the ids that this call resolved.

    Ids of payments that are not held, or resolved already, are left out. `resolution` is "released" or "blocked",
    `source` "case", "default" or "api".
    """
    if resolution not in ("released", "blocked"):
        raise ValueError("A held payment is released or blocked.")
    decisions = [each * SCREENINGS + FIRST_SCREENING for each in transaction_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO hold_resolution (transaction_id, lane, resolution, source, by, resolved_at)"
            f" SELECT held.*, %s, %s, %s, %s FROM ({HELD}) held ON CONFLICT DO NOTHING RETURNING transaction_id",
            [resolution, source, by, timezone.now(), decisions],
        )
        return [row[0] for row in cursor.fetchall()]


def resolve_overdue_holds(*, limit: int = 1000) -> list[int]:
    """Give held payments whose time is up the resolution their policy declares; the ids that were resolved."""
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, [now, now, limit])
        return [row[0] for row in cursor.fetchall()]


def resolutions(ids: Sequence[int]) -> dict[int, tuple[str, Any]]:
    """The resolution of each payment that has one: `{transaction id: (resolution, resolved_at)}`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT transaction_id, resolution, resolved_at FROM hold_resolution WHERE transaction_id = ANY(%s)",
            [list(ids)],
        )
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
