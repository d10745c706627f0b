"""The demo's past: a simulated bank's history with its labels, profiles, a first model, and ten days that it judged.

Every step asks first whether it is done, so that an interrupted seed goes on where it stopped and a finished one takes
a moment. The history is an import like a bank's own: rows, labels and progress are committed together, and since the
simulated bank follows from its seed, going on means simulating again and skipping what is stored.

The last days come as if they had been live: day by day the lane judges the payments, then learns what became known that
day; a colleague has closed all cases but those of the last day. So the pages that look back on decisions have something
to show at the first start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F
from django.db.transaction import atomic
from django.utils import timezone

from alerts.services import explain
from cases.models import Case, CaseAlert
from cases.seeds import seed_close_reasons, seed_queues
from cases.services import claim, close_case, open_cases
from cases.workflow import Status
from fraudsite import pipeline
from fraudsite.roles import seed_groups
from scoring import epochs, releases, seeds
from scoring.lanes import LaneTaken
from scoring.models import Epoch, ModelVersion, Release
from transactions import partitions, querysets, rates
from transactions.models import ApiClient, ImportJob, Lane
from transactions.schema import from_document
from transactions.services import Inserted, LabelIn, insert_labels, prepare, store
from transactions.simulator import FRAUD_TYPE, Bank, Simulated

log = logging.getLogger(__name__)

LANE, CLIENT, COLLEAGUE = "main", "demo bank", "investigator2"
DAYS, PER_DAY, SEED = settings.DEMO_DAYS, settings.DEMO_PER_DAY, 7
BATCH = 2_000
SMALL = 40_000  # payments below which a demo has more frauds than life, or there would be too few to learn from
Progress = Callable[[int, int], None]


def seed_basics() -> tuple[Lane, ApiClient]:
    """Room, roles, a lane with its rates, its queues, and the client that the simulator posts as."""
    partitions.extend()
    seed_groups()
    lane, _ = Lane.objects.get_or_create(name=LANE, defaults={"base_currency": "EUR"})
    rates.seed(lane.base_currency)
    seed_close_reasons()
    seed_queues(lane, get_user_model().objects.filter(groups__name__in=("investigator", "analyst", "team_lead")))
    seeds.seed_reason_codes()
    client, _ = ApiClient.objects.get_or_create(name=CLIENT, defaults={"lane": lane})
    return lane, client


def recent_days(days: int) -> int:
    """How many of the last days are judged as if they had been live."""
    return min(10, days // 5)


def _life(start: datetime, days: int, per_day: int) -> Iterator[Simulated]:
    bank = Bank(SEED)  # seconds of work, so not before the first payment is asked for
    if days * per_day < SMALL:
        bank.frauds = max(bank.frauds, 3.0)
    yield from bank.history(start, days, per_day)


class Past:
    """The simulated bank's life, in time order, from one import to the next; what of it becomes known later is kept."""

    def __init__(self, end: datetime, days: int, per_day: int):
        self.stream = _life(end - timedelta(days=days), days, per_day)
        self.row = 0
        self.held: Simulated | None = None
        self.frauds: dict[str, str] = {}  # the fraud type of each fraud by its payment's external id
        self.known: list[tuple[float, Simulated]] = []  # (when it becomes known, payment)

    def until(self, moment: float, most: int) -> list[Simulated]:
        """Up to `most` payments from here on that happened before `moment` (unix seconds)."""
        found: list[Simulated] = []
        while len(found) < most:
            following = self.held or next(self.stream, None)
            self.held = following if following and following.at >= moment else None
            if following is None or self.held:
                break
            found.append(following)
            if following.scenario:
                self.frauds[following.payment["external_id"]] = FRAUD_TYPE[following.scenario]
            if following.report:
                self.known.append((following.at + following.report.delay, following))
        self.row += len(found)
        return found

    def skip_to(self, row: int) -> None:
        """Simulate again what is stored already."""
        while self.row < row and self.until(float("inf"), row - self.row):
            pass


# --- history ----------------------------------------------------------------------------------------------------------


def history_job(client: ApiClient, *, days: int = DAYS, per_day: int = PER_DAY, recent: int = 0) -> ImportJob:
    """The import that the history is, made at its first call: `recent` days after its end is when it started."""
    plan = f"simulated: bank {SEED}, {days} days, {per_day} payments a day"
    return _job(client, ImportJob.Kind.TRANSACTIONS, plan + (f", without the last {recent}" if recent else ""))


def _job(client: ApiClient, kind: str, plan: str, *, decide: bool = False) -> ImportJob:
    job, _ = ImportJob.objects.get_or_create(
        kind=kind,
        client=client,
        fingerprint=sha256(plan.encode()).hexdigest(),
        defaults={"lane": client.lane, "file_name": plan, "decide": decide},
    )
    return job


def seed_history(
    client: ApiClient,
    *,
    days: int = DAYS,
    per_day: int = PER_DAY,
    recent: int = 0,
    past: Past | None = None,
    progress: Progress | None = None,
) -> ImportJob:
    """Store the simulated history that is not stored yet, each batch with what had become known of it by its end.

    The last `recent` of the `days` are left to `seed_recent`, which goes on with the same `past`.
    """
    job = history_job(client, days=days, per_day=per_day, recent=recent)
    if job.status == ImportJob.Status.FINISHED:
        return job
    end = job.started_at - timedelta(days=recent)
    past = past or Past(job.started_at, days, per_day)
    past.skip_to(job.next_row)
    while batch := past.until(end.timestamp() if recent else float("inf"), BATCH):
        _store(client, job, batch, end)
        if progress is not None:
            progress(job.next_row, int((days - recent) * per_day * 1.06))
    return _finished(job)


def _finished(job: ImportJob) -> ImportJob:
    ImportJob.objects.filter(pk=job.pk).update(status=ImportJob.Status.FINISHED, finished_at=timezone.now())
    job.refresh_from_db()
    return job


def _store(client: ApiClient, job: ImportJob, batch: list[Simulated], end: datetime | None) -> None:
    """One commit: payments, their labels known by `end` (None: they come later, and the payments live), progress."""
    payments = [from_document(each.payment) for each in batch]
    intake = "history" if end else "live"
    prepared = prepare(payments, client=client, received_at=None, intake=intake, import_job=job.pk)

    def also(cursor: Any, inserted: Inserted) -> None:
        labels = list(_labels(batch, inserted.ids, end)) if end else []
        if labels:
            insert_labels(cursor, labels, np.full(len(labels), client.lane_id, "i2"), job=job.pk)
        ids = inserted.ids
        cursor.execute(
            """UPDATE transactions_importjob SET next_row = next_row + %s, accepted = accepted + %s,
                      first_id = coalesce(first_id, %s), last_id = %s WHERE id = %s""",
            [len(batch), len(batch), int(ids.min()), int(ids.max()), job.pk],
        )

    store(prepared, also=also)
    job.next_row += len(batch)


def _labels(batch: list[Simulated], ids: np.ndarray, end: datetime) -> Iterator[LabelIn]:
    """What had become known of these payments by `end`."""
    for simulated, transaction_id in zip(batch, ids.tolist(), strict=True):
        if simulated.report and simulated.at + simulated.report.delay <= end.timestamp():
            yield _label(simulated, transaction_id)


def _label(simulated: Simulated, transaction_id: int) -> LabelIn:
    assert simulated.report is not None
    happened = datetime.fromtimestamp(simulated.at, UTC)
    return LabelIn(
        transaction_id=transaction_id,
        verdict=simulated.report.verdict,
        source=simulated.report.source,
        fraud_type=simulated.report.fraud_type,
        known_at=happened + timedelta(seconds=simulated.report.delay),
        happened_at=happened,
        reason="simulated",
    )


# --- the last days, judged --------------------------------------------------------------------------------------------


def seed_recent(
    client: ApiClient,
    *,
    days: int = DAYS,
    per_day: int = PER_DAY,
    recent: int,
    past: Past | None = None,
    progress: Progress | None = None,
) -> ImportJob:
    """The last days as if live: each day its payments judged, then what became known that day; cases at the end.

    The job of the labels counts the days that are done: a day's labels and its count are one commit, and what comes
    before them is safe to repeat.
    """
    history = history_job(client, days=days, per_day=per_day, recent=recent)
    plan = f"{history.file_name}: the last {recent}, "
    payments = _job(client, ImportJob.Kind.TRANSACTIONS, plan + "judged", decide=True)
    labels = _job(client, ImportJob.Kind.LABELS, plan + "labels")
    if labels.status == ImportJob.Status.FINISHED:
        return labels
    past = past or Past(history.started_at, days, per_day)
    past.skip_to(history.next_row + payments.next_row)
    begin = history.started_at - timedelta(days=recent)
    keeper = pipeline.Keeper(client.lane_id, lambda: False, once=True)
    for day in range(labels.next_row, recent):
        end = begin + timedelta(days=day + 1)
        while batch := past.until(end.timestamp(), BATCH):
            _store(client, payments, batch, None)
        _judge(keeper)
        _learn(client, labels, past, end - timedelta(days=1), end)
        if progress is not None:
            progress(day + 1, recent)
    _judge(keeper)
    _work_off(explain)
    _work_off(open_cases)
    _work_cases(client, past, history.started_at - timedelta(days=1))
    _judge(keeper)
    _finished(payments)
    return _finished(labels)


def _judge(keeper: pipeline.Keeper) -> None:
    """Judge what is owed with the memory of the day before; a lane that has an owner is judged by it."""
    try:
        keeper.work()
    except LaneTaken:
        log.info("lane %s has an owner, which judges the simulated days", keeper.lane_id)


def _learn(client: ApiClient, job: ImportJob, past: Past, begin: datetime, end: datetime) -> None:
    """One commit: what became known from `begin` until before `end`, and that this day is done."""
    found = [each for at, each in sorted(past.known, key=_when) if begin.timestamp() < at <= end.timestamp()]
    ids = querysets.ids_by_external_id(client, [each.payment["external_id"] for each in found])
    labels = [_label(each, ids[each.payment["external_id"]]) for each in found]
    with atomic(), connection.cursor() as cursor:
        if labels:
            insert_labels(cursor, labels, np.full(len(labels), client.lane_id, "i2"), job=job.pk)
        ImportJob.objects.filter(pk=job.pk).update(next_row=F("next_row") + 1, accepted=F("accepted") + len(labels))


def _work_cases(client: ApiClient, past: Past, before: datetime) -> None:
    """A colleague has closed the cases of payments made before then; without that person they are all still open."""
    colleague = get_user_model().objects.filter(username=COLLEAGUE).first()
    if colleague is None:
        return
    late = CaseAlert.objects.filter(alert__occurred_at__gte=before).values("case_id")
    to_do = Case.objects.filter(lane=client.lane_id, status__in=(Status.NEW, Status.IN_REVIEW)).exclude(pk__in=late)
    for case in to_do.order_by("pk"):
        alerts = case.case_alerts.select_related("alert__transaction")
        frauds = {each.pk: past.frauds.get(each.alert.transaction.external_id, "") for each in alerts}
        claim(case.pk, colleague)
        close_case(case.pk, by=colleague, **_verdict(frauds))


def _verdict(frauds: dict[int, str]) -> dict[str, Any]:
    """What the colleague found of a case, as `close_case` takes it; `frauds`: the fraud type of each alert or ""."""
    found = sorted(filter(None, frauds.values()))
    if not found:
        said = {"close_reason": "LG-01", "rationale": "Reached by phone; the customer made the payment."}
        return {"disposition": "legitimate"} | said
    return {
        "disposition": "confirmed_fraud",
        "fraud_type": found[0],
        "close_reason": "FR-01",
        "rationale": "Reached by phone; the customer did not make the payment.",
        "verdicts": {alert: "legitimate" for alert, fraud_type in frauds.items() if not fraud_type},
    }


def _work_off(service: Callable[[], int]) -> None:
    """Call a service that does a part of what is owed until nothing is."""
    while service():
        pass


def _when(known: tuple[float, Simulated]) -> float:
    return known[0]


# --- the first model --------------------------------------------------------------------------------------------------


def needs_epoch(lane: Lane, job: ImportJob) -> bool:
    """Whether no epoch of the lane contains the history yet."""
    return not Epoch.objects.filter(lane=lane, imports__contains=[job.pk]).exclude(status=Epoch.Status.FAILED).exists()


def seed_profiles(lane: Lane, progress: Progress) -> Epoch:
    """The lane's profiles after its history, as an epoch that its owner will switch to."""
    return epochs.build(lane.pk, reason="simulated history", progress=lambda at: progress(at.done, at.total))


class NoModel(Exception):
    """The first model could not be trained now; the text says why."""


def seed_model(
    lane: Lane,
    job: ImportJob,
    say: Callable[[str], None],
    progress: Progress | None = None,
    *,
    days: int = DAYS,
    recent: int = 0,
) -> ModelVersion:
    """The first model, trained as of the end of the history unless one is there already. Raises NoModel.

    `days` and `recent` as they were for the history.
    """
    version = ModelVersion.objects.filter(lane=lane).order_by("id").first()
    end = job.started_at - timedelta(days=recent)
    return version or _train(lane, end, days - recent, say, progress)


def _train(lane: Lane, end: datetime, days: int, say: Callable[[str], None], progress: Progress | None) -> ModelVersion:
    # Imported here: scikit-learn costs seconds, and a second start has its model.
    from scoring import training
    from scoring.estimators import NotTrainable

    recipe = training.Recipe(days=days, maturity_days=min(10, days // 6), test_days=min(14, days // 4))
    try:
        return training.train(lane, as_of=end, by="system", recipe=recipe, say=say, progress=progress)
    except (NotTrainable, training.TrainingRunning) as reason:
        raise NoModel(str(reason)) from None


def seed_release(lane: Lane, version: ModelVersion) -> Release:
    """Rules, policy and the first model in force; a lane that has a model in force is left as its people made it."""
    release = seeds.seed(lane, model=version)
    if release.model_id is None and not Release.objects.filter(lane=lane, model__isnull=False).exists():
        release = releases.activate(lane, model=version, by="system", reason="First model, seeded")
    return release
