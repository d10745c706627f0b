"""Where the rows behind a figure are: the queue, the pages of entities, and the dashboards' own list of payments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.urls import reverse

from fraudsite.figures import Cell, Figure, Span

Linked = TypeVar("Linked", Cell, Figure)
# Pages that figures lead to, and the rights that open them.
NEEDED = {
    "admin:dashboard_rows": ("scoring.view_decision", "transactions.view_transaction"),
    "admin:queue": ("cases.view_case",),
    "admin:entities": ("cases.view_case",),
}


def rows_url(span: Span, **filters: str | int) -> str:
    """The dashboard's list of payments of a range with some filters."""
    given = {name: value for name, value in filters.items() if value != ""}
    return f"{reverse('admin:dashboard_rows')}?{span.query}{'&' + urlencode(given) if given else ''}"


def queue_url(span: Span | None = None, **filters: str) -> str:
    """The queue page with some filters; with a range, by its days."""
    if span:
        filters["since"], filters["until"] = span.days()
    return f"{reverse('admin:queue')}?{urlencode(filters)}"


def entity_url(kind: str, key: int) -> str:
    """The page of an entity."""
    return reverse("admin:entity", args=[kind, str(key)]) if key else ""


def without_dead_ends(made: dict[str, Any], user: Any) -> dict[str, Any]:
    """The same dashboard without links to pages that this person may not open."""
    closed = tuple(reverse(name) for name, rights in NEEDED.items() if not user.has_perms(rights))

    def kept(part: Linked) -> Linked:
        return replace(part, href="") if part.href.startswith(closed) else part

    if closed:
        for table in [*made["tables"], *(plot.table for plot in made.get("plots", ()))]:
            table.rows = [[kept(cell) for cell in row] for row in table.rows]
            table.foot = [kept(cell) for cell in table.foot]
        made = made | {"figures": [kept(figure) for figure in made.get("figures", ())]}
    return made
