"""The catalogue of reason codes for the bank's systems, and the request to judge a payment again."""

from __future__ import annotations

from typing import Any

import msgspec
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scoring import screening
from scoring.models import ReasonCode, Rescreening
from transactions import querysets
from transactions.api import ApiView
from transactions.models import ApiClient
from transactions.problems import FieldError, Problem, invalid


class ReasonCodeShape(serializers.Serializer):
    """One reason code; `code` is stable, the words may improve."""

    code = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    source = serializers.ChoiceField(["rule", "model", "policy", "list"])


class PageShape(serializers.Serializer):
    """Where the next page begins."""

    next_cursor = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class ReasonCodesShape(serializers.Serializer):
    """Every reason code that a decision may name."""

    data = ReasonCodeShape(many=True)
    pagination = PageShape()


class ReasonCodes(ApiView):
    """`GET /api/v1/reason-codes`: what the codes in a decision's `reasons` mean."""

    scopes = {"GET": "reasons:read"}

    @extend_schema(operation_id="list_reason_codes", responses=ReasonCodesShape, tags=["Decisions"])
    def get(self, request: Request) -> Response:
        """All reason codes, in one page."""
        data: list[dict[str, Any]] = list(ReasonCode.objects.values("code", "title", "description", "source"))
        return Response({"data": data, "pagination": {"next_cursor": None, "has_more": False}})


class RescreenBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent with a request to judge a payment again."""

    reason: str


class RescreenShape(serializers.Serializer):
    """Why the payment is to be judged again; it stays with the new decision."""

    reason = serializers.CharField(min_length=3, max_length=500)


class RescreeningShape(serializers.Serializer):
    """A request to judge a payment again."""

    id = serializers.IntegerField()
    transaction_id = serializers.IntegerField()
    status = serializers.ChoiceField(["pending", "finished"])
    reason = serializers.CharField()
    requested_at = serializers.DateTimeField()


class Rescreen(ApiView):
    """`POST /api/v1/transactions/{id}/rescreen`: have a payment judged again by what is in force now."""

    scopes = {"POST": "transactions:rescreen"}

    @extend_schema(
        operation_id="rescreenTransaction",
        summary="Have a payment judged again",
        description=(
            "From the stored features, by the model, rules and thresholds in force now. 202: the new decision follows "
            "in seconds; read the payment at `Location`, where `screening` then counts one more. What was held stays "
            "held."
        ),
        request=RescreenShape,
        responses={202: RescreeningShape},
        tags=["Decisions"],
    )
    def post(self, request: Request, transaction_id: int) -> Response:
        """Ask; the same request again, while it stands open, is the same one."""
        client: ApiClient = request.auth
        asked = screening_of(client, transaction_id, _reason(request.body))
        return Response(
            {
                "id": asked.pk,
                "transaction_id": transaction_id,
                "status": "finished" if asked.finished_at else "pending",
                "reason": asked.reason,
                "requested_at": asked.requested_at,
            },
            status=202,
            headers={"Location": reverse("api:transaction", args=[transaction_id]), "Retry-After": "2"},
        )


def screening_of(client: ApiClient, transaction_id: int, reason: str) -> Rescreening:
    """The request of a client for its own payment. Raises Problem."""
    known = transaction_id < 2**57 and querysets.of_client(client).filter(pk=transaction_id).exists()
    if not known:
        raise Problem("not-found")
    try:
        return screening.ask(client.lane, reason=reason, by=client.name, payments=[transaction_id])
    except screening.CannotRescreen as error:
        raise Problem("cannot-rescreen", str(error)) from error


def _reason(body: bytes) -> str:
    try:
        reason = msgspec.json.decode(body, type=RescreenBody).reason.strip()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid-json", "Send a JSON object with the reason.") from error
    if not screening.SHORTEST_REASON <= len(reason) <= 500:
        raise invalid([FieldError("/reason", "out-of-range", "3 to 500 characters.")])
    return reason
