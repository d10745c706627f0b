"""Why a payment was decided as it was, for the bank's own systems."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.explanations import explain_decision, live_decision
from scoring.models import SCREENINGS
from transactions import querysets
from transactions.api import ApiView
from transactions.problems import Problem


class AddsUpShape(serializers.Serializer):
    """Whether base and contributions give the margin that was stored."""

    ok = serializers.BooleanField()
    sum = serializers.FloatField()
    difference = serializers.FloatField()
    within = serializers.FloatField()


class GroupShape(serializers.Serializer):
    """All contributions of one reason code."""

    code = serializers.CharField()
    topic = serializers.CharField()
    text = serializers.CharField()
    contribution = serializers.FloatField()


class ContributionShape(serializers.Serializer):
    """What one feature added to the margin; above 0 it speaks for fraud."""

    feature = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    contribution = serializers.FloatField()
    code = serializers.CharField()
    text = serializers.CharField()


class ModelPartShape(serializers.Serializer):
    """The model's part: base + contributions = margin, before calibration. `note` stands where it is not computable."""

    margin = serializers.FloatField()
    base = serializers.FloatField(required=False)
    groups = GroupShape(many=True, required=False)
    contributions = ContributionShape(many=True, required=False)
    adds_up = AddsUpShape(required=False)
    recomputed = serializers.BooleanField(required=False, help_text="False: frozen when the alert was raised.")
    note = serializers.CharField(required=False)


class FeatureShape(serializers.Serializer):
    """A feature as the decision saw it; null = not known."""

    name = serializers.CharField()
    title = serializers.CharField()
    unit = serializers.CharField()
    window = serializers.CharField()
    entity = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    text = serializers.CharField()


class RuleHitShape(serializers.Serializer):
    """A rule that hit, in the version of that release, with the values it saw."""

    rule = serializers.CharField()
    name = serializers.CharField(required=False)
    version = serializers.IntegerField()
    mode = serializers.ChoiceField(["live", "shadow"])
    outcome = serializers.CharField(required=False)
    code = serializers.CharField(required=False)
    text = serializers.CharField()
    expression = serializers.CharField(required=False)
    values = serializers.DictField()


class ListHitShape(serializers.Serializer):
    """A list entry that the payment hit."""

    entry = serializers.IntegerField()
    list = serializers.CharField()
    kind = serializers.ChoiceField(["block", "allow", "watch"])
    subject = serializers.CharField()
    value = serializers.CharField()
    text = serializers.CharField()
    reason = serializers.CharField()
    added_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class ExplainedReleaseShape(serializers.Serializer):
    """What judged."""

    id = serializers.IntegerField()
    model_version = serializers.CharField()
    ruleset_version = serializers.CharField()
    threshold_set = serializers.CharField()
    kernel_version = serializers.IntegerField()


class ExplanationShape(serializers.Serializer):
    """A decision with all that it saw."""

    transaction_id = serializers.IntegerField()
    external_id = serializers.CharField()
    screening = serializers.IntegerField()
    seq = serializers.IntegerField()
    decided_at = serializers.DateTimeField()
    outcome = serializers.CharField()
    score = serializers.IntegerField(allow_null=True)
    band = serializers.CharField(allow_null=True)
    probability = serializers.FloatField(allow_null=True)
    basis = serializers.CharField(
        allow_null=True, help_text="What decided instead of the score: allow_list, block_list."
    )
    degraded = serializers.BooleanField()
    degraded_cause = serializers.CharField(allow_null=True)
    reasons = serializers.ListField(child=serializers.DictField())
    rules = RuleHitShape(many=True)
    lists = ListHitShape(many=True)
    features = FeatureShape(many=True)
    model = ModelPartShape(allow_null=True)
    release = ExplainedReleaseShape()
    notes = serializers.ListField(child=serializers.CharField())


class Explanation(ApiView):
    """`GET /api/v1/transactions/{id}/explanation`: the live decision, or that of `?screening=n`."""

    scopes = {"GET": "transactions:read"}

    @extend_schema(
        operation_id="explainTransaction",
        summary="Read why a payment was decided as it was",
        parameters=[OpenApiParameter("screening", int, description="An earlier decision; without it the live one.")],
        responses=ExplanationShape,
        tags=["Decisions"],
    )
    def get(self, request: Request, transaction_id: int) -> Response:
        """Features, contributions, rules, lists and release of one decision."""
        payment = _own(request.auth, transaction_id)
        decision = live_decision(payment.pk, _screening(request))
        if decision is None:
            raise Problem("not-found", "This payment has no such decision.")
        return Response(explain_decision(decision) | {"external_id": payment.external_id})


def _own(client: Any, transaction_id: int) -> Any:
    payment = querysets.of_client(client).filter(pk=transaction_id).first() if transaction_id < 2**57 else None
    if payment is None:
        raise Problem("not-found")
    return payment


def _screening(request: Request) -> int | None:
    text = request.query_params.get("screening", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and 1 <= int(text) < SCREENINGS):
        # beyond these it would name a decision of the next payment
        raise Problem("bad-request", "A screening is a number from 1 to 63.")
    return int(text)
