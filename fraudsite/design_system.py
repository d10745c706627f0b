"""The design system on the site: the tokens and the ten components that every page is made of, in both themes."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

SCHEMES = ("light", "dark")
# Each name has a rule `.d-sw--<name>` in desk/shell.css that paints it.
COLOURS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Surfaces", (("body-bg", "page"), ("darkened-bg", "header, rail, side columns"), ("raised-bg", "dialogs, menus"))),
    ("Rows", (("selected-bg", "hover, current"), ("selected-row", "under the keyboard cursor, picked"))),
    ("Lines", (("hairline-color", "between rows"), ("border-color", "round panels"), ("control-border", "fields"))),
    ("Text", (("body-loud-color", "figures, titles"), ("body-fg", "text"), ("body-quiet-color", "hints"))),
    ("Accent", (("link-fg", "links, current"), ("accent-solid", "main button"), ("accent-soft", "pressed, notice"))),
    ("Severity", (("critical", "critical"), ("high", "high"), ("medium", "medium"), ("good", "good"))),
    (
        "Charts",
        (
            ("series-approve", "approve"),
            ("series-challenge", "challenge"),
            ("series-review", "review"),
            ("series-decline", "decline"),
        ),
    ),
)
TYPE = (
    ("text-12", "12 px", "meta, column heads, hints"),
    ("text-13", "13 px", "rows, facts, buttons: the working size"),
    ("text-14", "14 px", "prose, notes, section titles"),
    ("text-16", "16 px", "case number, dialog title"),
    ("text-20", "20 px", "page title, the one-line answer"),
    ("text-28", "28 px", "a figure"),
)
SPACE = (("s-1", 4), ("s-2", 8), ("s-3", 12), ("s-4", 16), ("s-6", 24), ("s-8", 32))
COMPONENTS = (
    ("button", "Button, field and key hint", "One main button a view. A key is always shown on the button it presses."),
    ("badge", "Badge", "Priority, score, status, outcome, disposition, due. A word or a shape carries it."),
    ("chip", "Chip", "One filter of the address. Press the value to change it, the cross to remove it."),
    ("table", "Table", "Lists to act on. 36 px rows, figures right; the bar at the left is the keyboard cursor."),
    ("panel", "Panel and facts", "A titled group on a page of several. Facts say first seen, and “not sent”."),
    ("figure", "Figure", "A measure with its formula, its change in words and its target."),
    ("evidence", "Evidence", "A reason: numbers first, source below, signed weight at the right. Longest first."),
    ("timeline", "Timeline", "What happened, newest first; amounts in one column at the right."),
    ("notice", "Notice and state", "What changed around you, and pages with nothing to show."),
    ("bar", "Bar and dialog", "Acts live in the bar at the foot; a decision always passes a dialog."),
)


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """`/desk/design-system/`."""
    context = {
        "schemes": SCHEMES,
        "colours": COLOURS,
        "type": TYPE,
        "space": SPACE,
        "components": [(name, title, words, f"desk/components/{name}.html") for name, title, words in COMPONENTS],
    }
    return admin.site.render(request, "desk/design_system.html", context, title="Design system")
