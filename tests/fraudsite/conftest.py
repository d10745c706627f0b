"""A bank whose payments can be judged. (Models are imported late: this file is read before Django is set up.)"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transactions.models import ApiClient


@pytest.fixture
def bank(transactional_db: None) -> ApiClient:
    """A client whose lane has a release. Lanes commit on connections of their own: nothing can be rolled back."""
    from tests.judging import make_bank

    return make_bank()


@pytest.fixture
def running(bank: ApiClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiClient]:
    """The bank with its lane run by a thread."""
    from fraudsite import pipeline
    from tests.judging import wait_for
    from transactions import ring

    monkeypatch.setattr(pipeline, "IDLE_SECONDS", 0.05)
    until = threading.Event()
    thread = threading.Thread(target=pipeline.run, args=(bank.lane_id,), kwargs={"until": until})
    thread.start()
    wait_for(lambda: ring.is_alive(bank.lane_id) or not thread.is_alive())
    yield bank
    until.set()
    thread.join(20)
    assert not thread.is_alive()
