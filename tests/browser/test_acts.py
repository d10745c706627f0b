"""Acts on a case by keyboard alone, in a real browser: from alert to label, taking back, and a second person."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_closed_loop import case_of, decision, eventually, learnt, post
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[[str], Visitor]
FOCUSED = "() => document.activeElement?.dataset?.testid ?? document.activeElement?.name ?? ''"


def tab_to(page: Page, name: str, most: int = 25) -> None:
    """Press Tab until the field of that test id or name has the focus."""
    for _ in range(most):
        if page.evaluate(FOCUSED) == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reached {name}")


def decide_by_keyboard(page: Page, key: str, *, onwards: bool = False) -> None:
    """The whole dialog without a mouse: F or L, type, reason, rationale, Ctrl+Enter."""
    page.keyboard.press(key)
    expect(page.get_by_test_id("close-dialog")).to_be_visible()
    if key == "f":
        tab_to(page, "fraud_type")
        page.keyboard.press("Space")
    tab_to(page, "close-reason")
    page.keyboard.type("FR-01" if key == "f" else "LG-01")
    tab_to(page, "rationale")
    page.keyboard.type("Called; the customer told us all about it.")
    if not onwards:
        page.get_by_test_id("auto-next").uncheck()
        page.get_by_test_id("rationale").focus()
    page.keyboard.press("Control+Enter")


def claimed(desk: RunningDesk, visitor: Visitor, name: str) -> int:
    """The payment's id; its case is open in the browser, in this person's hands."""
    answer = post(desk, steered(name))
    case = eventually(lambda: case_of(desk, answer["id"]))
    visitor.open(f"/desk/cases/{case}/")
    visitor.page.keyboard.press("a")
    expect(visitor.page.get_by_test_id("case-status")).to_contain_text("In review")
    return int(answer["id"])


def test_from_alert_to_label_by_keyboard_alone_in_under_ten_seconds(running_desk: RunningDesk, sign_in: SignIn) -> None:
    ines = sign_in("investigator")
    page = ines.page
    ines.open("/desk/live/")
    expect(page.get_by_test_id("live-state").first).to_contain_text("Live")
    began = time.monotonic()
    answer = post(running_desk, steered("keyboard"))
    expect(page.get_by_test_id("live-banner")).to_contain_text("new", timeout=5_000)
    page.keyboard.press("r")
    expect(page.locator(f"[data-alert='{answer['id']}']")).to_be_visible()
    eventually(lambda: case_of(running_desk, answer["id"]))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/desk/cases/*/")
    page.keyboard.press("a")
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    decide_by_keyboard(page, "f", onwards=True)
    page.get_by_test_id("undo-bar").wait_for()
    took = time.monotonic() - began
    assert took < 10, f"{took:.1f} s"
    assert eventually(lambda: learnt(running_desk, answer["id"]) == "2")


def test_a_close_is_taken_back_within_its_seconds_and_nobody_outside_was_told(
    running_desk: RunningDesk, sign_in: SignIn
) -> None:
    ines = sign_in("investigator")
    payment = claimed(running_desk, ines, "undone")
    decide_by_keyboard(ines.page, "f")
    expect(ines.page.get_by_test_id("case-status")).to_contain_text("Closed")
    assert decision(running_desk, payment)["resolution"] == "pending"
    ines.shot("undo")
    ines.page.keyboard.press("z")
    expect(ines.page.get_by_test_id("case-status")).to_contain_text("In review")
    assert decision(running_desk, payment)["resolution"] == "pending"
    decide_by_keyboard(ines.page, "l")
    eventually(lambda: decision(running_desk, payment)["resolution"] == "released", patience=25)


def test_the_dialog_says_what_follows_before_it_is_submitted(running_desk: RunningDesk, sign_in: SignIn) -> None:
    ines = sign_in("investigator")
    claimed(running_desk, ines, "told")
    page = ines.page
    page.keyboard.press("f")
    expect(page.get_by_test_id("consequences")).to_contain_text("Blocks 1 held payment")
    expect(page.get_by_test_id("consequences")).to_contain_text("Still to do")
    page.get_by_test_id("disposition-legitimate").check()
    expect(page.get_by_test_id("consequences")).to_contain_text("Releases 1 held payment")
    ines.shot("close-dialog")
    page.keyboard.press("Escape")
    page.get_by_test_id("checks-open").click()
    page.locator("[data-step]").first.click()
    expect(page.locator("[data-step]").first).to_have_text("Done")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.locator("#wait button[data-submit]").click()
    expect(page.get_by_test_id("case-status")).to_contain_text("Waiting")


def test_much_money_waits_for_a_second_person(running_desk: RunningDesk, sign_in: SignIn) -> None:
    payment = steered("much")
    payment["amount"] = {"value": 2_500_000, "currency": "EUR"}
    ines, lead = sign_in("investigator"), sign_in("lead")
    answer = post(running_desk, payment)
    case = eventually(lambda: case_of(running_desk, answer["id"]))
    ines.open(f"/desk/cases/{case}/")
    ines.page.keyboard.press("a")
    expect(ines.page.get_by_test_id("case-status")).to_contain_text("In review")
    ines.page.keyboard.press("f")
    expect(ines.page.get_by_test_id("consequences")).to_contain_text("Waits for a second person")
    ines.page.keyboard.press("Escape")
    decide_by_keyboard(ines.page, "f")
    expect(ines.page.get_by_test_id("case-status")).to_contain_text("approval")
    lead.open(f"/desk/cases/{case}/")
    lead.page.get_by_test_id("check-request").click()
    expect(lead.page.get_by_test_id("approval-diff")).to_contain_text("Confirmed fraud")
    lead.shot("approval")
    lead.page.get_by_test_id("approve").click()
    lead.open(f"/desk/cases/{case}/")
    expect(lead.page.get_by_test_id("case-status")).to_contain_text("Closed")
