"""The dashboards as pages: who may open which, its range and tabs, its tables as CSV, the payments behind its figures.

`/desk/` is the overview; the others are `/desk/dashboard/<key>/`. The range is in the address, so that a colleague with
the same rights sees the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.db.transaction import atomic
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET
from psycopg2.errors import QueryCanceled

from fraudsite import exports
from fraudsite.dashboards import customers, fraud, model, overview, payments, rules, work
from fraudsite.dashboards.links import without_dead_ends
from fraudsite.figures import LONGEST, RANGES, Span, Table, as_of

PATIENCE_MS = 4_000  # of one statement: a page says that its figures are late rather than hold the reader up
WIDE = 6  # columns from which a table has the width of the page


@dataclass(frozen=True)
class Dashboard:
    """One page: its name in addresses and on its tab, whose permissions open it, and what builds it."""

    key: str
    title: str
    permissions: tuple[str, ...]
    build: Callable[[HttpRequest, Span], dict[str, Any]]
    says: str
    ranged: bool = True

    def allows(self, user: Any) -> bool:
        """All of its permissions are needed."""
        return all(user.has_perm(name) for name in self.permissions)

    @property
    def url(self) -> str:
        return reverse("admin:index") if self.key == "overview" else reverse("admin:dashboard", args=[self.key])


DASHBOARDS = {
    each.key: each
    for each in (
        Dashboard("overview", "Overview", (), overview.build, "what was decided, and what it caught"),
        Dashboard("fraud", "Fraud", ("scoring.view_decision",), fraud.build, "where fraud comes from"),
        Dashboard(
            "customers",
            "Customers at risk",
            ("alerts.view_alert", "cases.view_case"),
            customers.build,
            "who needs a look right now",
            ranged=False,
        ),
        Dashboard(
            "rules", "Rules", ("scoring.view_rule", "scoring.view_decision"), rules.build, "which rules are worth it"
        ),
        Dashboard("model", "Model", ("scoring.view_modelversion",), model.build, "whether scores keep their promise"),
        Dashboard("desk", "Desk", ("cases.view_case",), work.build, "how cases are worked"),
    )
}


@require_GET
def page(request: HttpRequest, key: str) -> HttpResponse:
    """`/desk/dashboard/<key>/`."""
    found = admitted(request, key)
    context = frame(request, found)
    template = "desk/dashboards/page.html"
    if request.headers.get("X-Requested-With") == "desk":
        template = "desk/dashboards/body.html"
    return admin.site.render(request, template, context, title=found.title)


def admitted(request: HttpRequest, key: str) -> Dashboard:
    """The dashboard, if the person may open it. Raises Http404, PermissionDenied."""
    if key not in DASHBOARDS:
        raise Http404
    if not DASHBOARDS[key].allows(request.user):
        raise PermissionDenied
    return DASHBOARDS[key]


def frame(request: HttpRequest, found: Dashboard) -> dict[str, Any]:
    """What every dashboard shows around its own: tabs, range, age of the figures."""
    span = Span.read(request.GET)
    return {
        "dashboard": found,
        "dashboards": tabs(request.user, found, span),
        "span": span,
        "ranges": ranges(found, span),
        "longest": LONGEST,
        "counted": as_of(),
        **built(request, found, span),
    }


def built(request: HttpRequest, found: Dashboard, span: Span) -> dict[str, Any]:
    """The page's own; `slow` where the database needed too long."""
    try:
        made = without_dead_ends(patiently(lambda: found.build(request, span)), request.user)
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        return {"slow": True, "layout": []}
    return made | {"layout": layout(made["tables"])}


def patiently(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Build with a limit on each statement."""
    with atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE_MS)])
        return build()


def layout(tables: list[Table]) -> list[list[Table]]:
    """Tables row by row: narrow ones in pairs, wide ones alone."""
    found: list[list[Table]] = []
    for table in tables:
        narrow = len(table.columns) < WIDE
        if narrow and found and len(found[-1]) == 1 and len(found[-1][0].columns) < WIDE:
            found[-1].append(table)
        else:
            found.append([table])
    return found


def tabs(user: Any, current: Dashboard, span: Span) -> list[dict[str, Any]]:
    """The dashboards the person may open; the range goes along."""
    return [
        {"title": each.title, "url": f"{each.url}?{span.query}", "current": each is current, "key": each.key}
        for each in DASHBOARDS.values()
        if each.allows(user)
    ]


def ranges(found: Dashboard, span: Span) -> list[dict[str, Any]]:
    """The ready ranges as links."""
    return [
        {"title": title, "key": key, "url": f"{found.url}?range={key}", "current": key == span.key}
        for key, title in RANGES
    ]


@require_GET
def export(request: HttpRequest, key: str, table: str) -> HttpResponse:
    """`/desk/dashboard/<key>/export/<table>/`: a table as CSV, for whoever may see the page."""
    found = admitted(request, key)
    span = Span.read(request.GET)
    made = built(request, found, span)
    if made.get("slow"):
        return HttpResponse("The database needed too long. Try a shorter range.", status=503, content_type="text/plain")
    tables = [*made["tables"], *(plot.table for plot in made["plots"])]
    chosen = next((each for each in tables if each.key == table), None)
    if chosen is None:
        raise Http404
    return exports.response(request, key, chosen, span)


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """`/desk/dashboard/rows/`: the payments behind a figure; with ?format=csv up to MOST_EXPORTED of them."""
    if not (request.user.has_perm("scoring.view_decision") and request.user.has_perm("transactions.view_transaction")):
        raise PermissionDenied
    span = Span.read(request.GET)
    wants_csv = request.GET.get("format") == "csv"
    limit = payments.MOST_EXPORTED if wants_csv else payments.PAGE
    found = Dashboard("rows", "Payments", (), lambda request, span: payments.build(request, span, limit), "")
    made = built(request, found, span)
    if wants_csv and not made.get("slow"):
        return exports.response(request, "payments", made["tables"][0], span)
    query = request.GET.copy()
    query.pop("after", None)
    query["format"] = "csv"
    context = made | {
        "span": span,
        "counted": as_of(),
        "csv": f"?{query.urlencode()}",
        "dashboard": DASHBOARDS["overview"],
    }
    return admin.site.render(request, "desk/dashboards/rows.html", context, title="Payments")
