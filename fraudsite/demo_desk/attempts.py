"""Acts that a service may refuse: a customer has another open case by now, somebody is kept from it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db.transaction import atomic

from cases.models import Case
from cases.workflow import CaseError

log = logging.getLogger(__name__)


def attempt(case: Case, act: Callable[[], object]) -> bool:
    """Whether it was done, all of it or nothing. Where a service refuses, the case stays as it is."""
    try:
        with atomic():
            return act() is not False
    except CaseError as error:
        log.info("%s stays as it is: %s", case.number, error)
        return False
