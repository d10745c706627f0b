"""What a lead sets up, as pages and as records: board, quality, absences; queues, routes, checklists, snippets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Min
from django.http import HttpRequest
from django.utils import timezone

from cases import calendar, checklists, lead_desk, routing
from cases.lead_forms import LEVELS, QueueForm, RouteForm
from cases.models import Absence, CheckItem, Exclusion, Queue, Route, Snippet
from cases.templatetags.cases import length
from transactions.codes import FRAUD_TYPE, entity_key

LEADS = "cases.lead_queue"


def register_pages() -> None:
    """Put the lead's pages on the site; called where the order of the rail is decided."""
    page = admin.site.register_page
    page("my-day/", lead_desk.my_day, "my_day", title="My day", icon="calendar", section="Work",
         permission="cases.work_case")  # fmt: skip
    page("board/", lead_desk.board_page, "board", title="Lead board", icon="users", section="Team", permission=LEADS)
    page("board/rebalance/", lead_desk.rebalance, "rebalance", title="Rebalance", permission=LEADS)
    page("quality/", lead_desk.quality_page, "quality", title="Quality", icon="circle-check", section="Team",
         permission=(LEADS, "cases.review_quality"), waiting=lead_desk.pending_reviews)  # fmt: skip
    page("quality/<int:review_id>/", lead_desk.review_page, "review", title="Review",
         permission=(LEADS, "cases.review_quality"))  # fmt: skip
    page("routes/", lead_desk.routes, "routes", title="Routing", icon="share-2", section="Team",
         permission="cases.view_route")  # fmt: skip
    page("absences/", lead_desk.absences, "absences", title="Absences", icon="clock", section="Team",
         permission=("cases.work_case", LEADS))  # fmt: skip


@admin.register(Queue)
class QueueAdmin(admin.ModelAdmin):
    """Where cases wait, who may work them, when they are due and what of it is looked at twice."""

    form = QueueForm
    list_display = ["name", "lane", "grouping", "hours", "open_cases", "oldest", "auto_assign", "escalates_to"]
    list_select_related = ["lane", "escalates_to"]
    search_fields = ["name"]
    filter_horizontal = ["members"]
    prepopulated_fields = {"slug": ["name"]}
    fieldsets = [
        (None, {"fields": ["name", "slug", "lane", "members"]}),
        ("What comes here", {"fields": ["grouping", "channels", "weight"]}),
        ("When it is due", {"fields": ["sla_1", "sla_2", "sla_3", "sla_4", "working_hours", "time_zone"]}),
        ("How it is worked", {"fields": ["lease_minutes", "auto_assign", "load_limit", "escalates_to"]}),
        ("Second looks", {"fields": ["four_eyes_from", "quality_share", "quality_always"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look finds the minutes to due in words: fields of the form alone would be blank."""
        if obj is None or self.has_change_permission(request, obj):
            return self.fieldsets
        told = {"sla_1": ["due_after"], "sla_2": [], "sla_3": [], "sla_4": []}
        return [
            (title, {"fields": [shown for name in part["fields"] for shown in told.get(name, [name])]})
            for title, part in self.fieldsets
        ]

    @admin.display(description="due after")
    def due_after(self, queue: Queue) -> str:
        """In working time, by priority."""
        return ", ".join(f"P{level} {length(timedelta(minutes=queue.sla[level]))}" for level in LEVELS)

    @admin.display(description="working hours")
    def hours(self, queue: Queue) -> str:
        """In words."""
        return calendar.in_words(queue.working_hours, queue.time_zone)

    @admin.display(description="open")
    def open_cases(self, queue: Queue) -> int:
        """Of open cases, which have their own small index."""
        return queue.cases.exclude(status="closed").count()

    @admin.display(description="oldest")
    def oldest(self, queue: Queue) -> str:
        """How long ago the oldest open case was opened."""
        first = queue.cases.exclude(status="closed").aggregate(first=Min("opened_at"))["first"]
        return length(timezone.now() - first) if first else "–"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A queue that had cases stays: their history names it."""
        return False


@admin.register(Route)
class RouteAdmin(admin.ModelAdmin):
    """Which alerts go to which queue. The page Routing also tries a route on past alerts before it is saved."""

    form = RouteForm
    list_display = ["name", "lane", "position", "takes", "queue", "is_active"]
    list_select_related = ["lane", "queue"]
    list_filter = ["lane", "is_active"]

    @admin.display(description="takes")
    def takes(self, route: Route) -> str:
        """Its conditions as a sentence."""
        return routing.in_words(route.conditions)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A route is switched off, not deleted."""
        return False


class ExclusionForm(forms.ModelForm):
    """Takes the customer as the bank calls them; only the entity key is kept."""

    reference = forms.CharField(max_length=64, label="Customer", help_text="As the bank calls them; it is not stored.")

    class Meta:
        model = Exclusion
        fields = ["user", "reason"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        self.instance.customer = entity_key("customer", given.get("reference") or "")
        if given.get("user") and Exclusion.objects.filter(user=given["user"], customer=self.instance.customer).exists():
            self.add_error("reference", "This person is kept from this customer already.")
        return given


@admin.register(Exclusion)
class ExclusionAdmin(admin.ModelAdmin):
    """Whose cases a person never gets."""

    form = ExclusionForm
    list_display = ["user", "customer", "reason", "added_by", "added_at"]
    list_select_related = ["user", "added_by"]
    search_fields = ["user__username", "=customer"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It is added or taken away, never turned into another."""
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """With who added it."""
        obj.added_by = request.user
        super().save_model(request, obj, form, change)


@admin.register(Absence)
class AbsenceAdmin(admin.ModelAdmin):
    """When people are away."""

    list_display = ["user", "starts_at", "ends_at", "note"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]
    date_hierarchy = "starts_at"


class CheckItemForm(forms.ModelForm):
    """Offers the fraud types that there are."""

    fraud_type = forms.ChoiceField(
        choices=[("", "Every case"), *((name, name.replace("_", " ").capitalize()) for name in FRAUD_TYPE)],
        required=False,
    )

    class Meta:
        model = CheckItem
        fields = ["fraud_type", "position", "text", "is_required", "is_active"]


class FraudTypeFilter(admin.AllValuesFieldListFilter):
    """By fraud type, with words for the steps that every case has."""

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        for choice in super().choices(changelist):
            yield choice | {"display": choice["display"] or "of every case"}


@admin.register(CheckItem)
class CheckItemAdmin(admin.ModelAdmin):
    """The steps that a fraud type's checklist asks for."""

    form = CheckItemForm
    list_display = ["text", "fraud_type", "position", "is_required", "is_active"]
    list_editable = ["position", "is_required", "is_active"]
    list_filter = [("fraud_type", FraudTypeFilter), "is_active"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        checklists.forget()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A step that was ticked stays; it is switched off."""
        return False


@admin.register(Snippet)
class SnippetAdmin(admin.ModelAdmin):
    """The team's texts to start a note with."""

    list_display = ["title", "owner"]
    list_select_related = ["owner"]
    raw_id_fields = ["owner"]
    search_fields = ["title"]
