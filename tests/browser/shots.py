"""Pictures of every page, to be looked at: `make shots`.

Each page at 1280 and 1440 px, light and dark, whole length, into `screenshots/`, as `queue-1440-dark.png`. A desk that
runs is used if its folder is named (`--state`), else one is started, seeded and stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from fraudsite.embedded import ROOT
from tests import running
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.pages import DIALOGS, READERS, THEMES, WIDTHS, pages_of

FOLDER = ROOT / "screenshots"
WAIT = 800  # milli-seconds for what a page fetches after it has loaded


def main() -> None:
    """Take them all and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, help="the folder of a desk that runs (.state of `make run`)")
    parser.add_argument("--only", default="", help="pages whose name contains this")
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with desk(chosen.state) as access, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        taken = sum(shoot(browser, access, theme, chosen.only) for theme in THEMES)
        browser.close()
    print(f"{taken} pictures in {FOLDER.relative_to(ROOT)}/")


@contextmanager
def desk(state: Path | None) -> Iterator[dict[str, Any]]:
    """Where the desk answers and who may sign in."""
    if state:
        yield json.loads((state / "demo.json").read_text())
        return
    with tempfile.TemporaryDirectory(prefix="fraud-desk-shots-") as folder:
        started = running.start(Path(folder) / "state")
        try:
            yield started.access
        finally:
            started.stop()


def shoot(browser: Browser, access: dict[str, Any], theme: str, only: str) -> int:
    """Every page in one theme; how many pictures."""
    taken: set[str] = set()
    for reader in READERS:
        page = enter(browser, access, reader, theme)
        for name, path in pages_of(page, access["url"], records=reader == "auditor").items():
            if name in taken or only not in name:
                continue
            taken.add(name)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(access["url"] + path)
                picture(page, f"{name}-{width}-{theme}")
        if reader == READERS[0] and not only:
            taken |= dialogs(page, access["url"], theme)
        page.context.close()
    return len(taken) * len(WIDTHS)


def enter(browser: Browser, access: dict[str, Any], username: str, theme: str) -> Page:
    """A page of a person who has signed in."""
    page = browser.new_context(color_scheme=theme, reduced_motion="reduce").new_page()  # type: ignore[arg-type]
    person = access["users"][username]
    page.goto(access["url"] + "/desk/login/")
    if username == READERS[0]:
        picture(page, f"sign-in-1440-{theme}")
    page.fill("input[name=username]", person["username"])
    page.fill("input[name=password]", person["password"])
    page.click("[data-testid=sign-in]")
    page.wait_for_url("**/desk/")
    return page


def dialogs(page: Page, base: str, theme: str) -> set[str]:
    """The shell's own dialogs over the live page."""
    for name, key in DIALOGS.items():
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(base + "/desk/live/")
            page.keyboard.press(key)
            picture(page, f"{name}-{width}-{theme}", whole=False)
    return set(DIALOGS)


def picture(page: Page, name: str, *, whole: bool = True) -> None:
    """One picture, once the page has drawn itself."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(WAIT)
    page.screenshot(path=str(FOLDER / f"{name}.png"), full_page=whole)


if __name__ == "__main__":
    main()
