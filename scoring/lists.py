"""Lists: what puts a customer, card, device … on one and takes it off again, for every door.

A block or allow list changes by a proposal that another person approves; a watch list at once, with reason and author.
Either way a new release stands for the change, so that the lane notices it under its lock with the next claim.

The seam for other floors: `propose_entry` and `add_watch_entry`; `put_on` chooses between them by the list's kind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.db.models import Count, Q
from django.db.transaction import atomic
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from scoring import entries, governance, matching
from scoring.entries import EntryError
from scoring.models import List, ListEntry, Proposal, Release
from scoring.refusals import NoChange, NotAllowed, NotPossible, Person
from scoring.releases import activate, in_force, rule_modes
from scoring.rules import RuleError, compile_expression, vocabulary
from transactions.codes import EXPONENT
from transactions.models import Lane

CONSEQUENT = (List.Kind.BLOCK, List.Kind.ALLOW)
OUTCOMES = ("decline", "review", "challenge")  # what a block list may demand, the usual one first


@atomic
def create_list(
    lane: Lane,
    name: str,
    *,
    kind: str,
    subject: str,
    by: Person,
    outcome: str = "",
    skips_scoring: bool = False,
    description: str = "",
) -> List:
    """A new, empty list. It does nothing until entries are approved (or watched). Raises GovernanceError."""
    if not by.has_perm("scoring.add_list"):
        raise NotAllowed("You may not make lists.")
    if kind not in List.Kind.values or subject not in List.Subject.values:
        raise NotPossible("A list is of a kind (block, allow, watch) and holds one sort of subject.")
    outcome = (outcome or OUTCOMES[0]) if kind == List.Kind.BLOCK else ""
    if outcome and outcome not in OUTCOMES:
        raise NotPossible(f"{outcome} is not what a block list can do.")
    if skips_scoring and kind != List.Kind.ALLOW:
        raise NotPossible("Only an allow list lets payments pass unseen.")
    _check_name(lane, name)
    who = by.get_username()
    about = {"description": description.strip()[:300], "owner": who, "created_by": who}
    return List.objects.create(
        lane=lane, name=name, kind=kind, subject=subject, outcome=outcome, skips_scoring=skips_scoring, **about
    )


def _check_name(lane: Lane, name: str) -> None:
    if not name or len(name) > 40 or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise NotPossible("A name has up to 40 letters, digits, - and _.")
    if List.objects.filter(lane=lane, name=name).exists():
        raise NoChange(f"There is a list {name} already.")


def draft(
    held: List,
    value: str,
    *,
    reason: str,
    author: str,
    expires_at: datetime | None = None,
    valid_from: datetime | None = None,
    origin: str = "desk",
) -> dict[str, Any]:
    """An entry as a proposal keeps it, not on the list yet; a card only by its keyed hash. Raises NotPossible."""
    try:
        subject = entries.read_subject(held.subject, value)
        begins = entries.check_times(valid_from, expires_at, now=timezone.now())
        why = entries.check_reason(reason)
    except EntryError as error:
        raise NotPossible(str(error)) from error
    times = {"valid_from": begins, "expires_at": expires_at}
    return (
        subject._asdict()
        | {name: at.isoformat() if at else None for name, at in times.items()}
        | {"reason": why, "author": author[:150], "origin": origin[:80]}
    )


# --- lists of consequence: proposals ----------------------------------------------------------------------------------


def propose_entry(held: List, value: str, *, by: Person, reason: str, **about: Any) -> Proposal:
    """Propose one entry of a block or allow list; `about` as in `draft`. Raises GovernanceError."""
    made = draft(held, value, reason=reason, author=by.get_username(), **about)
    return governance.propose_list(held, [made], by=by, reason=reason)


def propose_removal(entry: ListEntry, *, by: Person, reason: str) -> Proposal:
    """Propose to take one entry off a block or allow list. Raises GovernanceError."""
    return governance.propose_list(entry.list, remove=[entry], by=by, reason=reason)


# --- watch lists: at once ---------------------------------------------------------------------------------------------


def add_watch_entry(held: List, value: str, *, by: Person, reason: str, **about: Any) -> ListEntry:
    """Put one entry on a watch list, in force from the next payment on. Raises GovernanceError."""
    _check_watcher(by)
    [entry] = watch(held, [draft(held, value, reason=reason, author=by.get_username(), **about)], by=by.get_username())
    return entry


def add_watch_entries(held: List, drafts: Sequence[Mapping[str, Any]], *, by: Person) -> list[ListEntry]:
    """Put many drafts on a watch list in one release. Raises GovernanceError."""
    _check_watcher(by)
    return watch(held, drafts, by=by.get_username())


def remove_watch_entry(entry: ListEntry, *, by: Person, reason: str) -> Release:
    """Take one entry off a watch list. Raises GovernanceError."""
    _check_watcher(by)
    return unwatch(entry, by=by.get_username(), reason=reason)


def _check_watcher(by: Person) -> None:
    if not by.has_perm("scoring.watch_list"):
        raise NotAllowed("You may not change watch lists.")


@atomic
def watch(held: List, drafts: Sequence[Mapping[str, Any]], *, by: str) -> list[ListEntry]:
    """Put drafts on a watch list in one release, for whoever has the right already. Raises GovernanceError."""
    if held.kind != List.Kind.WATCH:
        raise NotPossible(f"{held.name} is a {held.kind} list: its entries are proposed and approved.")
    before = _locked(held.lane)
    there = entries.same_subject(held, map(entries.drafted, drafts))
    if there:
        raise NoChange(f"{there[0].value} stands on the list already.")
    version = before.lists_version + 1
    entries.insert(held, drafts, version=version)
    activate(held.lane, by=by, reason=f"On watch list {held.name}: {drafts[0]['reason']}"[:500], lists_version=version)
    return list(held.entries.filter(version=version).order_by("id"))


@atomic
def unwatch(entry: ListEntry, *, by: str, reason: str) -> Release:
    """Take an entry off a watch list, for whoever has the right already. Raises GovernanceError."""
    held = entry.list
    if held.kind != List.Kind.WATCH:
        raise NotPossible(f"{held.name} is a {held.kind} list: taking an entry off is proposed and approved.")
    if not reason.strip():
        raise NotPossible("Say why: it stays on record.")
    version = _locked(held.lane).lists_version + 1
    try:
        with atomic():
            entries.take_off([entry.pk], version=version, by=by, reason=reason.strip())
    except IntegrityError:
        raise NoChange("The entry was taken off the list before.") from None
    return activate(held.lane, by=by, reason=f"Off watch list {held.name}: {reason}"[:500], lists_version=version)


def _locked(lane: Lane) -> Release:
    """The release in force, under the lane's row lock, so that two changes take two versions."""
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)
    release = in_force(lane)
    if release is None:
        raise NotPossible(f"Nothing is in force in {lane.name} yet.")
    return release


def put_on(held: List, value: str, *, by: Person, reason: str, **about: Any) -> ListEntry | Proposal:
    """The entry of a watch list, or the proposal of one on a block or allow list."""
    act = add_watch_entry if held.kind == List.Kind.WATCH else propose_entry
    return act(held, value, by=by, reason=reason, **about)


def take_off(entry: ListEntry, *, by: Person, reason: str) -> Release | Proposal:
    """The release without a watch list's entry, or the proposal to take one off a block or allow list."""
    act = remove_watch_entry if entry.list.kind == List.Kind.WATCH else propose_removal
    return act(entry, by=by, reason=reason)


# --- files ------------------------------------------------------------------------------------------------------------

HEADER = ("value", "reason", "valid_from", "expires_at", "author", "origin")


def read_file(held: List, text: str, *, author: str, reason: str) -> list[dict[str, Any]]:
    """Drafts from CSV with a header; `value` is needed, `reason` (else that of the whole), `expires_at`. What stands
    there already is left out. Raises NotPossible with the line."""
    try:
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline="")))
    except csv.Error as error:
        raise NotPossible(f"The file is no CSV: {error}.") from None
    if not rows or "value" not in (rows[0] or {}):
        raise NotPossible("The file needs a header line with value, and optionally reason and expires_at.")
    if len(rows) > governance.MOST_ENTRIES:
        raise NotPossible(f"A file has at most {governance.MOST_ENTRIES} entries.")
    drafts = [_from_row(held, row, n, author, reason) for n, row in enumerate(rows, 2)]
    return _new(held, drafts)


def _from_row(held: List, row: Mapping[str, str | None], line: int, author: str, reason: str) -> dict[str, Any]:
    try:
        ends = read_time(row.get("expires_at") or "")
        why = (row.get("reason") or "").strip() or reason
        return draft(held, row["value"] or "", reason=why, author=author, expires_at=ends, origin="file")
    except (NotPossible, ValueError) as error:
        raise NotPossible(f"Line {line}: {error}") from None


def _new(held: List, drafts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each subject once, without those that stand on the list."""
    each = {entries.drafted(draft)[1:]: draft for draft in drafts}
    there = {entries.subject_of(entry)[1:] for entry in entries.same_subject(held, map(entries.drafted, each.values()))}
    return [draft for subject, draft in each.items() if subject not in there]


def read_time(text: str) -> datetime | None:
    """A day (until its end) or a moment in ISO form, in the desk's zone; None for none. Raises NotPossible."""
    text = text.strip()
    if not text:
        return None
    try:
        day, moment = (parse_date(text), None) if len(text) == 10 else (None, parse_datetime(text))
    except ValueError:
        day = moment = None
    if day is not None:
        moment = datetime(day.year, day.month, day.day, 23, 59, 59)
    if moment is None:
        raise NotPossible("A time is a day such as 2027-03-31, or a moment such as 2027-03-31T12:00.")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def written(held: List) -> str:
    """The standing entries as CSV; of a card only what is shown of it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for each in entries.standing(held.entries.order_by("id")).iterator(chunk_size=2000):
        ends = each.expires_at.isoformat(timespec="seconds") if each.expires_at else ""
        line = (each.value, each.reason, each.valid_from.isoformat(timespec="seconds"), ends, each.author, each.origin)
        writer.writerow([_harmless(cell) for cell in line])
    return out.getvalue()


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


# --- where used -------------------------------------------------------------------------------------------------------


def of_lane(lane: Lane) -> list[List]:
    """The lane's lists with the number of their standing entries, `standing`, as of now."""
    lasting = Q(entries__expires_at__isnull=True) | Q(entries__expires_at__gt=timezone.now())
    stands = lasting & Q(entries__removal__isnull=True)
    return list(
        List.objects.filter(lane=lane).annotate(standing=Count("entries", filter=stands & Q(entries__isnull=False)))
    )


def users(lane: Lane) -> dict[str, list[dict[str, Any]]]:
    """Which rules of the release in force ask each list, by its name: {"rule", "mode"}."""
    release = in_force(lane)
    used: dict[str, list[dict[str, Any]]] = {}
    listings = {each.name: each for each in matching.listings_of(lane.pk).values()}
    words = vocabulary(exponent=EXPONENT.get(lane.base_currency, 2))
    for version, mode in rule_modes(release) if release else []:
        try:
            asked = compile_expression(version.expression, words, listings).memberships
        except RuleError:
            continue
        for each in asked:
            for name in _asked(each, listings):
                used.setdefault(name, []).append({"rule": version.rule, "mode": mode})
    return used


def _asked(membership: Any, listings: Mapping[str, matching.Listing]) -> list[str]:
    if not membership.is_kind:
        return [membership.choice]
    fitting = [each for each in listings.values() if each.subject == membership.subject]
    return [each.name for each in fitting if each.kind == membership.choice]
