"""The demo's last days were judged and worked as if live, and an interrupted seed goes on without loss or double."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from alerts.models import Alert
from cases.models import Approval, Case, CaseEvent, Note, QualityReview, Queue, Snippet
from cases.workflow import Status
from fraudsite import demo
from fraudsite.demo_desk import days
from fraudsite.roles import PEOPLE, seed_groups, seed_people
from scoring import training
from scoring.models import Decision, HoldResolution, Release
from scoring.training import Recipe
from tests.scoring.learning import FAST
from transactions.models import ImportJob, Label, Transaction
from transactions.simulator import Bank

PLAN: dict[str, Any] = {"days": 24, "per_day": 120, "recent": 3}


class Killed(Exception):
    """The process ends here."""


@pytest.fixture
def client(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Any:
    """A small bank with its people, its history, profiles and a model in force."""
    settings.MODEL_DIR, settings.PROFILE_DIR = tmp_path / "models", tmp_path / "profiles"
    settings.ATTACHMENT_DIR = tmp_path / "files"

    def small(seed: int) -> Bank:
        bank = Bank(seed, customers=250, merchants=150)
        bank.frauds = 8.0
        return bank

    monkeypatch.setattr(demo, "Bank", small)
    seed_groups()
    seed_people(dict.fromkeys(PEOPLE, "a password of the tests"))
    lane, client = demo.seed_basics()
    job = demo.seed_history(client, **PLAN)
    call_command("build_epoch", lane.name, verbosity=0)
    recipe = Recipe(days=21, maturity_days=3, test_days=6)
    end = job.started_at - timedelta(days=3)
    demo.seed_release(lane, training.train(lane, as_of=end, recipe=recipe, choices=FAST, by="system"))
    return client


def state() -> tuple[int, ...]:
    """How many rows there are of everything that a seed writes."""
    kinds = (Transaction, Decision, Label, Alert, Case, CaseEvent, Note, QualityReview, HoldResolution, Approval)
    return tuple(kind.objects.count() for kind in (*kinds, Release))


def test_the_last_days_are_judged_day_by_day_and_worked(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    history = ImportJob.objects.get()
    assert history.next_row == Transaction.objects.count()
    _interrupted(client, monkeypatch)

    job = demo.seed_recent(client, **PLAN)
    done = state()
    recent = Transaction.objects.filter(intake="live")
    assert job.status == "finished" and job.next_row == 13
    assert recent.count() == Decision.objects.count() == done[0] - history.next_row
    assert all(each.received_at == each.occurred_at for each in recent[:20])
    assert not recent.filter(occurred_at__lt=history.started_at - timedelta(days=3)).exists()
    known = Label.objects.filter(import_job=job.pk)
    assert known.exists() and known.count() == known.values("transaction_id", "verdict", "known_at").distinct().count()
    _each_line_is_dated_when_it_was_so()

    demo.seed_recent(client, **PLAN)
    assert state() == done
    _today_is_laid_out_once(client)
    call_command("verify", client.lane_id, replay=True, all_epochs=True, verbosity=0)  # every kind of row


def _interrupted(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a case's life, and once more between a day's work and what was learnt on it."""
    learn, attempt, ends, steps = demo._learn, days.attempt, count(), count()

    def learn_once(*args: Any) -> None:
        if next(ends) == 1:
            raise Killed
        learn(*args)

    def work_some(*args: Any) -> bool:
        if next(steps) == 5:
            raise Killed
        return attempt(*args)

    monkeypatch.setattr(demo, "_learn", learn_once)
    monkeypatch.setattr(days, "attempt", work_some)
    for _ in range(2):
        with pytest.raises(Killed):
            demo.seed_recent(client, **PLAN)
    # How many cases there are to work in the first stretches hangs on the hour at which the past ends: now.
    assert 1 <= ImportJob.objects.get(kind="labels").next_row < 13


def _each_line_is_dated_when_it_was_so() -> None:
    assert all(
        alert.raised_at == alert.transaction.received_at for alert in Alert.objects.select_related("transaction")
    )
    closed = list(Case.objects.filter(status=Status.CLOSED))
    assert len(closed) > 5 and len({case.closed_by_id for case in closed}) > 1
    for case in Case.objects.all():
        moments = [line.at for line in case.events.order_by("pk")]
        assert case.opened_at < timezone.now() - timedelta(seconds=1) and case.last_alert_at <= moments[-1]
        assert all(one <= other for one, other in pairwise(moments)), case
        assert case.closed_at is None or case.opened_at < case.closed_at <= timezone.now()
    said = Label.objects.filter(source="investigator", import_job=None)
    assert {label.known_at for label in said} <= {line.at for line in CaseEvent.objects.filter(kind="closed")}


def _today_is_laid_out_once(client: Any) -> None:
    past = demo.Past(ImportJob.objects.order_by("pk")[0].started_at, PLAN["days"], PLAN["per_day"])
    demo.seed_today(client, **PLAN, past=past)
    there = Counter(Case.objects.values_list("status", flat=True))
    assert there[Status.IN_REVIEW] and there[Status.CLOSED]
    assert Case.objects.filter(status=Status.IN_REVIEW, lease_until__gt=timezone.now()).exists()
    assert Queue.objects.filter(auto_assign=True).exists() and Snippet.objects.filter(owner=None).exists()
    done = state()
    demo.seed_today(client, **PLAN, past=past)
    assert state() == done


def test_without_people_everything_stays_open(client: Any) -> None:
    demo.get_user_model().objects.all().delete()
    demo.seed_recent(client, **PLAN)
    assert Case.objects.exists() and not Case.objects.exclude(status=Status.NEW).exists()


def test_a_demo_of_a_quarter_learns_from_the_weeks_before_it() -> None:
    assert [demo.recent_days(days) for days in (20, 30, 60, 135, 400)] == [4, 6, 15, 90, 90]
