"""The queue in an investigator’s hands: its order and figures, new rows that wait, preview, views, many at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import QUEUE, Team, claim, current, decide, decision, found, history, live, numbers
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
FULL = 52  # cases: a page of 50 rows, and more
SEARCHES = """async (texts) => { const all = [];
  for (const text of texts) {
    const at = performance.now();
    const address = '/desk/queue/?q=' + encodeURIComponent(text);
    await (await fetch(address, { headers: { 'X-Requested-With': 'desk' } })).text();
    all.push(performance.now() - at);
  }
  return all.sort((a, b) => a - b); }"""


TWENTY = """async () => { const all = [];
  for (let n = 0; n < 20; n += 1) {
    const at = performance.now();
    await (await fetch(location.href)).text();
    all.push(performance.now() - at);
  }
  return all.sort((a, b) => a - b); }"""


@pytest.fixture(scope="module")
def crowd(running_desk: RunningDesk, inside: Inside) -> Team:
    """A team with more than a page of cases. Tests that use it change none of them."""
    team = found(running_desk, inside)
    team.cases(FULL)
    return team


@pytest.fixture
def trio(team: Team) -> list[str]:
    """Three cases of a team that nobody else has; their numbers."""
    return [f"C-{case}" for case in team.cases(3)]


def at_the_queue(visitor: Visitor, address: str = QUEUE) -> Page:
    return live(visitor.open(address))


# --- Q1: order and figures --------------------------------------------------------------------------------------------


def test_the_most_urgent_come_first_and_stay_where_they_are(crowd: Team, sign_in: SignIn, inside: Inside):
    """Q1.1: priority, then due, then score; the order is stable across two reloads."""
    cases = inside(deeds.spread, slug=crowd.slug)
    cases.sort(key=lambda case: (case["priority"], case["due"], -case["score"], case["id"]))
    page = sign_in(crowd.ada, "/desk/queue/").page
    expected = [f"C-{case['id']}" for case in cases[:50]]
    assert numbers(page) == expected
    for _ in range(2):
        page.reload()
        assert numbers(page) == expected


def test_columns_that_sort_say_so_and_the_order_stands_in_the_address(crowd: Team, sign_in: SignIn):
    """Q1.2: every header that sorts has aria-sort; a colleague with the address sees the same order."""
    page = sign_in(crowd.ada, QUEUE).page
    for header in page.locator("[data-testid=queue-table] thead th:has(a)").all():
        assert header.get_attribute("aria-sort") in ("ascending", "descending", "none")
    page.get_by_role("link", name="Score", exact=True).click()
    page.wait_for_url(re.compile("sort=-score"))
    assert page.locator("th.c-score").get_attribute("aria-sort") == "descending"
    assert numbers(sign_in(crowd.bo, page.url.removeprefix(crowd.desk.url)).page) == numbers(page)


def test_amounts_stand_in_a_column_with_the_decimals_of_their_currency(team: Team, sign_in: SignIn):
    """Q1.3: right-aligned, tabular figures; EUR has 2 decimals, JPY 0, KWD 3."""
    texts = {"EUR": "120.00", "JPY": "20,000", "KWD": "40.000"}
    cases = {
        currency: team.case(team.payment(amount={"value": value, "currency": currency})).number
        for currency, value in (("EUR", 12_000), ("JPY", 20_000), ("KWD", 40_000))
    }
    page = sign_in(team.ada, QUEUE).page
    for currency, number in cases.items():
        cell = page.locator(f"tr[data-case={number}] .c-amt")
        expect(cell).to_have_text(re.compile(rf"^\s*{re.escape(texts[currency])}\s*{currency}\s*$"))
        style = cell.evaluate("(cell) => [getComputedStyle(cell).textAlign, getComputedStyle(cell).fontVariantNumeric]")
        assert style[0] in ("right", "end") and "tabular-nums" in style[1]


def test_fifty_rows_weigh_at_most_150_kb_and_come_within_300_ms(crowd: Team, sign_in: SignIn):
    """Q1.4: measured here over few cases; `benchmarks/desk.py` measures it over a million."""
    page = sign_in(crowd.ada, QUEUE).page
    assert len(numbers(page)) == 50
    assert len(page.request.get(page.url).body()) <= 150_000
    for _ in range(8):  # machines are shared: one round in which it holds will do
        took = page.evaluate(TWENTY)
        if took[18] <= 300:
            break
    assert took[18] <= 300, took


# --- Q2: what is new --------------------------------------------------------------------------------------------------


def test_new_rows_wait_until_they_are_asked_for(team: Team, trio: list[str], sign_in: SignIn):
    """Q2.1: the banner says "1 new" within 2 s; rows do not move until R."""
    page = at_the_queue(sign_in(team.ada))
    before = numbers(page)
    assert set(before) == set(trio)
    number = team.case().number
    banner = page.get_by_test_id("live-banner")
    expect(banner).to_contain_text("1 new", timeout=2000)
    assert numbers(page) == before
    page.keyboard.press("r")
    row = page.locator(f"tr[data-case={number}]")
    expect(row).to_be_visible()
    expect(row).to_have_class(re.compile("is-fresh"))
    expect(banner).to_be_hidden()


def test_the_banner_speaks_at_most_once_a_second(team: Team, trio: list[str], sign_in: SignIn):
    """Q2.2: polite, and at 50 alerts a second at most one update a second."""
    page = at_the_queue(sign_in(team.ada))
    assert page.get_by_test_id("live-banner").get_attribute("aria-live") == "polite"
    spoken = page.evaluate(
        """() => new Promise((done) => {
          let seq = 10 ** 12;
          const changes = [];
          const words = document.querySelector('[data-fresh-words]');
          const watch = new MutationObserver(() => changes.push(performance.now()));
          watch.observe(words, { childList: true, characterData: true });
          const timer = setInterval(() => document.dispatchEvent(new CustomEvent('desk:message', {
            detail: { type: 'alerts', lane: 1, alerts: [{ seq: seq += 1, severity: 2 }] } })), 20);
          setTimeout(() => { clearInterval(timer); done([changes, words.textContent]); }, 3300);
        })"""
    )
    changes, words = spoken
    assert 3 <= len(changes) <= 4
    assert all(after - before >= 900 for before, after in pairwise(changes))
    assert re.match(r"1\d\d new", words)


# --- Q5: filters, views, search ---------------------------------------------------------------------------------------


def test_filters_stand_in_the_address_and_a_colleague_sees_the_same_rows(team: Team, trio: list[str], sign_in: SignIn):
    """Q5.1: all filters live in the address."""
    large = team.case(team.payment(amount={"value": 15_000, "currency": "EUR"})).number
    page = at_the_queue(sign_in(team.ada))
    assert len(numbers(page)) == 4
    page.get_by_test_id("filter-open").click()
    page.get_by_label("Amount from").fill("130")
    page.get_by_label("Score from").fill("1")
    page.locator("#f-assignee").select_option("none")
    page.locator("#f-country").fill(team.land)
    page.get_by_test_id("filter-apply").click()
    page.wait_for_url(re.compile(r"amount_from=130"))
    for part in ("score_from=1", "assignee=none", f"country={team.land}"):
        assert part in page.url
    assert "score_to" not in page.url
    expect(page.get_by_test_id("filters")).to_contain_text("Score")
    assert numbers(page) == [large]
    assert numbers(sign_in(team.bo, page.url.removeprefix(team.desk.url)).page) == [large]
    page.get_by_role("link", name=re.compile("Remove the filter: Amount")).click()
    page.wait_for_url(lambda url: "amount_from" not in url)
    assert len(numbers(page)) == 4


def test_every_filter_of_the_form_lives_in_the_address(team: Team, trio: list[str], sign_in: SignIn):
    """Q5.1: all filters live in the address, those that leave a case out as well as those that keep it."""
    large = team.case(team.payment(amount={"value": 15_000, "currency": "EUR"}))
    reason = decision(team.desk, large.payment)["reasons"][0]["code"]
    yesterday, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 1))
    typed = {
        "score_from": "1",
        "score_to": "1000",
        "amount_from": "130",
        "amount_to": "170",
        "currency": "EUR",
        "reason": reason,
        "mcc": "5812",
        "country": team.land,
        "since": yesterday,
        "until": tomorrow,
    }
    chosen = {"assignee": "none", "snoozed": "no"}
    ticked = {"queue": team.slug, "status": "new", "channel": "ecommerce"}
    page = at_the_queue(sign_in(team.ada))
    page.get_by_test_id("filter-open").click()
    for name, text in typed.items():
        page.locator(f"[data-filters] [name={name}]").fill(text)
    for name, value in chosen.items():
        page.locator(f"[data-filters] [name={name}]").select_option(value)
    for name, value in ticked.items():
        page.locator(f"[data-filters] [name={name}][value='{value}']").check()
    page.get_by_test_id("filter-apply").click()
    page.wait_for_url(re.compile("mcc=5812"))
    asked = parse_qs(urlsplit(page.url).query)
    wanted = typed | chosen | ticked
    assert {name: asked[name][0] for name in wanted} == wanted
    assert numbers(page) == [large.number]
    url = page.url.removeprefix(team.desk.url)
    for other in (
        "mcc=5813",
        "channel=card_present",
        "tag=mule",
        "outcome=legitimate",
        "snoozed=yes",
        "until=2020-01-01",
    ):
        name = other.partition("=")[0]
        without = re.sub(f"&?\\b{name}=[^&]*", "", url)
        assert numbers(at(page, team, f"{without}&{other}")) == []
    dues = {due: numbers(at(page, team, f"{url}&due={due}")) for due in ("late", "today", "later")}
    assert sorted(dues.values()) == [[], [], [large.number]]


def at(page: Page, team: Team, address: str) -> Page:
    """The page at another address of the desk."""
    page.goto(team.desk.url + address)
    return page


def test_a_view_is_saved_shared_opened_first_and_counted(team: Team, trio: list[str], sign_in: SignIn, inside: Inside):
    """Q5.2: private or shared with the team, default per user, with its count; 50 at most."""
    ada = sign_in(team.ada)
    page = at_the_queue(ada, f"/desk/queue/?country={team.land}&sort=-amount")
    save_view(page, "Abroad")
    view = page.get_by_test_id("views").get_by_role("link", name=re.compile("Abroad"))
    expect(view).to_have_attribute("aria-current", "true")
    expect(view.locator(".d-count")).to_have_text("3")
    bo = sign_in(team.bo, QUEUE)
    theirs = bo.page.get_by_test_id("views").get_by_role("link", name=re.compile("Abroad"))
    expect(theirs).to_have_count(0)
    save_view(page, "Abroad", "view-shared", "view-default")
    bo.page.reload()
    expect(theirs).to_be_visible()
    ada.open("/desk/queue/")
    assert "sort=-amount" in page.url
    bo.open("/desk/queue/")
    assert "sort=-amount" not in bo.page.url
    inside(deeds.add_views, username=team.ada, many=49)
    save_view(page, "One too many")
    expect(page.get_by_test_id("messages")).to_contain_text("50 views are the most")


def save_view(page: Page, name: str, *boxes: str) -> None:
    """The dialog of a view, by keyboard but for its boxes."""
    page.get_by_test_id("save-view").click()
    page.get_by_test_id("view-name").fill(name)
    for box in boxes:
        page.get_by_test_id(box).check()
    with page.expect_navigation():
        page.get_by_test_id("view-name").press("Control+Enter")


def test_a_search_finds_a_case_by_five_names_within_half_a_second(team: Team, sign_in: SignIn):
    """Q5.3: case id, transaction id, external id, customer id, last four digits of the card; ≤ 500 ms."""
    payment = team.payment()
    payment["card"]["last4"] = "7341"
    case = team.case(payment)
    names = [str(case.case), str(case.payment), payment["external_id"], payment["customer"]["id"], "7341"]
    visitor = sign_in(team.ada, QUEUE)
    page = visitor.page
    for name in names:
        page.keyboard.press("/")
        page.get_by_test_id("search").fill(name)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(rf"q={re.escape(name)}$"))
        assert case.number in numbers(page), name
    took = page.evaluate(SEARCHES, names * 4)
    assert took[18] <= 500, took
    visitor.open(f"/desk/queue/?q={case.number}")
    page.wait_for_url(f"**{case.path}")


# --- Q6: many at once -------------------------------------------------------------------------------------------------


def test_cases_are_tagged_together_by_keyboard(team: Team, trio: list[str], sign_in: SignIn):
    """Q6.1: the confirmation states count and amount and asks the reason; confirmed fraud is not offered."""
    visitor = sign_in(team.ada)
    page = at_the_queue(visitor)
    two = numbers(page)[:2]
    for key in ("x", "j", "x"):
        page.keyboard.press(key)
    bar = page.get_by_test_id("bulk-bar")
    expect(bar).to_contain_text("2 selected")
    expect(bar).to_contain_text("240.00 EUR")
    page.get_by_test_id("bulk-more").click()
    assert "fraud" not in bar.inner_text().lower()
    assert bar.get_by_test_id("bulk-legitimate").count() == 0, "closing many is for those who lead"
    page.get_by_test_id("bulk-tag").click()
    sheet = page.get_by_test_id("sheet")
    expect(sheet).to_contain_text("Tag 2 cases")
    expect(page.get_by_test_id("bulk-told")).to_contain_text("240.00 EUR in 2 alerts of 2 cases")
    visitor.shot("queue-bulk")
    page.locator("#bulk-add").fill("browser")
    page.get_by_test_id("bulk-reason").fill("short")
    page.get_by_test_id("bulk-reason").press("Control+Enter")
    expect(sheet).to_contain_text("Needs 10 characters")
    page.get_by_test_id("bulk-reason").fill("Found together in a test.")
    page.get_by_test_id("bulk-reason").press("Control+Enter")
    expect(page.get_by_test_id("bulk-result")).to_contain_text("2 tagged")
    visitor.open("/desk/queue/?tag=browser")
    assert set(numbers(page)) == set(two)


def test_many_are_given_to_a_colleague_and_each_history_says_so(
    team: Team, trio: list[str], sign_in: SignIn, inside: Inside
):
    """Q6.2: after a bulk assign the history of each case shows the change."""
    lena = sign_in(team.lena)
    page = at_the_queue(lena)
    page.get_by_label("Select this page").check()
    expect(page.get_by_test_id("bulk-bar")).to_contain_text("3 selected")
    page.keyboard.press("a")
    page.locator("#bulk-to").select_option(label=f"Bo {team.land.title()}")
    page.get_by_test_id("bulk-reason").fill("The late shift takes over.")
    page.get_by_test_id("bulk-submit").click()
    expect(page.get_by_test_id("bulk-result")).to_contain_text("3 assigned")
    for number in trio:
        assert inside(deeds.state, case=int(number[2:]))["assignee"] == team.bo
        lena.open(f"/desk/cases/{number[2:]}/")
        told = history(page)
        assert "Assigned" in told and "The late shift takes over." in told


def test_what_cannot_be_done_is_skipped_and_told_with_its_cause(
    team: Team, trio: list[str], sign_in: SignIn, inside: Inside
):
    """Q6.4: the result lists the skipped cases: locked by a colleague, closed meanwhile."""
    ada, bo = sign_in(team.ada), sign_in(team.bo)
    free, locked, closed = (int(number[2:]) for number in trio)
    page = at_the_queue(bo)
    page.get_by_label("Select this page").check()
    ada.open(f"/desk/cases/{closed}/")
    claim(ada.page)
    decide(ada.page, "l")
    expect(ada.page.get_by_test_id("case-status")).to_contain_text("Closed")
    ada.open(f"/desk/cases/{locked}/")
    claim(ada.page)
    page.keyboard.press("s")
    told = page.get_by_test_id("bulk-told")
    expect(told).to_contain_text("360.00 EUR in 3 alerts of 3 cases")
    expect(told).to_contain_text("1 closed, 1 in use by Ada")
    page.get_by_test_id("bulk-reason").fill("Nobody picks up the phone.")
    page.get_by_test_id("bulk-submit").click()
    expect(page.get_by_test_id("bulk-result")).to_contain_text("1 snoozed, 2 skipped")
    skipped = page.get_by_test_id("bulk-skipped").locator("tbody tr")
    expect(skipped.filter(has_text=f"C-{locked}")).to_contain_text("has this case")
    expect(skipped.filter(has_text=f"C-{closed}")).to_contain_text("closed")
    assert inside(deeds.state, case=free)["status"] == "waiting"


def test_all_that_match_can_be_selected_beyond_the_page(crowd: Team, sign_in: SignIn):
    """Q6.5: rows, the page, or all that match, with their count and amount."""
    page = at_the_queue(sign_in(crowd.ada))
    page.get_by_label("Select this page").check()
    bar = page.get_by_test_id("bulk-bar")
    expect(bar).to_contain_text("50 selected")
    page.get_by_test_id("bulk-all").click()
    expect(bar).to_contain_text(f"{FULL} selected")
    expect(bar).to_contain_text(f"{FULL * 120:,}.00 EUR")
    page.get_by_label("Clear the selection").click()
    expect(bar).to_be_hidden()


def test_closing_many_as_legitimate_is_for_who_leads_and_waits_for_a_second_person(
    team: Team, trio: list[str], sign_in: SignIn, inside: Inside
):
    """Q6.3: only with the right, at most 100 cases, and never at once: a second person approves."""
    ada, lena = sign_in(team.ada, QUEUE), sign_in(team.lena)
    ids = [number[2:] for number in trio]
    assert ada.page.request.get(f"{team.desk.url}/desk/queue/bulk/?act=legitimate&case={ids[0]}").status == 409
    page = at_the_queue(lena)
    page.get_by_label("Select this page").check()
    page.get_by_test_id("bulk-legitimate").click()
    expect(page.get_by_test_id("sheet")).to_contain_text("Close 3 cases as legitimate")
    page.locator("#bulk-close-reason").select_option("LG-01")
    page.get_by_test_id("bulk-reason").fill("All three were called and knew.")
    page.get_by_test_id("bulk-submit").click()
    expect(page.get_by_test_id("bulk-result")).to_contain_text("A second person has to approve")
    assert {inside(deeds.state, case=int(each))["status"] for each in ids} == {"new"}


# --- Q7: the preview --------------------------------------------------------------------------------------------------


def test_the_preview_leaves_place_and_focus(team: Team, trio: list[str], sign_in: SignIn):
    """Q7: by Space or a click, with facts, reasons and the last 5 transactions; the list keeps place and focus."""
    page = at_the_queue(sign_in(team.ada))
    assert current(page) == numbers(page)[0]
    page.keyboard.press("j")
    second, focused = current(page), page.evaluate("document.activeElement.tagName")
    page.keyboard.press("Space")
    preview = page.get_by_test_id("preview")
    expect(preview).to_contain_text(f"{second}")
    expect(preview.get_by_test_id("preview-reasons")).to_be_visible()
    expect(preview.get_by_label("Facts")).to_contain_text("At risk")
    assert preview.get_by_test_id("preview-payments").locator("li").count() <= 5
    assert (current(page), page.evaluate("document.activeElement.tagName")) == (second, focused)
    page.keyboard.press("k")
    expect(preview).to_contain_text(numbers(page)[0])
    page.locator("[data-testid=queue-table] tbody tr").nth(2).locator(".c-reason").click()
    expect(preview).to_contain_text(numbers(page)[2])
    page.keyboard.press("Escape")
    expect(preview).to_be_hidden()


def test_a_case_is_made_ones_own_without_leaving_the_list(team: Team, trio: list[str], sign_in: SignIn):
    """K1: A gives the row to oneself; the row stays the keyboard's."""
    page = at_the_queue(sign_in(team.ada), "/desk/queue/?status=new&assignee=none")
    number = current(page)
    page.keyboard.press("a")
    row = page.locator(f"tr[data-case={number}]")
    expect(row.locator(".c-who")).to_have_attribute("title", "Ada " + team.land.title())
    expect(row).to_have_class(re.compile("is-current"))
    assert "/desk/queue/" in page.url


# --- Q8: due times ----------------------------------------------------------------------------------------------------


def test_what_is_left_of_the_time_is_said_in_words_and_a_breach_counts_once(
    team: Team, trio: list[str], sign_in: SignIn, inside: Inside
):
    """Q8: "2 h left", "late 35 min", never by colour alone; a breach writes one event and shows on the lead board."""
    ids = [int(number[2:]) for number in trio]
    for case, minutes in zip(ids, (125, 20, -35), strict=True):
        inside(deeds.due_in, case=case, minutes=minutes)
    page = sign_in(team.ada, QUEUE).page
    words: dict[str, Any] = {trio[0]: r"2 h 0\d left", trio[1]: r"(19|20) min left", trio[2]: r"late 3[5-6] min"}
    for number, said in words.items():
        expect(page.locator(f"tr[data-case={number}] .c-due")).to_have_text(re.compile(said))
    expect(page.locator(f"tr[data-case={trio[2]}] .c-due svg")).to_be_visible()
    inside(deeds.note_breaches)
    inside(deeds.note_breaches)
    assert inside(deeds.events, case=ids[2]).count("overdue") == 1
    board = sign_in(team.lena, "/desk/board/").page.get_by_test_id("board-backlog")
    expect(board.locator("tbody tr").first.locator(".d-due--late")).to_have_text("1")
