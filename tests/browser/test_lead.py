"""The lead's pages in a real browser: cells and their cases, giving work on, second looks, routes tried first."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_closed_loop import case_of, eventually, post
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]


@pytest.fixture
def a_case(running_desk: RunningDesk) -> int:
    """A fresh case."""
    payment = post(running_desk, steered("lead"))["id"]
    return eventually(lambda: case_of(running_desk, payment))


def board(visitor: Visitor) -> Page:
    visitor.open("/desk/board/")
    expect(visitor.page.get_by_test_id("board-backlog")).to_be_visible()
    return visitor.page


def test_a_cell_of_the_board_opens_its_cases(sign_in: SignIn, a_case: int) -> None:
    page = board(sign_in("lead"))
    cell = page.get_by_test_id("board-cell").first
    count = int(cell.inner_text().replace(",", ""))
    cell.click()
    expect(page).to_have_url(re.compile(r"queue=[a-z-]+&age=\d"))
    assert page.locator("#cases tbody tr").count() == min(count, 100)
    assert page.locator("[data-testid=board-backlog] thead th").all_inner_texts()[1:6] == [
        "0–4 h",
        "4–24 h",
        "1–3 d",
        "3–10 d",
        "over 10 d",
    ]


def test_who_looks_at_the_desk_is_here(sign_in: SignIn) -> None:
    sign_in("investigator").open("/desk/queue/")
    page = board(sign_in("lead"))
    row = page.locator("[data-testid=board-people] tr", has_text="Ines Verbeek")
    expect(row).to_contain_text("here")


def test_cases_are_given_on_without_a_mouse_and_the_history_says_so(sign_in: SignIn, a_case: int) -> None:
    lead = sign_in("lead")
    page = board(lead)
    number = page.locator("#cases tbody tr").first.get_attribute("data-case")
    box = page.get_by_label(f"Choose {number}")
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-chosen]")).to_have_text("1 case chosen")
    page.locator("#to").select_option(label=option_of(page, "Tomás"))
    page.get_by_placeholder("Why, for the history").fill("Late shift takes over.")
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_contain_text("1 case went to Tomás")
    expect(page.locator(f"#cases tr[data-case={number}]")).to_contain_text(re.compile("T|Tomás"))
    lead.shot("board")


def option_of(page: Page, name: str) -> str:
    """The whole text of the first choice that begins so."""
    return page.locator("#to option", has_text=name).first.inner_text()


def test_dragging_a_row_onto_a_person_fills_in_the_form_only(sign_in: SignIn, a_case: int) -> None:
    page = board(sign_in("lead"))
    person = page.locator("[data-target]", has_text="Ines Verbeek")
    page.locator("#cases tbody tr").first.drag_to(person)
    target = person.get_attribute("data-target")
    assert target
    expect(page.locator("#to")).to_have_value(target)
    expect(page.locator("[data-chosen]")).to_have_text("1 case chosen")


def test_a_route_is_tried_on_past_alerts_before_it_is_saved(sign_in: SignIn, a_case: int) -> None:
    lead = sign_in("lead")
    lead.open("/desk/routes/?new=1")
    page = lead.page
    page.get_by_label("Name").fill("Very high scores")
    page.get_by_label("Queue", exact=True).select_option(label="Escalations")
    page.get_by_label("Score from").fill("900")
    page.get_by_test_id("route-try").click()
    expect(page.get_by_test_id("route-effect")).to_contain_text(
        re.compile(r"Of the last [\d,]+ alerts? .* take [\d,]+")
    )
    expect(page.get_by_test_id("route-table")).to_contain_text("not saved")
    lead.open("/desk/routes/")
    expect(page.get_by_test_id("route-table")).not_to_contain_text("Very high scores")
    lead.shot("routes")


def test_my_day_tells_the_shift(sign_in: SignIn, a_case: int) -> None:
    ines = sign_in("investigator")
    ines.open("/desk/my-day/")
    page = ines.page
    page.keyboard.press("n")
    page.wait_for_url("**/desk/cases/*/")
    number = f"C-{page.url.rstrip('/').rsplit('/', 1)[-1]}"
    ines.open("/desk/my-day/")
    expect(page.get_by_test_id("shift-summary")).to_contain_text(number)
    expect(page.get_by_test_id("day-table")).to_contain_text(number)
    ines.shot("my-day")


def test_an_absence_is_noted_and_taken_back(sign_in: SignIn) -> None:
    ines = sign_in("investigator2")
    ines.open("/desk/absences/")
    page = ines.page
    page.get_by_label("From").fill("2031-01-02T08:00")
    page.get_by_label("Until").fill("2031-01-09T08:00")
    page.get_by_label("Note").fill("Leave")
    page.get_by_role("button", name="Note the absence").click()
    expect(page.get_by_test_id("absence-table")).to_contain_text("Leave")
    page.get_by_role("button", name=re.compile("^Cancel the absence")).first.click()
    expect(page.locator("body")).to_contain_text("The absence is taken back")


def test_the_quality_page_shows_rates_to_leads(sign_in: SignIn) -> None:
    lead = sign_in("lead")
    lead.open("/desk/quality/")
    expect(lead.page.get_by_test_id("quality-pending")).to_be_visible()
    expect(lead.page.get_by_test_id("quality-people")).to_be_visible()
    lead.shot("quality")
