"""People: who may sign in and with which roles."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest, HttpResponse

from cases import sightings
from fraudsite import design_system, palette, preferences_desk, sessions
from fraudsite.dashboards import pages as dashboards
from fraudsite.models import User
from transactions.browsing import FactAdmin
from transactions.models import TransactionDetail

admin.site.register_page("preferences/", preferences_desk.page, "preferences", title="Preferences", icon="settings")
admin.site.register_page("find/", palette.find, "find", title="Find")
admin.site.register_page("stay/", sessions.stay, "stay", title="Stay signed in")
admin.site.register_page("dashboard/rows/", dashboards.rows, "dashboard_rows", title="Payments")
admin.site.register_page("dashboard/<slug:key>/", dashboards.page, "dashboard", title="Dashboard")
admin.site.register_page(
    "dashboard/<slug:key>/export/<slug:table>/", dashboards.export, "dashboard_export", title="Export"
)
admin.site.register_page("design-system/", design_system.page, "design_system", title="Design system", icon="layers")


@admin.register(User)
class PersonAdmin(UserAdmin):
    """Django's own user pages, with the reader's time zone."""

    list_display = ["username", "first_name", "last_name", "is_active", "last_login"]
    list_filter = ["is_active", "groups"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = (*(UserAdmin.fieldsets or ()), ("Reading", {"fields": ["time_zone"]}))

    def has_delete_permission(self, request, obj=None) -> bool:
        """People are switched off, not deleted: what they did keeps their name."""
        return False


@admin.register(TransactionDetail)
class DocumentAdmin(FactAdmin):
    """The documents as they were sent, unmasked: for whom the customer is unmasked just now, and each look is kept."""

    customer = "transaction__customer"
    list_display = ["transaction_id"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Reached from a payment, not from the index."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """One's own reason, given on the customer's page, opens the documents for ten minutes."""
        if not super().has_view_permission(request, obj) or not request.user.has_perm("cases.unmask"):
            return False
        return obj is None or bool(sightings.unmasked(request.user, [("customer", obj.transaction.customer)]))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show it, and write down who saw it."""
        response = super().change_view(request, object_id, *args, **kwargs)
        if response.status_code == 200:
            sightings.saw(request, "unmasked", reason="The document of a payment", document=object_id)
        return response
