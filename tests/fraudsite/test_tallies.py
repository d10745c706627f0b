"""The roll-ups hold exactly what counting the rows again would give, whatever happens afterwards."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from cases import services
from cases.models import Case
from fraudsite import pipeline, tallies, tally_sheets, worked
from fraudsite.models import (
    DecisionTally,
    LabelledPayment,
    ReturnedMoney,
    TallyCursor,
    TallySheet,
    WorkedCase,
    WorkTally,
)
from scoring.models import HoldResolution, LaneCursor, LaneLog, Release, Rule, RuleVersion
from tests.factories import (
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_decision,
    make_lane,
    make_queue,
    make_release,
    make_transaction,
    make_user,
)
from tests.judging import keep, label, live_rule, make_bank
from transactions.codes import CHANNEL, OUTCOME
from transactions.models import ApiClient, Label, Transaction
from transactions.services import LabelIn, record_labels

pytestmark = pytest.mark.django_db
TOKEN = "00000000-0000-0000-0000-000000000001"


def log(*payments: Transaction) -> None:
    """What the lane writes when it judges payments."""
    cursor, _ = LaneCursor.objects.get_or_create(lane=make_lane(), defaults={"token": TOKEN})
    for payment in payments:
        cursor.seq += 1
        payment.decisions.update(seq=cursor.seq)
        LaneLog.objects.create(lane=cursor.pk, seq=cursor.seq, epoch=0, token=TOKEN, kind=1, transaction_id=payment.pk)
    cursor.save()


def judged(
    outcome: str, amount: int = 1000, score: int = 800, decided: dict | None = None, **fields: Any
) -> Transaction:
    payment = make_transaction(amount=amount, **fields)
    make_decision(payment, outcome=outcome, score=score, **(decided or {}))
    log(payment)
    return payment


def say(payment: Transaction, verdict: str, source: str = "chargeback") -> None:
    record_labels([LabelIn(payment.pk, verdict, source, timezone.now())])


def counted(cut: int, **where: Any) -> dict[tuple[int, int], tuple[int, ...]]:
    names = ("payments", "value", "fraud", "fraud_value", "legitimate", "legitimate_value")
    found: dict[tuple[int, int], list[int]] = {}
    for row in DecisionTally.objects.filter(cut=cut, grain="h", **where):
        sums = found.setdefault((row.key, row.outcome), [0] * len(names))
        for place, name in enumerate(names):
            sums[place] += getattr(row, name)
    return {key: tuple(sums) for key, sums in found.items() if any(sums)}


def everything() -> tuple[list[tuple], ...]:
    """All counts that are not nothing, so that two ways of getting there can be compared."""
    tables = {
        "decision_tally": "payments <> 0 OR fraud <> 0 OR legitimate <> 0",
        "labelled_payment": "true",
        "worked_case": "true",
        "work_tally": "n <> 0",
    }
    found = []
    for table, some in tables.items():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table} WHERE {some} ORDER BY 1, 2, 3, 4, 5, 6")
            found.append(cursor.fetchall())
    return tuple(found)


def test_judged_payments_are_counted_once_by_every_cut():
    judged("approve", 100, score=40, channel="ecommerce", merchant_country="DE")
    judged("decline", 900, score=950, channel="atm", merchant_country="FR")
    worked.tally()
    worked.tally()
    approve, decline = OUTCOME.code("approve"), OUTCOME.code("decline")
    assert counted(tallies.TOTAL) == {(0, approve): (1, 100, 0, 0, 0, 0), (0, decline): (1, 900, 0, 0, 0, 0)}
    assert counted(tallies.CHANNEL)[CHANNEL.code("atm"), decline] == (1, 900, 0, 0, 0, 0)
    assert len(counted(tallies.COUNTRY)) == 2
    assert sum(row[0] for row in counted(tallies.LATENCY).values()) == 2
    assert counted(tallies.SCORE)[19, decline][0] == 1


def test_what_is_only_recorded_is_not_counted_and_a_later_decision_neither():
    judged("recorded", score=-1)
    payment = judged("approve", score=10)
    LaneLog.objects.create(lane=make_lane().pk, seq=99, epoch=0, token=TOKEN, kind=1, transaction_id=payment.pk)
    LaneCursor.objects.update(seq=99)
    worked.tally()
    assert [row[0] for row in counted(tallies.TOTAL).values()] == [1]


def test_a_label_counts_a_changed_one_moves_and_a_withdrawn_one_goes():
    payment = judged("approve", 500, score=40)
    key = (0, OUTCOME.code("approve"))
    worked.tally()
    say(payment, "fraud")
    worked.tally()
    worked.tally()
    assert counted(tallies.TOTAL)[key] == (1, 500, 1, 500, 0, 0)
    assert counted(tallies.FATE) == {(CHANNEL.code("ecommerce"), tallies.LOST): (1, 500, 0, 0, 0, 0)}
    say(payment, "legitimate")
    worked.tally()
    assert counted(tallies.TOTAL)[key] == (1, 500, 0, 0, 1, 500)
    say(payment, "withdrawn")
    worked.tally()
    assert counted(tallies.TOTAL)[key] == (1, 500, 0, 0, 0, 0)
    assert counted(tallies.FATE) == {} and not LabelledPayment.objects.exists()


def test_a_label_that_came_before_its_decision_counts_with_it():
    payment = make_transaction(amount=500)
    say(payment, "fraud")
    worked.tally()
    assert not LabelledPayment.objects.exists()
    make_decision(payment, outcome="decline")
    log(payment)
    worked.tally()
    assert counted(tallies.FATE) == {(CHANNEL.code("ecommerce"), tallies.BLOCKED): (1, 500, 0, 0, 0, 0)}


def test_a_hold_resolved_after_its_label_turns_lost_into_blocked():
    payment = judged("review", 700)
    say(payment, "fraud")
    worked.tally()
    assert set(counted(tallies.FATE)) == {(CHANNEL.code("ecommerce"), tallies.LOST)}
    HoldResolution.objects.create(transaction=payment, lane=payment.lane, resolution="blocked", source="case")
    worked.tally()
    assert set(counted(tallies.FATE)) == {(CHANNEL.code("ecommerce"), tallies.BLOCKED)}


def test_a_refund_recovers_what_was_lost_but_no_more_than_that():
    payment = judged("approve", 700)
    say(payment, "fraud")
    judged("approve", 500, type="refund", original=payment.pk)
    judged("approve", 500, type="refund", original=payment.pk)
    worked.tally()
    fates = counted(tallies.FATE)
    assert fates[CHANNEL.code("ecommerce"), tallies.LOST][1] == 700
    assert fates[CHANNEL.code("ecommerce"), tallies.RECOVERED][1] == 700


def test_stopping_genuine_payments_is_told_apart_from_blocking_them():
    for outcome in ("approve", "challenge", "decline"):
        say(judged(outcome, 100), "legitimate")
    worked.tally()
    web = CHANNEL.code("ecommerce")
    assert counted(tallies.FATE) == {
        (web, tallies.WRONGLY_BLOCKED): (1, 100, 0, 0, 0, 0),
        (web, tallies.WRONGLY_STOPPED): (1, 100, 0, 0, 0, 0),
    }


def test_rules_are_counted_by_version_live_and_shadow_apart():
    lane = make_lane()
    rule = Rule.objects.create(lane=lane, code="R-1", name="Odd")
    from scoring.models import ReasonCode

    reason = ReasonCode.objects.create(code="X", title="x", description="x", source="rule")
    first, second = (
        RuleVersion.objects.create(rule=rule, number=n, expression="true", reason=reason, sentence="x", created_by="t")
        for n in (1, 2)
    )
    release = make_release(lane)
    Release.objects.filter(pk=release.pk).update(
        rules=[{"version": first.pk, "mode": "live"}, {"version": second.pk, "mode": "shadow"}]
    )
    payment = judged("decline", 300, decided={"rule_hits": b"\x01\x01"})
    judged("approve", 300, decided={"rule_hits": b"\x00\x00"})
    say(payment, "fraud")
    worked.tally()
    decline = OUTCOME.code("decline")
    assert counted(tallies.RULE) == {
        (first.pk * 2, decline): (1, 300, 1, 300, 0, 0),
        (second.pk * 2 + 1, decline): (1, 300, 1, 300, 0, 0),
    }


def test_days_hold_what_their_hours_hold():
    judged("approve", 100)
    worked.tally()
    for name in ("payments", "value"):
        hours, days = (sum(DecisionTally.objects.filter(grain=g).values_list(name, flat=True)) for g in "hd")
        assert hours == days > 0


def test_imported_payments_count_when_they_happened():
    then = timezone.now() - timedelta(days=40)
    judged("approve", 100, occurred_at=then, import_job=3)
    worked.tally()
    [row] = DecisionTally.objects.filter(cut=tallies.TOTAL, grain="h")
    assert row.at == then.replace(minute=0, second=0, microsecond=0)


# --- cases ------------------------------------------------------------------------------------------------------------


def of(measure: int) -> dict[tuple[int, int], int]:
    rows = WorkTally.objects.filter(measure=measure, grain="h").exclude(n=0)
    return {(row.part, row.bucket): row.n for row in rows}


@pytest.fixture
def person():
    make_close_reason()
    return make_user("ines", *WORK)


def colleague(case: Case) -> Any:
    """Who may open again what another person closed."""
    user = make_user("tomas", *WORK)
    case.queue.members.add(user)
    return user


def history(case: Case, *steps: tuple[str, int, Any, str]) -> None:
    """Lines of history: (kind, minutes after opening, actor, status after)."""
    for kind, minutes, actor, after in steps:
        case.events.create(kind=kind, at=case.opened_at + timedelta(minutes=minutes), actor=actor, after=after)


def closed_case(
    person: Any, disposition: str = "legitimate", minutes: int = 30, customer: str = "c", **fields: Any
) -> Case:
    opened = timezone.now() - timedelta(hours=5)
    case = make_case(
        make_alert(customer), queue=make_queue(person), opened_at=opened, due_at=opened + timedelta(hours=1)
    )
    history(case, ("claimed", 10, person, "in_review"), ("closed", minutes, person, "closed"))
    Case.objects.filter(pk=case.pk).update(
        status="closed",
        disposition=disposition,
        closed_by=person,
        closed_at=opened + timedelta(minutes=minutes),
        **fields,
    )
    return case


def test_a_closed_case_counts_its_wait_its_handling_and_its_end(person):
    case = closed_case(person)
    worked.tally()
    made = WorkedCase.objects.get(pk=case.pk)
    assert (made.handling, made.kept, made.hands) == (1200, True, {str(person.pk): 1200})
    assert of(worked.TOUCH) == {(case.priority, worked.bucket_of(600)): 1}
    assert of(worked.DECISION) == {(case.priority, worked.bucket_of(1800)): 1}
    assert of(worked.SECONDS) == {(0, 0): 1200}
    assert of(worked.CLOSED) == {(worked.DISPOSITIONS.index("legitimate"), 0): 1}


def test_a_lapsed_lease_counts_up_to_the_last_act_in_it(person):
    case = make_case(make_alert("c"), queue=make_queue(person))
    history(
        case,
        ("claimed", 0, person, "in_review"),
        ("priority_set", 4, person, ""),
        ("overdue", 12, None, ""),
        ("lease_expired", 15, None, "new"),
        ("claimed", 60, person, "in_review"),
        ("lease_expired", 75, None, "new"),
        ("claimed", 100, person, "in_review"),
        ("released", 102, person, "new"),
    )
    worked.tally()
    assert WorkedCase.objects.get(pk=case.pk).handling == 6 * 60


def test_reopening_takes_the_close_back_and_counts_itself(person):
    case = closed_case(person)
    worked.tally()
    services.reopen_case(case.pk, by=colleague(case), note="The customer called again.")
    worked.tally()
    assert of(worked.CLOSED) == of(worked.HANDLING) == {}
    assert of(worked.REOPENED) == {(0, 0): 1}
    assert of(worked.OPENED) == {(case.priority, 0): 1}


def test_a_late_label_contradicts_the_close(person):
    case = closed_case(person)
    alert = case.case_alerts.get().alert
    log(alert.transaction)
    worked.tally()
    assert of(worked.CONTRADICTED) == {}
    say(alert.transaction, "fraud")
    worked.tally()
    assert of(worked.CONTRADICTED) == {(worked.DISPOSITIONS.index("legitimate"), 0): 1}


def test_counting_step_by_step_gives_what_counting_anew_gives(person):
    case = closed_case(person)
    log(case.case_alerts.get().alert.transaction)
    payments = [judged(outcome, 100 * n) for n, outcome in enumerate(("approve", "review", "decline"), 1)]
    worked.tally()
    for payment, verdict in zip(payments, ("fraud", "legitimate", "fraud"), strict=True):
        say(payment, verdict)
        worked.tally()
    say(case.case_alerts.get().alert.transaction, "fraud")
    services.reopen_case(case.pk, by=colleague(case), note="The bank says otherwise.")
    worked.tally()
    steps = everything()
    assert all(steps)
    assert worked.rebuild()
    assert everything() == steps


# --- sheets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bank(transactional_db: None) -> ApiClient:
    """Lanes commit on connections of their own: nothing can be rolled back."""
    bank = make_bank()
    live_rule(bank.lane, "amount > 100", "decline")
    release = live_rule(bank.lane, "channel == 'atm'", "challenge")
    Release.objects.filter(pk=release.pk).update(rules=[release.rules[0], {**release.rules[1], "mode": "shadow"}])
    return bank


def drained(bank: ApiClient, *, at_least: int = tally_sheets.WORTH, batch: str = "a") -> list[int]:
    """Payments of every kind, judged in one commit; refunds name the first of them."""
    first = keep(bank, f"{batch}-first", amount__value=120_00)
    plain = keep(bank, *(f"{batch}-{n}" for n in range(at_least)), amount__value=90_00)
    dear = keep(bank, f"{batch}-dear", f"{batch}-dearer", amount__value=500_00, channel="atm", merchant__country="SE")
    back = keep(bank, f"{batch}-back", type="refund", amount__value=20_00, original_external_id=f"{batch}-first")
    done = keep(bank, f"{batch}-clear", stage="clearing", original_external_id=f"{batch}-1")
    Transaction.objects.filter(pk=plain[0]).update(import_job=7, occurred_at=timezone.now() - timedelta(days=40))
    pipeline.drain(bank.lane_id)
    return first + plain + dear + back + done


def test_the_lanes_own_sheet_says_what_its_rows_say(bank):
    ids = drained(bank)
    [sheet] = TallySheet.objects.all()
    assert (sheet.since, sheet.upto, sheet.first_id, sheet.last_id) == (0, len(ids), ids[0], ids[-1])
    worked.tally()
    assert not TallySheet.objects.exists()
    by_sheets = everything()
    assert {row[0] for row in by_sheets[0]} == set(range(tallies.TOTAL, tallies.FATE))
    assert sum(row[0] for row in counted(tallies.TOTAL).values()) == len(ids) - 1  # a clearing is only recorded
    assert ReturnedMoney.objects.get().transaction_id == ids[0]
    assert worked.rebuild()
    assert everything() == by_sheets


def test_sheets_and_rows_in_turn_count_each_payment_once(bank):
    few = keep(bank, "few-1", "few-2")
    pipeline.drain(bank.lane_id)
    many = drained(bank, batch="a") + drained(bank, batch="b")
    few += keep(bank, "few-3")
    pipeline.drain(bank.lane_id)
    many += drained(bank, batch="c")
    assert TallySheet.objects.count() == 3
    worked.tally()
    worked.tally()
    by_both = everything()
    assert sum(row[0] for row in counted(tallies.TOTAL).values()) == len(few + many) - 3
    assert worked.rebuild()
    assert everything() == by_both


def test_a_sheet_that_was_counted_in_part_is_left_to_the_rows(bank):
    """As an older worker may have left it, which knew of no sheets."""
    ids = drained(bank)
    tallies.cursor_of(f"judged:{bank.lane_id}")
    tallies._count(bank.lane_id, 0, 5, [], lambda _: None)
    worked.tally()
    assert sum(row[0] for row in counted(tallies.TOTAL).values()) == len(ids) - 1
    assert not TallySheet.objects.exists()


def test_a_label_from_before_the_decision_counts_with_the_sheet(bank):
    ids = keep(bank, *(f"pay-{n}" for n in range(tally_sheets.WORTH)))
    label(ids[3])
    worked.tally()
    pipeline.drain(bank.lane_id)
    assert TallySheet.objects.exists()
    worked.tally()
    assert LabelledPayment.objects.get().transaction_id == ids[3]


def test_a_commit_that_failed_leaves_no_sheet(bank, monkeypatch):
    keep(bank, *(f"pay-{n}" for n in range(tally_sheets.WORTH)))

    def broken(*_: object, **__: object) -> None:
        raise ArithmeticError("cannot count")

    monkeypatch.setattr(pipeline.Commit, "to", broken)
    monkeypatch.setattr(pipeline.Trouble, "note", lambda *_: None)
    monkeypatch.setattr(pipeline, "log", logging.getLogger("nobody"))
    with pytest.raises(ArithmeticError), pipeline.own_lane(bank.lane_id) as lane:
        lane.sweep_all()
        pipeline.judge(lane, lane.claim(patience=0))
    assert not TallySheet.objects.exists() and not LaneLog.objects.exists()


def test_the_latency_scale_is_that_of_the_statement():
    """At and around each edge of it."""
    edges = {max(int(2 ** (k / 8)) + step, 1) for k in range(31 * 8) for step in (-1, 0, 1)}
    waits = np.array(sorted(edges), "i4")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {tallies.LATENCY_STEP} FROM unnest(%s::int[]) AS latency", [waits.tolist()])
        assert [row[0] for row in cursor.fetchall()] == tally_sheets.steps_of(waits).tolist()


def test_sums_are_the_same_whether_the_columns_fit_one_integer_or_not():
    draw = np.random.default_rng(7)
    few = [draw.integers(0, 3, 500) for _ in range(3)]
    wide = [column * 2**40 for column in few]
    for by in (few, wide):
        *found, sums = tally_sheets._summed(by, np.ones(500, "i8"))
        rows = list(zip(*(column.tolist() for column in by), strict=True))
        expected = {row: rows.count(row) for row in rows}
        assert dict(zip(zip(*(c.tolist() for c in found), strict=True), sums.tolist(), strict=True)) == expected


# --- positions --------------------------------------------------------------------------------------------------------


def test_a_position_by_id_waits_for_its_fence(person):
    say(judged("approve"), "fraud")
    worked.tally()
    assert TallyCursor.objects.get(pk="labels").position == 0
    assert Label.objects.count() == 1


@pytest.mark.parametrize("seconds", [1, 59, 600, 86_400, 1_000_000])
def test_the_scale_of_times_is_true_within_a_twentieth(seconds):
    assert worked.middle(worked.bucket_of(seconds)) == pytest.approx(seconds, rel=0.05)


def test_the_scale_of_sql_and_of_python_are_one():
    for seconds in (0, 0.4, 1, 2, 3.7, 64, 599.5, 3600, 99_999):
        with connection.cursor() as cursor:
            cursor.execute("SELECT " + worked._bucket("%s::numeric").replace("%s", "%(s)s"), {"s": seconds})
            assert cursor.fetchone()[0] == worked.bucket_of(seconds)


def test_quantiles_come_from_counts():
    assert worked.quantile({}, 0.5) is None
    counts = {worked.bucket_of(60): 9, worked.bucket_of(3600): 1}
    assert worked.quantile(counts, 0.5) == pytest.approx(60, rel=0.05)
    assert worked.quantile(counts, 0.95) == pytest.approx(3600, rel=0.05)
