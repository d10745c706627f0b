"""The desk's pages on the site, and the records behind them: queues and close reasons can be edited, history cannot."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from cases import acts_desk, case_desk, entity_desk, queue_desk
from cases.models import Case, CaseEvent, CloseReason, Note, Queue
from transactions.browsing import FactAdmin

admin.site.register_page(
    "queue/",
    queue_desk.queue,
    "queue",
    title="Queue",
    icon="inbox",
    section="Work",
    permission="cases.view_case",
    count=queue_desk.open_count,
)
admin.site.register_page(
    "cases/next/", queue_desk.next_case, "next_case", title="Next case", permission="cases.work_case"
)
admin.site.register_page(
    "cases/by-alert/<int:alert_id>/", case_desk.by_alert, "case_by_alert", title="Case", permission="cases.view_case"
)
admin.site.register_page("cases/<int:case_id>/", case_desk.case, "case", title="Case", permission="cases.view_case")
admin.site.register_page(
    "cases/<int:case_id>/timeline/",
    case_desk.case_timeline,
    "case_timeline",
    title="Timeline",
    permission="cases.view_case",
)
admin.site.register_page(
    "cases/<int:case_id>/graph/", entity_desk.case_graph, "case_graph", title="Links", permission="cases.view_case"
)
admin.site.register_page(
    "entities/",
    entity_desk.search,
    "entities",
    title="Entities",
    icon="search",
    section="Work",
    permission="cases.view_case",
)
admin.site.register_page(
    "entities/<slug:kind>/<slug:key>/", entity_desk.entity, "entity", title="Entity", permission="cases.view_case"
)
admin.site.register_page(
    "entities/<slug:kind>/<slug:key>/links/",
    entity_desk.entity_links,
    "entity_links",
    title="Links",
    permission="cases.view_case",
)
admin.site.register_page(
    "entities/<slug:kind>/<slug:key>/unmask/",
    entity_desk.entity_unmask,
    "entity_unmask",
    title="Unmask",
    permission="cases.unmask",
)
admin.site.register_page(
    "cases/<int:case_id>/lease/", case_desk.case_lease, "case_lease", title="Lease", permission="cases.work_case"
)
admin.site.register_page(
    "cases/<int:case_id>/alerts/", case_desk.case_alerts, "case_alerts", title="Alerts", permission="cases.view_case"
)
admin.site.register_page(
    "cases/<int:case_id>/rules/", case_desk.case_rules, "case_rules", title="All rules", permission="cases.view_case"
)
admin.site.register_page(
    "cases/<int:case_id>/presence/", case_desk.case_presence, "case_presence", title="Presence",
    permission="cases.view_case",
)  # fmt: skip
admin.site.register_page(
    "rules/fired/<str:lane>/<str:code>/<int:number>/", case_desk.rule_as_fired, "rule_as_fired", title="Rule",
    permission="cases.view_case",
)  # fmt: skip
admin.site.register_page(
    "cases/<int:case_id>/<slug:act>/", acts_desk.case_act, "case_act", title="Act", permission="cases.work_case"
)


@admin.register(Queue)
class QueueAdmin(admin.ModelAdmin):
    """Where cases wait, and who may work them."""

    list_display = ["name", "lane", "grouping", "channels", "weight", "lease_minutes"]
    list_select_related = ["lane"]
    filter_horizontal = ["members"]
    prepopulated_fields = {"slug": ["name"]}

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A queue that had cases stays: their history names it."""
        return False


@admin.register(CloseReason)
class CloseReasonAdmin(admin.ModelAdmin):
    """The structured reasons offered in the close dialog."""

    list_display = ["code", "title", "dispositions"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A reason that closed a case stays."""
        return False


@admin.register(Case)
class CaseAdmin(FactAdmin):
    """The plain rows; people work them on the desk."""

    list_display = [
        "number",
        "queue",
        "status",
        "disposition",
        "priority",
        "score",
        "assignee",
        "opened_at",
        "closed_at",
    ]
    list_filter = ["status", "disposition", "queue"]
    list_select_related = ["queue", "assignee"]
    search_fields = ["=id", "=customer_ref"]
    ordering = ["-id"]


@admin.register(CaseEvent)
class CaseEventAdmin(FactAdmin):
    """The history of all cases."""

    list_display = ["at", "case", "kind", "actor", "before", "after"]
    list_select_related = ["case", "actor"]
    list_filter = ["kind"]
    search_fields = ["=case__id"]


@admin.register(Note)
class NoteAdmin(FactAdmin):
    """What investigators wrote down."""

    list_display = ["at", "case", "author"]
    list_select_related = ["case", "author"]
    search_fields = ["=case__id"]
