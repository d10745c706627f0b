"""The catalogue of reason codes for the bank's systems."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scoring.models import ReasonCode
from transactions.auth import HasScope, KeyAuthentication


class ReasonCodeShape(serializers.Serializer):
    """One reason code; `code` is stable, the words may improve."""

    code = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    source = serializers.ChoiceField(["rule", "model", "policy"])


class PageShape(serializers.Serializer):
    """Where the next page begins."""

    next_cursor = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class ReasonCodesShape(serializers.Serializer):
    """Every reason code that a decision may name."""

    data = ReasonCodeShape(many=True)
    pagination = PageShape()


class ReasonCodes(APIView):
    """`GET /api/v1/reason-codes`: what the codes in a decision's `reasons` mean."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [HasScope]
    scopes = {"GET": "reasons:read"}

    @extend_schema(operation_id="list_reason_codes", responses=ReasonCodesShape, tags=["Decisions"])
    def get(self, request: Request) -> Response:
        """All reason codes, in one page."""
        data: list[dict[str, Any]] = list(ReasonCode.objects.values("code", "title", "description", "source"))
        return Response({"data": data, "pagination": {"next_cursor": None, "has_more": False}})
