"""The API's description: valid OpenAPI 3.1, and a page for people that is clean under the strict policy."""

from __future__ import annotations

import msgspec
import pytest
from django.test import Client
from openapi_spec_validator import OpenAPIV31SpecValidator

from transactions import schema
from transactions.problems import CODES


@pytest.fixture(scope="module")
def described() -> dict:
    return Client().get("/api/openapi.json").json()


def test_the_document_is_valid_openapi_3_1(described: dict):
    assert described["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_every_door_of_the_intake_is_described_with_its_problems(described: dict):
    sending = described["paths"]["/api/v1/transactions"]["post"]
    assert sending["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Payment"}
    assert {"200", "202", "401", "403", "409", "413", "415", "422", "429", "500", "503"} <= sending["responses"].keys()
    assert "application/problem+json" in sending["responses"]["422"]["content"]
    assert {"/api/v1/transactions/{transaction_id}", "/api/v1/labels"} <= described["paths"].keys()
    assert described["components"]["securitySchemes"].keys() >= {"bearerKey", "headerKey"}


def test_the_described_payment_has_the_fields_and_limits_of_the_struct(described: dict):
    payment = described["components"]["schemas"]["Payment"]
    assert payment["properties"].keys() == {field.name for field in msgspec.structs.fields(schema.Payment)}
    assert payment["additionalProperties"] is False
    assert described["components"]["schemas"]["Customer"]["properties"]["id"]["maxLength"] == 64
    assert schema.from_document(payment["examples"][0])


def test_the_page_shows_fields_and_every_problem_without_inline_code():
    text = Client().get("/api/docs").content.decode()
    assert "card.three_ds.eci" in text and "application/problem+json" in text
    assert all(f'id="problem-{code}"' in text for code in CODES)
    assert "<script" not in text and "<style" not in text and " style=" not in text and "//cdn" not in text
