"""The facts of a payment as people read them: masked, with units, "not sent" where nothing was sent, and who is new.

Masks: customer and account by their last four characters, cards as •••• 1234, IP addresses to their network, payment
references hidden (spec, "PII masking"). A copy button copies what is shown, in full where it is only shortened.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from django.db import connection
from django.utils import timezone

from alerts.live import amount_text
from cases.lights import OF_ENTITY
from cases.models import Case
from cases.places import Place
from cases.templatetags.cases import length
from transactions.codes import CURRENCY, EXPONENT
from transactions.masks import masked
from transactions.models import Transaction

NEWEST = 5000  # payments of the customer that are looked through for "times seen"
NEW = timedelta(days=1)
ENTITIES = ("account", "card", "device", "ip", "merchant", "terminal", "counterparty")
COLUMNS = ("id", "occurred_at", "stage", "amount", "currency", "amount_base", "lat", "lon", *ENTITIES)
WINDOWS = (("1 h", "1 hour"), ("24 h", "24 hours"), ("7 d", "7 days"), ("30 d", "30 days"), ("90 d", "90 days"))
MOST_EARLIER = 6  # earlier cases named
MOST_PLACES = 40  # newest payments with coordinates on the map


@dataclass(frozen=True)
class Fact:
    """One line: its key (as `lights` names it), its value, a second line, what a click copies, whether it is news."""

    key: str
    name: str
    value: str = ""
    hint: str = ""
    copy: str = ""
    seen: str = ""
    is_new: bool = False
    strong: bool = False

    @property
    def copied(self) -> str:
        """What the button copies: the whole value where the line shows only its ends, else what is shown."""
        return self.copy or self.value


@dataclass(frozen=True)
class Earlier:
    """Another case of the customer; without `id` it stands in a queue that the reader is no member of."""

    id: int
    at: datetime
    disposition: str
    alerts: int
    reason: str


@dataclass(frozen=True)
class Past:
    """What the customer did before and with: sightings {entity: (first, times)} and sums per window, earlier cases,
    and where the newest payments were made.
    """

    seen: dict[str, tuple[datetime | None, int]]
    windows: list[dict[str, Any]]
    payments: int
    first: datetime | None
    earlier: list[Earlier]
    places: list[Place]


OTHERS = """
  (SELECT coalesce(jsonb_agg(to_jsonb(o) ORDER BY o.id DESC), '[]') FROM (
     SELECT id, coalesce(closed_at, opened_at) AS at, disposition, alert_count AS alerts, top_reason AS reason,
            queue_id AS queue
       FROM "case" WHERE customer = %(customer)s AND lane_id = %(lane)s AND id <> %(case)s
      ORDER BY id DESC LIMIT %(most_earlier)s) o)"""
PLACES = """
  (SELECT coalesce(jsonb_agg(to_jsonb(o) ORDER BY o.at DESC, o.id DESC), '[]') FROM (
     SELECT id, occurred_at AS at, lat, lon, amount, currency FROM newest WHERE lat <> 'NaN' AND lon <> 'NaN'
      ORDER BY occurred_at DESC, id DESC LIMIT %(most_places)s) o)"""


def past(case: Case, payment: Transaction, queues: list[int]) -> Past:
    """The payer's past up to now, from the newest payments, in one statement by the index on the customer.

    `queues`: those whose cases the reader may open; of others only that there is one is told.
    """
    sightings = ", ".join(
        f"min(occurred_at) FILTER (WHERE {name} = %({name})s), count(*) FILTER (WHERE {name} = %({name})s)"
        for name in ENTITIES
    )
    sums = ", ".join(
        f"count(*) FILTER ({since}), coalesce(sum(amount_base) FILTER ({since}), 0),"
        f" count(DISTINCT nullif(device, 0)) FILTER ({since}),"
        f" count(DISTINCT nullif(counterparty # merchant, 0)) FILTER ({since})"
        for _, width in WINDOWS
        for since in [f"WHERE occurred_at > %(now)s - interval '{width}' AND stage = 1"]
    )
    values = {name: getattr(payment, name) for name in ENTITIES}
    values |= {"customer": payment.customer, "lane": case.lane_id, "case": case.pk, "newest": NEWEST}
    values |= {"now": timezone.now(), "most_earlier": MOST_EARLIER, "most_places": MOST_PLACES}
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH newest AS MATERIALIZED (SELECT {', '.join(COLUMNS)} FROM transaction"
            " WHERE customer = %(customer)s AND lane = %(lane)s ORDER BY id DESC LIMIT %(newest)s)"
            f" SELECT {OTHERS}, {PLACES}, count(*), min(occurred_at), {sightings}, {sums} FROM newest",
            values,
        )
        others, places, *row = cursor.fetchone()
    total, first = row[:2]
    pairs = row[2 : 2 + 2 * len(ENTITIES)]
    seen = {name: (pairs[2 * i], pairs[2 * i + 1]) for i, name in enumerate(ENTITIES) if values[name]}
    rest = row[2 + 2 * len(ENTITIES) :]
    windows = [
        {
            "name": name,
            "count": rest[4 * i],
            "sum": int(rest[4 * i + 1]),
            "devices": rest[4 * i + 2],
            "payees": rest[4 * i + 3],
        }
        for i, (name, _) in enumerate(WINDOWS)
    ]
    earlier = [_earlier(each, queues) for each in decoded(others)]
    return Past(seen, windows, total, first, earlier, [_place(each) for each in decoded(places)])


def decoded(value: Any) -> Any:
    """What a statement built as JSON, which some drivers give as text."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


def _earlier(row: dict[str, Any], queues: list[int]) -> Earlier:
    mine = row["queue"] in queues
    return Earlier(
        id=row["id"] if mine else 0,
        at=datetime.fromisoformat(row["at"]),
        disposition=row["disposition"],
        alerts=row["alerts"],
        reason=row["reason"] if mine else "in a queue that is not yours",
    )


def _place(row: dict[str, Any]) -> Place:
    currency = CURRENCY.text(row["currency"])
    text = f"{amount_text(row['amount'], currency)} {currency}"
    return Place(row["id"], datetime.fromisoformat(row["at"]), row["lat"], row["lon"], text)


def facts(
    payment: Transaction, document: dict[str, Any], then: Past, decision_words: str
) -> list[tuple[str, list[Fact]]]:
    """The groups of facts of one payment."""
    sheet = _Sheet(payment, document, then)
    return [
        ("", sheet.payment(decision_words)),
        ("Who and with what", sheet.parties()),
        ("How it was signed", sheet.signing()),
        ("Where and on what", sheet.place()),
    ]


class _Sheet:
    def __init__(self, payment: Transaction, document: dict[str, Any], then: Past):
        self.of = payment
        self.document = document
        self.past = then

    def part(self, *path: str) -> Any:
        """A value of the document, or None."""
        value: Any = self.document
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def payment(self, decision_words: str) -> list[Fact]:
        of = self.of
        amount = f"{amount_text(of.amount, of.currency)} {of.currency}"
        when = timezone.localtime(of.occurred_at).strftime("%d %b %Y %H:%M:%S").lstrip("0")
        kind = spoken(of.type) + (f", {spoken(of.transfer_scheme).lower()}" if of.transfer_scheme else "")
        return [
            Fact("amount", "Amount", amount, f"{kind}, {of.direction}", copy=amount, strong=True),
            Fact("when", "When", when, spoken(of.stage)),
            Fact("external_id", "External id", of.external_id, copy=of.external_id),
            Fact("our_id", "Our id", str(of.pk), copy=str(of.pk)),
            Fact("decision", "Decision", decision_words),
            Fact(
                "reference",
                "Reference",
                "hidden" if self.part("transfer", "remittance") else "",
                spoken(self.part("transfer", "purpose")),
            ),
        ]

    def parties(self) -> list[Fact]:
        of = self.of
        since = self.part("customer", "since")
        balance = self.part("account", "balance_before")
        merchant = self.part("merchant", "name") or self.part("merchant", "id") or ""
        return [
            Fact(
                "customer",
                "Customer",
                masked(of.customer_ref, "CU"),
                _join(spoken(of.segment), since and f"since {since}", of.customer_country),
            ),
            self.seen(
                "Account",
                "account",
                masked(self.part("account", "id"), of.account_country),
                balance and f"balance before {_money(balance)}",
            ),
            self.seen(
                "Card",
                "card",
                self.card(),
                _join(spoken(of.scheme), spoken(of.funding), of.issuer_country, spoken(of.entry_mode)),
            ),
            self.seen(
                "Merchant",
                "merchant",
                merchant,
                _join(self.part("merchant", "city"), of.merchant_country, f"MCC {of.mcc:04d}" if of.mcc >= 0 else ""),
                copy=merchant,
            ),
            self.seen(
                "Payee",
                "counterparty",
                masked(self.part("counterparty", "id"), of.counterparty_country),
                of.vop and f"name match: {spoken(of.vop).lower()}",
            ),
        ]

    def card(self) -> str:
        last4 = self.part("card", "last4")
        return f"•••• {last4}" if last4 else masked(self.part("card", "token"), "token")

    def signing(self) -> list[Fact]:
        of = self.of
        exemption = of.exemption and of.exemption != "none" and f"exemption {spoken(of.exemption).lower()}"
        return [
            Fact(
                "signed",
                "Signed with",
                spoken(of.authentication),
                _join(of.sca and f"SCA {spoken(of.sca).lower()}", exemption),
            ),
            Fact(
                "three_ds",
                "3-D Secure",
                of.three_ds and f"status {of.three_ds}",
                _join(
                    self.part("card", "three_ds", "version"),
                    (eci := self.part("card", "three_ds", "eci")) and f"ECI {eci}",
                ),
            ),
            Fact(
                "checks",
                "Checks",
                _join(of.cvv_result and f"CVV {of.cvv_result}", of.avs_result and f"AVS {of.avs_result}"),
            ),
        ]

    def place(self) -> list[Fact]:
        of = self.of
        device = self.part("device", "id") or ""
        flags = ", ".join(spoken(flag).lower() for flag in self.part("device", "flags") or [])
        session = f"session {length(timedelta(seconds=of.session_age))} old" if of.session_age >= 0 else ""
        point = f"{of.lat:.2f}, {of.lon:.2f}" if of.lat == of.lat and of.lon == of.lon else ""
        return [
            self.seen(
                "Device",
                "device",
                short(device),
                _join(self.part("device", "os"), self.part("device", "app_version"), flags),
                copy=device,
            ),
            self.seen("Network", "ip", network(self.part("device", "ip")), session),
            Fact(
                "channel",
                "Channel",
                spoken(of.channel),
                _join(self.part("merchant", "terminal_id") and f"terminal {self.part('merchant', 'terminal_id')}"),
            ),
            Fact("location", "Location", _join(of.location_country, point), spoken(self.part("location", "source"))),
        ]

    def seen(self, name: str, entity: str, value: str, hint: Any = "", copy: str = "") -> Fact:
        """A fact about something the customer may have used before."""
        key = OF_ENTITY[entity]
        first, times = self.past.seen.get(entity, (None, 0))
        if not value or first is None:
            return Fact(key, name, value, hint or "", copy)
        is_new = self.of.occurred_at - first < NEW
        local = timezone.localtime(first)
        when = local.strftime("%H:%M") if is_new else local.strftime("%d %b %Y").lstrip("0")
        told = f"first seen {when}, {times} {'time' if times == 1 else 'times'}"
        return Fact(key, name, value, hint or "", copy, told, is_new)


def spoken(code: str | None) -> str:
    """A code as people say it."""
    return (code or "").replace("_", " ").capitalize()


def short(token: str, keep: int = 12) -> str:
    """A long identifier by its ends."""
    return token if len(token) <= keep + 4 else f"{token[: keep - 4]}…{token[-4:]}"


def network(address: str | None) -> str:
    """An IP address to its network: /24, or /48 for IPv6."""
    if not address:
        return ""
    width = 24 if ip_address(address).version == 4 else 48
    return str(ip_network(f"{address}/{width}", strict=False))


def _join(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _money(amount: dict[str, Any]) -> str:
    letters = amount.get("currency", "")
    return f"{amount_text(amount.get('value', 0), letters)} {letters}" if letters in EXPONENT else ""
