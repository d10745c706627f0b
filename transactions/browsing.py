"""Lists of facts in the admin: seen, never touched, and never counted whole: that would read the whole table."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from transactions import withheld
from transactions.masks import masked

MOST_LISTED = 10_000


class NoCountPaginator(Paginator):
    """Pages through a list up to `MOST_LISTED` rows; counts no further, so a page costs the same however long it is."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, up to the longest list; one bounded look at keys alone."""
        return len(self.object_list.values_list("pk")[:MOST_LISTED])


class FactAdmin(admin.ModelAdmin):
    """A table that only services and the pipeline write: nobody adds, changes or deletes, by action or by form."""

    show_full_result_count = False
    paginator = NoCountPaginator
    list_per_page = 50
    list_max_show_all = 0
    actions: Any = None
    ordering = ["-pk"]
    customer = ""  # where a row names its customer, by entity key: rows of whom the reader is kept from are left out

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows that this reader may see."""
        rows = super().get_queryset(request)
        kept_from = withheld.customers(request.user) if self.customer else ()
        return rows.exclude(**{f"{self.customer}__in": kept_from}) if kept_from else rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes at all."""
        return False


class CustomerAdmin(FactAdmin):
    """Rows with the bank's own name of a customer, which is masked here as everywhere."""

    customer = "customer"
    readonly_fields = ["who"]

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Never the name in full."""
        return [*(super().get_exclude(request, obj) or []), "customer_ref"]

    @admin.display(description="customer")
    def who(self, row: Any) -> str:
        """By its last four characters."""
        return masked(row.customer_ref, "CU")
