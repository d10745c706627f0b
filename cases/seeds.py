"""Queues and close reasons to start with. Idempotent: what exists is left as people changed it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cases.models import Case, CloseReason, Queue
from transactions.models import Lane

D = Case.Disposition
FRAUD = [D.CONFIRMED_FRAUD, D.SUSPECTED_FRAUD]
GENUINE = [D.LEGITIMATE, D.LEGITIMATE_USEFUL]
UNDECIDED = [D.INCONCLUSIVE]

REASONS: list[tuple[str, str, list[Any]]] = [
    ("FR-01", "Customer denies the payment", FRAUD),
    ("FR-02", "New device took over the account", FRAUD),
    ("FR-03", "Credentials or codes phished", FRAUD),
    ("FR-04", "Customer was talked into paying", FRAUD),
    ("FR-05", "Card tested or copied", FRAUD),
    ("FR-06", "Payee is a mule account", FRAUD),
    ("FR-07", "Pattern matches confirmed fraud", FRAUD),
    ("LG-01", "Customer confirmed the payment", GENUINE),
    ("LG-02", "Known pattern of this customer", GENUINE),
    ("LG-03", "Travel or move explains it", GENUINE),
    ("LG-04", "Known merchant or payee", GENUINE),
    ("IN-01", "Customer not reached", UNDECIDED),
    ("IN-02", "Evidence points both ways", UNDECIDED),
    ("DU-01", "Handled in another case", [D.DUPLICATE]),
]

# Payments names its channels; Cards takes all others.
QUEUES: list[dict[str, Any]] = [
    {
        "slug": "payments",
        "name": "Payments",
        "channels": ["mobile_app", "online_banking", "branch", "phone", "batch", "api"],
        "weight": 0,
        "sla": {"1": 30, "2": 120, "3": 480, "4": 1440},
    },
    {"slug": "cards", "name": "Cards", "channels": [], "weight": 0, "sla": {"1": 30, "2": 120, "3": 480, "4": 1440}},
]


def seed_queues(lane: Lane, members: Iterable[Any] = ()) -> list[Queue]:
    """The queues of a lane, every given person a member of each. For a second lane the names carry the lane's."""
    queues = []
    for fields in QUEUES:
        first = not Queue.objects.filter(slug=fields["slug"]).exclude(lane=lane).exists()
        slug = fields["slug"] if first else f"{fields['slug']}-{lane.name}"
        name = fields["name"] if first else f"{fields['name']} ({lane.name})"
        queue, _ = Queue.objects.get_or_create(slug=slug, defaults={**fields, "slug": slug, "name": name, "lane": lane})
        queue.members.add(*members)
        queues.append(queue)
    return queues


def seed_close_reasons() -> None:
    """The structured reasons; texts that people changed are kept."""
    rows = [CloseReason(code=code, title=title, dispositions=[str(d) for d in fits]) for code, title, fits in REASONS]
    CloseReason.objects.bulk_create(rows, ignore_conflicts=True)
