"""Proposals, effects, rules and model cards as the rows that the tuning pages show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from scoring.models import List, Proposal, Rule, RuleVersion
from scoring.policy import DEFAULT, STEPS
from transactions.codes import CHANNEL, EXPONENT

MOST_LINES = 50  # of a proposal about a list
OFF = str(RuleVersion.Mode.OFF)
# measure, its text, what it means, how it is shown, and whether more of it is better (1), worse (-1) or neither (0)
MEASURES = (
    ("alerts_a_day", "Alerts a day", "challenged, reviewed or declined", "rate", 0),
    ("reviewed", "Held for review", "payments in the time covered", "count", 0),
    ("declined", "Declined", "payments in the time covered", "count", 0),
    ("precision", "Precision", "fraud ÷ stopped with a label", "share", 1),
    ("recall", "Recall", "of all labelled fraud, stopped", "share", 1),
    ("false_positives", "False positives", "labelled legitimate, stopped", "count", -1),
    ("caught_value", "Fraud value caught", "labelled fraud, stopped", "money", 1),
    ("missed_value", "Fraud value missed", "labelled fraud, let through", "money", -1),
    ("wrongly_declined", "Wrongly declined", "labelled legitimate, declined", "count", -1),
)
NAMES = {DEFAULT: "All other channels"} | {name: name.replace("_", " ").capitalize() for name in CHANNEL}
PAST = {"decline": "declined", "review": "held for review", "challenge": "challenged"}
NAMES |= {"atm": "ATM", "ecommerce": "E-commerce", "api": "API"}


def effect_rows(effect: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The effect table: each measure now, proposed, and the change with its direction; [] when there is no effect."""
    if "now" not in effect or "proposed" not in effect:
        return []
    currency = effect.get("currency", "EUR")
    return [_effect_row(measure, effect["now"], effect["proposed"], currency) for measure in MEASURES]


def _effect_row(measure: tuple[str, str, str, str, int], now: Any, proposed: Any, currency: str) -> dict[str, Any]:
    name, text, hint, form, better = measure
    before, after = now.get(name), proposed.get(name)
    change = "" if before is None or after is None else _change(after - before, form, currency)
    good = 0 if change in ("", "same") else (1 if after > before else -1) * better
    unit = f"{hint}, {currency}" if form == "money" else hint
    shown = {"now": figure(before, form, currency), "proposed": figure(after, form, currency), "change": change}
    return {"name": name, "text": text, "hint": unit, "form": form, "better": better, "good": good} | shown


def _change(difference: float, form: str, currency: str) -> str:
    text = figure(abs(difference), form, currency)
    if text == figure(0, form, currency):
        return "same"
    return f"{'+' if difference > 0 else '−'}{text}"


def figure(value: float | None, form: str, currency: str = "EUR") -> str:
    """A measure as people read it: 12.4, 1,204, 58.4 %, 883,120 (whole units of money); "–" where there is none."""
    if value is None:
        return "–"
    if form == "share":
        return f"{value * 100:.1f} %"
    if form == "money":
        return f"{value / 10 ** EXPONENT.get(currency, 2):,.0f}"
    return f"{value:,.1f}" if form == "rate" else f"{value:,.0f}"


def changes(proposal: Proposal) -> list[dict[str, str]]:
    """What a proposal changes, line by line: {"what", "before", "after"}."""
    before, after = proposal.before, proposal.after
    if proposal.kind == Proposal.Kind.POLICY:
        return list(_policy_changes(before, after))
    if proposal.kind == Proposal.Kind.LIST:
        return list(_list_changes(before, after))
    if proposal.kind == Proposal.Kind.MODEL:
        return [{"what": "Champion", "before": before["version"] or "none", "after": after["version"]}]
    return list(_rule_changes(proposal, before, after))


def _policy_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    was, will = before["thresholds"], after["thresholds"]
    for segment in [DEFAULT, *CHANNEL]:
        if segment not in was and segment not in will:
            continue
        for step in STEPS:
            pair = [_step(each, segment, step) for each in (was, will)]
            if pair[0] != pair[1]:
                yield {"what": f"{NAMES[segment]}: {step} from", "before": pair[0], "after": pair[1]}
    for name, text in (("hold_minutes", "Held, minutes"), ("default_resolution", "When nobody decides in time")):
        if before.get(name) != after.get(name):
            yield {"what": text, "before": str(before.get(name)), "after": str(after.get(name))}


def _list_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Line by line what leaves the list and what comes on it; of a long file the first lines, and how many more."""
    leaving = [{"what": each["value"], "before": _entry(each), "after": "not on it"} for each in before["shown"]]
    coming = [{"what": each["value"], "before": "not on it", "after": _entry(each)} for each in after["add"]]
    yield from (leaving + coming)[:MOST_LINES]
    if len(leaving) + len(coming) > MOST_LINES:
        yield {"what": f"{len(leaving) + len(coming) - MOST_LINES} more", "before": "…", "after": "…"}


def _entry(each: Mapping[str, Any]) -> str:
    ends = f", until {each['expires_at'][:10]}" if each["expires_at"] else ""
    return f"on it{ends}: {each['reason']} ({each['author']})"


def _step(thresholds: Mapping[str, Any], segment: str, step: str) -> str:
    own = thresholds.get(segment)
    return str(own[step]) if own else f"{thresholds[DEFAULT][step]} (as all others)"


def _rule_changes(proposal: Proposal, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    rule = proposal.rule_version.rule if proposal.rule_version else None
    names = (
        ("mode", "mode"),
        ("number", "version"),
        ("expression", "expression"),
        ("outcome", "outcome"),
        ("weight", "weight"),
    )
    for name, text in names:
        if before.get(name) != after.get(name):
            yield {
                "what": f"{rule.code if rule else 'Rule'}: {text}",
                "before": str(before.get(name, "–")),
                "after": str(after.get(name)),
            }


def list_does(held: List) -> str:
    """What an entry of a list does to a payment, in words."""
    if held.kind == List.Kind.BLOCK:
        return f"A payment it hits is at least {PAST[held.outcome]}, whatever the score."
    if held.kind == List.Kind.WATCH:
        return "A hit is told among the reasons, and rules may ask for it; by itself it changes no outcome."
    if held.skips_scoring:
        return "A payment it hits is approved without model and rules, unless a block list hits it too."
    return "A hit is recorded, and rules may ask for it; by itself it changes no outcome."


def rule_row(rule: Rule, standing: Mapping[int, str], hits: Mapping[int, Mapping[str, int]] | None) -> dict[str, Any]:
    """One line of the rules page: the version in force (else the newest), its mode and its hits (None: not counted)."""
    versions = list(rule.versions.all())
    version = next((each for each in versions if each.pk in standing), versions[0] if versions else None)
    mode = standing.get(version.pk, OFF) if version else OFF
    counted = _counted(hits.get(version.pk, {})) if hits is not None and version else None
    return {"rule": rule, "version": version, "mode": mode, "versions": len(versions), "hits": counted}


def _counted(hits: Mapping[str, int]) -> dict[str, Any]:
    fraud, legitimate = hits.get("fraud", 0), hits.get("legitimate", 0)
    precision = f"{fraud / (fraud + legitimate) * 100:.0f} %" if fraud + legitimate else "–"
    return {
        "day": hits.get("day", 0),
        "week": hits.get("week", 0),
        "labelled": fraud + legitimate,
        "precision": precision,
    }


FIGURES = (("AUC ROC", "auc"), ("Average precision", "average_precision"), ("Card precision@100", "card_precision_100"))


def model_figures(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """A model's figures on later payments, each with its interval and the champion's on the very same payments."""
    test, champion = metrics.get("test") or {}, metrics.get("champion") or {}
    rows = [
        {
            "name": text,
            "value": _decimals(test.get(name)),
            "interval": _interval(test.get(f"{name}_interval")),
            "champion": _decimals(champion.get(name)),
        }
        for text, name in FIGURES
    ]
    theirs = {each["rate"]: each for each in champion.get("recall_at") or []}
    return rows + [_recall_row(each, theirs.get(each["rate"])) for each in test.get("recall_at") or []]


def _recall_row(mine: Mapping[str, float], theirs: Mapping[str, float] | None) -> dict[str, str]:
    return {
        "name": f"Recall at {mine['rate'] * 100:g} % false positives",
        "value": figure(mine["recall"], "share"),
        "interval": f"{mine['alerts_a_day']:,.0f} alerts a day",
        "champion": figure(theirs["recall"], "share") if theirs else "–",
    }


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(pair: list[float | None] | None) -> str:
    return "" if not pair or None in pair else f"{pair[0]:.3f}–{pair[1]:.3f}"


SHOWN = 12  # entries of a list on a card
CHART = 200  # units of the calibration chart's square


def calibration_points(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Promised and actual share of fraud as points of a square chart, on a logarithmic scale from 0.01 % to 100 %."""
    groups = (metrics.get("test") or {}).get("calibration") or []
    return [
        {
            "x": round(CHART * _decades(each["promised"]), 1),
            "y": round(CHART * (1 - _decades(each["actual"])), 1),
            "text": f"promised {each['promised']:.2%}, was {each['actual']:.2%} of {each['payments']:,}",
        }
        for each in groups
    ]


def _decades(share: float) -> float:
    return min(max((math.log10(max(share, 1e-4)) + 4) / 4, 0.0), 1.0)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """A card or metrics document as (name, value) lines, nested names joined by a middle dot; long lists are cut."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name} · {key}" if name else str(key).replace("_", " "))
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        yield name, f"{len(value)} rows"
    elif isinstance(value, list):
        yield (
            name,
            ", ".join(map(str, value[:SHOWN])) + (f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""),
        )
    else:
        yield name, f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
