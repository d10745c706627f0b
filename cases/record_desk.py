"""What was written about a case: its notes and its history, as the case page shows them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, QueryDict

from cases.models import Case
from cases.notes import RefusedText
from cases.timeline import TOLD
from cases.workflow import CaseError

MOST_EVENTS = 200


def case_context(
    request: HttpRequest, case: Case, *, form: QueryDict | None = None, refusal: CaseError | None = None
) -> dict[str, Any]:
    """The case page's notes and history."""
    return {
        "notes": case.notes.select_related("author"),
        "events": [_line(event) for event in case.events.select_related("actor")[:MOST_EVENTS]],
        "note_text": form.get("text", "") if form is not None and not isinstance(refusal, RefusedText) else "",
    }


def _line(event: Any) -> dict[str, Any]:
    icon, _ = TOLD.get(event.kind, ("history", ""))
    return {"event": event, "icon": icon}
