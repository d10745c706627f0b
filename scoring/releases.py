"""Releases: what a lane judges by, under one id. A lane's highest release is in force, in every process at once.

`activate` is the only way a release comes to be; `assemble` turns its id into something that judges. A judge whose
model cannot be loaded, or was switched off, still judges, by rules and policy alone, and says so. A change of the lists
or of a switch is a release too; model and compiled rules are then taken over from the judge before.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.db.transaction import atomic

from scoring import features, matching, registry
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
    """A release, ready to judge.

    `scorer` is None when there is no model, or it is switched off (`flaw` says why, if there should be one). `lists` is
    None when nothing stands on any list.
    """

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
    lists: matching.Lists | None = None
    model_id: int | None = None
    compiled: Any = None  # what the ruleset was compiled from

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
    judge = assembled(release_id)
    if judge is not None:
        return judge
    judge = _assemble(Release.objects.select_related("lane", "model", "policy").get(pk=release_id))
    _judges[release_id] = judge
    for old in sorted(_judges)[:-KEPT]:
        _judges.pop(old, None)
    return judge


def assembled(release_id: int) -> Judge | None:
    """The judge of a release if it is there; None if it is to be loaded, which nobody should do in a transaction."""
    judge = _judges.get(release_id)
    return None if judge is None or (judge.flaw and time.monotonic() - judge.born > RETRY) else judge


def _assemble(release: Release) -> Judge:
    model = None if release.pulled.get("model") else release.model
    scorer, flaw = _scorer_again(model)
    lists = _lists(release)
    compiled, ruleset = _ruleset(release, lists)
    return Judge(
        release_id=release.pk,
        lane_id=release.lane_id,
        kernel_version=release.kernel_version,
        model_version=model.version if model else "",
        policy_number=release.policy.number,
        scorer=scorer,
        flaw=flaw,
        ruleset=ruleset,
        policy=Policy.from_version(release.policy),
        currency=release.lane.base_currency,
        born=time.monotonic(),
        lists=lists if lists is not None and len(lists.entries) else None,
        model_id=model.pk if model else None,
        compiled=compiled,
    )


def _lists(release: Release) -> matching.Lists | None:
    """The lane's lists at the release's version; None before the first entry. Reads what the newest judge lacks."""
    if not release.lists_version:
        return None
    known = [judge.lists for judge in _judges.values() if judge.lists and judge.lane_id == release.lane_id]
    known = [each for each in known if each.version <= release.lists_version]
    newest = max(known, key=lambda each: each.version, default=None)
    return matching.load(release.lane_id, release.lists_version, newest)


def _ruleset(release: Release, lists: matching.Lists | None) -> tuple[Any, Ruleset]:
    """The compiled rules, with what they were compiled from: from a judge that has the same, else compiled now."""
    listings = lists.listings if lists is not None else matching.listings_of(release.lane_id)
    modes = judged_modes(release)
    exponent = EXPONENT.get(release.lane.base_currency, 2)
    compiled = [(version.pk, mode) for version, mode in modes], exponent, [*listings.values()]
    for judge in _judges.values():
        if judge.compiled == compiled:
            return compiled, judge.ruleset
    by_name = {each.name: each for each in listings.values()}
    return compiled, compile_ruleset(modes, exponent=exponent, lists=by_name)


def _scorer_again(model: ModelVersion | None) -> tuple[Any, str]:
    for judge in _judges.values():
        if model is not None and judge.model_id == model.pk and judge.scorer is not None:
            return judge.scorer, ""
    return _scorer(model)


def _scorer(model: ModelVersion | None) -> tuple[Any, str]:
    if model is None:
        return None, ""
    try:
        return registry.load(model), ""
    except (OSError, ValueError, KeyError) as error:
        log.error("model %s cannot be loaded: %s", model.version, error)
        return None, f"{type(error).__name__}: {error}"


def rule_modes(release: Release) -> list[tuple[RuleVersion, str]]:
    """The release's rule versions with their approved modes, in the order of the hit mask."""
    versions = RuleVersion.objects.select_related("rule").in_bulk([entry["version"] for entry in release.rules])
    return [(versions[entry["version"]], entry["mode"]) for entry in release.rules]


def judged_modes(release: Release) -> list[tuple[RuleVersion, str]]:
    """The same with the kill switches: a rule that was switched off is off, whatever mode was approved."""
    off = release.pulled.get("rules", [])
    return [(version, "off" if version.rule_id in off else mode) for version, mode in rule_modes(release)]


@atomic
def activate(
    lane: Lane,
    *,
    by: str,
    reason: str,
    model: ModelVersion | _Same | None = SAME,
    policy: PolicyVersion | _Same = SAME,
    rules: list[dict[str, Any]] | _Same = SAME,
    lists_version: int | _Same = SAME,
    pulled: dict[str, Any] | _Same = SAME,
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
        lists_version=(before.lists_version if before else 0) if isinstance(lists_version, _Same) else lists_version,
        pulled=(before.pulled if before else {}) if isinstance(pulled, _Same) else pulled,
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
