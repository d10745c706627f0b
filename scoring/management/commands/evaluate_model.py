"""Train and test on stored history as if it were then: prints the figures of each fold, and writes the scores."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scoring import backtest
from scoring.estimators import NotTrainable
from scoring.management.showing import progress_bar, the_lane
from transactions.facts import moment


class Command(BaseCommand):
    help = "Replay stored history through the kernel, train on what was known then, and measure on the time after."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--train-start", type=date.fromisoformat, required=True, help="First day of training, UTC.")
        parser.add_argument("--train-days", type=int, required=True)
        parser.add_argument(
            "--delay-days", type=int, required=True, help="Between training and test; see docs/models.md."
        )
        parser.add_argument("--test-days", type=int, required=True)
        parser.add_argument("--folds", type=int, default=1)
        parser.add_argument(
            "--fold-step-days", type=int, help="From one fold's start to the next; default: --test-days."
        )
        parser.add_argument("--scores", type=Path, help="CSV to write: external_id,occurred_at,score,label")
        parser.add_argument("--lane", help="Name of the lane; needed where there are several.")

    def handle(self, *args: Any, **options: Any) -> None:
        lane = the_lane(options["lane"])
        if min(options["train_days"], options["test_days"], options["folds"]) < 1 or options["delay_days"] < 0:
            raise CommandError("Days and folds must be positive.")
        plan = backtest.folds(
            options["train_start"],
            train=options["train_days"],
            delay=options["delay_days"],
            test=options["test_days"],
            count=options["folds"],
            step=options["fold_step_days"] or options["test_days"],
        )
        outcomes = self._run(lane.pk, plan, timedelta(days=options["delay_days"]))
        if len(outcomes) > 1:
            self._table("mean of the folds", backtest.mean(outcomes), backtest.mean(outcomes, "unknown_before"))
        if options["scores"]:
            with open(options["scores"], "w", encoding="utf-8", newline="") as file:
                rows = backtest.write_scores(file, outcomes)
            self.stdout.write(f"{rows:,} scores written to {options['scores']}")

    def _run(self, lane_id: int, plan: list[backtest.Fold], delay: timedelta) -> list[backtest.Outcome]:
        outcomes = []
        try:
            with progress_bar("replaying payments") as show:
                found = iter(backtest.run(lane_id, plan, delay=delay, progress=show))
                outcomes.append(next(found))
            self._say(1, outcomes[0])
            for number, outcome in enumerate(found, start=2):
                outcomes.append(outcome)
                self._say(number, outcome)
        except NotTrainable as reason:
            raise CommandError(f"Fold {len(outcomes) + 1}: {reason}") from None
        return outcomes

    def _say(self, number: int, outcome: backtest.Outcome) -> None:
        fold = outcome.fold
        days = [f"{moment(at):%Y-%m-%d}" for at in (fold.begin, fold.end, fold.test, fold.stop)]
        title = (
            f"fold {number}: trained {days[0]} to {days[1]} ({outcome.learnt_from:,} payments,"
            f" {outcome.learnt_frauds:,} known frauds), tested {days[2]} to {days[3]}"
        )
        self._table(title, backtest.flat(outcome.figures), backtest.flat(outcome.unknown_before))

    def _table(self, title: str, whole: dict[str, float], unknown: dict[str, float]) -> None:
        self.stdout.write(f"\n{title}")
        self.stdout.write(f"{'':24}{'all payments':>16}{'customers not known before':>30}")
        names = {"auc": "AUC ROC", "average_precision": "average precision", "card_precision_100": "card precision@100"}
        for name, value in whole.items():
            text = "{:,.0f}" if name in ("payments", "frauds") else "{:.4f}"
            other = unknown.get(name, float("nan"))
            self.stdout.write(f"{names.get(name, name):24}{text.format(value):>16}{text.format(other):>30}")
        self.stdout.flush()
