"""Releases: what a lane judges by, under one id. A lane's highest release is in force, in every process at once.

`activate` is the only way a release comes to be; `assemble` turns its id into something that judges. A judge whose
model cannot be loaded still judges, by rules and policy alone, and says so.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.db.transaction import atomic

from scoring import features, registry
from scoring.models import ModelVersion, PolicyVersion, Proposal, Release, RuleVersion
from scoring.policy import Policy
from scoring.rules import Ruleset, compile_ruleset
from transactions.codes import EXPONENT
from transactions.models import Lane

log = logging.getLogger(__name__)

RETRY = 10.0  # seconds until a model that could not be loaded is tried again
KEPT = 4  # judges kept ready: the one in force and those of the last few decisions


class _Same:
    """Stands for "as in the release before"; None means "none" for a model."""


SAME: Final = _Same()


@dataclass(frozen=True)
class Judge:
    """A release, ready to judge. `scorer` is None when there is no model (`flaw` says why, if there should be one)."""

    release_id: int
    lane_id: int
    kernel_version: int
    model_version: str
    policy_number: int
    scorer: Any
    flaw: str
    ruleset: Ruleset
    policy: Policy
    currency: str
    born: float

    @property
    def names(self) -> dict[str, str]:
        """How the API and the case page name what judged."""
        return {
            "model_version": self.model_version,
            "ruleset_version": f"release-{self.release_id}",
            "threshold_set": f"policy-{self.policy_number}",
        }


def current(cursor: Any, lane_id: int) -> int | None:
    """The id of the release in force, read through any DB cursor (the lane's under its lock); None before the first."""
    cursor.execute("SELECT id FROM scoring_release WHERE lane_id = %s ORDER BY id DESC LIMIT 1", [lane_id])
    row = cursor.fetchone()
    return row[0] if row else None


def in_force(lane: Lane) -> Release | None:
    """The release in force as a row, with its model and policy."""
    return Release.objects.filter(lane=lane).select_related("model", "policy").order_by("-id").first()


_judges: dict[int, Judge] = {}


def assemble(release_id: int) -> Judge:
    """The judge of a release: loaded once for each process. A missing model is tried again after RETRY seconds.

    Raises Release.DoesNotExist.
    """
    judge = _judges.get(release_id)
    if judge is not None and not (judge.flaw and time.monotonic() - judge.born > RETRY):
        return judge
    judge = _assemble(Release.objects.select_related("lane", "model", "policy").get(pk=release_id))
    _judges[release_id] = judge
    for old in sorted(_judges)[:-KEPT]:
        _judges.pop(old, None)
    return judge


def _assemble(release: Release) -> Judge:
    scorer, flaw = _scorer(release.model)
    currency = release.lane.base_currency
    return Judge(
        release_id=release.pk,
        lane_id=release.lane_id,
        kernel_version=release.kernel_version,
        model_version=release.model.version if release.model else "",
        policy_number=release.policy.number,
        scorer=scorer,
        flaw=flaw,
        ruleset=compile_ruleset(rule_modes(release), exponent=EXPONENT.get(currency, 2)),
        policy=Policy.from_version(release.policy),
        currency=currency,
        born=time.monotonic(),
    )


def _scorer(model: ModelVersion | None) -> tuple[Any, str]:
    if model is None:
        return None, ""
    try:
        return registry.load(model), ""
    except (OSError, ValueError, KeyError) as error:
        log.error("model %s cannot be loaded: %s", model.version, error)
        return None, f"{type(error).__name__}: {error}"


def rule_modes(release: Release) -> list[tuple[RuleVersion, str]]:
    """The release's rule versions with their modes, in the order of the hit mask."""
    versions = RuleVersion.objects.select_related("rule").in_bulk([entry["version"] for entry in release.rules])
    return [(versions[entry["version"]], entry["mode"]) for entry in release.rules]


@atomic
def activate(
    lane: Lane,
    *,
    by: str,
    reason: str,
    model: ModelVersion | _Same | None = SAME,
    policy: PolicyVersion | _Same = SAME,
    rules: list[dict[str, Any]] | _Same = SAME,
    proposal: Proposal | None = None,
) -> Release:
    """Put a new release in force: the one before with what is given replaced. Moves model stages in the same commit.

    The lane's row is locked (but not its key, so that payments are not held up): two activations never lose each
    other's change. Raises ValueError when the lane's first release lacks a policy.
    """
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)
    before = in_force(lane)
    if isinstance(policy, _Same) and before is None:
        raise ValueError("A lane's first release needs a policy.")
    chosen = (before.model if before else None) if isinstance(model, _Same) else model
    release = Release.objects.create(
        lane=lane,
        model=chosen,
        policy=before.policy if isinstance(policy, _Same) and before else policy,
        rules=(before.rules if before else []) if isinstance(rules, _Same) else rules,
        kernel_version=features.KERNEL_VERSION,
        proposal=proposal,
        reason=reason,
        activated_by=by,
    )
    _move_stages(lane, chosen)
    return release


def _move_stages(lane: Lane, champion: ModelVersion | None) -> None:
    others = ~Q(pk=champion.pk) if champion else Q()
    ModelVersion.objects.filter(others, lane=lane, stage=ModelVersion.Stage.CHAMPION).update(
        stage=ModelVersion.Stage.RETIRED
    )
    if champion:
        ModelVersion.objects.filter(pk=champion.pk).update(stage=ModelVersion.Stage.CHAMPION)
        champion.stage = ModelVersion.Stage.CHAMPION


def with_rule(rules: list[dict[str, Any]], version: RuleVersion, mode: str) -> list[dict[str, Any]]:
    """The list of a release with `version` in the place of its rule (or at the end) and in `mode`."""
    siblings = set(RuleVersion.objects.filter(rule=version.rule_id).values_list("pk", flat=True))
    entry = {"version": version.pk, "mode": mode}
    replaced = [entry if each["version"] in siblings else each for each in rules]
    return replaced if entry in replaced else [*replaced, entry]
