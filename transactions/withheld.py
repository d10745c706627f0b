"""Customers of whom a person sees nothing: a relative, an own account. Who they are is known on a floor above.

The house says so at its start (`ask`), for nothing down here may import it; until then nobody is withheld from anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Says = Callable[[Any], frozenset[int]]


def _nobody(user: Any) -> frozenset[int]:
    return frozenset()


_says: Says = _nobody


def ask(says: Says) -> None:
    """From now on `says(user)` names the customers, by their entity keys."""
    global _says
    _says = says


def customers(user: Any) -> frozenset[int]:
    """The customers whose payments and alerts this person must not see."""
    return _says(user)
