"""Validated payments as columns: member by member over the whole batch, and only members that somebody sent.

The costly part of a payment is its tokens: each becomes a keyed hash, and each may be a card number, an IBAN or an
e-mail address in disguise. Both are worked out once for a token and remembered, in memory that is bounded; a token that
looks wrong is never remembered, so its payments are always looked at closely (`Columns.doubtful`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from operator import attrgetter
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from transactions import codes, facts, pan, rates
from transactions.codes import CodeTable, entity_key
from transactions.conditions import canonical_ip, is_iban
from transactions.facts import FACTS, micros
from transactions.models import ABSENT_DAY
from transactions.schema import Payment

LONGEST_SESSION = 2**31 - 1
MOST_TOKENS = 300_000  # of each kind, remembered in a process: some 40 MB where all are in use
MICROSECOND = timedelta(microseconds=1)
_DAY_ZERO = facts.EPOCH.date().toordinal()
_64_BITS = 2**64

Rows = np.ndarray  # of places in the batch; None stands for all of them


@dataclass
class Columns:
    """A batch as columns, and what the columns do not hold.

    `facts` has dtype FACTS with id 0; `originals` are the external ids of the payments that some clear, refund or
    reverse, by position; `unrated` the positions whose amount (or, second, balance) has a currency without a rate;
    `doubtful` those with a token that needs a closer look.
    """

    facts: np.ndarray
    originals: dict[int, str] = field(default_factory=dict)
    unrated: list[int] = field(default_factory=list)
    unrated_balances: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)


def columns_of(payments: Sequence[Payment], *, base: str) -> Columns:
    """The payments' own facts; amounts in `base` by the rates of when they happened. Who sent them is not set."""
    made = Columns(facts.blank(len(payments)))
    sent = _Sent(made, payments)
    sent.put("occurred_at", ((payment.occurred_at - facts.EPOCH) // MICROSECOND for payment in payments))
    _fill_payment(sent)
    _fill_money(sent, base)
    for name, fill in _PARTS.items():
        part = sent.part(name)
        if part is not None:
            fill(part, base)
            _imply_instrument(part, name)
    _fill_instrument(sent)
    return made


# --- members that were sent -------------------------------------------------------------------------------------------


class _Sent:
    """Objects of one kind (payments, or their cards, devices …) and the rows of the batch that they stand in."""

    def __init__(self, made: Columns, objects: Sequence[Any], rows: Rows | None = None) -> None:
        self.made, self.objects, self.rows = made, objects, rows

    def values(self, name: str) -> list[Any]:
        """A member of each object; UNSET where it was not sent, and nothing at all if nobody sent it."""
        found = list(map(_getter(name), self.objects))
        return found if any(found) else []

    def part(self, name: str) -> _Sent | None:
        """The objects under a member, as far as they were sent; None if nobody sent one."""
        found = list(map(_getter(name), self.objects))
        if all(found):
            return _Sent(self.made, found, self.rows)
        places = [n for n, one in enumerate(found) if one]
        if not places:
            return None
        rows = np.array(places) if self.rows is None else self.rows[places]
        return _Sent(self.made, [found[n] for n in places], rows)

    def row(self, place: int) -> int:
        """The row of the object at `place`."""
        return place if self.rows is None else int(self.rows[place])

    def get(self, column: str) -> np.ndarray:
        """A column of just these rows."""
        return self.made.facts[column] if self.rows is None else self.made.facts[column][self.rows]

    def put(self, column: str, values: Iterable[Any]) -> None:
        made = np.fromiter(values, FACTS[column], len(self.objects))
        self.made.facts[column][slice(None) if self.rows is None else self.rows] = made

    def codes(self, column: str, name: str, table: CodeTable) -> None:
        """A member out of a closed set, as its code."""
        values = self.values(name)
        if values:
            self.put(column, map(_with_unset(table).__getitem__, values))

    def keys(self, column: str, name: str, kind: str) -> None:
        """A token as the key of its entity."""
        values = self.values(name)
        if values:
            self.tokens(column, values, _tokens(kind))

    def tokens(self, column: str, values: list[Any], known: Tokens) -> None:
        before = known.doubts
        self.put(column, map(known.__getitem__, values))
        if known.doubts != before:
            self.doubt(place for place, token in enumerate(values) if token not in known)

    def through(self, column: str, name: str, turn: Callable[[Any], int], absent: int = 0) -> None:
        """A member that few values stand for, each turned into a number once for the batch."""
        values = self.values(name)
        if values:
            turned = {value: turn(value) if value else absent for value in set(values)}
            self.put(column, map(turned.__getitem__, values))

    def doubt(self, places: Iterable[int]) -> None:
        self.made.doubtful.extend(map(self.row, places))


@cache
def _getter(name: str) -> Callable[[Any], Any]:
    return attrgetter(name)


@cache
def _with_unset(table: CodeTable) -> dict[Any, int]:
    return {**table.codes, UNSET: 0}


# --- tokens -----------------------------------------------------------------------------------------------------------


class Tokens(dict[Any, int]):
    """Tokens of one kind of entity with their keys. One that looks wrong is counted in `doubts` and not remembered."""

    def __init__(self, kind: str) -> None:
        super().__init__({UNSET: 0})
        self.kind = kind
        self.doubts = 0

    def __missing__(self, token: str) -> int:
        key = entity_key(self.kind, token)
        if pan.in_identifier(token) or _LOOKS_WRONG.get(self.kind, _never)(token):
            self.doubts += 1
            return key
        if len(self) >= MOST_TOKENS:
            self.clear()
            self[UNSET] = 0
        self[token] = key
        return key


def _never(token: str) -> bool:
    return False


_LOOKS_WRONG: dict[str, Callable[[str], bool]] = {
    "customer": lambda token: "@" in token,
    "account": is_iban,
    "counterparty": is_iban,
    "card": lambda token: not pan.is_card_token(token),
}


@cache
def _tokens(kind: str) -> Tokens:
    return Tokens(kind)


class Address(NamedTuple):
    """An IP address as facts: its key, and its 128 bits (IPv4 mapped into ::ffff:0:0/96) as two signed integers."""

    key: int
    high: int
    low: int


class _Addresses(dict[Any, Address]):
    """Addresses as they were written; what is none reads as not sent."""

    def __missing__(self, text: str) -> Address:
        address = address_of(text)
        if len(self) >= MOST_TOKENS:
            self.clear()
        self[text] = address
        return address


def address_of(text: str) -> Address:
    """The facts of an address in any writing; all 0 if it is none."""
    try:
        bits = 0xFFFF << 32 | int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, UnicodeEncodeError):
        text = canonical_ip(text)
        if not text:
            return Address(0, 0, 0)
        bits = int(ip_address(text))
    return Address(entity_key("ip", text), _signed(bits >> 64), _signed(bits % _64_BITS))


def _signed(bits: int) -> int:
    return bits - _64_BITS if bits >= _64_BITS >> 1 else bits


_addresses = _Addresses()


def forget() -> None:
    """Forget all tokens and addresses: for tests that change the key of the hashes."""
    _tokens.cache_clear()
    _addresses.clear()


# --- the members ------------------------------------------------------------------------------------------------------


def _fill_payment(sent: _Sent) -> None:
    columns = sent.made.facts
    columns["stage"] = codes.STAGE.code("authorisation")
    columns["direction"] = codes.DIRECTION.code("debit")
    columns["channel"] = codes.CHANNEL.code("other")
    sent.codes("type", "type", codes.TYPE)
    for name, table in (("stage", codes.STAGE), ("direction", codes.DIRECTION), ("channel", codes.CHANNEL)):
        values = sent.values(name)
        if values:
            known = _with_unset(table) | {UNSET: int(columns[name][0])}
            sent.put(name, map(known.__getitem__, values))
    named = sent.values("original_external_id")
    sent.made.originals = {row: name for row, name in enumerate(named) if name}


def _imply_instrument(part: _Sent, name: str) -> None:
    """A card, or without one an account, tells the instrument that was not sent. (Accounts come first.)"""
    if name in ("account", "card"):
        part.made.facts["instrument"][slice(None) if part.rows is None else part.rows] = codes.INSTRUMENT.code(name)


def _fill_instrument(sent: _Sent) -> None:
    columns = sent.made.facts["instrument"]
    columns[columns == 0] = codes.INSTRUMENT.code("other")
    values = sent.values("instrument")
    if values:
        named = np.fromiter(map(_with_unset(codes.INSTRUMENT).__getitem__, values), columns.dtype, len(values))
        np.copyto(columns, named, where=named > 0)


def _fill_money(sent: _Sent, base: str) -> None:
    amounts = sent.values("amount")
    values = [amount.value for amount in amounts]
    currencies = [amount.currency for amount in amounts]
    sent.put("amount", values)
    sent.put("currency", map(codes.CURRENCY.codes.__getitem__, currencies))
    worth, sent.made.unrated = _worth(values, currencies, sent.get("occurred_at"), base)
    sent.put("amount_base", worth)


def _worth(values: list[int], currencies: list[str], at: np.ndarray, base: str) -> tuple[list[int], list[int]]:
    """Amounts in the base currency, and the places of those that have no rate."""
    needed = set(currencies)
    if needed == {base}:
        return values, []
    known, worth, unrated = rates.rates_to(base, needed=needed), [], []
    for place, (value, currency, when) in enumerate(zip(values, currencies, at.tolist(), strict=True)):
        try:
            worth.append(known.base_amount(value, currency, when))
        except rates.NoRate:
            worth.append(0)
            unrated.append(place)
    return worth, unrated


def _fill_customer(sent: _Sent, base: str) -> None:
    sent.keys("customer", "id", "customer")
    sent.codes("customer_country", "country", codes.COUNTRY)
    sent.codes("segment", "segment", codes.SEGMENT)
    sent.through("customer_since", "since", _day, ABSENT_DAY)
    sent.through("birth_year", "birth_year", int)


def _fill_account(sent: _Sent, base: str) -> None:
    sent.keys("account", "id", "account")
    sent.codes("account_country", "country", codes.COUNTRY)
    sent.through("account_opened", "opened_at", _day, ABSENT_DAY)
    balances = sent.part("balance_before")
    if balances is not None:
        values = [balance.value for balance in balances.objects]
        currencies = [balance.currency for balance in balances.objects]
        worth, unrated = _worth(values, currencies, balances.get("occurred_at"), base)
        balances.put("balance_before", worth)
        sent.made.unrated_balances = list(map(balances.row, unrated))


def _fill_card(sent: _Sent, base: str) -> None:
    sent.keys("card", "token", "card")
    sent.through("bin", "bin", int)
    sent.codes("issuer_country", "issuer_country", codes.COUNTRY)
    sent.codes("scheme", "scheme", codes.SCHEME)
    sent.codes("funding", "funding", codes.FUNDING)
    sent.codes("entry_mode", "entry_mode", codes.ENTRY_MODE)
    sent.codes("cvv_result", "cvv_result", codes.RESULT)
    sent.codes("avs_result", "avs_result", codes.RESULT)
    secure = sent.part("three_ds")
    if secure is not None:
        secure.codes("three_ds", "status", codes.THREE_DS)


def _fill_authentication(sent: _Sent, base: str) -> None:
    sent.codes("authentication", "method", codes.AUTHENTICATION)
    sent.codes("sca", "sca", codes.SCA)
    sent.codes("exemption", "exemption", codes.EXEMPTION)


def _fill_merchant(sent: _Sent, base: str) -> None:
    sent.keys("merchant", "id", "merchant")
    sent.codes("merchant_country", "country", codes.COUNTRY)
    sent.through("mcc", "mcc", int, -1)
    terminals = sent.values("terminal_id")
    if terminals:
        # Terminals are numbered by each merchant anew, so the merchant takes part in the key.
        names = [
            f"{merchant.id}|{terminal}" if merchant.id and terminal else terminal
            for merchant, terminal in zip(sent.objects, terminals, strict=True)
        ]
        sent.tokens("terminal", names, _tokens("terminal"))


def _fill_counterparty(sent: _Sent, base: str) -> None:
    sent.keys("counterparty", "id", "counterparty")
    sent.codes("counterparty_country", "country", codes.COUNTRY)
    sent.codes("vop", "vop_result", codes.VOP)


def _fill_transfer(sent: _Sent, base: str) -> None:
    sent.codes("transfer_scheme", "scheme", codes.TRANSFER_SCHEME)


def _fill_device(sent: _Sent, base: str) -> None:
    sent.keys("device", "id", "device")
    flags = sent.values("flags")
    if flags:
        sent.put("device_flags", (sum(map(codes.DEVICE_FLAGS.__getitem__, found or ())) for found in flags))
    texts = sent.values("ip")
    if texts:
        addresses = [_addresses[text] if text else _NOWHERE for text in texts]
        sent.put("ip", [address.key for address in addresses])
        sent.put("ip_high", [address.high for address in addresses])
        sent.put("ip_low", [address.low for address in addresses])
        if not all(address.key for address in addresses):
            sent.doubt(n for n, text in enumerate(texts) if text and not addresses[n].key)


_NOWHERE = Address(0, 0, 0)


def _fill_location(sent: _Sent, base: str) -> None:
    sent.codes("location_country", "country", codes.COUNTRY)
    for name in ("lat", "lon"):
        degrees = list(map(_getter(name), sent.objects))
        sent.put(name, (np.nan if one is UNSET else one for one in degrees))
        # Four decimals: rounding in binary is exact here, because the quotient of two integers is rounded right.
        exact = np.array([0.0 if one is UNSET else one for one in degrees])
        sent.doubt(np.flatnonzero(np.round(exact, 4) != exact).tolist())
    sent.doubt(n for n, place in enumerate(sent.objects) if (place.lat is UNSET) != (place.lon is UNSET))


def _fill_session(sent: _Sent, base: str) -> None:
    starts = sent.values("started_at")
    if not starts:
        return
    at = sent.get("occurred_at").tolist()
    sent.put("session_age", map(_session_age, starts, at))


def _session_age(started_at: datetime | Any, at: int) -> int:
    """Seconds; a session that starts after its payment, by a clock that is wrong, counts as 0."""
    if not started_at:
        return -1
    return max(0, min((at - micros(started_at)) // facts.SECOND, LONGEST_SESSION))


def _day(day: date) -> int:
    return day.toordinal() - _DAY_ZERO


_PARTS: dict[str, Callable[[_Sent, str], None]] = {
    "customer": _fill_customer,
    "account": _fill_account,
    "card": _fill_card,
    "authentication": _fill_authentication,
    "merchant": _fill_merchant,
    "counterparty": _fill_counterparty,
    "transfer": _fill_transfer,
    "device": _fill_device,
    "location": _fill_location,
    "session": _fill_session,
}
