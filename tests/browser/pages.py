"""Every page there is, as a person finds it: from the rail, the user menu, and the links on the pages themselves."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Page

# Who sees which share of the desk. Together they see all of it.
READERS = ("lead", "admin", "auditor")
WIDTHS = (1280, 1440)
THEMES = ("light", "dark")
# On the dashboard stand the rail and the tabs of its sisters.
LISTED = "#nav-sidebar .d-group:not(.d-records, .d-views) a, nav[aria-label=Dashboards] a"
RECORDS = "#nav-sidebar .d-records a"
# Pages that no rail lists, and from which page a link leads to them.
BEHIND = {
    "dashboard-rows": ("dashboard", "[data-testid=figure-stopped] a"),
    "queue-filters": ("queue", "[data-testid=filter-open]"),
    "save-view": ("queue", "[data-testid=save-view]"),
    # One that can be taken: its dialogs are there.
    "case": ("queue?sort=-score&status=new&assignee=none", "[data-testid=queue-table] a[href*='/cases/']"),
    "rule-as-fired": ("case", "main a[href*='/rules/fired/']"),
    "entity": ("case", "main a[href*='/entities/']"),
    "list": ("lists", "main a[href*='/lists/']"),
    "rule": ("rules", "main a[href*='/rules/']"),
    "model": ("models", "main a[href*='/models/']"),
    "approval": ("approvals", "main a[href*='/approvals/']"),
    "case-approval": ("case-approvals", "main a[href*='/case-approvals/']"),
    "review": ("quality", "main a[href*='/quality/']"),
    "route": ("routes", "main a[href*='route=']"),
    "password": ("preferences", "#user-menu a[href*='password']"),
    "record": ("cases-queue", "#result_list tbody th a"),
    "record-history": ("record", ".historylink"),
    "records-of-an-app": ("cases-queue", ".breadcrumbs a[href$='/desk/cases/']"),
}
# Pages below another's address.
BELOW = {"case": ("alerts", "rules", "history", "files", "graph"), "entity": ("links",)}
ALWAYS = {"preferences": "/desk/preferences/", "design-system": "/desk/design-system/"}
CASEWORK = {"mentions": "/desk/mentions/", "snippets": "/desk/snippets/", "absences": "/desk/absences/"}
DIALOGS = {"commands": "Control+k", "help": "?"}


def pages_of(page: Page, base: str, *, records: bool = False) -> dict[str, str]:
    """Name → path of every page this person finds. `records`: the stock lists of rows too."""
    page.goto(base + "/desk/")
    found = {name_of(path): path for path in links(page, LISTED)} | ALWAYS
    if "my-day" in found:
        found |= CASEWORK
    if records:
        found |= {name_of(path): path for path in links(page, RECORDS)}
    for name, (begin, selector) in BEHIND.items():
        start, _, query = begin.partition("?")
        if start in found:
            page.goto(base + found[start] + (f"?{query}" if query else ""))
            first = links(page, selector, asking=True)
            if first:
                found[name] = first[0]
    for name, parts in BELOW.items():
        if name in found:
            path, _, asked = found[name].partition("?")
            found |= {f"{name}-{part}": f"{path}{part}/{'?' if asked else ''}{asked}" for part in parts}
    return found


def links(page: Page, selector: str, *, asking: bool = False) -> list[str]:
    """Where the links go, each once; with what their address asks for only if `asking`."""
    hrefs = page.eval_on_selector_all(selector, "parts => parts.map((part) => part.href)")
    return list(dict.fromkeys(_path(href, asking) for href in hrefs))


def _path(href: str, asking: bool) -> str:
    parts = urlsplit(href)
    return f"{parts.path}?{parts.query}" if asking and parts.query else parts.path


def name_of(path: str) -> str:
    """`/desk/queue/` is queue; the desk itself is the dashboard."""
    return path.removeprefix("/desk/").strip("/").replace("/", "-") or "dashboard"
