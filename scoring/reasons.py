"""Why a payment was stopped: reason codes with plain sentences that carry the actual numbers.

    7 payments in 10 min; usual 0–1
    4,970.00 EUR; usual 40.00–180.00 EUR

Four sources, all deterministic: the list entries that the payment hit, each by its name; the live rules that hit, in
the order of their weights, with the values they saw; the factors of the stored vector that stand out, known within the
commit; and the model's contributions grouped by reason code, computed after it. Rule weights order the reasons and add
nothing to the score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypedDict

import numpy as np

from scoring import wording
from scoring.entries import Told
from scoring.features import NAMES
from scoring.rules import Rule, Ruleset
from scoring.wording import Seen, ago, count, money, number, share, usual, usual_amounts
from transactions import codes

PUBLIC = 5
MOST_ENTRIES = 3  # list entries told of one payment
LIST_CODES = {"block": "BLOCK_LIST", "allow": "ALLOW_LIST", "watch": "WATCH_LIST"}
STANDS_OUT = 1.0  # strength from which a factor is a reason within the commit
_PLACE = {name: index for index, name in enumerate(NAMES)}


class Reason(TypedDict):
    """One reason as stored with an alert and shown by the API; `contribution` is in points of margin, 0 for a rule."""

    code: str
    text: str
    source: str
    contribution: float


class Scorer(Protocol):
    """What is needed of a loaded model."""

    names: Sequence[str]

    def contributions(self, matrix: np.ndarray) -> np.ndarray: ...


# --- factors of the vector --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factor:
    """A reason the vector may give: which features belong to it, how strongly it stands out, and its sentence."""

    code: str
    features: str  # a pattern over feature names; the first factor that matches owns the feature
    strength: Callable[[Seen], float]
    say: Callable[[Seen], str]
    needs: str = ""  # the feature without which there is nothing to say but `absent`
    absent: str = ""

    def sentence(self, seen: Seen) -> str:
        """The factor in words, also where nothing is known."""
        if self.needs and math.isnan(seen(self.needs)):
            return self.absent
        return self.say(seen)


def _part(value: float, whole: float) -> float:
    """How far `value` is on its way to `whole`; 0 where it is not known."""
    return 0.0 if math.isnan(value) else value / whole


def _faster(s: Seen) -> tuple[float, str, float]:
    """The window in which the customer or card is busiest against its threshold: (strength, text, payments)."""
    rate = s("customer_usual_24h")
    windows = (("10m", "10 min", 4, 1 / 144), ("1h", "1 h", 7, 1 / 24), ("24h", "24 h", 15, 1.0))
    found = [
        (
            _part(s(f"{who}_count_{window}") + 1, max(least, 4 * rate * part)),
            text,
            s(f"{who}_count_{window}") + 1,
            rate * part,
        )
        for who in ("customer", "card")
        for window, text, least, part in windows
    ]
    strength, text, payments, expected = max(found, key=lambda each: each[0])
    return strength, f"{count(payments, 'payment')} in {text}; {usual(expected)}", payments


def _amount_strength(s: Seen) -> float:
    return min(_part(s("customer_amount_z"), 4.0), _part(s("customer_amount_to_mean"), 3.0)) if s("amount") else 0.0


def _frauds(s: Seen, who: str, name: str) -> str:
    known, since = s(f"{who}_fraud_count_30d"), s(f"{who}_since_fraud")
    if known > 0:
        return f"{count(known, 'known fraud')} on this {name} in 30 days, the last one {ago(since)} ago"
    return f"Last known fraud on this {name} {ago(since)} ago" if since >= 0 else f"No known fraud on this {name}"


def _place(s: Seen, who: str) -> str:
    known, payments = s(f"{who}_fraud_count_30d"), s(f"{who}_count_30d")
    if known > 0:
        return f"{count(known, 'known fraud')} at this {who} in 30 days, of {count(payments, 'payment')}"
    return wording.sentence(f"{who}_fraud_share_30d", s)


def _shared(s: Seen, who: str, name: str) -> str:
    text = (
        f"{count(s(f'{who}_customers'), 'customer')} and {count(s(f'{who}_cards'), 'card')} seen on this {name} before"
    )
    known = s(f"{who}_fraud_count_30d")
    return f"{text}; {count(known, 'known fraud')}" if known > 0 else text


def _shared_strength(s: Seen, who: str, many: float) -> float:
    return max(
        _part(s(f"{who}_customers"), many), _part(s(f"{who}_cards"), many), _part(s(f"{who}_fraud_count_30d"), 1)
    )


def _flags(s: Seen) -> str:
    return "The device is an emulator or rooted" if s.on("device_tampered") else "No sign of tampering with the device"


def _travel(s: Seen) -> str:
    distance, speed = s("customer_distance_km"), s("customer_speed_kmh")
    way = f"{number(round(distance))} km from the last place"
    return way if math.isnan(speed) else f"{way}, which needs {number(round(speed))} km/h"


def _new(s: Seen, new: str, age: str, what: str) -> str:
    return f"First payment {what}" if s.on(new) else f"Known for {ago(s(age))} {what}"


def _abroad(s: Seen) -> str:
    if s.on("customer_new_country"):
        others = s("customer_countries_30d")
        lately = f"; {count(others, 'other country', 'other countries')} in 30 days" if others >= 1 else ""
        return f"First payment in this country{lately}"
    return "Payment outside the customer's country" if s.on("abroad") else "In a country the customer uses"


def _night(s: Seen) -> str:
    hour, nightly = s("hour"), share(s("customer_night_share"))
    return f"At {int(hour):02d}:{int(hour % 1 * 60):02d} UTC; {nightly} of this customer's payments fall at night"


def _signed(s: Seen) -> str:
    return wording.sentence("authentication" if math.isnan(s("sca")) else "sca", s)


def _fraud_on_us(s: Seen) -> str:
    who, name = ("card", "card") if s("card_fraud_count_30d") > 0 else ("customer", "customer")
    return _frauds(s, who, name)


_FAILED = codes.SCA.code("failed")
_NO_MATCH = codes.VOP.code("no_match")

FACTORS: tuple[Factor, ...] = (
    Factor(
        "KNOWN_FRAUD",
        r"(customer|card)_(fraud_.*|since_fraud)",
        lambda s: max(_part(s("customer_fraud_count_30d"), 1), _part(s("card_fraud_count_30d"), 1)) * 1.5,
        _fraud_on_us,
    ),
    Factor(
        "TERMINAL_RISK",
        r"terminal_(?!amount).*",
        lambda s: max(_part(s("terminal_fraud_share_30d"), 0.05), _part(s("terminal_fraud_run"), 2)),
        lambda s: _place(s, "terminal"),
        "terminal_fraud_share_30d",
        "No terminal sent",
    ),
    Factor(
        "MERCHANT_RISK",
        r"merchant_(?!amount).*|mcc_fraud.*",
        lambda s: max(_part(s("merchant_fraud_share_30d"), 0.05), _part(s("merchant_fraud_run"), 2)),
        lambda s: _place(s, "merchant"),
        "merchant_fraud_share_30d",
        "No merchant sent",
    ),
    Factor(
        "REMOTE_ACCESS",
        r"device_remote_access",
        lambda s: 1.5 * s.on("device_remote_access"),
        lambda s: (
            "Somebody else steers the device" if s.on("device_remote_access") else "No remote access to the device"
        ),
    ),
    Factor(
        "IMPOSSIBLE_TRAVEL",
        r"customer_(distance_km|speed_kmh)",
        lambda s: _part(s("customer_speed_kmh"), 900) if s("customer_distance_km") > 100 else 0.0,
        _travel,
        "customer_distance_km",
        "Place of this payment or of the last one not known",
    ),
    Factor(
        "VELOCITY",
        r"(customer|card|account)_(count_.*|since_last|merchants_.*|usual_24h)",
        lambda s: _faster(s)[0],
        lambda s: _faster(s)[1],
        "customer_count_10m",
        "No customer sent",
    ),
    Factor(
        "AMOUNT_UNUSUAL",
        r"amount(_log)?|customer_(amount_.*|mean_.*|max_.*|suspicious_.*)|(merchant|terminal)_amount_to_mean",
        _amount_strength,
        lambda s: f"{s.money(s('amount'))}; {usual_amounts(s)}",
        "amount",
        "Amount not known",
    ),
    Factor(
        "DEVICE_RISK",
        r"device_(count_.*|customers|cards|fraud_.*|since_fraud)",
        lambda s: _shared_strength(s, "device", 4),
        lambda s: _shared(s, "device", "device"),
        "device_customers",
        "No device sent",
    ),
    Factor(
        "NEW_DEVICE",
        r"customer_(devices_.*|new_device|device_age)|device_seen_days",
        lambda s: 1.0 * s.on("customer_new_device"),
        lambda s: _new(s, "customer_new_device", "customer_device_age", "from this device"),
        "customer_new_device",
        "No device sent",
    ),
    Factor(
        "NEW_PAYEE",
        r"customer_(new_counterparty|counterparty_age)",
        lambda s: 1.0 * s.on("customer_new_counterparty"),
        lambda s: _new(s, "customer_new_counterparty", "customer_counterparty_age", "to this payee"),
        "customer_new_counterparty",
        "No payee sent",
    ),
    Factor(
        "PAYEE_RISK",
        r"counterparty_.*",
        lambda s: max(_part(s("counterparty_fraud_count_30d"), 1), _part(s("counterparty_count_24h"), 10)),
        lambda s: (
            _frauds(s, "counterparty", "payee") + f"; {count(s('counterparty_customers'), 'customer')} paid it before"
        ),
        "counterparty_customers",
        "No payee sent",
    ),
    Factor(
        "PAYEE_MISMATCH",
        r"vop",
        lambda s: 1.2 * (s("vop") == _NO_MATCH),
        lambda s: wording.sentence("vop", s),
    ),
    Factor(
        "ABROAD",
        r"abroad|customer_(new_country|countries_.*)",
        lambda s: s.on("customer_new_country") * s.on("abroad") * 1.0,
        _abroad,
        "customer_new_country",
        "Country of the payment not sent",
    ),
    Factor(
        "IP_RISK",
        r"ip_.*",
        lambda s: _shared_strength(s, "ip", 8),
        lambda s: _shared(s, "ip", "IP address"),
        "ip_customers",
        "No IP address sent",
    ),
    Factor("DEVICE_TAMPERED", r"device_tampered", lambda s: 1.1 * s.on("device_tampered"), _flags),
    Factor(
        "HIDDEN_ORIGIN",
        r"device_hidden",
        lambda s: 1.0 * s.on("device_hidden"),
        lambda s: "Behind a proxy, VPN or Tor" if s.on("device_hidden") else "No proxy, VPN or Tor",
    ),
    Factor(
        "BALANCE_DRAINED",
        r"balance_share",
        lambda s: _part(s("balance_share"), 0.9),
        lambda s: f"Takes {share(s('balance_share'))} of the balance",
        "balance_share",
        "Balance not sent",
    ),
    Factor(
        "SPENDING",
        r"(customer|card|account)_sum_.*",
        lambda s: _spending(s)[0],
        lambda s: _spending(s)[1],
        "customer_sum_24h",
        "No customer sent",
    ),
    Factor(
        "WEAK_AUTHENTICATION", r"authentication|sca|three_ds|cvv_result", lambda s: 1.1 * (s("sca") == _FAILED), _signed
    ),
    Factor(
        "UNUSUAL_TIME",
        r"hour|weekday|night|customer_night_share",
        lambda s: 1.0 * (s.on("night") and s("customer_night_share") < 0.03 and s("customer_seen_days") > 30),
        _night,
        "customer_night_share",
        "First payment: no usual hours yet",
    ),
    Factor(
        "NEW_MERCHANT",
        r"customer_(new_merchant|merchant_age)",
        lambda s: 0.0,
        lambda s: _new(s, "customer_new_merchant", "customer_merchant_age", "at this merchant"),
        "customer_new_merchant",
        "No merchant sent",
    ),
    Factor(
        "NEW_CUSTOMER",
        r"(customer|card|account)_seen_days|customer_(age|tenure)|account_age",
        lambda s: 1.0 if s("account_age") < 7 else 0.0,
        lambda s: f"Customer seen for {ago(s('customer_seen_days'))}; account age {ago(s('account_age'))}",
        "customer_seen_days",
        "No customer sent",
    ),
    Factor(
        "SESSION",
        r"session_age",
        lambda s: 0.0,
        lambda s: f"Paid {number(s('session_age'))} s after the session began",
        "session_age",
        "Session not sent",
    ),
    Factor(
        "PAYMENT_KIND",
        r"channel|type|instrument|entry_mode|mcc|late",
        lambda s: 0.0,
        lambda s: wording.sentence("type", s),
    ),
    Factor("ANOMALY", r"anomaly", lambda s: 0.0, lambda s: wording.UNLIKE),
)
_FACTOR = {factor.code: factor for factor in FACTORS}


def _spending(s: Seen) -> tuple[float, str]:
    day, month = s("customer_sum_24h") + s("amount"), s("customer_sum_30d")
    daily = month / max(min(s("customer_seen_days"), 30), 1) if month > 0 else math.nan
    strength = 0.0 if math.isnan(daily) or day <= 0 else min(day / (8 * daily), day / 200)
    rate = "no history" if math.isnan(daily) else f"usual {daily:,.0f} {s.currency} a day"
    return strength, f"{s.money(day)} in 24 h with this one; {rate}"


@lru_cache(maxsize=512)
def code_of(feature: str) -> str:
    """The reason code a feature belongs to."""
    return next((factor.code for factor in FACTORS if re.fullmatch(factor.features, feature)), "PAYMENT_KIND")


# --- reasons of one payment -------------------------------------------------------------------------------------------


def sentences(
    vector: np.ndarray,
    facts: np.ndarray,
    hits: np.ndarray,
    contributions: np.ndarray | None = None,
    *,
    ruleset: Ruleset,
    currency: str,
    names: Sequence[str] = (),
    entries: Sequence[Told] = (),
    limit: int = PUBLIC,
) -> list[Reason]:
    """Why one payment was stopped, most telling first, at least one and at most `limit`; the same for the same input.

    `vector` (N_FEATURES,) float32 as stored; `facts` of shape (1,), dtype FACTS; `hits` (rules,) of the ruleset's mask;
    `contributions` (len(names) + 1,) of the scorer with its `names`, when they are known: then the factors follow them.
    `entries`: the list entries hit; those of block lists stand first, the others behind the rules.
    """
    seen = Seen(vector, currency)
    found = list_reasons(entries, decisive=True)
    found += [_rule_reason(rule, ruleset, facts, vector, currency) for rule in _live_hits(ruleset, hits)]
    found += list_reasons(entries, decisive=False)
    factors = _contributed(seen, names, contributions) if contributions is not None else _standing_out(seen)
    known = {reason["code"] for reason in found}
    found += [reason for reason in factors if reason["code"] not in known]
    return (found or [_nothing_known(seen)])[:limit]


def list_reasons(entries: Sequence[Told], *, decisive: bool) -> list[Reason]:
    """A reason for each entry hit: of those that decide by themselves (block lists), or of the others."""
    return [
        Reason(code=LIST_CODES[each.kind], text=each.sentence, source="list", contribution=0.0)
        for each in entries[:MOST_ENTRIES]
        if (each.kind == "block") == decisive
    ]


def _live_hits(ruleset: Ruleset, hits: np.ndarray) -> list[Rule]:
    live = [rule for rule, hit in zip(ruleset.rules, hits, strict=True) if hit and rule.live]
    return sorted(live, key=lambda rule: (-rule.weight, rule.key))


def _rule_reason(rule: Rule, ruleset: Ruleset, facts: np.ndarray, vector: np.ndarray, currency: str) -> Reason:
    text = fill(rule.sentence, ruleset, facts, vector, currency)
    return Reason(code=rule.reason, text=text, source=f"rule {rule.key} v{rule.number}", contribution=0.0)


def _standing_out(seen: Seen) -> list[Reason]:
    if np.isnan(seen.vector).all():
        return []
    strengths = [(factor.strength(seen), -order, factor) for order, factor in enumerate(FACTORS)]
    strong = sorted(
        (each for each in strengths if each[0] >= STANDS_OUT),
        key=lambda each: (min(each[0], 3.0), each[1]),
        reverse=True,
    )
    return [
        Reason(code=factor.code, text=factor.sentence(seen), source="model", contribution=0.0)
        for _, _, factor in strong
    ]


def _contributed(seen: Seen, names: Sequence[str], contributions: np.ndarray) -> list[Reason]:
    sums: dict[str, float] = {}
    for name, value in zip(names, contributions.tolist(), strict=False):
        sums[code_of(name)] = sums.get(code_of(name), 0.0) + value
    rising = sorted(((value, code) for code, value in sums.items() if value > 0), key=lambda each: (-each[0], each[1]))
    return [
        Reason(code=code, text=_FACTOR[code].sentence(seen), source="model", contribution=round(value, 4))
        for value, code in rising
    ]


def _nothing_known(seen: Seen) -> Reason:
    if np.isnan(seen.vector).all():
        return Reason(
            code="NOT_JUDGED",
            text="Could not be judged in full; a person looks at it",
            source="policy",
            contribution=0.0,
        )
    return Reason(
        code="MODEL_SCORE",
        text="The model's score, without one factor that stands out",
        source="model",
        contribution=0.0,
    )


def rule_hits(
    vector: np.ndarray, facts: np.ndarray, hits: np.ndarray, *, ruleset: Ruleset, currency: str
) -> list[dict[str, Any]]:
    """Every rule that hit, shadow ones included, with the values it saw, also in words: what `Alert.rules` keeps."""
    seen = Seen(vector, currency)
    return [
        {
            "rule": rule.key,
            "name": rule.name,
            "version": rule.number,
            "mode": rule.mode,
            "weight": rule.weight,
            "outcome": codes.OUTCOME.text(rule.outcome),
            "code": rule.reason,
            "text": fill(rule.sentence, ruleset, facts, vector, currency),
            "expression": rule.source,
            "values": ruleset.seen(rule, facts, vector),
            "said": said(rule, ruleset, facts, seen),
        }
        for rule, hit in zip(ruleset.rules, hits, strict=True)
        if hit
    ]


def said(rule: Rule, ruleset: Ruleset, facts: np.ndarray, seen: Seen) -> list[str]:
    """The values that a rule saw as people say them: a feature by its sentence, a field by its name and value, each
    once; a feature that is not known is left out."""
    told: list[str] = []
    for word in rule.words:
        value = ruleset.value(word, facts, seen.vector)
        if word.name in _PLACE:
            known = not np.isnan(seen.vector[_PLACE[word.name]])
            told += [wording.sentence(word.name, seen)] if known else []
        elif word.kind == "entity":
            told += [] if value else [f"{word.name} not sent"]
        else:
            told.append(f"{word.name.replace('_', ' ')}: {_shown(value, 0, '', seen.currency)}")
    return list(dict.fromkeys(told))


_PLACEHOLDER = re.compile(r"\{(\w+)(?:([+-]\d+))?(?::(\w+(?: \w+)*))?\}")


def fill(sentence: str, ruleset: Ruleset, facts: np.ndarray, vector: np.ndarray, currency: str) -> str:
    """A rule's sentence with the values seen: `{name}`, `{name+1}`, and `{name:money}`, `:share`, `:days`, `:text`.

    Any other form is a noun that the value counts: `{name:known fraud}` is "1 known fraud" or "3 known frauds".
    Not `str.format`: nothing but these forms is understood, and an unknown name stays as it is.
    """

    def value(match: re.Match[str]) -> str:
        name, plus, form = match.groups()
        word = ruleset.words.get(name)
        if word is None:
            return match.group()
        return _shown(ruleset.value(word, facts, vector), int(plus or 0), form or "", currency)

    return _PLACEHOLDER.sub(value, sentence)


def _shown(value: float | str | bool | None, plus: int, form: str, currency: str) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("_", " ")
    value += plus
    shapes: dict[str, Callable[[float], str]] = {"money": lambda v: money(v, currency), "share": share, "days": ago}
    shapes |= {"text": number, "": number}
    return shapes[form](value) if form in shapes else count(value, form)


# --- the model's contributions, after the commit ----------------------------------------------------------------------


FROZEN_TEXTS = 16  # of each explanation: those that people are shown; what is said of the others is said when asked

Part = dict[str, Any]  # {feature, value, contribution, code, text}


@dataclass(frozen=True)
class Explanation:
    """What `AlertExplanation` keeps: base + contributions = margin, largest first, all that were known or weighed.

    Kept short, for there are over a hundred of them: `kept` is {currency, parts: [[feature, value, contribution,
    text], …]}, where only the largest have their text, as it was worded then.
    """

    base: float
    margin: float
    kept: dict[str, Any]

    @property
    def contributions(self) -> list[Part]:
        """All of them in full."""
        return parts_of(self.kept)


def contributions(scorer: Scorer, vector: np.ndarray, *, currency: str = "EUR") -> Explanation:
    """The model's contributions to one stored vector (N_FEATURES,) float32: with feature, value, code and text."""
    return contributions_of(scorer, vector.reshape(1, -1), currency=currency)[0]


def contributions_of(scorer: Scorer, vectors: np.ndarray, *, currency: str = "EUR") -> list[Explanation]:
    """The same for several vectors (n, N_FEATURES): together they cost a tenth of what they cost one by one."""
    rows = scorer.contributions(np.ascontiguousarray(vectors, "f4"))
    order = np.lexsort([np.broadcast_to(_ranks(tuple(scorer.names)), rows[:, :-1].shape), -np.abs(rows[:, :-1])])
    return [
        _explanation(scorer.names, row, places, Seen(vector, currency))
        for row, places, vector in zip(rows, order.tolist(), vectors, strict=True)
    ]


@lru_cache(maxsize=8)
def _ranks(names: tuple[str, ...]) -> np.ndarray:
    """Where each name stands in alphabetical order."""
    return np.argsort(np.argsort(names))


def _explanation(names: Sequence[str], row: np.ndarray, order: list[int], seen: Seen) -> Explanation:
    amounts, values = np.round(row, 6).tolist(), seen.vector.tolist()
    parts: list[list[Any]] = []
    for place in order:
        name = names[place]
        value = values[_PLACE[name]] if name in _PLACE else math.nan
        if not amounts[place] and math.isnan(value):
            continue  # it was not known and weighed nothing
        parts.append([name, float(f"{value:.9g}") if math.isfinite(value) else None, amounts[place]])
    for part in parts[:FROZEN_TEXTS]:
        part.append(wording.sentence(part[0], seen))
    kept = {"currency": seen.currency, "parts": parts}
    return Explanation(amounts[-1], round(float(row.sum(dtype="f8")), 6), kept)


def parts_of(kept: dict[str, Any]) -> list[Part]:
    """The contributions that an explanation kept, in full; what has no text of its own is worded from what it kept."""
    seen = _seen_again(kept)
    return [
        {
            "feature": name,
            "value": value,
            "contribution": amount,
            "code": code_of(name),
            "text": text[0] if text else _worded(name, seen),
        }
        for name, value, amount, *text in kept["parts"]
    ]


def _worded(name: str, seen: Seen) -> str:
    """A feature in words; "" for one that this software no longer has."""
    return wording.sentence(name, seen) if name in _PLACE or code_of(name) == "ANOMALY" else ""


def _seen_again(kept: dict[str, Any]) -> Seen:
    """The vector as the explanation kept it; what it does not have is not known."""
    vector = np.full(len(NAMES), np.nan, "f4")
    for name, value, *_ in kept["parts"]:
        if name in _PLACE and value is not None:
            vector[_PLACE[name]] = value
    return Seen(vector, kept["currency"])


# --- the same for people ----------------------------------------------------------------------------------------------

# What the factors of a code are about, in words that hold whether they speak for or against fraud.
TOPICS = {
    "VELOCITY": "payments in a short time",
    "SPENDING": "money spent lately",
    "AMOUNT_UNUSUAL": "amount against the usual",
    "IMPOSSIBLE_TRAVEL": "way from the last place",
    "ABROAD": "country",
    "NEW_DEVICE": "time since the device was first used",
    "DEVICE_RISK": "others on the same device",
    "DEVICE_TAMPERED": "state of the device",
    "REMOTE_ACCESS": "remote access",
    "HIDDEN_ORIGIN": "proxy, VPN or Tor",
    "IP_RISK": "IP address",
    "NEW_PAYEE": "time since the payee was first paid",
    "PAYEE_RISK": "what is known of the payee",
    "PAYEE_MISMATCH": "verification of payee",
    "MERCHANT_RISK": "what is known of the merchant",
    "TERMINAL_RISK": "what is known of the terminal",
    "NEW_MERCHANT": "time since the first payment there",
    "KNOWN_FRAUD": "earlier frauds of this customer or card",
    "NEW_CUSTOMER": "how long the customer is known",
    "BALANCE_DRAINED": "share of the balance",
    "WEAK_AUTHENTICATION": "authentication",
    "UNUSUAL_TIME": "time of the payment",
    "SESSION": "session",
    "PAYMENT_KIND": "kind of payment",
    "ANOMALY": "the payment as a whole",
}


class Group(TypedDict):
    """The model's contributions of one reason code, summed, told by the member that weighs most in their direction."""

    code: str
    topic: str
    text: str
    contribution: float


def grouped(parts: Iterable[dict[str, Any]]) -> list[Group]:
    """A stored explanation's contributions as one factor for each reason code, the largest first."""
    by_code: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        by_code.setdefault(part["code"], []).append(part)
    groups = [_group(code, members) for code, members in by_code.items()]
    return sorted(groups, key=lambda group: (-abs(group["contribution"]), group["code"]))


def _group(code: str, members: list[dict[str, Any]]) -> Group:
    total = sum(part["contribution"] for part in members)
    telling = max(members, key=lambda part: (part["contribution"] * (1 if total >= 0 else -1), part["feature"]))
    return Group(code=code, topic=TOPICS.get(code, ""), text=telling["text"], contribution=total)


LEAST_AGAINST = 0.04  # of all that the model weighed: what is less than that does not speak against fraud


def _since(s: Seen, name: str, least: float, text: str) -> str:
    return text.format(ago(s(name))) if s(name) >= least else ""


def _long_known(s: Seen) -> str:
    by_bank = _since(s, "customer_tenure", 365, "customer for {}")
    return by_bank or _since(s, "customer_seen_days", 30, "known to us for {}")


def _clean_customer(s: Seen) -> str:
    clean = s("customer_fraud_total") == 0 and not s("card_fraud_count_30d") > 0 and s("customer_seen_days") >= 30
    return "never a fraud on this customer" if clean else ""


def _clean(s: Seen, who: str, least: int, text: str) -> str:
    return text if s(f"{who}_fraud_count_30d") == 0 and s(f"{who}_count_30d") >= least else ""


def _usual_amount(s: Seen) -> str:
    return "an amount usual for this customer" if s("customer_amount_to_mean") <= 1.5 else ""


def _near(s: Seen) -> str:
    distance = s("customer_distance_km")
    return f"{count(round(distance), 'km', 'km')} from the last place" if distance < 50 else ""


def _well_signed(s: Seen) -> str:
    if s("sca") != codes.SCA.code("performed"):
        return ""
    return wording.sentence("authentication" if s.text("authentication") not in ("none", "not sent") else "sca", s)


# What may be said against fraud where the contributions of a code are negative; "" where the facts do not bear it out.
REASSURING: dict[str, Callable[[Seen], str]] = {
    "NEW_CUSTOMER": _long_known,
    "KNOWN_FRAUD": _clean_customer,
    "MERCHANT_RISK": lambda s: _clean(s, "merchant", 20, "no fraud known at this merchant in 30 days"),
    "TERMINAL_RISK": lambda s: _clean(s, "terminal", 10, "no fraud known at this terminal in 30 days"),
    "NEW_DEVICE": lambda s: _since(s, "customer_device_age", 7, "this customer's own device for {}"),
    "NEW_PAYEE": lambda s: _since(s, "customer_counterparty_age", 7, "first paid this payee {} ago"),
    "NEW_MERCHANT": lambda s: _since(s, "customer_merchant_age", 7, "first paid at this merchant {} ago"),
    "PAYEE_RISK": lambda s: _clean(s, "counterparty", 5, "no fraud known on this payee"),
    "PAYEE_MISMATCH": lambda s: "the payee's name matches" if s("vop") == codes.VOP.code("match") else "",
    "IMPOSSIBLE_TRAVEL": _near,
    "ABROAD": lambda s: "in the customer's own country" if s("abroad") == 0 else "",
    "AMOUNT_UNUSUAL": _usual_amount,
    "WEAK_AUTHENTICATION": lambda s: _lower(_well_signed(s)),
    "VELOCITY": lambda s: "no other payment by this customer in 24 h" if s("customer_count_24h") == 0 else "",
}


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def against(kept: dict[str, Any], *, limit: int = 2) -> list[str]:
    """What a stored explanation says against fraud: short clauses, the heaviest first; [] where nothing does."""
    groups = grouped(parts_of(kept))
    least = LEAST_AGAINST * sum(abs(group["contribution"]) for group in groups)
    seen = _seen_again(kept)
    clauses = [
        REASSURING[group["code"]](seen)
        for group in groups
        if group["contribution"] < -least and group["code"] in REASSURING
    ]
    return [clause for clause in clauses if clause][:limit]


def public(reasons: Iterable[Reason], limit: int = PUBLIC) -> list[Reason]:
    """What the API shows of stored reasons."""
    return list(reasons)[:limit]
