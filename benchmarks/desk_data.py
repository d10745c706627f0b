"""The desk's data set: a folder with millions of payments, a million closed cases and ten thousand open ones.

    python -m benchmarks.desk_data --state FOLDER [--stored 10_000_000] [--open 10_000] [--closed 1_000_000]
    python -m benchmarks.desk_data --state FOLDER --stored 100_000 --open 100 --closed 10_000       # a hundredth

On what `benchmarks.fill` stores (payments with documents, decisions with the kernel's own vectors, log, pairs,
profiles), some are said to be stopped, with alerts in the same commit; of these `benchmarks.desk_cases` makes cases
with history, labels and ends of holds. The lane then takes in the labels by itself, the model explains what would be
owed an explanation, and the dashboards' roll-ups are counted. Twenty customers make two payments in a hundred, as
companies do, and some merchants are incidents with hundreds of alerts. The same numbers give the same payments, alerts
and cases; what is there already is left, so an interrupted run goes on. Only the scores, reasons and times of people
are made up: `manage.py verify` finds nothing amiss.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import crowd, desk_cases
from benchmarks.crew import crew
from benchmarks.desk_cases import Desk, chance
from benchmarks.fill import Batch, Judge, fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, say

ANALYSTS = 20  # who closed the cases, beside the demo's people
STOPPED_FROM = 500
BUSY = 0.02  # share of the payments that crowd.BUSY customers make
EXPLAINED_AT_ONCE = 1_000
BYTES_EACH = {"payment": 3_000, "case": 5_000}
LOG_BYTES = 9e9
# What an alert says: (code, sentence, source) of each reason, and the rules that hit with their outcome.
STORIES: tuple[tuple[tuple[tuple[str, str, str], ...], tuple[tuple[str, str, str], ...]], ...] = (
    ((("VELOCITY", "7 payments in 10 min; usual 0–1", "rule"),
      ("AMOUNT_UNUSUAL", "1,899.00 EUR; usual 40.00–180.00 EUR", "model")),
     (("B-02", "VELOCITY", "review"),)),
    ((("NEW_DEVICE", "First payment from this device", "model"), ("HIDDEN_ORIGIN", "Through a VPN", "model"),
      ("UNUSUAL_TIME", "Paid at 03:12; usual 08:00–21:00", "model")), ()),
    ((("AMOUNT_UNUSUAL", "4,970.00 EUR; usual 25.00–160.00 EUR", "model"),
      ("ABROAD", "First payment in France", "model")), (("B-05", "AMOUNT_UNUSUAL", "review"),)),
    ((("CARD_TESTING", "9 payments below 5.00 EUR in 10 min", "rule"),
      ("VELOCITY", "11 payments in 1 h; usual 0–2", "model")), (("B-01", "CARD_TESTING", "decline"),)),
    ((("MERCHANT_RISK", "14 known frauds at this merchant in 30 days, of 212 payments", "model"),
      ("NEW_MERCHANT", "First payment at this merchant", "model")), (("B-13", "MERCHANT_RISK", "review"),)),
    ((("IMPOSSIBLE_TRAVEL", "840 km in 22 min", "model"), ("ABROAD", "First payment in France", "model")),
     (("B-06", "IMPOSSIBLE_TRAVEL", "decline"),)),
    ((("DEVICE_RISK", "13 customers and 14 cards seen on this device before", "model"),
      ("KNOWN_FRAUD", "1 known fraud on this card in 30 days, the last one 2 days ago", "model")),
     (("B-09", "DEVICE_RISK", "review"),)),
    ((("SPENDING", "3,120.00 EUR in 24 h; usual 0.00–240.00 EUR", "model"),
      ("SESSION", "Paid 4 s after the session began", "model")), ()),
)  # fmt: skip


class Stopper(Judge):
    """Stops a share of the payments, chosen by their ids, and raises their alerts in the commit of the decisions."""

    busy = BUSY

    def __init__(self, share: float, hold_minutes: int) -> None:
        self.share, self.hold_minutes = share, hold_minutes
        self.reasons = [[_reason(*said) for said in reasons] for reasons, _ in STORIES]
        self.rules = [[_hit(*hit) for hit in rules] for _, rules in STORIES]

    def outcomes(self, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and scores; most of what is stopped scores low, as in life."""
        from transactions.codes import OUTCOME

        outcomes, scores = super().outcomes(facts)
        stopped = chance(facts["id"], 1) < self.share
        high = (STOPPED_FROM + 499 * chance(facts["id"], 2) ** 2).astype("i2")
        words = [OUTCOME.code(word) for word in ("challenge", "review", "decline")]
        said = np.array(words, "i2")[np.searchsorted((560, 850), high, side="right")]
        return np.where(stopped, said, outcomes), np.where(stopped, high, scores)

    def also(self, cursor: Any, batch: Batch, seqs: np.ndarray, outcomes: np.ndarray, scores: np.ndarray) -> None:
        """The alerts of a batch."""
        from alerts.services import alert_rows, stopped
        from transactions import binary

        places = np.flatnonzero(stopped(outcomes))
        if not len(places):
            return
        facts = batch.facts[places]
        kinds = np.dtype([(name, "i8") for name in ("id", "seq", "decided_at", "outcome", "score")])
        columns = (facts["id"] * 64 + 1, seqs[places], facts["received_at"] + 10_000, outcomes[places], scores[places])
        decisions = np.rec.fromarrays([np.asarray(column, "i8") for column in columns], dtype=kinds)
        stories = (chance(facts["id"], 4) * len(STORIES)).astype(int).tolist()
        refs = batch.customer_refs[places]
        texts = np.ascontiguousarray(refs).view(f"S{refs.shape[1]}").ravel().astype(str).tolist()
        rows = alert_rows(
            facts, decisions, customer_refs=texts, reasons=[self.reasons[story] for story in stories],
            rules=[self.rules[story] for story in stories], hold_minutes=self.hold_minutes,
        )  # fmt: skip
        binary.store(cursor, "alert", rows)


def _reason(code: str, text: str, source: str) -> dict[str, Any]:
    return {"code": code, "text": text, "source": source, "contribution": 0.0 if source == "rule" else 0.8}


def _hit(rule: str, code: str, outcome: str) -> dict[str, Any]:
    text = code.replace("_", " ").capitalize()
    return {
        "rule": rule, "name": rule, "version": 1, "mode": "live", "weight": 100, "outcome": outcome, "code": code,
        "text": text, "expression": "amount >= 500", "values": {"amount": 1899.0}, "said": ["amount 1,899.00 EUR"],
    }  # fmt: skip


# --- the steps --------------------------------------------------------------------------------------------------------


class Clock:
    """How long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def step(self, name: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Do it and note the time."""
        say(f"{name} …")
        began = time.monotonic()
        found = work(*given, **named)
        self.seconds[name] = round(time.monotonic() - began, 1)
        return found


def make(ground: Ground, stored: int, open_cases: int, closed_cases: int, *, tally: bool = True) -> Result:
    """Bring a folder to so many decided payments and cases; what it took. The desk must not be running."""
    clock, wanted = Clock(), open_cases + closed_cases
    _check_room(ground, stored, wanted)
    crew(ground, ANALYSTS)
    missing = wanted - _count(ground, '"case"')
    judge = _stopper(ground, stored, open_cases, closed_cases) if missing > 0.01 * wanted else None
    filled = clock.step("payments", fill, ground, stored, payload="full", judge=judge)
    if judge:
        cases = clock.step("cases", _cases, ground, open_cases, closed_cases)
        clock.step("labels taken in by the lane", _take_labels, ground)
        clock.step("explanations", explain, ground)
        clock.step("statistics", _vacuum, ground)
    else:
        cases = 0
    if tally:
        clock.step("roll-ups", ground.manage, "tally_desk", seconds=3 * 3_600)
    else:
        _count_from_here(ground)
    took = sum(clock.seconds.values())
    return {
        "payments": filled, "cases": cases, "seconds": round(took), "by_step": clock.seconds,
        "payments_per_second": round(filled / max(0.1, clock.seconds["payments"])),
        "cases_per_second": round(cases / max(0.1, clock.seconds.get("cases", 0.0))),
        "gigabytes": _gigabytes(ground),
    }  # fmt: skip


def _check_room(ground: Ground, stored: int, cases: int) -> None:
    """Refuse what would fill the disk: rows, their indexes, and Postgres' log beside them."""
    missing = max(0, stored * BYTES_EACH["payment"] + cases * BYTES_EACH["case"] - 1e9 * _gigabytes(ground))
    free, needed = shutil.disk_usage(ground.state).free, missing + min(LOG_BYTES, missing)
    if free < needed:
        raise SystemExit(f"{free / 1e9:.0f} GB left; this set needs {needed / 1e9:.0f}")


def _stopper(ground: Ground, stored: int, open_cases: int, closed_cases: int) -> Stopper:
    """Stops as many payments as the cases need."""
    from scoring.models import Release

    incidents = sum(desk_cases.incidents_of(open_cases, closed_cases, crowd.MERCHANTS))
    share = desk_cases.alerts_needed(open_cases + closed_cases, crowd.CUSTOMERS, incidents) / stored
    if share > 0.7:
        raise SystemExit(f"{stored:,} payments are too few for {open_cases + closed_cases:,} cases")
    say(f"{share:.2%} of the payments will be stopped")
    return Stopper(share, Release.objects.select_related("policy").get(pk=ground.release_id).policy.hold_minutes)


def _cases(ground: Ground, open_cases: int, closed_cases: int) -> int:
    """Cases of all alerts that have none; how many."""
    from datetime import UTC, datetime

    from transactions import binary
    from transactions.facts import micros

    desk = Desk.of(ground.lane)
    with ground.cursor(asynchronous=True) as cursor:
        alerts = binary.fetch(cursor, desk_cases.UNWORKED, [ground.lane.pk], desk_cases.ALERT)
        cursor.execute("""SELECT nextval(pg_get_serial_sequence('"case"', 'id'))""")
        made = desk_cases.plan(
            alerts, desk, open_cases=open_cases, closed_cases=closed_cases, first_id=cursor.fetchone()[0],
            now=micros(datetime.now(UTC)),
        )  # fmt: skip
        say(f"  {len(alerts):,} alerts in {len(made):,} cases, {int(made.cases['is_open'].sum()):,} of them open")
        cursor.execute("BEGIN")
        desk_cases.store(cursor, made, desk, _cards(alerts))
        cursor.execute("COMMIT")
    return len(made)


def _cards(alerts: np.ndarray) -> np.ndarray:
    """The last four digits of each alert's card."""
    keys = crowd.Keys().customer
    order = np.argsort(keys)
    return crowd.last4(order[np.searchsorted(keys[order], alerts["customer"])])


def _take_labels(ground: Ground) -> None:
    from fraudsite import pipeline

    say(f"  {pipeline.drain(ground.lane.pk):,} taken in")


TO_EXPLAIN = """
SELECT a.id FROM alert a WHERE NOT EXISTS (SELECT FROM alert_explanation e WHERE e.alert_id = a.id)
   AND (a.raised_at > now() - interval '26 hours'
        OR EXISTS (SELECT FROM case_alert p JOIN "case" c ON c.id = p.case_id
                    WHERE p.alert_id = a.id AND c.status <> 'closed'))"""


def explain(ground: Ground) -> int:
    """What the model made of the alerts of open cases and of the last day, as the worker would; how many."""
    from alerts.models import Alert
    from alerts.services import FREEZE, explanations

    with ground.cursor(asynchronous=True) as cursor:
        cursor.execute(TO_EXPLAIN)
        ids = [row[0] for row in cursor.fetchall()]
        for first in range(0, len(ids), EXPLAINED_AT_ONCE):
            some = Alert.objects.filter(pk__in=ids[first : first + EXPLAINED_AT_ONCE]).defer("reasons", "rules")
            by_release: dict[int, list[Any]] = {}
            for alert in some.select_related("decision"):
                by_release.setdefault(alert.decision.release_id, []).append(alert)
            for release, due in by_release.items():
                rows = explanations(release, due)
                if rows:
                    cursor.execute(FREEZE, [list(column) for column in zip(*rows, strict=True)])
    say(f"  {len(ids):,} explained")
    return len(ids)


def _vacuum(ground: Ground) -> None:
    grown = (*desk_cases.TABLES, "case_approval", "alert", "alert_explanation", "label", "hold_resolution", "lane_log")
    with ground.cursor() as cursor:
        for name in grown:
            cursor.execute(f'VACUUM (ANALYZE) "{name}"')
        cursor.execute("VACUUM (ANALYZE) entity_link")
        cursor.execute("CHECKPOINT")


def _count_from_here(ground: Ground) -> None:
    """The dashboards' roll-ups begin now: what is stored is not counted, by nobody and at no time."""
    from fraudsite.models import TallyCursor
    from fraudsite.tallies import cursor_of

    ends = {
        f"judged:{ground.lane.pk}": f"SELECT seq FROM lane_cursor WHERE lane = {ground.lane.pk}",
        "labels": "SELECT last_value FROM label_id_seq",
        "events": "SELECT last_value FROM case_event_id_seq",
    }
    with ground.cursor() as cursor:
        for source, statement in ends.items():
            cursor.execute(statement)
            cursor_of(source)
            TallyCursor.objects.filter(pk=source).update(position=cursor.fetchone()[0])


def _count(ground: Ground, table: str) -> int:
    with ground.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]


def _gigabytes(ground: Ground) -> float:
    with ground.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return round(cursor.fetchone()[0] / 1e9, 2)


def sizes(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options that say how large the set is."""
    parser.add_argument("--open", type=_number, default=100 if QUICK else 10_000, help="Open cases.")
    parser.add_argument("--closed", type=_number, default=2_000 if QUICK else 1_000_000, help="Closed cases.")
    return parser


def _number(text: str) -> int:
    return int(text)


STORED = "20_000" if QUICK else "10_000_000"


def main() -> None:
    """Make the set in the folder named by --state."""
    parser = sizes(options(__doc__, stored=STORED, runs=1))
    parser.add_argument("--no-roll-ups", action="store_true", help="Let the dashboards count from here on only.")
    parser.add_argument("--verify", action="store_true", help="Ask `manage.py verify` afterwards.")
    asked = parser.parse_args()
    results = Results("desk_data", asked)
    with Ground(asked.state, small=asked.small) as ground:
        [stored] = numbers(asked.stored)
        results.add("made", make(ground, stored, asked.open, asked.closed, tally=not asked.no_roll_ups))
        if asked.verify:
            say(ground.manage("verify"))
    results.finish()


if __name__ == "__main__":
    main()
