"""Everything a decision was held against: each rule of its release, hit or not, and the lists it asked.

Read from the release that judged, never from what is in force today; fetched only when somebody asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import Exists, F, Max, OuterRef, Q

from alerts.models import Alert
from scoring.entries import entry_ids
from scoring.models import List, ListEntry, RuleVersion


@dataclass(frozen=True)
class Asked:
    """One rule of the release: its version, how it stood there, and whether it hit."""

    version: RuleVersion
    mode: str
    hit: bool


@dataclass(frozen=True)
class Evaluated:
    """The rules that were evaluated, hits first, and the lists: hit, and asked without a hit."""

    rules: list[Asked]
    lists_hit: list[ListEntry] = field(default_factory=list)
    lists_asked: list[str] = field(default_factory=list)

    @property
    def hits(self) -> int:
        return sum(each.hit for each in self.rules)


def evaluated(alert: Alert) -> Evaluated:
    """The rules and lists of the alert's own decision. Four statements, however many rules there are."""
    decision = alert.decision
    hits = bytes(decision.rule_hits)
    given = decision.release.rules
    rows = RuleVersion.objects.select_related("rule", "reason").in_bulk([each["version"] for each in given])
    rules = [
        Asked(rows[each["version"]], each["mode"], at < len(hits) and bool(hits[at]))
        for at, each in enumerate(given)
        if each["version"] in rows
    ]
    rules.sort(key=lambda each: (not each.hit, each.mode != "live", -each.version.weight, each.version.rule.code))
    ids = entry_ids(decision.list_hits)
    entries = list(ListEntry.objects.filter(pk__in=ids).select_related("list").order_by("list__name"))
    return Evaluated(rules, entries, _asked(alert, {entry.list_id for entry in entries}))


def _asked(alert: Alert, hit: set[int]) -> list[str]:
    """The names of the lane's lists that held anything at the decision and were not hit."""
    decision = alert.decision
    held = ListEntry.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=decision.decided_at),
        Q(removal__isnull=True) | Q(removal__version__gt=decision.release.lists_version),
        list=OuterRef("pk"),
        valid_from__lte=decision.decided_at,
    )
    lists = List.objects.filter(lane=alert.lane).exclude(pk__in=hit)
    return list(lists.filter(Exists(held)).order_by("name").values_list("name", flat=True))


def rule_version(lane: str, code: str, number: int) -> RuleVersion | None:
    """One version of a rule, with the rule's newest number as `newest`."""
    versions = RuleVersion.objects.select_related("rule__lane", "reason").annotate(
        newest=Max("rule__versions__number"), code=F("rule__code")
    )
    return versions.filter(rule__lane__name=lane, code=code, number=number).first()


def definition(version: RuleVersion) -> dict[str, Any]:
    """What the read-only page of a rule's version shows."""
    return {"version": version, "rule": version.rule, "is_newest": version.number == getattr(version, "newest", 0)}
