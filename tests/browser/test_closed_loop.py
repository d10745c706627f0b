"""What an investigator does all day, by keyboard alone: alert, case, verdict, and the label the next model learns."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import Team, decide, decision, eventually, live, post
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
FRAUD = 2  # as the training data write it


def test_from_alert_to_label_by_keyboard_alone_in_under_ten_seconds(
    team: Team,
    running_desk: RunningDesk,
    inside: Inside,
    sign_in: Callable[..., Visitor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """L1: the alert arrives live, R shows it, Enter opens its case, A claims it, F closes it as fraud."""
    ada = sign_in(team.ada, "/desk/live/")
    page = live(ada.page)
    began = time.monotonic()
    answer = post(running_desk, team.payment())
    assert (answer["decision"]["outcome"], answer["decision"]["resolution"]) == ("review", "pending")
    expect(page.get_by_test_id("live-banner")).to_contain_text("1 new")
    page.keyboard.press("r")
    expect(page.locator(f"[data-alert='{answer['id']}']")).to_contain_text("120.00")
    ada.shot("live")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/desk/cases/*/")
    case = int(page.url.rstrip("/").rsplit("/", 1)[-1])
    expect(page.get_by_test_id("reason-list")).to_contain_text("steers the device")
    page.keyboard.press("a")
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    decide(page, "f", onwards=True)
    page.get_by_test_id("undo-bar").wait_for()
    eventually(lambda: inside(deeds.learnt, payment=answer["id"]) == FRAUD)
    took = time.monotonic() - began
    with capsys.disabled():
        print(f"\nalert to label by keyboard alone: {took:.1f} s")
    assert took < 10, f"{took:.1f} s"
    inside(deeds.past_the_undo, case=case)
    assert decision(running_desk, answer["id"])["resolution"] == "blocked"
