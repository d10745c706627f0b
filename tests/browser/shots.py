"""Pictures of every page, to be looked at: `make shots`.

Each page at 1280 and 1440 px, light and dark, whole length, into `screenshots/`, as `queue-1440-dark.png`; beside them
what opens on pages (dialogs, tabs, the preview) and some pages on a phone. A desk that runs is used if its folder is
named (`--state .local`), else one is started with traffic, and stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from fraudsite.embedded import ROOT
from tests import running
from tests.browser.chromium import CHROMIUM, FLAGS
from tests.browser.pages import DIALOGS, READERS, THEMES, WIDTHS, pages_of

FOLDER = ROOT / "screenshots"
TRAFFIC = "3"  # payments a second of a desk that is started for the pictures
WARM = 30  # seconds until its live page has something to show
WAIT = 700  # milli-seconds for what a page fetches after it has loaded
PHONE = 390
ON_A_PHONE = ("queue", "case", "dashboard", "live", "entity")


def _press(page: Page, keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


# What opens on a page: its name → the page, and how one gets there.
OPENED: dict[str, tuple[str, Callable[[Page], None]]] = {
    "queue-preview": ("queue", lambda page: page.keyboard.press("Space")),
    "queue-selected": ("queue", lambda page: _press(page, "xjx")),
    "queue-filter-dialog": ("queue", lambda page: page.get_by_test_id("filter-open").click()),
    "user-menu": ("queue", lambda page: page.get_by_test_id("user-menu").click()),
    "case-graph": ("case", lambda page: page.get_by_role("tab", name="Graph").click()),
    "case-tab-history": ("case", lambda page: page.get_by_role("tab", name="History").click()),
    "case-tab-files": ("case", lambda page: page.get_by_role("tab", name="Files").click()),
    "case-claimed": ("case", lambda page: page.keyboard.press("a")),
    "case-close": ("case", lambda page: page.keyboard.press("f")),
    "case-wait": ("case", lambda page: page.keyboard.press("s")),
    "entity-graph": ("entity", lambda page: page.get_by_text("Show the graph").click()),
    **{name: ("live", lambda page, key=key: page.keyboard.press(key)) for name, key in DIALOGS.items()},  # type: ignore[misc]
}


def main() -> None:
    """Take them all and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, help="the folder of a desk that runs (.local of `make run`)")
    parser.add_argument("--only", default="", help="pictures whose name contains this")
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with desk(chosen.state) as access, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        taken = shoot(browser, access, chosen.only)
        browser.close()
    print(f"{taken} pictures in {FOLDER.relative_to(ROOT)}/")


@contextmanager
def desk(state: Path | None) -> Iterator[dict[str, Any]]:
    """Where the desk answers and who may sign in."""
    if state:
        yield json.loads((state / "demo.json").read_text())
        return
    with tempfile.TemporaryDirectory(prefix="fraud-desk-shots-") as folder:
        started = running.start(Path(folder) / "state", traffic=TRAFFIC)
        try:
            time.sleep(WARM)
            yield started.access
        finally:
            started.stop()


def shoot(browser: Browser, access: dict[str, Any], only: str) -> int:
    """Every page as the first of the readers who sees it; how many pictures."""
    found: dict[str, str] = {}
    taken = 0
    for reader in READERS:
        page = enter(browser, access, reader)
        own = pages_of(page, access["url"], records=reader == "auditor")
        for name in [name for name in own if name not in found and only in name]:
            page.goto(access["url"] + own[name])
            taken += pictures(page, name, phone=name in ON_A_PHONE)
        if not found:
            taken += sum(open_and_shoot(page, access["url"], own, name) for name in OPENED if only in name)
        found = own | found
        page.context.close()
    return taken


def enter(browser: Browser, access: dict[str, Any], username: str) -> Page:
    """A page of a person who has signed in; of the first one the sign-in too."""
    page = browser.new_context(reduced_motion="reduce").new_page()
    person = access["users"][username]
    page.goto(access["url"] + "/desk/login/")
    if username == READERS[0]:
        pictures(page, "sign-in")
    page.fill("input[name=username]", person["username"])
    page.fill("input[name=password]", person["password"])
    page.click("[data-testid=sign-in]")
    page.wait_for_url("**/desk/")
    return page


def open_and_shoot(page: Page, base: str, own: dict[str, str], name: str) -> int:
    """What opens on a page, in both themes: loaded anew for each, since drawings on a canvas keep their colours."""
    start, act = OPENED[name]
    if start not in own:
        return 0
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(base + own[start])
            page.wait_for_load_state("networkidle")
            act(page)
            page.wait_for_timeout(2 * WAIT)
            page.screenshot(path=str(FOLDER / f"{name}-{width}-{theme}.png"))
    page.emulate_media(color_scheme="light")
    return len(THEMES) * len(WIDTHS)


def pictures(page: Page, name: str, *, phone: bool = False) -> int:
    """The page that stands there, at every width in both themes, once it has drawn itself."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(WAIT)
    widths = [*WIDTHS, *([PHONE] if phone else [])]
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=str(FOLDER / f"{name}-{width}-{theme}.png"), full_page=True)
    page.emulate_media(color_scheme="light")
    return len(THEMES) * len(widths)


if __name__ == "__main__":
    main()
