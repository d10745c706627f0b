"""The one bell. Rung after the commit that stored payments or labels; losing a ring costs seconds, never a row.

Keyword arguments: `lane_id`, `first_id`, `last_id` (ids of other lanes may lie between them) and `kind`, which is
"payments" or "labels".
"""

from django.dispatch import Signal

rang = Signal()
PAYMENTS, LABELS = "payments", "labels"


def ring(lane_id: int, first_id: int, last_id: int, *, kind: str = PAYMENTS) -> None:
    """Ring the bell. A receiver that fails is logged by the signal and never undoes what was committed."""
    rang.send_robust(sender=None, lane_id=lane_id, first_id=first_id, last_id=last_id, kind=kind)
