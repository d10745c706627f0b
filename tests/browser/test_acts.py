"""Acts on a case, in a real browser: deciding and taking back, conflicts, waiting, handing on, and a second person."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import QUEUE, WHY, Opened, Team, claim, decide, decision, fill_close, found, history
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]


@pytest.fixture
def in_hand(shared_team: Team, sign_in: SignIn) -> tuple[Visitor, Opened]:
    """Ada at a case of her own, which she has claimed."""
    case = shared_team.case()
    ada = sign_in(shared_team.ada, case.path)
    claim(ada.page)
    return ada, case


def closed(page: Page) -> None:
    expect(page.get_by_test_id("case-status")).to_contain_text("Closed")


# --- C6: deciding -----------------------------------------------------------------------------------------------------


def test_the_dialog_demands_what_the_record_needs_and_says_what_follows(in_hand: tuple[Visitor, Opened]) -> None:
    """C6.1: outcome, fraud type if fraud, reason, rationale ≥ 10 characters; Ctrl+Enter; consequences before submit."""
    ada, _ = in_hand
    page = ada.page
    page.keyboard.press("f")
    told = page.get_by_test_id("consequences")
    expect(told).to_contain_text("Blocks 1 held payment of 120.00 EUR")
    expect(told).to_contain_text("Labels 1 payment as fraud; the next training sees it")
    expect(told).to_contain_text("Still to do")
    page.get_by_test_id("disposition-legitimate").check()
    expect(told).to_contain_text("Releases 1 held payment")
    expect(page.get_by_test_id("fraud-type")).to_be_hidden()
    page.get_by_test_id("disposition-confirmed_fraud").check()
    ada.shot("close-dialog")
    dialog = page.get_by_test_id("close-dialog")
    page.keyboard.press("Control+Enter")
    assert page.evaluate("document.activeElement.name") == "fraud_type"
    dialog.locator("input[name=fraud_type]").first.check()
    page.keyboard.press("Control+Enter")
    assert page.evaluate("document.activeElement.name") == "close_reason"
    page.get_by_test_id("close-reason").select_option("FR-01")
    page.get_by_test_id("rationale").press_sequentially("Too short")
    page.keyboard.press("Control+Enter")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Needs 10 characters; 9 so far")
    page.get_by_test_id("rationale").press_sequentially(", now long enough.")
    page.get_by_test_id("auto-next").uncheck()
    page.keyboard.press("Control+Enter")
    closed(page)


def test_nothing_incomplete_is_closed_by_a_direct_post(in_hand: tuple[Visitor, Opened], inside: Inside) -> None:
    """C6.1: the server demands the same as the dialog."""
    ada, case = in_hand
    version = ada.page.locator("[data-case-page]").get_attribute("data-version") or ""
    whole = {"disposition": "confirmed_fraud", "fraud_type": "mule", "close_reason": "FR-01", "rationale": WHY}
    for missing in whole:
        form = {name: value for name, value in whole.items() if name != missing}
        assert ada.send(f"{case.path}close/", version=version, **form).status == 422, missing
    assert inside(deeds.state, case=case.case)["status"] == "in_review"


def test_after_a_close_the_next_case_opens_and_the_close_can_be_taken_back_for_ten_seconds(
    team: Team, sign_in: SignIn, inside: Inside
) -> None:
    """C6.2: auto-next; undo for 10 s, in which nobody outside is told."""
    first, second = team.case(), team.case()
    ada = sign_in(team.ada, first.path)
    page = ada.page
    claim(page)
    decide(page, "f", onwards=True)
    page.wait_for_url(f"**{second.path}")
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    bar = page.get_by_test_id("undo-bar")
    assert 0 < int(bar.get_attribute("data-undo") or 0) <= 10
    assert decision(team.desk, first.payment)["resolution"] == "pending"
    ada.shot("undo")
    page.keyboard.press("z")
    page.wait_for_url(f"**{first.path}")
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    assert decision(team.desk, first.payment)["resolution"] == "pending"
    decide(page, "l")
    closed(page)
    assert decision(team.desk, first.payment)["resolution"] == "pending"
    inside(deeds.past_the_undo, case=first.case)
    assert decision(team.desk, first.payment)["resolution"] == "released"
    assert ada.send(f"{first.path}undo/").status == 409
    closed(ada.open(first.path))


def test_single_payments_of_a_case_are_decided_otherwise(shared_team: Team, sign_in: SignIn, inside: Inside) -> None:
    """C6.3: decision per transaction inside a case of several alerts; each payment gets its own label."""
    one, other = shared_team.payment(), shared_team.payment(amount={"value": 15_000, "currency": "EUR"})
    other["customer"] = one["customer"]
    case = shared_team.case(one, other)
    ada = sign_in(shared_team.ada, case.path)
    page = ada.page
    claim(page)
    fill_close(page, "f")
    page.get_by_test_id("exceptions").locator("summary").click()
    page.locator(f"[name=verdict-{case.payment}]").select_option("legitimate")
    told = page.get_by_test_id("consequences")
    expect(told).to_contain_text("Blocks 1 held payment of 120.00 EUR")
    expect(told).to_contain_text("Releases 1 held payment of 150.00 EUR")
    page.keyboard.press("Control+Enter")
    closed(page)
    page.get_by_role("tab", name=re.compile("^Alerts")).click()
    row = page.locator("#payments tbody tr")
    expect(row.filter(has_text="150.00")).to_contain_text("Legitimate")
    expect(row.filter(has_text="120.00")).to_contain_text("Confirmed fraud")
    assert inside(deeds.learnt, payment=case.payment) == 1


def test_a_double_submit_closes_once(in_hand: tuple[Visitor, Opened], inside: Inside) -> None:
    """C6.4: double click or repeated request creates one event."""
    ada, case = in_hand
    fill_close(ada.page, "l")
    version = ada.page.locator("[data-case-page]").get_attribute("data-version") or ""
    ada.page.get_by_test_id("close-submit").dblclick()
    closed(ada.page)
    form = {"disposition": "legitimate", "close_reason": "LG-01", "rationale": WHY, "version": version}
    assert ada.send(f"{case.path}close/", **form).status == 302
    assert inside(deeds.events, case=case.case).count("closed") == 1


def test_a_stale_form_overwrites_nothing_and_shows_both_values(
    in_hand: tuple[Visitor, Opened], shared_team: Team, sign_in: SignIn, inside: Inside
) -> None:
    """C6.5: somebody changed the case meanwhile: a conflict notice with both values, what was written is kept."""
    ada, case = in_hand
    before = inside(deeds.state, case=case.case)
    lena = sign_in(shared_team.lena, case.path)
    other = 4 if before["priority"] != 4 else 1
    sent = lena.send(f"{case.path}priority/", level=str(other), note="Seen before.", version=str(before["version"]))
    assert sent.status == 302
    decide(ada.page, "f")
    conflict = ada.page.get_by_test_id("conflict")
    expect(conflict).to_contain_text("Nothing was overwritten")
    expect(conflict).to_contain_text(f"Priority: yours P{before['priority']}, theirs P{other}")
    expect(ada.page.get_by_test_id("rationale")).to_have_value(WHY)
    ada.shot("conflict")
    after = inside(deeds.state, case=case.case)
    assert (after["status"], after["priority"], after["disposition"]) == ("in_review", other, "")


def test_a_step_of_the_checklist_is_ticked_in_place(in_hand: tuple[Visitor, Opened]) -> None:
    ada, _ = in_hand
    ada.page.get_by_test_id("checks-open").click()
    step = ada.page.locator("[data-step]").first
    step.click()
    expect(step).to_have_text("Done")
    ada.page.keyboard.press("Escape")
    ada.page.keyboard.press("f")
    expect(ada.page.get_by_test_id("consequences")).not_to_contain_text("Customer reached on a number")


# --- C9: waiting ------------------------------------------------------------------------------------------------------


def test_a_case_waits_for_an_event_and_wakes_with_its_priority(in_hand: tuple[Visitor, Opened], inside: Inside) -> None:
    """C9.1: until a time or an event; wakes with its priority kept."""
    ada, case = in_hand
    page, before = ada.page, inside(deeds.state, case=case.case)
    page.keyboard.press("s")
    page.locator("#wait").get_by_label("Or when the customer answers").check()
    page.locator("#wait-note").fill("Wrote to the customer.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("case-status")).to_contain_text("Waiting")
    expect(page.get_by_text("or until the customer answers")).to_be_visible()
    inside(deeds.wake, case=case.case)
    page.reload()
    expect(page.get_by_test_id("case-status")).to_contain_text("New")
    assert inside(deeds.state, case=case.case)["priority"] == before["priority"]
    assert inside(deeds.events, case=case.case)[-2:] == ["waiting", "woken"]


# --- C10: handing on --------------------------------------------------------------------------------------------------


def test_who_escalates_is_told_first_what_they_lose_and_then_loses_it(
    running_desk: RunningDesk, inside: Inside, sign_in: SignIn
) -> None:
    """C10.1: to the configured queue, with a note; not being a member there, one cannot even read it any more."""
    team = found(running_desk, inside, escalates_to="escalations")
    case = team.case()
    ada = sign_in(team.ada, case.path)
    claim(ada.page)
    ada.page.keyboard.press("e")
    words = ada.page.get_by_test_id("escalate-words")
    expect(words).to_contain_text("It goes to the queue Escalations, leaves your hands")
    expect(words).to_contain_text("you will not see the case any more")
    ada.page.locator("#escalate-note").fill("Beyond what I may decide.")
    ada.page.keyboard.press("Control+Enter")
    ada.page.wait_for_url("**/desk/queue/**")
    expect(ada.page.get_by_test_id("messages")).to_contain_text("you do not see it any more")
    assert ada.page.request.get(running_desk.url + case.path).status == 404
    state = inside(deeds.state, case=case.case)
    assert (state["status"], state["queue"], state["assignee"]) == ("escalated", "escalations", None)
    maren = sign_in("lead", case.path)
    expect(maren.page.get_by_test_id("case-status")).to_contain_text("Escalated")
    assert "Beyond what I may decide." in history(maren.page)


def test_a_whole_shift_is_handed_over_with_one_note(team: Team, sign_in: SignIn, inside: Inside) -> None:
    """C10.2: the shift summary says open, waiting for, due in 8 h; all open work goes to a colleague."""
    open_one, waiting = team.case(), team.case()
    ada = sign_in(team.ada, waiting.path)
    page = ada.page
    claim(page)
    page.keyboard.press("s")
    page.locator("#wait").get_by_label("3 d").check()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("case-status")).to_contain_text("Waiting")
    ada.open(open_one.path)
    claim(page)
    inside(deeds.due_in, case=open_one.case, minutes=90)
    ada.open("/desk/my-day/")
    summary = page.get_by_test_id("shift-summary")
    expect(summary).to_contain_text(f"Open (1): {open_one.number}")
    expect(summary).to_contain_text(f"Due in 8 h (1): {open_one.number}")
    expect(summary).to_contain_text(re.compile(rf"Waiting for \(1\): {waiting.number} until"))
    form = page.get_by_test_id("hand-over-form")
    form.locator("select").select_option(label=f"Bo {team.land.title()}")
    form.locator("textarea").fill("I am off; the customer rings back at noon.")
    form.get_by_role("button", name="Hand over all").click()
    expect(page.get_by_test_id("messages")).to_contain_text("handed to Bo")
    for case in (open_one, waiting):
        assert inside(deeds.state, case=case.case)["assignee"] == team.bo
        assert inside(deeds.events, case=case.case)[-1] == "handed_over"
    version = str(inside(deeds.state, case=open_one.case)["version"])
    refused = ada.send(f"{open_one.path}wait/", minutes="60", version=version)
    assert refused.status == 409 and "has this case" in refused.text(), "she lost the right to edit"


# --- C11: four eyes ---------------------------------------------------------------------------------------------------


def test_much_money_waits_for_a_second_person(running_desk: RunningDesk, inside: Inside, sign_in: SignIn) -> None:
    """C11: the maker cannot approve, not even by direct POST (403); the checker sees what changes and answers."""
    team = found(running_desk, inside, four_eyes_from=10_000)
    case = team.case()
    ada, lena = sign_in(team.ada, case.path), sign_in(team.lena)
    page = ada.page
    claim(page)
    page.keyboard.press("f")
    expect(page.get_by_test_id("consequences")).to_contain_text("Waits for a second person: the amount reaches")
    page.keyboard.press("Escape")
    decide(page, "f")
    expect(page.get_by_test_id("case-status")).to_contain_text("approval")
    page.get_by_test_id("pending-approval").get_by_role("link").click()
    asked = page.url.removeprefix(running_desk.url)
    expect(page.get_by_test_id("own-request")).to_be_visible()
    expect(page.get_by_test_id("approve")).to_have_count(0)
    assert ada.send(asked, act="approve").status == 403
    checker = lena.open("/desk/case-approvals/")
    row = checker.get_by_test_id("approvals-waiting").locator("tr", has_text=case.number)
    expect(row).to_contain_text("Close " + case.number + " as confirmed fraud")
    row.get_by_role("link").click()
    expect(checker.get_by_test_id("approval-diff")).to_contain_text("Confirmed fraud")
    expect(checker.get_by_test_id("approval-diff")).to_contain_text("1 blocked")
    lena.shot("approval")
    checker.get_by_test_id("reject").click()
    expect(checker.get_by_test_id("refusal")).to_contain_text("Say in 10 characters")
    checker.get_by_test_id("approval-reason").fill("Call the customer once more.")
    checker.get_by_test_id("reject").click()
    ada.open(case.path)
    expect(page.get_by_test_id("case-status")).to_contain_text("In review")
    decide(page, "f", why="Called again, and it was not the customer.")
    expect(page.get_by_test_id("case-status")).to_contain_text("approval")
    lena.open(case.path).get_by_test_id("check-request").click()
    checker.get_by_test_id("approve").click()
    lena.open(case.path)
    closed(checker)
    assert {"pending_approval", "rejected", "approved", "closed"} <= set(inside(deeds.events, case=case.case))


# --- 1.6: the keys ----------------------------------------------------------------------------------------------------


def test_every_key_of_the_case_page_does_what_its_button_does(in_hand: tuple[Visitor, Opened]) -> None:
    """K3: each act has a visible control that names its key; no key decides anything without a dialog."""
    ada, case = in_hand
    page = ada.page
    for key in "FLESCU":
        expect(page.locator(f"[aria-keyshortcuts='{key}']").first).to_be_visible()
    dialogs = {"f": "#close", "l": "#close", "e": "#escalate", "s": "#wait"}
    for key, dialog in dialogs.items():
        page.keyboard.press(key)
        expect(page.locator(dialog)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(dialog)).to_be_hidden()
    page.keyboard.press("l")
    expect(page.get_by_test_id("disposition-legitimate")).to_be_checked()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    expect(page.get_by_test_id("note-text")).to_be_focused()
    page.keyboard.press("f")
    expect(page.get_by_test_id("note-text")).to_have_value("f")
    expect(page.locator("#close")).to_be_hidden()
    page.get_by_test_id("note-text").fill("")
    page.get_by_test_id("note-text").blur()
    page.keyboard.press("/")
    expect(page.get_by_test_id("search")).to_be_focused()
    page.get_by_test_id("search").blur()
    page.keyboard.press("?")
    expect(page.get_by_test_id("keyboard-help")).to_contain_text("Confirm fraud")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    expect(page.get_by_test_id("command-input")).to_be_focused()
    page.keyboard.press("Escape")
    for second, place in (("d", "/desk/"), ("e", "/desk/entities/"), ("q", "/desk/queue/")):
        ada.open(case.path)
        page.keyboard.press("g")
        page.keyboard.press(second)
        page.wait_for_url(re.compile(rf"{place}(\?.*)?$"))


def test_every_key_of_the_queue_does_what_its_button_does(team: Team, sign_in: SignIn, inside: Inside) -> None:
    """K3: J, K, X, Space, A, Enter and O on the rows."""
    team.cases(2)
    ada = sign_in(team.ada, QUEUE)
    page = ada.page
    for key in ("N", "Space", "/"):
        expect(page.locator(f"[aria-keyshortcuts='{key}']").first).to_be_visible()
    rows = page.locator("[data-testid=queue-table] tbody tr")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_have_class(re.compile("is-current"))
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(rows.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("x")
    expect(rows.nth(0)).to_have_attribute("aria-selected", "false")
    for key in ("Enter", "o"):
        page.keyboard.press(key)
        page.wait_for_url("**/desk/cases/*/")
        page.keyboard.press("u")
        page.wait_for_url("**/desk/queue/**")
