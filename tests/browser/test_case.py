"""The case page in a real browser: reasons light facts, the timeline by keys and kinds, presence, lease, widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_closed_loop import case_of, eventually, post
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[[str], Visitor]


@pytest.fixture(scope="module")
def case_id(running_desk: RunningDesk) -> Any:
    answer = post(running_desk, steered("case-page") | {"location": {"lat": 51.05, "lon": 3.72, "country": "BE"}})
    return eventually(lambda: case_of(running_desk, answer["id"]))


def claimed(visitor: Visitor, case_id: int) -> Page:
    visitor.open(f"/desk/cases/{case_id}/")
    claim = visitor.page.get_by_test_id("claim")
    if claim.count():
        claim.click()
    else:
        expect(visitor.page.get_by_test_id("case-status")).to_contain_text("In review")
    return visitor.page


def test_a_reason_lights_the_facts_it_read(sign_in: SignIn, case_id: int) -> None:
    page = claimed(sign_in("investigator"), case_id)
    reason = page.locator("[data-lights]").first
    reason.focus()
    keys = (reason.get_attribute("data-lights") or "").split()
    for key in keys:
        for fact in page.locator(f"[data-fact={key}]").all():
            expect(fact).to_have_class("is-lit")
    expect(page.locator("[data-fact].is-lit")).to_have_count(
        sum(page.locator(f"[data-fact={k}]").count() for k in keys)
    )
    page.keyboard.press("Shift+Tab")
    expect(page.locator("[data-fact=external_id].is-lit")).to_have_count(0)


def test_all_rules_are_fetched_when_asked_for(sign_in: SignIn, case_id: int) -> None:
    page = claimed(sign_in("investigator"), case_id)
    expect(page.get_by_test_id("reason-list").locator("[data-lights]").first).to_be_visible()
    button = page.get_by_test_id("all-rules")
    button.click()
    expect(page.get_by_role("region", name="All rules evaluated")).to_contain_text("no hit")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Hits only").click()
    expect(page.get_by_role("region", name="All rules evaluated")).to_be_hidden()


def test_the_timeline_is_walked_and_filtered(sign_in: SignIn, case_id: int) -> None:
    page = claimed(sign_in("investigator"), case_id)
    lines = page.locator("[data-testid=timeline] [data-row]")
    page.keyboard.press("j")
    expect(lines.nth(0)).to_contain_class("is-current")
    page.keyboard.press("j")
    expect(lines.nth(1)).to_contain_class("is-current")
    page.keyboard.press("k")
    expect(lines.nth(0)).to_contain_class("is-current")
    page.locator("[data-show=case]").click()
    expect(page.locator("[data-testid=timeline] [data-kind=payment]")).to_have_count(0)
    expect(page.locator("[data-testid=timeline] [data-kind=event]").first).to_be_visible()
    assert "show=case" in page.url
    assert (lines.first.locator("time").get_attribute("title") or "").endswith("UTC")


def test_two_people_see_each_other_and_the_lease_of_one(sign_in: SignIn, case_id: int) -> None:
    ines = claimed(sign_in("investigator"), case_id)
    expect(ines.get_by_test_id("lease")).to_contain_text("Yours for")
    tomas = sign_in("investigator2")
    tomas.open(f"/desk/cases/{case_id}/")
    expect(tomas.page.get_by_test_id("in-use")).to_contain_text("In use by Ines Verbeek since")
    expect(tomas.page.get_by_test_id("presence")).to_contain_text("Ines Verbeek is looking")
    expect(tomas.page.get_by_test_id("close-open")).to_have_count(0)
    ines.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(ines.get_by_test_id("presence")).to_contain_text("Tomás Oliveira is looking")
    tomas.open("/desk/queue/")
    ines.wait_for_timeout(300)
    ines.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(ines.get_by_test_id("presence")).not_to_contain_text("is looking")
    ines.get_by_test_id("extend").click()
    expect(ines.locator("[data-lease-left]")).to_contain_text("14:5")


def test_u_leads_back_to_the_list_as_it_was(sign_in: SignIn, case_id: int) -> None:
    ines = sign_in("investigator")
    ines.open("/desk/queue/?sort=-score")
    ines.page.goto(f"{ines.desk.url}/desk/cases/{case_id}/", referer=f"{ines.desk.url}/desk/queue/?sort=-score")
    ines.page.keyboard.press("u")
    ines.page.wait_for_url("**/desk/queue/**")
    assert "sort=-score" in ines.page.url


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (640, 400), (390, 800), (320, 640)])
def test_nothing_scrolls_sideways(sign_in: SignIn, case_id: int, width: int, height: int) -> None:
    ines = sign_in("investigator")
    ines.page.set_viewport_size({"width": width, "height": height})
    ines.open(f"/desk/cases/{case_id}/")
    assert ines.page.evaluate("document.documentElement.scrollWidth") <= width
    for theme in ("light", "dark"):
        ines.page.emulate_media(color_scheme=theme)
        ines.shot(f"case-{width}-{theme}")
