"""The demo's last days were judged as if live, and an interrupted seed goes on without loss or double."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from cases.models import Case
from fraudsite import demo
from scoring import training
from scoring.models import Decision
from scoring.training import Recipe
from tests.factories import WORK, make_user
from tests.scoring.learning import FAST
from transactions.models import ImportJob, Label, Transaction
from transactions.simulator import Bank

PLAN: dict[str, Any] = {"days": 24, "per_day": 120, "recent": 3}


class Killed(Exception):
    """The process ends here."""


@pytest.fixture
def client(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Any:
    """A small bank with its history, profiles and a model in force."""
    settings.MODEL_DIR, settings.PROFILE_DIR = tmp_path / "models", tmp_path / "profiles"

    def small(seed: int) -> Bank:
        bank = Bank(seed, customers=250, merchants=150)
        bank.frauds = 8.0
        return bank

    monkeypatch.setattr(demo, "Bank", small)
    lane, client = demo.seed_basics()
    job = demo.seed_history(client, **PLAN)
    call_command("build_epoch", lane.name, verbosity=0)
    recipe = Recipe(days=21, maturity_days=3, test_days=6)
    end = job.started_at - timedelta(days=3)
    demo.seed_release(lane, training.train(lane, as_of=end, recipe=recipe, choices=FAST, by="system"))
    return client


def state() -> tuple[int, int, int, int]:
    """Payments, decisions, labels, cases."""
    return Transaction.objects.count(), Decision.objects.count(), Label.objects.count(), Case.objects.count()


def test_the_last_days_are_judged_day_by_day_and_worked(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user(demo.COLLEAGUE, *WORK)
    demo.seed_basics()
    for queue in client.lane.queues.all():
        queue.members.add(*demo.get_user_model().objects.all())
    history = ImportJob.objects.get()
    assert history.next_row == Transaction.objects.count()

    learn, days = demo._learn, iter(range(10))

    def learn_once(*args: Any) -> None:
        if next(days) == 1:
            raise Killed
        learn(*args)

    monkeypatch.setattr(demo, "_learn", learn_once)
    with pytest.raises(Killed):
        demo.seed_recent(client, **PLAN)
    assert ImportJob.objects.get(kind="labels").next_row == 1

    job = demo.seed_recent(client, **PLAN)
    done = state()
    recent = Transaction.objects.filter(intake="live")
    assert job.status == "finished" and job.next_row == 3
    assert recent.count() == Decision.objects.count() == done[0] - history.next_row
    assert all(each.received_at == each.occurred_at for each in recent[:20])
    assert not recent.filter(occurred_at__lt=history.started_at - timedelta(days=3)).exists()
    known = Label.objects.filter(import_job=job.pk)
    assert known.exists() and known.count() == known.values("transaction_id", "verdict", "known_at").distinct().count()
    closed = Case.objects.filter(status="closed")
    assert closed.exists() and {case.closed_by.username for case in closed} == {demo.COLLEAGUE}

    demo.seed_recent(client, **PLAN)
    assert state() == done
    call_command("verify", client.lane_id, replay=True, all_epochs=True, verbosity=0)  # every kind of row
