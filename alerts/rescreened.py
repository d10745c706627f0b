"""Alerts of payments that a re-screening stops and nothing stopped before.

An alert's id is its payment's id, so a payment that has one keeps it, and with it its case. Nothing is held: the bank
was told of the first decision long ago, and only that one can hold money.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from django.db.transaction import on_commit

from alerts import live
from alerts.services import alert_rows, stopped
from scoring.services import Decisions
from transactions import binary

UNALERTED = """
    SELECT t.id, t.customer_ref FROM transaction t
     WHERE t.id = ANY(%s) AND NOT EXISTS (SELECT FROM alert a WHERE a.id = t.id)"""
HEAD = np.dtype([("id", "i8"), ("seq", "i8"), ("decided_at", "i8"), ("outcome", "i2"), ("score", "i2")])


def raise_alerts(cursor: Any, decisions: Decisions, seqs: np.ndarray, decided_at: int) -> int:
    """Add an alert for each stopped payment that has none, inside the caller's commit; how many.

    An alert that another commit adds at the same moment makes this one fail whole (IntegrityError).
    """
    places = np.flatnonzero(stopped(decisions.outcomes))
    cursor.execute(UNALERTED, [decisions.facts["id"][places].tolist()])
    customers = dict(cursor.fetchall())
    places = places[np.isin(decisions.facts["id"][places], list(customers))]
    if not len(places):
        return 0
    facts = decisions.facts[places]
    head = np.zeros(len(places), HEAD)
    head["id"], head["seq"], head["decided_at"] = decisions.ids[places], seqs[places], decided_at
    head["outcome"], head["score"] = decisions.outcomes[places], decisions.scores[places]
    rows = alert_rows(
        facts,
        head,
        customer_refs=[customers[each] for each in facts["id"].tolist()],
        reasons=[[dict(each) for each in decisions.reasons(place)] for place in places.tolist()],
        rules=[decisions.hits(place) for place in places.tolist()],
        hold_minutes=0,
    )
    stored = binary.store(cursor, "alert", rows | {"hold_until": ("timestamptz", [None] * len(places))})
    on_commit(partial(live.publish_late, int(facts["lane"][0]), rows), robust=True)
    return stored
