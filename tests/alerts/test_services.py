"""The rows of alerts, and what is computed for them afterwards."""

from types import SimpleNamespace

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from alerts import services
from alerts.models import Alert, AlertExplanation
from scoring import reasons, releases
from scoring.features import N_FEATURES, NAMES
from transactions import binary
from transactions.codes import OUTCOME
from transactions.facts import micros
from transactions.models import Lane

OUTCOMES = {text: OUTCOME.code(text) for text in OUTCOME}


def test_only_stopped_payments_raise_an_alert():
    codes = np.array([OUTCOMES[text] for text in ("approve", "challenge", "review", "decline", "recorded")])
    assert services.stopped(codes).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("score", "outcome", "severity"),
    [
        (968, "decline", 1),
        (720, "review", 2),
        (510, "challenge", 3),
        (90, "challenge", 4),
        (90, "review", 3),
        (90, "decline", 2),
    ],
)
def test_severity_follows_the_score_and_what_was_done(score, outcome, severity):
    assert services.severity(np.array([score]), np.array([OUTCOMES[outcome]])).tolist() == [severity]


@pytest.fixture
def alert(db, decided) -> Alert:
    return decided(outcome="review", features=np.arange(N_FEATURES, dtype="<f4").tobytes())


@pytest.fixture
def decided(db):
    """Stores a decision and its alert through the lane's own columns."""
    lane = Lane.objects.create(name="cards")

    def store(*, outcome: str, features: bytes = b"", margin: float = 1.5) -> Alert:
        head = np.zeros(1, [("id", "i8"), ("seq", "i8"), ("decided_at", "i8"), ("outcome", "i2"), ("score", "i2")])
        head["id"], head["seq"], head["decided_at"] = 65, 1, micros(timezone.now())
        head["outcome"], head["score"] = OUTCOMES[outcome], 861
        facts = services_facts(lane)
        columns = services.alert_rows(
            facts,
            head,
            customer_refs=["cust-1"],
            reasons=[[{"code": "X", "text": "x" * 300}]],
            rules=[[]],
            hold_minutes=90,
        )
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO decision (id, transaction_id, seq, decided_at, latency, release_id, probability, margin,"
                " lane, screening, outcome, score, band, degraded, kernel_version, rule_hits, features)"
                " VALUES (65, 1, 1, now(), 1, 1, 0.5, %s, %s, 1, 3, 861, 2, 0, 1, '', %s)",
                [margin, lane.pk, features],
            )
            binary.store(cursor.cursor, "alert", columns)
        return Alert.objects.get()

    return store


def services_facts(lane: Lane) -> np.ndarray:
    from transactions.facts import blank

    facts = blank(1)
    facts["id"], facts["lane"], facts["customer"] = 1, lane.pk, 7
    return facts


def test_a_payment_sent_to_review_is_held_for_the_minutes_of_the_policy(alert):
    assert (alert.hold_until - alert.raised_at).total_seconds() == 90 * 60
    assert (alert.outcome, alert.score, len(alert.top_reason)) == ("review", 861, 200)


def test_a_declined_payment_is_not_held(decided):
    assert decided(outcome="decline").hold_until is None


class Model:
    """Says that every feature adds its place."""

    names = NAMES

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(len(NAMES) + 1, dtype="f4"), (len(matrix), 1))


@pytest.fixture
def judge(monkeypatch):
    judge = SimpleNamespace(scorer=Model(), currency="EUR", model_version="m-1", release_id=1)
    monkeypatch.setattr(releases, "assemble", lambda release_id: judge)
    return judge


def test_an_explanation_adds_up_to_the_margin_and_is_made_once(alert, judge):
    assert services.explain() == 1
    told = AlertExplanation.objects.get()
    assert told.margin == pytest.approx(told.base + sum(part["contribution"] for part in reasons.parts_of(told.kept)))
    assert told.model_version == "m-1"
    assert services.explain() == 0


def test_a_decision_made_without_a_model_is_owed_no_explanation(decided, judge):
    decided(outcome="review", margin=float("nan"))
    assert services.unexplained(10) == []


def test_while_the_model_cannot_be_loaded_the_alert_stays_owed(alert, judge):
    judge.scorer = None
    assert services.explain() == 0
    assert services.unexplained(10) == [alert]
