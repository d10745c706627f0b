"""The API's reference for people: a page made from the OpenAPI document on the server, without a script or a CDN."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2
from drf_spectacular.views import SpectacularAPIView

from transactions import problems, schema
from transactions.hints import hint

METHODS = ("get", "post", "put", "patch", "delete")
# The order people learn; operations that are not named here follow.
ORDER = ("sendTransaction", "readTransaction", "findTransactions", "sendLabel")
CONDITIONS = {
    "original_external_id": "for a refund or reversal",
    "account.id": "where the instrument is an account",
    "card.token": "where the instrument is a card",
    "counterparty.id": "for a transfer",
    "authentication.exemption": "where sca is exempt",
}


class OpenApiDocument(SpectacularAPIView):
    """The OpenAPI 3.1 document as JSON, for every client generator."""

    renderer_classes = [OpenApiJsonRenderer2]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Every operation with its fields and answers, every error code."""
    document = described()
    return render(
        request,
        "transactions/reference.html",
        {
            "info": document["info"],
            "operations": operations(document),
            "fields": fields_of("Payment", document),
            "label_fields": fields_of("ReportedLabel", document),
            "decision_fields": fields_of("Decision", document),
            "problems": [(code, status, title) for code, (status, title) in problems.CODES.items()],
            "field_codes": problems.FIELD_CODES.items(),
            "example": json.dumps(schema.example_payment(), indent=2, ensure_ascii=False),
        },
    )


@lru_cache(maxsize=1)
def described() -> dict[str, Any]:
    """The OpenAPI document; it changes with the code only."""
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations in a form for the template."""
    found = []
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                found.append(_operation(path, method.upper(), methods[method]))
    return sorted(found, key=lambda one: ORDER.index(one["id"]) if one["id"] in ORDER else len(ORDER))


def _operation(path: str, method: str, described: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {
            "name": one["name"],
            "where": one["in"],
            "required": one.get("required", False),
            "description": one.get("description", ""),
        }
        for one in described.get("parameters", ())
    ]
    answers = [(status, one.get("description", "")) for status, one in described["responses"].items()]
    return {
        "id": described["operationId"],
        "path": path,
        "method": method,
        "summary": described.get("summary") or described.get("description", described["operationId"]).split("\n")[0],
        "description": described.get("description", ""),
        "parameters": parameters,
        "answers": answers,
    }


def fields_of(name: str, document: dict[str, Any], prefix: str = "", always: bool = True) -> list[dict[str, Any]]:
    """The members of a component and of those it holds, as rows (name, kind, needed); `always`: it is always sent."""
    component = document["components"]["schemas"][name]
    required = set(component.get("required", ()))
    rows: list[dict[str, Any]] = []
    for member, described in component.get("properties", {}).items():
        full, inner = prefix + member, _component(described)
        if inner:
            rows += fields_of(inner, document, f"{full}.", always and member in required)
        else:
            must = "required" if always else f"with {prefix[:-1]}"
            needed = must if member in required else CONDITIONS.get(full, "")
            rows.append({"name": full, "kind": _told(full, described), "needed": needed})
    return rows


def _told(name: str, described: dict[str, Any]) -> str:
    """A field's type and limits; the schema's own words where a pattern would have to be read."""
    words = hint("/" + name.replace(".", "/")) if "pattern" in described else ""
    return words or _kind(described)


def _component(described: dict[str, Any]) -> str:
    return described.get("$ref", "").rpartition("/")[2]


def _kind(described: dict[str, Any]) -> str:
    """One line for a field's type and limits."""
    if "anyOf" in described:
        return " or ".join(_component(one) or _kind(one) for one in described["anyOf"])
    if "enum" in described:
        values = [str(value) for value in described["enum"] if value is not None]
        return ", ".join(values) if len(values) <= 16 else f"one of {len(values)} codes such as {', '.join(values[:3])}"
    kind = described.get("type", "")
    text = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        item = described.get("items", {})
        return f"list of {_component(item) or _kind(item)}"
    limits = [
        ("maxLength", "at most {} characters"),
        ("maxProperties", "at most {} keys"),
        ("minimum", "from {}"),
        ("maximum", "to {}"),
        ("format", "{}"),
    ]
    told = [
        form.format(described[name]) for name, form in limits if name in described and len(str(described[name])) < 90
    ]
    return ", ".join([text, *told])
