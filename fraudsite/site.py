"""The admin site every page of the desk lives on: one site, one sign-in, one look.

It is the default admin site (`AdminConfig.default_site`), so an app adds a page from its `admin.py` without importing
this module:

    from django.contrib import admin
    admin.site.register_page("queue/", desk.queue, "queue", title="Queue", icon="inbox", section="Work",
                             permission="cases.view_case")

A page is a plain view. The site adds the sign-in, the permission check, `never_cache` and the CSRF check, and lists it
in the rail for those who may open it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import EmptyResultSet, PermissionDenied
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

SECTIONS = ("Work", "Team", "Tuning")
MOST_COUNTED = 1000  # rows beside an entry of the rail; so many and more are not told apart
# The order people learn; pages that are not named here follow in the order of their registration.
ORDER = ("queue", "my_day", "live", "entities", "index", "approvals", "thresholds", "rules", "lists", "models")
# After G, this key opens the page.
GO = {
    "queue": "q",
    "index": "d",
    "live": "l",
    "entities": "e",
    "approvals": "a",
    "thresholds": "t",
    "rules": "r",
    "models": "m",
    "my_day": "y",
    "board": "b",
}
ICONS = {
    "transactions": "credit-card",
    "scoring": "cpu",
    "alerts": "bell",
    "cases": "inbox",
    "fraudsite": "users",
    "auth": "key-round",
    "django_celery_beat": "calendar",
}
NAMES = {"auth": "Roles", "django_celery_beat": "Schedules"}

View = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Page:
    """One page of the desk. Without a section it is reachable but not listed."""

    route: str
    view: View
    name: str
    title: str
    icon: str
    section: str
    permissions: tuple[str, ...]
    waiting: Callable[[HttpRequest], QuerySet | None] | None

    def allows(self, user: Any) -> bool:
        """True if the user holds any one of the page's permissions, or the page asks for none."""
        return not self.permissions or any(user.has_perm(name) for name in self.permissions)

    def guarded(self) -> View:
        """The view behind its permission check."""

        def guard(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not self.allows(request.user):
                raise PermissionDenied
            return self.view(request, *args, **kwargs)

        return update_wrapper(guard, self.view)


class DeskSite(AdminSite):
    """Django's admin site with the desk's own pages, shell and navigation."""

    site_header = site_title = "Fraud desk"
    index_title = "Dashboard"
    site_url = None
    enable_nav_sidebar = True

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.pages: dict[str, Page] = {}

    def register_page(
        self,
        route: str,
        view: View,
        name: str,
        *,
        title: str,
        icon: str = "file-text",
        section: str = "",
        permission: str | Iterable[str] | None = None,
        waiting: Callable[[HttpRequest], QuerySet | None] | None = None,
    ) -> None:
        """Serve `view` at `/desk/<route>` as `admin:<name>`.

        `section` names the rail's group ("Work", "Team", "Tuning"; empty: not listed); `permission` is one permission
        or several of which any one opens the page; `waiting(request)` gives the rows whose number stands beside the
        entry (None: nothing to count). They are counted up to a bound, those of all pages in one statement.
        """
        needed = (permission,) if isinstance(permission, str) else tuple(permission or ())
        self.pages[name] = Page(route, view, name, title, icon, section, needed, waiting)

    def get_urls(self) -> list:
        own = [path(page.route, self.admin_view(page.guarded()), name=page.name) for page in self.pages.values()]
        return own + super().get_urls()

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The dashboard."""
        from fraudsite import dashboard  # it reads every app's models; the site stands before they are loaded

        return self.render(
            request, "desk/dashboard.html", dashboard.context(request) | (extra_context or {}), title="Dashboard"
        )

    def render(
        self,
        request: HttpRequest,
        template: str,
        context: dict[str, Any] | None = None,
        *,
        title: str = "",
        status: int = 200,
    ) -> TemplateResponse:
        """A page of the desk: `template` (extends desk/base.html) with the shell's context."""
        request.current_app = self.name
        named = {"title": title} if title else {}
        return TemplateResponse(
            request, template, {**self.each_context(request), **named, **(context or {})}, status=status
        )

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        from cases import preferences  # the site stands before any app's models are loaded
        from fraudsite.sessions import seconds_left

        context = super().each_context(request)
        user = request.user
        chosen = preferences.of(user)
        counts = self.counts(request)
        navigation, listed = self.navigation(request, counts), records(context["available_apps"])
        return context | {
            "navigation": navigation,
            "records": listed,
            "commands": commands(navigation, listed),
            "preferences": chosen,
            "desk_preferences": chosen.for_browser(timezone.get_current_timezone_name()),
            "bell": {"url": self.page_url("mentions", user), "unseen": counts.get("mentions", 0)},
            "session_left": seconds_left(request),
            "live": {"socket": "/ws/alerts/", "allowed": bool(user.is_active and user.has_perm("alerts.view_alert"))},
            "next_case_url": self.page_url("next_case", user),
            "search_url": self.page_url("search", user) or self.page_url("queue", user),
        }

    def exported(self, request: HttpRequest, **data: Any) -> None:
        """Write down that the person took something away; for pages of apps below the cases, which keep such lines."""
        from cases import sightings

        sightings.saw(request, "exported", **data)

    def counts(self, request: HttpRequest) -> dict[str, int]:
        """How much waits for the person on each page that says so, up to MOST_COUNTED of each; one statement."""
        if not self.has_permission(request):
            return {}
        asked = {
            page.name: page.waiting(request)
            for page in self.pages.values()
            if page.waiting and page.allows(request.user)
        }
        return counted({name: rows for name, rows in asked.items() if rows is not None})

    def page_url(self, name: str, user: Any) -> str:
        """The address of a registered page that the user may open, else an empty string."""
        page = self.pages.get(name)
        return reverse(f"admin:{name}") if page and user.is_authenticated and page.allows(user) else ""

    def navigation(self, request: HttpRequest, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """The rail: sections with the pages this person may open, the current one marked."""
        if not self.has_permission(request):
            return []
        match = request.resolver_match
        current = match.url_name if match else ""
        sections = [
            {"title": title, "pages": self._entries(title, request, current, counts)} for title in self._sections()
        ]
        return [section for section in sections if section["pages"]]

    def _sections(self) -> list[str]:
        return list(dict.fromkeys([*SECTIONS, *(page.section for page in self.pages.values() if page.section)]))

    def _entries(
        self, section: str, request: HttpRequest, current: str, counts: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        pages = [
            page for page in [*self.pages.values(), DASHBOARD] if page.section == section and page.allows(request.user)
        ]
        pages.sort(key=lambda page: ORDER.index(page.name) if page.name in ORDER else len(ORDER))
        return [self._entry(page, current, counts) for page in pages]

    def _entry(self, page: Page, current: str, counts: Mapping[str, int]) -> dict[str, Any]:
        return {
            "title": page.title,
            "icon": page.icon,
            "url": reverse(f"admin:{page.name}"),
            "current": page.name == current,
            "count": counts.get(page.name, 0),
            "go": GO.get(page.name, ""),
        }


def counted(asked: Mapping[str, QuerySet]) -> dict[str, int]:
    """How many rows each of these has, up to MOST_COUNTED of each, in one statement."""
    parts: list[str] = []
    values: list[Any] = []
    names: list[str] = []
    for name, rows in asked.items():
        try:
            sql, params = rows.order_by().values("pk")[:MOST_COUNTED].query.sql_with_params()
        except EmptyResultSet:  # a filter that nothing can pass
            continue
        names.append(name)
        parts.append(f"(SELECT count(*) FROM ({sql}) counted)")
        values.extend(params)
    if not parts:
        return {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(parts), values)
        return dict(zip(names, cursor.fetchone(), strict=True))


def records(available_apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stock admin's models as groups for the rail: what the person may see, by app."""
    return [
        {
            "title": NAMES.get(app["app_label"], app["name"]),
            "icon": ICONS.get(app["app_label"], "database"),
            "url": app["app_url"],
            "models": [
                {"title": model["name"], "url": model["admin_url"], "object_name": model["object_name"].lower()}
                for model in app["models"]
                if model["admin_url"]
            ],
        }
        for app in available_apps
    ]


def keys_to(page: dict[str, Any]) -> list[str]:
    """The keys that lead to a page of the rail: G and its letter."""
    return ["G", page["go"].upper()] if page["go"] else []


def commands(navigation: list[dict[str, Any]], listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pages as the command palette offers them; records only to who types a part of their name."""
    pages = [
        {"label": page["title"], "icon": page["icon"], "url": page["url"], "keys": keys_to(page)}
        for section in navigation
        for page in section["pages"]
    ]
    stock = [
        {
            "label": model["title"].capitalize(),
            "hint": app["title"],
            "icon": "database",
            "url": model["url"],
            "record": True,
        }
        for app in listed
        for model in app["models"]
    ]
    return [*pages, *stock, {"label": "Preferences", "icon": "settings", "url": reverse("admin:preferences")}]


DASHBOARD = Page("", lambda request: HttpResponse(), "index", "Dashboard", "layout-dashboard", "Work", (), None)
