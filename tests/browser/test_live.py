"""What is told live: storms, filters, streaming, pause and sound, a line that was dead, and a session that ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import QUEUE, Team, live, numbers, post
from tests.browser.inside import Inside
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
# Alerts as the socket hands them over, `many` in the given seconds, in batches of ten.
STORM = """async ([many, seconds]) => {
  const at = Date.now();
  const alert = (n) => ({ id: 9e12 + n, seq: 9e9 + n, lane: 1, raised_at: new Date(at + n).toISOString(),
    occurred_at: new Date(at).toISOString(), outcome: 'review', score: 812, band: 'high', severity: n % 50 ? 3 : 1,
    reason: `storm ${n}`, customer: 'CU ••0001', amount: '10.00', amount_base: 1000, currency: 'EUR',
    channel: 'ecommerce' });
  const banner = document.querySelector('[data-testid=live-banner]');
  const changes = [];
  const rows = document.querySelector('[data-alerts]');
  const watch = new MutationObserver(() => changes.push(performance.now()));
  watch.observe(banner, { childList: true, subtree: true, characterData: true });
  watch.observe(rows, { childList: true });
  for (let n = 0; n < many; n += 10) {
    const alerts = Array.from({ length: 10 }, (_, i) => alert(n + i));
    document.dispatchEvent(new CustomEvent('desk:message', { detail: { type: 'alerts', lane: 1, alerts } }));
    await new Promise((done) => setTimeout(done, seconds * 10000 / many));
  }
  await new Promise((done) => setTimeout(done, 1200));
  watch.disconnect();
  const gaps = changes.slice(1).map((time, i) => time - changes[i]).filter((gap) => gap > 20);
  return { updates: gaps.length + 1, least: Math.min(...gaps) };
}"""


# Keeps the code with which each socket of the page was closed.
CODES = """(() => { const Plain = WebSocket; window.codes = [];
  window.WebSocket = class extends Plain { constructor(...given) { super(...given);
    this.addEventListener('close', (event) => window.codes.push(event.code)); } }; })()"""
FOLLOW = """() => document.dispatchEvent(new CustomEvent('desk:follow', {
  detail: JSON.parse(document.querySelector('#queue-follow').textContent) }))"""


@pytest.fixture
def ines(sign_in: SignIn) -> Visitor:
    visitor = sign_in("investigator", "/desk/live/")
    live(visitor.page)
    return visitor


@contextmanager
def silent(desk: RunningDesk) -> Iterator[None]:
    """The live server stands still: its sockets are open and dead, as behind a cable that was pulled."""
    group = desk.children["live"]
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def storm(page: Page, many: int, seconds: int) -> dict[str, Any]:
    return page.evaluate(STORM, [many, seconds])


def reasons(page: Page) -> list[str]:
    return page.eval_on_selector_all("[data-alerts] tr td:nth-child(5)", "cells => cells.map((cell) => cell.title)")


def test_at_fifty_alerts_a_second_the_page_changes_once_a_second_and_loses_nothing(ines: Visitor):
    """Q2.2: on the live page too."""
    page, banner = ines.page, ines.page.get_by_test_id("live-banner")
    before = reasons(page)
    seen = storm(page, 250, 5)
    assert seen["updates"] <= 7 and seen["least"] >= 900
    expect(banner).to_contain_text("250 new, 5 of them P1")
    assert reasons(page) == before, "rows stand still until the reader asks"
    page.keyboard.press("r")
    assert reasons(page)[:200] == [f"storm {n}" for n in range(249, 49, -1)]
    expect(page.locator("[data-more]")).to_contain_text("+50 more")
    expect(page.get_by_test_id("live-older")).to_be_visible()


def test_streamed_rows_come_in_by_themselves_the_rest_of_a_storm_as_more(ines: Visitor):
    page, banner = ines.page, ines.page.get_by_test_id("live-banner")
    page.get_by_test_id("live-follow").click()
    page.mouse.move(5, 5)
    seen = storm(page, 150, 3)
    assert seen["least"] >= 900
    expect(banner).to_contain_text("more")
    assert "storm 149" in reasons(page)
    page.keyboard.press("r")
    assert reasons(page)[:150] == [f"storm {n}" for n in range(149, -1, -1)]


def test_a_paused_page_stands_still_and_tells_afterwards_what_it_held_back(ines: Visitor):
    page, banner = ines.page, ines.page.get_by_test_id("live-banner")
    page.keyboard.press("p")
    storm(page, 10, 1)
    expect(banner).not_to_be_visible()
    page.keyboard.press("p")
    expect(banner).to_contain_text("10 new")


def test_filters_stand_in_the_address_and_hold_for_what_arrives(ines: Visitor):
    page, banner = ines.page, ines.page.get_by_test_id("live-banner")
    page.get_by_test_id("filter-severity").select_option("1")
    page.wait_for_url("**/desk/live/?severity=1")
    expect(page.get_by_test_id("live-state")).to_contain_text("Live")
    glyphs = page.eval_on_selector_all(
        "[data-alerts] .d-prio", "all => [...new Set(all.map((each) => each.textContent))]"
    )
    assert set(glyphs) <= {"P1"}
    storm(page, 100, 1)
    expect(banner).to_contain_text("2 new, 2 of them P1")
    page.get_by_test_id("filters-clear").click()
    page.wait_for_url("**/desk/live/")


def test_sound_is_off_until_it_is_switched_on(ines: Visitor):
    page, sound = ines.page, ines.page.get_by_test_id("live-sound")
    expect(sound).to_have_attribute("aria-pressed", "false")
    expect(sound).to_contain_text("Sound off")
    with page.expect_response("**/desk/preferences/") as kept:
        sound.click()
    assert kept.value.status == 200
    expect(sound).to_contain_text("Sound on")
    with page.expect_response("**/desk/preferences/"):
        sound.click()


def test_a_real_alert_is_there_within_two_seconds_and_its_row_leads_to_its_case(
    ines: Visitor, running_desk: RunningDesk
):
    """Q2.1: on the live page too."""
    page, banner = ines.page, ines.page.get_by_test_id("live-banner")
    answer = post(running_desk, steered("live-row"))
    expect(banner).to_contain_text("1 new", timeout=2000)
    page.keyboard.press("r")
    row = page.locator(f"[data-alerts] tr[data-alert='{answer['id']}']")
    expect(row).to_contain_text("120.00")
    assert (row.locator("a").get_attribute("href") or "").endswith(f"cases/by-alert/{answer['id']}/")


def test_a_dead_line_is_told_within_ten_seconds_and_nothing_is_lost_or_doubled(
    team: Team, running_desk: RunningDesk, sign_in: SignIn
):
    """Q2.3: [live-state] reads "Reconnecting"; after that, missed alerts are there, each once."""
    before = team.cases(2)
    page = live(sign_in(team.ada, QUEUE).page)
    watcher = live(sign_in(team.bo, "/desk/live/").page)
    badges = [each.get_by_test_id("live-state").first for each in (page, watcher)]
    with silent(running_desk):
        began = time.monotonic()
        missed = team.cases(2)
        for badge in badges:
            expect(badge).to_contain_text("Reconnecting", timeout=10_000)
        assert time.monotonic() - began <= 10
        expect(page.locator("[data-offline]")).to_be_visible()
    for each in (page, watcher):
        live(each)
        expect(each.get_by_test_id("live-banner")).to_contain_text("2 new")
    late = team.case()
    for each in (page, watcher):
        expect(each.get_by_test_id("live-banner")).to_contain_text("3 new")
        each.keyboard.press("r")
    expect(page.locator(f"tr[data-case={late.number}]")).to_be_visible()
    assert sorted(numbers(page)) == sorted(f"C-{case}" for case in (*before, *missed, late.case))
    expect(watcher.locator(f"[data-alerts] tr[data-alert='{late.payment}']")).to_have_count(1)
    shown = watcher.eval_on_selector_all("[data-alerts] tr", "rows => rows.map((row) => row.dataset.alert)")
    assert len(shown) == len(set(shown))


def test_a_session_that_ends_closes_the_socket_with_4401_and_asks_to_sign_in(
    team: Team, inside: Inside, sign_in: SignIn
):
    """Q2.4: no further data arrives."""
    team.case()
    ada = sign_in(team.ada)
    page, sockets = ada.page, []
    page.add_init_script(CODES)
    live(ada.open(QUEUE))
    inside(deeds.end_session_in, key=ada.session, seconds=2)
    page.evaluate(FOLLOW)
    expect(page.get_by_test_id("sign-in-notice")).to_contain_text("You are signed out")
    expect(page.get_by_test_id("live-state").first).to_contain_text("Signed out")
    assert page.evaluate("window.codes.at(-1)") == 4401
    page.on("websocket", lambda socket: sockets.append(socket.url))
    team.case()
    page.wait_for_timeout(1500)
    assert sockets == []
    expect(page.get_by_test_id("live-banner")).to_be_hidden()
    page.get_by_test_id("sign-in-notice").get_by_role("link", name="Sign in").click()
    page.wait_for_url(re.compile(r"/login/\?next="))
    person = team.desk.access["users"]["investigator"]
    page.fill("input[name=username]", person["username"])
    page.fill("input[name=password]", person["password"])
    page.get_by_test_id("sign-in").click()
    page.wait_for_url("**/desk/queue/**")
    live(page)
