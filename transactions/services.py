"""Ingest and labels, both on batches: rows committed first, then the bell (protocol.md, "Ingest" and "Labels").

The order of the first two steps is what the lane's sweep rests on: a transaction takes its xid *before* it draws ids,
so that a fence can tell when no smaller id will appear any more. Keys are inserted in byte order, so that two batches
never wait for each other crosswise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import psycopg2.errors
from django.db import IntegrityError, connection
from django.db.transaction import atomic, on_commit
from django.utils import timezone

from transactions import binary, clock, codes, signals
from transactions.codes import CodeTable
from transactions.columns import Columns, columns_of
from transactions.facts import FACTS, micros, together
from transactions.models import ApiClient
from transactions.problems import FieldError, invalid
from transactions.schema import Payment, body_hash

BULK = 64  # from so many payments on, COPY is tried before keys are inserted one conflict at a time

# --- a batch, ready to be stored --------------------------------------------------------------------------------------


@dataclass
class Prepared:
    """Payments as rows that lack nothing but their ids. Position n of each part is the same payment.

    `facts` has dtype FACTS with id 0; `documents` are canonical JSON; `lane_id` is one for all, the clients stand in
    `facts["client"]` and `client_id` is the first one's. `originals` are the external ids of the payments that some
    clear, refund or reverse, by position; storing the batch finds them (`facts["original"]`).
    """

    lane_id: int
    client_id: int
    facts: np.ndarray
    external_ids: list[str]
    customer_refs: list[str]
    body_hashes: list[bytes]
    documents: list[bytes]
    originals: dict[int, str] = field(default_factory=dict)

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
                self.originals,
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
        if len(batches) == 1:
            return first
        starts = accumulate((len(batch) for batch in batches), initial=0)  # one more than batches
        return cls(
            first.lane_id,
            first.client_id,
            together([batch.facts for batch in batches]),
            [text for batch in batches for text in batch.external_ids],
            [text for batch in batches for text in batch.customer_refs],
            [body_hash for batch in batches for body_hash in batch.body_hashes],
            [document for batch in batches for document in batch.documents],
            {
                start + n: name
                for batch, start in zip(batches, starts, strict=False)
                for n, name in batch.originals.items()
            },
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
            {place: self.originals[n] for place, n in enumerate(chosen) if n in self.originals},
        )


_Packed = tuple[int, int, bytes, list[str], list[str], list[bytes], list[bytes], dict[int, str]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode


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
    base = client.lane.base_currency
    made = columns_of(payments, base=base)
    errors = without_rates(made, base)
    if errors:
        raise invalid(next(iter(errors.values())))
    return rows_of(payments, made, client=client, received_at=received_at, intake=intake, import_job=import_job)


def rows_of(
    payments: Sequence[Payment],
    made: Columns,
    *,
    client: ApiClient,
    received_at: datetime | None,
    intake: str = "live",
    import_job: int = 0,
    documents: list[bytes] | None = None,
) -> Prepared:
    """`prepare` of payments whose columns are made already, and with `documents` also their canonical JSON."""
    columns = made.facts
    columns["lane"], columns["client"], columns["import_job"] = client.lane_id, client.pk, import_job
    columns["intake"] = codes.INTAKE.code(intake)
    columns["received_at"] = columns["occurred_at"] if received_at is None else micros(received_at)
    documents = [payment.canonical for payment in payments] if documents is None else documents
    return Prepared(
        client.lane_id,
        client.pk,
        columns,
        [payment.external_id for payment in payments],
        [payment.customer.id for payment in payments],
        list(map(body_hash, documents)),
        documents,
        made.originals,
    )


def without_rates(made: Columns, base: str) -> dict[int, list[FieldError]]:
    """What is wrong with amounts in currencies that the desk has no rate for, by position."""
    errors: dict[int, list[FieldError]] = {}
    places = {"/amount/currency": made.unrated, "/account/balance_before/currency": made.unrated_balances}
    for pointer, positions in places.items():
        for n in positions:
            told = f"The desk has no rate from this currency to {base}."
            errors.setdefault(n, []).append(FieldError(pointer, "currency-without-rate", told))
    return errors


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

    The columns of `facts` about originals are filled in on the way: the lane judges by them. Waits for other writers of
    the same keys as long as `lock_timeout` allows.
    """
    ids = _draw(cursor, "transaction_id_seq", len(prepared))
    order = key_order(prepared)
    won = _insert_keys(cursor, prepared, ids, order)
    _insert_rows(cursor, prepared, ids, won)
    inserted = Inserted(ids, won, np.zeros(len(prepared), bool))
    if not won.all():
        look_up_losers(cursor, prepared, inserted)
    return inserted


def insert_new(cursor: Any, prepared: Prepared) -> Inserted:
    """Like `insert`, by COPY alone, for payments that are expected to be new. Raises UniqueViolation: roll back,
    `insert`."""
    ids = _draw(cursor, "transaction_id_seq", len(prepared))
    order = key_order(prepared)
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
    draw = "SELECT nextval(%s) FROM generate_series(1, %s)"
    if n >= BULK:
        return binary.fetch(cursor, draw, [sequence, n], _ID)["id"]
    cursor.execute(draw, [sequence, n])
    return np.fromiter((row[0] for row in cursor.fetchall()), "i8", n)


_ID = np.dtype([("id", "i8")])


def key_order(prepared: Prepared) -> list[int]:
    """Positions in byte order of the keys, in which everybody inserts them."""
    clients = prepared.facts["client"].tolist()
    order = sorted(range(len(prepared)), key=prepared.external_ids.__getitem__)  # ASCII: texts compare like bytes
    return order if len(set(clients)) == 1 else sorted(order, key=clients.__getitem__)


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
    if prepared.originals:
        find_originals(cursor, prepared, ids, won)
    chosen = prepared if won.all() else prepared.take(np.flatnonzero(won).tolist())
    rows = chosen.facts.copy()
    rows["id"] = ids[won]
    columns = binary.fixed(rows)
    columns["external_id"] = ("text", chosen.external_ids)
    columns["customer_ref"] = ("text", chosen.customer_refs)
    binary.store(cursor, "transaction", columns)
    binary.store(cursor, "transaction_detail", {"id": ("int8", rows["id"]), "document": ("text", chosen.documents)})


def find_originals(cursor: Any, prepared: Prepared, ids: np.ndarray, won: np.ndarray) -> None:
    """Fill in `original` and `original_at` of the facts, as far as those payments are known now, this batch's own
    among them: where the named one continues another itself, that one.

    The keys of the batch are inserted already, its rows are not: so their times come from the batch.
    """
    clients = prepared.facts["client"].tolist()
    cursor.execute(
        """SELECT client, external_id, id FROM transaction_key
            WHERE lane = %s AND client = ANY(%s) AND external_id = ANY(%s)""",
        [prepared.lane_id, list(set(clients)), list(set(prepared.originals.values()))],
    )
    known = {(client, name): each for client, name, each in cursor.fetchall()}
    named = {n: known.get((clients[n], name), 0) for n, name in prepared.originals.items()}
    own = dict(zip(ids[won].tolist(), np.flatnonzero(won).tolist(), strict=True))
    older = [each for each in known.values() if each not in own]
    found = binary.fetch(cursor, ROOTS_OF, [older], _ROOT) if older else np.empty(0, _ROOT)
    roots = {each: (root, at) for each, root, at in found.tolist()}
    for n in named:
        root, at = _root_of(n, named, own, roots, prepared.facts["occurred_at"])
        if root == ids[n]:  # a payment is not its own original
            root, at = 0, 0
        prepared.facts["original"][n], prepared.facts["original_at"][n] = root, at


def _root_of(
    n: int, named: dict[int, int], own: dict[int, int], roots: dict[int, tuple[int, int]], times: np.ndarray
) -> tuple[int, int]:
    """The first payment of the chain that the one at position `n` continues, and its time; 0 where none is known."""
    passed: set[int] = set()
    each = named[n]
    while each in own and named.get(own[each]) and each not in passed:
        passed.add(each)
        each = named[own[each]]
    if each in passed:  # they name each other in a circle
        return 0, 0
    if each in own:
        return each, int(times[own[each]])
    return roots.get(each, (0, 0))


# What a clearing continues is what its reversal continues too.
ROOTS_OF = """
    SELECT id, CASE WHEN original = 0 THEN id ELSE original END,
           CASE WHEN original = 0 THEN occurred_at ELSE original_at END
      FROM transaction WHERE id = ANY(%s::bigint[])"""
_ROOT = np.dtype([("id", "i8"), ("root", "i8"), ("at", "i8")])


def look_up_losers(cursor: Any, prepared: Prepared, inserted: Inserted) -> None:
    """Give payments that lost their key the id of the winner. A statement of its own: the one before cannot see it."""
    lost = np.flatnonzero(~inserted.won).tolist()
    clients = prepared.facts["client"].tolist()
    cursor.execute(
        """SELECT client, external_id, id, body_hash FROM transaction_key
            WHERE lane = %s AND client = ANY(%s) AND external_id = ANY(%s)""",
        [prepared.lane_id, list({clients[n] for n in lost}), [prepared.external_ids[n] for n in lost]],
    )
    holders = {(client, name): (each, bytes(body_hash)) for client, name, each, body_hash in cursor.fetchall()}
    for n in lost:
        inserted.ids[n], body_hash = holders[clients[n], prepared.external_ids[n]]
        inserted.conflict[n] = body_hash != prepared.body_hashes[n]


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
    recorded_at = recorded_at or clock.now()
    ids = _draw(cursor, "label_id_seq", len(labels))
    columns: dict[str, binary.Column] = {
        "id": ("int8", ids),
        "lane": ("int2", lanes),
        "transaction_id": ("int8", np.array([label.transaction_id for label in labels], "i8")),
        "verdict": ("int2", _codes(codes.VERDICT, (label.verdict for label in labels))),
        "source": ("int2", _codes(codes.LABEL_SOURCE, (label.source for label in labels))),
        "fraud_type": ("int2", _codes(codes.FRAUD_TYPE, (label.fraud_type for label in labels))),
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


def _codes(table: CodeTable, texts: Iterable[str]) -> np.ndarray:
    return np.array([table.codes[text] for text in texts], "i2")


def _lanes_of(cursor: Any, transaction_ids: Sequence[int]) -> dict[int, int]:
    cursor.execute("SELECT id, lane FROM transaction WHERE id = ANY(%s)", [list(transaction_ids)])
    lanes = dict(cursor.fetchall())
    missing = [each for each in transaction_ids if each not in lanes]
    if missing:
        raise UnknownTransaction(missing)
    return lanes
