"""The table of moves, and how urgent a case is: pure, so by tables."""

from datetime import UTC, datetime, timedelta

import pytest

from cases import workflow
from cases.workflow import CLAIMABLE, MOVES, OPEN, Disposition, IllegalMove, Status, check_move

OPENED = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SLA = {"1": 30, "2": 120, "3": 480, "4": 1440}


def test_every_status_has_its_moves_and_no_case_is_stuck():
    assert set(MOVES) == set(Status)
    assert all(MOVES.values())
    assert set().union(*MOVES.values()) == set(Status)


def test_only_a_case_in_hand_can_be_closed():
    assert {status for status in Status if Status.CLOSED in MOVES[status]} == {
        Status.IN_REVIEW,
        Status.PENDING_APPROVAL,
    }


@pytest.mark.parametrize("status", sorted(CLAIMABLE))
def test_whatever_can_be_claimed_can_go_into_review(status):
    check_move(status, Status.IN_REVIEW)


def test_a_closed_case_goes_nowhere_but_back_into_review():
    assert MOVES[Status.CLOSED] == {Status.IN_REVIEW}
    assert Status.CLOSED not in OPEN


def test_an_illegal_move_says_so_in_words():
    with pytest.raises(IllegalMove, match="A case that is new cannot become closed"):
        check_move(Status.NEW, Status.CLOSED)


@pytest.mark.parametrize(
    "severity, amount, weight, expected",
    [
        (1, 100, 0, 1),
        (2, 100, 0, 2),
        (2, 5000, 0, 1),
        (3, 49.99, 0, 4),
        (4, 10, 0, 4),
        (4, 100, 2, 2),
        (1, 9000, 3, 1),
        (1, 10, 0, 2),
    ],
)
def test_priority_rises_with_severity_money_and_weight(severity, amount, weight, expected):
    assert workflow.priority(severity=severity, amount=amount, weight=weight) == expected


def test_a_case_is_due_by_its_queue_or_before_its_hold_ends():
    assert workflow.due(OPENED, 2, SLA, None) == OPENED + timedelta(hours=2)
    assert workflow.due(OPENED, 2, SLA, OPENED + timedelta(minutes=40)) == OPENED + timedelta(minutes=40)


def test_every_disposition_says_what_it_means_for_labels_and_holds():
    assert {d: workflow.LABEL.get(d) for d in Disposition} == {
        "confirmed_fraud": "fraud",
        "suspected_fraud": None,
        "legitimate": "legitimate",
        "legitimate_useful": "legitimate",
        "inconclusive": None,
        "duplicate": None,
    }
    assert {d: workflow.RESOLUTION.get(d) for d in Disposition} == {
        "confirmed_fraud": "blocked",
        "suspected_fraud": "blocked",
        "legitimate": "released",
        "legitimate_useful": "released",
        "inconclusive": None,
        "duplicate": None,
    }
