"""What is in force, for tests that know that something is."""

from __future__ import annotations

from scoring import governance, releases
from scoring.models import Release, Rule, RuleVersion
from transactions.models import Lane


def standing(lane: Lane) -> Release:
    """The release in force."""
    found = releases.in_force(lane)
    assert found is not None
    return found


def standing_version(rule: Rule) -> RuleVersion:
    """The version of `rule` in force."""
    version, _ = governance.standing_rule(rule)
    assert version is not None
    return version
