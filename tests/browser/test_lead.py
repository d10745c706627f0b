"""The lead's pages in a real browser: cells and their cases, giving work on, second looks, routes tried first."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import Team, claim, decide, found
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
AGES = ["0–4 h", "4–24 h", "1–3 d", "3–10 d", "over 10 d"]


@pytest.fixture
def cases(team: Team) -> list[int]:
    """Two cases of a team."""
    return team.cases(2)


def board(visitor: Visitor) -> Page:
    visitor.open("/desk/board/")
    expect(visitor.page.get_by_test_id("board-backlog")).to_be_visible()
    return visitor.page


# --- Q9: the board ----------------------------------------------------------------------------------------------------


def test_the_board_tells_backlog_people_flow_and_a_cell_opens_its_cases(
    team: Team, cases: list[int], sign_in: SignIn, inside: Inside
) -> None:
    """Q9.1: backlog by queue and age, oldest open, people online and their open count, inflow and outflow, SLA %."""
    ada = sign_in(team.ada, f"/desk/cases/{cases[0]}/")
    claim(ada.page)
    decide(ada.page, "l")
    expect(ada.page.get_by_test_id("case-status")).to_contain_text("Closed")
    page = board(sign_in(team.lena))
    table = page.get_by_test_id("board-backlog")
    assert table.locator("thead th").all_inner_texts()[1:6] == AGES
    row = table.locator("tbody tr", has_text=team.slug.capitalize())
    figures = row.locator("td").all_inner_texts()
    assert figures[:6] == ["1", "0", "0", "0", "0", "1"]
    assert figures[-2] == "2 / 1" and figures[-1] == "100.0 %"
    assert re.match(r"\d+(\.\d)? (s|min)", figures[-3]), "the oldest open"
    expect(page.get_by_test_id("board-sla")).to_have_text(re.compile("100"))
    person = page.locator("[data-testid=board-people] tr", has_text="Ada")
    expect(person).to_contain_text("here")
    page.get_by_test_id("board-cell").first.click()
    expect(page).to_have_url(re.compile(rf"queue={team.slug}&age=0"))
    expect(page.locator("#cases tbody tr")).to_have_count(1)
    page.get_by_text("As a table").click()
    hour = page.get_by_test_id("board-flow").locator("tbody tr").last
    assert all(figure.isdigit() for figure in hour.locator("td").all_inner_texts()[-2:])


def test_cases_are_given_on_without_a_mouse_and_the_history_says_so(
    team: Team, cases: list[int], sign_in: SignIn, inside: Inside
) -> None:
    """Q9.2: rebalanced by bulk assign."""
    lena = sign_in(team.lena)
    page = board(lena)
    number = page.locator("#cases tbody tr").first.get_attribute("data-case") or ""
    page.get_by_label(f"Choose {number}").focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-chosen]")).to_have_text("1 case chosen")
    choice = page.locator("#to option", has_text="Bo").first.inner_text()
    page.locator("#to").select_option(label=choice)
    page.get_by_placeholder("Why, for the history").fill("Late shift takes over.")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("messages")).to_contain_text("1 case went to Bo")
    assert inside(deeds.state, case=int(number[2:]))["assignee"] == team.bo
    assert inside(deeds.events, case=int(number[2:]))[-1] == "assigned"
    lena.shot("board")


def test_dragging_a_row_onto_a_person_fills_in_the_form_only(
    team: Team, cases: list[int], sign_in: SignIn, inside: Inside
) -> None:
    """Q9.3: rebalanced by drag; nothing moves before the button."""
    page = board(sign_in(team.lena))
    person = page.locator("[data-target]", has_text="Ada")
    page.locator("#cases tbody tr").first.drag_to(person)
    target = person.get_attribute("data-target")
    assert target
    expect(page.locator("#to")).to_have_value(target)
    expect(page.locator("[data-chosen]")).to_have_text("1 case chosen")
    assert {inside(deeds.state, case=case)["assignee"] for case in cases} == {None}


# --- routing, my day, absences ----------------------------------------------------------------------------------------


def test_a_route_is_tried_on_past_alerts_before_it_is_saved(team: Team, cases: list[int], sign_in: SignIn) -> None:
    lena = sign_in(team.lena, "/desk/routes/?new=1")
    page, name = lena.page, f"Very high scores {team.land}"
    page.get_by_label("Name").fill(name)
    page.get_by_label("Queue", exact=True).select_option(label="Escalations")
    page.get_by_label("Score from").fill("900")
    page.get_by_test_id("route-try").click()
    expect(page.get_by_test_id("route-effect")).to_contain_text(
        re.compile(r"Of the last [\d,]+ alerts? .* take [\d,]+")
    )
    expect(page.get_by_test_id("route-table")).to_contain_text("not saved")
    lena.open("/desk/routes/")
    expect(page.get_by_test_id("route-table")).not_to_contain_text(name)
    lena.shot("routes")


def test_my_day_tells_ones_own_work(team: Team, cases: list[int], sign_in: SignIn) -> None:
    ada = sign_in(team.ada, "/desk/my-day/")
    page = ada.page
    page.keyboard.press("n")
    page.wait_for_url("**/desk/cases/*/")
    number = f"C-{page.url.rstrip('/').rsplit('/', 1)[-1]}"
    ada.open("/desk/my-day/")
    expect(page.get_by_test_id("shift-summary")).to_contain_text(number)
    expect(page.get_by_test_id("day-table")).to_contain_text(number)
    expect(page.get_by_test_id("day-open")).to_have_text("1")
    ada.shot("my-day")


def test_an_absence_is_noted_and_taken_back(team: Team, sign_in: SignIn) -> None:
    page = sign_in(team.bo, "/desk/absences/").page
    page.get_by_label("From").fill("2031-01-02T08:00")
    page.get_by_label("Until").fill("2031-01-09T08:00")
    page.get_by_label("Note").fill("Leave")
    page.get_by_role("button", name="Note the absence").click()
    expect(page.get_by_test_id("absence-table")).to_contain_text("Leave")
    page.get_by_role("button", name=re.compile("^Cancel the absence")).first.click()
    expect(page.get_by_test_id("messages")).to_contain_text("The absence is taken back")


# --- C12: quality -----------------------------------------------------------------------------------------------------


def test_a_sampled_close_is_reviewed_by_another_person_and_a_disagreement_opens_it_again(
    running_desk: RunningDesk, inside: Inside, sign_in: SignIn
) -> None:
    """C12: chosen at the close by a stored number; the reviewer is not the decider; rates by queue, by person to
    leads only."""
    team = found(running_desk, inside, quality_share=1.0)
    theirs, own = team.case(), team.case()
    ada, lena = sign_in(team.ada), sign_in(team.lena)
    for visitor, case in ((ada, theirs), (lena, own)):
        visitor.open(case.path)
        claim(visitor.page)
        decide(visitor.page, "l")
        expect(visitor.page.get_by_test_id("case-status")).to_contain_text("Closed")
    mine = inside(deeds.review_of, case=own.case)
    assert lena.send(f"/desk/quality/{mine}/", finding="agree").status == 403, "nobody reviews their own close"
    page = lena.open("/desk/quality/")
    table = page.get_by_test_id("quality-table")
    expect(table).not_to_contain_text(own.number)
    table.get_by_role("link", name=theirs.number).click()
    expect(page.locator("main")).to_contain_text(re.compile(r"drew 0\.\d{4}"))
    form = page.get_by_test_id("review-form")
    form.locator("input[value=disagree]").check()
    form.locator("textarea").fill("Nobody asked about the remote session.")
    form.locator("input[name=reopen]").check()
    form.locator("[data-submit]").click()
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    assert {"reviewed", "reopened"} <= set(inside(deeds.events, case=theirs.case))
    lena.open("/desk/quality/")
    expect(page.get_by_role("region", name="Disagreement by queue")).to_contain_text(team.slug.capitalize())
    expect(page.get_by_test_id("quality-people")).to_contain_text("Ada")
    lena.shot("quality")
    assert ada.page.request.get(f"{running_desk.url}/desk/quality/").status == 403
