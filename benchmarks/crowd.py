"""Who pays in the benchmarks: 50,000 customers, 10,000 merchants, 60,000 devices; and their payments as JSON or facts.

Bodies are made before the clock starts. A *sheet* is a matrix of bytes, one payment's JSON a row, all rows as long as
each other, so that a fresh run number and time are written into thousands of bodies by two assignments: the load costs
next to nothing while it is measured. Devices are mostly the customer's own; merchants are visited unevenly, most often
those that the customer always goes to.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

CUSTOMERS, MERCHANTS, DEVICES = 50_000, 10_000, 60_000
BUSY = 20  # customers that may be given a share of all payments of their own, such as companies
HABITS, FAITHFUL = 20, 0.85  # so many merchants of one's own, and how often it is one of them
MCCS = np.array([5411, 5812, 5541, 5732, 4111, 5651, 5999, 7011, 5912, 4121])
FOLDER = Path(__file__).resolve().parent / "payloads"
LETTERS = np.frombuffer(string.ascii_lowercase.encode(), "u1")
RUN_LETTERS = 8
_MILLI = timedelta(milliseconds=1)
# Where the parts of a time of day stand in a time's text: offset, milli-seconds in one, how many there are, digits.
_CLOCK = ((11, 3_600_000, 24, 2), (14, 60_000, 60, 2), (17, 1_000, 60, 2), (20, 1, 1_000, 3))

# What differs from payment to payment: pointer, width in the JSON, whether it is a number there.
VARYING = {
    "external_id": (4 + RUN_LETTERS + 6, False),
    "occurred_at": (24, False),
    "uetr": (36, False),
    "amount/value": (6, True),
    "customer/id": (9, False),
    "account/id": (9, False),
    "card/token": (9, False),
    "card/last4": (4, False),
    "merchant/id": (8, False),
    "merchant/mcc": (4, False),
    "merchant/terminal_id": (5, False),
    "device/id": (9, False),
    "device/ip": (15, False),
    "location/lat": (7, True),
    "location/lon": (6, True),
}


@dataclass
class Picks:
    """Who pays whom, how much, with what, where: n payments as columns."""

    customer: np.ndarray
    merchant: np.ndarray
    device: np.ndarray
    amount: np.ndarray
    lat: np.ndarray
    lon: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)


def draw(n: int, rng: np.random.Generator, *, shard: int = 0, shards: int = 1, busy: float = 0.0) -> Picks:
    """`n` payments of the crowd, or of one of `shards` equal parts of its customers; a share by the few `busy` ones."""
    customer = rng.integers(0, CUSTOMERS // shards, n) * shards + shard
    if busy:
        customer = np.where(rng.random(n) < busy, customer % BUSY, customer)
    own = rng.random(n) < 0.97
    habit = usual(customer, rng.integers(0, HABITS, n))
    merchant = (MERCHANTS * np.where(rng.random(n) < FAITHFUL, habit, rng.random(n)) ** 2).astype("i8")
    return Picks(
        customer,
        merchant,
        np.where(own, customer, rng.integers(0, DEVICES, n)),
        np.clip(np.exp(rng.normal(8.1, 0.8, n)), 100, 999_999).astype("i8"),
        np.round(48.5 + (merchant % 100) * 0.008 + rng.random(n) * 0.001, 4),
        np.round(2.5 + (merchant % 97) * 0.008 + rng.random(n) * 0.001, 4),
    )


def usual(customer: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Where in the crowd's merchants, 0 to 1, a customer's own ones lie: the same for ever, without a table."""
    mixed = (customer * 2_654_435_761 + which * 40_503_977 + 12_345) % 2**32
    return (mixed ^ (mixed >> 15)) * 2_246_822_519 % 2**32 / 2**32


# --- as JSON ----------------------------------------------------------------------------------------------------------


class Payload:
    """A file of `payloads/` as a template of one length, compact."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        document = json.loads(json.dumps(self.document))
        marks = {}
        for n, (pointer, (width, number)) in enumerate(VARYING.items()):
            if _put(document, pointer, f"@{n:02}@"):
                marks[pointer] = (f'"@{n:02}@"'.encode(), bytes([1 + n]) * width, number)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        for mark, filler, number in marks.values():
            text = text.replace(mark, filler if number else b'"' + filler + b'"')
        self.places = {pointer: (text.index(filler), len(filler)) for pointer, (_, filler, _) in marks.items()}
        self.template = np.frombuffer(text, "u1")

    @cached_property
    def fields(self) -> int:
        """How many fields it has."""
        return leaves(self.document)

    def sheet(self, picks: Picks, rng: np.random.Generator) -> np.ndarray:
        """JSON of the payments, one a row: uint8 (n, length); run and time are still to be written (`stamp`)."""
        sheet = np.repeat(self.template[None, :], len(picks), axis=0)
        for pointer, column in _columns(picks, rng).items():
            if pointer in self.places:
                at, width = self.places[pointer]
                sheet[:, at : at + width] = column
        return sheet

    def stamp(self, sheet: np.ndarray, run: int, at: datetime, *, span: timedelta = timedelta(0)) -> None:
        """Write run number and times into all rows: makes them new payments, spread over `span` from `at` (UTC) on."""
        begin = self.places["external_id"][0] + 4
        sheet[:, begin : begin + RUN_LETTERS] = letters(run)
        begin, width = self.places["occurred_at"]
        sheet[:, begin : begin + width] = np.frombuffer(at.strftime("%Y-%m-%dT%H:%M:%S.000Z").encode(), "u1")
        clock = (
            np.linspace(0, span / _MILLI, len(sheet))
            + (at - at.replace(hour=0, minute=0, second=0, microsecond=0)) / _MILLI
        )
        clock = np.minimum(clock.astype("i8"), 86_399_999)  # a span that crosses midnight ends there
        for offset, divisor, modulus, size in _CLOCK:
            sheet[:, begin + offset : begin + offset + size] = digits(clock // divisor % modulus, size)


def _put(document: dict[str, Any], pointer: str, value: str) -> bool:
    *parents, name = pointer.split("/")
    for parent in parents:
        document = document.get(parent, {})
    if name in document:
        document[name] = value
    return name in document


def leaves(document: Any) -> int:
    """Fields with a value of their own."""
    return sum(map(leaves, document.values())) if isinstance(document, dict) else 1


def _columns(picks: Picks, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = len(picks)
    return {
        "external_id": _text(n, "pay-", np.full((n, RUN_LETTERS), 97, "u1"), "-", digits(np.arange(n), 5)),
        "occurred_at": _text(n, "2026-01-01T00:00:00.000Z"),
        "uetr": _uuids(n, rng),
        "amount/value": digits(picks.amount, 6, spaces=True),
        "customer/id": _text(n, "cus-", digits(picks.customer, 5)),
        "account/id": _text(n, "acc-", digits(picks.customer, 5)),
        "card/token": _text(n, "tok-", digits(picks.customer, 5)),
        "card/last4": last4(picks.customer),
        "merchant/id": _text(n, "mer-", digits(picks.merchant, 4)),
        "merchant/mcc": digits(MCCS[picks.merchant % len(MCCS)], 4),
        "merchant/terminal_id": _text(n, "T", digits(picks.merchant, 4)),
        "device/id": _text(n, "dev-", digits(picks.device, 5)),
        "device/ip": _text(n, "198.1", digits(picks.device // 10_000, 2), ".1", digits(picks.device // 100 % 100, 2),
                           ".1", digits(picks.device % 100, 2)),
        "location/lat": _decimal(picks.lat, 2),
        "location/lon": _decimal(picks.lon, 1),
    }  # fmt: skip


def last4(customer: np.ndarray) -> np.ndarray:
    """The last four digits of a customer's card as ASCII, (n, 4): five customers share each ending."""
    return digits(customer * 7919 % 10_000, 4)


def digits(values: np.ndarray, width: int, *, spaces: bool = False) -> np.ndarray:
    """Whole numbers as ASCII, (n, width); `spaces` in front instead of zeros, as JSON wants its numbers."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    text = (values[:, None] // powers % 10 + 48).astype("u1")
    if spaces:
        text[(values[:, None] < powers) & (powers > 1)] = 32
    return text


def _decimal(values: np.ndarray, whole: int) -> np.ndarray:
    text = digits(np.round(values * 10_000).astype("i8"), whole + 4)
    return _text(len(values), text[:, :whole], ".", text[:, whole:])


def _text(n: int, *parts: str | np.ndarray) -> np.ndarray:
    columns = [
        np.repeat(np.frombuffer(part.encode(), "u1")[None, :], n, axis=0) if isinstance(part, str) else part
        for part in parts
    ]
    return np.concatenate(columns, axis=1)


def _uuids(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random UUIDs of version 4."""
    hexadecimal = np.frombuffer(b"0123456789abcdef", "u1")[rng.integers(0, 16, (n, 30))]
    h = [hexadecimal[:, a:b] for a, b in ((0, 8), (8, 12), (12, 15), (15, 18), (18, 30))]
    return _text(n, h[0], "-", h[1], "-4", h[2], "-a", h[3], "-", h[4])


def letters(number: int) -> np.ndarray:
    """A number as RUN_LETTERS lower-case letters."""
    return LETTERS[number // 26 ** np.arange(RUN_LETTERS - 1, -1, -1) % 26]


# --- as facts ---------------------------------------------------------------------------------------------------------


class Keys:
    """The entities' keys as the desk knows them, by number. Needs Django."""

    def __init__(self) -> None:
        from transactions.codes import entity_key

        def of(kind: str, texts: list[str]) -> np.ndarray:
            return np.array([entity_key(kind, text) for text in texts], "i8")

        self.customer = of("customer", [f"cus-{n:05}" for n in range(CUSTOMERS)])
        self.account = of("account", [f"acc-{n:05}" for n in range(CUSTOMERS)])
        self.card = of("card", [f"tok-{n:05}" for n in range(CUSTOMERS)])
        self.merchant = of("merchant", [f"mer-{n:04}" for n in range(MERCHANTS)])
        self.terminal = of("terminal", [f"mer-{n:04}|T{n:04}" for n in range(MERCHANTS)])
        self.device = of("device", [f"dev-{n:05}" for n in range(DEVICES)])
        self.ip = of("ip", [address(n) for n in range(DEVICES)])


def address(device: int) -> str:
    """The IP address of a device."""
    return f"198.1{device // 10_000:02}.1{device // 100 % 100:02}.1{device % 100:02}"


def facts(picks: Picks, keys: Keys, payload: str) -> np.ndarray:
    """The payments as columns (dtype FACTS) with what `payload` sends; ids, times, lane and client are to come."""
    from transactions import codes
    from transactions.facts import blank

    rows = blank(len(picks))
    rows["intake"], rows["stage"] = codes.INTAKE.code("live"), codes.STAGE.code("authorisation")
    rows["type"], rows["direction"] = codes.TYPE.code("purchase"), codes.DIRECTION.code("debit")
    rows["currency"] = codes.CURRENCY.code("EUR")
    rows["amount"] = rows["amount_base"] = picks.amount
    rows["customer"], rows["merchant"] = keys.customer[picks.customer], keys.merchant[picks.merchant]
    rows["device"] = keys.device[picks.device]
    full = payload == "full"
    rows["channel"] = codes.CHANNEL.code("ecommerce" if full else "other")
    rows["instrument"] = codes.INSTRUMENT.code("card" if full else "other")
    if full:
        rows["account"], rows["card"] = keys.account[picks.customer], keys.card[picks.customer]
        rows["terminal"], rows["ip"] = keys.terminal[picks.merchant], keys.ip[picks.device]
        rows["lat"], rows["lon"] = picks.lat, picks.lon
        rows["mcc"] = MCCS[picks.merchant % len(MCCS)]
        rows["customer_country"] = rows["issuer_country"] = codes.COUNTRY.code("DE")
        rows["merchant_country"] = rows["location_country"] = codes.COUNTRY.code("FR")
        rows["entry_mode"], rows["birth_year"] = codes.ENTRY_MODE.code("ecommerce"), 1984
    return rows
