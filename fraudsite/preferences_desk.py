"""The page on which a person sets their desk up, and the small changes that other pages make to it in passing."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cases import preferences

SWITCHES = {
    "auto_next": ("Open the next case after a close", "The dialog of each close can still say otherwise."),
    "sound": ("Sound on the live page", "A short tone for a new critical alert. Off unless you switch it on."),
    "shortcuts": ("Single-key shortcuts", "Ctrl+K, Ctrl+Enter and Esc work either way."),
}


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """`/desk/preferences/`: the form; a JSON object posted here changes only what it names."""
    if request.content_type == "application/json":
        return _change(request)
    if request.method == "GET":
        return _show(request)
    try:
        preferences.save(request.user, **_from_form(request.POST))
    except ValidationError as error:
        return _show(request, errors=error.message_dict, given=request.POST)
    messages.success(request, "Your preferences are kept.")
    return redirect("admin:preferences")


def _change(request: HttpRequest) -> HttpResponse:
    try:
        changes = json.loads(request.body)
        preferences.save(request.user, **changes)
    except (ValueError, TypeError):
        return JsonResponse({"error": "Not a JSON object of preferences."}, status=400)
    except ValidationError as error:
        return JsonResponse({"error": error.message_dict}, status=422)
    return JsonResponse(changes)


def _from_form(form: Any) -> dict[str, Any]:
    keys = {key: form.get(f"key-{key}", key).strip().lower() for key in preferences.KEYS}
    return {
        **{name: form.get(name, "system") for name in preferences.CHOICES},
        **{name: name in form for name in SWITCHES},
        "time_zone": form.get("time_zone", ""),
        "keys": preferences.remapped(keys),
    }


def _show(request: HttpRequest, errors: dict[str, list[str]] | None = None, given: Any = None) -> HttpResponse:
    chosen = preferences.of(request.user)
    values = _from_form(given) if given is not None else vars(chosen)
    context = {
        "choices": [
            (name, title, values[name], preferences.CHOICES[name].items())
            for name, title in (("theme", "Theme"), ("density", "Rows"), ("motion", "Motion"))
        ],
        "switches": [(name, title, hint, values[name]) for name, (title, hint) in SWITCHES.items()],
        "zones": sorted(preferences.zones()),
        "chosen_zone": values["time_zone"],
        "now": timezone.now(),
        "keys": [(key, title, values["keys"].get(key, key)) for key, title in preferences.KEYS.items()],
        "errors": errors or {},
    }
    return admin.site.render(
        request, "desk/preferences.html", context, title="Preferences", status=422 if errors else 200
    )
