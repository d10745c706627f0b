"""What investigators write down: immutable, and never a card number."""

from __future__ import annotations

from typing import Any

from django.db.transaction import atomic

from cases.history import admit, locked
from cases.models import Note
from cases.workflow import CaseError
from transactions import pan

LONGEST_NOTE = 4000


class RefusedText(CaseError):
    """The text holds what must not be stored, or nothing at all."""


def refuse_card_numbers(text: str) -> None:
    """Raise RefusedText if the text contains something like a card number. The text itself is told to nobody."""
    if pan.in_free_text(text):
        raise RefusedText("This looks like a card number, which must not be stored. Write the last four digits only.")


@atomic
def add_note(case_id: int, text: str, *, by: Any, corrects: int | None = None) -> Note:
    """Add a note to a case, open or closed. A correction names the note it corrects. Raises RefusedText."""
    case = locked(case_id)
    admit(case, by)
    text = text.strip()
    if not 0 < len(text) <= LONGEST_NOTE:
        raise RefusedText(f"A note has between 1 and {LONGEST_NOTE:,} characters.")
    refuse_card_numbers(text)
    if corrects is not None and not case.notes.filter(pk=corrects).exists():
        raise RefusedText("The note that this corrects is not in this case.")
    return Note.objects.create(case=case, author=by, text=text, corrects_id=corrects)
