"""Which queue an alert goes to: the routes of its lane in order, the first that fits wins; else the queues' channels.

Pure functions over alerts, so that a lead sees what a route would take of the last alerts before it is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.models import Alert
from cases.models import Case, CaseAlert, Queue, Route
from transactions.codes import CHANNEL, COUNTRY, CURRENCY, OUTCOME, CodeTable

SAMPLE = 1000  # alerts that a route is tried on
SEEN = ("lane", "seq", "outcome", "score", "amount_base", "channel", "country", "currency", "reasons", "rules")
LISTS: dict[str, str] = {  # condition → how it reads
    "channels": "channel",
    "countries": "country",
    "currencies": "currency",
    "outcomes": "outcome",
    "reason_codes": "reason",
    "rules": "rule",
}
NUMBERS: dict[str, str] = {
    "score_from": "score from",
    "score_below": "score below",
    "amount_from": "amount from",
    "amount_below": "amount below",
}
STOPPED = ("challenge", "review", "decline")
KNOWN: dict[str, CodeTable] = {
    "channels": CHANNEL,
    "countries": COUNTRY,
    "currencies": CURRENCY,
    "outcomes": OUTCOME,
}

Test = Callable[[Any], bool]


class BadConditions(ValueError):
    """Conditions that cannot be; `errors` says what: {name: sentence}."""

    def __init__(self, errors: dict[str, str]):
        super().__init__(" ".join(errors.values()))
        self.errors = errors


# --- conditions -------------------------------------------------------------------------------------------------------


def check(conditions: Any) -> None:
    """Raise BadConditions unless every condition is known, of its kind, and can be met."""
    if not isinstance(conditions, dict):
        raise BadConditions({"conditions": "Conditions are named values."})
    errors = {name: text for name, value in conditions.items() if (text := _complaint(name, value))}
    for name in ("score", "amount"):
        least, most = conditions.get(f"{name}_from"), conditions.get(f"{name}_below")
        if isinstance(least, int) and isinstance(most, int) and least >= most:
            errors[f"{name}_below"] = f"No {name} is both {least} or more and below {most}."
    if errors:
        raise BadConditions(errors)


def _complaint(name: str, value: Any) -> str:
    if name in LISTS:
        return _list_complaint(name, value)
    if name not in NUMBERS:
        return f"There is no condition {name!r}."
    most = 1001 if name.startswith("score") else 2**53
    is_number = type(value) is int and 0 <= value <= most
    return "" if is_number else f"“{NUMBERS[name].capitalize()}” is a whole number, 0 or more."


def _list_complaint(name: str, value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        return f"“{LISTS[name].capitalize()}” is a list of texts; leave it out for any."
    unknown = [each for each in value if name in KNOWN and each not in KNOWN[name]]
    return f"There is no {LISTS[name]} {unknown[0]!r}." if unknown else ""


def test_of(conditions: dict[str, Any]) -> Test:
    """The conditions as one predicate over alerts; without any, it takes every alert."""
    tests = [TESTS[name](value) for name, value in conditions.items() if name in TESTS]
    return lambda alert: all(test(alert) for test in tests)


def _one_of(attribute: str) -> Callable[[list[str]], Test]:
    def among(values: list[str]) -> Test:
        wanted = frozenset(values)
        return lambda alert: getattr(alert, attribute) in wanted

    return among


def _any_of(attribute: str, key: str) -> Callable[[list[str]], Test]:
    """Any of a list of objects; a rule in shadow mode did not speak."""

    def among(values: list[str]) -> Test:
        wanted = frozenset(values)
        return lambda alert: any(
            each.get(key) in wanted and each.get("mode") != "shadow" for each in getattr(alert, attribute)
        )

    return among


TESTS: dict[str, Callable[[Any], Test]] = {
    "channels": _one_of("channel"),
    "countries": _one_of("country"),
    "currencies": _one_of("currency"),
    "outcomes": _one_of("outcome"),
    "reason_codes": _any_of("reasons", "code"),
    "rules": _any_of("rules", "rule"),
    "score_from": lambda least: lambda alert: alert.score >= least,
    "score_below": lambda most: lambda alert: alert.score < most,
    "amount_from": lambda least: lambda alert: alert.amount_base >= least,
    "amount_below": lambda most: lambda alert: alert.amount_base < most,
}


def in_words(conditions: dict[str, Any]) -> str:
    """Conditions as a sentence: "channel is atm or card_present, score from 900"."""
    parts = [f"{LISTS[name]} is {' or '.join(value)}" for name, value in conditions.items() if name in LISTS]
    parts += [f"{NUMBERS[name]} {value:,}" for name, value in conditions.items() if name in NUMBERS]
    return ", ".join(parts) or "every alert"


# --- routing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One route, ready to be asked."""

    id: int | None
    name: str
    queue: Queue
    fits: Test


class Table:
    """How the alerts of one lane find their queues."""

    def __init__(self, queues: Sequence[Queue], routes: Iterable[Route] = ()):
        by_id = {queue.pk: queue for queue in queues}
        self.queues = list(queues)
        self.rules = [
            Rule(route.pk, route.name, by_id[route.queue_id], test_of(route.conditions))
            for route in routes
            if route.is_active and route.queue_id in by_id
        ]

    def rule_of(self, alert: Any) -> Rule | None:
        """The first route that fits."""
        return next((rule for rule in self.rules if rule.fits(alert)), None)

    def queue_of(self, alert: Any) -> Queue:
        """The queue of an alert: of the first route that fits, else the one that names its channel, else the first
        that takes all others."""
        rule = self.rule_of(alert)
        return rule.queue if rule else self.by_channel(alert)

    def by_channel(self, alert: Any) -> Queue:
        """Where an alert goes that no route takes."""
        named = next((queue for queue in self.queues if alert.channel in queue.channels), None)
        return named or next((queue for queue in self.queues if not queue.channels), self.queues[0])


def tables(queues: dict[int, list[Queue]]) -> dict[int, Table]:
    """A table for each lane, with its active routes in order (one query)."""
    routes: dict[int, list[Route]] = {}
    for route in Route.objects.filter(lane__in=list(queues), is_active=True).order_by("position", "pk"):
        routes.setdefault(route.lane_id, []).append(route)
    return {lane: Table(each, routes.get(lane, [])) for lane, each in queues.items()}


# --- trying a route ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What became of a sample of alerts: of how many, how many each route and each queue took."""

    alerts: int
    by_route: dict[int | None, int]
    by_queue: dict[int, int]


def effect(table: Table, alerts: Sequence[Any]) -> Effect:
    """Send a sample through a table. What no route takes counts under 0, a route that is not saved yet under None."""
    routes: Counter[int | None] = Counter()
    queues: Counter[int] = Counter()
    for alert in alerts:
        rule = table.rule_of(alert)
        queue = rule.queue if rule else table.by_channel(alert)
        routes[rule.id if rule else 0] += 1
        queues[queue.pk] += 1
    return Effect(len(alerts), dict(routes), dict(queues))


def last_alerts(lane_id: int) -> list[Alert]:
    """The newest alerts of a lane, by its index: what routes are tried on."""
    return list(Alert.objects.filter(lane=lane_id).only(*SEEN).order_by("-seq")[:SAMPLE])


def standing(lane: Any, alerts: Sequence[Any]) -> Effect:
    """The effect of a lane's routes as they stand; none without a queue."""
    queues = list(Queue.objects.filter(lane=lane).order_by("pk"))
    return effect(tables({lane.pk: queues})[lane.pk], alerts) if queues else Effect(0, {}, {})


def tried(draft: Route, alerts: Sequence[Any]) -> tuple[Effect, Effect]:
    """The effect of the lane's routes as they stand, and with this route added or changed."""
    queues = list(Queue.objects.filter(lane=draft.lane_id).order_by("pk"))
    saved = list(Route.objects.filter(lane=draft.lane_id).order_by("position", "pk"))
    others = [route for route in saved if route.pk != draft.pk]
    changed = sorted([*others, draft], key=lambda route: (route.position, route.pk is None, route.pk or 0))
    return effect(Table(queues, saved), alerts), effect(Table(queues, changed), alerts)


# --- what a case is about ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What the alerts of a case have in common: "Merchant", "Kaufhof Nord", "m-4711"."""

    kind: str
    name: str
    token: str


def subjects(cases: Sequence[Case]) -> dict[int, Subject]:
    """The merchant or device of each incident, from its worst alert; cases of customers are left out. One query."""
    grouped = {case.pk: case.queue.grouping for case in cases if case.queue.grouping != Queue.Grouping.CUSTOMER}
    if not grouped:
        return {}
    document = "alert__transaction__detail__document__"
    rows = CaseAlert.objects.filter(case__in=list(grouped)).order_by("case", "-alert__score", "-pk").distinct("case")
    found = rows.values_list("case", f"{document}merchant", f"{document}device")
    said = {case: subject_of(grouped[case], merchant, device) for case, merchant, device in found}
    return {case: subject for case, subject in said.items() if subject}


def subject_of(kind: str, merchant: dict[str, Any] | None, device: dict[str, Any] | None) -> Subject | None:
    """What a payment says of an incident's subject; None where it does not: such a case stands for its customer."""
    if kind == Queue.Grouping.MERCHANT and merchant:
        token = str(merchant.get("id") or "")
        return Subject("Merchant", str(merchant.get("name") or token), token)
    if kind == Queue.Grouping.DEVICE and device and device.get("id"):
        return Subject("Device", str(device["id"]), str(device["id"]))
    return None
