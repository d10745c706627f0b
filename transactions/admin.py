"""Read-only browsing of payments, labels, imports; clients and keys. Facts have no add, change or delete anywhere.

Lists never count a whole table: they would read it. A key's secret is shown once, right after it was
made.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from transactions import querysets
from transactions.auth import SCOPES, issue_key, revoke_key
from transactions.browsing import CustomerAdmin, FactAdmin
from transactions.models import (
    ApiClient,
    ApiKey,
    CurrencyRate,
    ImportJob,
    Label,
    Lane,
    Transaction,
)


@admin.register(Transaction)
class TransactionAdmin(CustomerAdmin):
    """Payments, found by id, by the bank's own id or by customer."""

    list_display = ["external_id", "occurred_at", "money", "type", "channel", "who", "intake"]
    search_fields = ["external_id", "customer_ref"]
    search_help_text = "The payment's id, the bank's own id of the payment, or of the customer, in full."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Transaction], search_term: str
    ) -> tuple[QuerySet[Transaction], bool]:
        """Exact look-ups by an index each; a LIKE would read the whole table."""
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(pk__in=querysets.ids_of_term(term)), False

    @admin.display(description="amount", ordering="amount")
    def money(self, payment: Transaction) -> str:
        return f"{payment.amount / 10**payment.exponent:,.{payment.exponent}f} {payment.currency}"


@admin.register(Label)
class LabelAdmin(FactAdmin):
    """What became known, newest first."""

    list_display = ["id", "payment", "verdict", "source", "fraud_type", "known_at", "author"]
    raw_id_fields = ["transaction"]
    customer = "transaction__customer"

    @admin.display(description="transaction")
    def payment(self, label: Label) -> int:
        return label.transaction_id


@admin.register(ImportJob)
class ImportJobAdmin(FactAdmin):
    """Files that went in, or are going in."""

    list_display = ["file_name", "kind", "client", "status", "next_row", "accepted", "known", "rejected", "started_at"]
    list_select_related = ["client"]


class LastingAdmin(admin.ModelAdmin):
    """Rows that facts refer to: made and changed, never deleted."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Lane)
class LaneAdmin(LastingAdmin):
    """Portfolios. The base currency stands for ever: all amounts are kept in it."""

    list_display = ["name", "base_currency", "sandbox"]

    def get_readonly_fields(self, request: HttpRequest, obj: Lane | None = None) -> list[str]:
        return ["base_currency"] if obj else []


@admin.register(ApiClient)
class ApiClientAdmin(LastingAdmin):
    """Bank systems that may call the API."""

    list_display = ["name", "lane", "enabled", "created_at"]
    list_select_related = ["lane"]
    readonly_fields = ["created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiClient | None = None) -> list[str]:
        return ["created_at", "lane"] if obj else ["created_at"]


@admin.register(CurrencyRate)
class CurrencyRateAdmin(LastingAdmin):
    """Exchange rates; a new rate is a new row, so that old amounts stay explained."""

    list_display = ["currency", "base", "rate", "valid_from"]
    list_filter = ["base"]
    search_fields = ["currency"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ApiKeyForm(forms.ModelForm):
    """A key to be made: whose, what it may do, until when, from where."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {text}") for scope, text in SCOPES.items()], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiKey
        fields = ["client", "scopes", "expires_at", "networks"]


@admin.register(ApiKey)
class ApiKeyAdmin(LastingAdmin):
    """Keys by their prefix. The full key is shown once, when it is made; afterwards it can only be revoked."""

    form = ApiKeyForm
    list_display = ["prefix", "client", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["client"]
    actions = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        made = ["client", "scopes", "expires_at", "networks"]
        return ["prefix", *made, "created_at", "revoked_at", "last_used_at"] if obj else made

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Issue the key instead of saving the form's row, and show its text this once."""
        asked = form.cleaned_data
        key, text = issue_key(
            asked["client"], scopes=asked["scopes"], expires_at=asked["expires_at"], networks=asked["networks"]
        )
        obj.__dict__.update(key.__dict__)
        self.message_user(request, f"The key, shown only now: {text}", messages.WARNING)

    @admin.action(description="Revoke the selected keys", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at__isnull=True):
            revoke_key(key)
            self.log_change(request, key, "Revoked.")
        self.message_user(request, "Revoked; every process refuses them within seconds.")
