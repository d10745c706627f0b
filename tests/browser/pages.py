"""Every page there is, as a person finds it: from the rail, the user menu, and the first case and customer in it."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from playwright.sync_api import Page

from tests.payments import steered
from tests.running import RunningDesk

# Who sees which share of the desk. Together they see all of it.
READERS = ("lead", "admin", "auditor")
WIDTHS = (1280, 1440)
THEMES = ("light", "dark")
# Pages that no rail lists, and from which page a link leads to them.
BEHIND = {
    "case": ("queue", "[data-testid=queue-table] a[href*='/cases/']"),
    "entity": ("case", "a[href*='/entities/']"),
    "list": ("lists", "main a[href*='/lists/']"),
    "rule": ("rules", "main a[href*='/rules/']"),
    "model": ("models", "main a[href*='/models/']"),
}
ALWAYS = {"preferences": "/desk/preferences/", "design-system": "/desk/design-system/", "mentions": "/desk/mentions/"}
DIALOGS = {"commands": "Control+k", "help": "?"}


def pages_of(page: Page, base: str, *, records: bool = False) -> dict[str, str]:
    """Name → path of every page this person finds. `records`: the stock lists of rows too."""
    page.goto(base + "/desk/")
    found = {
        name_of(path): path for path in links(page, "#nav-sidebar [data-go], #nav-sidebar .d-group:not(.d-records) a")
    }
    if records:
        found |= {name_of(path): path for path in links(page, "#nav-sidebar .d-records a")}
    for name, (start, selector) in BEHIND.items():
        if start in found:
            page.goto(base + found[start])
            first = links(page, selector)
            if first:
                found[name] = first[0]
    return {**found, **ALWAYS}


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


def links(page: Page, selector: str) -> list[str]:
    """Where the links go, without what their address asks for, each once."""
    hrefs = page.eval_on_selector_all(selector, "parts => parts.map((part) => part.href)")
    return list(dict.fromkeys(urlsplit(href).path for href in hrefs))


def name_of(path: str) -> str:
    """`/desk/queue/` is queue; the desk itself is the dashboard."""
    return path.removeprefix("/desk/").strip("/").replace("/", "-") or "dashboard"
