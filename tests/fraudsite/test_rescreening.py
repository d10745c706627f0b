"""Judging again: from stored vectors, once for each request, without touching profiles, log or held money."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.test import Client

from alerts.models import Alert
from alerts.rescreened import raise_alerts
from cases.models import CaseAlert
from cases.opening import open_cases
from fraudsite import answering, pipeline
from fraudsite.tasks import rescreen
from scoring import features, releases, screening
from scoring.lanes import own_lane
from scoring.models import Decision, HoldResolution, LaneLog, Release, Rescreening
from scoring.services import MODEL_UNAVAILABLE
from tests.factories import make_queue, make_user
from tests.judging import keep, live_rule, rows
from transactions.auth import issue_key
from transactions.models import ApiClient

pytestmark = pytest.mark.usefixtures("no_bells")


@pytest.fixture
def no_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    from fraudsite import doorbell

    monkeypatch.setattr(doorbell, "ring", lambda *_, **__: None)


def decisions(payment: int) -> list[tuple[int, str, int]]:
    """Screening, outcome and release of each decision of a payment."""
    found = Decision.objects.filter(transaction_id=payment).order_by("id")
    return list(found.values_list("screening", "outcome", "release_id"))


def ask(bank: ApiClient, *payments: int, **more: Any) -> Rescreening:
    return screening.ask(bank.lane, reason="A new rule", by="ines", payments=list(payments), **more)


def work() -> int:
    return screening.work(raise_alerts)


def test_a_payment_is_judged_again_by_the_release_in_force_and_nothing_else_moves(bank: ApiClient):
    [payment, other] = keep(bank, "pay-1", "pay-2")
    pipeline.drain(bank.lane_id)
    first = Decision.objects.get(transaction_id=payment)
    log, links = LaneLog.objects.count(), rows("SELECT count(*) FROM entity_link")
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None
        digest = lane.memory.digest()
    release = live_rule(bank.lane, "amount >= 0", "review")
    request = ask(bank, payment)
    assert work() == 1
    again = Decision.objects.get(pk=first.pk + 1)
    assert (again.screening, again.outcome, again.release_id, again.seq) == (2, "review", release.pk, first.seq)
    assert bytes(again.features) == bytes(first.features) and again.latency == 0
    assert (LaneLog.objects.count(), rows("SELECT count(*) FROM entity_link")) == (log, links)
    with own_lane(bank.lane_id) as lane:
        assert lane.memory is not None and lane.memory.digest() == digest
    request.refresh_from_db()
    assert request.finished_at is not None
    assert (request.judged, request.changed, request.alerts, request.release_id) == (1, 1, 1, release.pk)
    assert (again.rescreened.request_id, len(decisions(other))) == (request.pk, 1)
    call_command("verify", bank.lane_id, "--replay", verbosity=0)


def test_the_live_decision_is_the_highest_screening_and_the_api_tells_them_all(bank: ApiClient):
    [payment] = keep(bank, "pay-1", amount__value=500_00)
    pipeline.drain(bank.lane_id)
    assert answering.find([payment])[payment]["history"] == []
    live_rule(bank.lane, "amount > 100", "decline")
    ask(bank, payment)
    work()
    told = answering.find([payment])[payment]
    assert (told["outcome"], told["screening"], told["resolution"]) == ("decline", 2, None)
    assert [(each["screening"], each["outcome"], each["reason"]) for each in told["history"]] == [
        (1, "approve", None),
        (2, "decline", "A new rule"),
    ]
    assert told["reasons"][0]["code"] == "VELOCITY"


def test_a_held_payment_that_would_be_approved_now_stays_held_until_somebody_decides(bank: ApiClient):
    live_rule(bank.lane, "amount > 100")
    [payment] = keep(bank, "held", amount__value=500_00)
    pipeline.drain(bank.lane_id)
    before = Release.objects.order_by("id").first()
    assert before is not None
    before.pk, before.rules = None, []
    before.save()
    ask(bank, payment)
    work()
    told = answering.find([payment])[payment]
    assert (told["outcome"], told["resolution"], told["reasons"]) == ("approve", "pending", [])
    assert HoldResolution.objects.count() == 0 and Alert.objects.get().outcome == "review"


def test_a_payment_stopped_only_now_raises_one_alert_which_joins_the_customers_case_and_holds_nothing(bank: ApiClient):
    make_queue(lane=bank.lane)
    rule = live_rule(bank.lane, "amount > 100")
    [stopped, passed] = [keep(bank, name, amount__value=value)[0] for name, value in (("one", 500_00), ("two", 50_00))]
    pipeline.drain(bank.lane_id)
    open_cases()
    assert rule.pk and Alert.objects.count() == 1
    live_rule(bank.lane, "amount > 10", "review")
    for _ in range(2):
        ask(bank, passed, stopped)
        work()
    open_cases()
    alert = Alert.objects.get(pk=passed)
    assert (alert.decision_id, alert.hold_until) == (passed * 64 + 2, None)
    assert CaseAlert.objects.values("case").distinct().count() == 1 and Alert.objects.count() == 2
    assert Alert.objects.get(pk=stopped).decision_id == stopped * 64 + 1
    assert answering.find([passed])[passed]["resolution"] is None
    call_command("verify", bank.lane_id, verbosity=0)


def test_a_worker_killed_in_its_commit_leaves_nothing_and_the_next_goes_on(bank: ApiClient, monkeypatch):
    ids = keep(bank, *(f"pay-{n}" for n in range(6)))
    pipeline.drain(bank.lane_id)
    monkeypatch.setattr(screening, "STEP", 2)
    calls = iter(range(10))

    def die(cursor, *_):
        if next(calls) == 1:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 0

    request = ask(bank, *ids)
    with pytest.raises(OperationalError):
        screening.work(die)
    connections.close_all()
    request.refresh_from_db()
    assert (request.after, request.judged, Decision.objects.filter(screening=2).count()) == (ids[1], 2, 2)
    assert work() == 4
    assert [len(decisions(each)) for each in ids] == [2] * 6


def test_two_workers_share_two_requests_of_the_same_payments(bank: ApiClient, monkeypatch):
    ids = keep(bank, *(f"pay-{n}" for n in range(12)))
    pipeline.drain(bank.lane_id)
    monkeypatch.setattr(screening, "STEP", 3)
    for reason in ("first", "second"):
        screening.ask(bank.lane, reason=reason, by="ines", payments=ids)
    done: list[int] = []

    def one() -> None:
        done.append(work())
        connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(done) == 24 and work() == 0
    assert {tuple(each[0] for each in decisions(payment)) for payment in ids} == {(1, 2, 3)}


def test_the_database_refuses_a_second_decision_of_a_payment_for_one_request(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    request = ask(bank, payment)
    work()
    with pytest.raises(Exception, match="once_for_each_request"):
        rows("INSERT INTO rescreened (decision_id, request_id, transaction_id) VALUES (9, %s, %s)", request.pk, payment)


REFUSED = [
    ("UPDATE decision SET kernel_version = kernel_version - 1", "older kernel"),
    ("UPDATE decision SET degraded = 3", "no vector"),
    ("UPDATE decision SET outcome = 5", "only recorded"),
    ("UPDATE decision SET id = transaction_id * 64 + 63, screening = 63", "not decided"),
]


@pytest.mark.parametrize(("damage", "sentence"), REFUSED)
def test_what_cannot_be_judged_again_is_refused_clearly_and_left_out_of_many(bank: ApiClient, damage, sentence):
    ids = keep(bank, "pay-1", "pay-2")
    pipeline.drain(bank.lane_id)
    rows(damage + " WHERE transaction_id = %s RETURNING 1", ids[0])
    with pytest.raises(screening.CannotRescreen, match=sentence):
        ask(bank, ids[0])
    request = ask(bank, *ids)
    assert work() == 1
    request.refresh_from_db()
    assert sum(request.left_out.values()) == 1


def test_a_payment_is_not_judged_more_often_than_there_is_room_for(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    copied = "id, transaction_id, seq, decided_at, latency, release_id, probability, margin, lane, screening, outcome,"
    copied += " score, band, degraded, kernel_version, rule_hits, features"
    values = copied.replace("screening", "63").replace("id,", "transaction_id * 64 + 63,", 1)
    rows(f"INSERT INTO decision ({copied}) SELECT {values} FROM decision RETURNING 1")
    with pytest.raises(screening.CannotRescreen, match="63 times"):
        ask(bank, payment)


def test_what_was_decided_without_the_model_is_judged_again_once_it_is_back(bank: ApiClient, monkeypatch):
    ids = keep(bank, "pay-1", "pay-2")
    pipeline.drain(bank.lane_id)
    rows("UPDATE decision SET degraded = %s WHERE transaction_id = %s RETURNING 1", MODEL_UNAVAILABLE, ids[0])
    assert screening.waiting(bank.lane_id) == 1
    assert rescreen() == 0, "the model is not back"
    whole = releases.assemble(live_rule(bank.lane, "amount < 0").pk)
    monkeypatch.setattr(releases, "assemble", lambda _: with_model(whole))
    assert rescreen() == 1
    assert [len(decisions(each)) for each in ids] == [2, 1]
    again = Decision.objects.get(transaction_id=ids[0], screening=2)
    assert (again.degraded, again.score) == (0, 250)
    assert screening.waiting(bank.lane_id) == 0 and rescreen() == 0
    assert Rescreening.objects.get().author == "schedule"


def test_while_the_model_cannot_be_loaded_a_request_waits(bank: ApiClient, monkeypatch):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    judge, assemble = releases.assemble(Release.objects.get().pk), releases.assemble
    ask(bank, payment)
    monkeypatch.setattr(releases, "assemble", lambda _: replace(judge, flaw="OSError: gone"))
    assert work() == 0 and Rescreening.objects.get().finished_at is None
    monkeypatch.setattr(releases, "assemble", assemble)
    assert work() == 1


class Model:
    """Everything is as likely as everything else."""

    names = features.NAMES

    def score(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(matrix), 0.001), np.full(len(matrix), -6.9, "f4")


def with_model(judge: releases.Judge) -> releases.Judge:
    return replace(judge, scorer=Model(), flaw="")


def test_a_filter_walks_the_log_and_takes_what_fits(bank: ApiClient, monkeypatch):
    monkeypatch.setattr(screening, "WALK", 2)
    old = Release.objects.get()
    ids = keep(bank, *(f"pay-{n}" for n in range(5)))
    pipeline.drain(bank.lane_id)
    new = live_rule(bank.lane, "amount < 0")
    later = keep(bank, "pay-5")
    pipeline.drain(bank.lane_id)
    screening.ask(bank.lane, reason="that release was wrong", by="ines", release=old.pk)
    assert work() == 5
    assert [len(decisions(each)) for each in ids + later] == [2] * 5 + [1]
    assert {decisions(each)[-1][2] for each in ids} == {new.pk}
    at = Decision.objects.get(transaction_id=later[0]).decided_at
    screening.ask(bank.lane, reason="that hour", by="ines", since=at)
    assert work() == 1
    with pytest.raises(screening.CannotRescreen):
        screening.ask(bank.lane, reason="all of it", by="ines")


def test_the_command_asks_and_refuses(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    call_command("rescreen", payment, lane="cards", reason="wrong list", verbosity=0)
    assert Rescreening.objects.get().payments == [payment]
    with pytest.raises(CommandError, match="not decided"):
        call_command("rescreen", payment + 1, lane="cards", reason="wrong list")


def test_a_bank_has_its_own_payment_judged_again_with_a_reason(bank: ApiClient):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    client = Client(headers={"authorization": f"Bearer {issue_key(bank)[1]}"})
    path = f"/api/v1/transactions/{payment}/rescreen"

    def post(where: str, reason: str) -> Any:
        return client.post(where, {"reason": reason}, content_type="application/json")

    answers = [post(path, "The card was stolen") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"] == Rescreening.objects.get().pk
    assert post(path, "").json()["errors"][0]["pointer"] == "/reason"
    assert post(f"/api/v1/transactions/{payment + 9}/rescreen", "why not").status_code == 404
    work()
    shown = client.get(answers[0].headers["Location"]).json()["decision"]
    assert (shown["screening"], shown["history"][1]["reason"]) == (2, "The card was stolen")
    weak = Client(headers={"authorization": f"Bearer {issue_key(bank, scopes=['transactions:read'])[1]}"})
    assert weak.post(path, {"reason": "x" * 9}, content_type="application/json").status_code == 403


def test_reading_a_decision_asks_the_database_a_fixed_number_of_times(bank: ApiClient, django_assert_num_queries):
    ids = keep(bank, *(f"pay-{n}" for n in range(3)))
    pipeline.drain(bank.lane_id)
    answering.find(ids)
    with django_assert_num_queries(2):
        answering.find(ids)
    with connections["default"].cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("EXPLAIN " + answering.LATEST, [ids])
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
    assert "Seq Scan on decision" not in plan and "Index Scan Backward" in plan


def test_the_desk_asks_with_a_reason_and_refuses_without_the_right(bank: ApiClient, client: Client):
    [payment] = keep(bank, "pay-1")
    pipeline.drain(bank.lane_id)
    views = ("scoring.view_decision", "scoring.view_rescreening")
    client.force_login(make_user("lead", *views, "scoring.rescreen"))
    chosen = client.post(
        "/desk/scoring/decision/", {"action": "judge_again", "_selected_action": [str(payment * 64 + 1)]}
    )
    form = client.get(chosen.headers["Location"])
    assert f'value="{payment}"' in form.content.decode()
    asked = {"lane": bank.lane_id, "reason": "The list was wrong", "payments": str(payment)}
    where = chosen.headers["Location"].partition("?")[0]
    assert "not decided" in client.post(where, asked | {"payments": str(payment + 1)}).content.decode()
    assert client.post(where, asked).status_code == 302
    request = Rescreening.objects.get()
    assert (request.author, request.payments, work()) == ("lead", [payment], 1)
    page = client.get(f"/desk/scoring/rescreening/{request.pk}/change/").content.decode()
    assert "The list was wrong" in page and 'name="reason"' not in page
    client.force_login(make_user("reader", *views))
    assert client.get(where).status_code == 403


@pytest.mark.parametrize("reason", ["", "  a ", "why\x00not", "card 4111" + "1" * 12])
def test_a_reason_that_cannot_be_kept_is_refused(bank: ApiClient, reason: str):
    with pytest.raises(screening.CannotRescreen):
        screening.ask(bank.lane, reason=reason, by="ines", payments=[1])
    assert not rows("SELECT 1 FROM rescreening")
