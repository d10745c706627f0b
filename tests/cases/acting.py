"""What the tests of acts on cases share: people, a queue, a case in hand, and running at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connections

from cases import services
from cases.models import Case, CaseEvent
from tests.factories import LEAD, WORK, make_alert, make_case, make_close_reason, make_queue, make_user

WHY = "Customer denies the payment on the phone."
CHECKER = (*LEAD, "cases.approve_case", "cases.bulk_close")


class Team:
    """Ines and Tomas work, Lena leads and checks; one queue, and one close reason that fits everything."""

    def __init__(self, **queue: Any) -> None:
        self.ines, self.tomas = make_user("ines", *WORK), make_user("tomas", *WORK)
        self.lena = make_user("lena", *CHECKER)
        self.queue = make_queue(self.ines, self.tomas, self.lena, **queue)
        make_close_reason("denies")

    def case(self, *alerts: Any, by: Any = None, **fields: Any) -> Case:
        """A case in hand, of Ines unless said otherwise."""
        made = make_case(*(alerts or (make_alert("anna"),)), queue=self.queue, **fields)
        return services.claim(made.pk, by or self.ines)

    def next_case(self) -> Case:
        """The most urgent case, now in the hand of Ines."""
        case = services.claim_next(self.ines)
        assert case is not None
        return case


def close(case: Case, by: Any, disposition: str = "confirmed_fraud", **fields: Any) -> Case:
    """Close a case with everything that is needed."""
    given = {"fraud_type": "account_takeover", "close_reason": "denies", "rationale": WHY} | fields
    return services.close_case(case.pk, disposition, by=by, **given)


def kinds(case: Case) -> list[str]:
    """The history of a case, oldest first."""
    return list(CaseEvent.objects.filter(case=case.pk).order_by("pk").values_list("kind", flat=True))


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run each in a thread of its own, all starting together; what each gave or raised."""
    start = Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait(10)
        try:
            return work()
        except services.CaseError as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
