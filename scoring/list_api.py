"""Lists for the bank's systems: what there is, what stands on them, putting on and taking off.

A watch list obeys at once (201, 204). A block or allow list answers 202 with a proposal: a person on the desk approves
it, and until then nothing has changed. What stands there already is answered with 200, so that a retry is harmless.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scoring import entries, governance, lists
from scoring.models import List, ListEntry, Proposal
from scoring.refusals import GovernanceError
from transactions.api import ApiView, body_of, rfc3339
from transactions.models import ApiClient
from transactions.problems import FieldError, Problem, invalid

PAGE = 100
TAGS = ["Lists"]


class EntryBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent to put something on a list."""

    value: str
    reason: str
    author: str = ""
    valid_from: datetime | None = None
    expires_at: datetime | None = None


class EntryIn(serializers.Serializer):
    """An entry to put on a list."""

    value = serializers.CharField(
        help_text="A token or id as payments carry it, an address or CIDR, a country's alpha-2, a BIN. Never a number."
    )
    reason = serializers.CharField(max_length=200, help_text="Shown with every payment that the entry hits.")
    author = serializers.CharField(max_length=150, required=False, help_text="Who at the bank wants it.")
    valid_from = serializers.DateTimeField(required=False, help_text="From when on; at once if not sent.")
    expires_at = serializers.DateTimeField(required=False, help_text="Until when; until it is taken off if not sent.")


class EntryShape(serializers.Serializer):
    """An entry that stands on a list."""

    id = serializers.IntegerField()
    value = serializers.CharField(help_text="Of a card's token only the ends.")
    reason = serializers.CharField()
    author = serializers.CharField()
    origin = serializers.CharField()
    valid_from = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    added_at = serializers.DateTimeField()


class ListProposalShape(serializers.Serializer):
    """A change of a list that waits for a person's approval."""

    proposal = serializers.IntegerField()
    status = serializers.ChoiceField([value for value, _ in Proposal.Status.choices])
    proposed_at = serializers.DateTimeField()


class ListShape(serializers.Serializer):
    """A list and what a hit on it does."""

    name = serializers.CharField()
    kind = serializers.ChoiceField(List.Kind.choices)
    subject = serializers.ChoiceField(List.Subject.choices)
    outcome = serializers.CharField(allow_null=True, help_text="Of a block list: the least that a hit brings about.")
    skips_scoring = serializers.BooleanField(help_text="Of an allow list: a hit is approved without model and rules.")
    description = serializers.CharField()
    entries = serializers.IntegerField()


class ListPageShape(serializers.Serializer):
    """Where the next page begins."""

    next_cursor = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class ListsShape(serializers.Serializer):
    """Every list of the client's lane."""

    data = ListShape(many=True)
    pagination = ListPageShape()


class EntriesShape(serializers.Serializer):
    """Entries, oldest first."""

    data = EntryShape(many=True)
    pagination = ListPageShape()


class Lists(ApiView):
    """`GET /api/v1/lists`: the lists of the client's lane."""

    scopes = {"GET": "lists:read"}

    @extend_schema(operation_id="findLists", summary="The lists there are", responses=ListsShape, tags=TAGS)
    def get(self, request: Request) -> Response:
        data = [
            {
                "name": each.name,
                "kind": each.kind,
                "subject": each.subject,
                "outcome": each.outcome or None,
                "skips_scoring": each.skips_scoring,
                "description": each.description,
                "entries": getattr(each, "standing", 0),
            }
            for each in lists.of_lane(request.auth.lane)
        ]
        return Response({"data": data, "pagination": {"next_cursor": None, "has_more": False}})


class Entries(ApiView):
    """`/api/v1/lists/{name}/entries`: what stands on a list, and putting something on it."""

    scopes = {"GET": "lists:read", "POST": "lists:write"}

    @extend_schema(
        operation_id="findListEntries",
        summary="What stands on a list",
        parameters=[
            OpenApiParameter("value", str, description="Only the entry of this very subject."),
            OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
        ],
        responses=EntriesShape,
        tags=TAGS,
    )
    def get(self, request: Request, name: str) -> Response:
        held = list_of(request.auth, name)
        found = entries.standing(_selected(held, request)).order_by("id")[: PAGE + 1]
        shown = list(found)
        more = len(shown) > PAGE
        cursor = str(shown[PAGE - 1].pk) if more else None
        return Response(
            {
                "data": [entry_object(each) for each in shown[:PAGE]],
                "pagination": {"next_cursor": cursor, "has_more": more},
            }
        )

    @extend_schema(
        operation_id="addListEntry",
        summary="Put something on a list",
        description="201: it stands on a watch list. 202: a person has to approve it. 200: it stood there already.",
        request=EntryIn,
        responses={200: EntryShape, 201: EntryShape, 202: ListProposalShape},
        tags=TAGS,
    )
    def post(self, request: Request, name: str) -> Response:
        client, held = request.auth, list_of(request.auth, name)
        sent = _read(body_of(request))
        try:
            made = lists.draft(
                held,
                sent.value,
                reason=sent.reason,
                author=sent.author.strip() or client.name,
                valid_from=sent.valid_from,
                expires_at=sent.expires_at,
                origin=f"api {client.name}",
            )
            there = entries.same_subject(held, [entries.drafted(made)])
            if there:
                return Response(entry_object(there[0]), 200)
            if held.kind == List.Kind.WATCH:
                [entry] = lists.watch(held, [made], by=client.name)
                return Response(entry_object(entry), 201)
            return _proposed(_asked_before(held, made) or _propose(held, client, made["reason"], [made]))
        except GovernanceError as error:
            raise _problem(error) from error


class Entry(ApiView):
    """`/api/v1/lists/{name}/entries/{id}`: taking an entry off its list."""

    scopes = {"DELETE": "lists:write"}

    @extend_schema(
        operation_id="removeListEntry",
        summary="Take an entry off its list",
        description="204: it is off a watch list. 202: a person has to approve it. The entry stays on record.",
        parameters=[
            OpenApiParameter("reason", str, required=True, description="Why; it stays on record."),
            OpenApiParameter("entry_id", OpenApiTypes.INT64, OpenApiParameter.PATH),
        ],
        responses={202: ListProposalShape, 204: None},
        tags=TAGS,
    )
    def delete(self, request: Request, name: str, entry_id: int) -> Response:
        client, held = request.auth, list_of(request.auth, name)
        entry = entries.standing(held.entries.filter(pk=min(entry_id, 2**63 - 1))).first()
        if entry is None:
            raise Problem("not-found")
        try:
            reason = entries.check_reason(request.query_params.get("reason", ""))
            if held.kind == List.Kind.WATCH:
                lists.unwatch(entry, by=client.name, reason=reason)
                return Response(status=204)
            return _proposed(_propose(held, client, reason, remove=[entry]))
        except entries.EntryError as error:
            raise Problem("bad-request", str(error)) from error
        except GovernanceError as error:
            raise _problem(error) from error


def list_of(client: ApiClient, name: str) -> List:
    """The list of the client's lane by its name. Raises Problem."""
    held = List.objects.select_related("lane").filter(lane=client.lane_id, name=name).first()
    if held is None:
        raise Problem("not-found")
    return held


def entry_object(entry: ListEntry) -> dict[str, Any]:
    """An entry as the API shows it."""
    return {
        "id": entry.pk,
        "value": entry.value,
        "reason": entry.reason,
        "author": entry.author,
        "origin": entry.origin,
        "valid_from": rfc3339(entry.valid_from),
        "expires_at": rfc3339(entry.expires_at) if entry.expires_at else None,
        "added_at": rfc3339(entry.added_at),
    }


def _selected(held: List, request: Request) -> Any:
    found, value = held.entries.all(), request.query_params.get("value", "")
    cursor = request.query_params.get("cursor", "")
    if cursor:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Problem("bad-request", "The cursor is none of ours.")
        found = found.filter(pk__gt=int(cursor))
    if value:
        try:
            subject = entries.read_subject(held.subject, value)
        except entries.EntryError as error:
            raise Problem("bad-request", str(error)) from error
        found = found.filter(pk__in=[each.pk for each in entries.same_subject(held, [subject])])
    return found


def _read(body: bytes) -> EntryBody:
    try:
        sent = msgspec.json.decode(body, type=EntryBody)
    except msgspec.ValidationError as error:
        raise invalid([FieldError("", "invalid-value", _where(str(error)))]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid-json", "Send a JSON object with value and reason.") from error
    for name in ("valid_from", "expires_at"):
        at = getattr(sent, name)
        if at is not None and at.tzinfo is None:
            raise invalid([FieldError(f"/{name}", "invalid-time", "A time carries its offset, such as Z.")])
    return sent


def _where(message: str) -> str:
    """msgspec's message; it names types, fields and places, and never a value."""
    return message[:1].upper() + message[1:] + "."


def _propose(
    held: List, client: ApiClient, reason: str, add: list[dict[str, Any]] | None = None, **change: Any
) -> Proposal:
    return governance.propose_list(held, add or [], by=None, via=client.name, reason=reason, **change)


def _asked_before(held: List, made: dict[str, Any]) -> Proposal | None:
    """A pending proposal of the very same subject: the request was sent again."""
    pending = held.proposals.filter(status=Proposal.Status.PENDING)
    subject = entries.drafted(made)
    return next((each for each in pending if subject in map(entries.drafted, each.after["add"])), None)


def _proposed(proposal: Proposal) -> Response:
    told = {"proposal": proposal.pk, "status": proposal.status, "proposed_at": rfc3339(proposal.proposed_at)}
    return Response(told, 202, headers={"Location": reverse("list-entries", args=[proposal.list.name])})


def _problem(error: GovernanceError) -> Problem:
    if isinstance(error.__cause__, entries.CardNumberSent):
        return invalid([FieldError("/value", "pan-not-accepted", str(error))])
    return invalid([FieldError("", "invalid-value", str(error))])
