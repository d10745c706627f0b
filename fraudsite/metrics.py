"""Figures for Prometheus about payments, lanes, alerts, cases, models and tasks (docs/operate.md, Metrics).

Counts are made where things happen and added up through `transactions/tally.py`; states are read from rows at the
scrape. So every web process shows the same page, and a lane pays next to nothing: it hands over the columns of a batch,
and a background thread counts them. Labels name channels, outcomes, clients, rules and versions, never a payment or a
customer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import redis
from celery.signals import task_postrun, task_prerun
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from transactions import ring, tally
from transactions.codes import CHANNEL, OUTCOME

if TYPE_CHECKING:
    from fraudsite.pipeline import Done

log = logging.getLogger(__name__)

SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SCORES = tuple(range(50, 1001, 50))
MOST_WAITING = 20_000  # batches that wait to be counted
TASK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)

COUNTERS = {
    "transactions": "Payments decided by the lanes.",
    "scoring_degraded": "Payments decided without something that should have spoken.",
    "rule_hits": "Payments that a rule hit.",
    "alerts": "Alerts raised.",
    "websocket_messages": "Messages sent to live pages.",
    "websocket_dropped": "Live pushes that were dropped; the pages read the rows instead.",
    "tasks": "Celery tasks ended.",
    "retrain_failures": "Trainings that failed.",
    "metrics_dropped": "Batches that were not counted because counting fell behind.",
    "idempotency_replays": "Payments that were sent again and answered as before.",
    "api_auth_failures": "Requests refused for their key.",
    "api_problems": "Requests to the API that were refused, by the code of the problem.",
    "pan_rejected": "Documents refused because they held a card number.",
}
GAUGES = {"websocket_connections": "Live pages connected."}
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "scoring_duration_seconds": (
        "Seconds by stage; total is from acceptance to decision, others are a batch.",
        SECONDS,
    ),
    "score": ("Public scores given.", SCORES),
    "task_duration_seconds": ("How long Celery tasks took.", TASK_SECONDS),
}


# --- counting, in the lane --------------------------------------------------------------------------------------------


def note(done: Done) -> None:
    """Count a commit of a lane, in the background: it hands over its columns, and batches are counted together."""
    decisions = done.decisions
    if decisions is None or not done.payments:
        return
    if len(_waiting) >= MOST_WAITING:
        tally.add("metrics_dropped")
        return
    facts = decisions.facts
    # Copies: a view would keep the whole batch alive until it is counted.
    columns = (facts["channel"].copy(), facts["client"].copy(), decisions.outcomes, decisions.scores, decisions.mask)
    took = {**done.took, **decisions.took}
    alerts = len(done.alerts["id"][1]) if done.alerts else 0
    _waiting.append((decisions.judge, decisions.degraded, (*columns, decisions.latency(done.decided_at)), took, alerts))
    if not _called.is_set():
        _called.set()
        tally.later(_count_waiting)


Batch = tuple[Any, int, tuple[np.ndarray, ...], dict[str, float], int]  # judge, degraded, columns, seconds, alerts

_waiting: deque[Batch] = deque()
_called = threading.Event()  # whether the counting of what waits is due already


def _count_waiting() -> None:
    """Everything that lanes of this process handed over, by release: a few vector operations for thousands of rows."""
    _called.clear()
    batches = [_waiting.popleft() for _ in range(len(_waiting))]
    groups: dict[tuple[int, int], list[Batch]] = defaultdict(list)
    for batch in batches:
        groups[id(batch[0]), batch[1]].append(batch)
    for group in groups.values():
        judge, degraded = group[0][:2]
        columns = [np.concatenate(column) for column in zip(*(batch[2] for batch in group), strict=True)]
        _count(judge, degraded, *columns)
        for stage in {stage for batch in group for stage in batch[3]}:
            seconds = np.array([batch[3][stage] for batch in group if stage in batch[3]])
            tally.observe("scoring_duration_seconds", SECONDS, seconds, stage=stage)
        if alerts := sum(batch[4] for batch in group):
            tally.add("alerts", alerts, lane=str(judge.lane_id))


def _count(
    judge: Any,
    degraded: int,
    channels: np.ndarray,
    clients: np.ndarray,
    outcomes: np.ndarray,
    scores: np.ndarray,
    mask: np.ndarray,
    latency: np.ndarray,
) -> None:
    from scoring.models import DEGRADED

    each = clients.astype("i8") << 32 | channels.astype("i8") << 16 | outcomes.astype("i8")
    for code, count in zip(*(found.tolist() for found in np.unique(each, return_counts=True)), strict=True):
        channel, outcome = CHANNEL.text(code >> 16 & 0xFFFF), OUTCOME.text(code & 0xFFFF)
        tally.add("transactions", count, channel=channel, outcome=outcome, client=str(code >> 32))
    if degraded:
        tally.add("scoring_degraded", len(outcomes), cause=DEGRADED.text(degraded))
    hits = mask.sum(axis=0, dtype="i8")
    for place in np.flatnonzero(hits).tolist():
        rule = judge.ruleset.rules[place]
        tally.add("rule_hits", int(hits[place]), rule=rule.key, version=str(rule.number), mode=rule.mode)
    tally.observe("scoring_duration_seconds", SECONDS, latency / 1e6, stage="total")
    tally.observe("score", SCORES, scores[scores >= 0], model_version=judge.model_version)


@task_prerun.connect(weak=False)
def start_task(task_id: str = "", **kwargs: Any) -> None:
    """Celery's word that a task begins."""
    if len(_begun) < MOST_WAITING:
        _begun[task_id] = time.monotonic()


@task_postrun.connect(weak=False)
def count_task(sender: Any = None, task_id: str = "", state: str = "", **kwargs: Any) -> None:
    """Celery's word that a task ended."""
    name = str(getattr(sender, "name", "unknown"))
    tally.add("tasks", task=name, state=(state or "unknown").lower())
    begun = _begun.pop(task_id, None)
    if begun is not None:
        tally.observe("task_duration_seconds", TASK_SECONDS, np.array([time.monotonic() - begun]), task=name)


_begun: dict[str, float] = {}


# --- the page ---------------------------------------------------------------------------------------------------------


class Figures(Collector):
    """Counts from Valkey and states from rows, read at the scrape."""

    def describe(self) -> list[Metric]:
        """Nothing in advance: registration must not touch a server."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields the families; what cannot be read is left out, so that the scrape shows the rest."""
        for families in (counted, lanes, cases, models, queues):
            try:
                yield from list(families())
            except (DatabaseError, redis.RedisError, OSError, ring.RingGone) as error:
                log.warning("no figures of %s: %s", families.__name__, type(error).__name__)


def counted() -> Iterator[Metric]:
    """Everything that was tallied."""
    counts, gauges = tally.read()
    clients = _client_names()
    plain: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    buckets: dict[str, dict[tally.Labels, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for (name, labels, part), value in (counts | gauges).items():
        if part:
            buckets[name][labels][part] = value
        else:
            plain[name].append((_told(labels, clients), value))
    for kind, texts in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for name, text in texts.items():
            yield _family(kind, f"fraud_{name}", text, plain.get(name, []))
    for name, (text, bounds) in HISTOGRAMS.items():
        yield _histogram(f"fraud_{name}", text, bounds, buckets.get(name, {}))


def _client_names() -> dict[str, str]:
    from transactions.models import ApiClient

    return {str(pk): name for pk, name in ApiClient.objects.values_list("pk", "name")}


def _told(labels: tally.Labels, clients: dict[str, str]) -> dict[str, str]:
    return {key: clients.get(value, value) if key == "client" else value for key, value in labels}


def _family(
    kind: Callable[..., Any], name: str, text: str, samples: Sequence[tuple[Mapping[str, str], float]]
) -> Metric:
    """A family whose label names are those of its samples."""
    names = sorted({key for labels, _ in samples for key in labels})
    family = kind(name, text, labels=names)
    for labels, value in samples:
        family.add_metric([labels.get(key, "") for key in names], value)
    return family


def _histogram(
    name: str, text: str, bounds: tuple[float, ...], series: dict[tally.Labels, dict[str, float]]
) -> HistogramMetricFamily:
    """Buckets as Prometheus wants them: counted from below."""
    names = sorted({key for labels in series for key, _ in labels})
    family = HistogramMetricFamily(name, text, labels=names)
    for labels, parts in series.items():
        total, cumulated = 0.0, []
        for place in range(len(bounds) + 1):
            total += parts.get(str(place), 0.0)
            cumulated.append((str(bounds[place]) if place < len(bounds) else "+Inf", total))
        family.add_metric([dict(labels).get(key, "") for key in names], cumulated, parts.get("sum", 0.0))
    return family


def lanes() -> Iterator[Metric]:
    """Log position, silence, backlog, memory and faults of each lane, as its owner last said."""
    from scoring.models import LaneCursor, LaneStatus

    positions = [({"lane": name}, seq) for name, seq in LaneCursor.objects.values_list("lane__name", "seq")]
    yield _family(CounterMetricFamily, "fraud_lane_log", "Payments and labels taken in, ever.", positions)
    now = timezone.now()
    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for lane, seen_at, degraded, figures in LaneStatus.objects.values_list(
        "lane__name", "seen_at", "degraded", "figures"
    ):
        label = {"lane": lane}
        found["seen_age_seconds"].append((label, (now - seen_at).total_seconds()))
        found["oldest_owed_seconds"].append((label, figures.get("backlog_age_s") or 0.0))
        found["process_memory_bytes"].append((label, figures.get("memory_bytes") or 0))
        for kind, held in (figures.get("profiles") or {"all": figures.get("profiles_bytes") or 0}).items():
            found["profile_memory_bytes"].append((label | {"kind": kind}, held))
        if degraded:
            found["degraded"].append((label | {"cause": degraded}, 1))
    for name, text in LANE_GAUGES.items():
        yield _family(GaugeMetricFamily, f"fraud_lane_{name}", text, found.get(name, []))


LANE_GAUGES = {
    "seen_age_seconds": "Seconds since the lane's owner reported.",
    "oldest_owed_seconds": "Age of the oldest payment that waits for its decision.",
    "process_memory_bytes": "Largest resident memory of the lane's process.",
    "profile_memory_bytes": "Profiles held by the lane, by kind of entity.",
    "degraded": "1 while the lane judges without something that should speak.",
}


def cases() -> Iterator[Metric]:
    """Open cases and the oldest one of each queue."""
    from cases.models import Case

    found = Case.objects.exclude(status=Case.Status.CLOSED)
    rows = found.values_list("queue__name", "status", "priority").annotate(count=Count("id")).order_by()
    open_ = [({"queue": queue, "status": status, "priority": str(first)}, n) for queue, status, first, n in rows]
    yield _family(GaugeMetricFamily, "fraud_cases_open", "Cases not closed.", open_)
    now = timezone.now()
    oldest = found.values_list("queue__name").annotate(opened=Min("opened_at")).order_by()
    ages = [({"queue": queue}, (now - opened).total_seconds()) for queue, opened in oldest]
    yield _family(GaugeMetricFamily, "fraud_case_oldest_open_age_seconds", "Age of the oldest open case.", ages)
    late = found.filter(breached_at__isnull=False).values_list("queue__name").annotate(count=Count("id")).order_by()
    breached = [({"queue": queue}, n) for queue, n in late]
    yield _family(GaugeMetricFamily, "fraud_cases_overdue", "Open cases past their due date.", breached)


def models() -> Iterator[Metric]:
    """Which model judges where, and when one was trained last."""
    from scoring.models import ModelVersion

    rows = ModelVersion.objects.exclude(stage=ModelVersion.Stage.RETIRED).values_list("lane__name", "version", "stage")
    info = [({"lane": lane, "version": version, "stage": stage}, 1) for lane, version, stage in rows]
    yield _family(GaugeMetricFamily, "fraud_model_info", "Models in use and in waiting.", info)
    latest: dict[str, float] = {}
    for lane, at in ModelVersion.objects.order_by("created_at").values_list("lane__name", "created_at"):
        latest[lane] = at.timestamp()
    last = [({"lane": lane}, at) for lane, at in latest.items()]
    yield _family(
        GaugeMetricFamily, "fraud_retrain_last_success_timestamp_seconds", "When a model was made last.", last
    )


def queues() -> Iterator[Metric]:
    """Messages that wait: doorbells of Celery, rows that wait for each lane."""
    from transactions.models import Lane

    found = list(Lane.objects.values_list("pk", "name"))
    names = ["default", *(f"lane.{pk}" for pk, _ in found)]
    with redis.Redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=0.5) as client:
        lengths = [({"queue": name}, client.llen(name)) for name in names]
    yield _family(GaugeMetricFamily, "fraud_task_queue_length", "Celery messages that wait.", lengths)
    backlog = [({"lane": name}, ring.backlog(pk)) for pk, name in found]
    yield _family(GaugeMetricFamily, "fraud_lane_backlog", "Rows that wait for the lane, about.", backlog)


REGISTRY.register(Figures())


def page(request: HttpRequest) -> HttpResponse:
    """Everything that is registered, this module's figures and those of the libraries, as Prometheus reads it."""
    return ExportToDjangoView(request)
