"""People: who may sign in and with which roles."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from fraudsite import design_system, palette, preferences_desk, sessions
from fraudsite.dashboards import pages as dashboards
from fraudsite.models import User

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
