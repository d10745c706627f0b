"""The last four digits of the cards in cases, kept by themselves: a payment's document is text that no index reads."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

NOTE = """
INSERT INTO case_card (row_id, last4)
SELECT d.id, left(d.document::jsonb #>> '{card,last4}', 4) FROM transaction_detail d
 WHERE d.id = ANY(%s) AND d.document::jsonb #>> '{card,last4}' IS NOT NULL
ON CONFLICT DO NOTHING"""


def note_cards(alert_ids: Iterable[int]) -> None:
    """Note the cards of alerts that have just got their case. One statement; noting again changes nothing."""
    with connection.cursor() as cursor:
        cursor.execute(NOTE, [list(alert_ids)])
