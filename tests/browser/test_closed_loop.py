"""What an investigator does all day, in a real browser: alert, case, verdict, and the label the next model learns."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.running import RunningDesk
from transactions import schema

pytestmark = pytest.mark.slow
SignIn = Callable[[str], Visitor]
_numbers = count(1)


def suspicious(customer: str) -> dict[str, Any]:
    """A payment made under remote control, which a seeded rule holds for review."""
    payment = schema.example_payment(external_id=f"browser-{customer}-{next(_numbers)}")
    payment["customer"]["id"] = customer
    payment["amount"] = {"value": 90_000, "currency": "EUR"}
    payment["device"]["flags"] = ["remote_access"]
    return payment


def post(desk: RunningDesk, payment: dict[str, Any]) -> dict[str, Any]:
    status, answer = desk.api("POST", "/api/v1/transactions", payment, Prefer="wait=10")
    assert status in (200, 201), answer
    return answer


def eventually(check: Callable[[], object], patience: float = 15.0) -> object:
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
    answer = post(running_desk, suspicious("cust-live"))
    assert answer["decision"]["outcome"] == "review"
    assert answer["decision"]["resolution"] == "pending"
    expect(ines.page.get_by_test_id("live-banner")).to_contain_text("new", timeout=5_000)
    ines.page.keyboard.press("r")
    expect(ines.page.get_by_test_id("live-alerts")).to_contain_text("900.00")
    ines.shot("live")

    ines.open("/desk/queue/")
    eventually(lambda: ines.page.reload() and "900.00" in ines.page.get_by_test_id("queue-table").inner_text())
    ines.shot("queue")
    ines.page.keyboard.press("n")
    ines.page.wait_for_url("**/desk/cases/*/")
    expect(ines.page.get_by_test_id("case-status")).to_contain_text("In review")
    expect(ines.page.get_by_test_id("reason-list")).to_contain_text("emote")
    ines.shot("case")

    ines.page.keyboard.press("f")
    ines.page.get_by_test_id("disposition-confirmed_fraud").check()
    ines.page.locator("input[name=fraud_type][value=account_takeover]").check()
    fitting = ines.page.locator("[data-testid=close-reason] option:not([disabled]):not([hidden])")
    ines.page.get_by_test_id("close-reason").select_option(index=fitting.count() and 1)
    ines.page.get_by_test_id("rationale").fill("The customer was called and did not make this payment.")
    ines.shot("close")
    ines.page.get_by_test_id("rationale").press("Control+Enter")
    eventually(lambda: resolution(running_desk, answer["id"]) == "blocked")


def resolution(desk: RunningDesk, transaction_id: int) -> str:
    return desk.api("GET", f"/api/v1/transactions/{transaction_id}")[1]["decision"]["resolution"]
