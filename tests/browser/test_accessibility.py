"""Every page under axe-core, light and dark; at every width; by keyboard. No console may complain.

Each page is loaded once: both themes and all widths are of the same document. What stands in dialogs, tabs and menus is
looked at where it opens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.pages import DIALOGS, READERS, THEMES, pages_of
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
Found = dict[str, list[str]]
VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe-core-4.14.1" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# The dark theme is the same document in other colours (the page is not loaded again): all that colours can break is
# asked again, and nothing that they cannot.
RULES: dict[str, dict[str, Any]] = {
    "light": {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}},
}
# 1280 px, which at 200 % zoom is 640 px of layout; a phone; the smallest that WCAG 1.4.10 names.
NARROW = (1280, 640, 390, 320)
TALLEST = 12_000
ALIKE = 3
CHECKERS_OWN = "Applying inline style violates"  # of one stock form the checker itself breaks the page's policy
# Of a stock list: whether rows, filters, a search and pages are there. Our own pages are like none but themselves.
LOOK = """() => { const parts = ['#result_list', '#changelist-filter', '#searchbar', '.paginator a'];
  const there = parts.map((part) => Boolean(document.querySelector(part))).join();
  return document.querySelector('#changelist') ? there : location.pathname; }"""
STRUCTURE = """() => ({ main: document.querySelectorAll('main').length, h1: document.querySelectorAll('main h1').length,
  navigation: document.querySelectorAll('nav[aria-label]').length > 0, title: document.title.length > 5 })"""
# What shows the hand of a link without being one: nobody could reach it by keyboard.
MOUSE_ONLY = """() => [...document.querySelectorAll('body *')].filter((part) => part.checkVisibility()
    && getComputedStyle(part).cursor === 'pointer' && getComputedStyle(part.parentElement).cursor !== 'pointer'
    && !part.closest('a[href], button, summary, label, input, select, [role=option]')).map((part) => part.outerHTML)"""
TABBABLE = """() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
  .filter((part) => part.tabIndex >= 0 && !part.disabled && part.type !== 'hidden'
    && part.checkVisibility({ visibilityProperty: true }))"""
# Marks what has the focus as reached; tells it only if nobody would see that it has.
FOCUS = """() => { const part = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(part);
  part.dataset.reached = 'yes';
  const seen = part === document.body || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2);
  return seen ? '' : part.outerHTML.slice(0, 120); }"""


def test_the_checker_is_what_its_row_says():
    [row] = [line for line in (VENDOR / "README.md").read_text().splitlines() if "axe-core-4.14.1/axe.min.js" in line]
    assert sha256(AXE.read_bytes()).hexdigest() in row


@pytest.fixture(scope="module")
def a_case(running_desk: RunningDesk) -> int:
    """So that the queue has a row and a case page can be looked at."""
    return new_case(running_desk)


@pytest.mark.usefixtures("a_case")
def test_every_page_is_sound_in_both_themes_and_at_every_width(sign_in: SignIn):
    """Each page as the first of the readers who sees it, who is the one with the most rights there.

    The stock lists of rows are thirty of one template with one look; of each such look some stand for all.
    """
    found: Found = {}
    looks = Counter[str]()
    for reader in READERS:
        visitor = sign_in(reader)
        pages = pages_of(visitor.page, visitor.desk.url, records=reader == "auditor")
        for name in [name for name in pages if name not in found]:
            page = visitor.open(pages[name])
            found[name] = [*structure(page), *sideways(page), *visitor.complaints]
            visitor.complaints.clear()
            look = page.evaluate(LOOK)
            looks[look] += 1
            if looks[look] <= ALIKE:
                found[name] += both_themes(page)
            found[name] += [said for said in visitor.complaints if CHECKERS_OWN not in said]
            visitor.complaints.clear()
    assert len(found) > 50
    assert faults(found) == {}


def test_the_shells_dialogs_and_the_pages_without_a_person_are_sound(sign_in: SignIn):
    visitor, found = sign_in("lead"), {}
    page = visitor.page
    visitor.open("/desk/live/")
    for name, key in DIALOGS.items():
        page.keyboard.press(key)
        page.locator("dialog[open]").wait_for()
        found[name] = both_themes(page)
        page.keyboard.press("Escape")
        page.locator("dialog[open]").wait_for(state="hidden")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.get_by_test_id("user-menu").click()
        found[f"menu at {width}"] = both_themes(page, "#header")
        page.keyboard.press("Escape")
    page.get_by_test_id("user-menu").click()
    page.get_by_test_id("sign-out").click()
    page.wait_for_selector(".d-plain")
    found["signed-out"] = both_themes(page)
    visitor.open("/desk/login/")
    found["sign-in"] = [*both_themes(page), *sideways(page)]
    assert faults(found) == {}


def test_what_opens_on_the_case_page_is_sound(sign_in: SignIn, a_case: int):
    visitor, found = sign_in("investigator"), {}
    page = visitor.page
    visitor.open(f"/desk/cases/{a_case}/")
    page.keyboard.press("a")
    expect(page.get_by_test_id("lease")).to_contain_text("Yours for")
    found["claimed"] = [*both_themes(page), *sideways(page)]
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_load_state("networkidle")
        found[f"tab {tab.inner_text()}"] = both_themes(page, ".d-case")
    for opener in page.locator(".d-bar [data-open]").all():
        name = opener.get_attribute("data-open") or ""
        page.evaluate("name => document.querySelector(`.d-bar [data-open=${name}]`).click()", name)
        page.locator(f"#{name}[open]").wait_for()
        found[f"dialog {name}"] = both_themes(page, f"#{name}")
        page.keyboard.press("Escape")
    assert faults(found) == {}


def test_what_opens_on_the_queue_is_sound(sign_in: SignIn, a_case: int):
    visitor, found = sign_in("lead"), {}
    page = visitor.page
    visitor.open("/desk/queue/")
    page.keyboard.press("Space")
    expect(page.get_by_test_id("preview-reasons")).to_be_visible()
    page.keyboard.press("x")
    expect(page.get_by_test_id("bulk-bar")).to_be_visible()
    found["preview and bulk bar"] = both_themes(page)
    for act in ("filter-open", "save-view", "bulk-assign", "bulk-snooze", "bulk-legitimate"):
        page.get_by_test_id(act).click()
        page.locator("#sheet[open]").wait_for()
        found[act] = both_themes(page, "#sheet")
        page.keyboard.press("Escape")
    assert faults(found) == {}


@pytest.mark.parametrize("place", ["queue", "case", "live", "dashboard"])
def test_tab_reaches_everything_and_the_focus_is_seen(sign_in: SignIn, a_case: int, place: str):
    visitor = sign_in("lead")
    page = visitor.page
    visitor.open({"case": f"/desk/cases/{a_case}/", "dashboard": "/desk/"}.get(place, f"/desk/{place}/"))
    page.wait_for_load_state("networkidle")
    unseen = []
    for _ in range(page.evaluate(f"({TABBABLE})().length") + 4):
        page.keyboard.press("Tab")
        unseen += [page.evaluate(FOCUS)]
    unreached = page.evaluate(f"({TABBABLE})().filter((part) => !part.dataset.reached).map((part) => part.outerHTML)")
    assert ([part for part in unseen if part], unreached) == ([], [])


def new_case(desk: RunningDesk) -> int:
    """A case that was not there before: a payment is stopped, and the worker opens its case."""
    status, answer = desk.api("POST", "/api/v1/transactions", steered("frame"), Prefer="wait=10")
    assert status in (200, 201), answer
    until = time.monotonic() + 30
    while time.monotonic() < until:
        case = desk.api("GET", f"/api/v1/transactions/{answer['id']}")[1]["decision"]["case_id"]
        if case:
            return case
        time.sleep(0.2)
    raise AssertionError("no case was opened")


def faults(found: Found) -> Found:
    """Only the places where something is wrong."""
    return {name: said for name, said in found.items() if said}


def structure(page: Page) -> list[str]:
    """One main part and one heading, named navigation, a title, a way past the navigation, nothing for mice alone."""
    counts = page.evaluate(STRUCTURE)
    first = page.evaluate(f"({TABBABLE})()[0].className")
    wrong = [] if counts == {"main": 1, "h1": 1, "navigation": True, "title": True} else [f"structure: {counts}"]
    return [*wrong, *([] if first == "d-skip" else [f"Tab begins at {first!r}"]), *page.evaluate(MOUSE_ONLY)]


def both_themes(page: Page, part: str = "html") -> list[str]:
    """What axe finds in a part of the page, light and dark."""
    settle(page)
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        found += [f"{theme} {said}" for said in serious(page, theme, part)]
    page.emulate_media(color_scheme="light")
    return found


def sideways(page: Page) -> list[str]:
    """The widths at which the page would have to be scrolled sideways to be read."""
    over = {}
    for width in NARROW:
        page.set_viewport_size({"width": width, "height": 900})
        over[width] = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size({"width": 1440, "height": 900})
    return [f"{far} px too wide at {width} px" for width, far in over.items() if far > 1]


def settle(page: Page) -> None:
    """Until fonts are there and the page has drawn itself."""
    # Whole pages: what a sticky bar half covers would count as too small a target.
    now = page.viewport_size or {"width": 1440}
    tall = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": now["width"], "height": min(max(900, tall + 80), TALLEST)})
    page.evaluate("document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => done())))")


def serious(page: Page, theme: str, part: str) -> list[str]:
    """What axe finds serious or critical: rule and first elements."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE.read_text())
    result: dict[str, Any] = page.evaluate(
        "([part, rules]) => axe.run(part === 'html' ? document : part, rules)", [part, RULES[theme]]
    )
    return [
        f"{each['id']}: {node['target'][0]} {node.get('failureSummary', '')[:160]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
