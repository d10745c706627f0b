"""Four eyes: every change to how money is judged is proposed by one person and approved by another, only here.

A proposal freezes what changes (before and after) and the effect its proposer saw. Approving it puts a release in force
in the same commit. The way back is one more proposal. Nothing is deleted: who, when and why stay on record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Max
from django.db.transaction import atomic
from django.utils import timezone

from scoring import entries, features, matching, whatif
from scoring.models import (
    List,
    ListEntry,
    ListRemoval,
    ModelVersion,
    PolicyVersion,
    Proposal,
    Release,
    Rule,
    RuleVersion,
)
from scoring.policy import PolicyError, check_thresholds
from scoring.refusals import (
    AlreadyDecided,
    GovernanceError,
    NoChange,
    NotAllowed,
    NotPossible,
    Person,
    SamePerson,
    Stale,
)
from scoring.releases import activate, in_force, rule_modes, with_rule
from scoring.rules import Expression, RuleError, compile_expression, vocabulary
from transactions.codes import EXPONENT, OUTCOME
from transactions.models import Lane

__all__ = [
    "AlreadyDecided",
    "GovernanceError",
    "NoChange",
    "NotAllowed",
    "NotPossible",
    "Person",
    "SamePerson",
    "Stale",
]

LIFETIME = timedelta(hours=72)
MOST_ENTRIES = 1000  # entries that one proposal may add or take off
Status, Kind = Proposal.Status, Proposal.Kind


# --- proposing --------------------------------------------------------------------------------------------------------


def propose_policy(
    lane: Lane,
    thresholds: Mapping[str, Any],
    *,
    by: Person,
    reason: str,
    hold_minutes: int | None = None,
    default_resolution: str | None = None,
    reverts: Proposal | None = None,
) -> Proposal:
    """Propose thresholds (and how long payments are held); drafts the policy version and freezes the effect."""
    _check(by, Kind.POLICY, reason)
    try:
        wanted = check_thresholds(thresholds)
    except PolicyError as error:
        raise NotPossible(str(error)) from None
    current = _release(lane).policy
    after = {
        "thresholds": wanted,
        "hold_minutes": current.hold_minutes if hold_minutes is None else hold_minutes,
        "default_resolution": default_resolution or current.default_resolution,
    }
    before = describe_policy(current)
    if all(before[name] == after[name] for name in after):
        raise NoChange("These thresholds are in force already.")
    effect = whatif.effect(lane, current.thresholds, wanted)
    with atomic():
        policy = _draft_policy(lane, after, by)
        return _file(lane, Kind.POLICY, by, reason, reverts, before, describe_policy(policy), effect, policy=policy)


def describe_policy(policy: PolicyVersion) -> dict[str, Any]:
    """A policy version as a proposal keeps it."""
    return {
        "policy": policy.pk,
        "number": policy.number,
        "thresholds": policy.thresholds,
        "hold_minutes": policy.hold_minutes,
        "default_resolution": policy.default_resolution,
    }


def _draft_policy(lane: Lane, content: Mapping[str, Any], by: Person) -> PolicyVersion:
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)  # two drafts at once take two numbers
    number = (PolicyVersion.objects.filter(lane=lane).aggregate(last=Max("number"))["last"] or 0) + 1
    return PolicyVersion.objects.create(lane=lane, number=number, created_by=by.get_username(), **content)


def propose_rule(
    rule: Rule,
    *,
    mode: str,
    by: Person,
    reason: str,
    text: Mapping[str, Any] | None = None,
    version: RuleVersion | None = None,
    reverts: Proposal | None = None,
) -> Proposal:
    """Propose a mode (live, shadow, off) for a rule, with `version` of it (the one in force if None) or a new `text`.

    `text`: what differs from that version, any of expression, outcome, weight, reason_id, sentence; drafts a version.
    """
    _check(by, Kind.RULE, reason)
    if mode not in RuleVersion.Mode.values:
        raise NotPossible(f"{mode} is not a mode of a rule.")
    standing = standing_rule(rule)
    base = version or standing[0] or rule.versions.first()
    if base is None or base.rule_id != rule.pk:
        raise NotPossible("The rule has no such version.")
    _check_text(rule.lane, {"expression": base.expression, "outcome": base.outcome, **(text or {})}, mode)
    if not text and (base, mode) == standing:
        raise NoChange(f"{rule.code} is {mode} already.")
    effect = _rule_effect(rule.lane, base)
    with atomic():
        chosen = _draft_rule(rule, base, mode, text, by) if text else base
        before, after = describe_rule(*standing), describe_rule(chosen, mode)
        return _file(rule.lane, Kind.RULE, by, reason, reverts, before, after, effect, rule_version=chosen)


def standing_rule(rule: Rule) -> tuple[RuleVersion | None, str]:
    """The version and mode of `rule` in the release in force; (None, "off") if it is in none."""
    release = in_force(rule.lane)
    found = [pair for pair in rule_modes(release) if pair[0].rule_id == rule.pk] if release else []
    return found[0] if found else (None, str(RuleVersion.Mode.OFF))


def describe_rule(version: RuleVersion | None, mode: str) -> dict[str, Any]:
    """A rule version with its mode as a proposal keeps it."""
    if version is None:
        return {"version": None, "mode": mode}
    names = ("number", "expression", "outcome", "weight", "reason_id", "sentence")
    return {"version": version.pk, "mode": mode} | {name: getattr(version, name) for name in names}


def _draft_rule(rule: Rule, base: RuleVersion, mode: str, text: Mapping[str, Any], by: Person) -> RuleVersion:
    Rule.objects.select_for_update(no_key=True).get(pk=rule.pk)
    names = ("expression", "outcome", "weight", "reason_id", "sentence")
    content = {name: text.get(name, getattr(base, name)) for name in names}
    number = (rule.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    return RuleVersion.objects.create(rule=rule, number=number, mode=mode, created_by=by.get_username(), **content)


def _check_text(lane: Lane, text: Mapping[str, Any], mode: str) -> None:
    listings = {each.name: each for each in matching.listings_of(lane.pk).values()}
    try:
        words = vocabulary(exponent=EXPONENT.get(lane.base_currency, 2))
        expression = compile_expression(text["expression"], words, listings)
    except RuleError as error:
        raise NotPossible(f"The rule cannot be read: {error}") from None
    if text["outcome"] not in OUTCOME or text["outcome"] == "recorded":
        raise NotPossible(f"{text['outcome']} is not an outcome.")
    if mode == RuleVersion.Mode.LIVE and text["outcome"] == "decline" and _watches(expression, listings):
        raise NotPossible("A rule that declines cannot rest on a watch list, to which one person alone may add.")


def _watches(expression: Expression, listings: Mapping[str, matching.Listing]) -> bool:
    """Whether the text asks a watch list, by name or by kind."""
    asked = expression.memberships
    return any((each.choice if each.is_kind else listings[each.choice].kind) == "watch" for each in asked)


def _rule_effect(lane: Lane, version: RuleVersion) -> dict[str, Any]:
    try:
        hits = whatif.rule_hits(lane).get(version.pk)
    except whatif.TooSlow:
        return {"failed": "The hits took too long to count."}
    return {"hits": hits or {"day": 0, "week": 0, "fraud": 0, "legitimate": 0}}


def propose_model(model: ModelVersion, *, by: Person, reason: str, reverts: Proposal | None = None) -> Proposal:
    """Propose `model` as the lane's champion."""
    _check(by, Kind.MODEL, reason)
    current = _release(model.lane).model
    if current and current.pk == model.pk:
        raise NoChange(f"{model.version} is the champion already.")
    if model.kernel_version != features.KERNEL_VERSION:
        raise NotPossible(
            f"{model.version} was trained for kernel {model.kernel_version}; kernel {features.KERNEL_VERSION} runs."
        )
    before, after = describe_model(current), describe_model(model)
    effect = {"now": before["metrics"], "proposed": after["metrics"]}
    return _file(model.lane, Kind.MODEL, by, reason, reverts, before, after, effect, model=model)


def describe_model(model: ModelVersion | None) -> dict[str, Any]:
    """A model version as a proposal keeps it."""
    if model is None:
        return {"model": None, "version": "", "metrics": {}}
    return {"model": model.pk, "version": model.version, "sha256": model.sha256, "metrics": model.metrics}


def propose_list(
    held: List,
    add: Sequence[Mapping[str, Any]] = (),
    *,
    remove: Sequence[ListEntry] = (),
    by: Person | None,
    reason: str,
    via: str = "",
    reverts: Proposal | None = None,
) -> Proposal:
    """Propose entries to add to a block or allow list, and standing ones to take off.

    `add`: drafts as `lists.draft` makes them. `by` is None for a bank's system, then `via` names its API client. Raises
    NoChange for what stands there already, or not any more.
    """
    if by is not None:
        _check(by, Kind.LIST, reason)
    if held.kind == List.Kind.WATCH:
        raise NotPossible("A watch list takes entries at once; nothing has to be proposed.")
    if not 1 <= len(add) + len(remove) <= MOST_ENTRIES:
        raise NotPossible(f"Propose 1 to {MOST_ENTRIES} entries at a time.")
    _release(held.lane)
    _check_entries(held, add, remove)
    before = {"entries": [each.pk for each in remove], "shown": [describe_entry(each) for each in remove]}
    after = {"add": [dict(each) for each in add]}
    effect = whatif.list_effect(held.lane, held.subject, [*map(entries.drafted, add), *map(entries.subject_of, remove)])
    return _file(held.lane, Kind.LIST, by, reason, reverts, before, after, effect, list=held, proposed_via=via)


def _check_entries(held: List, add: Sequence[Mapping[str, Any]], remove: Sequence[ListEntry]) -> None:
    """Raises NoChange where the list is as wished already."""
    gone = {each.pk for each in remove} - set(
        entries.standing(held.entries.filter(pk__in=[each.pk for each in remove])).values_list("pk", flat=True)
    )
    if gone:
        raise NoChange("An entry that is to be taken off does not stand on the list any more.")
    leaving = {each.pk for each in remove}
    there = [each for each in entries.same_subject(held, map(entries.drafted, add)) if each.pk not in leaving]
    if there:
        raise NoChange(f"{there[0].value} stands on the list already, since {there[0].valid_from:%d %b %Y}.")


def describe_entry(entry: ListEntry) -> dict[str, Any]:
    """An entry as a proposal keeps it."""
    ends = entry.expires_at.isoformat() if entry.expires_at else None
    return {"value": entry.value, "reason": entry.reason, "author": entry.author, "expires_at": ends}


def revert(proposal: Proposal, *, by: Person, reason: str) -> Proposal:
    """Propose the way back: what was in force before `proposal` was approved. Needs a second person like any change."""
    if proposal.status != Status.APPROVED:
        raise NotPossible("Only an approved change has a way back.")
    if proposal.kind == Kind.POLICY:
        content = {name: proposal.before[name] for name in ("thresholds", "hold_minutes", "default_resolution")}
        return propose_policy(proposal.lane, by=by, reason=reason, reverts=proposal, **content)
    if proposal.kind == Kind.RULE:
        return _revert_rule(proposal, by=by, reason=reason)
    if proposal.kind == Kind.LIST:
        return _revert_list(proposal, by=by, reason=reason)
    if not proposal.before["model"]:
        raise NotPossible("There was no model before this one.")
    model = ModelVersion.objects.get(pk=proposal.before["model"])
    return propose_model(model, by=by, reason=reason, reverts=proposal)


def _revert_rule(proposal: Proposal, *, by: Person, reason: str) -> Proposal:
    rule, before = proposal.rule_version.rule, proposal.before
    version = rule.versions.filter(pk=before["version"]).first()
    return propose_rule(rule, mode=before["mode"], version=version, by=by, reason=reason, reverts=proposal)


def _revert_list(proposal: Proposal, *, by: Person, reason: str) -> Proposal:
    """What it added goes, if it still stands; what it took off comes back, unless its time would be over."""
    held, now = proposal.list, timezone.now()
    removed = ListRemoval.objects.filter(proposal=proposal).select_related("entry")
    back = [each.entry for each in removed if each.entry.expires_at is None or each.entry.expires_at > now]
    add = [entries.draft_of(each, author=by.get_username(), reason=each.reason) for each in back]
    return propose_list(
        held, add, remove=list(entries.standing(proposal.entries.all())), by=by, reason=reason, reverts=proposal
    )


PROPOSERS: dict[str, Callable[..., Proposal]] = {
    Kind.POLICY: propose_policy,
    Kind.RULE: propose_rule,
    Kind.MODEL: propose_model,
    Kind.LIST: propose_list,
}


def propose(kind: str, subject: Any, *args: Any, by: Person, reason: str, **change: Any) -> Proposal:
    """Propose a change of `kind` (policy, rule, model, list) to `subject` (a lane, a rule, a model version, a list)."""
    return PROPOSERS[Kind(kind)](subject, *args, by=by, reason=reason, **change)


def _check(by: Person, kind: str, reason: str) -> None:
    if not by.has_perm(f"scoring.propose_{kind}"):
        raise NotAllowed(f"You may not propose a change of a {kind}.")
    if not reason.strip():
        raise NotPossible("Say why: the next person reads it before approving.")


def _release(lane: Lane) -> Release:
    release = in_force(lane)
    if release is None:
        raise NotPossible(f"Nothing is in force in {lane.name} yet.")
    return release


def _file(
    lane: Lane,
    kind: str,
    by: Person | None,
    reason: str,
    reverts: Proposal | None,
    before: dict[str, Any],
    after: dict[str, Any],
    effect: dict[str, Any],
    **subject: Any,
) -> Proposal:
    texts = {"reason": reason.strip()[:500], "before": before, "after": after, "effect": effect}
    return Proposal.objects.create(lane=lane, kind=kind, proposed_by=by, reverts=reverts, **texts, **subject)


# --- deciding ---------------------------------------------------------------------------------------------------------


def approve(proposal: Proposal, *, by: Person, note: str = "") -> Release:
    """Put the proposed change in force: one commit, one new release, judged by from the next claim on in every process.

    Raises SamePerson for the proposer, NotAllowed, AlreadyDecided, and Stale when what it started from has changed.
    """
    expire_overdue()
    with atomic():
        locked = _pending(proposal)
        _check_second_person(locked, by)
        _check_fresh(locked)
        _close(locked, Status.APPROVED, by, note)
        change = _change(locked, by)
        return activate(locked.lane, by=by.get_username(), reason=locked.reason, proposal=locked, **change)


@atomic
def reject(proposal: Proposal, *, by: Person, note: str) -> Proposal:
    """Turn the proposal down, with the reason in `note`. Only a second person does; the proposer withdraws."""
    locked = _pending(proposal)
    _check_second_person(locked, by)
    if not note.strip():
        raise NotPossible("Say why it is turned down.")
    return _close(locked, Status.REJECTED, by, note)


@atomic
def withdraw(proposal: Proposal, *, by: Person, note: str = "") -> Proposal:
    """Take back one's own proposal."""
    locked = _pending(proposal)
    if by.pk != locked.proposed_by_id:
        raise NotAllowed("Only the person who proposed it can withdraw it.")
    return _close(locked, Status.WITHDRAWN, by, note)


def expire_overdue() -> int:
    """Close what nobody decided within LIFETIME; the number closed."""
    overdue = Proposal.objects.filter(status=Status.PENDING, proposed_at__lt=timezone.now() - LIFETIME)
    return overdue.update(status=Status.EXPIRED, decided_at=timezone.now())


def is_stale(proposal: Proposal) -> bool:
    """Whether what a pending proposal started from is no longer in force."""
    before = proposal.before
    release = in_force(proposal.lane)
    if release is None:
        return True
    if proposal.kind == Kind.POLICY:
        return release.policy_id != before["policy"]
    if proposal.kind == Kind.MODEL:
        return release.model_id != before["model"] or proposal.model.kernel_version != features.KERNEL_VERSION
    if proposal.kind == Kind.LIST:
        return _is_list_stale(proposal)
    version, mode = standing_rule(proposal.rule_version.rule)
    return (version.pk if version else None, mode) != (before["version"], before["mode"])


def _is_list_stale(proposal: Proposal) -> bool:
    held, now = proposal.list, timezone.now()
    remove = list(held.entries.filter(pk__in=proposal.before["entries"]))
    over = [each for each in map(entries.ends_of, proposal.after["add"]) if each is not None and each <= now]
    try:
        _check_entries(held, proposal.after["add"], remove)
    except NoChange:
        return True
    return bool(over)


def _pending(proposal: Proposal) -> Proposal:
    locked = Proposal.objects.select_for_update(of=["self"]).select_related("lane", "proposed_by").get(pk=proposal.pk)
    if locked.status != Status.PENDING:
        raise AlreadyDecided(f"This proposal is {locked.status} already.")
    return locked


def _check_second_person(proposal: Proposal, by: Person) -> None:
    if proposal.proposed_by_id is not None and by.pk == proposal.proposed_by_id:
        raise SamePerson("You proposed this change yourself: another person has to decide on it.")
    if not by.has_perm(f"scoring.approve_{proposal.kind}"):
        raise NotAllowed(f"You may not decide on a change of a {proposal.kind}.")


def _check_fresh(proposal: Proposal) -> None:
    """Under the lane's row lock, so that no other approval comes between this check and the release."""
    Lane.objects.select_for_update(no_key=True).get(pk=proposal.lane_id)
    if is_stale(proposal):
        raise Stale(
            "What this proposal started from has changed since. Reject it and propose anew from what is in force."
        )


def _change(proposal: Proposal, by: Person) -> dict[str, Any]:
    """What the release of an approved proposal has anew; the lane's row is locked."""
    if proposal.kind == Kind.POLICY:
        return {"policy": proposal.policy}
    if proposal.kind == Kind.MODEL:
        return {"model": proposal.model}
    if proposal.kind == Kind.LIST:
        version = _release(proposal.lane).lists_version + 1
        entries.apply(proposal, version=version, by=by.get_username())
        return {"lists_version": version}
    rules = _release(proposal.lane).rules
    return {"rules": with_rule(rules, proposal.rule_version, proposal.after["mode"])}


def _close(proposal: Proposal, status: str, by: Person, note: str) -> Proposal:
    proposal.status = status
    proposal.decided_by_id = by.pk
    proposal.decided_at = timezone.now()
    proposal.decision_note = note.strip()[:500]
    proposal.save(update_fields=["status", "decided_by", "decided_at", "decision_note"])
    return proposal
