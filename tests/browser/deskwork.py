"""What browser tests share: a team with a queue of its own, payments that become its cases, and a person's first steps.

Every test has its own team, so that none finds the cases of another. A team's queue takes the payments made to one
country; a payment to it that somebody steers from elsewhere is held and becomes a case there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.inside import Inside
from tests.payments import steered
from tests.running import RunningDesk

QUEUE = "/desk/queue/?sort=priority"
PATIENCE = 15.0
HANDS = 8  # payments on their way at once
WHY = "Called; the customer told us all about it."
Found = TypeVar("Found")


class Opened(NamedTuple):
    """A payment and the case that its alert opened."""

    payment: int
    case: int

    @property
    def path(self) -> str:
        return f"/desk/cases/{self.case}/"

    @property
    def number(self) -> str:
        return f"C-{self.case}"


@dataclass(frozen=True)
class Team:
    """Ada and Bo investigate, Lena leads, and one queue is theirs alone."""

    desk: RunningDesk
    inside: Inside
    land: str

    @property
    def slug(self) -> str:
        return f"team-{self.land.lower()}"

    @property
    def ada(self) -> str:
        return f"ada-{self.land.lower()}"

    @property
    def bo(self) -> str:
        return f"bo-{self.land.lower()}"

    @property
    def lena(self) -> str:
        return f"lena-{self.land.lower()}"

    def payment(self, **changes: Any) -> dict[str, Any]:
        """One that will be this team's case, of a customer of its own."""
        payment = steered(self.slug) | changes
        payment["merchant"]["country"] = self.land
        return payment

    def case(self, *payments: dict[str, Any]) -> Opened:
        """The case of these payments (of one customer; one payment if none is given), open in the team's queue."""
        sent = [post(self.desk, payment)["id"] for payment in payments or [self.payment()]]
        return Opened(sent[-1], self.opened(sent)[-1])

    def cases(self, many: int) -> list[int]:
        """So many cases at once, each of a customer of its own."""
        payments = [self.payment() for _ in range(many)]
        with ThreadPoolExecutor(HANDS) as pool:
            sent = list(pool.map(lambda payment: post(self.desk, payment)["id"], payments))
        return self.opened(sent)

    def opened(self, payments: list[int]) -> list[int]:
        """The cases of these payments, once every one has its case."""

        def found() -> list[int] | None:
            cases = self.inside(deeds.cases_of, payments=payments)
            return [case for case in cases if case] if all(cases) else None

        return eventually(found)


def found(desk: RunningDesk, inside: Inside, **fields: Any) -> Team:
    """A new team, paid to from a country of its own; the fields are its queue's."""
    team = Team(desk, inside, inside(deeds.land_without_team))
    people = {team.ada: "investigator", team.bo: "investigator", team.lena: "team_lead"}
    inside(deeds.found, slug=team.slug, land=team.land, people=people, **fields)
    return team


# --- payments ---------------------------------------------------------------------------------------------------------


def post(desk: RunningDesk, payment: dict[str, Any]) -> dict[str, Any]:
    """The API's answer to a payment, its decision in it."""
    status, answer = desk.api("POST", "/api/v1/transactions", payment, Prefer="wait=10")
    assert status in (200, 201), answer
    return answer


def decision(desk: RunningDesk, payment: int) -> dict[str, Any]:
    """The decision on a payment as the bank reads it now."""
    return desk.api("GET", f"/api/v1/transactions/{payment}")[1]["decision"]


def eventually(check: Callable[[], Found | None], patience: float = PATIENCE) -> Found:
    """What the check finds, as soon as it finds something."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


# --- at the screen ----------------------------------------------------------------------------------------------------


def live(page: Page) -> Page:
    """The page, its socket open."""
    expect(page.get_by_test_id("live-state").first).to_contain_text("Live")
    return page


def numbers(page: Page) -> list[str]:
    """The cases of the queue's rows, in order."""
    return page.eval_on_selector_all("[data-testid=queue-table] tbody tr", "rows => rows.map(row => row.dataset.case)")


def current(page: Page) -> str | None:
    """The row under the keyboard."""
    return page.locator("[data-testid=queue-table] tr.is-current").get_attribute("data-case")


def claim(page: Page) -> None:
    """Take the case that is open, by its key."""
    page.keyboard.press("a")
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    page.wait_for_load_state()  # its keys are there


def tab_to(page: Page, name: str, most: int = 25) -> None:
    """Press Tab until the field of that test id or name has the focus."""
    focused = "() => [document.activeElement?.dataset?.testid, document.activeElement?.name]"
    for _ in range(most):
        if name in page.evaluate(focused):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reached {name}")


def decide(page: Page, key: str, *, onwards: bool = False, why: str = WHY) -> None:
    """The whole close dialog without a mouse: F or L, type, reason, rationale, Ctrl+Enter."""
    fill_close(page, key, onwards=onwards, why=why)
    page.keyboard.press("Control+Enter")


def fill_close(page: Page, key: str, *, onwards: bool = False, why: str = WHY) -> None:
    """The same up to the last key."""
    page.wait_for_load_state()
    page.keyboard.press(key)
    expect(page.get_by_test_id("close-dialog")).to_be_visible()
    if key == "f":
        tab_to(page, "fraud_type")
        page.keyboard.press("Space")
    tab_to(page, "close-reason")
    page.keyboard.type("FR-01" if key == "f" else "LG-01")
    tab_to(page, "rationale")
    page.keyboard.type(why)
    if page.get_by_test_id("auto-next").is_checked() != onwards:
        tab_to(page, "auto-next")
        page.keyboard.press("Space")


def history(page: Page) -> str:
    """What the open case's history says, every line."""
    page.get_by_role("tab", name="History").click()
    expect(page.get_by_test_id("history-line").first).to_be_visible()
    return page.get_by_test_id("history").inner_text()
