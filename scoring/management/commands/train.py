"""Train a candidate on what is known now. It judges nothing until two persons have proposed and approved it."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scoring import training
from scoring.estimators import NotTrainable
from scoring.management.showing import progress_bar, the_lane


class Command(BaseCommand):
    help = "Train a candidate model for a lane; propose it in the desk (Models) to have it judge."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--lane", help="Name of the lane; needed where there are several.")
        parser.add_argument("--days", type=int, default=training.Recipe.days, help="How far back it learns.")
        parser.add_argument("--test-days", type=int, default=training.Recipe.test_days, help="Days it is measured on.")
        parser.add_argument(
            "--maturity-days",
            type=int,
            default=training.Recipe.maturity_days,
            help="Age from which a payment without a label counts as genuine.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        lane = the_lane(options["lane"])
        recipe = training.Recipe(
            days=options["days"], test_days=options["test_days"], maturity_days=options["maturity_days"]
        )
        try:
            with progress_bar("replaying history") as show:
                version = training.train(
                    lane, by=f"{getpass.getuser()} (command)", recipe=recipe, say=self._say, progress=show
                )
        except (NotTrainable, training.TrainingRunning) as reason:
            raise CommandError(str(reason)) from None
        figures = training.summary(version.metrics["test"])
        self.stdout.write(f"Candidate {version.version} for {lane.name}: {figures}")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
