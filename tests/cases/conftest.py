"""What the tests of the desk's pages share."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def as_user(client: Any) -> Callable[[Any], Any]:
    """A function that signs a person in and gives their browser."""

    def sign_in(user: Any) -> Any:
        client.force_login(user)
        return client

    return sign_in
