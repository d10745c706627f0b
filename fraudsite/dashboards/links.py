"""Where the rows behind a figure are: the queue, the pages of entities, and the dashboards' own list of payments."""

from __future__ import annotations

from urllib.parse import urlencode

from django.urls import reverse

from fraudsite.figures import Span


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
