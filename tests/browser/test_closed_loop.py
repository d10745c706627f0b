"""What an investigator does all day, in a real browser: alert, case, verdict, and the label the next model learns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[[str], Visitor]
Found = TypeVar("Found")


def post(desk: RunningDesk, payment: dict[str, Any]) -> dict[str, Any]:
    status, answer = desk.api("POST", "/api/v1/transactions", payment, Prefer="wait=10")
    assert status in (200, 201), answer
    return answer


def eventually(check: Callable[[], Found | None], patience: float = 15.0) -> Found:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_an_alert_arrives_live_and_its_case_is_closed_as_fraud(running_desk: RunningDesk, sign_in: SignIn) -> None:
    ines = sign_in("investigator")
    ines.open("/desk/live/")
    expect(ines.page.get_by_test_id("live-state").first).to_contain_text("Live")
    answer = post(running_desk, steered("loop"))
    assert answer["decision"]["outcome"] == "review"
    assert answer["decision"]["resolution"] == "pending"
    expect(ines.page.get_by_test_id("live-banner")).to_contain_text("new", timeout=5_000)
    ines.page.keyboard.press("r")
    expect(ines.page.get_by_test_id("live-alerts")).to_contain_text("900.00")
    ines.shot("live")

    eventually(lambda: case_of(running_desk, answer["id"]))
    ines.open("/desk/queue/")
    expect(ines.page.get_by_test_id("queue-table")).to_contain_text("900.00")
    ines.shot("queue")
    mine = f"/desk/cases/{case_of(running_desk, answer['id'])}/"
    for _ in range(20):
        take_next_case(ines)
        if ines.page.url.endswith(mine):
            break
        close_as_fraud(ines)
    expect(ines.page.get_by_test_id("reason-list")).to_contain_text("steers the device")
    ines.shot("case")
    close_as_fraud(ines)
    eventually(lambda: decision(running_desk, answer["id"])["resolution"] == "blocked", patience=25)
    eventually(lambda: learnt(running_desk, answer["id"]) == "2")


def take_next_case(visitor: Visitor) -> None:
    """One key: the most urgent case, already claimed."""
    visitor.open("/desk/queue/")
    expect(visitor.page.get_by_test_id("live-state").first).to_contain_text("Live")
    visitor.page.keyboard.press("n")
    visitor.page.wait_for_url("**/desk/cases/*/")
    expect(visitor.page.get_by_test_id("case-status")).to_contain_text("In review")


def close_as_fraud(visitor: Visitor) -> None:
    """The whole dialog without a mouse wheel: type, reason, rationale, Ctrl+Enter."""
    page, closed = visitor.page, visitor.page.url
    page.keyboard.press("f")
    page.get_by_test_id("disposition-confirmed_fraud").check()
    page.locator("input[name=fraud_type][value=account_takeover]").check()
    fitting = page.locator("[data-testid=close-reason] option[data-fits~=confirmed_fraud]").first
    page.get_by_test_id("close-reason").select_option(fitting.get_attribute("value"))
    page.get_by_test_id("auto-next").uncheck()
    page.get_by_test_id("rationale").fill("The customer was called and did not make this payment.")
    visitor.shot("close")
    page.get_by_test_id("rationale").press("Control+Enter")
    expect(page.get_by_test_id("close-dialog")).to_be_hidden()
    visitor.page.goto(closed)
    expect(page.get_by_test_id("case-status")).to_contain_text("Closed")


def decision(desk: RunningDesk, transaction_id: int) -> dict[str, Any]:
    return desk.api("GET", f"/api/v1/transactions/{transaction_id}")[1]["decision"]


def case_of(desk: RunningDesk, transaction_id: int) -> int | None:
    return decision(desk, transaction_id)["case_id"]


def learnt(desk: RunningDesk, transaction_id: int) -> str:
    """What the next training would learn of a payment: the label in force in its data set, 2 = fraud."""
    code = (
        "from django.utils import timezone; from scoring import dataset; from transactions.facts import DAY, micros;"
        "from transactions.models import Transaction;"
        f"payment = Transaction.objects.get(pk={transaction_id}); now = micros(timezone.now());"
        "data = dataset.of_lane(payment.lane, begin=micros(payment.occurred_at), end=now, most=10_000);"
        f"print('label', data.known(now)[data.ids.tolist().index({transaction_id})])"
    )
    return desk.manage("shell", "-c", code).split("label ")[-1].strip()
