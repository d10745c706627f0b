"""Ingest and labels, both on batches: rows committed first, then the bell (protocol.md, "Ingest" and "Labels").

The order of the first two steps is what the lane's sweep rests on: a transaction takes its xid *before* it draws ids,
so that a fence can tell when no smaller id will appear any more. Keys are inserted in byte order, so that two batches
never wait for each other crosswise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache, partial
from typing import Any

import msgspec
import numpy as np
import psycopg2.errors
from django.db import IntegrityError, connection
from django.db.transaction import atomic, on_commit
from django.utils import timezone
from msgspec import UNSET

from transactions import binary, codes, facts, rates, signals
from transactions.codes import CodeTable
from transactions.conditions import canonical_ip
from transactions.facts import FACTS, micros
from transactions.models import ABSENT, ABSENT_DAY, ApiClient
from transactions.problems import FieldError, invalid
from transactions.schema import (
    Account,
    Authentication,
    Card,
    Counterparty,
    Device,
    Location,
    Merchant,
    Payment,
    Session,
    Transfer,
)

BULK = 64  # from so many payments on, COPY is tried before keys are inserted one conflict at a time
LONGEST_SESSION = 2**31 - 1
_DAY_ZERO = facts.EPOCH.date().toordinal()

# --- a batch, ready to be stored --------------------------------------------------------------------------------------


@dataclass
class Prepared:
    """Payments as rows that lack nothing but their ids. Position n of each part is the same payment.

    `facts` has dtype FACTS with id 0; `documents` are canonical JSON; `lane_id` is one for all, the clients stand in
    `facts["client"]` and `client_id` is the first one's.
    """

    lane_id: int
    client_id: int
    facts: np.ndarray
    external_ids: list[str]
    customer_refs: list[str]
    body_hashes: list[bytes]
    documents: list[bytes]

    def __len__(self) -> int:
        return len(self.facts)

    def dump(self) -> bytes:
        """The batch as bytes, for the way through Valkey."""
        return _pack(
            (
                self.lane_id,
                self.client_id,
                self.facts.tobytes(),
                self.external_ids,
                self.customer_refs,
                self.body_hashes,
                self.documents,
            )
        )

    @classmethod
    def load(cls, raw: bytes) -> Prepared:
        """The batch that `dump` made. Raises ValueError (msgspec.MsgspecError is one) if it is another layout."""
        parts = _unpack(raw)
        return cls(parts[0], parts[1], np.frombuffer(bytearray(parts[2]), FACTS), *parts[3:])

    @classmethod
    def join(cls, batches: Sequence[Prepared]) -> Prepared:
        """One batch of several batches of the same lane, in their order."""
        first = batches[0]
        return cls(
            first.lane_id,
            first.client_id,
            np.concatenate([batch.facts for batch in batches]),
            [text for batch in batches for text in batch.external_ids],
            [text for batch in batches for text in batch.customer_refs],
            [body_hash for batch in batches for body_hash in batch.body_hashes],
            [document for batch in batches for document in batch.documents],
        )

    def take(self, positions: Iterable[int]) -> Prepared:
        """The payments at `positions`."""
        chosen = list(positions)
        return Prepared(
            self.lane_id,
            self.client_id,
            self.facts[chosen],
            [self.external_ids[n] for n in chosen],
            [self.customer_refs[n] for n in chosen],
            [self.body_hashes[n] for n in chosen],
            [self.documents[n] for n in chosen],
        )


_Packed = tuple[int, int, bytes, list[str], list[str], list[bytes], list[bytes]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode

_key = lru_cache(maxsize=100_000)(codes.entity_key)


def prepare(
    payments: Sequence[Payment],
    *,
    client: ApiClient,
    received_at: datetime | None,
    intake: str = "live",
    import_job: int = 0,
) -> Prepared:
    """Validated payments of one client as rows.

    `received_at` None: each was accepted when it happened (history that is scored as if it had arrived then). Raises
    Problem where the desk has no rate for a currency.
    """
    columns = facts.blank(len(payments))
    columns["lane"], columns["client"], columns["import_job"] = client.lane_id, client.pk, import_job
    columns["intake"] = codes.INTAKE.code(intake)
    columns["occurred_at"] = [micros(payment.occurred_at) for payment in payments]
    columns["received_at"] = columns["occurred_at"] if received_at is None else micros(received_at)
    _fill_money(columns, payments, client.lane.base_currency)
    _fill_payment(columns, payments)
    _fill_card(columns, payments)
    _fill_people(columns, payments)
    _fill_places(columns, payments)
    return Prepared(
        client.lane_id,
        client.pk,
        columns,
        [payment.external_id for payment in payments],
        [payment.customer.id for payment in payments],
        [payment.body_hash for payment in payments],
        [payment.canonical for payment in payments],
    )


def _fill_money(columns: np.ndarray, payments: Sequence[Payment], base: str) -> None:
    columns["amount"] = [payment.amount.value for payment in payments]
    columns["currency"] = _codes(codes.CURRENCY, (payment.amount.currency for payment in payments))
    needed = {payment.amount.currency for payment in payments}
    known = rates.rates_to(base, needed=needed)
    times = columns["occurred_at"].tolist()
    try:
        columns["amount_base"] = [
            known.base_amount(payment.amount.value, payment.amount.currency, at)
            for payment, at in zip(payments, times, strict=True)
        ]
    except rates.NoRate:
        raise _without_rate("/amount/currency", base) from None
    for n, payment in enumerate(payments):
        if payment.account and payment.account.balance_before:
            columns["balance_before"][n] = _balance(payment.account, base, times[n])


def _balance(account: Account, base: str, at: int) -> int:
    if not account.balance_before:
        return ABSENT
    value, currency = account.balance_before.value, account.balance_before.currency
    try:
        return rates.rates_to(base, needed={currency}).base_amount(value, currency, at)
    except rates.NoRate:
        raise _without_rate("/account/balance_before/currency", base) from None


def _without_rate(pointer: str, base: str) -> Exception:
    return invalid(
        [FieldError(pointer, "currency-without-rate", f"The desk has no rate from this currency to {base}.")]
    )


def _fill_payment(columns: np.ndarray, payments: Sequence[Payment]) -> None:
    columns["type"] = _codes(codes.TYPE, (payment.type for payment in payments))
    columns["stage"] = _codes(codes.STAGE, (payment.stage or "authorisation" for payment in payments))
    columns["direction"] = _codes(codes.DIRECTION, (payment.direction or "debit" for payment in payments))
    columns["channel"] = _codes(codes.CHANNEL, (payment.channel or "other" for payment in payments))
    columns["instrument"] = _codes(codes.INSTRUMENT, (payment.means for payment in payments))
    transfers = [payment.transfer or _NO_TRANSFER for payment in payments]
    columns["transfer_scheme"] = _codes(codes.TRANSFER_SCHEME, (one.scheme for one in transfers))
    known = [payment.authentication or _NO_AUTHENTICATION for payment in payments]
    columns["authentication"] = _codes(codes.AUTHENTICATION, (one.method for one in known))
    columns["sca"] = _codes(codes.SCA, (one.sca for one in known))
    columns["exemption"] = _codes(codes.EXEMPTION, (one.exemption for one in known))
    for n, payment in enumerate(payments):
        if payment.session and payment.session.started_at:
            columns["session_age"][n] = _session_age(payment.session, payment.occurred_at)


def _session_age(session: Session, at: datetime) -> int:
    """Seconds; a session that starts after its payment, by a clock that is wrong, counts as 0."""
    if not session.started_at:
        return -1
    return max(0, min(int((at - session.started_at).total_seconds()), LONGEST_SESSION))


def _fill_card(columns: np.ndarray, payments: Sequence[Payment]) -> None:
    cards = [payment.card or _NO_CARD for payment in payments]
    columns["card"] = [_key("card", card.token) if card.token else 0 for card in cards]
    columns["issuer_country"] = _codes(codes.COUNTRY, (card.issuer_country for card in cards))
    columns["scheme"] = _codes(codes.SCHEME, (card.scheme for card in cards))
    columns["funding"] = _codes(codes.FUNDING, (card.funding for card in cards))
    columns["entry_mode"] = _codes(codes.ENTRY_MODE, (card.entry_mode for card in cards))
    columns["cvv_result"] = _codes(codes.RESULT, (card.cvv_result for card in cards))
    columns["avs_result"] = _codes(codes.RESULT, (card.avs_result for card in cards))
    columns["three_ds"] = _codes(codes.THREE_DS, (card.three_ds.status if card.three_ds else UNSET for card in cards))


def _fill_people(columns: np.ndarray, payments: Sequence[Payment]) -> None:
    customers = [payment.customer for payment in payments]
    columns["customer"] = [_key("customer", customer.id) for customer in customers]
    columns["customer_country"] = _codes(codes.COUNTRY, (customer.country for customer in customers))
    columns["segment"] = _codes(codes.SEGMENT, (customer.segment for customer in customers))
    columns["birth_year"] = [customer.birth_year or 0 for customer in customers]
    columns["customer_since"] = [_day(customer.since) for customer in customers]
    accounts = [payment.account or _NO_ACCOUNT for payment in payments]
    columns["account"] = [_key("account", account.id) if account.id else 0 for account in accounts]
    columns["account_country"] = _codes(codes.COUNTRY, (account.country for account in accounts))
    columns["account_opened"] = [_day(account.opened_at) for account in accounts]
    others = [payment.counterparty or _NO_COUNTERPARTY for payment in payments]
    columns["counterparty"] = [_key("counterparty", other.id) if other.id else 0 for other in others]
    columns["counterparty_country"] = _codes(codes.COUNTRY, (other.country for other in others))
    columns["vop"] = _codes(codes.VOP, (other.vop_result for other in others))


def _fill_places(columns: np.ndarray, payments: Sequence[Payment]) -> None:
    merchants = [payment.merchant or _NO_MERCHANT for payment in payments]
    columns["merchant"] = [_key("merchant", merchant.id) if merchant.id else 0 for merchant in merchants]
    columns["terminal"] = [_terminal(merchant) if merchant.terminal_id else 0 for merchant in merchants]
    columns["merchant_country"] = _codes(codes.COUNTRY, (merchant.country for merchant in merchants))
    columns["mcc"] = [int(merchant.mcc) if merchant.mcc else -1 for merchant in merchants]
    devices = [payment.device or _NO_DEVICE for payment in payments]
    columns["device"] = [_key("device", device.id) if device.id else 0 for device in devices]
    columns["ip"] = [_key("ip", canonical_ip(device.ip)) if device.ip else 0 for device in devices]
    columns["device_flags"] = [_flags(device) if device.flags else 0 for device in devices]
    places = [payment.location or _NO_LOCATION for payment in payments]
    columns["location_country"] = _codes(codes.COUNTRY, (place.country for place in places))
    columns["lat"] = [np.nan if place.lat is UNSET else place.lat for place in places]
    columns["lon"] = [np.nan if place.lon is UNSET else place.lon for place in places]


_NO_ACCOUNT, _NO_CARD, _NO_MERCHANT, _NO_COUNTERPARTY = Account(), Card(), Merchant(), Counterparty()
_NO_DEVICE, _NO_LOCATION, _NO_TRANSFER, _NO_AUTHENTICATION = Device(), Location(), Transfer(), Authentication()


def _codes(table: CodeTable, texts: Iterable[Any]) -> list[int]:
    known = _with_unset(table.name)
    return [known[text] for text in texts]


@lru_cache(maxsize=64)
def _with_unset(name: str) -> dict[Any, int]:
    table = next(one for one in vars(codes).values() if isinstance(one, CodeTable) and one.name == name)
    return {**table.codes, UNSET: 0}


def _terminal(merchant: Merchant) -> int:
    """Terminals are numbered by each merchant anew, so the merchant takes part in the key."""
    return _key("terminal", f"{merchant.id}|{merchant.terminal_id}" if merchant.id else merchant.terminal_id)


def _flags(device: Device) -> int:
    return sum(codes.DEVICE_FLAGS[flag] for flag in device.flags or ())


def _day(day: date | Any) -> int:
    return day.toordinal() - _DAY_ZERO if day else ABSENT_DAY


# --- storing ----------------------------------------------------------------------------------------------------------


@dataclass
class Inserted:
    """What became of a batch, by position: the id that each payment's key has now, and how it came by it.

    `won`: stored now. Neither `won` nor `conflict`: it was there with the same body. `conflict`: another body holds the
    key.
    """

    ids: np.ndarray
    won: np.ndarray
    conflict: np.ndarray


def insert(cursor: Any, prepared: Prepared) -> Inserted:
    """Store the payments in the caller's open transaction: protocol "Ingest", steps 1 to 3. Any psycopg2 cursor.

    Waits for other writers of the same keys as long as `lock_timeout` allows.
    """
    ids = _draw(cursor, "transaction_id_seq", len(prepared))
    order = _key_order(prepared)
    won = _insert_keys(cursor, prepared, ids, order)
    _insert_rows(cursor, prepared, ids, won)
    conflict = np.zeros(len(prepared), bool)
    if not won.all():
        _look_up_losers(cursor, prepared, ids, won, conflict)
    return Inserted(ids, won, conflict)


def insert_new(cursor: Any, prepared: Prepared) -> Inserted:
    """Like `insert`, by COPY alone, for payments that are expected to be new. Raises UniqueViolation: roll back,
    `insert`."""
    ids = _draw(cursor, "transaction_id_seq", len(prepared))
    order = _key_order(prepared)
    keys: dict[str, binary.Column] = {
        "id": ("int8", ids[order]),
        "lane": ("int2", prepared.facts["lane"][order]),
        "client": ("int4", prepared.facts["client"][order]),
        "external_id": ("text", [prepared.external_ids[n] for n in order]),
        "body_hash": ("bytea", np.frombuffer(b"".join(prepared.body_hashes), "u1").reshape(-1, 16)[order]),
    }
    binary.store(cursor, "transaction_key", keys)
    won = np.ones(len(prepared), bool)
    _insert_rows(cursor, prepared, ids, won)
    return Inserted(ids, won, ~won)


def _draw(cursor: Any, sequence: str, n: int) -> np.ndarray:
    """`n` fresh ids; the xid first, in a statement of its own, see the module's text."""
    cursor.execute("SELECT pg_current_xact_id()")
    cursor.execute("SELECT nextval(%s) FROM generate_series(1, %s)", [sequence, n])
    return np.fromiter((row[0] for row in cursor.fetchall()), "i8", n)


def _key_order(prepared: Prepared) -> list[int]:
    clients = prepared.facts["client"].tolist()
    names = prepared.external_ids
    return sorted(range(len(prepared)), key=lambda n: (clients[n], names[n].encode()))


def _insert_keys(cursor: Any, prepared: Prepared, ids: np.ndarray, order: list[int]) -> np.ndarray:
    """Insert the keys in byte order; True where the key was free."""
    clients = prepared.facts["client"].tolist()
    cursor.execute(
        """INSERT INTO transaction_key (id, lane, client, external_id, body_hash)
           SELECT id, %s, client, external_id, body_hash
             FROM unnest(%s::bigint[], %s::integer[], %s::varchar[], %s::bytea[])
                  WITH ORDINALITY AS sent (id, client, external_id, body_hash, place)
            ORDER BY place
           ON CONFLICT (lane, client, external_id) DO NOTHING RETURNING id""",
        [
            prepared.lane_id,
            [int(ids[n]) for n in order],
            [clients[n] for n in order],
            [prepared.external_ids[n] for n in order],
            [prepared.body_hashes[n] for n in order],
        ],
    )
    free = {row[0] for row in cursor.fetchall()}
    return np.fromiter((each in free for each in ids.tolist()), bool, len(ids))


def _insert_rows(cursor: Any, prepared: Prepared, ids: np.ndarray, won: np.ndarray) -> None:
    if not won.any():
        return
    chosen = np.flatnonzero(won)
    rows = prepared.facts[chosen]
    rows["id"] = ids[chosen]
    columns = binary.fixed(rows)
    for name in ("occurred_at", "received_at"):
        columns[name] = ("timestamptz", rows[name])
    columns["external_id"] = ("text", [prepared.external_ids[n] for n in chosen])
    columns["customer_ref"] = ("text", [prepared.customer_refs[n] for n in chosen])
    binary.store(cursor, "transaction", columns)
    documents = [prepared.documents[n] for n in chosen]
    binary.store(cursor, "transaction_detail", {"id": ("int8", rows["id"]), "document": ("jsonb", documents)})


def _look_up_losers(cursor: Any, prepared: Prepared, ids: np.ndarray, won: np.ndarray, conflict: np.ndarray) -> None:
    """Give payments that lost their key the id of the winner. A statement of its own: the one before cannot see it."""
    lost = np.flatnonzero(~won).tolist()
    clients = prepared.facts["client"].tolist()
    cursor.execute(
        """SELECT client, external_id, id, body_hash FROM transaction_key
            WHERE lane = %s AND client = ANY(%s) AND external_id = ANY(%s)""",
        [prepared.lane_id, list({clients[n] for n in lost}), [prepared.external_ids[n] for n in lost]],
    )
    holders = {(client, name): (each, bytes(body_hash)) for client, name, each, body_hash in cursor.fetchall()}
    for n in lost:
        ids[n], body_hash = holders[clients[n], prepared.external_ids[n]]
        conflict[n] = body_hash != prepared.body_hashes[n]


# --- ingest -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receipt:
    """What became of one payment: `created` now, or there before; `conflict`: its external id is taken by another
    body."""

    id: int
    external_id: str
    created: bool
    conflict: bool


def ingest(payments: Sequence[Payment], *, client: ApiClient, intake: str = "live") -> list[Receipt]:
    """Keep payments in a commit of their own and ring their lane; a receipt each. Safe to repeat.

    Raises Problem for a currency without a rate, OperationalError if the commit is not known to have happened.
    """
    if not payments:
        return []
    return keep(prepare(payments, client=client, received_at=timezone.now(), intake=intake))


def keep(prepared: Prepared) -> list[Receipt]:
    """`ingest` of a batch that is prepared already."""
    inserted = store(prepared)
    return [
        Receipt(int(inserted.ids[n]), name, bool(inserted.won[n]), bool(inserted.conflict[n]))
        for n, name in enumerate(prepared.external_ids)
    ]


def store(prepared: Prepared, *, also: Callable[[Any, Inserted], None] | None = None) -> Inserted:
    """Commit the batch, together with what `also(cursor, inserted)` writes, and ring.

    Bulk tries COPY first; if a key is taken, everything is rolled back and begins again, with a new xid and new ids.
    """
    if len(prepared) >= BULK:
        try:
            return _commit(prepared, insert_new, also)
        except (IntegrityError, psycopg2.errors.UniqueViolation):
            pass  # some key is taken: the slower way finds out which
    return _commit(prepared, insert, also)


def _commit(
    prepared: Prepared,
    how: Callable[[Any, Prepared], Inserted],
    also: Callable[[Any, Inserted], None] | None,
) -> Inserted:
    with atomic(), connection.cursor() as cursor:
        inserted = how(cursor, prepared)
        if also is not None:
            also(cursor, inserted)
        ring_for(prepared, inserted)
    return inserted


def ring_for(prepared: Prepared, inserted: Inserted) -> None:
    """Ring the lane, after the commit, for the rows that are owed a decision."""
    new = inserted.ids[inserted.won & (prepared.facts["intake"] == codes.INTAKE.code("live"))]
    if len(new):
        on_commit(partial(signals.ring, prepared.lane_id, int(new.min()), int(new.max())), robust=True)


# --- labels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelIn:
    """What became known of a payment. `happened_at` None: when it became known."""

    transaction_id: int
    verdict: str
    source: str
    known_at: datetime
    happened_at: datetime | None = None
    fraud_type: str = ""
    author: str = ""
    reason: str = ""


class UnknownTransaction(Exception):
    """A label speaks of payments that are not there; `ids` names them."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__(f"unknown payments: {list(ids)[:10]}")
        self.ids = list(ids)


@atomic
def record_labels(labels: Sequence[LabelIn]) -> list[int]:
    """Insert label rows and ring their lanes after the commit; their ids. Raises UnknownTransaction.

    The lane takes each row in later, after its payment; a reversal is one more row (verdict "withdrawn").
    """
    if not labels:
        return []
    with connection.cursor() as cursor:
        lanes = _lanes_of(cursor, [label.transaction_id for label in labels])
        rows = np.array([lanes[label.transaction_id] for label in labels], "i2")
        return insert_labels(cursor, labels, rows).tolist()


def insert_labels(
    cursor: Any,
    labels: Sequence[LabelIn],
    lanes: np.ndarray,
    *,
    recorded_at: datetime | None = None,
    job: int | None = None,
) -> np.ndarray:
    """Label rows of known payments, in the caller's transaction; their ids, in order.

    Rings after the commit, but not for an import (`job`): its labels enter by an epoch or by the lane's own sweep.
    """
    recorded_at = recorded_at or timezone.now()
    ids = _draw(cursor, "label_id_seq", len(labels))
    columns: dict[str, binary.Column] = {
        "id": ("int8", ids),
        "lane": ("int2", lanes),
        "transaction_id": ("int8", np.array([label.transaction_id for label in labels], "i8")),
        "verdict": ("int2", np.array(_codes(codes.VERDICT, (label.verdict for label in labels)), "i2")),
        "source": ("int2", np.array(_codes(codes.LABEL_SOURCE, (label.source for label in labels)), "i2")),
        "fraud_type": ("int2", np.array(_codes(codes.FRAUD_TYPE, (label.fraud_type for label in labels)), "i2")),
        "happened_at": ("timestamptz", np.array([micros(label.happened_at or label.known_at) for label in labels])),
        "known_at": ("timestamptz", np.array([micros(label.known_at) for label in labels])),
        "recorded_at": ("timestamptz", micros(recorded_at)),
        "author": ("text", [label.author for label in labels]),
        "reason": ("text", [label.reason for label in labels]),
    }
    if job is not None:
        columns["import_job"] = ("int8", job)
    binary.store(cursor, "label", columns)
    for lane in np.unique(lanes).tolist() if job is None else ():
        own = ids[lanes == lane]
        ring = partial(signals.ring, lane, int(own.min()), int(own.max()), kind=signals.LABELS)
        on_commit(ring, robust=True)
    return ids


def _lanes_of(cursor: Any, transaction_ids: Sequence[int]) -> dict[int, int]:
    cursor.execute("SELECT id, lane FROM transaction WHERE id = ANY(%s)", [list(transaction_ids)])
    lanes = dict(cursor.fetchall())
    missing = [each for each in transaction_ids if each not in lanes]
    if missing:
        raise UnknownTransaction(missing)
    return lanes
