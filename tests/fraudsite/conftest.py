"""A bank whose payments can be judged. (Models are imported late: this file is read before Django is set up.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transactions.models import ApiClient


@pytest.fixture
def bank(transactional_db: None) -> ApiClient:
    """A client whose lane has a release. Lanes commit on connections of their own: nothing can be rolled back."""
    from tests.judging import make_bank

    return make_bank()
