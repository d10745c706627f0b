"""What became of a case, for the bank's own systems: read-only, and only as far as their own payments are concerned."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import Case
from transactions.auth import HasScope, KeyAuthentication
from transactions.models import ApiClient
from transactions.problems import Problem


class CasePaymentShape(serializers.Serializer):
    """One alerting payment of a case; `disposition` is set once the case is closed, not while a second person looks."""

    id = serializers.IntegerField()
    external_id = serializers.CharField()
    disposition = serializers.ChoiceField(Case.Disposition.choices, allow_null=True)
    resolution = serializers.ChoiceField(["pending", "released", "blocked"], allow_null=True)


class CaseShape(serializers.Serializer):
    """A case: where it is, what it was, and the caller's payments in it."""

    id = serializers.IntegerField()
    number = serializers.CharField()
    status = serializers.ChoiceField(Case.Status.choices)
    disposition = serializers.ChoiceField(Case.Disposition.choices, allow_null=True)
    fraud_type = serializers.CharField(allow_null=True)
    close_reason = serializers.CharField(allow_null=True)
    priority = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    transactions = CasePaymentShape(many=True)


class CaseDetail(APIView):
    """`GET /api/v1/cases/{id}`: one case with the caller's payments."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [HasScope]
    scopes = {"GET": "cases:read"}

    @extend_schema(operation_id="read_case", responses=CaseShape, tags=["Cases"])
    def get(self, request: Request, case_id: int) -> Response:
        """One case as it stands now."""
        client: ApiClient = request.auth
        case = Case.objects.filter(pk=case_id, lane=client.lane_id).first() if case_id < 2**63 else None
        payments = _payments(case, client) if case else []
        if case is None or not payments:
            raise Problem("not-found")
        return Response(_shown(case) | {"transactions": payments})


def _shown(case: Case) -> dict[str, Any]:
    return {
        "id": case.pk,
        "number": case.number,
        "status": case.status,
        "disposition": case.disposition or None,
        "fraud_type": case.fraud_type or None,
        "close_reason": case.close_reason_id,
        "priority": case.priority,
        "opened_at": case.opened_at,
        "closed_at": case.closed_at,
    }


def _payments(case: Case, client: ApiClient) -> list[dict[str, Any]]:
    is_closed = case.status == Case.Status.CLOSED  # before that, what was set of single payments is a draft
    rows = case.case_alerts.filter(alert__transaction__client=client.pk).order_by("pk")
    return [
        {
            "id": row.pk,
            "external_id": row.alert.transaction.external_id,
            "disposition": (row.verdict or case.disposition) if is_closed else None,
            "resolution": _resolution(row.alert),
        }
        for row in rows.select_related("alert__transaction__resolution")
    ]


def _resolution(alert: Any) -> str | None:
    if alert.hold_until is None:
        return None
    made = getattr(alert.transaction, "resolution", None)
    return made.resolution if made and made.final_at <= timezone.now() else "pending"
