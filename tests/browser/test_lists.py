"""A list entry in a real browser: proposed, refused to its proposer, approved by another, met by the next payment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.payments import ordinary
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]


def judged(desk: RunningDesk, payee: str) -> dict[str, Any]:
    """The decision on one more ordinary payment to this payee."""
    payment = ordinary("listed")
    payment["counterparty"] = {"id": payee, "country": "DE"}
    status, answer = desk.api("POST", "/api/v1/transactions", payment, Prefer="wait=10")
    assert status in (200, 201), answer
    return answer["decision"]


def test_a_block_entry_is_proposed_refused_approved_and_stops_the_next_payment(
    running_desk: RunningDesk, sign_in: SignIn
) -> None:
    assert judged(running_desk, "payee-listed-1")["basis"] is None
    admin = sign_in("admin")
    page = admin.page
    admin.open("/desk/lists/")
    page.get_by_role("link", name="mule-accounts").click()
    page.get_by_test_id("value").fill("payee-listed-1")
    page.get_by_test_id("reason").fill("Collected from five victims")
    page.get_by_test_id("add").click()
    page.wait_for_url("**/desk/approvals/*/")
    expect(page.get_by_test_id("changes")).to_contain_text("payee-listed-1")
    expect(page.get_by_test_id("touched")).to_contain_text("1 payment")
    admin.shot("list-proposal")
    page.get_by_test_id("approve").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("another person")
    assert judged(running_desk, "payee-listed-1")["basis"] is None

    other = sign_in("approver")
    other.open(page.url.removeprefix(running_desk.url))
    other.page.get_by_test_id("approve").click()
    other.page.wait_for_url("**/desk/approvals/?lane=*")
    decided = judged(running_desk, "payee-listed-1")
    assert (decided["outcome"], decided["basis"]) == ("decline", "block_list")
    assert decided["reasons"][0]["source"] == "list"
    assert "“mule-accounts”" in decided["reasons"][0]["text"]

    admin.open("/desk/lists/")
    page.get_by_role("link", name="mule-accounts").click()
    expect(page.get_by_test_id("entries")).to_contain_text("payee-listed-1")
    admin.shot("list")
