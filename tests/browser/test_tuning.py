"""What a model admin does, in a real browser: move a threshold, be refused, have it approved, take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.payments import ordinary
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]


def judged(desk: RunningDesk) -> dict[str, Any]:
    """The decision on one more ordinary e-commerce payment of a customer of its own."""
    status, answer = desk.api("POST", "/api/v1/transactions", ordinary("tuning"), Prefer="wait=10")
    assert status in (200, 201), answer
    return answer["decision"]


def effect(page: Page) -> dict[str, list[str]]:
    """The effect table's figures by measure: now and proposed."""
    rows = page.locator("[data-testid=effect-table] tbody tr").all()
    return {
        row.get_attribute("data-row") or "": [
            row.locator("[data-now]").inner_text(),
            row.locator("[data-new]").inner_text(),
        ]
        for row in rows
    }


def drag(page: Page, control: str, share: float) -> None:
    """Pull a slider to a share of its way with the mouse."""
    box = page.get_by_test_id(control).bounding_box()
    assert box is not None
    at = float(page.get_by_test_id(control).input_value()) / 1000
    page.mouse.move(box["x"] + box["width"] * at, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()


def test_a_threshold_is_moved_refused_to_its_proposer_approved_and_taken_back(
    running_desk: RunningDesk, sign_in: SignIn
) -> None:
    before = judged(running_desk)
    assert before["outcome"] in ("approve", "challenge"), before
    admin = sign_in("admin")
    page = admin.page
    admin.open("/desk/thresholds/")
    now = effect(page)
    drag(page, "threshold-decline-default", 0.1)
    assert (
        page.get_by_test_id("threshold-review-default").input_value()
        == page.get_by_test_id("threshold-decline-default").input_value()
    )  # the others are taken along
    page.get_by_test_id("segment").select_option("ecommerce")
    page.get_by_test_id("threshold-review-ecommerce").fill(str(max(before["score"] // 2, 1)))
    moved = effect(page)
    assert moved != now
    admin.shot("thresholds")
    page.get_by_test_id("reason").fill("Look at everything for a while")
    page.get_by_test_id("propose").click()
    page.wait_for_url("**/desk/approvals/*/")
    assert effect(page) == moved  # the server counts what the browser counted
    assert judged(running_desk)["outcome"] != "review"

    page.get_by_test_id("approve").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("another person")
    admin.shot("refused")
    assert judged(running_desk)["outcome"] != "review"

    other = sign_in("approver")
    other.open(page.url.removeprefix(running_desk.url))
    other.page.get_by_test_id("approve").click()
    other.page.wait_for_url("**/desk/approvals/?lane=*")
    after = judged(running_desk)
    assert after["outcome"] == "review"
    assert after["threshold_set"] != before["threshold_set"]

    other.page.get_by_test_id("revert").first.click()
    other.page.wait_for_url("**/desk/approvals/*/")
    admin.open(other.page.url.removeprefix(running_desk.url))
    page.get_by_test_id("approve").click()
    page.wait_for_url("**/desk/approvals/?lane=*")
    admin.shot("approvals")
    assert judged(running_desk)["outcome"] != "review"


def test_a_rule_with_an_error_is_marked_and_a_switch_is_proposed(running_desk: RunningDesk, sign_in: SignIn) -> None:
    admin = sign_in("admin")
    page = admin.page
    admin.open("/desk/rules/")
    page.get_by_role("link", name="R-109").click()
    page.get_by_test_id("expression").fill("amont >= 300")
    page.get_by_test_id("reason").fill("Simpler")
    page.get_by_test_id("propose").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("did you mean amount")
    page.get_by_test_id("expression").fill("customer_amount_z >= 8 and amount >= 300")
    page.get_by_test_id("mode-shadow").check()
    page.get_by_test_id("propose").click()
    page.wait_for_url("**/desk/approvals/*/")
    expect(page.get_by_test_id("changes")).to_contain_text("shadow")
    page.get_by_test_id("withdraw").click()
    page.wait_for_url("**/desk/approvals/?lane=*")
