"""The frame of every page, by keyboard: palette, keys and their off switch, help, preferences, end of a session."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import Visitor
from tests.browser.deskwork import Team, live

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
DELIVERED = {"shortcuts": True, "keys": {}, "theme": "system", "density": "normal", "sound": False}


@pytest.fixture
def ada(sign_in: SignIn, shared_team: Team) -> Visitor:
    """An investigator of this file alone, with the desk as delivered."""
    visitor = sign_in(shared_team.ada)
    prefer(visitor.page, **DELIVERED)
    return visitor


def prefer(page: Page, **changes: object) -> None:
    """Keep preferences as the page's own script does."""
    send = """changes => fetch(document.body.dataset.preferences, {
      method: 'POST', body: JSON.stringify(changes), headers: {
      'Content-Type': 'application/json', 'X-CSRFToken': document.querySelector('[name=csrfmiddlewaretoken]').value}})
      .then((answer) => answer.status)"""
    assert page.evaluate(send, changes) == 200


def test_the_palette_is_a_combobox_that_finds_pages_cases_and_acts(ada: Visitor, shared_team: Team):
    case = shared_team.case()
    page, field = ada.page, ada.page.get_by_test_id("command-input")
    ada.open("/desk/live/")
    page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    field.fill("pause")
    expect(page.locator("#command-list [role=option][aria-selected=true]")).to_contain_text("Pause or resume")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("live-pause")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+k")
    field.fill(case.number)
    option = page.locator("#command-list [role=option]").first
    expect(option).to_contain_text(case.number, timeout=2000)
    expect(field).to_have_attribute("aria-activedescendant", option.get_attribute("id") or "")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{case.path}")
    page.keyboard.press("Control+k")
    field.fill("prefer")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/desk/preferences/")


def test_the_palette_answers_within_300_ms(ada: Visitor):
    page = ada.page
    took = page.evaluate(
        """async () => { const all = []; for (let n = 0; n < 21; n += 1) { const at = performance.now();
        await fetch(document.getElementById('commands').dataset.find + '?q=' + (n + 1));
        all.push(performance.now() - at); }
        return all.sort((a, b) => a - b)[19]; }"""
    )
    assert took <= 300


def test_help_tells_what_the_keys_do_on_this_page_and_nothing_else(ada: Visitor):
    page, dialog = ada.page, ada.page.get_by_test_id("keyboard-help")
    ada.open("/desk/live/")
    page.keyboard.press("?")
    expect(dialog).to_contain_text("Pause or resume")
    expect(dialog).to_contain_text("Go to")
    page.keyboard.press("Escape")
    ada.open("/desk/preferences/")
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    expect(dialog).not_to_contain_text("Pause or resume")


def everything(page: Page) -> str:
    """The page as it stands, without what changes by itself (ages, counts of what arrives)."""
    return page.evaluate(
        """() => { const copy = document.querySelector('main').cloneNode(true);
        const moving = 'time, [data-lease], [data-lease-left], svg, .d-due, .c-age, [aria-live], [role=status]';
        for (const part of copy.querySelectorAll(moving)) part.remove();
        const dialogs = document.querySelectorAll('dialog[open]').length;
        return location.href + dialogs + document.activeElement.tagName + copy.innerHTML; }"""
    )


@pytest.mark.parametrize("place", ["queue", "case"])
def test_with_shortcuts_off_every_letter_changes_nothing(ada: Visitor, shared_team: Team, place: str):
    """K4: on the queue and on a case, every letter and digit."""
    page, sent = ada.page, []
    case = shared_team.case()
    prefer(page, shortcuts=False)
    live(ada.open("/desk/queue/" if place == "queue" else case.path))
    page.wait_for_load_state("networkidle")
    assert page.locator("[aria-keyshortcuts='N'], [aria-keyshortcuts='F'], [aria-keyshortcuts='/']").count() == 0
    before = everything(page)

    def note(request: Request) -> None:
        if request.method != "GET" and "presence" not in request.url and "lease" not in request.url:
            sent.append(request.url)

    page.on("request", note)
    for key in [*string.ascii_lowercase, *string.digits, "/", "?", "Shift+A", "Shift+N"]:
        page.keyboard.press(key)
    page.wait_for_timeout(400)
    assert sent == []
    assert everything(page) == before


def test_keys_rest_in_fields_under_dialogs_and_while_a_modifier_is_held(ada: Visitor):
    page = ada.page
    ada.open("/desk/live/")
    pause = page.get_by_test_id("live-pause")
    page.get_by_test_id("search").click()
    page.keyboard.press("p")
    expect(page.get_by_test_id("search")).to_have_value("p")
    page.get_by_test_id("search").blur()
    for held in ("Shift", "Alt"):
        page.keyboard.press(f"{held}+p")
    page.keyboard.press("?")
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    expect(pause).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("p")
    expect(pause).to_have_attribute("aria-pressed", "true")


def test_a_key_can_be_given_another_letter_and_everything_printed_follows(ada: Visitor):
    page = ada.page
    ada.open("/desk/preferences/")
    page.get_by_test_id("key-p").fill("M")
    page.get_by_test_id("keep").click()
    expect(page.get_by_test_id("messages")).to_contain_text("kept")
    ada.open("/desk/live/")
    pause = page.get_by_test_id("live-pause")
    expect(pause).to_have_attribute("aria-keyshortcuts", "M")
    expect(pause.locator("kbd")).to_have_text("M")
    page.keyboard.press("p")
    expect(pause).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("m")
    expect(pause).to_have_attribute("aria-pressed", "true")


def test_g_and_a_letter_go_to_a_page_and_a_letter_that_leads_nowhere_does_nothing(ada: Visitor):
    page = ada.page
    ada.open("/desk/live/")
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page.get_by_test_id("live-pause")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/desk/queue/**")


def test_preferences_follow_a_person_into_another_browser(ada: Visitor, sign_in: SignIn, shared_team: Team):
    page = ada.page
    ada.open("/desk/preferences/")
    page.get_by_test_id("theme-dark").check()
    page.get_by_test_id("density-dense").check()
    page.get_by_test_id("keep").click()
    expect(page.get_by_test_id("messages")).to_contain_text("kept")
    elsewhere = sign_in(shared_team.ada).page
    root = elsewhere.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    expect(root).to_have_attribute("data-density", "dense")


def test_the_users_menu_works_by_keyboard(ada: Visitor):
    page, menu = ada.page, ada.page.get_by_test_id("user-menu")
    menu.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("preferences-link")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    expect(menu).to_have_attribute("aria-expanded", "false")


def test_a_sign_out_reaches_every_open_page_at_once(ada: Visitor):
    other = ada.page.context.new_page()
    other.goto(ada.desk.url + "/desk/live/")
    expect(other.get_by_test_id("live-state")).to_contain_text("Live")
    page = ada.page.context.new_page()
    page.goto(ada.desk.url + "/desk/")
    page.get_by_test_id("user-menu").click()
    page.get_by_test_id("sign-out").click()
    expect(other.get_by_test_id("sign-in-notice")).to_contain_text("You are signed out", timeout=3000)
    expect(other.get_by_test_id("live-state")).to_contain_text("Signed out")


def test_before_a_session_ends_the_desk_warns_and_the_person_can_stay(ada: Visitor):
    page, warning = ada.page, ada.page.get_by_test_id("session-warning")
    page.clock.install()
    ada.open("/desk/preferences/")
    left = int(page.locator("body").get_attribute("data-session-left") or 0)
    page.clock.fast_forward((left - 90) * 1000)
    page.clock.run_for(2000)
    expect(warning).to_be_visible()
    expect(warning).to_contain_text("1:2")
    page.get_by_test_id("stay").click()
    expect(warning).to_be_hidden()
    page.clock.fast_forward((left - 1000) * 1000)
    page.clock.run_for(2000)
    expect(page.get_by_test_id("sign-in-notice")).to_have_count(0)
    page.clock.fast_forward(1200 * 1000)
    page.clock.run_for(2000)
    expect(page.get_by_test_id("sign-in-notice")).to_be_visible()


def test_on_a_phone_the_rail_lies_on_top_and_every_page_of_it_can_be_reached(ada: Visitor):
    page = ada.page
    page.set_viewport_size({"width": 390, "height": 800})
    ada.open("/desk/live/")
    rail = page.locator("#nav-sidebar").bounding_box()
    assert rail and rail["height"] < 120 and rail["width"] > 350
    page.locator("#nav-sidebar a", has_text="Queue").first.click()
    page.wait_for_url("**/desk/queue/**")


def test_what_the_header_has_no_room_for_stands_in_the_menu(ada: Visitor):
    page = ada.page
    page.set_viewport_size({"width": 640, "height": 400})  # 1280 px at 200 % zoom
    ada.open("/desk/live/")
    expect(page.get_by_test_id("open-commands")).to_be_hidden()
    page.get_by_test_id("user-menu").click()
    menu = page.locator("#user-menu")
    for words in ("Next case", "Keyboard help", "Theme"):
        expect(menu.get_by_role("button", name=words)).to_be_visible()
    menu.get_by_role("button", name="Commands").click()
    expect(page.get_by_test_id("command-input")).to_be_focused()


def test_what_a_figure_means_is_read_with_the_keyboard_too(ada: Visitor):
    page, words = ada.page, ada.page.locator(".d-tipbox")
    ada.open("/desk/my-day/")
    tip = page.locator(".d-tip").first
    tip.focus()
    expect(words).to_have_text((tip.get_attribute("aria-label") or "").removeprefix("Formula: "))
    page.keyboard.press("Escape")
    expect(words).to_be_hidden()
    tip.hover()
    words.hover()
    expect(words).to_be_visible()
