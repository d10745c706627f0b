"""Queues and close reasons to start with. Idempotent: what exists is left as people changed it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cases.models import Case, CheckItem, CloseReason, Queue, Route
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
        "four_eyes_from": 1_000_000,
    },
    {
        "slug": "cards",
        "name": "Cards",
        "channels": [],
        "weight": 0,
        "sla": {"1": 30, "2": 120, "3": 480, "4": 1440},
        "four_eyes_from": 1_000_000,
    },
]


# Where the others escalate to; it is made last, so that no alert goes there by itself.
ESCALATIONS: dict[str, Any] = {
    "slug": "escalations",
    "name": "Escalations",
    "weight": 1,
    "sla": {"1": 60, "2": 240, "3": 480, "4": 1440},
    "lease_minutes": 30,
    "working_hours": [[weekday, "07:00", "21:00"] for weekday in range(7)],
    "time_zone": "Europe/Berlin",
}
# One compromised terminal is one case, however many customers paid there.
INCIDENTS: dict[str, Any] = {
    "slug": "incidents",
    "name": "Incidents",
    "grouping": Queue.Grouping.MERCHANT,
    "weight": 1,
    "sla": {"1": 60, "2": 240, "3": 480, "4": 1440},
    "lease_minutes": 30,
}
TO_INCIDENTS: dict[str, Any] = {"reason_codes": ["MERCHANT_RISK", "TERMINAL_RISK"], "score_from": 700}

# (fraud type, "" for every fraud; step; whether it is required)
CHECKS: list[tuple[str, str, bool]] = [
    ("", "Customer reached on a number that was on file before", True),
    ("", "Other payments of the last 30 days looked at", False),
    ("lost_stolen", "Card blocked, and a new one ordered", True),
    ("lost_stolen", "Where and when it was lost is written down", False),
    ("card_not_present", "Card blocked for e-commerce", True),
    ("card_not_present", "3-D Secure result kept for the chargeback", False),
    ("counterfeit", "Point of compromise searched among common merchants", True),
    ("counterfeit", "Fallback to the magnetic stripe checked", False),
    ("account_takeover", "Credentials reset and sessions ended", True),
    ("account_takeover", "Changes of phone, e-mail and limits since the take-over undone", True),
    ("account_takeover", "Devices that signed in lately confirmed by the customer", False),
    ("payer_manipulated", "Receiving bank told, recall asked for", True),
    ("payer_manipulated", "What the customer was told by the fraudster is written down", True),
    ("payer_manipulated", "Warnings that the customer saw are kept", False),
    ("mule", "Incoming payments of the account traced", True),
    ("mule", "Account handed to those who decide on its closing", True),
    ("first_party", "Earlier disputes of the customer looked at", True),
    ("first_party", "Delivery or use of the goods shown", False),
    ("synthetic_id", "Identity documents checked with their issuer", True),
    ("synthetic_id", "Accounts with the same address, phone or device listed", True),
    ("merchant_collusion", "Acquirer told", True),
    ("merchant_collusion", "Refunds and chargebacks of the merchant looked at", False),
    ("other", "What happened is told in the notes in own words", True),
]


def seed_queues(lane: Lane, members: Iterable[Any] = ()) -> list[Queue]:
    """The queues of a lane, every given person a member of each. For a second lane the names carry the lane's.

    Those who lead are also members of the queue that these escalate to.
    """
    members = list(members)
    queues = [_seed_queue(lane, fields, members) for fields in QUEUES]
    above = _seed_queue(lane, ESCALATIONS, [person for person in members if person.has_perm("cases.lead_queue")])
    incidents = _seed_queue(lane, INCIDENTS, members)
    Route.objects.get_or_create(
        lane=lane, name="Compromised merchants", defaults={"queue": incidents, "conditions": TO_INCIDENTS}
    )
    for queue in [*queues, incidents]:
        if queue.escalates_to is None and not queue.cases.exists():
            queue.escalates_to = above
            queue.save(update_fields=["escalates_to"])
    return queues


def _seed_queue(lane: Lane, fields: dict[str, Any], members: list[Any]) -> Queue:
    first = not Queue.objects.filter(slug=fields["slug"]).exclude(lane=lane).exists()
    slug = fields["slug"] if first else f"{fields['slug']}-{lane.name}"
    name = fields["name"] if first else f"{fields['name']} ({lane.name})"
    queue, _ = Queue.objects.get_or_create(slug=slug, defaults={**fields, "slug": slug, "name": name, "lane": lane})
    queue.members.add(*members)
    return queue


def seed_checks() -> None:
    """The steps of the checklists, where there are none yet; what people changed is kept."""
    if not CheckItem.objects.exists():
        CheckItem.objects.bulk_create(
            CheckItem(fraud_type=sort, text=text, is_required=needed, position=10 * place)
            for place, (sort, text, needed) in enumerate(CHECKS, 1)
        )


def seed_close_reasons() -> None:
    """The structured reasons and the checklists; texts that people changed are kept."""
    seed_checks()
    rows = [CloseReason(code=code, title=title, dispositions=[str(d) for d in fits]) for code, title, fits in REASONS]
    CloseReason.objects.bulk_create(rows, ignore_conflicts=True)
