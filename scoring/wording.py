"""Numbers and features as people read them: one plain sentence for every column of the kernel's matrix.

    7 payments by this customer in 10 min; usual 0–1
    Known to us for 74 days
    No fraud known at this merchant in 14 days

The catalogue says what a feature *is*; this says what it *tells* of one payment, with its number and unit, and says so
too where nothing was sent or nothing is known yet. Features come in families (a count over a window, a first time, a
share of frauds), so a pattern over names serves a family, and the first pattern that matches owns the feature.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scoring.catalogue import FEATURES, NAMES
from transactions import codes
from transactions.codes import EXPONENT

_PLACE = {name: index for index, name in enumerate(NAMES)}
_FEATURES = {feature.name: feature for feature in FEATURES}
UNLIKE = "Unlike most payments, taken as a whole"


# --- numbers ----------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """7, 2.4, 1,250, "not known"."""
    if value is None or not math.isfinite(value):
        return "not known"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"


def money(units: float | None, currency: str) -> str:
    """Whole units with the currency's own decimals: 4,970.00 EUR."""
    if units is None or not math.isfinite(units):
        return "not known"
    return f"{units:,.{EXPONENT.get(currency, 2)}f} {currency}"


def share(value: float) -> str:
    """12 %, or 0.4 % where whole per cents would hide it."""
    if not math.isfinite(value):
        return "not known"
    return f"{value * 100:.0f} %" if value >= 0.1 or value == 0 else f"{value * 100:.1f} %"


def count(value: float, one: str, many: str = "") -> str:
    """1 payment, 3 payments."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def ago(days: float) -> str:
    """Days as the largest fitting unit: 20 min, 3 h, 12 days, 9 years."""
    if not math.isfinite(days):
        return "not known"
    if days < 1 / 24:
        return f"{max(days * 1440, 0):.0f} min"
    if days < 1:
        return f"{days * 24:.0f} h"
    return count(round(days), "day") if days < 730 else f"{days // 365.25:,.0f} years"


def usual(expected: float) -> str:
    """The usual range around an expected count: usual 0–1."""
    if not math.isfinite(expected):
        return "no history"
    expected = max(expected, 0.0)
    spread = math.sqrt(expected)
    return f"usual {max(math.floor(expected - spread), 0)}–{max(math.ceil(expected + spread), 1)}"


@dataclass(frozen=True)
class Seen:
    """One payment's vector by name; amounts in whole units of the base currency."""

    vector: np.ndarray
    currency: str

    def __call__(self, name: str) -> float:
        """The feature's value; NaN if not known."""
        value = float(self.vector[_PLACE[name]])
        if not math.isfinite(value):
            return math.nan
        minor = _FEATURES[name].unit.startswith("minor units")
        return value / 10 ** EXPONENT.get(self.currency, 2) if minor else value

    def on(self, name: str) -> bool:
        """Whether a 0/1 feature is 1."""
        return self(name) == 1

    def text(self, name: str) -> str:
        """The text of a feature that is a code of the API."""
        value = self(name)
        table = getattr(codes, TABLES[name])
        known = not math.isnan(value) and 1 <= value < len(table.codes)
        return table.text(int(value)).replace("_", " ") if known else "not sent"

    def money(self, units: float) -> str:
        """Whole units with the currency."""
        return money(units, self.currency)


TABLES = {
    "channel": "CHANNEL",
    "type": "TYPE",
    "instrument": "INSTRUMENT",
    "entry_mode": "ENTRY_MODE",
    "authentication": "AUTHENTICATION",
    "sca": "SCA",
    "three_ds": "THREE_DS",
    "cvv_result": "RESULT",
    "vop": "VOP",
}

# --- sentences --------------------------------------------------------------------------------------------------------

Say = Callable[[Seen, float, re.Match[str]], str]


@dataclass(frozen=True)
class Wording:
    """The sentence of a family of features: `say` where there is a value, `missing` where there is none."""

    pattern: str
    say: Say
    missing: str = ""


_BY = {
    "customer": "by this customer",
    "card": "with this card",
    "account": "from this account",
    "device": "from this device",
    "ip": "from this IP address",
    "merchant": "at this merchant",
    "terminal": "at this terminal",
    "counterparty": "to this payee",
    "mcc": "in this kind of shop",
}
_ON = _BY | {
    "customer": "on this customer",
    "card": "on this card",
    "device": "on this device",
    "ip": "on this IP address",
    "counterparty": "on this payee",
}
_NAME = {"ip": "IP address", "counterparty": "payee", "mcc": "merchant category"}
_WINDOW = {"10m": "10 min", "1h": "1 h", "24h": "24 h", "1d": "1 day", "7d": "7 days", "14d": "14 days"}
_WINDOW |= {"30d": "30 days"}
_DAYS = {"10m": 1 / 144, "1h": 1 / 24, "24h": 1.0, "7d": 7.0, "30d": 30.0}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_THREE_DS = {
    "Y": "3-D Secure passed",
    "N": "3-D Secure failed",
    "A": "3-D Secure attempted, not completed",
    "U": "3-D Secure could not be done",
    "C": "3-D Secure challenge asked for",
    "R": "3-D Secure rejected by the issuer",
    "I": "3-D Secure for information only",
}
_SCA = {
    "performed": "Strong authentication passed",
    "exempt": "Exempt from strong authentication",
    "out of scope": "Strong authentication does not apply",
    "failed": "Strong authentication failed",
}
_VOP = {
    "match": "The payee's name matches",
    "close": "The payee's name nearly matches",
    "no match": "The payee's name does not match",
    "unavailable": "The payee's name could not be checked",
}
_CVV = {"M": "The card's security code is right", "N": "The card's security code is wrong"}
_SIGNED = {"none": "Not signed by the customer", "otp sms": "Signed with a code by SMS"}
_SIGNED |= {"otp app": "Signed with a code from the app", "pin": "Signed with PIN", "push": "Confirmed in the app"}
_SIGNED |= {"biometric": "Signed with biometrics"}


def _yes_no(yes: str, no: str) -> Say:
    return lambda s, value, _: yes if value else no


def _coded(texts: dict[str, str], other: str) -> Say:
    """A code's own sentence, else `other` with its text."""

    def say(s: Seen, value: float, match: re.Match[str]) -> str:
        text = s.text(match.group())
        return other.format("not sent") if text == "not sent" else texts.get(text, other.format(text))

    return say


def _amount(s: Seen, value: float, match: re.Match[str]) -> str:
    mean = s("customer_mean_30d")
    return f"{s.money(s('amount'))}; " + ("nothing to compare with" if math.isnan(mean) else f"usual {s.money(mean)}")


def _times(s: Seen, value: float, match: re.Match[str]) -> str:
    where = _BY[match[1]] if match[1] != "customer" else "for this customer"
    return f"{s.money(s('amount'))}, {number(value)} times what is usual {where}"


def _deviations(s: Seen, value: float, match: re.Match[str]) -> str:
    return f"{s.money(s('amount'))}; {usual_amounts(s)}"


def usual_amounts(s: Seen) -> str:
    """The usual range of the customer's amounts, of their clean history: usual 40–180 EUR."""
    amount, ratio, deviations = s("amount"), s("customer_amount_to_mean"), s("customer_amount_z")
    if math.isnan(ratio) or ratio <= 0:
        return "no history"
    mean = amount / ratio
    spread = (amount - mean) / deviations if not math.isnan(deviations) and deviations else mean / 2
    return f"usual {max(mean - abs(spread), 0):,.0f}–{mean + abs(spread):,.0f} {s.currency}"


def _mean(s: Seen, value: float, match: re.Match[str]) -> str:
    return f"{s.money(s('amount'))}; {s.money(value)} on average in the {_WINDOW[match[1]]} before"


def _largest(s: Seen, value: float, match: re.Match[str]) -> str:
    window = match[1] or "30d"
    return f"{s.money(s('amount'))}; largest in {_WINDOW[window]} {s.money(s(f'customer_max_{window}'))}"


def _hour(s: Seen, value: float, match: re.Match[str]) -> str:
    hour = min(max(value, 0.0), 23.99)
    return f"Paid at {int(hour):02d}:{int(hour % 1 * 60):02d} UTC"


def _payments(s: Seen, value: float, match: re.Match[str]) -> str:
    """Customers, cards and accounts are counted with this payment, for which a usual pace is known."""
    who, window = match[1], match[2]
    if value < 1:
        return f"No other payment {_BY[who]} in {_WINDOW[window]}"
    expected = usual(s("customer_usual_24h") * _DAYS[window])
    return f"{count(value + 1, 'payment')} {_BY[who]} in {_WINDOW[window]}; {expected}"


def _earlier(s: Seen, value: float, match: re.Match[str]) -> str:
    who, window = match[1], match[2]
    if value < 1:
        return f"No earlier payment {_BY[who]} in {_WINDOW[window]}"
    return f"{count(value, 'earlier payment')} {_BY[who]} in {_WINDOW[window]}"


def _spent(s: Seen, value: float, match: re.Match[str]) -> str:
    who, window = match[1], match[2]
    verb = "paid" if who == "counterparty" else "spent"
    return f"{s.money(value) if value else 'Nothing'} {verb} {_BY[who]} in the {_WINDOW[window]} before"


def _first_seen(s: Seen, value: float, match: re.Match[str]) -> str:
    who = match[1]
    if who == "customer":
        return "First payment of this customer" if value * 1440 < 1 else f"Known to us for {ago(value)}"
    name = _NAME.get(who, who)
    name = name[0].upper() + name[1:]
    return f"{name} seen for the first time" if value * 1440 < 1 else f"{name} known for {ago(value)}"


def _first_time(what: str) -> Say:
    def say(s: Seen, value: float, match: re.Match[str]) -> str:
        return f"First payment {what}" if value * 1440 < 1 else f"First payment {what} {ago(value)} ago"

    return say


def _since_last(s: Seen, value: float, match: re.Match[str]) -> str:
    return f"{ago(value / 86_400)} since the last payment {_BY[match[1]]}"


def _different(one: str, many: str = "") -> Say:
    def say(s: Seen, value: float, match: re.Match[str]) -> str:
        window = _WINDOW[match[1]]
        return f"{number(value)} different {one if value == 1 else many or one + 's'} in the {window} before"

    return say


def _users(s: Seen, value: float, match: re.Match[str]) -> str:
    who, one = match[1], match[2]
    where = {"counterparty": "paid this payee before"}.get(who, f"seen {_ON[who]} before")
    return f"No {one} {where}" if value < 1 else f"{count(value, one)} {where}"


def _unknown(s: Seen, who: str) -> bool:
    """Whether nothing happened there lately, so that "no fraud known" would be praise for nothing."""
    counted = f"{who}_count_30d"
    return counted in _PLACE and s(counted) == 0


def _frauds(s: Seen, value: float, match: re.Match[str]) -> str:
    if value < 1:
        nothing = f"earlier payment {_BY[match[1]]}" if _unknown(s, match[1]) else f"fraud known {_ON[match[1]]}"
        return f"No {nothing} in 30 days"
    return f"{count(value, 'known fraud')} {_ON[match[1]]} in 30 days"


def _suspicious(s: Seen, value: float, match: re.Match[str]) -> str:
    if value < 1:
        return f"No suspicious payment {_BY[match[1]]} in 7 days that is unclear"
    return f"{count(value, 'suspicious payment')} {_BY[match[1]]} in 7 days, not cleared up so far"


def _fraud_share(s: Seen, value: float, match: re.Match[str]) -> str:
    """The shares are smoothed with the lane's own, so only the plain count can tell that there is none."""
    who, window = match[1], _WINDOW[match[3]]
    counted = f"{who}_fraud_count_30d"
    if _unknown(s, who):
        return f"No earlier payment {_BY[who]} in 30 days"
    if value == 0 or (counted in _PLACE and s(counted) == 0):
        return f"No fraud known {_ON[who]} in {window}"
    of = "reports" if match[2] == "labelled" else "payments"
    return f"Fraud in {share(value)} of the {of} {_BY[who]} in {window}"


def _run(s: Seen, value: float, match: re.Match[str]) -> str:
    return f"{count(value, 'fraud')} in a row {_BY[match[1]]}" if value >= 1 else f"No run of frauds {_BY[match[1]]}"


_W = "(10m|1h|1d|24h|7d|14d|30d)"
_NO_HISTORY = "No earlier payments to compare with"
WORDINGS = (
    Wording(r"amount|amount_log", _amount, "Amount not known"),
    Wording(r"balance_share", lambda s, v, _: f"Takes {share(v)} of the balance", "Balance not sent"),
    Wording(r"hour", _hour, "Time not known"),
    Wording(r"weekday", lambda s, v, _: f"Paid on a {_WEEKDAYS[int(v) % 7]}", "Day not known"),
    Wording(r"night", _yes_no("Paid at night, before 06:00 UTC", "Not paid at night"), "Time not known"),
    Wording(r"channel", _coded({}, "Channel: {}"), "Channel not sent"),
    Wording(r"type", _coded({}, "Kind of payment: {}"), "Kind of payment not sent"),
    Wording(r"instrument", _coded({}, "Paid from: {}"), "Instrument not sent"),
    Wording(r"entry_mode", _coded({}, "Card read by: {}"), "How the card was read was not sent"),
    Wording(r"authentication", _coded(_SIGNED, "Signed with {}"), "Authentication not sent"),
    Wording(r"sca", _coded(_SCA, "Strong authentication {}"), "Strong authentication not sent"),
    Wording(r"three_ds", _coded(_THREE_DS, "3-D Secure {}"), "3-D Secure not sent"),
    Wording(r"cvv_result", _coded(_CVV, "Security code: {}"), "Security code not sent"),
    Wording(r"vop", _coded(_VOP, "Payee's name: {}"), "The payee's name was not checked"),
    Wording(r"mcc", lambda s, v, _: f"Merchant category {int(v):04d}", "No merchant category sent"),
    Wording(r"device_tampered", _yes_no("The device is an emulator or rooted", "No sign of a tampered device")),
    Wording(r"device_remote_access", _yes_no("Somebody else steers the device", "Nobody else steers the device")),
    Wording(r"device_hidden", _yes_no("Behind a proxy, VPN or Tor", "No proxy, VPN or Tor")),
    Wording(r"customer_age", lambda s, v, _: f"Customer aged {v:.0f}", "Year of birth not sent"),
    Wording(
        r"customer_tenure", lambda s, v, _: f"Customer of the bank for {ago(v)}", "Customer's first day was not sent"
    ),
    Wording(r"account_age", lambda s, v, _: f"Account opened {ago(v)} ago", "Opening of the account not sent"),
    Wording(
        r"session_age", lambda s, v, _: f"Paid {ago(v / 86_400)} after the session began", "Start of session not sent"
    ),
    Wording(r"abroad", _yes_no("Outside the customer's country", "In the customer's country"), "Country not sent"),
    Wording(r"late", _yes_no("Arrived after a later payment of this customer", "Arrived in its turn")),
    Wording(rf"(customer|card|account)_count_{_W}", _payments),
    Wording(rf"(\w+)_count_{_W}(?<!fraud_count_30d)", _earlier),
    Wording(rf"(\w+)_sum_{_W}", _spent),
    Wording(r"customer_mean_30d", _amount, _NO_HISTORY),
    Wording(r"customer_mean_(24h|7d)", _mean, _NO_HISTORY),
    Wording(r"customer_(?:amount_to_)?max_(1d|7d|30d)", _largest, _NO_HISTORY),
    Wording(r"(customer|merchant|terminal)_amount_to_mean", _times, _NO_HISTORY),
    Wording(r"customer_amount_z", _deviations, "Too few earlier payments to compare with"),
    Wording(r"customer_usual_24h", lambda s, v, _: f"This customer usually makes {count(v, 'payment')} a day"),
    Wording(r"(customer|card)_since_last", _since_last, "No earlier payment to measure from"),
    Wording(r"customer_distance_km", lambda s, v, _: f"{v:,.0f} km from the last place", "Place or last place unknown"),
    Wording(
        r"customer_speed_kmh", lambda s, v, _: f"{v:,.0f} km/h from the last place", "Way from the last place unknown"
    ),
    Wording(rf"customer_merchants_{_W}", _different("merchant")),
    Wording(rf"customer_countries_{_W}", _different("country", "countries")),
    Wording(rf"customer_devices_{_W}", _different("device")),
    Wording(
        r"customer_new_device", _yes_no("First payment from this device", "The customer's own device"), "No device sent"
    ),
    Wording(r"customer_device_age", _first_time("from this device"), "No device sent"),
    Wording(
        r"customer_new_merchant",
        _yes_no("First payment at this merchant", "Has paid at this merchant before"),
        "No merchant sent",
    ),
    Wording(r"customer_merchant_age", _first_time("at this merchant"), "No merchant sent"),
    Wording(
        r"customer_new_country",
        _yes_no("First payment in this country", "In a country the customer uses"),
        "Country not sent",
    ),
    Wording(
        r"customer_new_counterparty",
        _yes_no("First payment to this payee", "Has paid this payee before"),
        "No payee sent",
    ),
    Wording(r"customer_counterparty_age", _first_time("to this payee"), "No payee sent"),
    Wording(
        r"customer_night_share",
        lambda s, v, _: f"{share(v)} of this customer's payments fall at night",
        "No usual hours yet",
    ),
    Wording(
        r"customer_fraud_total",
        lambda s, v, _: f"{count(v, 'payment')} of this customer known as fraud" if v else "No fraud on this customer",
    ),
    Wording(r"(\w+)_fraud_count_30d", _frauds),
    Wording(r"(\w+)_suspicious_7d", _suspicious),
    Wording(
        r"(\w+)_since_fraud",
        lambda s, v, m: f"Last fraud {_ON[m[1]]} became known {ago(v)} ago",
        "No fraud known yet {on}",
    ),
    Wording(
        r"(\w+)_fraud_run_age",
        lambda s, v, m: f"Run of frauds {_BY[m[1]]} began {ago(v)} ago",
        "No run of frauds {by}",
    ),
    Wording(r"(\w+)_fraud_run", _run),
    Wording(rf"(\w+?)_(fraud|labelled)_share_{_W}", _fraud_share),
    Wording(r"(device|ip|counterparty)_(customer|card)s", _users),
    Wording(r"(\w+)_seen_days", _first_seen),
)


@lru_cache(maxsize=512)
def wording_of(feature: str) -> tuple[Wording, re.Match[str]]:
    """The wording of a feature and how its name matched. Raises KeyError."""
    for wording in WORDINGS:
        match = re.fullmatch(wording.pattern, feature)
        if match:
            return wording, match
    raise KeyError(feature)


def sentence(feature: str, seen: Seen) -> str:
    """A feature with its value in words: "7 payments by this customer in 10 min; usual 0–1"."""
    if feature not in _PLACE:
        return UNLIKE
    wording, match = wording_of(feature)
    value = seen(feature)
    return _missing(feature, wording) if math.isnan(value) else wording.say(seen, value, match)


def _missing(feature: str, wording: Wording) -> str:
    entity = _FEATURES[feature].entity
    if wording.missing:
        return wording.missing.format(on=_ON.get(entity, ""), by=_BY.get(entity, ""))
    return "Not known" if entity == "payment" else f"No {_NAME.get(entity, entity)} sent"
