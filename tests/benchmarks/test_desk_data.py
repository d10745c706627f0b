"""The desk's data set must be what the desk itself would have written, or its figures are of something else."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db import connection
from django.db.models import Count, F

from benchmarks import crowd, desk_cases
from benchmarks.desk import LISTS
from benchmarks.desk_cases import ALERT, Desk, alerts_needed, chance, grouped, plan
from benchmarks.desk_data import STORIES, Stopper
from cases.listing import Address
from cases.models import Approval, Case, CaseAlert, CaseCard, CaseEvent
from cases.search import find
from cases.seeds import seed_close_reasons, seed_queues
from scoring.models import HoldResolution
from tests.factories import LEAD, make_alert, make_lane, make_user
from transactions.codes import OUTCOME
from transactions.facts import DAY, HOUR, blank, micros
from transactions.models import Label

NOW = micros(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def some_alerts(n, rng, *, customers=300):
    alerts = np.zeros(n, ALERT)
    alerts["id"] = np.arange(1, n + 1)
    alerts["customer"] = rng.integers(1, customers, n)
    alerts["merchant"] = rng.integers(1, 20, n)
    alerts["amount_base"], alerts["score"] = rng.integers(100, 900_000, n), rng.integers(500, 1000, n)
    alerts["severity"] = rng.integers(1, 5, n)
    alerts["raised_at"] = NOW - 60 * DAY + np.arange(n) * (60 * DAY // n)
    return alerts


def test_chance_is_even_and_the_same_for_ever():
    drawn = chance(np.arange(100_000), 3)
    assert np.histogram(drawn, 10, (0, 1))[0].min() > 9_500
    assert (drawn == chance(np.arange(100_000), 3)).all()
    assert abs(np.corrcoef(drawn, chance(np.arange(100_000), 4))[0, 1]) < 0.02


def test_alerts_are_grouped_into_as_many_cases_as_were_wanted_each_of_one_customer_or_merchant(rng):
    alerts = some_alerts(3_000, rng)
    group = grouped(alerts, 2_000, 4, rng)
    assert (np.unique(group) == np.arange(2_000)).all()
    for number in range(4):
        assert len(np.unique(alerts["merchant"][group == number])) == 1
    rest = group >= 4
    pairs = np.unique(np.stack([group[rest], alerts["customer"][rest]]), axis=1)
    assert pairs.shape[1] == 1_996


@pytest.mark.parametrize(("cases", "customers"), [(1_000, 50_000), (10_100, 50_000), (200_000, 20_000)])
def test_so_many_alerts_suffice(cases, customers, rng):
    alerts = np.zeros(alerts_needed(cases, customers, 0), ALERT)
    alerts["id"], alerts["customer"] = np.arange(len(alerts)), rng.integers(0, customers, len(alerts))
    made = len(np.unique(grouped(alerts, cases, 0, rng)))
    # Where hardly a customer has two alerts there is nothing to join: then a few more cases come out.
    assert made == cases if len(alerts) > customers / 10 else cases <= made < 1.15 * cases


def desk_of(lane):
    seed_close_reasons()
    lead = make_user("lena", *LEAD)
    seed_queues(lane, [lead])
    return Desk.of(lane)


def test_the_plan_has_open_cases_of_one_customer_each_and_times_in_order(db, rng):
    made = plan(some_alerts(3_000, rng), desk_of(make_lane()), open_cases=100, closed_cases=1_900, first_id=7, now=NOW)
    cases = made.cases
    assert (len(made), int(cases["is_open"].sum())) == (2_000, 100)
    assert (cases["id"] == np.arange(7, 2_007)).all() and set(made.of_alert) == set(cases["id"])
    keys = list(zip(cases["queue"][cases["is_open"]], cases["grouping_key"][cases["is_open"]], strict=True))
    assert len(set(keys)) == len(keys)
    closed = ~cases["is_open"]
    assert (cases["opened_at"] <= cases["last_alert_at"] + HOUR).all()
    assert (cases["opened_at"][closed] <= cases["claimed_at"][closed]).all()
    assert (cases["claimed_at"][closed] <= cases["closed_at"][closed]).all()
    assert (np.diff(cases["opened_at"]) >= 0).all()


def test_the_same_alerts_give_the_same_plan(db, rng):
    alerts, desk = some_alerts(500, rng), desk_of(make_lane())
    one, other = (plan(alerts, desk, open_cases=20, closed_cases=300, first_id=1, now=NOW) for _ in range(2))
    assert all((one.cases[name] == other.cases[name]).all() for name in one.cases)


def stored(lane, rows):
    """Cases of some alerts, as the generator makes them."""
    alerts = np.array(
        [(a.pk, a.customer, a.merchant, a.amount_base, micros(a.raised_at), a.score, a.severity) for a in rows], ALERT
    )
    made = plan(alerts, desk_of(lane), open_cases=10, closed_cases=20, first_id=1, now=micros(datetime.now(UTC)))
    with connection.cursor() as cursor:
        desk_cases.store(cursor, made, Desk.of(lane), np.tile(np.frombuffer(b"4417", "u1"), (len(alerts), 1)))
    return made


def index_names():
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = ANY(%s)", [list(desk_cases.TABLES)])
        return {row[0] for row in cursor.fetchall()}


def test_the_rows_are_those_of_a_worked_desk_and_the_indexes_are_back(db):
    lane, before = make_lane(), index_names()
    past = datetime.now(UTC) - timedelta(days=9)
    rows = [make_alert(f"customer-{n % 25}", lane=lane, raised_at=past + timedelta(hours=n)) for n in range(40)]
    stored(lane, rows)
    assert index_names() == before
    assert Case.objects.count() == 30 and CaseAlert.objects.count() == 40
    closed = Case.objects.filter(status="closed")
    assert closed.count() == 20 and not closed.filter(closed_by=None).exists()
    assert set(CaseEvent.objects.filter(kind="closed").values_list("case", flat=True)) == {case.pk for case in closed}
    lines = Case.objects.annotate(lines=Count("events"))
    assert not lines.exclude(lines=F("version")).exists(), "each line counts a change"
    assert Approval.objects.count() == Case.objects.filter(status="pending_approval").count()
    labelled = closed.filter(disposition__in=["confirmed_fraud", "legitimate", "legitimate_useful"])
    alerts_of_labelled = set(CaseAlert.objects.filter(case__in=labelled).values_list("alert", flat=True))
    assert set(Label.objects.values_list("transaction", flat=True)) == alerts_of_labelled
    held = {alert.pk for alert in rows if alert.hold_until}
    ended = set(HoldResolution.objects.values_list("transaction", flat=True))
    assert ended <= held and ended >= held & set(CaseAlert.objects.filter(case__in=closed).values_list("pk", flat=True))
    assert CaseCard.objects.count() == 40 and find("4417") >= set(Case.objects.values_list("pk", flat=True))
    last = Case.objects.order_by("-pk").values_list("pk", flat=True).first()
    assert Case.objects.create(
        lane=lane, queue=Case.objects.first().queue, grouping_key=1, customer=1, customer_ref="x", top_reason="x",
        amount=1, currency="EUR", due_at=past,
    ).pk == last + 1  # fmt: skip


def test_a_share_is_stopped_with_scores_that_fit_the_outcome():
    facts = blank(50_000)
    facts["id"] = np.arange(1, 50_001)
    outcomes, scores = Stopper(0.13, 120).outcomes(facts)
    stopped = outcomes != OUTCOME.code("approve")
    assert stopped.mean() == pytest.approx(0.13, abs=0.005)
    assert (scores[stopped] >= 500).all() and (scores[~stopped] < 500).all()
    assert {OUTCOME.text(code) for code in set(outcomes[stopped].tolist())} == {"challenge", "review", "decline"}
    assert all(reasons for reasons, _ in STORIES)


def test_a_busy_few_make_their_share_of_the_payments():
    picks = crowd.draw(100_000, np.random.default_rng(1), busy=0.02)
    assert (picks.customer < crowd.BUSY).mean() == pytest.approx(0.02, abs=0.003)


@pytest.mark.parametrize("query", LISTS.values())
def test_every_list_that_is_measured_is_one_that_the_queue_understands(query):
    given = dict(part.split("=") for part in query.format(day="2026-11-20").split("&"))
    address = Address.read(given)
    assert {name: getattr(address, name) for name in given} == given
