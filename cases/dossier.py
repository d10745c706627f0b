"""What the case page says of the alerts: why each was flagged, with what, and what became of the money.

Everything comes from rows frozen at the decision: the rule versions that fired, the values they saw, the model's own
contributions, the release. Nothing here asks how things stand today.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from alerts.live import amount_text
from alerts.models import Alert
from cases.closing import resolution_of
from cases.models import Case, CaseAlert
from cases.workflow import LABEL, RESOLUTION
from scoring import reasons
from scoring.models import DEGRADED, SCREENINGS, Decision
from scoring.registry import to_score
from scoring.screening import histories

MOST_ALERTS = 50  # shown of one case; the others are counted
TOP_FACTORS = 7
TOUCHING = 90  # points of score: figures nearer to each other would touch on the narrowest gauge
BAR, ZERO = 110, 30  # a bar's length and where its zero stands, in units of the drawing (0 0 140 10)


@dataclass(frozen=True)
class Evidence:
    """One reason: its sentence, where it comes from, and its signed weight as a bar."""

    text: str
    source: tuple[str, ...] = ()
    weight: str = ""
    against: bool = False
    x: float = ZERO
    width: float = 0.0
    sets: str = ""


@dataclass
class Flagged:
    """One alert of the case as the page shows it."""

    row: CaseAlert
    alert: Alert
    rules: list[Evidence] = field(default_factory=list)
    listed: list[Evidence] = field(default_factory=list)
    factors: list[Evidence] = field(default_factory=list)
    factors_sum: str = ""
    features: list[Evidence] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        """The payment as it was sent; empty after erasure."""
        detail = getattr(self.alert.transaction, "detail", None)
        return detail.document if detail else {}

    @property
    def explained(self) -> bool:
        return getattr(self.alert, "explanation", None) is not None

    @property
    def resolution(self) -> Any:
        """What became of the held payment, or None."""
        return getattr(self.alert.transaction, "resolution", None)

    @property
    def held(self) -> bool:
        """Still held: somebody must decide, or the policy will."""
        return self.alert.hold_until is not None and self.resolution is None

    @property
    def money(self) -> str:
        """Where the money is, in a word."""
        if self.resolution:
            return self.resolution.resolution
        return {"review": "held", "decline": "declined", "challenge": "challenged"}.get(self.alert.outcome, "sent")

    @property
    def amount_text(self) -> str:
        return f"{amount_text(self.alert.amount, self.alert.currency)} {self.alert.currency}"

    @property
    def said(self) -> str:
        """All rule hits in a line; without one, the top reason."""
        return "; ".join(hit.get("text", "") for hit in self.alert.rules) or self.alert.top_reason

    @property
    def release(self) -> Any:
        return self.alert.decision.release

    @property
    def live_hits(self) -> int:
        return sum(hit.get("mode", "live") == "live" for hit in self.alert.rules)

    @property
    def degraded(self) -> str:
        code = self.alert.decision.degraded
        return DEGRADED.text(code).replace("_", " ") if code else ""

    @property
    def latency_ms(self) -> float:
        return self.alert.decision.latency / 1000


def rows_of(case: Case) -> QuerySet[CaseAlert]:
    """The case's alerts with all that is shown of them, in one statement; the newest first."""
    later = Decision.objects.filter(
        pk__gt=OuterRef("alert__decision_id"), pk__lt=(OuterRef("alert_id") + 1) * SCREENINGS
    )
    return (
        case.case_alerts.annotate(was_judged_again=Exists(later))
        .select_related(
            "alert__decision__release__model",
            "alert__decision__release__policy",
            "alert__transaction__detail",
            "alert__transaction__resolution",
            "alert__explanation",
        )
        .order_by("-alert__seq")[:MOST_ALERTS]
    )


def flagged(case: Case) -> list[Flagged]:
    """The case's alerts, newest first, with their reasons."""
    return [_flagged(row) for row in rows_of(case)]


def _flagged(row: CaseAlert) -> Flagged:
    shown = Flagged(row, row.alert)
    shown.rules = rule_hits(row.alert)
    shown.listed = [_listed(each) for each in row.alert.reasons if each.get("source") == "list"]
    if shown.explained:
        shown.factors, shown.features, shown.factors_sum = factors(row.alert)
    return shown


def worst(alerts: Iterable[Flagged]) -> Flagged:
    """The alert a page opens with."""
    return max(alerts, key=lambda each: (each.alert.score, each.alert.amount_base, each.alert.pk))


def rule_hits(alert: Alert) -> list[Evidence]:
    """The rule versions that fired, with the values they saw; live ones first, the heaviest on top."""
    hits = sorted(alert.rules, key=lambda hit: (hit.get("mode") == "shadow", -abs(hit.get("weight", 0))))
    most = max((abs(hit.get("weight", 0)) for hit in hits), default=0) or 1
    return [_rule(hit, most) for hit in hits]


def _listed(reason: dict[str, Any]) -> Evidence:
    """A list entry that the payment hit; what the list does stands in its kind."""
    return Evidence(text=reason["text"], source=(reason["code"].replace("_", " ").lower(),))


def _rule(hit: dict[str, Any], most: float) -> Evidence:
    weight = hit.get("weight", 0)
    shadow = hit.get("mode") == "shadow"
    values = (hit.get("values") or {}).items()  # of an alert from before values were kept in words
    seen = " · ".join(hit.get("said") or [f"{name.replace('_', ' ')} {_value(value)}" for name, value in values])
    source = [
        f"{hit.get('rule', '')} v{hit.get('version', '')}",
        seen,
        "shadow, not counted in the outcome" if shadow else "",
    ]
    return Evidence(
        text=hit.get("text", ""),
        source=tuple(filter(None, source)),
        weight=f"{weight:+d}".replace("-", "−") if weight else "",
        against=shadow,
        sets="" if shadow else hit.get("outcome", ""),
        **_bar(abs(weight) / most),
    )


def _value(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return reasons.number(value) if isinstance(value, (int, float)) else str(value).replace("_", " ")


def _bar(share: float) -> dict[str, Any]:
    """A signed share (−1…1) as a bar: to the right of zero for fraud, to the left against it."""
    length = min(abs(share), 1.0) * (BAR if share >= 0 else ZERO)
    return {"x": round(ZERO if share >= 0 else ZERO - length, 1), "width": round(length, 1)}


def factors(alert: Alert) -> tuple[list[Evidence], list[Evidence], str]:
    """The model's factors, largest first, in points of the score; every feature of it; and how base and points add up.

    A factor is what the features of one reason code say together; the smaller ones stand in one line at the end.
    Contributions are additive in the margin before calibration; the points share out the way from the base's score to
    this score in their proportion. Where that cannot be (no way, or the wrong one), contributions stand as they are.
    """
    told = alert.explanation
    parts = reasons.parts_of(told.kept)
    groups = [group for group in reasons.grouped(parts) if group["contribution"]]
    base = int(to_score(1 / (1 + math.exp(-max(-60.0, min(60.0, told.base))))))
    total = sum(part["contribution"] for part in parts)
    scale = (alert.score - base) / total if total and (alert.score - base) / total > 0 else 0.0
    most = max((abs(group["contribution"]) for group in groups), default=0) or 1
    top = [_factor(group["text"], group["topic"], group["contribution"], scale, most) for group in groups[:TOP_FACTORS]]
    shown = top + _others(groups, alert.score - base if scale else None, scale, most)
    every = [
        _factor(_text(part), part["feature"].replace("_", " "), part["contribution"], scale, most)
        for part in parts
        if part["contribution"]
    ]
    return shown, every, _signed(f"base {base} {alert.score - base:+d} = {alert.score}") if scale else ""


def _others(groups: list[reasons.Group], points: int | None, scale: float, most: float) -> list[Evidence]:
    """The line of all factors that have none of their own: in points it is what is left, so that the lines add up."""
    rest = groups[TOP_FACTORS:]
    if not rest:
        return []
    amount = sum(group["contribution"] for group in rest)
    text = "1 other factor" if len(rest) == 1 else f"{len(rest)} other factors"
    line = _factor(text, "together", amount, scale, most)
    if points is None:
        return [line]
    left = points - sum(round(group["contribution"] * scale) for group in groups[:TOP_FACTORS])
    return [replace(line, weight=_signed(f"{left:+d}"), against=left < 0)]


def _text(part: dict[str, Any]) -> str:
    return part.get("text") or f"{part['feature'].replace('_', ' ')}: {_value(part.get('value'))}"


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _factor(text: str, source: str, amount: float, scale: float, most: float) -> Evidence:
    return Evidence(
        text=text,
        source=(source,) if source else (),
        weight=_signed(f"{round(amount * scale):+d}" if scale else f"{amount:+.2f}"),
        against=amount < 0,
        **_bar(amount / most),
    )


@dataclass(frozen=True)
class Gauge:
    """The score on its scale with the thresholds of the policy that judged it; positions in per cent."""

    score: int
    at: str
    band: str
    bands: list[dict[str, Any]]
    marks: list[dict[str, Any]]
    words: str


def gauge(each: Flagged) -> Gauge | None:
    """The gauge of an alert's score; None without a model."""
    score = each.alert.score
    if score < 0:
        return None
    thresholds = each.release.policy.thresholds
    steps = thresholds.get(each.alert.channel) or thresholds["default"]
    edges = [0, steps["challenge"], steps["review"], steps["decline"], 1000]
    names = ["approve", "challenge", "review", "decline"]
    fills = ["low", "medium", "high", "critical"]
    place = max(i for i in range(4) if score >= edges[i])
    bands = [
        {
            "x": f"{edges[i] / 10:.1f}%",
            "width": f"{max((edges[i + 1] - edges[i]) / 10 - 0.5, 0):.1f}%",
            "fill": fills[i],
            "on": i == place,
        }
        for i in range(4)
    ]
    marks = [
        {"x": f"{edge / 10:.1f}%", "text": edge, "anchor": "start" if not edge else "middle"}
        for edge in _apart(edges[:4], edges[place])
    ]
    words = f"{names[place]} band, from {edges[place]}" if place else "below every threshold"
    return Gauge(score, f"{score / 10:.1f}%", fills[place], bands, marks, words)


def _apart(edges: list[int], first: int) -> list[int]:
    """The edges whose figures do not touch on the gauge: `first` for certain, then 0, then the others from above."""
    kept = [first]
    for edge in [0, *reversed(edges)]:
        if all(abs(edge - other) >= TOUCHING for other in kept):
            kept.append(edge)
    return sorted(kept)


_MONEY = re.compile(r"[\d,.]*\d [A-Z]{3}\b")
# Mostly the same news told twice.
_TWINS = ({"MERCHANT_RISK", "TERMINAL_RISK"}, {"DEVICE_RISK", "IP_RISK"}, {"PAYEE_MISMATCH", "NEW_PAYEE"})


def _adds(reason: dict[str, Any], first: dict[str, Any]) -> bool:
    """Whether a reason says more than the first: neither its sum of money again, nor what its twin says."""
    same_sum = set(_MONEY.findall(reason["text"])) & set(_MONEY.findall(first["text"]))
    return not same_sum and all({reason["code"], first["code"]} != twins for twins in _TWINS)


def in_short(alerts: list[Flagged]) -> dict[str, str]:
    """The case in a sentence: the strongest reasons, the second if it tells no sum again; and what speaks against."""
    chosen = worst(alerts)
    told = chosen.alert.reasons or [{"code": "", "text": chosen.alert.top_reason}]
    first, second = told[0]["text"].rstrip("."), next((each["text"] for each in told[1:3] if _adds(each, told[0])), "")
    against = reasons.against(chosen.alert.explanation.kept) if chosen.explained else []
    return {
        "line": f"{first}. {second.rstrip('.')}.".removesuffix(" ."),
        "against": f"Against it: {'; '.join(against)}." if against else "",
    }


def money(alerts: list[Flagged]) -> list[dict[str, Any]]:
    """Where the money of the case is: sums by what became of it, per currency."""
    sums: dict[tuple[str, str], int] = {}
    for each in alerts:
        key = (each.money, each.alert.currency)
        sums[key] = sums.get(key, 0) + each.alert.amount
    ends = min((each.alert.hold_until for each in alerts if each.held and each.alert.hold_until), default=None)
    order = ["held", "blocked", "released", "declined", "challenged", "sent"]
    return [
        {"word": word, "text": f"{amount_text(total, currency)} {currency}", "until": ends if word == "held" else None}
        for (word, currency), total in sorted(sums.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    ]


def at_risk(case: Case, alerts: list[Flagged]) -> str:
    """The money of all alerts: in their own currency where they share one, else in the base currency."""
    currencies = {each.alert.currency for each in alerts}
    if len(currencies) == 1 and len(alerts) == case.alert_count:
        [currency] = currencies
        return f"{amount_text(sum(each.alert.amount for each in alerts), currency)} {currency}"
    return f"{amount_text(case.amount_base, case.lane.base_currency)} {case.lane.base_currency}"


def consequences(
    alerts: list[Flagged], disposition: str, exceptions: dict[int, str] | None = None
) -> list[dict[str, str]]:
    """What closing would do, as sentences with an icon; static/cases/case.js says the same as one chooses."""
    said = {each.alert.pk: (exceptions or {}).get(each.alert.pk) or disposition for each in alerts}
    lines = []
    for word, act, icon in (("blocked", "Blocks", "ban"), ("released", "Releases", "check")):
        held = [each for each in alerts if each.held and resolution_of(each.row, said[each.alert.pk]) == word]
        if held:
            lines.append({"icon": icon, "text": f"{act} {_payments(len(held), 'held ')} of {_sums(held)}."})
    for label in ("fraud", "legitimate"):
        n = sum(LABEL.get(value) == label for value in said.values())
        if n:
            lines.append(
                {
                    "icon": "tag",
                    "text": f"Labels {_payments(n)} as {label}; the next training sees {'it' if n == 1 else 'them'}.",
                }
            )
    unlabelled = sum(value not in LABEL for value in said.values())
    if unlabelled:
        lines.append(
            {"icon": "info", "text": f"Leaves {_payments(unlabelled)} without a label; training does not use them."}
        )
    return lines


def _payments(n: int, kind: str = "") -> str:
    return f"1 {kind}payment" if n == 1 else f"{n} {kind}payments"


def _sums(alerts: list[Flagged]) -> str:
    totals: dict[str, int] = {}
    for each in alerts:
        totals[each.alert.currency] = totals.get(each.alert.currency, 0) + each.alert.amount
    return " and ".join(f"{amount_text(total, currency)} {currency}" for currency, total in totals.items())


def for_script(alerts: list[Flagged]) -> dict[str, Any]:
    """What the close dialog needs to say the consequences as they change."""
    return {
        "labels": LABEL,
        "resolutions": RESOLUTION,
        "payments": [
            {
                "id": each.alert.pk,
                "amount": each.alert.amount,
                "currency": each.alert.currency,
                "text": each.amount_text,
                "held": each.held,
                "default": each.release.policy.default_resolution,
            }
            for each in alerts
        ],
    }


def judged_again(each: Flagged) -> list[dict[str, Any]]:
    """Later decisions of the payment, with the reasons of their requests; the alert stays what it was."""
    if not getattr(each.row, "was_judged_again", False):
        return []
    later = histories([each.alert.pk]).get(each.alert.pk, [])
    mine = each.alert.decision.screening
    return [
        told | {"decided_at": datetime.fromisoformat(told["decided_at"])} for told in later if told["screening"] > mine
    ]


def hold_words(each: Flagged) -> str:
    """What is to be said of a held payment, in a line."""
    if each.resolution:
        by = "by the policy's default" if each.resolution.source == "default" else f"by {each.resolution.by}"
        return f"{each.resolution.resolution} {by}, {timezone.localtime(each.resolution.resolved_at):%H:%M}"
    return f"held until {timezone.localtime(each.alert.hold_until):%H:%M}" if each.alert.hold_until else ""
