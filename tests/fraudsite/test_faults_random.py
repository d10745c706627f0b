"""A lane's life by dice: payments, labels, snapshots, epochs and owners in any order, and an error wherever one may be.

Each round draws what happens next, and for the lane's turns whether and where something breaks: the session or the
claim, before the kernel or after it, before COMMIT or after it, the answer to COMMIT lost. Whatever came, at the end
everything is decided once, every invariant and every replay holds, the roll-ups are what counting the rows again
gives, and the memory that the owner has had all along is the memory that a rebuild gives. A seed that ever failed is
added to the list.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from django.conf import settings as configured
from django.core.management import call_command

from fraudsite import pipeline, worked
from scoring import epochs, lanes
from scoring.epochs import UnknownImport
from scoring.lanes import own_lane
from tests.fraudsite.test_faults import NOT_TAKEN_IN, UNDECIDED
from tests.fraudsite.test_tallies import everything
from tests.judging import keep, label, live_rule, rows
from transactions import binary, few, ring
from transactions.models import ApiClient

ROUNDS = 45
STEPS = ("_payments", "_labels", "_log", "_advance", "decide", "_store", "_log_labels", "_link", "_tally")


class Broken(ValueError):
    """What a claim breaks."""


class Life:
    """One lane, its owner, and the dice."""

    def __init__(self, bank: ApiClient, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.bank, self.dice, self.patch = bank, random.Random(seed), patch
        self.ids: list[int] = []
        self.names = iter(range(10_000))
        self.countdown = 0  # steps until something breaks; 0: nothing does
        self.storm = 0  # how often more the claim breaks then, at every other step
        self.keeper = self._owner()
        patch.setattr(pipeline, "STRETCH", 20)
        patch.setattr(binary, "MANY", few.FEW + 1)  # so that COPY and what is done beside it break too
        for step in STEPS:
            patch.setattr(pipeline, step, self._breaking(getattr(pipeline, step)))
        patch.setattr(lanes.Lane, "_end", self._ending(lanes.Lane._end))

    def _owner(self) -> pipeline.Keeper:
        return pipeline.Keeper(self.bank.lane_id, lambda: False, once=True)

    def _break(self) -> None:
        if self.countdown > 0:
            self.countdown -= 1
            if self.countdown == 0:
                raise self.dice.choice([Broken("the claim"), psycopg2.OperationalError("the session")])
        elif self.storm and self.dice.random() < 0.5:
            self.storm -= 1
            raise Broken("the claim, again")

    def _breaking(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*arguments: Any, **named: Any) -> Any:
            if self.dice.random() < 0.5:
                self._break()
            result = step(*arguments, **named)
            self._break()
            return result

        return taken

    def _ending(self, end: Callable[[lanes.Lane, lanes.Commit], None]) -> Callable[[lanes.Lane, lanes.Commit], None]:
        def ended(lane: lanes.Lane, commit: lanes.Commit) -> None:
            self._break()
            end(lane, commit)
            if self.countdown == 1:  # committed, and the answer is lost
                self.countdown = 0
                raise psycopg2.OperationalError("server closed the connection unexpectedly")

        return ended

    # --- what may happen

    def pay(self) -> None:
        """A few or many payments of a few customers, in one commit; now and then nobody is told."""
        n = self.dice.choice([1, 1, 2, 5, 25, 70])
        names = [f"pay-{next(self.names)}" for _ in range(n)]
        stage = self.dice.choice(["authorisation", "authorisation", "clearing"])
        who = f"cus-{self.dice.randrange(3)}"
        self.ids += keep(self.bank, *names, customer__id=who, stage=stage, amount__value=self.dice.randrange(200_00))
        if self.dice.random() < 0.3:
            redis.Redis.from_url(configured.VALKEY_URL).flushdb()

    def say(self) -> None:
        """Labels that agree, contradict or are withdrawn."""
        for _ in range(self.dice.choice([1, 3, 24]) if self.ids else 0):
            verdict = self.dice.choice(["fraud", "fraud", "legitimate", "withdrawn"])
            label(
                self.dice.choice(self.ids[-40:]), verdict, self.dice.choice(["customer", "chargeback", "investigator"])
            )

    def judge(self) -> None:
        """The lane's turn, with an error somewhere, or in two places, or none."""
        self.countdown = self.dice.choice([0, 0, 1, 2, 3, 5, 8, 13])
        self.storm = self.dice.choice([0, 0, 2, 12])
        for _ in range(2):
            try:
                self.keeper.work()
            except (Broken, *pipeline.LOST):  # Broken: while the lane switched to an epoch
                self.countdown = self.dice.choice([0, 2, 7])
        self.countdown = self.storm = 0

    def save(self) -> None:
        """A snapshot by an owner that comes and goes."""
        with own_lane(self.bank.lane_id) as lane:
            lane.save_if_due(now=True)

    def restart(self) -> None:
        """The owner is another process from now on."""
        self.keeper = self._owner()

    def build(self) -> None:
        """The next epoch is built; the owner switches at its next turn."""
        try:
            epochs.build(self.bank.lane_id, reason="by dice")
        except UnknownImport:
            return

    def tally(self) -> None:
        """The beat follows with the dashboards' roll-ups."""
        worked.tally()

    def live(self) -> None:
        acts = [self.pay] * 6 + [self.say] * 4 + [self.judge] * 8 + [self.save, self.restart, self.build, self.tally]
        for _ in range(ROUNDS):
            self.dice.choice(acts)()


@pytest.mark.parametrize("seed", [2, 3])
def test_whatever_happens_in_whatever_order_the_lane_is_whole(
    bank: ApiClient, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path, seed: int
):
    """All of the protocol: owner, judge, sweep, labels, epoch switch, and the invariants."""
    settings.PROFILE_DIR = tmp_path
    live_rule(bank.lane, "amount > 150")
    monkeypatch.setattr(ring, "_rest_until", 0.0)
    with monkeypatch.context() as patch:
        life = Life(bank, seed, patch)
        life.live()
    for _ in range(3):
        life.keeper.work()
    assert rows(UNDECIDED) == [(0,)] and rows(NOT_TAKEN_IN) == [(0,)]
    assert rows("SELECT count(*), count(DISTINCT transaction_id) FROM decision") == [(len(life.ids),) * 2]
    call_command("verify", bank.lane_id, "--replay", "--all-epochs", verbosity=0)
    worked.tally()
    followed = everything()
    assert worked.rebuild() and everything() == followed
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None and life.keeper.memory is not None
        assert lane.memory.digest() == life.keeper.memory.digest()
