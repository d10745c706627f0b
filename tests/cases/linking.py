"""First sightings of pairs, as a lane keeps them: for tests of entities and their graph."""

from __future__ import annotations

from scoring.models import EntityLink
from transactions.models import Transaction

PAIRS = (
    ("customer", "card"),
    ("customer", "account"),
    ("customer", "device"),
    ("customer", "ip"),
    ("customer", "counterparty"),
    ("card", "device"),
    ("card", "ip"),
)


def link(*payments: Transaction) -> None:
    """Note the pairs that these payments show, the earliest first."""
    for payment in sorted(payments, key=lambda each: each.pk):
        for left, right in PAIRS:
            keys = getattr(payment, left), getattr(payment, right)
            if all(keys):
                EntityLink.objects.get_or_create(
                    lane=payment.lane,
                    left_kind=left,
                    left_key=keys[0],
                    right_kind=right,
                    right_key=keys[1],
                    defaults={"transaction_id": payment.pk, "seen_at": payment.occurred_at},
                )
