"""Policy: score and rule hits become one outcome; the thresholds live here.

A channel has its own thresholds or takes the default ones. The score alone gives the band; a live rule that hits lifts
the outcome to at least its own, never lowers it. Without a model there is no score and no band: rules alone decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scoring.rules import Ruleset
from transactions.codes import CHANNEL, OUTCOME

STEPS = ("challenge", "review", "decline")
DEFAULT = "default"
NO_SCORE = -1

APPROVE, CHALLENGE, REVIEW, DECLINE = (OUTCOME.code(text) for text in ("approve", "challenge", "review", "decline"))


class PolicyError(ValueError):
    """Thresholds that cannot be: names the segment and what is wrong."""


class Judged(NamedTuple):
    """Outcome codes (OUTCOME) and bands (BAND, by score alone; 0 without a score), both int16 of shape (n,)."""

    outcomes: np.ndarray
    bands: np.ndarray


def check_thresholds(thresholds: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The thresholds in their canonical form. Raises PolicyError."""
    if DEFAULT not in thresholds:
        raise PolicyError("Thresholds for all other channels (default) are missing.")
    unknown = [name for name in thresholds if name != DEFAULT and name not in CHANNEL]
    if unknown:
        raise PolicyError(f"{unknown[0]} is not a channel.")
    return {name: _steps(name, thresholds[name]) for name in [DEFAULT, *CHANNEL] if name in thresholds}


def _steps(name: str, given: Any) -> dict[str, int]:
    if not isinstance(given, Mapping) or set(given) != set(STEPS):
        raise PolicyError(f"{name} needs a score each for {', '.join(STEPS)}.")
    steps = {step: given[step] for step in STEPS}
    for step, score in steps.items():
        if isinstance(score, bool) or not isinstance(score, int) or not 1 <= score <= 1000:
            raise PolicyError(f"{name}: {step} must be a whole score from 1 to 1000.")
    if not steps["challenge"] <= steps["review"] <= steps["decline"]:
        raise PolicyError(f"{name}: challenge, review and decline must rise in this order.")
    return steps


def limits(thresholds: Mapping[str, Mapping[str, int]]) -> np.ndarray:
    """Scores from which, by channel code and step: int16 of shape (channels + 1, 3); row 0 is the default."""
    table = np.empty((len(CHANNEL.codes), len(STEPS)), dtype=np.int16)
    table[:] = [thresholds[DEFAULT][step] for step in STEPS]
    for name, steps in thresholds.items():
        if name != DEFAULT:
            table[CHANNEL.code(name)] = [steps[step] for step in STEPS]
    return table


@dataclass(frozen=True)
class Policy:
    """One policy version, ready to judge."""

    number: int
    limits: np.ndarray
    hold_minutes: int
    default_resolution: str

    @classmethod
    def from_version(cls, version: Any) -> Policy:
        """From a `PolicyVersion`. Raises PolicyError for thresholds that cannot be."""
        thresholds = check_thresholds(version.thresholds)
        return cls(version.number, limits(thresholds), version.hold_minutes, version.default_resolution)

    def bands(self, scores: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """The band (1 low … 4 decline; 0 without a score) of each score under its channel's thresholds."""
        known = np.where(channels < len(self.limits), channels, 0)
        reached = (scores[:, None] >= self.limits[known]).sum(axis=1) + 1
        return np.where(scores < 0, 0, reached).astype(np.int16)

    def judge(self, scores: np.ndarray, mask: np.ndarray, ruleset: Ruleset, facts: np.ndarray) -> Judged:
        """Outcomes and bands of a batch.

        `scores`: (n,) 0–1000, or NO_SCORE (-1) where no model spoke; `mask`: as `Ruleset.evaluate` gives it.
        """
        bands = self.bands(scores, facts["channel"])
        floors = (mask * ruleset.floors).max(axis=1, initial=APPROVE)
        return Judged(np.maximum(bands, floors).astype(np.int16), bands)
