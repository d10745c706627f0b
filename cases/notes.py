"""What investigators write down, of a case or of an entity: immutable, and never a card number.

A note of an entity (a customer, a card, a merchant …) shows in every case of that entity, also in those to come. A
correction is a new note that names the old one; both stay.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.db.transaction import atomic

from cases import mentions
from cases.history import NotAllowed, admit, locked
from cases.models import Case, Note
from cases.workflow import CaseError
from transactions import clock, pan

LONGEST_NOTE = 4000
MOST_SHOWN = 100
ABOUT = {
    "customer": "Customer",
    "account": "Account",
    "card": "Card",
    "device": "Device",
    "merchant": "Merchant",
    "counterparty": "Payee",
}
TWICE = timedelta(seconds=30)  # the same words again within this are a second click

# The entities of a case: its customer, and those of its newest payments.
_ENTITIES = """
SELECT 'customer' AS kind, %(customer)s::bigint AS key
UNION SELECT e.kind, e.key FROM (
  SELECT t.* FROM case_alert a JOIN transaction t ON t.id = a.alert_id
   WHERE a.case_id = %(case)s ORDER BY a.alert_id DESC LIMIT 50) t
CROSS JOIN LATERAL (VALUES ('account', t.account), ('card', t.card), ('device', t.device), ('merchant', t.merchant),
  ('counterparty', t.counterparty)) e (kind, key) WHERE e.key <> 0"""
_NOTES = f"""
SELECT n.id FROM note n WHERE n.case_id = %(case)s
UNION SELECT n.id FROM ({_ENTITIES}) k
  JOIN note n ON n.entity_kind = k.kind AND n.entity_key = k.key AND n.entity_kind <> ''
ORDER BY id DESC LIMIT {MOST_SHOWN}"""


class RefusedText(CaseError):
    """The text holds what must not be stored, or nothing at all."""


def refuse_card_numbers(text: str) -> None:
    """Raise RefusedText if the text contains something like a card number. The text itself is told to nobody."""
    if pan.in_free_text(text):
        raise RefusedText("This looks like a card number, which must not be stored. Write the last four digits only.")


@atomic
def add_note(case_id: int, text: str, *, by: Any, corrects: int | None = None, about: str = "") -> Note:
    """Add a note to a case, open or closed, and tell whom it names. A second click adds nothing.

    `corrects` names the note this one corrects; `about` one of ABOUT: then the note is of that entity too. Raises
    RefusedText, RefusedMention, NotAllowed, NoSuchCase.
    """
    case = locked(case_id)
    admit(case, by)
    text = _checked(text)
    kind, key = _entity(case, about)
    if corrects is not None:
        kind, key = _corrected(case, corrects)
    return _written(Note(case=case, author=by, text=text, corrects_id=corrects, entity_kind=kind, entity_key=key))


@atomic
def add_entity_note(kind: str, key: int, text: str, *, by: Any) -> Note:
    """Add a note to an entity, seen in all its cases. Raises RefusedText, RefusedMention, NotAllowed."""
    if not by.has_perm("cases.work_case"):
        raise NotAllowed("Your role does not allow this.")
    if kind not in ABOUT or not key:
        raise RefusedText("There is no such entity to write about.")
    return _written(Note(author=by, text=_checked(text), entity_kind=kind, entity_key=key))


def of_case(case: Case) -> QuerySet[Note]:
    """The notes to show with a case, newest first: its own, and those of its entities."""
    shown = RawSQL(_inlined(_NOTES), [case.pk, case.customer, case.pk])
    return Note.objects.filter(pk__in=shown).select_related("author").order_by("-pk")


def of_entity(kind: str, key: int) -> QuerySet[Note]:
    """The notes of an entity, newest first; at most MOST_SHOWN."""
    return Note.objects.filter(entity_kind=kind, entity_key=key).select_related("author", "case")[:MOST_SHOWN]


def entities_of(case: Case) -> dict[str, int]:
    """The entities that a note of this case can be about: {kind: key}, each kind of which it has just one."""
    with connection.cursor() as cursor:
        cursor.execute(_ENTITIES, {"case": case.pk, "customer": case.customer})
        found: dict[str, list[int]] = {}
        for kind, key in cursor.fetchall():
            found.setdefault(kind, []).append(key)
    return {kind: keys[0] for kind, keys in found.items() if len(keys) == 1}


def _inlined(sql: str) -> str:
    """The statement with its named places in order, which is how a RawSQL expression takes them."""
    return sql.replace("%(case)s", "%s").replace("%(customer)s", "%s")


def _checked(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\x00", "").strip()
    if not 0 < len(text) <= LONGEST_NOTE:
        raise RefusedText(f"A note has between 1 and {LONGEST_NOTE:,} characters.")
    refuse_card_numbers(text)
    return text


def _entity(case: Case, about: str) -> tuple[str, int]:
    if not about:
        return "", 0
    known = entities_of(case)
    if about not in known:
        raise RefusedText("This case has no such entity, or several of them.")
    return about, known[about]


def _corrected(case: Case, note_id: int) -> tuple[str, int]:
    """What the corrected note is about. It must be the case's, and the last of its corrections."""
    old = case.notes.filter(pk=note_id).first()
    if old is None:
        raise RefusedText("The note that this corrects is not in this case.")
    if case.notes.filter(corrects=note_id).exists():
        raise RefusedText("That note was corrected already. Correct the later one.")
    return old.entity_kind, old.entity_key


def _written(note: Note) -> Note:
    note.at = clock.now()
    same = Note.objects.filter(
        case=note.case, entity_kind=note.entity_kind, entity_key=note.entity_key, author=note.author, text=note.text
    )
    twin = same.filter(at__gt=note.at - TWICE).first()
    if twin:
        return twin
    people = mentions.named_in(note.text, note.case)
    note.save(force_insert=True)
    mentions.tell(note, people)
    return note
