"""The case page: why it was flagged and by which versions, facts, the timeline by keys and kinds, presence, widths."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import HANDS, Opened, Team, decision, found, post
from tests.browser.inside import Inside
from tests.payments import ordinary
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
EARLIER = 32  # payments: more than a page of the timeline
RULE = "R-106"  # somebody else steers the device


@pytest.fixture(scope="module")
def readers(running_desk: RunningDesk, inside: Inside) -> Team:
    """Who only looks at the one case of this file."""
    return found(running_desk, inside)


@pytest.fixture(scope="module")
def a_case(readers: Team) -> Opened:
    """A case of a customer with a past, with a place on the map. Tests that use it change nothing of it."""
    payment = readers.payment(location={"lat": 51.05, "lon": 3.72, "country": "BE"})
    before = [ordinary("past") | {"customer": payment["customer"]} for _ in range(EARLIER)]
    with ThreadPoolExecutor(HANDS) as pool:
        list(pool.map(lambda each: post(readers.desk, each), before))
    return readers.case(payment)


@pytest.fixture
def at_case(sign_in: SignIn, readers: Team, a_case: Opened) -> Page:
    """An investigator who looks at it."""
    return sign_in(readers.ada, a_case.path).page


# --- C1: why flagged --------------------------------------------------------------------------------------------------


def test_every_reason_of_the_decision_is_there_with_what_judged(
    at_case: Page, running_desk: RunningDesk, a_case: Opened
):
    """C1.1: [reason-list] has every rule hit of the API's answer; model, ruleset, thresholds and time are shown."""
    told = decision(running_desk, a_case.payment)
    reasons = at_case.get_by_test_id("reason-list")
    expect(reasons.locator("[data-lights]").first).to_be_visible()
    rules = [reason for reason in told["reasons"] if reason["source"].startswith("rule ")]
    assert rules
    for reason in rules:
        expect(reasons).to_contain_text(reason["text"])
    judged = at_case.get_by_test_id("judged-by")
    expect(judged).to_contain_text(f"model {told['model_version']}")
    expect(judged).to_contain_text(re.compile(r"ruleset release-\d+"))
    expect(judged).to_contain_text(re.compile(r"policy \d+, thresholds \d+ / \d+ / \d+"))
    expect(judged).to_contain_text(re.compile(r"As decided .*\d\d:\d\d"))


def test_the_version_that_fired_is_shown_after_the_rule_was_edited(team: Team, sign_in: SignIn, inside: Inside):
    """C1.2: after an edit and a reload the page shows the version that fired, and its definition read-only."""
    case = team.case()
    page = sign_in(team.ada, case.path).page
    reason = page.get_by_test_id("reason-list").locator("li", has_text=RULE).first
    link, said = reason.get_by_role("link", name=RULE), reason.locator(".d-evidence-say")
    fired, sentence = link.inner_text(), said.inner_text()
    newest = inside(deeds.rewrite_rule, code=RULE)
    assert f"{RULE} v{newest}" != fired
    page.reload()
    expect(link).to_have_text(fired)
    expect(said).to_have_text(sentence)
    link.click()
    expect(page.get_by_test_id("older-version")).to_contain_text(f"its newest version is {newest}")
    expect(page.get_by_test_id("expression")).to_contain_text("device_remote_access")
    expect(page.locator("main form")).to_have_count(0)


def test_a_reason_lights_the_facts_it_read(at_case: Page):
    page = at_case
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


def test_all_rules_are_fetched_when_asked_for(at_case: Page):
    """C1.3: hits only, or all rules evaluated."""
    button = at_case.get_by_test_id("all-rules")
    button.click()
    everything = at_case.get_by_role("region", name="All rules evaluated")
    expect(everything).to_contain_text("no hit")
    expect(everything.locator("tr.is-hit", has_text=RULE)).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "true")
    at_case.get_by_role("button", name="Hits only").click()
    expect(everything).to_be_hidden()


# --- C2: facts --------------------------------------------------------------------------------------------------------


def test_facts_are_copied_by_a_click_and_say_what_was_not_sent(sign_in: SignIn, readers: Team, a_case: Opened):
    """C2: first seen and times seen of each entity, a copy button for each value, "not sent" for what is missing."""
    page = sign_in(readers.ada, a_case.path).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    fact = {key: page.locator(f"[data-fact={key}]").first for key in ("our_id", "device", "card", "payee")}
    assert all(locator.count() for locator in fact.values()), "every group of facts is there"
    expect(fact["device"]).to_contain_text(re.compile(r"first seen \d\d:\d\d, 1 time"))
    expect(fact["card"]).to_contain_text("first seen")
    expect(fact["payee"]).to_contain_text("not sent")
    expect(fact["payee"].locator("[data-copy]")).to_have_count(0)
    sent = page.locator("[data-fact]").filter(has_not_text="not sent")
    expect(sent.locator("[data-copy]")).to_have_count(sent.count())
    fact["our_id"].get_by_role("button", name=re.compile("^Copy")).click()
    assert page.evaluate("navigator.clipboard.readText()") == str(a_case.payment)


# --- C3: the timeline -------------------------------------------------------------------------------------------------


def test_the_timeline_is_walked_filtered_and_continued(at_case: Page):
    """C3: filter by kind; times with UTC on hover; older ones by cursor."""
    page = at_case
    lines = page.locator("[data-testid=timeline] [data-row]")
    for key, place in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        expect(lines.nth(place)).to_contain_class("is-current")
    assert (lines.first.locator("time").get_attribute("title") or "").endswith("UTC")
    page.locator("[data-show=case]").click()
    expect(page.locator("[data-testid=timeline] [data-kind=payment]")).to_have_count(0)
    expect(page.locator("[data-testid=timeline] [data-kind=event]").first).to_be_visible()
    assert "show=case" in page.url
    page.locator("[data-show=payments]").click()
    expect(page.locator("[data-testid=timeline] [data-kind=event]")).to_have_count(0)
    expect(lines).to_have_count(30)
    page.get_by_test_id("timeline").get_by_role("link", name="Older").click()
    expect(lines).to_have_count(EARLIER + 1)
    moments = lines.locator("time").evaluate_all("all => all.map((each) => each.dateTime)")
    assert moments == sorted(moments, reverse=True)


# --- who looks, where from, how wide ----------------------------------------------------------------------------------


def test_two_people_see_each_other(sign_in: SignIn, readers: Team, a_case: Opened):
    """Q4.3: presence is shown, and goes when somebody leaves."""
    ada, bo = sign_in(readers.ada, a_case.path).page, sign_in(readers.bo, a_case.path)
    land = readers.land.title()
    expect(bo.page.get_by_test_id("presence")).to_contain_text(f"Ada {land} is looking")
    ada.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(ada.get_by_test_id("presence")).to_contain_text(f"Bo {land} is looking")
    bo.open("/desk/preferences/")
    ada.wait_for_timeout(300)
    ada.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(ada.get_by_test_id("presence")).not_to_contain_text("is looking")


def test_u_leads_back_to_the_list_as_it_was(sign_in: SignIn, readers: Team, a_case: Opened):
    """K2: U is back to the list, with its filters and order."""
    ada = sign_in(readers.ada, "/desk/queue/?sort=-score")
    ada.page.get_by_role("link", name=a_case.number).click()
    ada.page.wait_for_url(f"**{a_case.path}")
    ada.page.keyboard.press("u")
    ada.page.wait_for_url("**/desk/queue/**")
    assert "sort=-score" in ada.page.url


def test_nothing_scrolls_sideways(sign_in: SignIn, readers: Team, a_case: Opened):
    """C0: 1280 px without sideways scroll, reflow at 200 % zoom (640 px), readable on a phone."""
    ada, wide = sign_in(readers.ada), []
    for width, height in ((1440, 900), (1280, 800), (640, 400), (390, 800), (320, 640)):
        ada.page.set_viewport_size({"width": width, "height": height})
        ada.open(a_case.path)
        needed = ada.page.evaluate("document.documentElement.scrollWidth")
        wide += [(width, needed)] if needed > width else []
        ada.shot(f"case-{width}")
    assert wide == []
