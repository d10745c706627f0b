"""The demo's past: a simulated bank's history with its labels, profiles, a first model, and a quarter that it judged.

Every step asks first whether it is done, so that an interrupted seed goes on where it stopped and a finished one takes
a moment. The history is an import like a bank's own: rows, labels and progress are committed together, and since the
simulated bank follows from its seed, going on means simulating again and skipping what is stored.

The last days come as if they had been live: day by day the lane judges the payments, the people of the desk work the
cases (`demo_desk`), then the lane learns what became known that day. So the pages that look back have something to show
at the first start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
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
from cases.models import CaseAlert
from cases.seeds import seed_close_reasons, seed_queues
from cases.services import open_cases
from fraudsite import pipeline, worked
from fraudsite.demo_desk import house, team
from fraudsite.demo_desk.days import Desk
from fraudsite.demo_desk.today import Today
from fraudsite.roles import seed_groups
from scoring import epochs, releases, seeds
from scoring.lanes import LaneTaken
from scoring.models import Epoch, ModelVersion, Release
from transactions import clock, partitions, querysets, rates
from transactions.models import ApiClient, ImportJob, Lane
from transactions.schema import from_document
from transactions.services import Inserted, LabelIn, insert_labels, prepare, store
from transactions.simulator import FRAUD_TYPE, Bank, Simulated

log = logging.getLogger(__name__)

LANE, CLIENT = "main", "demo bank"
DAYS, PER_DAY, SEED = settings.DEMO_DAYS, settings.DEMO_PER_DAY, 7
BATCH = 2_000
SMALL = 40_000  # payments below which a demo has more frauds than life, or there would be too few to learn from
FRAUDS = 1.2  # how much more of them a demo has than life, or a desk of nine would have little to do
LEARNT = 45  # days before those that are judged, which the first model learns from
OUTBREAK = timedelta(days=3)  # since when one shop charges too much
BUSY, BUSIER = timedelta(days=2), 25.0  # since when fraudsters are at it, and how much more than usual
IN_HOURS, STRETCH = 2, 4  # the last days, lived through in stretches of hours
TALLY_SECONDS = 60.0
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
    return min(settings.DEMO_RECENT, max(days // 5, days - LEARNT))


def _life(start: datetime, days: int, per_day: int) -> Iterator[Simulated]:
    bank = Bank(SEED)  # seconds of work, so not before the first payment is asked for
    bank.frauds = max(bank.frauds, FRAUDS if days * per_day >= SMALL else 3.0)
    end = start + timedelta(days=days)
    bank.outbreak((end - OUTBREAK).timestamp(), end.timestamp(), per_day // 10)
    busy = (end - BUSY).timestamp() if days * per_day >= SMALL else float("inf")
    for simulated in bank.history(start, days, per_day):
        if simulated.at > busy:
            bank.frauds = FRAUDS * BUSIER
        yield simulated


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


@dataclass
class LastDays:
    """What the last days are lived through with. Without a `desk` nobody works their cases."""

    client: ApiClient
    past: Past
    payments: ImportJob
    labels: ImportJob
    keeper: pipeline.Keeper
    desk: Desk | None
    is_judged_elsewhere: bool = False

    def live(self, begin: datetime, end: datetime) -> None:
        """A stretch of time: what was learnt before, its payments judged, its cases worked, what became known in it."""
        with clock.standing_at(end):
            self.judge()
            while batch := self.past.until(end.timestamp(), BATCH):
                _store(self.client, self.payments, batch, None)
            self.judge()
        if self.desk is not None:
            self.desk.work(begin, end)
        _learn(self, begin, end)

    def judge(self) -> None:
        """Judge what is owed with the memory of the day before; a lane that has an owner is judged by it."""
        try:
            self.keeper.work()
        except LaneTaken:
            self.is_judged_elsewhere = True
            log.info("lane %s has an owner, which judges the simulated days at its own time", self.keeper.lane_id)

    def end(self, recent: int, before: datetime) -> None:
        """What is owed after the last day."""
        self.judge()
        _work_off(partial(explain, limit=1000, within=timedelta(days=recent + 2)))
        _work_off(partial(open_cases, since=None))
        if self.is_judged_elsewhere and self.desk is not None:
            self.desk.catch_up(before)
            self.judge()


def seed_recent(
    client: ApiClient,
    *,
    days: int = DAYS,
    per_day: int = PER_DAY,
    recent: int,
    past: Past | None = None,
    progress: Progress | None = None,
) -> ImportJob:
    """The last days as if live: day by day payments judged, cases worked, then what became known; the last in hours.

    The job of the labels counts the stretches that are done: the labels of one and its count are one commit, and what
    comes before them is safe to repeat.
    """
    history = history_job(client, days=days, per_day=per_day, recent=recent)
    payments, labels = _jobs_of_the_last(recent, history)
    if labels.status == ImportJob.Status.FINISHED:
        return labels
    past = past or Past(history.started_at, days, per_day)
    past.skip_to(history.next_row + payments.next_row)
    begin = history.started_at - timedelta(days=recent)
    keeper = pipeline.Keeper(client.lane_id, lambda: False, once=True)
    last = LastDays(client, past, payments, labels, keeper, _desk(client, past, history.started_at))
    moments = _moments(begin, recent)
    for place in range(labels.next_row, len(moments) - 1):
        last.live(*moments[place : place + 2])
        if progress is not None:
            progress(place + 1, len(moments) - 1)
    last.end(recent, history.started_at - timedelta(days=1))
    _finished(payments)
    return _finished(labels)


def _moments(begin: datetime, days: int) -> list[datetime]:
    """Where the stretches begin and end: days, and of the last ones some hours, in which labels come to matter."""
    whole = max(0, days - IN_HOURS)
    each_day = [begin + timedelta(days=day) for day in range(whole)]
    hours = range(0, 24 * (days - whole) + 1, STRETCH)
    return each_day + [begin + timedelta(days=whole, hours=hour) for hour in hours]


def _jobs_of_the_last(recent: int, history: ImportJob) -> tuple[ImportJob, ImportJob]:
    """The imports that the payments and the labels of the last days are."""
    plan, client = f"{history.file_name}: the last {recent}, ", history.client
    payments = _job(client, ImportJob.Kind.TRANSACTIONS, plan + "judged", decide=True)
    return payments, _job(client, ImportJob.Kind.LABELS, plan + "labels")


def _desk(client: ApiClient, past: Past, end: datetime) -> Desk | None:
    """The people who work the cases of the past; None where nobody can sign in as the first of them."""
    people = team.seed(client.lane)
    if people is None:
        return None
    house.set_up(client.lane)
    return Desk(client.lane_id, people, past.frauds, end)


def _learn(last: LastDays, begin: datetime, end: datetime) -> None:
    """One commit: what became known from `begin` until before `end`, and that this day is done."""
    found = [each for at, each in sorted(last.past.known, key=_when) if begin.timestamp() < at <= end.timestamp()]
    ids = querysets.ids_by_external_id(last.client, [each.payment["external_id"] for each in found])
    labels = [_label(each, ids[each.payment["external_id"]]) for each in found]
    if last.desk is not None:
        labels = _said_by_others(labels)
    with atomic(), connection.cursor() as cursor:
        if labels:
            lanes = np.full(len(labels), last.client.lane_id, "i2")
            insert_labels(cursor, labels, lanes, recorded_at=end, job=last.labels.pk)
        done = {"next_row": F("next_row") + 1, "accepted": F("accepted") + len(labels)}
        ImportJob.objects.filter(pk=last.labels.pk).update(**done)


def _said_by_others(labels: list[LabelIn]) -> list[LabelIn]:
    """Without what investigators would say of payments that are in a case: the desk's people say it themselves."""
    theirs = [each.transaction_id for each in labels if each.source == "investigator"]
    in_cases = set(CaseAlert.objects.filter(pk__in=theirs).values_list("pk", flat=True))
    return [each for each in labels if each.source != "investigator" or each.transaction_id not in in_cases]


def _work_off(service: Callable[[], int]) -> None:
    """Call a service that does a part of what is owed until nothing is."""
    while service():
        pass


def _when(known: tuple[float, Simulated]) -> float:
    return known[0]


def seed_today(client: ApiClient, *, days: int = DAYS, per_day: int = PER_DAY, recent: int, past: Past) -> None:
    """The desk as a shift leaves it at this hour, and the dashboards' roll-ups; once, and not without people."""
    people = team.seed(client.lane)
    if people is None or house.is_kept():
        return
    history = history_job(client, days=days, per_day=per_day, recent=recent)
    payments, _ = _jobs_of_the_last(recent, history)
    past.skip_to(history.next_row + payments.next_row)
    Today(client.lane_id, people, past.frauds).lay_out()
    worked.tally(TALLY_SECONDS)
    house.keep(client.lane, people)


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
