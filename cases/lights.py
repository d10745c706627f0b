"""Which facts of the case page a reason has read, so that pointing at a reason lights them.

Derived from what the kernel says of its features (`scoring.catalogue`: the entity each belongs to) and from the names
themselves: `customer_new_device` reads the customer and the device. Facts are named as `factsheet` keys them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from scoring.catalogue import FEATURES
from scoring.entries import NAMES
from scoring.reasons import code_of
from scoring.rules import fact_words

OF_ENTITY = {
    "customer": "customer",
    "account": "account",
    "card": "card",
    "bin": "card",
    "device": "device",
    "ip": "network",
    "merchant": "merchant",
    "mcc": "merchant",
    "terminal": "channel",
    "counterparty": "payee",
    "country": "location",
}
# A pattern over the names of features and fields, and the facts that such a name reads beside those of its entity.
READS = tuple(
    (re.compile(pattern), tuple(facts.split()))
    for pattern, facts in (
        (r"amount|sum_|mean_|max_|balance_share|^type$|transfer_scheme", "amount"),
        (r"balance", "account"),
        (r"^(hour|weekday|night|late)$|night_share|since_last|count_(10m|1h)|speed", "when"),
        (r"channel|instrument", "channel"),
        (r"entry_mode|issuer|scheme|funding|^bin$", "card"),
        (r"authentication|^sca$|exemption", "signed"),
        (r"three_ds", "three_ds"),
        (r"cvv|avs", "checks"),
        (r"^vop$|counterpart", "payee"),
        (r"mcc|merchant", "merchant"),
        (r"device|emulator|rooted|remote_access|proxy|vpn|^tor$", "device"),
        (r"session|^ip$|hidden|proxy|vpn|^tor$", "network"),
        (r"abroad|countr(y|ies)|distance|speed|^lat$|^lon$", "location"),
        (r"tenure|customer|birth|segment", "customer"),
        (r"account", "account"),
    )
)
_ENTITY = {feature.name: feature.entity for feature in FEATURES}
_WORDS = {*_ENTITY, *fact_words()}
_TEXT = re.compile(r'"[^"]*"|\'[^\']*\'')
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def of_name(name: str) -> frozenset[str]:
    """The facts that one feature or field of a payment reads."""
    found = {OF_ENTITY[entity] for entity in (_ENTITY.get(name, ""), name) if entity in OF_ENTITY}
    return frozenset(found.union(*(facts for pattern, facts in READS if pattern.search(name))))


def of_names(names: Iterable[str]) -> str:
    """The facts of several names, as the page's attribute: separated by spaces."""
    return " ".join(sorted(frozenset().union(*map(of_name, names))))


def of_rule(hit: dict[str, Any]) -> str:
    """The facts that a rule's text and the values it saw speak of."""
    spoken = _NAME.findall(_TEXT.sub("", hit.get("expression") or ""))
    return of_names({*(hit.get("values") or {}), *(name for name in spoken if name in _WORDS)})


def of_list(text: str) -> str:
    """The fact that stands on a list: its reason begins with the subject's name."""
    return next((OF_ENTITY[subject] for subject, name in NAMES.items() if text.startswith(name)), "")


def of_code(code: str, features: Iterable[str]) -> str:
    """The facts behind a reason code, given the features that were weighed."""
    return of_names(name for name in features if code_of(name) == code)
