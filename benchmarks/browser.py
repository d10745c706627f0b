"""A real browser on the live page, asked afterwards when it announced each alert. Needs Playwright and Chromium.

The page itself notes the moments, in milli-seconds since 1970: when the socket's message arrived, and when the first
frame after the next change of the banner or the rows was drawn. Nothing is asked of the browser meanwhile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from benchmarks.ground import Ground

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
READY_SECONDS = 30.0
# Runs before the page's own scripts, outside its policy.
NOTE = """
(() => {
  const waiting = [];
  const told = window.toldOfAlerts = {};
  const now = () => performance.timeOrigin + performance.now();
  document.addEventListener("desk:message", ({ detail }) => {
    if (detail.type === "alerts") for (const { id } of detail.alerts) waiting.push([id, now()]);
  }, true);
  document.addEventListener("DOMContentLoaded", () => {
    const changed = new MutationObserver(() => {
      const shown = waiting.splice(0);
      if (shown.length) requestAnimationFrame(() => { for (const [id, came] of shown) told[id] ??= [came, now()]; });
    });
    for (const each of document.querySelectorAll("[data-banner], [data-alerts]"))
      changed.observe(each, { childList: true, subtree: true, characterData: true });
  });
})()"""


TAKE = """(() => {
  const told = { ...window.toldOfAlerts };
  for (const id in told) delete window.toldOfAlerts[id];
  return told;
})()"""


def is_there() -> bool:
    """Whether this machine has what it needs."""
    return CHROMIUM is not None and find_spec("playwright") is not None


class Screen:
    """A browser with one page. Playwright's loop lives in a thread of its own, where nothing else is done."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.playwright: Any = None
        self.page: Any = None

    def open(self, url: str, cookie: str) -> None:
        """Go to the live page, signed in, and wait until it is connected."""
        self.thread.submit(self._open, url, cookie).result()

    def told(self) -> dict[int, tuple[float, float]]:
        """Of each alert, by its payment's id: when its message came and when it was announced, in seconds since 1970.

        Everything noted so far is taken away.
        """
        found = self.thread.submit(lambda: self.page.evaluate(TAKE)).result()
        return {int(alert): (came / 1000, shown / 1000) for alert, (came, shown) in found.items()}

    def close(self) -> None:
        """The browser ends."""
        if self.playwright is not None:
            self.thread.submit(self.playwright.stop).result()
        self.thread.shutdown()

    def _open(self, url: str, cookie: str) -> None:
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        chromium = self.playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = chromium.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        pairs = (part.strip().partition("=") for part in cookie.split(";"))
        context.add_cookies([{"name": name, "value": value, "url": url} for name, _, value in pairs])
        context.add_init_script(NOTE)
        self.page = context.new_page()
        self.page.goto(f"{url}/desk/live/")
        self.page.get_by_text("Live since").wait_for(timeout=1000 * READY_SECONDS)


@contextmanager
def live_page(ground: Ground, cookie: str) -> Iterator[Screen]:
    """The live page in a window of its own, signed in and connected."""
    screen = Screen()
    try:
        screen.open(ground.access["url"], cookie)
        yield screen
    finally:
        screen.close()
