"""What stands on a list: reading what people and machines send, and telling an entry in words.

A card's token is never kept: its keyed hash matches, its ends are shown. Everything else is shown as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Q
from django.utils import timezone

from scoring.models import List, ListEntry, ListRemoval, Proposal
from transactions import pan
from transactions.codes import COUNTRY, entity_key

MOST_CHARACTERS = {"customer": 64, "card": 64, "account": 64, "device": 64, "merchant": 35, "counterparty": 64}
NAMES = {
    "customer": "Customer",
    "card": "Card",
    "account": "Account",
    "device": "Device",
    "ip": "IP address",
    "merchant": "Merchant",
    "counterparty": "Payee",
    "country": "Country",
    "bin": "BIN",
}
SHOWN = ("ip", "country", "bin")  # subjects whose reason repeats the value: it names nobody
V4_BITS = 96  # of the 128, before an IPv4 address


class EntryError(ValueError):
    """A value, reason or time that cannot stand on a list. Never repeats the value: it may be a card number."""


class CardNumberSent(EntryError):
    """What was sent looks like a card number."""


class Subject(NamedTuple):
    """What an entry is held against, and how it is shown."""

    value: str
    key: int = 0
    high: int = 0
    low: int = 0
    prefix: int = 0


def read_subject(subject: str, text: str) -> Subject:
    """The subject of an entry from its text: a token, address, network, country's alpha-2 or BIN. Raises EntryError."""
    text = text.strip()
    if not text or not text.isprintable():
        raise EntryError("A value is missing.")
    if subject == "ip":
        return _network(text)
    if subject == "country":
        if text.upper() not in COUNTRY:
            raise EntryError("A country is an ISO 3166-1 alpha-2 code; the United Kingdom is GB.")
        return Subject(text.upper(), COUNTRY.code(text.upper()))
    if subject == "bin":
        if not re.fullmatch(r"[1-9][0-9]{5}([0-9]{2})?", text):
            raise EntryError("A BIN has six or eight digits.")
        return Subject(text, int(text))
    return _token(subject, text)


def _network(text: str) -> Subject:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise EntryError("An address or a network such as 203.0.113.0/24 is expected.") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= V4_BITS:
        network = IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - V4_BITS))
    is_v4 = isinstance(network, IPv4Network)
    whole = int(network.network_address) | (0xFFFF << 32 if is_v4 else 0)
    high, low = (int.from_bytes(part, "big", signed=True) for part in _halves(whole))
    value = str(network.network_address) if network.num_addresses == 1 else str(network)
    return Subject(value, 0, high, low, network.prefixlen + (V4_BITS if is_v4 else 0))


def _halves(whole: int) -> tuple[bytes, bytes]:
    raw = whole.to_bytes(16, "big")
    return raw[:8], raw[8:]


def _token(subject: str, text: str) -> Subject:
    if len(text) > MOST_CHARACTERS[subject]:
        raise EntryError(f"A {subject} has at most {MOST_CHARACTERS[subject]} characters.")
    if not pan.is_card_token(text) or pan.in_identifier(text):
        raise CardNumberSent("This looks like a card number. Send the token that the payments carry.")
    return Subject(masked(text) if subject == "card" else text, entity_key(subject, text))


def masked(token: str) -> str:
    """A card's token as people may see it: its ends, if it is long enough to have any."""
    return f"{token[:4]}…{token[-4:]}" if len(token) >= 12 else f"…{token[-2:]}"


def check_reason(reason: str) -> str:
    """The reason as an entry keeps it. Raises EntryError."""
    reason = reason.strip()
    if not reason:
        raise EntryError("Say why: it is shown with every payment that the entry hits.")
    if len(reason) > 200:
        raise EntryError("A reason has at most 200 characters.")
    if not reason.isprintable():
        raise EntryError("A reason has no control characters.")
    if pan.in_free_text(reason):
        raise EntryError("The reason holds what looks like a card number.")
    return reason


def check_times(valid_from: datetime | None, expires_at: datetime | None, *, now: datetime) -> datetime | None:
    """The beginning, None for "at once": never in the past. Raises EntryError where the end is not behind it."""
    begins = valid_from if valid_from and valid_from > now else None
    if expires_at is not None and expires_at <= (begins or now):
        raise EntryError("It would be over before it begins.")
    return begins


# --- what stands now --------------------------------------------------------------------------------------------------


def standing(entries: Any, *, at: datetime | None = None) -> Any:
    """Of a queryset of entries those that are not over and not taken off, also those that begin later."""
    lasting = Q(expires_at__isnull=True) | Q(expires_at__gt=at or timezone.now())
    return entries.filter(lasting, removal__isnull=True)


def same_subject(held: List, subjects: Iterable[Subject]) -> list[ListEntry]:
    """Standing entries of the list for any of these subjects."""
    wanted = {(each.key, each.high, each.low, each.prefix) for each in subjects}
    keys, highs, lows = ({each[place] for each in wanted} for place in range(3))
    found = standing(held.entries.filter(key__in=keys, high__in=highs, low__in=lows))
    return [each for each in found if (each.key, each.high, each.low, each.prefix) in wanted]


# --- drafts, as proposals keep them, and rows -------------------------------------------------------------------------


def drafted(draft: Mapping[str, Any]) -> Subject:
    """The subject of a draft."""
    return Subject(*(draft[name] for name in Subject._fields))


def subject_of(entry: ListEntry) -> Subject:
    """The subject of an entry."""
    return Subject(*(getattr(entry, name) for name in Subject._fields))


def draft_of(entry: ListEntry, *, author: str, reason: str) -> dict[str, Any]:
    """A draft that would bring an entry back."""
    times = {"valid_from": None, "expires_at": entry.expires_at.isoformat() if entry.expires_at else None}
    return subject_of(entry)._asdict() | times | {"reason": reason, "author": author, "origin": entry.origin}


def ends_of(draft: Mapping[str, Any]) -> datetime | None:
    """When a draft's entry would be over."""
    return datetime.fromisoformat(draft["expires_at"]) if draft["expires_at"] else None


def insert(held: List, drafts: Iterable[Mapping[str, Any]], *, version: int, proposal: Proposal | None = None) -> None:
    """Put the drafts on the list now; who wants a later beginning has it."""
    now = timezone.now()
    rows = [_row(held, draft, now, version, proposal) for draft in drafts]
    ListEntry.objects.bulk_create(rows)


def _row(held: List, draft: Mapping[str, Any], now: datetime, version: int, proposal: Proposal | None) -> ListEntry:
    begins = datetime.fromisoformat(draft["valid_from"]) if draft["valid_from"] else now
    return ListEntry(
        list=held,
        valid_from=max(begins, now),
        expires_at=ends_of(draft),
        added_at=now,
        version=version,
        proposal=proposal,
        **drafted(draft)._asdict(),
        **{name: draft[name] for name in ("reason", "author", "origin")},
    )


def take_off(ids: Sequence[int], *, version: int, by: str, reason: str, proposal: Proposal | None = None) -> None:
    """Take these entries off from now on. Raises IntegrityError for one that was taken off before."""
    now = timezone.now()
    fields: dict[str, Any] = {"removed_at": now, "removed_by": by, "reason": reason[:200], "version": version}
    ListRemoval.objects.bulk_create([ListRemoval(entry_id=each, proposal=proposal, **fields) for each in ids])


def apply(proposal: Proposal, *, version: int, by: str) -> None:
    """What an approved proposal does to its list."""
    insert(proposal.list, proposal.after["add"], version=version, proposal=proposal)
    asked = proposal.proposed_by.get_username() if proposal.proposed_by else proposal.proposed_via
    who = f"{asked}, approved by {by}"[:150]
    take_off(proposal.before["entries"], version=version, by=who, reason=proposal.reason, proposal=proposal)


# --- in words ---------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """An entry that a payment hit, in words."""

    id: int
    list: str
    kind: str
    sentence: str


@lru_cache(maxsize=10_000)
def _told(entry_id: int) -> Told:
    entry = ListEntry.objects.select_related("list").get(pk=entry_id)
    return Told(entry.pk, entry.list.name, entry.list.kind, sentence(entry))


def told(ids: Sequence[int]) -> list[Told]:
    """The entries in words, those of block lists first; an entry never changes, so each is read once."""
    order = {"block": 0, "allow": 1, "watch": 2}
    return sorted((_told(each) for each in ids), key=lambda each: (order[each.kind], each.id))


def entry_ids(list_hits: bytes | memoryview) -> list[int]:
    """The ids packed into `Decision.list_hits`."""
    return np.frombuffer(bytes(list_hits), "<i8").tolist()


def sentence(entry: ListEntry) -> str:
    """“Device is on the block list ‘emulators’ since 3 Nov 2026: seen in ring 12”."""
    subject = entry.list.subject
    who = f"{NAMES[subject]} {entry.value}" if subject in SHOWN else NAMES[subject]
    if subject == "ip" and "/" in entry.value:
        who = f"IP address in {entry.value}"
    since = timezone.localtime(entry.valid_from)
    return f"{who} is on the {entry.list.kind} list “{entry.list.name}” since {since.day} {since:%b %Y}: {entry.reason}"
