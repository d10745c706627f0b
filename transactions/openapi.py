"""The API's description: OpenAPI 3.1, its schemas taken from the very structs that check the bodies.

`complete` is drf-spectacular's hook: it adds the components. The operations are described here too, so that the views
stay short.
"""

from __future__ import annotations

from typing import Any

import msgspec
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from transactions import codes, problems, schema
from transactions.labelling import ReportedLabel

JSON, NDJSON, PROBLEM = "application/json", "application/x-ndjson", problems.MEDIA_TYPE
Json = dict[str, Any]


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, properties: Json, required: list[str] | None = None) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": sorted(properties) if required is None else required,
    }


_INTEGER, _TEXT, _TIME = {"type": "integer"}, {"type": "string"}, {"type": "string", "format": "date-time"}
_MAYBE_TEXT: Json = {"type": ["string", "null"]}

REASON = _object(
    "Why a payment was stopped, in a sentence with the actual numbers.",
    {
        "code": _TEXT,
        "text": _TEXT,
        "source": {"enum": ["rule", "model", "policy", "list"]},
        "contribution": {"type": "number"},
    },
    required=["code", "text", "source"],
)
DECISION = _object(
    "How the payment was judged.",
    {
        "outcome": {"enum": list(codes.OUTCOME)},
        "score": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000},
        "band": _MAYBE_TEXT,
        "basis": {
            "enum": ["allow_list", "block_list", None],
            "description": "What decided instead of the score: a block list, or an allow list that lets pass unseen.",
        },
        "reasons": {"type": "array", "maxItems": 5, "items": ref("Reason")},
        "case_id": {"type": ["integer", "null"], "description": "Null at first: cases open just after the decision."},
        "resolution": {
            "enum": ["pending", "released", "blocked", None],
            "description": "What became of a held payment (outcome review).",
        },
        "resolved_at": {"type": ["string", "null"], "format": "date-time"},
        "model_version": _TEXT,
        "ruleset_version": _TEXT,
        "threshold_set": _TEXT,
        "degraded": {"type": "boolean", "description": "Judged without a part of the desk, see degraded_cause."},
        "degraded_cause": {
            "type": ["string", "null"],
            "description": "model_unavailable: judged again when the model is back; model_off: as people decided; "
            "failed_twice: a person decides.",
        },
        "latency_ms": {"type": "number"},
        "screening": {"type": "integer", "description": "1; more after the payment was judged again."},
        "history": {
            "type": "array",
            "items": ref("Screening"),
            "description": "All decisions of a payment that was judged again, the first one first; else empty.",
        },
    },
    required=["outcome", "score", "reasons", "degraded"],
)
SCREENING = _object(
    "One decision of a payment that was judged more than once. Only the first can hold money.",
    {
        "screening": _INTEGER,
        "outcome": {"enum": list(codes.OUTCOME)},
        "score": {"type": ["integer", "null"]},
        "degraded": {"type": "boolean"},
        "decided_at": _TIME,
        "release": _INTEGER,
        "reason": {**_MAYBE_TEXT, "description": "Why it was judged again."},
    },
)
_ADVICE = {"type": "array", "items": ref("FieldError"), "description": "What would have made the decision stronger."}
_RECEIPT: Json = {
    "id": _INTEGER,
    "external_id": _TEXT,
    "status": {"enum": ["decided", "pending"]},
    "decision": {"anyOf": [ref("Decision"), {"type": "null"}]},
    "advice": _ADVICE,
}
RECEIPT = _object("What became of the payment that was sent.", _RECEIPT)
STORED = _object(
    "A stored payment.",
    {
        **_RECEIPT,
        "status": {"enum": ["decided", "pending", "history"]},
        "received_at": _TIME,
        "transaction": {
            "anyOf": [ref("Payment"), {"type": "null"}],
            "description": "As it was sent, in canonical form.",
        },
    },
)
PAYMENTS = _object(
    "Payments found.",
    {
        "data": {"type": "array", "items": ref("StoredPayment")},
        "pagination": _object("", {"next_cursor": _MAYBE_TEXT, "has_more": {"type": "boolean"}}),
    },
)
LABEL = _object(
    "The label as it was recorded.",
    {
        "id": _INTEGER,
        "transaction_id": _INTEGER,
        "verdict": {"enum": list(codes.VERDICT)},
        "source": _TEXT,
        "fraud_type": _MAYBE_TEXT,
        "happened_at": _TIME,
        "known_at": _TIME,
    },
)
FIELD_ERROR = _object(
    "What is wrong at one place of the body. Never repeats the value.",
    {
        "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) into the body."},
        "code": {"type": "string"},
        "message": _TEXT,
    },
)
PROBLEM_DOCUMENT = {
    **_object(
        "RFC 9457 problem document.",
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": _INTEGER,
            "detail": _TEXT,
            "instance": _TEXT,
            "code": {"enum": sorted(problems.CODES)},
            "request_id": _TEXT,
            "errors": {"type": "array", "items": ref("FieldError")},
        },
        required=["type", "title", "status", "code", "request_id"],
    ),
    "examples": [
        {
            "type": "/api/docs#problem-invalid-body",
            "title": "The body breaks the schema",
            "status": 422,
            "detail": "See errors for each place that is wrong.",
            "instance": "/api/v1/transactions",
            "code": "invalid-body",
            "request_id": "7b1c0a4e8f3d4a52",
            "errors": [
                {
                    "pointer": "/customer/country",
                    "code": "invalid-value",
                    "message": "An ISO 3166-1 alpha-2 code in capitals; the United Kingdom is GB.",
                }
            ],
        }
    ],
}

LINE_PROBLEM = _object(
    "What is wrong with a line: a problem document without the request.",
    {name: PROBLEM_DOCUMENT["properties"][name] for name in ("type", "title", "status", "detail", "code", "errors")},
    required=["type", "title", "status", "code"],
)
JOB = _object(
    "A bulk request that was taken in.",
    {
        "id": _INTEGER,
        "status": {"enum": ["running", "finished"], "description": "Finished: everything that was kept is decided."},
        "created_at": _TIME,
        "lines": {"type": "integer", "description": "Lines that held something."},
        "accepted": {"type": "integer", "description": "Payments kept by this request."},
        "known": {"type": "integer", "description": "Payments that were there already, with the same body."},
        "rejected": _INTEGER,
        "decided": {"type": "integer", "description": "Of the accepted and known ones."},
        "result": {"type": "string", "format": "uri-reference", "description": "What became of each line."},
    },
)
JOB_LINE = _object(
    "What became of one line.",
    {
        "line": {"type": "integer", "description": "From 1; empty lines count."},
        "id": {"type": ["integer", "null"]},
        "external_id": {**_MAYBE_TEXT, "description": "Null where the line could not be read."},
        "status": {"enum": ["decided", "pending", "rejected"]},
        "decision": {"anyOf": [ref("Decision"), {"type": "null"}]},
        "problem": ref("LineProblem"),
    },
    required=["line", "id", "external_id", "status"],
)

# --- operations -------------------------------------------------------------------------------------------------------


def _failing(*statuses: int) -> dict[Any, Any]:
    """Problem responses; those that every call may give are among them."""
    titles: dict[int, str] = {}
    for status, title in problems.CODES.values():
        titles.setdefault(status, title)
    return {
        (status, PROBLEM): OpenApiResponse(ref("Problem"), titles[status] + ".")
        for status in sorted({401, 403, 405, 406, 429, 500, 503, *statuses})
    }


def _header(name: str, description: str, statuses: list[int] | None = None, kind: Any = str) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        kind,
        OpenApiParameter.HEADER,
        description=description,
        response=[str(s) for s in statuses] if statuses else False,
    )


_PREFER = _header("Prefer", "`wait=n`: answer with 202 after n seconds at most; `respond-async`: at once (RFC 7240).")
_REQUEST_ID = _header("X-Request-Id", "Your own id of the request, 8 to 128 characters; it is logged and returned.")

SEND_PAYMENT: Json = {
    "operation_id": "sendTransaction",
    "summary": "Send a payment and get its decision",
    "description": (
        "200 with the decision; the same body again gives the first result (`Idempotent-Replayed`). 202 when the time "
        "is up: the payment is kept and judged, read it at `Location`. Another body under the same `external_id` gives "
        "409."
    ),
    "parameters": [
        _PREFER,
        _REQUEST_ID,
        _header("Location", "Where the payment can be read.", [200, 202]),
        _header("Retry-After", "Seconds after which the decision will probably stand.", [202], int),
        _header("Preference-Applied", "The preference that was followed.", [200, 202]),
        _header("Idempotent-Replayed", "`true`: the payment was there before.", [200, 202]),
    ],
    "request": {JSON: ref("Payment")},
    "responses": {
        (200, JSON): OpenApiResponse(ref("Receipt"), "Kept and decided."),
        (202, JSON): OpenApiResponse(ref("Receipt"), "Kept; the decision follows."),
        **_failing(400, 409, 413, 415, 422),
    },
}
_JOB_ID = OpenApiParameter("job_id", OpenApiTypes.INT64, OpenApiParameter.PATH)
SEND_BULK: Json = {
    "operation_id": "sendBulk",
    "summary": "Send many payments at once",
    "description": (
        "One payment a line (NDJSON), at most 5,000 lines or 10 MB, also gzipped. 202 once the good lines are "
        "committed; bad ones are refused one by one, see the job's result. Sent again, the same lines give the same "
        "payments. "
        "`occurred_at` may be older than 90 days."
    ),
    "parameters": [
        _header("Content-Encoding", "`gzip` if the body is packed."),
        _REQUEST_ID,
        _header("Location", "The job.", [202]),
        _header("Retry-After", "Seconds after which the decisions will probably stand.", [202], int),
    ],
    "request": {NDJSON: {"type": "string", "description": "Payments, one JSON object a line."}},
    "responses": {(202, JSON): OpenApiResponse(ref("Job"), "Kept; decisions follow."), **_failing(400, 413, 415)},
}
READ_JOB: Json = {
    "operation_id": "readJob",
    "summary": "Read how far a bulk request has come",
    "parameters": [_JOB_ID, _REQUEST_ID],
    "responses": {(200, JSON): OpenApiResponse(ref("Job"), "The job."), **_failing(404)},
}
READ_JOB_RESULT: Json = {
    "operation_id": "readJobResult",
    "summary": "Read what became of each line of a bulk request",
    "parameters": [_JOB_ID, _REQUEST_ID],
    "responses": {
        (200, NDJSON): OpenApiResponse(ref("JobLine"), "One such object a line, in the order of the lines."),
        **_failing(404),
    },
}
FIND_PAYMENT: Json = {
    "operation_id": "findTransactions",
    "summary": "Find a payment by your own id",
    "parameters": [OpenApiParameter("external_id", str, required=True), _REQUEST_ID],
    "responses": {(200, JSON): OpenApiResponse(ref("StoredPayments"), "None or one."), **_failing(400)},
}
READ_PAYMENT: Json = {
    "operation_id": "readTransaction",
    "summary": "Read a payment with its decision as it stands now",
    "parameters": [OpenApiParameter("transaction_id", OpenApiTypes.INT64, OpenApiParameter.PATH), _REQUEST_ID],
    "responses": {(200, JSON): OpenApiResponse(ref("StoredPayment"), "The payment."), **_failing(404)},
}
SEND_LABEL: Json = {
    "operation_id": "sendLabel",
    "summary": "Report what became known of a payment",
    "description": "A chargeback or a customer's word. A reversal is one more label, with the verdict `withdrawn`.",
    "parameters": [_REQUEST_ID],
    "request": {JSON: ref("ReportedLabel")},
    "responses": {(201, JSON): OpenApiResponse(ref("Label"), "Recorded."), **_failing(400, 413, 415, 422)},
}


class KeyScheme(OpenApiAuthenticationExtension):
    """Both headers that carry a key."""

    target_class = "transactions.auth.KeyAuthentication"
    name = ["bearerKey", "headerKey"]

    def get_security_definition(self, auto_schema: Any) -> list[Json]:
        about = "A key made by `manage.py create_client` or in the admin."
        return [
            {"type": "http", "scheme": "bearer", "description": about},
            {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": about},
        ]


def complete(result: Json, generator: Any, request: Any, public: bool) -> Json:
    """Add the components that the operations refer to."""
    template = "#/components/schemas/{name}"
    _, structs = msgspec.json.schema_components([schema.Payment, ReportedLabel], ref_template=template)
    structs["Payment"]["examples"] = [schema.example_payment()]
    own = {
        "Reason": REASON,
        "Decision": DECISION,
        "Screening": SCREENING,
        "Receipt": RECEIPT,
        "StoredPayment": STORED,
        "StoredPayments": PAYMENTS,
        "Job": JOB,
        "JobLine": JOB_LINE,
        "LineProblem": LINE_PROBLEM,
        "Label": LABEL,
        "FieldError": FIELD_ERROR,
        "Problem": PROBLEM_DOCUMENT,
    }
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(structs | own)
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    return result
