"""A real browser on a whole desk. Without Chromium these tests are skipped, and say so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, expect, sync_playwright

django.setup()  # this file is read before the plugin does it, and deeds name models

from tests.browser import deeds  # noqa: E402
from tests.browser.chromium import CHROMIUM, FLAGS  # noqa: E402
from tests.browser.deskwork import Team, found  # noqa: E402
from tests.browser.inside import Inside  # noqa: E402
from tests.running import RunningDesk  # noqa: E402

SEEN: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
CLEAR = "localStorage.clear(); '__pwClock' in globalThis"  # true if a test has turned the clock
FIRST = "/desk/preferences/"  # where a person is put down who was not asked for elsewhere: the lightest page
REFUSALS = ("403 (Forbidden)", "409 (Conflict)", "422 (")  # pages that refuse; the browser notes each as an error
expect.set_options(timeout=10_000)


@dataclass
class Visitor:
    """One person at one browser: a page, and everything the console complained about."""

    desk: RunningDesk
    page: Page
    session: str
    reusable: bool
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the desk."""
        self.page.goto(self.desk.url + path)
        return self.page

    def send(self, path: str, **form: str) -> APIResponse:
        """A direct POST, whatever buttons the page has; a redirect is not followed."""
        cookies = {each["name"]: each["value"] for each in self.page.context.cookies()}
        headers = {"X-CSRFToken": cookies["csrftoken"]}
        return self.page.context.request.post(self.desk.url + path, form={**form}, headers=headers, max_redirects=0)

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


@pytest.fixture(scope="session")
def inside(running_desk: RunningDesk) -> Iterator[Inside]:
    """Does deeds inside the running desk."""
    inside = Inside(running_desk)
    yield inside
    inside.stop()


@pytest.fixture(scope="module")
def shared_team(running_desk: RunningDesk, inside: Inside) -> Team:
    """A team for the tests of a file that only look, or each take their own case."""
    return found(running_desk, inside)


@pytest.fixture
def team(running_desk: RunningDesk, inside: Inside) -> Team:
    """A team for this test alone."""
    return found(running_desk, inside)


@pytest.fixture(scope="session")
def idle() -> list[BrowserContext]:
    """Browsers that nobody sits at, their cache warm: a new one costs two seconds of processor, a used one half."""
    return []


@pytest.fixture
def sign_in(
    browser: Browser, idle: list[BrowserContext], running_desk: RunningDesk, inside: Inside
) -> Iterator[Callable[..., Visitor]]:
    """Puts a person at a browser of their own, signed in. At the end nobody's console may have complained."""
    visitors: list[Visitor] = []

    def enter(username: str, at: str = FIRST, **options: Any) -> Visitor:
        context = browser.new_context(**SEEN, **options) if options or not idle else idle.pop()
        session = inside(deeds.session_of, username=username)
        context.add_cookies([{"name": "session", "value": session, "url": running_desk.url}])
        visitor = Visitor(running_desk, context.new_page(), session, reusable=not options)
        visitor.page.on("console", lambda said: visitor.complaints.append(said.text) if said.type == "error" else None)
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitors.append(visitor)
        visitor.open(at)
        return visitor

    yield enter
    complaints = [
        text for visitor in visitors for text in visitor.complaints if not any(refusal in text for refusal in REFUSALS)
    ]
    for visitor in visitors:
        leave(visitor, idle)
    assert complaints == []


def leave(visitor: Visitor, idle: list[BrowserContext]) -> None:
    """Clear the browser for the next person; one that was set up otherwise, or whose clock was turned, is closed."""
    context = visitor.page.context
    visitor.page.wait_for_load_state()
    if not visitor.reusable or visitor.page.is_closed() or visitor.page.evaluate(CLEAR):
        context.close()
        return
    for page in context.pages:
        page.close()
    context.clear_cookies()
    context.clear_permissions()
    idle.append(context)
