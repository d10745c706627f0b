"""What is known of an entity, from rows: its payments in windows, who shares it, its cases, lists and verdicts.

Payments of a customer and of a merchant are found by their indexes. Payments with a card, account, device, IP address
or payee are found among those of the customers whom `entity_link` saw with it. Every statement is bounded: an entity
that half the bank uses is told from its newest payments, and the page says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from cases.factsheet import decoded, network, short, spoken
from cases.models import Case, CaseCard
from cases.querysets import kept_from, queues_of, sees_everything, without_kept
from cases.workflow import Status
from scoring.entries import standing
from scoring.models import EntityLink, List, ListEntry
from transactions.codes import ENTITY, OUTCOME, VERDICT, entity_key
from transactions.columns import address_of
from transactions.conditions import canonical_ip
from transactions.masks import masked
from transactions.models import Lane, Transaction, TransactionDetail

NEWEST = 5000  # payments that are looked through
FEWEST = 50  # of each customer who shares the entity, however many share it
MOST_SHARING = 100  # customers whose payments are looked through
MOST_LINKS = 5000  # pairs among which the newest customers are found
MOST_CASES = 50
RECENT = 20
MOST_LINKED = 8  # shown of each kind

KINDS = ("customer", "account", "card", "device", "ip", "merchant", "counterparty")
OWN_INDEX = ("customer", "merchant")
NAMES = {
    "customer": "Customer",
    "account": "Account",
    "card": "Card",
    "device": "Device",
    "ip": "IP address",
    "merchant": "Merchant",
    "counterparty": "Payee",
}
ICONS = {
    "customer": "user-round",
    "account": "wallet",
    "card": "credit-card",
    "device": "smartphone",
    "ip": "globe",
    "merchant": "store",
    "counterparty": "landmark",
}
# Where a payment's document names each of them.
PLACES = {
    "customer": ("customer", "id"),
    "account": ("account", "id"),
    "card": ("card", "token"),
    "device": ("device", "id"),
    "ip": ("device", "ip"),
    "merchant": ("merchant", "id"),
    "counterparty": ("counterparty", "id"),
}
MASKED = ("customer", "account", "card", "ip", "counterparty")
WINDOWS = (("1 h", "1 hour"), ("24 h", "24 hours"), ("7 d", "7 days"), ("30 d", "30 days"), ("90 d", "90 days"))
LONGEST = WINDOWS[-1][1]


class Entity(NamedTuple):
    """Who or what: a kind of KINDS and the key under which facts hold it, in one lane."""

    kind: str
    key: int
    lane: int

    @property
    def pair(self) -> tuple[str, int]:
        return self.kind, self.key

    @property
    def id(self) -> str:
        """As pages and scripts name it."""
        return f"{self.kind}:{self.key}"

    @property
    def title(self) -> str:
        return NAMES[self.kind]

    @property
    def icon(self) -> str:
        return ICONS[self.kind]

    def url(self, page: str = "entity") -> str:
        """The address of its page, or of a part of that."""
        return f"{reverse(f'admin:{page}', args=[self.kind, str(self.key)])}?lane={self.lane}"


@dataclass(frozen=True)
class Name:
    """How an entity reads: masked, in full, and a second line. Both texts are empty once the payment was erased."""

    masked: str = ""
    full: str = ""
    hint: str = ""

    def shown(self, unmasked: bool) -> str:
        return (self.full if unmasked else self.masked) or self.masked


@dataclass(frozen=True)
class Window:
    """Sums over the payments of a time up to now; money in the lane's base currency, minor units."""

    name: str
    count: int
    sum: int
    declined: int
    judged: int
    customers: int
    cards: int
    devices: int
    countries: int
    paid_to: int

    @property
    def decline_rate(self) -> str:
        """Per cent of the judged payments; empty without any."""
        return f"{100 * self.declined / self.judged:.0f} %" if self.judged else ""


@dataclass(frozen=True)
class Known:
    """What the rows say of an entity."""

    payments: int = 0
    customers: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    is_partial: bool = False
    fraud: int = 0
    legitimate: int = 0
    windows: list[Window] = field(default_factory=list)
    recent: list[dict[str, Any]] = field(default_factory=list)
    cases: list[int] = field(default_factory=list)
    newest_payment: int = 0


# --- its payments -----------------------------------------------------------------------------------------------------

# Statements are put together from these constants only; every value travels as a parameter.
_COLUMNS = (
    "id, occurred_at, amount, amount_base, currency, stage, type, channel, customer, card, device, merchant,"
    " counterparty,"
    " coalesce(nullif(location_country, 0), nullif(merchant_country, 0), nullif(counterparty_country, 0)) AS country"
)
_OWN = """
WITH theirs AS MATERIALIZED (
  SELECT {columns} FROM transaction WHERE customer = %(key)s AND lane = %(lane)s
   ORDER BY id DESC LIMIT %(newest)s)"""
_AT_IT = """
WITH theirs AS MATERIALIZED (
  SELECT {columns} FROM payments_of_merchant(%(lane)s::smallint, %(key)s, %(newest)s) AS its (id)
    JOIN transaction USING (id))"""
_SHARED = """
WITH sharing AS MATERIALIZED (
  SELECT customer, seen_at FROM (
    SELECT left_key AS customer, seen_at FROM entity_link
     WHERE lane = %(lane)s AND right_kind = %(code)s AND right_key = %(key)s AND left_kind = 1 LIMIT %(links)s) any_of
   ORDER BY seen_at DESC LIMIT %(sharing)s),
theirs AS MATERIALIZED (
  SELECT t.* FROM sharing s CROSS JOIN LATERAL (
    SELECT {columns}, {kind} AS entity FROM transaction WHERE customer = s.customer AND lane = %(lane)s
     ORDER BY id DESC LIMIT (SELECT greatest(%(fewest)s, %(newest)s / greatest(count(*), 1)) FROM sharing)) t
   WHERE t.entity = %(key)s)"""
_VERDICTS = """
, judged AS MATERIALIZED (
  SELECT t.*, (SELECT d.outcome FROM decision d WHERE d.id = t.id * 64 + 1) AS outcome FROM theirs t
   WHERE t.stage = 1 AND t.occurred_at > %(now)s - interval '{longest}'),
verdicts AS (
  SELECT DISTINCT ON (l.transaction_id) l.verdict FROM theirs t JOIN label l ON l.transaction_id = t.id
   ORDER BY l.transaction_id, l.source DESC, l.known_at DESC, l.id DESC)
SELECT count(*), count(DISTINCT customer), min(occurred_at), max(occurred_at), coalesce(max(id), 0),
       (SELECT count(*) FROM verdicts WHERE verdict = {fraud}),
       (SELECT count(*) FROM verdicts WHERE verdict = {genuine}),
       (SELECT coalesce(jsonb_agg(r), '[]') FROM (
          SELECT t.id, t.customer, t.occurred_at, t.amount, t.currency, t.type, t.channel, a.case_id,
                 (SELECT d.outcome FROM decision d WHERE d.id = t.id * 64 + 1) AS outcome,
                 (SELECT d.score FROM decision d WHERE d.id = t.id * 64 + 1) AS score
            FROM theirs t LEFT JOIN case_alert a ON a.alert_id = t.id
           ORDER BY t.occurred_at DESC, t.id DESC LIMIT %(recent)s) r),
       (SELECT coalesce(jsonb_agg(c.case_id), '[]') FROM (
          SELECT DISTINCT a.case_id FROM theirs t JOIN case_alert a ON a.alert_id = t.id
           ORDER BY a.case_id DESC LIMIT %(most)s) c),
       {windows}
  FROM theirs"""


def _window(width: str) -> str:
    """The sums of one window as an array, from the payments that were judged in the longest one."""
    return (
        "(SELECT ARRAY[count(*), coalesce(sum(amount_base), 0)::bigint, count(*) FILTER (WHERE outcome = "
        f"{OUTCOME.code('decline')}), count(outcome), count(DISTINCT customer), count(DISTINCT nullif(card, 0)),"
        " count(DISTINCT nullif(device, 0)), count(DISTINCT country),"
        " count(DISTINCT nullif(counterparty # merchant, 0))]"
        f" FROM judged WHERE occurred_at > %(now)s - interval '{width}')"
    )


def _statement(kind: str) -> str:
    head = {"customer": _OWN, "merchant": _AT_IT}.get(kind, _SHARED)
    tail = _VERDICTS.replace("{windows}", ",\n       ".join(_window(width) for _, width in WINDOWS))
    return (
        (head + tail)
        .replace("{columns}", _COLUMNS)
        .replace("{kind}", kind)
        .replace("{longest}", LONGEST)
        .replace("{fraud}", str(VERDICT.code("fraud")))
        .replace("{genuine}", str(VERDICT.code("legitimate")))
    )


STATEMENTS = {kind: _statement(kind) for kind in KINDS}


def known(entity: Entity) -> Known:
    """What the rows say of an entity: windows, verdicts, newest payments and cases; two or three statements."""
    values = {
        "key": entity.key,
        "lane": entity.lane,
        "code": ENTITY.code(entity.kind),
        "newest": NEWEST,
        "fewest": FEWEST,
        "sharing": MOST_SHARING,
        "links": MOST_LINKS,
        "recent": RECENT,
        "most": MOST_CASES,
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(STATEMENTS[entity.kind], values)
        payments, customers, first, last, newest, fraud, genuine, recent, cases, *sums = cursor.fetchone()
        first, sharing = _first_seen(cursor, entity, first)
    return Known(
        payments=payments,
        customers=max(customers, sharing),
        first_seen=first,
        last_seen=last,
        is_partial=payments >= NEWEST or sharing > MOST_SHARING,
        fraud=fraud,
        legitimate=genuine,
        windows=[Window(name, *map(int, each)) for (name, _), each in zip(WINDOWS, sums, strict=True)],
        recent=decoded(recent),
        cases=decoded(cases),
        newest_payment=newest,
    )


_OLDEST = {
    "customer": "SELECT occurred_at FROM transaction WHERE customer = %(key)s AND lane = %(lane)s ORDER BY id LIMIT 1",
    "merchant": "SELECT occurred_at FROM payments_of_merchant(%(lane)s::smallint, %(key)s, 1, false) AS its (id)"
    " JOIN transaction USING (id)",
}


def _first_seen(cursor: Any, entity: Entity, first: datetime | None) -> tuple[datetime | None, int]:
    """When it was first seen, and by how many customers (0: not asked); exact, or of the newest pairs of very many."""
    if entity.kind in OWN_INDEX:
        cursor.execute(_OLDEST[entity.kind], {"key": entity.key, "lane": entity.lane})
        row = cursor.fetchone()
        return min(filter(None, (first, row and row[0])), default=None), 0
    cursor.execute(
        "SELECT min(seen_at), count(*) FILTER (WHERE left_kind = 1) FROM (SELECT left_kind, seen_at FROM entity_link"
        " WHERE lane = %s AND right_kind = %s AND right_key = %s LIMIT %s) pairs",
        [entity.lane, ENTITY.code(entity.kind), entity.key, MOST_LINKS],
    )
    seen, sharing = cursor.fetchone()
    return min(filter(None, (first, seen)), default=None), sharing


# --- how it reads -----------------------------------------------------------------------------------------------------


def names(seen_in: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], Name]:
    """The names of entities, given as {(kind, key): a payment that has it}; one statement.

    A document that does not name the entity (erased since) gives none.
    """
    documents = dict(
        TransactionDetail.objects.filter(pk__in=set(seen_in.values())).values_list("transaction_id", "document")
    )
    return {pair: name_in(documents.get(payment) or {}, *pair) for pair, payment in seen_in.items()}


def name_in(document: dict[str, Any], kind: str, key: int) -> Name:
    """The name of the entity of that kind in a payment's document, if it is the one with this key."""
    holder, part = PLACES[kind]
    about = document.get(holder) or {}
    token = about.get(part) or ""
    if not token or key_of(kind, token) != key:
        return Name()
    return _READERS[kind](token, about, document)


def key_of(kind: str, token: str) -> int:
    """The key of a token; of an address in any writing. 0 for what is none."""
    return address_of(token).key if kind == "ip" else entity_key(kind, token)


def _customer(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    since = f"since {about['since']}" if about.get("since") else ""
    return Name(masked(token, "CU"), token, _join(spoken(about.get("segment")), about.get("country"), since))


def _account(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    opened = f"opened {about['opened_at']}" if about.get("opened_at") else ""
    return Name(masked(token, about.get("country", "")), token, opened)


def _card(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    last4 = about.get("last4")
    hint = _join(spoken(about.get("scheme")), spoken(about.get("funding")), about.get("issuer_country"))
    return Name(f"•••• {last4}" if last4 else masked(token, "token"), token, hint)


def _device(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    flags = ", ".join(spoken(flag).lower() for flag in about.get("flags") or [])
    return Name(short(token), token, _join(about.get("os"), about.get("app_version"), flags))


def _ip(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    flags = {"tor": "Tor", "vpn": "VPN", "proxy": "proxy"}
    return Name(network(token), token, _join(*(flags[each] for each in about.get("flags") or [] if each in flags)))


def _merchant(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    mcc = f"MCC {about['mcc']}" if about.get("mcc") else ""
    return Name(about.get("name") or token, token, _join(about.get("city"), about.get("country"), mcc))


def _counterparty(token: str, about: dict[str, Any], document: dict[str, Any]) -> Name:
    return Name(masked(token, about.get("country", "")), token, _join(about.get("bic"), about.get("country")))


_READERS = {
    "customer": _customer,
    "account": _account,
    "card": _card,
    "device": _device,
    "ip": _ip,
    "merchant": _merchant,
    "counterparty": _counterparty,
}


def _join(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


# --- its cases --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A case of an entity as a person may know of it: of another queue's only that it is there."""

    case: Case
    may_read: bool


def cases_of(entity: Entity, ids: Iterable[int], user: Any) -> list[Told]:
    """The entity's cases, open ones first: those its newest payments are in (`ids`), and a customer's own."""
    about = Q(pk__in=list(ids))
    if entity.kind == "customer":
        about |= Q(customer=entity.key, lane=entity.lane)
    seen = without_kept(Case.objects.filter(about), user).select_related("queue", "closed_by", "assignee")
    rows = list(seen.order_by("-id")[:MOST_CASES])
    mine = None if sees_everything(user) else set(queues_of(user).values_list("pk", flat=True))
    rows.sort(key=lambda case: (case.status == Status.CLOSED, -case.pk))
    return [Told(case, mine is None or case.queue_id in mine) for case in rows]


OWNED = ("account", "card")  # who sees one of these sees its customer


def hidden(user: Any, lane: int) -> set[tuple[str, int]]:
    """What the person must not see in a lane: the customers they are kept from, with their accounts and cards.

    One statement for nearly everybody, who is kept from nobody.
    """
    customers = kept_from(user)
    if not customers:
        return set()
    links = EntityLink.objects.filter(lane=lane, left_kind="customer", left_key__in=customers, right_kind__in=OWNED)
    return {("customer", key) for key in customers} | set(links.values_list("right_kind", "right_key"))


def is_kept_from(user: Any, entity: Entity) -> bool:
    """Whether the person must not see this entity: a relative or an own account, or one of their cards."""
    return entity.kind in ("customer", *OWNED) and entity.pair in hidden(user, entity.lane)


# --- what stands on lists ---------------------------------------------------------------------------------------------


def listed(entity: Entity, address: str = "") -> list[ListEntry]:
    """The entries that the entity stands on now; an IP address also by the networks that hold it."""
    lists = list(List.objects.filter(lane=entity.lane, subject=entity.kind).values_list("pk", flat=True))
    if not lists:
        return []
    entries = standing(ListEntry.objects.filter(list__in=lists)).select_related("list")
    if entity.kind != "ip":
        return list(entries.filter(key=entity.key)[:MOST_CASES])
    return list(entries.filter(_holding(address))[:MOST_CASES]) if address else []


def _holding(address: str) -> Q:
    """Networks that hold an address: one term for each length of their prefix, over 128 bits (IPv4 mapped)."""
    told = ip_address(address)
    whole = int(told) | (0xFFFF << 32 if told.version == 4 else 0)
    terms = Q()
    for prefix in range(96 if told.version == 4 else 1, 129):
        cut = whole >> (128 - prefix) << (128 - prefix)
        high, low = (int.from_bytes(part, "big", signed=True) for part in (_bytes(cut)[:8], _bytes(cut)[8:]))
        terms |= Q(prefix=prefix, high=high, low=low)
    return Q(key=0) & terms


def _bytes(bits: int) -> bytes:
    return bits.to_bytes(16, "big")


def listed_keys(lane: int, keys: Iterable[int], kind: str = List.Kind.BLOCK) -> set[tuple[str, int]]:
    """Of many keys those that stand on a list of this kind, as (subject, key)."""
    lists = dict(List.objects.filter(lane=lane, kind=kind).values_list("pk", "subject"))
    if not lists:
        return set()
    found = standing(ListEntry.objects.filter(list__in=list(lists), key__in=list(keys)))
    return {(lists[held], key) for held, key in found.values_list("list", "key")}


# --- whom it was seen with --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbour:
    """Another entity that was seen together with this one."""

    kind: str
    key: int
    payment: int
    seen_at: datetime

    @property
    def pair(self) -> tuple[str, int]:
        return self.kind, self.key


NEIGHBOURS = """
SELECT s.kind, s.key, n.kind, n.key, n.transaction_id, n.seen_at, n.total
  FROM unnest(%(kinds)s::smallint[], %(keys)s::bigint[]) AS s (kind, key)
 CROSS JOIN LATERAL (
   SELECT *, count(*) OVER (PARTITION BY kind) AS total,
          row_number() OVER (PARTITION BY kind ORDER BY seen_at DESC) AS nth
     FROM ((SELECT left_kind AS kind, left_key AS key, transaction_id, seen_at FROM entity_link
             WHERE lane = %(lane)s AND right_kind = s.kind AND right_key = s.key LIMIT %(most)s)
           UNION ALL
           (SELECT right_kind, right_key, transaction_id, seen_at FROM entity_link
             WHERE lane = %(lane)s AND left_kind = s.kind AND left_key = s.key LIMIT %(most)s)) pairs) n
 WHERE n.nth <= %(each)s ORDER BY n.seen_at DESC, n.key"""
MOST_COUNTED = 1000
AT_MERCHANT = """
SELECT customer, min(id), min(occurred_at) FROM (
  SELECT customer, id, occurred_at FROM payments_of_merchant(%(lane)s::smallint, %(key)s, %(newest)s) AS its (id)
    JOIN transaction USING (id)) t
 GROUP BY customer ORDER BY max(id) DESC LIMIT %(most)s"""


def neighbours(
    lane: int, pairs: Iterable[tuple[str, int]], *, each: int
) -> dict[tuple[str, int], tuple[list[Neighbour], int]]:
    """Whom each of these was seen with: at most `each` of a kind, the newest first, and how many there are in all
    (counted up to MOST_COUNTED of a kind). One statement; merchants need one each, see `_at_merchant`.
    """
    asked = list(dict.fromkeys(pairs))
    found: dict[tuple[str, int], tuple[list[Neighbour], int]] = {pair: ([], 0) for pair in asked}
    values = {
        "kinds": [ENTITY.code(kind) for kind, _ in asked],
        "keys": [key for _, key in asked],
        "lane": lane,
        "each": each,
        "most": MOST_COUNTED + 1,
    }
    totals: dict[tuple[str, int], dict[str, int]] = {pair: {} for pair in asked}
    with connection.cursor() as cursor:
        cursor.execute(NEIGHBOURS, values)
        for kind, key, other, its_key, payment, seen_at, total in cursor.fetchall():
            mine = (ENTITY.text(kind), key)
            found[mine][0].append(Neighbour(ENTITY.text(other), its_key, payment, seen_at))
            totals[mine][ENTITY.text(other)] = total
        for pair in asked:
            if pair[0] == "merchant":
                found[pair] = _at_merchant(cursor, lane, pair[1], each)
    counted = {pair: sum(totals[pair].values()) or found[pair][1] for pair in asked}
    return {pair: (rows, counted[pair]) for pair, (rows, _) in found.items()}


def _at_merchant(cursor: Any, lane: int, key: int, each: int) -> tuple[list[Neighbour], int]:
    """The newest customers of a merchant, among its newest payments."""
    values = {"key": key, "lane": lane, "newest": MOST_COUNTED, "most": MOST_COUNTED}
    cursor.execute(AT_MERCHANT, values)
    rows = [Neighbour("customer", customer, payment, at) for customer, payment, at in cursor.fetchall()]
    return rows[:each], len(rows)


def linked(
    entity: Entity, *, each: int = MOST_LINKED, without: Collection[tuple[str, int]] = ()
) -> tuple[dict[str, list[Neighbour]], int]:
    """The entity's neighbours by kind, the newest first, and how many there are in all; none of `without`."""
    rows, total = neighbours(entity.lane, [entity.pair], each=each)[entity.pair]
    by_kind: dict[str, list[Neighbour]] = {}
    for row in rows:
        if row.pair in without:
            total -= 1
        else:
            by_kind.setdefault(row.kind, []).append(row)
    return {kind: by_kind[kind] for kind in KINDS if kind in by_kind}, total


def exists(entity: Entity) -> bool:
    """Whether the lane has seen it."""
    if entity.kind in OWN_INDEX:
        return _newest(entity) is not None
    return EntityLink.objects.filter(lane=entity.lane, right_kind=entity.kind, right_key=entity.key).exists()


_NEWEST = {
    "customer": "SELECT id, occurred_at FROM transaction WHERE customer = %(key)s AND lane = %(lane)s"
    " ORDER BY id DESC LIMIT 1",
    "merchant": "SELECT id, occurred_at FROM payments_of_merchant(%(lane)s::smallint, %(key)s, 1) AS its (id)"
    " JOIN transaction USING (id)",
}


def _newest(entity: Entity) -> tuple[int, datetime] | None:
    """The newest payment of a customer or merchant, and its time."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST[entity.kind], {"key": entity.key, "lane": entity.lane})
        return cursor.fetchone()


# --- finding one ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An entity that a search text names, with a payment that has it."""

    entity: Entity
    payment: int
    seen_at: datetime | None


MOST_FOUND = 25
_BY_LINK = """
SELECT right_kind, right_key, transaction_id, seen_at
  FROM unnest(%(kinds)s::smallint[], %(keys)s::bigint[]) AS s (kind, key)
 CROSS JOIN LATERAL (SELECT right_kind, right_key, transaction_id, seen_at FROM entity_link
   WHERE lane = %(lane)s AND right_kind = s.kind AND right_key = s.key LIMIT 1) l"""


def find(text: str, lanes: Iterable[int]) -> list[Found]:
    """Entities whose identifier is this text, exactly, in these lanes; four digits also find cards by their ending."""
    text = text.strip()
    if not text or len(text) > 128:
        return []
    found: list[Found] = []
    for lane in lanes:
        found += _by_identifier(text, lane)
        if len(text) == 4 and text.isascii() and text.isdigit():
            found += _by_ending(text, lane)
    return found[:MOST_FOUND]


def _by_identifier(text: str, lane: int) -> list[Found]:
    found = []
    for kind in OWN_INDEX:
        entity = Entity(kind, entity_key(kind, text), lane)
        if row := _newest(entity):
            found.append(Found(entity, *row))
    keys = {kind: entity_key(kind, text) for kind in KINDS if kind not in (*OWN_INDEX, "ip")}
    if canonical_ip(text):
        keys["ip"] = address_of(text).key
    values = {"kinds": [ENTITY.code(kind) for kind in keys], "keys": list(keys.values()), "lane": lane}
    with connection.cursor() as cursor:
        cursor.execute(_BY_LINK, values)
        rows = cursor.fetchall()
    return found + [Found(Entity(ENTITY.text(kind), key, lane), payment, at) for kind, key, payment, at in rows]


def _by_ending(last4: str, lane: int) -> list[Found]:
    """Cards of stopped payments by their last four digits, the newest first; no other payment's are kept by ending."""
    alerts = CaseCard.objects.filter(last4=last4).order_by("-row").values_list("row", flat=True)[: 4 * MOST_FOUND]
    rows = Transaction.objects.filter(pk__in=list(alerts), lane=lane).exclude(card=0).order_by("-id")
    found: dict[int, Found] = {}
    for card, payment, at in rows.values_list("card", "id", "occurred_at"):
        found.setdefault(card, Found(Entity("card", card, lane), payment, at))
    return list(found.values())


def lanes_of(user: Any) -> list[int]:
    """The lanes whose entities a person may see: those of their queues; who audits sees all."""
    if sees_everything(user):
        return list(Lane.objects.order_by("pk").values_list("pk", flat=True))
    return list(queues_of(user).order_by("lane").values_list("lane", flat=True).distinct())
