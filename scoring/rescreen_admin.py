"""Judging again as an act of the desk: a form with a reason, and the list of requests with what came of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode

from scoring import screening
from scoring.models import DEGRADED, Rescreening
from transactions.browsing import FactAdmin

RIGHT = "scoring.rescreen"


class RescreeningForm(forms.ModelForm):
    """Which payments, and why: ids, or a filter over live decisions."""

    payments = forms.CharField(required=False, help_text="Ids, with commas between them; or use the filter below.")
    degraded = forms.MultipleChoiceField(
        required=False, choices=[(cause, cause.replace("_", " ").capitalize()) for cause in DEGRADED]
    )
    judged_by = forms.IntegerField(required=False, min_value=1, label="Release", help_text="Judged by this one.")
    since = forms.SplitDateTimeField(required=False, widget=admin.widgets.AdminSplitDateTime)
    until = forms.SplitDateTimeField(required=False, widget=admin.widgets.AdminSplitDateTime)

    by = ""  # set by the admin class

    class Meta:
        model = Rescreening
        fields = ("lane", "reason")

    def clean_payments(self) -> list[int] | None:
        """The ids as numbers; None where none are named."""
        parts = self.cleaned_data["payments"].replace(",", " ").split()
        if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in parts):
            raise forms.ValidationError("Ids are numbers.")
        return [int(part) for part in parts] or None

    def clean(self) -> dict[str, Any]:
        """Ask: what cannot be judged again is refused here, with its sentence."""
        given = self.cleaned_data
        if self.errors:
            return given
        try:
            self.instance = screening.ask(
                given["lane"],
                reason=given["reason"],
                by=self.by,
                payments=given["payments"],
                degraded=given["degraded"],
                release=given["judged_by"],
                since=given["since"],
                until=given["until"],
            )
        except screening.CannotRescreen as error:
            raise forms.ValidationError(str(error)) from error
        return given


class RescreeningAdmin(FactAdmin):
    """Requests to judge again: anybody who may see them, sees them; asking needs the right to."""

    list_display = ["id", "lane", "author", "requested_at", "finished_at", "judged", "changed", "alerts", "reason"]
    list_select_related = ["lane"]
    readonly_fields = ["lane", "payments", "release"]
    ASKED = ("lane", "reason", "payments", "degraded", "judged_by", "since", "until")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may have payments judged again."""
        return request.user.has_perm(RIGHT)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Nothing stands yet while it is asked."""
        return self.readonly_fields if obj else ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What is asked; afterwards all that is known."""
        return [field.name for field in Rescreening._meta.fields] if obj else self.ASKED

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form knows who asks."""
        if obj:
            return super().get_form(request, obj, change, **kwargs)
        return type("Asked", (RescreeningForm,), {"by": request.user.get_username()})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """`?payments=1,2` and `?lane=1`, as the list of decisions sends them."""
        return {name: request.GET[name] for name in ("payments", "lane") if name in request.GET}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the service made the row when the form was checked, or found the one that stands open."""


@admin.action(description="Judge again…", permissions=["rescreen"])
def judge_again(model_admin: Any, request: HttpRequest, queryset: Any) -> HttpResponseRedirect:
    """From chosen decisions to the form that asks for the reason."""
    chosen = list(queryset.values_list("transaction_id", "lane")[: screening.MOST_NAMED])
    ids = ",".join(str(payment) for payment in sorted({payment for payment, _ in chosen}))
    where = reverse("admin:scoring_rescreening_add")
    return HttpResponseRedirect(f"{where}?{urlencode({'payments': ids, 'lane': chosen[0][1] if chosen else ''})}")


class JudgeAgain(FactAdmin):
    """A list of decisions whose payments may be judged again."""

    actions = [judge_again]

    def has_rescreen_permission(self, request: HttpRequest) -> bool:
        """Whoever may have payments judged again."""
        return request.user.has_perm(RIGHT)
