"""Alerts in the admin: to be read, never changed; and the live page."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from alerts import desk
from alerts.models import Alert, AlertExplanation


class UncountedPaginator(Paginator):
    """Pages over a big table without counting it: the last page is as far as a list goes."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, up to the longest list; costs one bounded look."""
        return len(self.object_list.values_list("pk")[: self.per_page * 20 + 1])


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only the pipeline writes."""

    show_full_result_count = False
    paginator = UncountedPaginator
    list_per_page = 50
    list_max_show_all = 0
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Stopped payments, newest first."""

    list_display = ["raised_at", "outcome", "score", "top_reason", "customer_ref", "channel", "lane", "seq"]
    list_display_links = ["raised_at"]
    ordering = ["-raised_at"]
    search_fields = ["=customer_ref"]
    search_help_text = "A customer’s reference, in full."
    sortable_by = ["raised_at"]
    exclude = ["transaction", "decision"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        return super().get_queryset(request).defer("reasons", "rules")


@admin.register(AlertExplanation)
class AlertExplanationAdmin(ReadOnlyAdmin):
    """What the model contributed to an alert."""

    list_display = ["alert_id", "model_version", "base", "margin", "computed_at"]
    ordering = ["-alert_id"]
    exclude = ["alert"]


admin.site.register_page(
    "live/", desk.live_page, "live", title="Live", icon="radio", section="Work", permission="alerts.view_alert"
)
