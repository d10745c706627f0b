"""Who lives in the simulated bank: customers with a home, cards, devices and habits; merchants with their terminals.

Everything follows from one seed, so that the demo's history and the live stream that continues it, in another process
and on another day, are about the same people. Nobody here exists: names are made up of syllables, addresses are taken
from the blocks reserved for documentation and benchmarks, card tokens are hashes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp

# Units of the currency for one euro, rough and constant: the simulator's own idea of the market.
PER_EURO = {"EUR": 1.0, "GBP": 0.86, "USD": 1.09, "JPY": 163.0, "KWD": 0.335, "CHF": 0.95, "PLN": 4.3, "SEK": 11.4}
CURRENCY_OF = {"GB": "GBP", "US": "USD", "JP": "JPY", "KW": "KWD", "CH": "CHF", "PL": "PLN", "SE": "SEK"}

# City, country, latitude, longitude, share of the bank's customers.
CITIES = [
    ("Berlin", "DE", 52.52, 13.4, 14), ("Hamburg", "DE", 53.55, 9.99, 9), ("Munich", "DE", 48.14, 11.58, 10),
    ("Cologne", "DE", 50.94, 6.96, 7), ("Leipzig", "DE", 51.34, 12.37, 4), ("Paris", "FR", 48.86, 2.35, 10),
    ("Lyon", "FR", 45.76, 4.84, 4), ("Amsterdam", "NL", 52.37, 4.9, 6), ("Utrecht", "NL", 52.09, 5.12, 3),
    ("Vienna", "AT", 48.21, 16.37, 5), ("Brussels", "BE", 50.85, 4.35, 4), ("Madrid", "ES", 40.42, -3.7, 5),
    ("Barcelona", "ES", 41.39, 2.17, 3), ("Milan", "IT", 45.46, 9.19, 4), ("Rome", "IT", 41.9, 12.5, 3),
    ("Dublin", "IE", 53.35, -6.26, 3), ("London", "GB", 51.51, -0.13, 3), ("New York", "US", 40.71, -74.01, 1),
    ("Tokyo", "JP", 35.68, 139.69, 1), ("Kuwait City", "KW", 29.38, 47.99, 1), ("Zurich", "CH", 47.38, 8.54, 1),
    ("Warsaw", "PL", 52.23, 21.01, 1), ("Stockholm", "SE", 59.33, 18.07, 1),
]  # fmt: skip

# Where a thief's purchases turn up, besides the places above.
FAR_PLACES = [
    ("Lagos", "NG", 6.52, 3.38), ("Sao Paulo", "BR", -23.55, -46.63), ("Jakarta", "ID", -6.21, 106.85),
    ("Istanbul", "TR", 41.01, 28.98), ("Bangkok", "TH", 13.76, 100.5), ("Bucharest", "RO", 44.43, 26.1),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trade:
    """A kind of shop: its MCC, what a purchase there costs (median, spread), how often people go."""

    mcc: str
    name: str
    euros: float
    spread: float
    weight: float
    online: bool = False


TRADES = [
    Trade("5411", "Market", 24, 0.7, 26), Trade("5812", "Kitchen", 32, 0.6, 9),
    Trade("5814", "Snack", 9, 0.5, 12), Trade("5541", "Fuel", 52, 0.4, 8),
    Trade("5912", "Pharmacy", 16, 0.6, 5), Trade("5651", "Fashion", 58, 0.7, 4),
    Trade("5732", "Electronics", 120, 0.7, 2), Trade("5200", "Home & Garden", 45, 0.8, 3),
    Trade("7011", "Hotel", 140, 0.4, 1), Trade("4111", "Transit", 4, 0.6, 8),
    Trade("7230", "Hair", 38, 0.4, 2), Trade("6011", "Cash point", 110, 0.7, 5),
    Trade("5942", "Books", 22, 0.6, 3, True), Trade("5311", "Bazaar", 42, 0.8, 9, True),
    Trade("5818", "Games", 14, 0.8, 4, True), Trade("4899", "Streaming", 12, 0.3, 5, True),
    Trade("4722", "Travel", 170, 0.6, 1.2, True), Trade("5691", "Outfit", 64, 0.7, 4, True),
    Trade("5734", "Software", 35, 0.8, 2, True), Trade("7995", "Betting", 40, 1.0, 0.8, True),
    Trade("5945", "Toys", 33, 0.7, 2, True), Trade("5944", "Jewellery", 150, 0.6, 0.4, True),
    Trade("6051", "Digital assets", 120, 0.8, 0.5, True),
]  # fmt: skip
CASH = "6011"


@dataclass(slots=True)
class Place:
    city: str
    country: str
    lat: float
    lon: float

    @property
    def currency(self) -> str:
        return CURRENCY_OF.get(self.country, "EUR")


@dataclass(slots=True)
class Merchant:
    id: str
    name: str
    trade: Trade
    place: Place
    terminals: list[str]


@dataclass(slots=True)
class Card:
    token: str
    bin: str
    last4: str
    scheme: str
    funding: str


@dataclass(slots=True)
class Device:
    id: str
    os: str
    ip: str
    user_agent: str


@dataclass(slots=True)
class Payee:
    id: str
    country: str
    since: float = 0.0
    bic: str = ""


@dataclass(slots=True)
class Customer:
    """One customer of the bank, with what is usual for them."""

    id: str
    home: Place
    segment: str
    birth_year: int
    since: str
    account: str
    opened: str
    cards: list[Card]
    devices: list[Device]
    shops: list[Merchant]
    sites: list[Merchant]
    payees: list[Payee]
    busy: float  # payments a day, relative to the bank's mean
    lavish: float  # how much dearer than the median a purchase is
    balance: float  # euros
    method: str
    away: Place | None = None
    home_again: float = 0.0
    last_place: Place | None = field(default=None, repr=False)
    last_seen: float = 0.0


def token(kind: str, *parts: object, digits: int = 12) -> str:
    """An opaque identifier that follows from `parts`: `kind` and letters (no digits: no card number)."""
    raw = blake2b(repr(parts).encode(), digest_size=digits, person=kind.encode()[:16]).digest()
    return f"{kind}_" + "".join("abcdefghijkmnpqrstuvwxyz"[byte % 24] for byte in raw)


_FIRST = ["Al", "Bel", "Cor", "Dan", "El", "Fin", "Gran", "Hol", "Jor", "Kor", "Lin", "Mar", "Nor", "Pel", "Sil", "Tor"]
_LAST = [
    "ano",
    "berg",
    "cala",
    "dor",
    "etti",
    "fels",
    "garde",
    "hof",
    "ino",
    "kamp",
    "lund",
    "mont",
    "nova",
    "ster",
    "uri",
]
_PHONES = [
    ("iOS 19.1", "BankApp/7.4 (iPhone)"),
    ("Android 16", "BankApp/7.4 (Android)"),
    ("Android 15", "BankApp/7.2 (Android)"),
]
_DESKS = [
    ("Windows 11", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"),
    ("macOS 16", "Mozilla/5.0 (Macintosh)"),
    ("Linux", "Mozilla/5.0 (X11; Linux)"),
]
_SCHEMES = [("visa", "4"), ("mastercard", "5"), ("maestro", "6")]


def place_of(row: tuple) -> Place:
    return Place(row[0], row[1], row[2], row[3])


def near(place: Place, rng: random.Random, spread: float = 0.05) -> Place:
    """A spot in the same town."""
    lat, lon = place.lat + rng.gauss(0, spread), place.lon + rng.gauss(0, spread)
    return Place(place.city, place.country, round(lat, 4), round(lon, 4))


def new_device(rng: random.Random, owner: object, *, phone: bool, ip: str = "") -> Device:
    os, agent = rng.choice(_PHONES if phone else _DESKS)
    return Device(token("dev", owner, rng.random()), os, ip or home_address(rng), agent)


def home_address(rng: random.Random) -> str:
    """An address of the block reserved for benchmarks (RFC 2544), or of the IPv6 block for documentation (RFC 3849)."""
    if rng.random() < 0.3:
        return f"2001:db8:{rng.randrange(1, 65535):x}:{rng.randrange(1, 65535):x}::{rng.randrange(1, 255):x}"
    return f"198.{rng.choice((18, 19))}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def thief_address(rng: random.Random) -> str:
    """One of few: thieves share their exits (RFC 5737 documentation blocks)."""
    return f"{rng.choice(('203.0.113', '198.51.100', '192.0.2'))}.{rng.randrange(1, 90)}"


def new_card(rng: random.Random, owner: object) -> Card:
    scheme, first = rng.choices(_SCHEMES, (55, 38, 7))[0]
    return Card(
        token("card", owner, rng.random(), digits=16),
        first + f"{rng.randrange(10**5):05d}",
        f"{rng.randrange(10**4):04d}",
        scheme,
        rng.choices(("debit", "credit", "prepaid"), (65, 32, 3))[0],
    )


def merchants_of(rng: random.Random, count: int) -> list[Merchant]:
    """`count` shops, in proportion to how often their trade is visited and to the size of their town."""
    made = []
    for n in range(count):
        trade = rng.choices(TRADES, [t.weight for t in TRADES])[0]
        place = near(place_of(rng.choices(CITIES, [c[4] for c in CITIES])[0]), rng)
        name = f"{rng.choice(_FIRST)}{rng.choice(_LAST)} {trade.name}"
        tills = [f"T{rng.randrange(10**6):06d}" for _ in range(1 if trade.online else rng.choice((1, 1, 2, 3)))]
        made.append(Merchant(token("mer", n, name), name, trade, place, tills))
    return made


def customer_of(rng: random.Random, n: int, towns: dict[str, list[Merchant]], sites: list[Merchant]) -> Customer:
    """The `n`-th customer, with habits drawn around their home town."""
    home = near(place_of(rng.choices(CITIES, [c[4] for c in CITIES])[0]), rng)
    local = towns[home.city]
    year = rng.randrange(2003, 2026)
    address = home_address(rng)
    devices = [new_device(rng, n, phone=True, ip=address)]
    if rng.random() < 0.45:
        devices.append(new_device(rng, n, phone=False, ip=address))
    return Customer(
        id=token("cust", n),
        home=home,
        segment=rng.choices(("retail", "premium", "sme"), (82, 12, 6))[0],
        birth_year=rng.randrange(1942, 2007),
        since=f"{year}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
        account=token("acc", n),
        opened=f"{year}-{rng.randrange(1, 13):02d}-28",
        cards=[new_card(rng, n) for _ in range(rng.choice((1, 1, 2)))],
        devices=devices,
        shops=rng.sample(local, min(len(local), rng.randrange(5, 12))),
        sites=rng.sample(sites, min(len(sites), rng.randrange(3, 8))),
        payees=[new_payee(rng, n, home.country, since=0.0) for _ in range(rng.randrange(2, 7))],
        busy=exp(rng.gauss(-0.2, 0.6)),
        lavish=exp(rng.gauss(0, 0.4)),
        balance=exp(rng.gauss(7.8, 0.8)),
        method=rng.choices(("push", "biometric", "otp_app", "otp_sms"), (30, 40, 15, 15))[0],
    )


def new_payee(rng: random.Random, owner: object, country: str, *, since: float) -> Payee:
    return Payee(token("payee", owner, rng.random()), country, since, f"SIMB{country}2X")


def populate(seed: int, customers: int, merchants: int) -> tuple[list[Customer], list[Merchant]]:
    """The bank of `seed`: the same for everybody who asks with the same numbers."""
    rng = random.Random(f"{seed}/{customers}/{merchants}")
    shops = merchants_of(rng, merchants)
    sites = [m for m in shops if m.trade.online]
    local = [m for m in shops if not m.trade.online]
    towns = {row[0]: [m for m in local if m.place.city == row[0]] or local[:12] for row in CITIES}
    return [customer_of(rng, n, towns, sites) for n in range(customers)], shops
