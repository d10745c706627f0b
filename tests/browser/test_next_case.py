"""One key, one case: the most urgent one that a person may work, theirs alone while they work it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import QUEUE, Team, claim, decide, found, history, live, numbers
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
EACH = 20


def press_next(visitor: Visitor) -> str:
    """Press N on the page that is open and wait for the case; its address."""
    before = visitor.page.url
    visitor.page.keyboard.press("n")
    visitor.page.wait_for_url(lambda url: "/desk/cases/" in url and url != before)
    return visitor.page.url


# --- Q3: the next case ------------------------------------------------------------------------------------------------


def test_one_key_takes_the_most_urgent_case_already_claimed(team: Team, sign_in: SignIn, inside: Inside):
    """Q3.1: assignee is me, status is in review, an event `claimed` is written."""
    team.cases(3)
    inside(deeds.spread, slug=team.slug)
    ada = sign_in(team.ada, QUEUE)
    first = numbers(ada.page)[0]
    press_next(ada)
    expect(ada.page.locator("h1")).to_have_text(first)
    state = inside(deeds.state, case=int(first[2:]))
    assert (state["status"], state["assignee"]) == ("in_review", team.ada)
    assert inside(deeds.events, case=int(first[2:]))[-1] == "claimed"


def test_two_people_pressing_n_twenty_times_at_once_get_forty_cases(team: Team, sign_in: SignIn):
    """Q3.2: 2 × 20 presses, 40 different cases, and not one more."""
    cases = team.cases(2 * EACH)
    pages = [live(sign_in(name, QUEUE).page) for name in (team.ada, team.bo)]
    taken: list[str] = []
    for _ in range(EACH):
        before = [page.url for page in pages]
        for page in pages:
            page.keyboard.press("n")
        for page, left in zip(pages, before, strict=True):
            page.wait_for_url(lambda url, left=left: "/desk/cases/" in url and url != left)  # type: ignore[misc]
            taken.append(page.url.rstrip("/").rsplit("/", 1)[-1])
    assert sorted(map(int, taken)) == sorted(cases)
    pages[0].keyboard.press("n")
    expect(pages[0].get_by_test_id("queue-empty")).to_be_visible()


def test_nobody_gets_a_case_they_must_not_work(team: Team, running_desk: RunningDesk, inside: Inside, sign_in: SignIn):
    """Q3.3: not of a queue of others, not of a customer one is kept from, not one whose approval one asked for."""
    others = found(running_desk, inside)
    others.cases(1)
    kept, made, free = team.cases(3)
    inside(deeds.keep_from, username=team.ada, case=kept)
    ada = sign_in(team.ada)
    inside(deeds.need_two, slug=team.slug)
    ada.open(f"/desk/cases/{made}/")
    claim(ada.page)
    decide(ada.page, "f")
    expect(ada.page.get_by_test_id("case-status")).to_contain_text("approval")
    inside(deeds.expire_requests, case=made, hours=71)
    assert inside(deeds.state, case=made)["status"] == "pending_approval", "it stands for 72 h"
    inside(deeds.expire_requests, case=made, hours=2)
    assert inside(deeds.state, case=made)["status"] == "new"
    ada.open(QUEUE)
    assert press_next(ada).endswith(f"/cases/{free}/")
    ada.page.keyboard.press("n")
    expect(ada.page.get_by_test_id("queue-empty")).to_be_visible()
    assert ada.send(f"/desk/cases/{kept}/claim/").status in (403, 404)
    bo = sign_in(team.bo, QUEUE)
    assert {press_next(bo).rstrip("/").rsplit("/", 1)[-1] for _ in range(2)} == {str(kept), str(made)}


def test_an_empty_queue_says_when_the_next_case_wakes(team: Team, sign_in: SignIn):
    """Q3.4: [queue-empty] with the next wake-up time."""
    case = team.case()
    ada = sign_in(team.ada, case.path)
    claim(ada.page)
    ada.page.keyboard.press("s")
    ada.page.locator("#wait").get_by_label("4 h").check()
    ada.page.keyboard.press("Control+Enter")
    expect(ada.page.get_by_test_id("case-status")).to_contain_text("Waiting")
    ada.open(QUEUE).keyboard.press("n")
    expect(ada.page.get_by_test_id("queue-empty")).to_contain_text("The next case wakes at")
    assert "none=" in ada.page.url


# --- Q4: the lease ----------------------------------------------------------------------------------------------------


def test_a_case_in_use_is_read_only_for_others_until_a_lead_takes_it_over(team: Team, sign_in: SignIn, inside: Inside):
    """Q4.1: "in use by X since hh:mm", no acts, not even by direct POST; the take-over is in the history."""
    case = team.case()
    ada, bo, lena = sign_in(team.ada, case.path), sign_in(team.bo), sign_in(team.lena)
    claim(ada.page)
    expect(ada.page.get_by_test_id("lease")).to_contain_text("Yours for")
    version = ada.page.locator("[data-case-page]").get_attribute("data-version") or ""
    bo.open(case.path)
    expect(bo.page.get_by_test_id("in-use")).to_contain_text(f"In use by Ada {team.land.title()} since")
    for control in ("close-open", "claim", "take-over-open", "note-submit"):
        expect(bo.page.get_by_test_id(control)).to_have_count(0)
    close = {
        "disposition": "legitimate",
        "close_reason": "LG-01",
        "rationale": "Not mine to close.",
        "version": version,
    }
    for act, form in (
        ("close", close),
        ("claim", {}),
        ("take-over", {}),
        ("wait", {"minutes": "60", "version": version}),
    ):
        assert bo.send(f"{case.path}{act}/", **form).status in (403, 409), act
    assert inside(deeds.state, case=case.case)["assignee"] == team.ada
    lena.open(case.path).get_by_test_id("take-over-open").click()
    lena.page.locator("#take-over-note").fill("Ada went home.")
    lena.page.keyboard.press("Control+Enter")
    expect(lena.page.get_by_test_id("lease")).to_contain_text("Yours for")
    assert inside(deeds.events, case=case.case)[-1] == "taken_over"
    assert "Ada went home." in history(lena.page)


def test_the_lease_is_renewed_while_the_page_is_used_and_lapses_when_it_is_not(
    team: Team, sign_in: SignIn, inside: Inside
):
    """Q4.2: renewed each minute of use; after it ran out the status returns, with an event `lease_expired`."""
    case = team.case()
    ada = sign_in(team.ada)
    page, renewed = ada.page, []
    page.clock.install()
    ada.open(case.path)
    claim(page)
    page.on("request", lambda request: renewed.append(request.url) if request.url.endswith("/lease/") else None)
    page.clock.run_for(61_000)
    assert renewed == [], "an idle page holds nothing"
    page.keyboard.press("j")
    with page.expect_response("**/lease/") as answer:
        page.clock.run_for(61_000)
    assert answer.value.json()["seconds"] > 890
    inside(deeds.lapse, case=case.case)
    page.get_by_test_id("extend").click()
    expect(page.get_by_text("Your lease lapsed.")).to_be_visible()
    assert inside(deeds.events, case=case.case)[-1] == "lease_expired"
    state = inside(deeds.state, case=case.case)
    assert (state["status"], state["assignee"]) == ("new", None)
