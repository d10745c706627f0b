"""What a lane starts with: reason codes, lists, a policy, rules and its first release. Safe to run again.

The codes are the API's vocabulary: a code, once given, keeps its meaning. Rules and thresholds are a beginning; from
then on they change by proposals alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from django.db.transaction import atomic
from django.utils import timezone

from scoring import entries, releases
from scoring.models import List, ListEntry, ModelVersion, PolicyVersion, ReasonCode, Release, Rule, RuleVersion
from transactions.models import Lane
from transactions.population import token

AUTHOR = "seed"

# code, source, title, description
REASON_CODES = (
    (
        "CARD_TESTING",
        "rule",
        "Card testing",
        "Many small payments with one card in a short time, as when stolen cards are tried out.",
    ),
    (
        "NIGHT_SPREE",
        "rule",
        "Spree at night",
        "Several payments within an hour at night by a customer who does not pay at night.",
    ),
    (
        "MULE_PAYEE",
        "rule",
        "Payee collects from many",
        "A payee seen only lately receives from many customers within a day.",
    ),
    ("VELOCITY", "model", "Many payments", "More payments in a short time than this customer or card usually makes."),
    ("SPENDING", "model", "Much spent", "More money spent in a day than this customer or card usually spends."),
    ("AMOUNT_UNUSUAL", "model", "Unusual amount", "The amount is far from what this customer usually pays."),
    (
        "IMPOSSIBLE_TRAVEL",
        "model",
        "Impossible travel",
        "The place cannot be reached from the last payment's place in the time between.",
    ),
    ("ABROAD", "model", "New country", "Paid in a country that is not the customer's, or is new to them."),
    ("NEW_DEVICE", "model", "New device", "The customer has not paid from this device before."),
    (
        "DEVICE_RISK",
        "model",
        "Shared or bad device",
        "The device is used by many customers or cards, or is known from fraud.",
    ),
    ("DEVICE_TAMPERED", "model", "Tampered device", "The device is an emulator or rooted."),
    ("REMOTE_ACCESS", "model", "Remote access", "Somebody steers the device from elsewhere."),
    ("HIDDEN_ORIGIN", "model", "Hidden origin", "The payment comes through a proxy, VPN or Tor."),
    (
        "IP_RISK",
        "model",
        "Shared or bad address",
        "The IP address is used by many customers or cards, or is known from fraud.",
    ),
    ("NEW_PAYEE", "model", "New payee", "The customer has not paid this payee before."),
    ("PAYEE_RISK", "model", "Payee at risk", "The payee is known from fraud or receives from many customers."),
    ("PAYEE_MISMATCH", "model", "Payee's name does not match", "The verification of payee found another name."),
    ("MERCHANT_RISK", "model", "Merchant at risk", "Payments at this merchant have become known as fraud."),
    ("TERMINAL_RISK", "model", "Terminal at risk", "Payments at this terminal have become known as fraud."),
    ("NEW_MERCHANT", "model", "New merchant", "The customer has not paid at this merchant before."),
    ("KNOWN_FRAUD", "model", "Known fraud", "Earlier payments of this customer or card have become known as fraud."),
    ("NEW_CUSTOMER", "model", "New customer", "The customer, card or account has been known for a short time only."),
    ("BALANCE_DRAINED", "model", "Balance drained", "The payment takes most of the balance."),
    ("WEAK_AUTHENTICATION", "model", "Weak authentication", "The customer was not, or not well, authenticated."),
    ("UNUSUAL_TIME", "model", "Unusual time", "Paid at an hour at which this customer does not usually pay."),
    ("SESSION", "model", "Unusual session", "Paid unusually soon or late in the session."),
    (
        "PAYMENT_KIND",
        "model",
        "Kind of payment",
        "The channel, type or way of this payment speaks for or against fraud.",
    ),
    ("ANOMALY", "model", "Anomaly", "Taken as a whole, the payment is unlike most others."),
    ("MODEL_SCORE", "model", "Score", "The model's score reached a threshold without one factor that stands out."),
    ("BLOCK_LIST", "list", "On a block list", "A colleague put the customer, card, device … on a list to be stopped."),
    ("WATCH_LIST", "list", "On a watch list", "A colleague wants payments of this customer, card, device … looked at."),
    ("ALLOW_LIST", "list", "On an allow list", "A colleague trusts this customer, card, device …; two persons agreed."),
    (
        "NOT_JUDGED",
        "policy",
        "Not judged in full",
        "The payment could not be judged automatically; a person looks at it.",
    ),
)


class SeedRule(NamedTuple):
    """One rule to begin with."""

    code: str
    name: str
    mode: str
    outcome: str
    weight: int
    reason: str
    expression: str
    sentence: str


RULES = (
    SeedRule(
        "R-101",
        "Card testing",
        "live",
        "decline",
        400,
        "CARD_TESTING",
        'channel == "ecommerce" and card_count_10m >= 4 and amount < 15',
        "{card_count_10m+1:payment} with this card in 10 min, this one of {amount:money}",
    ),
    SeedRule(
        "R-102",
        "Burst of payments",
        "live",
        "review",
        300,
        "VELOCITY",
        "customer_count_10m >= 5 and customer_count_10m > customer_usual_24h",
        "{customer_count_10m+1:payment} in 10 min; usual {customer_usual_24h} a day",
    ),
    SeedRule(
        "R-103",
        "Impossible travel",
        "live",
        "review",
        320,
        "IMPOSSIBLE_TRAVEL",
        'channel in ("card_present", "atm") and customer_speed_kmh > 900 and customer_distance_km > 300'
        ' and (entry_mode == "magstripe" or customer_amount_to_mean >= 2)',
        "{customer_distance_km} km from the last place, which needs {customer_speed_kmh} km/h",
    ),
    SeedRule(
        "R-104",
        "New device, high amount",
        "live",
        "review",
        260,
        "NEW_DEVICE",
        "customer_new_device and amount >= 500 and customer_amount_to_mean >= 4 and customer_count_30d >= 3",
        "First payment from this device, of {amount:money}; usual {customer_mean_30d:money}",
    ),
    SeedRule(
        "R-105",
        "New payee, high amount",
        "live",
        "review",
        270,
        "NEW_PAYEE",
        'customer_new_counterparty and amount >= 1000 and customer_amount_to_max_30d >= 1.5 and type == "transfer"'
        ' and (customer_new_device or device_hidden or vop == "no_match")',
        "First payment to this payee, of {amount:money}; largest in 30 days {customer_max_30d:money}",
    ),
    SeedRule(
        "R-106",
        "Remote access",
        "live",
        "review",
        350,
        "REMOTE_ACCESS",
        'device_remote_access and amount >= 100 and type in ("transfer", "purchase")',
        "Somebody else steers the device",
    ),
    SeedRule(
        "R-107",
        "Terminal with known frauds",
        "live",
        "review",
        330,
        "TERMINAL_RISK",
        "terminal_fraud_run >= 2 and terminal_fraud_run_age < 14 and terminal_fraud_share_7d >= 0.05"
        " and customer_amount_to_mean >= 1",
        "{terminal_fraud_count_30d:known fraud} at this terminal in 30 days, of {terminal_count_30d:payment}",
    ),
    SeedRule(
        "R-108",
        "Merchant with known frauds",
        "live",
        "challenge",
        200,
        "MERCHANT_RISK",
        "merchant_fraud_count_30d >= 5 and merchant_fraud_share_7d >= 0.1 and merchant_amount_to_mean >= 1",
        "{merchant_fraud_count_30d:known fraud} at this merchant in 30 days, of {merchant_count_30d:payment}",
    ),
    SeedRule(
        "R-109",
        "Amount far above usual",
        "live",
        "challenge",
        220,
        "AMOUNT_UNUSUAL",
        "customer_amount_z >= 8 and customer_amount_to_mean >= 5 and amount >= 300 and customer_count_30d >= 3"
        ' and (customer_new_device or device_hidden or cvv_result == "N" or entry_mode == "magstripe")',
        "{amount:money}; usual {customer_mean_30d:money}, largest in 30 days {customer_max_30d:money}",
    ),
    SeedRule(
        "R-110",
        "Spree at night",
        "live",
        "review",
        240,
        "NIGHT_SPREE",
        "night and customer_count_1h >= 3 and customer_night_share < 0.1 and customer_count_30d >= 10",
        "{customer_count_1h+1:payment} within an hour at night; usually {customer_night_share:share} fall at night",
    ),
    SeedRule(
        "R-111",
        "Many cards on one device",
        "live",
        "review",
        310,
        "DEVICE_RISK",
        "device_cards >= 5 and device_count_24h >= 4",
        "{device_cards:card} of {device_customers:customer} on this device, {device_count_24h:payment} in 24 h",
    ),
    SeedRule(
        "R-112",
        "Foreign country for the first time",
        "shadow",
        "challenge",
        180,
        "ABROAD",
        "customer_new_country and abroad and amount >= 250 and customer_seen_days >= 30",
        "First payment in {merchant_country}, of {amount:money}; home {customer_country}",
    ),
    SeedRule(
        "R-113",
        "Payee's name does not match",
        "live",
        "challenge",
        250,
        "PAYEE_MISMATCH",
        'vop == "no_match" and customer_new_counterparty and amount >= 500',
        "The payee's name does not match; first payment there, of {amount:money}",
    ),
    SeedRule(
        "R-114",
        "Card or customer with a recent fraud",
        "live",
        "challenge",
        280,
        "KNOWN_FRAUD",
        "(card_since_fraud < 7 or customer_fraud_run_age < 7) and amount >= 100"
        " and (customer_new_device or customer_new_country or customer_amount_to_mean >= 3)",
        "{customer_fraud_count_30d:known fraud} of this customer in 30 days",
    ),
    SeedRule(
        "R-115",
        "Payee collects from many",
        "shadow",
        "review",
        190,
        "MULE_PAYEE",
        "counterparty_customers >= 6 and counterparty_count_24h >= 6 and counterparty_seen_days < 14",
        "{counterparty_count_24h+1:payment} to this payee in 24 h; {counterparty_customers:customer} in"
        " {counterparty_seen_days:days}",
    ),
    SeedRule(
        "R-116",
        "New to the customer, from a watched network",
        "live",
        "challenge",
        230,
        "IP_RISK",
        'ip in list("proxy-networks") and amount >= 100'
        " and (customer_new_device or customer_new_counterparty or customer_new_merchant)",
        "{amount:money} from a network on a watch list, where device, payee or merchant is new to the customer",
    ),
)


class SeedList(NamedTuple):
    """One list to begin with, and what stands on it: (value, reason)."""

    name: str
    kind: str
    subject: str
    description: str
    entries: tuple[tuple[str, str], ...]
    outcome: str = ""
    skips_scoring: bool = False


# Subjects are those of the simulated bank, so that the demo's payments meet them.
LISTS = (
    SeedList(
        "proxy-networks",
        "watch",
        "ip",
        "Networks of hosting companies from which accounts were taken over.",
        (("192.0.2.0/25", "Nine takeovers in one week came from this hosting company"),),
    ),
    SeedList(
        "watched-devices",
        "watch",
        "device",
        "Devices that investigators want to see.",
        (
            (token("dev", "seen", 1), "Used with cards of three customers in the ring of case 12"),
            (token("dev", "seen", 2), "Emulator, seen in card testing"),
        ),
    ),
    SeedList(
        "mule-accounts",
        "block",
        "counterparty",
        "Payees that collected money from frauds and passed it on.",
        (
            (token("payee", "mule", 1), "Confirmed by the receiving bank"),
            (token("payee", "mule", 2), "Collected from five victims within a day"),
        ),
        outcome="decline",
    ),
    SeedList(
        "treasury",
        "allow",
        "customer",
        "The bank's own treasury: large payments at odd hours are its work.",
        ((token("cust", 3), "Treasury desk, limits are watched there"),),
        skips_scoring=True,
    ),
)
LISTED_FOR = timedelta(days=90)  # so that the payments of a seeded past meet the lists too

THRESHOLDS = {
    "default": {"challenge": 760, "review": 840, "decline": 950},
    "ecommerce": {"challenge": 740, "review": 820, "decline": 940},
}
HOLD_MINUTES = 120


@atomic
def seed(lane: Lane, *, model: ModelVersion | None = None) -> Release:
    """Reason codes for all, and for `lane` rules, a policy and a release, where they are missing; the release in force.

    `model` becomes champion with the first release. A lane that has a release is left as its people made it.
    """
    seed_reason_codes()
    release = releases.in_force(lane)
    if release is not None:
        return release
    lists_version = seed_lists(lane)
    rules = [_seed_rule(lane, each) for each in RULES]
    policy, _ = PolicyVersion.objects.get_or_create(
        lane=lane, number=1, defaults={"thresholds": THRESHOLDS, "hold_minutes": HOLD_MINUTES, "created_by": AUTHOR}
    )
    reason = "What the lane starts with"
    return releases.activate(
        lane, model=model, policy=policy, rules=rules, lists_version=lists_version, by=AUTHOR, reason=reason
    )


def seed_lists(lane: Lane) -> int:
    """The first lists with what stands on them; the lists version they make."""
    version = 1
    for each in LISTS:
        about = {name: getattr(each, name) for name in ("kind", "subject", "description", "outcome", "skips_scoring")}
        held, made = List.objects.get_or_create(
            lane=lane, name=each.name, defaults=about | {"owner": AUTHOR, "created_by": AUTHOR}
        )
        if made:
            ListEntry.objects.bulk_create([_seed_entry(held, *entry, version) for entry in each.entries])
    return version


def _seed_entry(held: List, value: str, reason: str, version: int) -> ListEntry:
    subject = entries.read_subject(held.subject, value)._asdict()
    about = {"reason": reason, "author": AUTHOR, "origin": AUTHOR, "version": version}
    return ListEntry(list=held, valid_from=timezone.now() - LISTED_FOR, **subject, **about)


def seed_reason_codes() -> None:
    """Every reason code with its present wording."""
    for code, source, title, description in REASON_CODES:
        ReasonCode.objects.update_or_create(
            code=code, defaults={"source": source, "title": title, "description": description}
        )


def _seed_rule(lane: Lane, given: SeedRule) -> dict[str, object]:
    rule, _ = Rule.objects.get_or_create(lane=lane, code=given.code, defaults={"name": given.name, "owner": AUTHOR})
    content = {
        "expression": given.expression,
        "outcome": given.outcome,
        "weight": given.weight,
        "reason_id": given.reason,
        "sentence": given.sentence,
        "mode": given.mode,
        "created_by": AUTHOR,
    }
    version, _ = RuleVersion.objects.get_or_create(rule=rule, number=1, defaults=content)
    return {"version": version.pk, "mode": given.mode}
