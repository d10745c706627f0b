"""The desk's pages on the site, and the records behind them: queues and close reasons can be edited, history cannot."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from cases import (
    acts_desk,
    approvals_desk,
    bulk_desk,
    case_desk,
    entity_desk,
    filing_desk,
    filings,
    lead_admin,
    queue_desk,
    record_acts,
    record_desk,
    view_desk,
)
from cases.models import Attachment, Case, CaseEvent, CloseReason, Note, Sighting
from cases.querysets import concerning_kept, for_member, sees_everything
from transactions.browsing import CustomerAdmin, FactAdmin

admin.site.register_page(
    "queue/",
    queue_desk.queue,
    "queue",
    title="Queue",
    icon="inbox",
    section="Work",
    permission="cases.view_case",
    waiting=queue_desk.waiting_cases,
)
for route, view, name, title, right in (
    ("queue/filters/", view_desk.filters, "queue_filters", "Filters", "view_case"),
    ("queue/views/", view_desk.views, "queue_views", "Saved views", "view_case"),
    ("queue/views/save/", view_desk.save_view, "queue_view_save", "Save view", "view_case"),
    ("queue/views/<int:view_id>/<slug:act>/", view_desk.view_act, "queue_view_act", "Saved view", "view_case"),
    ("queue/counts/", view_desk.counts, "queue_counts", "Counts", "view_case"),
    ("queue/matching/", bulk_desk.matching, "queue_matching", "All matching", "work_case"),
    ("queue/bulk/", bulk_desk.confirm, "queue_bulk", "Many cases", "work_case"),
    ("queue/bulk/<str:token>/", bulk_desk.run, "queue_bulk_run", "Many cases", "work_case"),
    ("queue/preview/<int:case_id>/", queue_desk.case_preview, "queue_preview", "Preview", "view_case"),
    ("queue/assign/<int:case_id>/", queue_desk.assign_to_me, "queue_assign", "Assign to me", "work_case"),
):
    admin.site.register_page(route, view, name, title=title, permission=f"cases.{right}")
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
    "entities/<slug:kind>/<slug:key>/note/",
    entity_desk.entity_note,
    "entity_note",
    title="Note",
    permission="cases.work_case",
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
for _route, _view, _name, _title, _right in (
    ("note/", record_acts.note, "case_note", "Note", "cases.work_case"),
    ("tags/", record_acts.change_tags, "case_tags", "Tags", "cases.work_case"),
    ("people/", record_desk.people, "case_people", "People", "cases.work_case"),
    ("files/", record_acts.files, "case_files", "Files", "cases.view_case"),
    ("files/<int:attachment_id>/", record_acts.download, "case_file", "File", "cases.view_case"),
    ("files/<int:attachment_id>/remove/", record_acts.remove_file, "case_file_remove", "Remove", "cases.lead_queue"),
    ("pack/<slug:form>/", record_acts.pack, "case_pack", "Report", "cases.view_case"),
    ("filing/", filing_desk.filing, "case_filing", "Suspicious activity", "cases.view_filing"),
    ("history/", record_acts.history, "case_history", "History", "cases.view_case"),
    ("history/<slug:form>/", record_acts.export_history, "case_history_export", "Export", "cases.view_case"),
):
    admin.site.register_page(f"cases/<int:case_id>/{_route}", _view, _name, title=_title, permission=_right)
admin.site.register_page(
    "mentions/",
    record_desk.mention_list,
    "mentions",
    title="Mentions",
    permission="cases.view_case",
    waiting=record_desk.unseen_mentions,
)
admin.site.register_page(
    "mentions/<int:mention_id>/", record_desk.mention_open, "mention", title="Mention", permission="cases.view_case"
)
admin.site.register_page(
    "snippets/", record_desk.snippet_list, "snippets", title="Snippets", permission="cases.work_case"
)
admin.site.register_page(
    "late-labels/",
    record_desk.late_list,
    "late_labels",
    title="Late labels",
    icon="flag",
    section="Work",
    permission="cases.lead_queue",
    waiting=record_desk.late_cases,
)
lead_admin.register_pages()
admin.site.register_page(
    "hand-over/", acts_desk.hand_over, "hand_over", title="Hand over", permission="cases.work_case"
)
admin.site.register_page(
    "case-approvals/",
    approvals_desk.requests,
    "case_approvals",
    title="Second looks",
    icon="eye",
    section="Work",
    permission="cases.approve_case",
    waiting=approvals_desk.waiting,
)
admin.site.register_page(
    "case-approvals/<int:approval_id>/",
    approvals_desk.one_request,
    "case_approval",
    title="Second look",
    permission="cases.work_case",
)
admin.site.register_page(
    "cases/<int:case_id>/verdicts/",
    acts_desk.case_verdicts,
    "case_verdicts",
    title="Payments",
    permission="cases.view_case",
)
admin.site.register_page(
    "cases/<int:case_id>/<slug:act>/", acts_desk.case_act, "case_act", title="Act", permission="cases.work_case"
)


@admin.register(CloseReason)
class CloseReasonAdmin(admin.ModelAdmin):
    """The structured reasons offered in the close dialog."""

    list_display = ["code", "title", "dispositions"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A reason that closed a case stays."""
        return False


class InQueues(FactAdmin):
    """Rows of cases, for those who may read the case: members of its queue, and who audits; what is of no case, for all
    who hold the right."""

    of_case = "case"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those of cases that this reader may see."""
        rows = super().get_queryset(request)
        if sees_everything(request.user):
            return rows.exclude(**{f"{self.of_case}__in": concerning_kept(request.user)})
        mine = Q(**{f"{self.of_case}__in": for_member(request.user).values("pk")})
        return rows.filter(mine | Q(**{f"{self.of_case}__isnull": True}))


@admin.register(Case)
class CaseAdmin(InQueues, CustomerAdmin):
    """The plain rows; people work them on the desk."""

    of_case = "pk"
    customer = ""  # members' rules say it already
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
class CaseEventAdmin(InQueues):
    """The history of all cases."""

    list_display = ["at", "case", "kind", "actor", "before", "after"]
    list_select_related = ["case", "actor"]
    list_filter = ["kind"]
    search_fields = ["=case__id"]


@admin.register(Note)
class NoteAdmin(InQueues):
    """What investigators wrote down."""

    list_display = ["at", "case", "author"]
    list_select_related = ["case", "author"]
    search_fields = ["=case__id"]


@admin.register(Attachment)
class AttachmentAdmin(InQueues):
    """The files of all cases, as rows; their bytes are on the case page."""

    list_display = ["at", "case", "name", "kind", "size", "author", "scanned", "removed_at"]
    list_select_related = ["case", "author"]
    search_fields = ["=case__id", "=sha256"]
    exclude = ["stored"]


@admin.register(Sighting)
class SightingAdmin(FactAdmin):
    """Who looked at what; looks at reports of suspicious activity only for those who may know of them."""

    list_display = ["at", "actor", "act", "case", "entity_kind", "ip"]
    list_select_related = ["case", "actor"]
    list_filter = ["act"]
    search_fields = ["=case__id", "=actor__username"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """All looks that this reader may know of."""
        rows = super().get_queryset(request)
        return rows if filings.may_see(request.user) else rows.exclude(act="report_viewed")
