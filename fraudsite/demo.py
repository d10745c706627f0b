"""The demo's past: a simulated bank's history with its labels, profiles built from it, and a first model.

Every step asks first whether it is done, so that an interrupted seed goes on where it stopped and a finished one takes
a moment. The history is an import like a bank's own: rows, labels and progress are committed together, and since the
simulated bank follows from its seed, going on means simulating again and skipping what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model
from django.utils import timezone

from cases.seeds import seed_close_reasons, seed_queues
from fraudsite.roles import seed_groups
from scoring import epochs, releases, seeds
from scoring.models import Epoch, ModelVersion, Release
from transactions import partitions, rates
from transactions.models import ApiClient, ImportJob, Lane
from transactions.schema import from_document
from transactions.services import Inserted, LabelIn, insert_labels, prepare, store
from transactions.simulator import Bank, Simulated

LANE, CLIENT = "main", "demo bank"
DAYS, PER_DAY, SEED = 75, 1_100, 7
BATCH = 2_000
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


# --- history ----------------------------------------------------------------------------------------------------------


def history_job(client: ApiClient, *, days: int = DAYS, per_day: int = PER_DAY) -> ImportJob:
    """The import that the history is, made at its first call: `started_at` is when the history ends."""
    plan = f"simulated: bank {SEED}, {days} days, {per_day} payments a day"
    job, _ = ImportJob.objects.get_or_create(
        kind=ImportJob.Kind.TRANSACTIONS,
        client=client,
        fingerprint=sha256(plan.encode()).hexdigest(),
        defaults={"lane": client.lane, "file_name": plan},
    )
    return job


def seed_history(
    client: ApiClient, *, days: int = DAYS, per_day: int = PER_DAY, progress: Progress | None = None
) -> ImportJob:
    """Store the simulated history that is not stored yet, each batch with what had become known of it by the end."""
    job = history_job(client, days=days, per_day=per_day)
    if job.status == ImportJob.Status.FINISHED:
        return job
    stream = Bank(SEED).history(job.started_at - timedelta(days=days), days, per_day)
    rest = islice(stream, job.next_row, None)
    while batch := list(islice(rest, BATCH)):
        _store(client, job, batch)
        if progress is not None:
            progress(job.next_row, int(days * per_day * 1.06))
    ImportJob.objects.filter(pk=job.pk).update(status=ImportJob.Status.FINISHED, finished_at=timezone.now())
    job.refresh_from_db()
    return job


def _store(client: ApiClient, job: ImportJob, batch: list[Simulated]) -> None:
    """One commit: payments, their labels, progress."""
    payments = [from_document(each.payment) for each in batch]
    prepared = prepare(payments, client=client, received_at=None, intake="history", import_job=job.pk)

    def also(cursor: Any, inserted: Inserted) -> None:
        labels = list(_labels(batch, inserted.ids, job.started_at))
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
        report = simulated.report
        if report is None or simulated.at + report.delay > end.timestamp():
            continue
        happened = datetime.fromtimestamp(simulated.at, end.tzinfo)
        yield LabelIn(
            transaction_id=transaction_id,
            verdict=report.verdict,
            source=report.source,
            fraud_type=report.fraud_type,
            known_at=happened + timedelta(seconds=report.delay),
            happened_at=happened,
            reason="simulated",
        )


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
    lane: Lane, job: ImportJob, say: Callable[[str], None], progress: Progress | None = None
) -> ModelVersion:
    """The first model, trained as of the end of the history unless one is there already. Raises NoModel."""
    return ModelVersion.objects.filter(lane=lane).order_by("id").first() or _train(lane, job, say, progress)


def _train(lane: Lane, job: ImportJob, say: Callable[[str], None], progress: Progress | None) -> ModelVersion:
    # Imported here: scikit-learn costs seconds, and a second start has its model.
    from scoring import training
    from scoring.estimators import NotTrainable

    recipe = training.Recipe(days=DAYS, maturity_days=10, test_days=14)
    try:
        return training.train(lane, as_of=job.started_at, by="system", recipe=recipe, say=say, progress=progress)
    except (NotTrainable, training.TrainingRunning) as reason:
        raise NoModel(str(reason)) from None


def seed_release(lane: Lane, version: ModelVersion) -> Release:
    """Rules, policy and the first model in force; a lane that has a model in force is left as its people made it."""
    release = seeds.seed(lane, model=version)
    if release.model_id is None and not Release.objects.filter(lane=lane, model__isnull=False).exists():
        release = releases.activate(lane, model=version, by="system", reason="First model, seeded")
    return release
