"""Every page, light and dark, under axe-core: nothing serious or critical. No page scrolls sideways, none complains.

The fixture that signs people in fails a test whose console showed an error, a violation of the content policy included.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visitor
from tests.browser.pages import DIALOGS, READERS, THEMES, new_case, pages_of
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
USES_A_CASE = pytest.mark.usefixtures("a_case")
SignIn = Callable[..., Visitor]
VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe-core-4.14.1" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Structure is the same in both themes: in the dark one only colours are looked at.
RULES: dict[str, dict[str, Any]] = {
    "light": {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}},
}
# 1280 px at 200 % zoom is 640 px of layout; a phone; the smallest that WCAG 1.4.10 names.
NARROW = (1280, 640, 390, 320)
TALLEST = 12_000


@pytest.fixture(scope="module")
def a_case(running_desk: RunningDesk) -> int:
    """So that the queue has a row and a case page can be looked at."""
    return new_case(running_desk)


def test_the_checker_is_what_its_row_says():
    [row] = [line for line in (VENDOR / "README.md").read_text().splitlines() if "axe-core-4.14.1/axe.min.js" in line]
    assert sha256(AXE.read_bytes()).hexdigest() in row


@USES_A_CASE
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_serious_on_any_page(sign_in: SignIn, theme: str):
    found: dict[str, list[str]] = {}
    for reader in READERS:
        visitor = sign_in(reader, color_scheme=theme)
        page = visitor.page
        for name, path in pages_of(page, visitor.desk.url, records=reader == "auditor").items():
            if name not in found:
                visitor.open(path)
                settle(page)
                found[name] = serious(page, theme)
    assert {name: violations for name, violations in found.items() if violations} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_serious_in_the_shells_dialogs_and_on_pages_without_a_person(sign_in: SignIn, theme: str):
    visitor = sign_in("lead", color_scheme=theme)
    page, found = visitor.page, {}
    for name, key in DIALOGS.items():
        visitor.open("/desk/live/")
        settle(page)
        page.keyboard.press(key)
        page.locator("dialog[open]").wait_for()
        found[name] = serious(page, theme)
    page.locator("dialog[open]").press("Escape")
    page.get_by_test_id("user-menu").click()
    found["menu"] = serious(page, theme)
    page.get_by_test_id("sign-out").click()
    page.wait_for_selector(".d-plain")
    found["signed-out"] = serious(page, theme)
    visitor.open("/desk/login/")
    found["sign-in"] = serious(page, theme)
    assert {name: violations for name, violations in found.items() if violations} == {}


@USES_A_CASE
def test_no_page_scrolls_sideways_at_1280_at_200_per_cent_or_on_a_phone(sign_in: SignIn):
    visitor = sign_in("lead")
    page, wide = visitor.page, []
    pages = pages_of(page, visitor.desk.url)
    for width in NARROW:
        page.set_viewport_size({"width": width, "height": 900})
        for name, path in pages.items():
            visitor.open(path)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            wide += [(name, width, over)] if over > 1 else []
    assert wide == []


@USES_A_CASE
def test_every_page_has_a_heading_landmarks_and_a_way_past_the_navigation(sign_in: SignIn):
    visitor = sign_in("lead")
    page, lacking = visitor.page, []
    for name, path in pages_of(page, visitor.desk.url).items():
        visitor.open(path)
        counts = page.evaluate(
            "[document.querySelectorAll('main').length, document.querySelectorAll('main h1').length,"
            " document.querySelectorAll('nav[aria-label]').length > 0, document.querySelector('.d-skip') !== null]"
        )
        page.keyboard.press("Tab")
        first = page.evaluate("document.activeElement.className")
        lacking += [(name, counts, first)] if counts != [1, 1, True, True] or first != "d-skip" else []
    assert lacking == []


def settle(page: Page) -> None:
    """Until fonts are there and the page has drawn itself."""
    page.wait_for_load_state("load")
    # Whole pages: what a sticky bar half covers would count as too small a target.
    tall = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": 1440, "height": min(max(900, tall + 80), TALLEST)})
    page.evaluate("document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => done())))")


def serious(page: Page, theme: str) -> list[str]:
    """What axe finds serious or critical: rule and first element."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE.read_text())
    result: dict[str, Any] = page.evaluate("rules => axe.run(document, rules)", RULES[theme])
    return [
        f"{each['id']}: {node['target'][0]} {node.get('failureSummary', '')[:160]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
