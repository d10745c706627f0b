"""Kill switches: the model of a lane, and each of its rules, off at once by one person who says why.

A pulled switch is a release like any other, so it takes effect with the lane's next claim, every decision names it, and
nothing is rewritten. The fallback is declared: without the model rules alone decide, flagged `model_off`; a rule that
is off is not evaluated. Approvals go on meanwhile; what they approve takes effect when the switch is put back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.transaction import atomic

from scoring.models import Release, Rule, SwitchAct
from scoring.refusals import NoChange, NotAllowed, NotPossible, Person
from scoring.releases import activate, in_force
from transactions.models import Lane

RIGHT = "scoring.pull_switch"


class Pulled(NamedTuple):
    """A switch that is pulled: what it switched off, and the act that did it."""

    lane: Lane
    rule: Rule | None
    act: SwitchAct

    @property
    def title(self) -> str:
        """What is off, in words."""
        return f"Rule {self.rule} is off" if self.rule else "The model is off"

    @property
    def fallback(self) -> str:
        """What happens meanwhile, in words."""
        if self.rule is None:
            return "Rules alone decide; decisions are marked as made without the model."
        return "It is not evaluated; the other rules and the model go on."


def pull(lane: Lane, rule: Rule | None = None, *, by: Person, reason: str) -> Release:
    """Switch off `rule`, or the model (None), from the next claim on. Raises GovernanceError."""
    return _switch(lane, rule, SwitchAct.Act.PULLED, by, reason)


def restore(lane: Lane, rule: Rule | None = None, *, by: Person, reason: str) -> Release:
    """Put a pulled switch back. Raises GovernanceError."""
    return _switch(lane, rule, SwitchAct.Act.RESTORED, by, reason)


@atomic
def _switch(lane: Lane, rule: Rule | None, act: str, by: Person, reason: str) -> Release:
    _check(lane, rule, by, reason)
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)
    before = in_force(lane)
    if before is None:
        raise NotPossible(f"Nothing is in force in {lane.name} yet.")
    off = act == SwitchAct.Act.PULLED
    if is_pulled(before, rule) == off:
        raise NoChange("It is switched off already." if off else "It is not switched off.")
    said, who = f"{_name(rule)} {act}: {reason.strip()}"[:500], by.get_username()
    release = activate(lane, by=who, reason=said, pulled=_pulled(before, rule, off))
    SwitchAct.objects.create(lane=lane, rule=rule, act=act, by_id=by.pk, reason=reason.strip()[:500], release=release)
    return release


def _check(lane: Lane, rule: Rule | None, by: Person, reason: str) -> None:
    if not by.has_perm(RIGHT):
        raise NotAllowed("You may not use the kill switches.")
    if not reason.strip():
        raise NotPossible("Say why: it stays on record, and colleagues see it at once.")
    if rule is not None and rule.lane_id != lane.pk:
        raise NotPossible("The rule belongs to another lane.")


def _name(rule: Rule | None) -> str:
    return f"Switch of {rule.code}" if rule else "Switch of the model"


def _pulled(before: Release, rule: Rule | None, off: bool) -> dict[str, Any]:
    rules, model = set(before.pulled.get("rules", [])), bool(before.pulled.get("model"))
    if rule is None:
        model = off
    else:
        rules = rules | {rule.pk} if off else rules - {rule.pk}
    return ({"model": True} if model else {}) | ({"rules": sorted(rules)} if rules else {})


def is_pulled(release: Release | None, rule: Rule | None = None) -> bool:
    """Whether `rule`, or the model (None), is switched off in a release."""
    if release is None:
        return False
    return bool(release.pulled.get("model")) if rule is None else rule.pk in release.pulled.get("rules", [])


def pulled(lane: Lane) -> list[Pulled]:
    """The lane's switches that are pulled, the model's first."""
    release = in_force(lane)
    if release is None or not release.pulled:
        return []
    rules: list[Rule | None] = [*Rule.objects.filter(pk__in=release.pulled.get("rules", []))]
    subjects = ([None] if release.pulled.get("model") else []) + rules
    return [Pulled(lane, rule, act) for rule in subjects if (act := last_act(lane, rule)) is not None]


def pulled_everywhere() -> list[Pulled]:
    """The pulled switches of all lanes."""
    return [each for lane in Lane.objects.order_by("id") for each in pulled(lane)]


def last_act(lane: Lane, rule: Rule | None = None) -> SwitchAct | None:
    """The last time that somebody used the switch."""
    return acts(lane, rule).first()


def acts(lane: Lane, rule: Rule | None = None) -> Any:
    """Everything that was done with the switch, newest first."""
    return SwitchAct.objects.filter(lane=lane, rule=rule).select_related("by", "release")
