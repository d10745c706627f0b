"""A bank that may call the API. (Models are imported late: this file is read before Django is set up.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transactions.models import ApiClient


@pytest.fixture
def bank(db: None) -> ApiClient:
    """A client of the lane `cards`, with rates to its base currency."""
    from tests.factories import make_client, make_lane
    from transactions import rates

    rates.forget()
    client = make_client(make_lane("cards"), "bank")
    rates.seed("EUR")
    return client
