"""Alerts in the admin: to be read, never changed; and the live page."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from alerts import desk
from alerts.models import Alert, AlertExplanation
from transactions.browsing import CustomerAdmin, FactAdmin


@admin.register(Alert)
class AlertAdmin(CustomerAdmin):
    """Stopped payments, newest first."""

    list_display = ["raised_at", "outcome", "score", "top_reason", "who", "channel", "lane", "seq"]
    list_display_links = ["raised_at"]
    ordering = ["-raised_at"]
    search_fields = ["=customer_ref"]
    search_help_text = "A customer’s reference, in full."
    sortable_by = ["raised_at"]
    exclude = ["transaction", "decision"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        return super().get_queryset(request).defer("reasons", "rules")


@admin.register(AlertExplanation)
class AlertExplanationAdmin(FactAdmin):
    """What the model contributed to an alert."""

    list_display = ["alert_id", "model_version", "base", "margin", "computed_at"]
    ordering = ["-alert_id"]
    exclude = ["alert"]
    customer = "alert__customer"


admin.site.register_page(
    "live/", desk.live_page, "live", title="Live", icon="radio", section="Work", permission="alerts.view_alert"
)
