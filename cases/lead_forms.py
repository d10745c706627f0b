"""The forms of what a lead sets up: queues, routes, absences. They say what is wrong in a sentence beside the field."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib.auth import get_user_model

from cases import calendar, quality, routing
from cases.models import Queue, Route
from cases.querysets import open_ones
from transactions.codes import CHANNEL

LEVELS = ("1", "2", "3", "4")
LONGEST_SLA = 90 * 24 * 60


class Texts(forms.CharField):
    """A list of texts, separated by commas or spaces."""

    def to_python(self, value: Any) -> list[str]:
        given = value if isinstance(value, list) else str(value or "").replace(",", " ").split()
        return list(dict.fromkeys(each.strip() for each in given if each.strip()))

    def prepare_value(self, value: Any) -> Any:
        """As it is shown again."""
        return ", ".join(value) if isinstance(value, list) else value


def _named(codes: Any) -> list[tuple[str, str]]:
    return [(code, code.replace("_", " ").capitalize()) for code in codes]


class RouteForm(forms.ModelForm):
    """A route, with one field for each condition."""

    channels = forms.MultipleChoiceField(
        choices=_named(CHANNEL), required=False, widget=forms.CheckboxSelectMultiple, label="Channel is one of"
    )
    outcomes = forms.MultipleChoiceField(
        choices=_named(routing.STOPPED), required=False, widget=forms.CheckboxSelectMultiple, label="Outcome is one of"
    )
    reason_codes = Texts(required=False, label="A reason is one of", help_text="Codes, e.g. MERCHANT_RISK")
    rules = Texts(required=False, label="A live rule that hit is one of", help_text="Codes, e.g. R-101")
    countries = Texts(required=False, label="Country is one of", help_text="Two letters, e.g. DE, FR")
    currencies = Texts(required=False, label="Currency is one of", help_text="Three letters, e.g. EUR")
    score_from = forms.IntegerField(required=False, min_value=0, max_value=1000, label="Score from")
    score_below = forms.IntegerField(required=False, min_value=1, max_value=1001, label="Score below")
    amount_from = forms.IntegerField(required=False, min_value=0, label="Amount from", help_text="Minor units, base")
    amount_below = forms.IntegerField(required=False, min_value=1, label="Amount below", help_text="Minor units, base")

    class Meta:
        model = Route
        fields = ["name", "lane", "position", "queue", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in (self.instance.conditions or {}).items():
            if name in self.fields:
                self.initial[name] = value

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        queue, lane = given.get("queue"), given.get("lane")
        if queue and lane and queue.lane_id != lane.pk:
            self.add_error("queue", f"{queue.name} is a queue of another lane.")
        conditions = self.conditions(given)
        try:
            routing.check(conditions)
        except routing.BadConditions as error:
            for name, text in error.errors.items():
                self.add_error(name if name in self.fields else None, text)
        self.instance.conditions = conditions
        return given

    def conditions(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the fields say together; an empty field is no condition."""
        names = [*routing.LISTS, *routing.NUMBERS]
        upper = {"countries", "currencies", "reason_codes"}
        found: dict[str, Any] = {name: given[name] for name in names if given.get(name) not in (None, "", [])}
        return {name: [each.upper() for each in value] if name in upper else value for name, value in found.items()}


class HoursField(forms.CharField):
    """Working hours, a line for some days; empty: around the clock."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 40, "placeholder": "Mon–Fri 08:00–18:00\nSat 09:00–13:00"})

    def to_python(self, value: Any) -> list[list[Any]]:
        try:
            return calendar.from_lines(str(value or ""))
        except calendar.BadHours as error:
            raise forms.ValidationError(str(error)) from None

    def prepare_value(self, value: Any) -> Any:
        """As it is shown again."""
        return calendar.in_lines(value) if isinstance(value, list) else value


class QueueForm(forms.ModelForm):
    """A queue: who, how long, when, and what of it is looked at twice."""

    channels = forms.MultipleChoiceField(
        choices=_named(CHANNEL),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Alerts of these channels come here unless a route says otherwise; none: those no queue names.",
    )
    working_hours = HoursField(required=False, help_text="One line for some days. Empty: around the clock.")
    time_zone = forms.ChoiceField(choices=[(name, name) for name in sorted(available_timezones())], initial="UTC")
    quality_always = forms.MultipleChoiceField(
        choices=list(quality.KINDS.items()),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Always reviewed",
    )
    quality_share = forms.FloatField(
        min_value=0, max_value=1, label="Share reviewed", help_text="0.02 is two of a hundred."
    )
    load_limit = forms.IntegerField(min_value=1, max_value=500, help_text="Cases of one person before no more come.")
    lease_minutes = forms.IntegerField(min_value=1, max_value=240)
    sla_1 = forms.IntegerField(min_value=1, max_value=LONGEST_SLA, label="P1 due after (working minutes)")
    sla_2 = forms.IntegerField(min_value=1, max_value=LONGEST_SLA, label="P2 due after (working minutes)")
    sla_3 = forms.IntegerField(min_value=1, max_value=LONGEST_SLA, label="P3 due after (working minutes)")
    sla_4 = forms.IntegerField(min_value=1, max_value=LONGEST_SLA, label="P4 due after (working minutes)")

    class Meta:
        model = Queue
        fields = [  # the minutes to due have fields of their own
            *("name", "slug", "lane", "grouping", "channels", "weight", "lease_minutes", "members", "working_hours"),
            *("time_zone", "escalates_to", "auto_assign", "load_limit", "four_eyes_from"),
            *("quality_share", "quality_always"),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for level in LEVELS:
            self.initial.setdefault(f"sla_{level}", (self.instance.sla or {}).get(level))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        self._check_grouping(given.get("grouping"))
        self._check_hours(given.get("working_hours") or [], given.get("time_zone") or "UTC")
        self._check_target(given)
        minutes = [given[f"sla_{level}"] for level in LEVELS if given.get(f"sla_{level}") is not None]
        if len(minutes) == len(LEVELS):
            if minutes != sorted(minutes):
                self.add_error("sla_1", "A more urgent case cannot have more time than a less urgent one.")
            self.instance.sla = dict(zip(LEVELS, minutes, strict=True))
        return given

    def _check_grouping(self, grouping: str | None) -> None:
        is_changed = self.instance.pk and grouping and grouping != self.initial.get("grouping")
        if is_changed and open_ones(self.instance.cases.all()).exists():
            self.add_error("grouping", "It has open cases, which are grouped otherwise. Close or move them first.")

    def _check_hours(self, hours: list[list[Any]], zone: str) -> None:
        try:
            calendar.parse(hours, zone)
        except calendar.BadHours as error:
            self.add_error("working_hours", str(error))

    def _check_target(self, given: dict[str, Any]) -> None:
        target = given.get("escalates_to")
        if target is None:
            return
        if target.pk == self.instance.pk:
            self.add_error("escalates_to", "A queue cannot escalate to itself.")
        elif given.get("lane") and target.lane_id != given["lane"].pk:
            self.add_error("escalates_to", f"{target.name} is a queue of another lane.")


class AbsenceForm(forms.Form):
    """Who is away from when to when, in the reader's zone."""

    user = forms.ModelChoiceField(queryset=get_user_model().objects.none(), label="Who", empty_label=None)
    starts_at = forms.DateTimeField(label="From", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    ends_at = forms.DateTimeField(label="Until", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    note = forms.CharField(max_length=200, required=False, label="Note")

    def __init__(self, *args: Any, people: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = people
        self.fields["user"].label_from_instance = lambda user: user.get_full_name() or user.get_username()
