"""What the kernel computes: every feature with its unit, window, meaning and missing value, in column order.

The text below is the one source: names for rules and models, sentences for reasons, and `docs/features.md`. The kernel
(`scoring/features.py`) fills each group from where it begins. A line is: name | unit | window | meaning | missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Feature(NamedTuple):
    """One column of the matrix. `missing` says when it is NaN."""

    name: str
    unit: str
    window: str
    entity: str
    description: str
    missing: str = "never"


_MONEY = "minor units, base currency"

_PAYMENT = """
amount | MONEY | payment | Amount in the lane's base currency, frozen at ingest. | never
amount_log | ln | payment | ln(1 + amount). | never
balance_share | ratio | payment | Amount over the account's balance before it. | not sent
hour | h | payment | Hour of the day with its fraction, UTC. | never
weekday | 0–6 | payment | Day of the week, Monday 0, UTC. | never
night | 0/1 | payment | Between 0 and 6 o'clock UTC. | never
channel | code | payment | Channel. | not sent
type | code | payment | Type of payment. | not sent
instrument | code | payment | Instrument. | not sent
entry_mode | code | payment | How the card was read. | not sent
authentication | code | payment | Method of authentication. | not sent
sca | code | payment | Strong customer authentication. | not sent
three_ds | code | payment | 3-D Secure status. | not sent
cvv_result | code | payment | Result of the CVV check. | not sent
vop | code | payment | Result of the verification of payee. | not sent
mcc | code | payment | Merchant category code. | not sent
device_tampered | 0/1 | payment | Emulator or rooted device. | never
device_remote_access | 0/1 | payment | Remote access to the device. | never
device_hidden | 0/1 | payment | Proxy, VPN or Tor. | never
customer_age | years | payment | Year of the payment less the customer's year of birth. | not sent
customer_tenure | d | payment | Days since the customer joined the bank. | not sent
account_age | d | payment | Days since the account was opened. | not sent
session_age | s | payment | Seconds since the session began. | not sent
abroad | 0/1 | payment | Place of the payment in another country than the customer's. | either country not known
late | 0/1 | payment | Happened before the customer's last payment known here. | never
"""

_CUSTOMER = """
mean_24h | MONEY | 24 h | Mean over the payments before this one. | no payment in 24 h
mean_7d | MONEY | 7 d | Mean over the payments before this one. | no payment in 7 d
mean_30d | MONEY | 30 d | Mean over the payments before this one. | no payment in 30 d
max_1d | MONEY | 1 d | Largest amount spent before this one, today or yesterday. | nothing spent in 1 d
max_7d | MONEY | 7 d | Largest amount spent before this one. | nothing spent in 7 d
max_30d | MONEY | 30 d | Largest amount spent before this one. | nothing spent in 30 d
amount_to_max_30d | ratio | 30 d | Amount over customer_max_30d. | nothing spent in 30 d
amount_to_mean | ratio | all | Amount over the mean of the clean history (spent, not known as fraud). | no clean history
amount_z | deviations | all | Amount less the clean mean, over the clean deviation. | fewer than 3 clean payments
usual_24h | payments | 30 d | Payments a day over the last 30 days, or since first seen. |
since_last | s | all | Seconds since the last payment. | first or late payment
seen_days | d | all | Days since the customer was first seen; 0 = now. |
distance_km | km | all | From the last known place. | either place not known
speed_kmh | km/h | all | Needed to get here from there (at least a minute's way). | either place not known, or late
merchants_1h | merchants, at most 16 | 1 h | Different merchants before this payment. |
merchants_24h | merchants, at most 16 | 24 h | Different merchants before this payment. |
merchants_7d | merchants, at most 16 | 7 d | Different merchants before this payment. |
countries_24h | countries, at most 8 | 24 h | Different countries before this payment. |
countries_30d | countries, at most 8 | 30 d | Different countries before this payment. |
devices_24h | devices, at most 8 | 24 h | Different devices before this payment. |
devices_30d | devices, at most 8 | 30 d | Different devices before this payment. |
new_device | 0/1 | all | The customer's first payment with this device. | no device
device_age | d | all | Days since the customer first used this device; 0 = now. | no device
new_merchant | 0/1 | all | First payment at this merchant (without one: terminal). | no merchant or terminal
merchant_age | d | all | Days since the customer first paid there; 0 = now. | no merchant or terminal
new_country | 0/1 | last 8 | Country of the payment not among the customer's last ones. | no country
new_counterparty | 0/1 | all | The customer's first payment with this counterparty. | no counterparty
counterparty_age | d | all | Days since the customer first paid this counterparty; 0 = now. | no counterparty
night_share | ratio | all | Share of the customer's payments between 0 and 6 o'clock UTC. | first payment
suspicious_7d | payments | 7 d | Suspicious payments of the customer without a label so far. |
FRAUDS
fraud_total | payments | all | Payments of the customer whose label in force is fraud. |
fraud_run_age | d | run | Days since the first payment of the current run of confirmed frauds. | no run
"""

_FRAUDS = """fraud_count_30d | payments | 30 d | Payments of the ENTITY that became known as fraud. |
since_fraud | d | all | Days since the last fraud became known. | none known"""
_SEEN = "seen_days | d | all | Days since the ENTITY was first seen; 0 = now. |"
_SHARED = f"""
customers | customers | all | Different customers seen with it before. |
cards | cards | all | Different cards seen with it before. |
{_SEEN}
FRAUDS
"""
_SHARE = "Known frauds over payments, both by the lane's clock, smoothed with the lane's own share."
_LABELLED = "Frauds over all labels that became known, smoothed with the lane's own share."
_PLACE = f"""
amount_to_mean | ratio | 30 d | Amount over the ENTITY's mean. | no payment in 30 d
{_SEEN}
fraud_share_1d | ratio | 1 d | {_SHARE} |
fraud_share_7d | ratio | 7 d | {_SHARE} |
fraud_share_14d | ratio | 14 d | {_SHARE} |
fraud_share_30d | ratio | 30 d | {_SHARE} |
labelled_share_7d | ratio | 7 d | {_LABELLED} |
labelled_share_30d | ratio | 30 d | {_LABELLED} |
suspicious_7d | payments | 7 d | Suspicious payments at the ENTITY without a label so far. |
FRAUDS
fraud_run | payments | run | Confirmed frauds in a row, none legitimate after them. |
fraud_run_age | d | run | Days since the first payment of the current run of confirmed frauds. | no run
"""
_CARD = f"""
since_last | s | all | Seconds since the card's last payment. | first or late payment
{_SEEN}
FRAUDS
"""
_COUNTERPARTY = f"""
customers | customers | all | Different customers seen before. |
{_SEEN}
FRAUDS
"""
_WINDOWS = {"10m": "10 min", "1h": "1 h", "24h": "24 h", "7d": "7 d", "30d": "30 d"}


def _features(entity: str, text: str, *, counts: str = "", sums: str = "", prefix: str | None = None) -> list[Feature]:
    """Counts and sums over the windows named, then the lines of `text`, of one entity."""
    lines = [
        f"count_{w} | payments | {_WINDOWS[w]} | Payments of the ENTITY before this one. |" for w in counts.split()
    ]
    spent = "Received by it before this one." if entity == "counterparty" else "Spent by the ENTITY before this one."
    lines += [f"sum_{w} | MONEY | {_WINDOWS[w]} | {spent} |" for w in sums.split()]
    lines += text.replace("FRAUDS", _FRAUDS).strip().splitlines()
    prefix = f"{entity}_" if prefix is None else prefix
    return [_feature(entity, prefix, line) for line in lines if line]


def _feature(entity: str, prefix: str, line: str) -> Feature:
    name, unit, window, meaning, missing = (part.strip() for part in line.split("|"))
    meaning = meaning.replace("ENTITY", entity)
    return Feature(prefix + name, unit.replace("MONEY", _MONEY), window, entity, meaning, missing or f"no {entity}")


GROUPS: dict[str, list[Feature]] = {
    "payment": _features("payment", _PAYMENT, prefix=""),
    "customer": _features("customer", _CUSTOMER, counts="10m 1h 24h 7d 30d", sums="10m 1h 24h 7d 30d"),
    "card": _features("card", _CARD, counts="10m 1h 24h 7d", sums="24h"),
    "account": _features("account", _SEEN, counts="24h 7d", sums="24h 30d"),
    "device": _features("device", _SHARED, counts="1h 24h"),
    "ip": _features("ip", _SHARED, counts="1h 24h"),
    "merchant": _features("merchant", _PLACE, counts="1h 24h 30d"),
    "terminal": _features("terminal", _PLACE, counts="1h 24h 30d"),
    "counterparty": _features("counterparty", _COUNTERPARTY, counts="1h 24h 30d", sums="24h"),
    "mcc": _features("mcc", f"fraud_share_30d | ratio | 30 d | {_SHARE} |"),
}
FEATURES: list[Feature] = [feature for group in GROUPS.values() for feature in group]
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
N_FEATURES = len(FEATURES)

# Where each group begins in a row.
BEGINS: dict[str, int] = dict(
    zip(GROUPS, np.cumsum([0, *(len(group) for group in GROUPS.values())])[:-1].tolist(), strict=True)
)
