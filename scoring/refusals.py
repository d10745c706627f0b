"""Who acts, and why an act is refused: shared by all that changes how money is judged."""

from __future__ import annotations

from typing import Any, Protocol


class Person(Protocol):
    """Whoever acts; the desk's User is one."""

    pk: Any

    def has_perm(self, perm: str) -> bool: ...

    def get_username(self) -> str: ...


class GovernanceError(Exception):
    """Why a change cannot be proposed or decided; the text is for people."""


class NotAllowed(GovernanceError):
    """The person lacks the right."""


class SamePerson(GovernanceError):
    """The proposer tried to approve their own proposal."""


class AlreadyDecided(GovernanceError):
    """The proposal is no longer pending."""


class Stale(GovernanceError):
    """What the proposal started from has changed since, or its time is over."""


class NoChange(GovernanceError):
    """The proposal would change nothing."""


class NotPossible(GovernanceError):
    """What is proposed cannot judge: a faulty text, a model of another kernel, no reason given."""
