"""The link graph: entities as nodes, shared use as edges. It begins one hop around a case's payments, or an entity.

It reads `entity_link` (who was first seen with whom) and never walks the payments, so that its cost depends on what is
shown, not on what is stored: a fixed number of statements, each over at most `MOST` nodes. The same relations leave
here for the picture and for its table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from cases import entities, sightings
from cases.entities import KINDS, Entity, Name
from cases.models import Case, CaseAlert
from cases.querysets import queues_of, sees_everything
from cases.workflow import Disposition, Status
from transactions.codes import ENTITY, VERDICT

MOST = 150  # nodes; the others are counted
MOST_ALERTS = 50  # of a case, from which the graph begins
AROUND = 30  # neighbours of a kind that a node brings where the graph begins; a click brings all that fit
LOOKED = 100  # newest payments of a customer among which fraud is looked for
PER_LEFT = 300  # links of one node that are tried for edges
RELATIONS = {
    "account": "has the account",
    "card": "pays with",
    "device": "uses",
    "ip": "comes from",
    "merchant": "buys at",
    "counterparty": "pays to",
}
# Which neighbour tells most: a shared payee or device before a shared network.
WEIGHT = {kind: place for place, kind in enumerate(("counterparty", "device", "card", "account", "ip", "merchant"))}

Pair = tuple[str, int]


@dataclass
class Node:
    """One entity of the graph, ready to be shown; `more` counts neighbours that are not."""

    entity: Entity
    label: str = ""
    hint: str = ""
    is_start: bool = False
    is_fraud: bool = False
    is_listed: bool = False
    more: int = 0
    marks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Edge:
    """Two entities that were seen together, since when; `payment` is the first that has both."""

    left: Pair
    right: Pair
    payment: int
    since: datetime | None

    @property
    def relation(self) -> str:
        return "on device" if self.left[0] == "card" and self.right[0] == "device" else RELATIONS[self.right[0]]


@dataclass
class Graph:
    """Nodes by pair, edges, and how many more there would be."""

    lane: int
    most: int = MOST
    hidden: frozenset[Pair] = frozenset()  # whom the reader is kept from
    nodes: dict[Pair, Node] = field(default_factory=dict)
    edges: dict[tuple[Pair, Pair], Edge] = field(default_factory=dict)
    more: int = 0

    def add(self, pair: Pair) -> bool:
        """Whether the node is in; beyond the cap it is not, nor what the reader must not see."""
        if pair not in self.nodes:
            if len(self.nodes) >= self.most or pair in self.hidden:
                return False
            self.nodes[pair] = Node(Entity(*pair, self.lane))
        return True

    def tie(self, one: Pair, other: Pair, payment: int, since: datetime | None) -> None:
        """An edge between two nodes that are in, from the customer's or the card's end; the earliest sighting stays."""
        left, right = (one, other) if _rank(one) <= _rank(other) else (other, one)
        known = self.edges.get((left, right))
        if left in self.nodes and right in self.nodes and left != right and (known is None or payment < known.payment):
            self.edges[left, right] = Edge(left, right, payment, since)

    @property
    def rows(self) -> list[Row]:
        """The edges as the table tells them."""
        edges = self.edges.values()
        return [Row(self.nodes[each.left], each.relation, self.nodes[each.right], each.since) for each in edges]


@dataclass(frozen=True)
class Row:
    """An edge with its two ends, for a table."""

    one: Node
    relation: str
    other: Node
    since: datetime | None


def _rank(pair: Pair) -> int:
    return ("customer", "card", *KINDS).index(pair[0])


# --- where it begins --------------------------------------------------------------------------------------------------


def of_case(case: Case, user: Any, *, most: int = MOST) -> Graph:
    """The case's payments with everything they name, and one hop around that."""
    graph = Graph(case.lane_id, most, frozenset(entities.hidden(user, case.lane_id)))
    payments = _payments(case)
    for payment in payments:
        _begin(graph, payment)
    starts = list(graph.nodes)
    for pair in starts:
        graph.nodes[pair].is_start = True
    _grow(graph, starts, each=AROUND)
    return _finish(graph, user, {payment["id"]: payment for payment in payments})


def around(entity: Entity, user: Any, *, most: int = MOST) -> Graph:
    """One entity and whom it was seen with: where an entity's page begins, and what a click on a node adds."""
    graph = Graph(entity.lane, most, frozenset(entities.hidden(user, entity.lane)))
    graph.add(entity.pair)
    graph.nodes[entity.pair].is_start = True
    _grow(graph, [entity.pair], each=most)
    return _finish(graph, user, {})


def _payments(case: Case) -> list[dict[str, Any]]:
    """The newest alerts' payments, as the keys of what they name."""
    rows = CaseAlert.objects.filter(case=case).order_by("-alert_id")[:MOST_ALERTS]
    columns = [f"alert__transaction__{name}" for name in ("id", "occurred_at", *KINDS)]
    return [dict(zip(("id", "occurred_at", *KINDS), row, strict=True)) for row in rows.values_list(*columns)]


def _begin(graph: Graph, payment: dict[str, Any]) -> None:
    """The nodes of one payment, tied to its customer, and its card to its device."""
    pairs = {kind: (kind, payment[kind]) for kind in KINDS if payment[kind]}
    for pair in pairs.values():
        graph.add(pair)
    for pair in pairs.values():
        graph.tie(pairs["customer"], pair, payment["id"], payment["occurred_at"])
    if "card" in pairs and "device" in pairs:
        graph.tie(pairs["card"], pairs["device"], payment["id"], payment["occurred_at"])


# --- how it grows -----------------------------------------------------------------------------------------------------


def _weight(start: Pair, row: entities.Neighbour) -> int:
    """What comes first: customers who share something, by what they share; then what a customer uses besides."""
    shares = row.kind == "customer"
    return WEIGHT.get(start[0] if shares else row.kind, len(WEIGHT)) + (0 if shares else 10)


def _grow(graph: Graph, starts: list[Pair], *, each: int) -> None:
    """One hop: whom the starts were seen with, those who share something first; what does not fit is counted."""
    found = entities.neighbours(graph.lane, starts, each=each)
    waiting = [
        (_weight(start, row), place, start, row) for start, (rows, _) in found.items() for place, row in enumerate(rows)
    ]
    for _, _, start, row in sorted(waiting, key=lambda line: line[:2]):
        if graph.add(row.pair):
            graph.tie(start, row.pair, row.payment, row.seen_at)
    for start, (rows, total) in found.items():
        shown = sum(row.pair in graph.nodes or row.pair in graph.hidden for row in rows)
        graph.nodes[start].more = max(0, total - shown)
        graph.more += graph.nodes[start].more


AMONG = """
SELECT s.kind, s.key, l.right_kind, l.right_key, l.transaction_id, l.seen_at
  FROM unnest(%(kinds)s::smallint[], %(keys)s::bigint[]) AS s (kind, key)
 CROSS JOIN LATERAL (SELECT right_kind, right_key, transaction_id, seen_at FROM entity_link
   WHERE lane = %(lane)s AND left_kind = s.kind AND left_key = s.key LIMIT %(most)s) l
 WHERE (l.right_kind, l.right_key) IN (
   SELECT r.kind, r.key FROM unnest(%(right_kinds)s::smallint[], %(right_keys)s::bigint[]) AS r (kind, key))"""


def _tie_all(graph: Graph) -> None:
    """Every pair among the nodes that were seen together."""
    left = [pair for pair in graph.nodes if pair[0] in ("customer", "card")]
    right = [pair for pair in graph.nodes if pair[0] not in ("customer", "merchant")]
    if not left or not right:
        return
    values = {
        "lane": graph.lane,
        "most": PER_LEFT,
        "kinds": [ENTITY.code(kind) for kind, _ in left],
        "keys": [key for _, key in left],
        "right_kinds": [ENTITY.code(kind) for kind, _ in right],
        "right_keys": [key for _, key in right],
    }
    with connection.cursor() as cursor:
        cursor.execute(AMONG, values)
        for kind, key, other, its_key, payment, seen_at in cursor.fetchall():
            graph.tie((ENTITY.text(kind), key), (ENTITY.text(other), its_key), payment, seen_at)


# --- what is said of the nodes ----------------------------------------------------------------------------------------


def _finish(graph: Graph, user: Any, payments: dict[int, dict[str, Any]]) -> Graph:
    _tie_all(graph)
    _mark_fraud(graph)
    _mark_listed(graph)
    _mark_cases(graph, user)
    _name(graph, user, payments)
    return graph


def _name(graph: Graph, user: Any, payments: dict[int, dict[str, Any]]) -> None:
    """Labels from the first payment that shows each node, masked unless this person unmasked it just now."""
    seen_in: dict[Pair, int] = dict(_seen_in(payments))
    for edge in graph.edges.values():
        for pair in (edge.left, edge.right):
            seen_in.setdefault(pair, edge.payment)
    told = entities.names({pair: seen_in[pair] for pair in graph.nodes if pair in seen_in})
    shown = sightings.unmasked(user, graph.nodes)
    for pair, node in graph.nodes.items():
        name = told.get(pair, Name())
        node.label = name.shown(pair in shown) or f"{node.entity.title}, erased"
        node.hint = name.hint


def _seen_in(payments: dict[int, dict[str, Any]]) -> Iterable[tuple[Pair, int]]:
    for at, payment in payments.items():
        for kind in KINDS:
            if payment[kind]:
                yield (kind, payment[kind]), at


FRAUDS = f"""
SELECT {", ".join(f"t.{kind}" for kind in KINDS)}
  FROM unnest(%(customers)s::bigint[]) AS c (key)
 CROSS JOIN LATERAL (SELECT * FROM transaction WHERE customer = c.key AND lane = %(lane)s
   ORDER BY id DESC LIMIT %(looked)s) t
 WHERE {VERDICT.code("fraud")} = (SELECT l.verdict FROM label l WHERE l.transaction_id = t.id
   ORDER BY l.source DESC, l.known_at DESC, l.id DESC LIMIT 1)"""


def _mark_fraud(graph: Graph) -> None:
    """Nodes with a payment that is confirmed fraud. A shop is not marked for one stolen card; it only counts them."""
    customers = [key for kind, key in graph.nodes if kind == "customer"]
    counts: dict[Pair, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(FRAUDS, {"customers": customers, "lane": graph.lane, "looked": LOOKED})
        for row in cursor.fetchall():
            for pair in zip(KINDS, row, strict=True):
                counts[pair] = counts.get(pair, 0) + 1
    for pair, count in counts.items():
        if pair in graph.nodes:
            graph.nodes[pair].is_fraud = pair[0] != "merchant"
            graph.nodes[pair].marks.append("1 confirmed fraud" if count == 1 else f"{count} confirmed frauds")


def _mark_listed(graph: Graph) -> None:
    for subject, key in entities.listed_keys(graph.lane, [key for _, key in graph.nodes]):
        if (subject, key) in graph.nodes:
            graph.nodes[subject, key].is_listed = True
            graph.nodes[subject, key].marks.append("on a block list")


def _mark_cases(graph: Graph, user: Any) -> None:
    """Customers with an open or a confirmed case; its number only where the person may read it."""
    customers = [key for kind, key in graph.nodes if kind == "customer"]
    about = ~Q(status=Status.CLOSED) | Q(disposition=Disposition.CONFIRMED_FRAUD)
    rows = Case.objects.filter(about, customer__in=customers, lane=graph.lane).order_by("-id")[: 2 * MOST]
    mine = None if sees_everything(user) else set(queues_of(user).values_list("pk", flat=True))
    for case in rows:
        node = graph.nodes["customer", case.customer]
        number = f" {case.number}" if mine is None or case.queue_id in mine else ""
        if case.status != Status.CLOSED:
            node.marks.append(f"open{number or ' case'}")
        else:
            node.is_fraud = True
            node.marks = [mark for mark in node.marks if "confirmed" not in mark] + [f"confirmed fraud{number}"]


# --- as data ----------------------------------------------------------------------------------------------------------


def as_data(graph: Graph) -> dict[str, Any]:
    """Nodes and edges as static/cases/graph.js takes them."""
    return {
        "nodes": [
            {
                "id": node.entity.id,
                "kind": node.entity.kind,
                "title": node.entity.title,
                "icon": node.entity.icon,
                "label": node.label,
                "hint": node.hint,
                "marks": list(dict.fromkeys(node.marks))[:3],
                "start": node.is_start,
                "fraud": node.is_fraud,
                "listed": node.is_listed,
                "more": node.more,
                "url": node.entity.url(),
                "expand": node.entity.url("entity_links"),
            }
            for node in graph.nodes.values()
        ],
        "edges": [
            {
                "source": f"{edge.left[0]}:{edge.left[1]}",
                "target": f"{edge.right[0]}:{edge.right[1]}",
                "relation": edge.relation,
                "since": timezone.localtime(edge.since).strftime("%d %b %Y").lstrip("0") if edge.since else "",
            }
            for edge in graph.edges.values()
        ],
        "more": graph.more,
        "most": MOST,
        "counted": entities.MOST_COUNTED,
    }
