"""A seeded lane and the people of four eyes. Models are not loaded yet when this file is: fixtures import them."""

from __future__ import annotations

from typing import Any

import pytest

PROPOSE = ("scoring.propose_policy", "scoring.propose_rule", "scoring.propose_model", "scoring.view_proposal")
APPROVE = ("scoring.approve_policy", "scoring.approve_rule", "scoring.approve_model", "scoring.view_proposal")
VIEW = ("scoring.view_policyversion", "scoring.view_rule", "scoring.view_modelversion")


@pytest.fixture
def lane(db):
    """A lane with rules, a policy and a release."""
    from scoring import seeds
    from tests.factories import make_lane

    found = make_lane()
    seeds.seed(found)
    return found


@pytest.fixture
def proposer(db):
    """A model admin, who may do both: propose and approve."""
    from tests.factories import make_user

    return make_user("dora", *PROPOSE, *APPROVE, *VIEW)


@pytest.fixture
def approver(db):
    """Another one."""
    from tests.factories import make_user

    return make_user("egon", *PROPOSE, *APPROVE, *VIEW)


@pytest.fixture
def stranger(db):
    """Somebody on the desk without any right to tune."""
    from tests.factories import make_user

    return make_user("fred", "scoring.view_proposal", "scoring.view_rule")


@pytest.fixture
def bank(transactional_db: None) -> Any:
    """A client whose lane has a release. Lanes commit on connections of their own: nothing here can be rolled back."""
    from tests.judging import make_bank

    return make_bank()
