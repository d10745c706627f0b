"""Deciding a batch, and what becomes of the payments it held.

`decide` is pure: facts, the kernel's matrix and a judge in, columns out. Whether a batch has one payment or
thousands, with a model or without, it is the same few vector operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import numpy as np
from django.db import connection
from django.db.transaction import atomic

from scoring import features
from scoring.entries import Told, told
from scoring.matching import Found, Pairs
from scoring.models import BASIS, DEGRADED, SCREENINGS
from scoring.policy import APPROVE, NO_SCORE, REVIEW
from scoring.reasons import Reason, rule_hits, sentences
from scoring.registry import to_score
from scoring.releases import Judge
from transactions import clock
from transactions.binary import Column
from transactions.codes import OUTCOME

FIRST_SCREENING = 1
RECORDED = OUTCOME.code("recorded")
MODEL_UNAVAILABLE = DEGRADED.code("model_unavailable")
MODEL_OFF = DEGRADED.code("model_off")
FAILED_TWICE = DEGRADED.code("failed_twice")
ALLOW_LIST, BLOCK_LIST = BASIS.code("allow_list"), BASIS.code("block_list")
MOST_MICROS = 2**31 - 1  # the longest latency that can be stored: 35 minutes


@dataclass
class Listed:
    """What a batch hit on lists: `basis` (n,) i2, what decided instead of the score; `rows` and `ids`, of each hit the
    payment's place and the entry, in the order of the places."""

    basis: np.ndarray
    rows: np.ndarray
    ids: np.ndarray

    def of(self, place: int) -> list[int]:
        """Ids of the entries that the payment at `place` hit."""
        return self.ids[self.rows == place].tolist()

    def packed(self) -> list[bytes]:
        """`Decision.list_hits` of each payment."""
        raw, ends = self.ids.astype("<i8").tobytes(), np.searchsorted(self.rows, np.arange(len(self.basis) + 1)) * 8
        return [raw[first:last] for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


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
    screenings: np.ndarray | int = FIRST_SCREENING
    listed: Listed | None = None  # None: no payment hit a list
    latencies: dict[int, np.ndarray] = field(default_factory=dict, repr=False)  # asked for several times a commit
    took: dict[str, float] = field(default_factory=dict)  # seconds by stage

    @property
    def ids(self) -> np.ndarray:
        """The decisions' own ids."""
        return self.facts["id"] * SCREENINGS + self.screenings

    def latency(self, decided_at: int) -> np.ndarray:
        """Micro-seconds from acceptance to `decided_at`; 0 for an import: dated back, it kept nobody waiting."""
        if decided_at not in self.latencies:
            waited = np.maximum(np.minimum(decided_at - self.facts["received_at"], MOST_MICROS), 0)
            self.latencies[decided_at] = np.where(self.facts["import_job"] == 0, waited, 0).astype("i4")
        return self.latencies[decided_at]

    def columns(self, seqs: np.ndarray, decided_at: int) -> dict[str, Column]:
        """The rows of `decision`, for `transactions.binary.store`."""
        listed: dict[str, Column] = {}
        if self.listed is not None:
            listed = {"basis": ("int2", self.listed.basis), "list_hits": ("bytea", self.listed.packed())}
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
            "screening": ("int2", self.screenings),
            "outcome": ("int2", self.outcomes),
            "score": ("int2", self.scores),
            "band": ("int2", self.bands),
            "degraded": ("int2", self.causes()),
            "kernel_version": ("int2", features.KERNEL_VERSION),
            "rule_hits": ("bytea", self.mask),
            "features": ("bytea", np.ascontiguousarray(self.matrix, "<f4").view("u1").reshape(len(self.facts), -1)),
            **listed,
        }

    def causes(self) -> np.ndarray:
        """Why each payment was judged without the model, as codes of DEGRADED; see `degraded_at`."""
        return np.where(self._is_in_full(), 0, self.degraded)

    def _is_in_full(self) -> np.ndarray:
        """Which payments needed no model: those only recorded, and those an allow list let pass."""
        recorded = self.outcomes == RECORDED
        return recorded if self.listed is None else recorded | (self.listed.basis == ALLOW_LIST)

    def basis(self, place: int) -> int:
        """What decided on the payment at `place` instead of the score, as a code of BASIS; 0 = nothing did."""
        return 0 if self.listed is None else int(self.listed.basis[place])

    def degraded_at(self, place: int) -> int:
        """Why the payment at `place` was judged without the model, as a code of DEGRADED; 0 = it was not, or needed
        none."""
        return 0 if self._is_in_full()[place] else self.degraded

    def entries(self, place: int) -> list[Told]:
        """The list entries that the payment at `place` hit, in words."""
        return [] if self.listed is None else told(self.listed.of(place))

    def reasons(self, place: int) -> list[Reason]:
        """Why the payment at `place` was stopped, in sentences."""
        one = slice(place, place + 1)
        return sentences(
            self.matrix[place],
            self.facts[one],
            self.mask[place],
            ruleset=self.judge.ruleset,
            currency=self.judge.currency,
            entries=self.entries(place),
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
    """Judge a batch: lists → model → rules → policy. Rows that are not authorisations get the outcome `recorded` and no
    score.

    `facts` (n,) of dtype FACTS, `matrix` (n, N_FEATURES) float32. Without a model rules alone decide, and it is
    flagged. A block list lifts the outcome to at least its own; an allow list that says so lets a payment pass that no
    block list hits, and neither model nor rules are asked.
    """
    n, judged = len(facts), is_judged(facts)
    found = judge.lists.match(facts) if judge.lists is not None else None
    hits = found.without(~judged) if found is not None else None
    floors, passed = _by_lists(n, found, hits)
    asked = judged & ~passed
    probability, margin = np.full(n, np.nan), np.full(n, np.nan)
    scores = np.full(n, NO_SCORE, "i2")
    began = perf_counter()
    if judge.scorer is not None and asked.all():
        probability, margin[:] = judge.scorer.score(matrix)
        scores = to_score(probability)
    elif judge.scorer is not None and asked.any():
        probability[asked], margin[asked] = judge.scorer.score(matrix[asked])
        scores[asked] = to_score(probability[asked])
    scored = perf_counter()
    mask = judge.ruleset.evaluate(facts, matrix, found)
    took = {"model": scored - began, "rules": perf_counter() - scored}
    mask[~asked] = 0
    outcomes, bands = judge.policy.judge(scores, mask, judge.ruleset, facts)
    listed = _listed(found, hits, floors, passed, outcomes)
    outcomes = np.where(judged, np.maximum(outcomes, floors), RECORDED).astype("i2")
    return Decisions(
        judge, facts, matrix, mask, probability, margin, scores, bands, outcomes, cause(judge), listed=listed, took=took
    )


def joined(parts: list[Decisions]) -> Decisions:
    """Decisions of one judge on stretches of a batch, as those on the batch."""
    if len(parts) == 1:
        return parts[0]
    columns = ("facts", "matrix", "mask", "probability", "margin", "scores", "bands", "outcomes")
    whole: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    took = {stage: sum(part.took[stage] for part in parts) for stage in parts[0].took}
    return replace(parts[0], **whole, listed=_all_listed(parts), latencies={}, took=took)


def _all_listed(parts: list[Decisions]) -> Listed | None:
    if all(part.listed is None for part in parts):
        return None
    nothing = np.empty(0, "i8")
    each = [part.listed or Listed(np.zeros(len(part.facts), "i2"), nothing, nothing) for part in parts]
    starts = np.cumsum([0, *(len(part.facts) for part in parts)])
    rows = [listed.rows + start for listed, start in zip(each, starts, strict=False)]
    basis, ids = ([getattr(listed, name) for listed in each] for name in ("basis", "ids"))
    return Listed(np.concatenate(basis), np.concatenate(rows), np.concatenate(ids))


def _by_lists(n: int, found: Found | None, hits: Pairs | None) -> tuple[np.ndarray, np.ndarray]:
    """The least outcome that block lists demand of each payment, and which ones an allow list lets pass unseen."""
    floors, passed = np.full(n, APPROVE, "i2"), np.zeros(n, bool)
    if found is not None and hits is not None and len(hits[0]):
        rows, places = hits
        np.maximum.at(floors, rows, found.lists.floors[places])
        passed[rows[found.lists.skipping[places]]] = True
        passed &= floors == APPROVE
    return floors, passed


def _listed(
    found: Found | None, hits: Pairs | None, floors: np.ndarray, passed: np.ndarray, outcomes: np.ndarray
) -> Listed | None:
    """The hits as decisions keep them; `outcomes` without the lists."""
    if found is None or hits is None or not len(hits[0]):
        return None
    blocked = (floors > APPROVE) & (floors >= outcomes)
    basis = np.where(passed, ALLOW_LIST, np.where(blocked, BLOCK_LIST, 0)).astype("i2")
    return Listed(basis, hits[0], found.lists.entries["id"][hits[1]])


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
    INSERT INTO hold_resolution (transaction_id, lane, resolution, source, by, resolved_at, final_at)
    SELECT a.id, a.lane, p.default_resolution, 'default', '', %s, now() FROM alert a
      JOIN decision d ON d.id = a.decision_id
      JOIN scoring_release r ON r.id = d.release_id
      JOIN scoring_policyversion p ON p.id = r.policy_id
     WHERE a.hold_until <= %s AND a.hold_until > %s AND a.outcome = {REVIEW}
       AND NOT EXISTS (SELECT FROM hold_resolution h WHERE h.transaction_id = a.id)
     ORDER BY a.hold_until LIMIT %s
    ON CONFLICT DO NOTHING RETURNING transaction_id"""


@atomic
def resolve_held(
    transaction_ids: Sequence[int], resolution: str, *, by: str, source: str, after: timedelta = timedelta()
) -> list[int]:
    """Release or block held payments, once and for good; the ids that this call resolved.

    Ids of payments that are not held, or resolved already, are left out. `resolution` is "released" or "blocked",
    `source` "case", "default" or "api". It is final, and told outside, `after` so long; `take_back` undoes it before.
    """
    if resolution not in ("released", "blocked"):
        raise ValueError("A held payment is released or blocked.")
    decisions = [each * SCREENINGS + FIRST_SCREENING for each in transaction_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO hold_resolution (transaction_id, lane, resolution, source, by, resolved_at, final_at)"
            f" SELECT held.*, %s, %s, %s, %s, clock_timestamp() + %s FROM ({HELD}) held"
            " ON CONFLICT DO NOTHING RETURNING transaction_id",
            [resolution, source, by, clock.now(), after, decisions],
        )
        return [row[0] for row in cursor.fetchall()]


def take_back(transaction_ids: Sequence[int], *, source: str, since: datetime) -> list[int]:
    """Take back what `source` resolved since then and nobody outside was told yet; the ids that are held again.

    The database's clock decides, as it does in `resolutions`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM hold_resolution WHERE transaction_id = ANY(%s) AND source = %s"
            " AND resolved_at >= %s AND final_at > clock_timestamp() RETURNING transaction_id",
            [list(transaction_ids), source, since],
        )
        return [row[0] for row in cursor.fetchall()]


def resolve_overdue_holds(*, within: timedelta | None = None, limit: int = 1000) -> list[int]:
    """Give held payments whose time is up the resolution their policy declares; the ids that were resolved.

    `within` looks only at those whose time was up so short a while ago: what is resolved stays in the index, so that to
    look at all costs more from day to day.
    """
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, [now, now, now - within if within else "-infinity", limit])
        return [row[0] for row in cursor.fetchall()]


def resolutions(ids: Sequence[int]) -> dict[int, tuple[str, Any]]:
    """The resolution of each payment that has a final one: `{transaction id: (resolution, resolved_at)}`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT transaction_id, resolution, resolved_at FROM hold_resolution"
            " WHERE transaction_id = ANY(%s) AND final_at <= clock_timestamp()",
            [list(ids)],
        )
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
