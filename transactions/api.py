"""Intake: payments in, decisions out; labels; what was decided. Every error is a problem document.

`POST /transactions` answers 200 with the decision, also when the same body comes again (then with
`Idempotent-Replayed`); 202 with `Location` when the caller's or our patience ends first or `respond-async` was asked;
409 when the external id belongs to another body. A 2xx means that the payment is committed. No transaction is open
while a request waits. `POST /transactions/bulk` keeps many at once and answers 202 with a job, whose result tells line
by line what became of them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from transactions import answers, bulk, jobs, limits, openapi, querysets, schema, services, tally
from transactions.auth import HasScope, KeyAuthentication
from transactions.codes import INTAKE
from transactions.labelling import read_label
from transactions.models import ApiClient, BulkJob, Transaction
from transactions.problems import FieldError, Problem, invalid

JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json", re.IGNORECASE)
NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
WAIT = re.compile(r"wait=(\d{1,5})")
RETRY_SECONDS = 1
MOST_HEARD = 16_000_000  # bytes of a refused request that are still taken in; the proxy lets no larger one through
PIECE = 65_536
WEAKER_WITHOUT_MERCHANT = {
    "pointer": "/merchant/id",
    "code": "features-degraded",
    "message": "Without the merchant's id nothing is known of the merchant; the decision is weaker.",
}


class Json(BaseRenderer):
    """JSON in UTF-8, encoded in C; texts that are translated late are texts."""

    media_type = "application/json"
    format = "json"
    charset = None
    encoder = msgspec.json.Encoder(enc_hook=str)

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else self.encoder.encode(data)


class NdjsonRenderer(BaseRenderer):
    """Lines of JSON that are bytes already; an error is a problem document like any other."""

    media_type = "application/x-ndjson"
    format = "ndjson"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return data if isinstance(data, bytes) else Json().render(data)


class ApiView(APIView):
    """A door for machines: a key, the scope that the method needs, JSON."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [HasScope]
    renderer_classes: list[type[BaseRenderer]] = [Json]
    scopes: dict[str, str] = {}
    limited = limits.REQUESTS  # the limit that its requests count for
    allowance: limits.Allowance | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Who calls, may they, and not too often. Raises Problem."""
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.perform_authentication(request)
        self.check_permissions(request)
        self.allowance = limits.take(request.auth, self.limited)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """DRF's negotiation; most callers take anything, and there is one thing only."""
        if request.META.get("HTTP_ACCEPT", "*/*") in ("*/*", self.renderer_classes[0].media_type):
            return self.renderer_classes[0](), self.renderer_classes[0].media_type
        return super().perform_content_negotiation(request, force)

    @property
    def default_response_headers(self) -> dict[str, str]:
        """What may be asked here, told to who asked for something else."""
        return {} if self.request.method in self.scopes else {"Allow": ", ".join(self.allowed_methods)}

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Tell the caller's limit with every answer."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code >= 400 and getattr(request, "_auth", None) is not None:
            hear_out(request)
        if self.allowance is not None:
            for name, value in self.allowance.headers().items():
                response.headers[name] = value
        return response


class Transactions(ApiView):
    """Send a payment; look one up by your own id."""

    scopes = {"GET": "transactions:read", "POST": "transactions:write"}

    @extend_schema(**openapi.SEND_PAYMENT)
    def post(self, request: Request) -> Response:
        client, preference = request.auth, preferred(request)
        limits.check_backlog(client.lane_id)
        payment = schema.decode(body_of(request), exempt=client.exempt_fields)
        prepared = services.prepare([payment], client=client, received_at=timezone.now())
        reply = answers.judge_now(prepared, preference.patience) if preference.patience else None
        return answer(reply or keep(prepared), prepared, preference)

    @extend_schema(**openapi.FIND_PAYMENT)
    def get(self, request: Request) -> Response:
        external_id = request.query_params.get("external_id", "")
        if not external_id:
            raise Problem("bad-request", "Name the external_id that you look for.")
        payment = querysets.by_external_id(request.auth, external_id)
        data = [shown(payment)] if payment else []
        return Response({"data": data, "pagination": {"next_cursor": None, "has_more": False}})


class Bulk(ApiView):
    """Send many payments, one JSON object a line."""

    scopes = {"POST": "transactions:write"}
    limited = limits.BULK

    @extend_schema(**openapi.SEND_BULK)
    def post(self, request: Request) -> Response:
        limits.check_backlog(request.auth.lane_id)
        body = bulk_body_of(request)
        reading = bulk.read(body, client=request.auth, now=timezone.now())
        job = jobs.take_in(reading, client=request.auth)
        headers = {"Location": reverse("api:job", args=[job.pk]), "Retry-After": str(RETRY_SECONDS)}
        return Response(shown_job(job, 0, False), 202, headers=headers)


class Job(ApiView):
    """How far a bulk request has come."""

    scopes = {"GET": "transactions:read"}

    @extend_schema(**openapi.READ_JOB)
    def get(self, request: Request, job_id: int) -> Response:
        job = jobs.of_client(job_id, request.auth)
        return Response(shown_job(job, *jobs.decided(job)))


class JobResult(ApiView):
    """What became of each line of a bulk request."""

    scopes = {"GET": "transactions:read"}
    renderer_classes = [NdjsonRenderer]

    @extend_schema(**openapi.READ_JOB_RESULT)
    def get(self, request: Request, job_id: int) -> Response:
        return Response(b"".join(jobs.result(jobs.of_client(job_id, request.auth))))


class TransactionDetail(ApiView):
    """One payment with its decision as it stands now."""

    scopes = {"GET": "transactions:read"}

    @extend_schema(**openapi.READ_PAYMENT)
    def get(self, request: Request, transaction_id: int) -> Response:
        payment = (
            querysets.of_client(request.auth).filter(pk=transaction_id).first() if transaction_id < 2**63 else None
        )
        if payment is None:
            raise Problem("not-found")
        return Response(shown(payment))


class Labels(ApiView):
    """Report what became known of a payment: a chargeback, a customer's word."""

    scopes = {"POST": "labels:write"}

    @extend_schema(**openapi.SEND_LABEL)
    def post(self, request: Request) -> Response:
        now = timezone.now()
        sent = read_label(body_of(request), now=now)
        transaction_id = labelled_payment(request.auth, sent.external_id or None, sent.transaction_id or None)
        label = sent.about(transaction_id, author=request.auth.name, now=now)
        [label_id] = services.record_labels([label])
        return Response(
            {
                "id": label_id,
                "transaction_id": transaction_id,
                "verdict": label.verdict,
                "source": label.source,
                "fraud_type": label.fraud_type or None,
                "happened_at": rfc3339(label.happened_at or label.known_at),
                "known_at": rfc3339(label.known_at),
            },
            status=201,
        )


# --- what was asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preference:
    """How long the caller waits (seconds, 0: not at all) and what of `Prefer` was followed."""

    patience: float
    applied: str = ""


def preferred(request: Request | HttpRequest) -> Preference:
    """RFC 7240: `respond-async` and `wait=n`; what cannot be understood is ignored, as the standard wants."""
    asked = [part.strip().lower() for part in re.split(r"[,;]", request.headers.get("Prefer", ""))]
    waits = [int(found[1]) for found in map(WAIT.fullmatch, asked) if found]
    if waits:
        return Preference(min(float(waits[0]), settings.API_MOST_PATIENCE_SECONDS), f"wait={waits[0]}")
    if "respond-async" in asked:
        return Preference(0, "respond-async")
    return Preference(settings.API_PATIENCE_SECONDS)


def hear_out(request: Request) -> None:
    """Take what a client whom we know is still sending, so that it reads our refusal and not a broken pipe."""
    left = MOST_HEARD
    with suppress(OSError):
        while left > 0 and (chunk := request._request.read(PIECE)):
            left -= len(chunk)


def body_of(request: Request) -> bytes:
    """The raw body, bounded before it is read. Raises Problem for another media type or too many bytes."""
    if not JSON_TYPE.fullmatch((request.content_type or "").split(";")[0].strip()):
        raise Problem("unsupported-media-type", "Send application/json.")
    if int(request.META.get("CONTENT_LENGTH") or 0) > schema.MOST_BYTES:
        raise Problem("body-too-large", f"A body has at most {schema.MOST_BYTES} bytes.")
    return request.body


def bulk_body_of(request: Request) -> bytes:
    """The lines of a bulk request, unpacked. Raises Problem for another media type or coding, or too many bytes."""
    if (request.content_type or "").split(";")[0].strip().lower() not in NDJSON_TYPES:
        raise Problem("unsupported-media-type", f"Send {NDJSON_TYPES[0]}.")
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise Problem("unsupported-media-type", "Send the body plain or as gzip.")
    if int(request.META.get("CONTENT_LENGTH") or 0) > bulk.MOST_BYTES:
        raise bulk.too_large()
    return bulk.unpacked(request.body) if coding == "gzip" else request.body


# --- what is answered -------------------------------------------------------------------------------------------------


def keep(prepared: services.Prepared) -> answers.Reply:
    """Commit a payment that the lane did not judge in time; with the decision if it was decided before."""
    [receipt] = services.keep(prepared)
    decided = {} if receipt.created or receipt.conflict else answers.find([receipt.id])
    return {
        "id": receipt.id,
        "created": receipt.created,
        "conflict": receipt.conflict,
        "decision": decided.get(receipt.id),
    }


def answer(reply: answers.Reply, prepared: services.Prepared, preference: Preference) -> Response:
    """200 with the decision, 202 without; 409 where the key belongs to another body."""
    location = f"{_address()}{reply['id']}"
    if reply["conflict"]:
        taken = FieldError("/external_id", "duplicate-external-id", "You used it for a payment with another body.")
        raise Problem("duplicate-external-id", errors=[taken], headers={"Location": location})
    decision = reply.get("decision")
    body = {
        "id": reply["id"],
        "external_id": prepared.external_ids[0],
        "status": "decided" if decision else "pending",
        "decision": decision,
        "advice": advice(bool(prepared.facts["merchant"][0]), bool(prepared.facts["card"][0])),
    }
    return Response(body, 200 if decision else 202, headers=_headers(reply, preference, location))


@cache
def _address() -> str:
    """Where payments are read, up to their id."""
    return reverse("api:transaction", args=[0]).removesuffix("0")


def _headers(reply: answers.Reply, preference: Preference, location: str) -> dict[str, str]:
    headers = {"Location": location}
    if preference.applied:
        headers["Preference-Applied"] = preference.applied
    if not reply["created"]:
        headers["Idempotent-Replayed"] = "true"
        tally.add("idempotency_replays")
    if not reply.get("decision"):
        headers["Retry-After"] = str(RETRY_SECONDS)
    return headers


def shown_job(job: BulkJob, decided: int, finished: bool) -> dict[str, Any]:
    """A bulk job as the API shows it."""
    return {
        "id": job.pk,
        "status": "finished" if finished else "running",
        "created_at": rfc3339(job.created_at),
        "lines": job.lines,
        "accepted": job.accepted,
        "known": job.known,
        "rejected": job.rejected,
        "decided": decided,
        "result": reverse("api:job-result", args=[job.pk]),
    }


def shown(payment: Transaction) -> dict[str, Any]:
    """A stored payment as the API shows it to the client that sent it."""
    decision = answers.find([payment.pk]).get(payment.pk)
    waiting = "pending" if payment.intake == INTAKE.text(1) else "history"
    detail = querysets.document_of(payment.pk)
    return {
        "id": payment.pk,
        "external_id": payment.external_id,
        "status": "decided" if decision else waiting,
        "received_at": rfc3339(payment.received_at),
        "decision": decision,
        "advice": advice(bool(payment.merchant), bool(payment.card)),
        "transaction": detail,
    }


def advice(has_merchant: bool, has_card: bool) -> list[dict[str, str]]:
    """What would have made the decision stronger."""
    return [WEAKER_WITHOUT_MERCHANT] if has_card and not has_merchant else []


def labelled_payment(client: ApiClient, external_id: str | None, transaction_id: int | None) -> int:
    """The id of the client's own payment that a label speaks of. Raises Problem."""
    if external_id is not None:
        found = querysets.ids_by_external_id(client, [external_id]).get(external_id)
    else:
        found = querysets.of_client(client).filter(pk=transaction_id).values_list("pk", flat=True).first()
    if found is None:
        pointer = "/external_id" if external_id is not None else "/transaction_id"
        raise invalid([FieldError(pointer, "unknown-transaction", "You sent no such payment.")])
    return found


def rfc3339(at: datetime) -> str:
    """A time in UTC with milliseconds."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
