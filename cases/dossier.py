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
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import BooleanField, Exists, F, JSONField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models import Case as Choice
from django.db.models.functions import JSONObject
from django.db.models.lookups import Exact
from django.utils import timezone

from alerts.live import amount_text
from alerts.models import Alert, AlertExplanation
from cases import lights
from cases.models import Case, CaseAlert
from cases.workflow import LABEL, RESOLUTION
from scoring import reasons
from scoring.models import DEGRADED, SCREENINGS, Decision
from scoring.registry import to_score
from scoring.screening import histories
from transactions.codes import CURRENCY, OUTCOME
from transactions.models import Transaction, TransactionDetail

MOST_ALERTS = 50  # on one page of a case's alerts; the others are summed
SHORT_LIST = 5  # other alerts named beside the reasons
TOP_FACTORS = 7
TOLD = ("base", "margin", "kept", "model_version")  # of an explanation
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
    lights: str = ""  # the facts it read, by their keys
    rule: str = ""
    version: int = 0


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
        return money_word(self.alert.outcome)

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


def money_word(outcome: str) -> str:
    """Where the money of an unresolved payment is."""
    return {"review": "held", "decline": "declined", "challenge": "challenged"}.get(outcome, "sent")


RELATED = ("decision__release__model", "decision__release__policy", "transaction__resolution")
# Vectors and model cards are tens of kilobytes a row, and no line of a page shows them.
UNSHOWN = ("decision__features", "decision__release__model__card", "decision__release__model__metrics")


def rows_of(case: Case) -> QuerySet[CaseAlert]:
    """The case's alerts with what a line says of each, the newest first."""
    rows = case.case_alerts.select_related(*(f"alert__{name}" for name in RELATED))
    return rows.defer(*(f"alert__{name}" for name in UNSHOWN)).order_by("-alert__seq", "-pk")


def flagged(case: Case, before: int = 0) -> list[Flagged]:
    """A page of the case's alerts, newest first; `before`: only those with a lower seq."""
    return [Flagged(row, row.alert) for row in rows_of(case).filter(pk__in=_newest(case, before))]


def _newest(case: Case, before: int = 0) -> QuerySet[CaseAlert]:
    """The keys of a page of alerts: of an incident's hundreds only these are joined with what a line says."""
    rows = case.case_alerts.filter(alert__seq__lt=before) if before else case.case_alerts.all()
    return rows.order_by("-alert__seq", "-pk").values("pk")[:MOST_ALERTS]


def opened(case: Case, alert_id: int | None = None) -> tuple[list[Flagged], Flagged | None]:
    """The newest alerts of the case, and one of them in full: the named one, else the worst.

    One statement, for only that one's document and contributions are read; two where the page does not reach it.
    """
    rows = [_with_all(row) for row in _with_chosen(case, alert_id).filter(pk__in=_newest(case))]
    alerts = [Flagged(row, row.alert) for row in rows]
    chosen = next((each for each in alerts if each.row.is_chosen), None) or in_full(case, alert_id)
    return alerts, _reasoned(chosen) if chosen else None


def in_full(case: Case, alert_id: int | None = None) -> Flagged | None:
    """One alert of the case with its reasons, document and explanation: the named one, else the worst."""
    rows = _with_chosen(case, alert_id)
    row = rows.filter(is_chosen=True).first() or (_with_chosen(case, None).filter(is_chosen=True).first())
    return _reasoned(Flagged(_with_all(row), row.alert)) if row else None


def _with_chosen(case: Case, alert_id: int | None) -> QuerySet[CaseAlert]:
    """The rows with `is_chosen`; of the chosen one also its explanation, document, and whether it was judged again."""
    worst = CaseAlert.objects.filter(case=case).order_by("-alert__score", "-alert__amount_base", "-pk")
    wanted = Value(alert_id) if alert_id else Subquery(worst.values("pk")[:1])
    explanation = AlertExplanation.objects.filter(pk=OuterRef("pk")).values(told=JSONObject(**{n: n for n in TOLD}))
    document = TransactionDetail.objects.filter(pk=OuterRef("pk")).values(told=JSONObject(document="document"))
    later = Decision.objects.filter(
        pk__gt=OuterRef("alert__decision_id"), pk__lt=(OuterRef("alert_id") + 1) * SCREENINGS
    )
    return (
        rows_of(case)
        .annotate(is_chosen=Exact(F("pk"), wanted))
        .annotate(
            told=_of_chosen(Subquery(explanation), JSONField()),
            sent=_of_chosen(Subquery(document), JSONField()),
            was_judged_again=_of_chosen(Exists(later), BooleanField()),
        )
    )


def _of_chosen(then: Any, field: Any) -> Choice:
    return Choice(When(is_chosen=True, then=then), output_field=field)


def _with_all(row: CaseAlert) -> CaseAlert:
    """The row with what came along of the chosen one, in its place; of the others there is none."""
    alert: Any = row.alert
    told, sent = row.told, row.sent
    explanation = AlertExplanation(alert=alert, **told) if told else None
    detail = TransactionDetail(transaction=alert.transaction, **sent) if sent else None
    Alert.explanation.related.set_cached_value(alert, explanation)
    Transaction.detail.related.set_cached_value(alert.transaction, detail)
    return row


def _reasoned(shown: Flagged) -> Flagged:
    shown.rules = rule_hits(shown.alert)
    shown.listed = [_listed(each) for each in shown.alert.reasons if each.get("source") == "list"]
    if shown.explained:
        shown.factors, shown.features, shown.factors_sum = factors(shown.alert)
    return shown


class Sum(NamedTuple):
    """Alerts of a case that are alike: what became of their money, and what the policy would do with held ones."""

    money: str
    currency: str
    held: bool
    default: str
    n: int
    amount: int
    until: datetime | None
    verdict: str


BEYOND = """
SELECT a.outcome, h.resolution, a.currency, a.hold_until IS NOT NULL AND h.resolution IS NULL, p.default_resolution,
       c.verdict, count(*), sum(a.amount), min(a.hold_until)
  FROM case_alert c JOIN alert a ON a.id = c.alert_id JOIN decision d ON d.id = a.decision_id
  JOIN scoring_release r ON r.id = d.release_id JOIN scoring_policyversion p ON p.id = r.policy_id
  LEFT JOIN hold_resolution h ON h.transaction_id = a.id
 WHERE c.case_id = %s AND a.seq < %s GROUP BY 1, 2, 3, 4, 5, 6"""


def beyond(case: Case, alerts: list[Flagged]) -> list[Sum]:
    """Sums of the case's alerts that are not on the page; no statement where the page has them all."""
    if case.alert_count <= len(alerts) or len(alerts) < MOST_ALERTS:
        return []
    with connection.cursor() as cursor:
        cursor.execute(BEYOND, [case.pk, alerts[-1].alert.seq])
        return [_sum(*row) for row in cursor.fetchall()]


def _sum(
    outcome: int, resolution: str | None, currency: int, held: bool, default: str, verdict: str, n: int, *rest: Any
) -> Sum:
    amount, until = rest
    word = resolution or money_word(OUTCOME.text(outcome))
    return Sum(word, CURRENCY.text(currency), held, default, n, int(amount), until if held else None, verdict)


def sums(alerts: Iterable[Flagged], others: Iterable[Sum] = ()) -> list[Sum]:
    """Each shown alert as a sum of its own, then the sums of the others."""
    shown = [
        Sum(
            each.money,
            each.alert.currency,
            each.held,
            each.release.policy.default_resolution,
            1,
            each.alert.amount,
            each.alert.hold_until if each.held else None,
            each.row.verdict,
        )
        for each in alerts
    ]
    return [*shown, *others]


def rule_hits(alert: Alert) -> list[Evidence]:
    """The rule versions that fired, with the values they saw; live ones first, the heaviest on top."""
    hits = sorted(alert.rules, key=lambda hit: (hit.get("mode") == "shadow", -abs(hit.get("weight", 0))))
    most = max((abs(hit.get("weight", 0)) for hit in hits), default=0) or 1
    return [_rule(hit, most) for hit in hits]


def _listed(reason: dict[str, Any]) -> Evidence:
    """A list entry that the payment hit; what the list does stands in its kind."""
    source = (reason["code"].replace("_", " ").lower(),)
    return Evidence(text=reason["text"], source=source, lights=lights.of_list(reason["text"]))


def _rule(hit: dict[str, Any], most: float) -> Evidence:
    weight = hit.get("weight", 0)
    shadow = hit.get("mode") == "shadow"
    values = (hit.get("values") or {}).items()  # of an alert from before values were kept in words
    told = hit.get("said") or [f"{name.replace('_', ' ')} {_value(value)}" for name, value in values]
    seen = " · ".join(part for part in told if part != hit.get("text"))
    source = [seen, "shadow, not counted in the outcome" if shadow else ""]
    return Evidence(
        text=hit.get("text", ""),
        source=tuple(filter(None, source)),
        weight=f"{weight:+d}".replace("-", "−") if weight else "",
        against=shadow,
        sets="" if shadow else hit.get("outcome", ""),
        lights=lights.of_rule(hit),
        rule=str(hit.get("rule", "")),
        version=int(hit.get("version") or 0),
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
    names = [part["feature"] for part in parts]
    top = [
        replace(
            _factor(group["text"], group["topic"], group["contribution"], scale, most),
            lights=lights.of_code(group["code"], names),
        )
        for group in groups[:TOP_FACTORS]
    ]
    shown = top + _others(groups, alert.score - base if scale else None, scale, most)
    every = [
        replace(
            _factor(_text(part), part["feature"].replace("_", " "), part["contribution"], scale, most),
            lights=lights.of_names([part["feature"]]),
        )
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
    steps: str


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
    steps_said = " / ".join(map(str, edges[1:4]))
    return Gauge(score, f"{score / 10:.1f}%", fills[place], bands, marks, words, steps_said)


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


# What reasons that come together look like, the most telling first: all codes of a line must be among the reasons.
LOOKS_LIKE: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"REMOTE_ACCESS"}), "a remote-access scam"),
    (frozenset({"NEW_DEVICE", "NEW_PAYEE"}), "account takeover"),
    (frozenset({"NEW_DEVICE", "PAYEE_MISMATCH"}), "account takeover"),
    (frozenset({"NEW_DEVICE", "BALANCE_DRAINED"}), "account takeover"),
    (frozenset({"PAYEE_RISK"}), "money sent to a mule"),
    (frozenset({"PAYEE_MISMATCH", "NEW_PAYEE"}), "a payer who was deceived"),
    (frozenset({"DEVICE_TAMPERED", "DEVICE_RISK"}), "a device farm"),
    (frozenset({"DEVICE_RISK", "VELOCITY"}), "card testing"),
    (frozenset({"IMPOSSIBLE_TRAVEL"}), "a stolen or copied card"),
    (frozenset({"TERMINAL_RISK"}), "cards copied or abused at one terminal"),
    (frozenset({"MERCHANT_RISK", "VELOCITY"}), "card testing"),
    (frozenset({"KNOWN_FRAUD"}), "more of a fraud that is known"),
)


def looks_like(codes: Iterable[str]) -> str:
    """What the reasons together look like, "" where no pattern fits."""
    told = set(codes)
    return next((words for wanted, words in LOOKS_LIKE if wanted <= told), "")


def in_short(chosen: Flagged) -> dict[str, str]:
    """The case in a sentence: what it looks like, its strongest reasons, and what speaks against.

    The second reason is left out if it only tells the first one's sum again.
    """
    told = chosen.alert.reasons or [{"code": "", "text": chosen.alert.top_reason}]
    first, second = told[0]["text"].rstrip("."), next((each["text"] for each in told[1:3] if _adds(each, told[0])), "")
    against = reasons.against(chosen.alert.explanation.kept) if chosen.explained else []
    line = f"{first}. {second.rstrip('.')}.".removesuffix(" .")
    pattern = looks_like(each["code"] for each in told)
    return {
        "line": f"Looks like {pattern}: {lower(line)}" if pattern else line,
        "against": f"Against it: {'; '.join(against)}." if against else "",
    }


def lower(text: str) -> str:
    """With a small first letter, unless the word is a name or an abbreviation."""
    return text if text[1:2].isupper() or not text[:1].isalpha() else text[0].lower() + text[1:]


def money(parts: Iterable[Sum]) -> list[dict[str, Any]]:
    """Where the money of the case is: sums by what became of it, per currency."""
    parts = list(parts)
    totals: dict[tuple[str, str], int] = {}
    for part in parts:
        totals[part.money, part.currency] = totals.get((part.money, part.currency), 0) + part.amount
    ends = min((part.until for part in parts if part.until), default=None)
    order = ["held", "blocked", "released", "declined", "challenged", "sent"]
    return [
        {"word": word, "text": f"{amount_text(total, currency)} {currency}", "until": ends if word == "held" else None}
        for (word, currency), total in sorted(totals.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    ]


def at_risk(case: Case, parts: Iterable[Sum]) -> str:
    """The money of all alerts: in their own currency where they share one, else in the base currency."""
    parts = list(parts)
    currencies = {part.currency for part in parts}
    if len(currencies) == 1 and sum(part.n for part in parts) == case.alert_count:
        [currency] = currencies
        return f"{amount_text(sum(part.amount for part in parts), currency)} {currency}"
    return f"{amount_text(case.amount_base, case.lane.base_currency)} {case.lane.base_currency}"


def consequences(
    alerts: list[Flagged], disposition: str, exceptions: dict[int, str] | None = None, others: Iterable[Sum] = ()
) -> list[dict[str, str]]:
    """What closing would do, as sentences with an icon; static/cases/acts.js says the same as one chooses.

    `others`: the sums of the alerts that are not on the page (`beyond`); they go as the case does, or as they were set.
    """
    given = exceptions or {}
    said = [
        (part, verdict)
        for part, verdict in (
            *((part, given.get(each.alert.pk) or disposition) for each, part in zip(alerts, sums(alerts), strict=True)),
            *((part, part.verdict or disposition) for part in others),
        )
    ]
    lines = []
    for word, act, icon in (("blocked", "Blocks", "ban"), ("released", "Releases", "check")):
        held = [part for part, verdict in said if part.held and RESOLUTION.get(verdict, part.default) == word]
        if held:
            lines.append({"icon": icon, "text": f"{act} {_payments(_count(held), 'held ')} of {_sums(held)}."})
    for label in ("fraud", "legitimate"):
        n = _count(part for part, verdict in said if LABEL.get(verdict) == label)
        if n:
            them = "it" if n == 1 else "them"
            lines.append({"icon": "tag", "text": f"Labels {_payments(n)} as {label}; the next training sees {them}."})
    n = _count(part for part, verdict in said if verdict not in LABEL)
    if n:
        lines.append({"icon": "info", "text": f"Leaves {_payments(n)} without a label; training does not use them."})
    return lines


def _count(parts: Iterable[Sum]) -> int:
    return sum(part.n for part in parts)


def _payments(n: int, kind: str = "") -> str:
    return f"1 {kind}payment" if n == 1 else f"{n} {kind}payments"


def _sums(parts: Iterable[Sum]) -> str:
    totals: dict[str, int] = {}
    for part in parts:
        totals[part.currency] = totals.get(part.currency, 0) + part.amount
    return " and ".join(f"{amount_text(total, currency)} {currency}" for currency, total in totals.items())


def for_script(alerts: list[Flagged], others: Iterable[Sum] = ()) -> dict[str, Any]:
    """What the close dialog needs to say the consequences as they change: a line for each payment, `n` for others."""
    shown = [_for_script(part) | {"id": each.alert.pk} for each, part in zip(alerts, sums(alerts), strict=True)]
    rest = [_for_script(part) | {"id": 0, "verdict": part.verdict} for part in others]
    return {"labels": LABEL, "resolutions": RESOLUTION, "payments": [*shown, *rest]}


def _for_script(part: Sum) -> dict[str, Any]:
    text = f"{amount_text(part.amount, part.currency)} {part.currency}"
    named = {"amount": part.amount, "currency": part.currency, "text": text, "held": part.held}
    return named | {"default": part.default, "n": part.n}


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
