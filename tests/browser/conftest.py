"""A real browser on a whole desk. Without Chromium these tests are skipped, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.running import RunningDesk

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visitor:
    """One person at one browser: a page, and everything the console complained about."""

    desk: RunningDesk
    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to a page of the desk."""
        self.page.goto(self.desk.url + path)

    def shot(self, name: str) -> None:
        """A screenshot into SCREENSHOTS, where that is set."""
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the desk was not seen in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sign_in(browser: Browser, running_desk: RunningDesk) -> Iterator[Callable[[str], Visitor]]:
    """Signs a demo user in at a browser of their own. At the end nobody's console may have complained."""
    visitors: list[Visitor] = []

    def enter(username: str, **options: Any) -> Visitor:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce", **options)
        visitor = Visitor(running_desk, context.new_page())
        visitor.page.on("console", lambda said: visitor.complaints.append(said.text) if said.type == "error" else None)
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitors.append(visitor)
        person = running_desk.access["users"][username]
        visitor.open("/desk/login/")
        visitor.page.fill("input[name=username]", person["username"])
        visitor.page.fill("input[name=password]", person["password"])
        visitor.page.click("[data-testid=sign-in]")
        visitor.page.wait_for_url("**/desk/")
        return visitor

    yield enter
    complaints = [
        text
        for visitor in visitors
        for text in visitor.complaints
        if "403 (Forbidden)" not in text and "422 (" not in text
    ]
    for visitor in visitors:
        visitor.page.context.close()
    assert complaints == []
