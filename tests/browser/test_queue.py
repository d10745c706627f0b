"""The queue in an investigator’s hands: rows that wait to be shown, the next case by one key, preview, many at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_closed_loop import case_of, eventually, post
from tests.payments import steered
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
QUEUE = "/desk/queue/?sort=priority"
EACH = 20


@pytest.fixture
def some_cases(running_desk: RunningDesk) -> list[int]:
    """Three fresh cases, each of a customer of its own."""
    ids = [post(running_desk, steered("queue"))["id"] for _ in range(3)]
    return [eventually(partial(case_of, running_desk, each)) for each in ids]


def at_the_queue(visitor: Visitor, address: str = QUEUE) -> Page:
    """The queue, its socket open."""
    visitor.open(address)
    expect(visitor.page.get_by_test_id("live-state").first).to_contain_text("Live")
    return visitor.page


def numbers(page: Page) -> list[str]:
    return page.eval_on_selector_all("[data-testid=queue-table] tbody tr", "rows => rows.map(row => row.dataset.case)")


def current(page: Page) -> str | None:
    return page.locator("[data-testid=queue-table] tr.is-current").get_attribute("data-case")


def test_new_rows_wait_until_they_are_asked_for(running_desk: RunningDesk, sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"))
    before = numbers(page)
    answer = post(running_desk, steered("banner"))
    banner = page.get_by_test_id("live-banner")
    expect(banner).to_contain_text("1 new", timeout=2000)
    assert banner.get_attribute("aria-live") == "polite"
    number = f"C-{eventually(lambda: case_of(running_desk, answer['id']))}"
    assert numbers(page) == before
    page.keyboard.press("r")
    expect(page.locator(f"tr[data-case={number}]")).to_be_visible()
    expect(page.locator(f"tr[data-case={number}]")).to_have_class(re.compile("is-fresh"))
    expect(banner).to_be_hidden()


def test_the_banner_speaks_at_most_once_a_second(sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"))
    spoken = page.evaluate(
        """() => new Promise((done) => {
          let changes = 0, seq = 10 ** 12;
          const words = document.querySelector('[data-fresh-words]');
          new MutationObserver(() => { changes += 1; }).observe(words, { childList: true, characterData: true });
          const timer = setInterval(() => document.dispatchEvent(new CustomEvent('desk:message', {
            detail: { type: 'alerts', lane: 1, alerts: [{ seq: seq += 1, severity: 2 }] } })), 20);
          setTimeout(() => { clearInterval(timer); done([changes, words.textContent]); }, 3300);
        })"""
    )
    assert 3 <= spoken[0] <= 4
    assert re.match(r"1\d\d new", spoken[1])


def test_two_people_pressing_n_twenty_times_get_forty_cases(running_desk: RunningDesk, sign_in: SignIn):
    ids = [post(running_desk, steered("next"))["id"] for _ in range(2 * EACH)]
    for each in ids:
        eventually(partial(case_of, running_desk, each))
    pages = [at_the_queue(sign_in(name)) for name in ("investigator", "investigator2")]
    taken: list[str] = []
    for _ in range(EACH):
        for page in pages:
            page.keyboard.press("n")
        for page in pages:
            page.wait_for_url(lambda url: "/desk/cases/" in url and url.split("#")[0] not in taken)
            taken.append(page.url.split("#")[0])
    assert len(set(taken)) == 2 * EACH


def test_the_preview_leaves_place_and_focus(sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"))
    assert current(page) == numbers(page)[0]
    page.keyboard.press("j")
    second, focused = current(page), page.evaluate("document.activeElement.tagName")
    page.keyboard.press("Space")
    preview = page.get_by_test_id("preview")
    expect(preview).to_contain_text(f"{second}")
    expect(preview.get_by_test_id("preview-reasons")).to_be_visible()
    assert preview.get_by_test_id("preview-payments").locator("li").count() <= 5
    assert (current(page), page.evaluate("document.activeElement.tagName")) == (second, focused)
    page.keyboard.press("k")
    expect(preview).to_contain_text(numbers(page)[0])
    page.locator("[data-testid=queue-table] tbody tr").nth(2).locator(".c-reason").click()
    expect(preview).to_contain_text(numbers(page)[2])
    page.keyboard.press("Escape")
    expect(preview).to_be_hidden()


def test_cases_are_tagged_together_by_keyboard(sign_in: SignIn, some_cases: list[int]):
    visitor = sign_in("investigator")
    page = at_the_queue(visitor)
    two = numbers(page)[:2]
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    bar = page.get_by_test_id("bulk-bar")
    expect(bar).to_contain_text("2 selected")
    assert "fraud" not in bar.inner_text().lower()
    visitor.shot("queue-selected")
    page.get_by_test_id("bulk-more").click()
    page.get_by_test_id("bulk-tag").click()
    sheet = page.get_by_test_id("sheet")
    expect(sheet).to_contain_text("Tag 2 cases")
    visitor.shot("queue-bulk")
    page.locator("#bulk-add").fill("browser")
    page.get_by_test_id("bulk-reason").fill("short")
    page.get_by_test_id("bulk-reason").press("Control+Enter")
    expect(sheet).to_contain_text("Needs 10 characters")
    page.get_by_test_id("bulk-reason").fill("Found together in a test.")
    page.get_by_test_id("bulk-reason").press("Control+Enter")
    expect(page.get_by_test_id("bulk-result")).to_contain_text("2 tagged")
    page = at_the_queue(visitor, "/desk/queue/?tag=browser")
    assert set(two) <= set(numbers(page))


def test_a_case_is_made_ones_own_without_leaving_the_list(sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"), "/desk/queue/?status=new&assignee=none")
    number = current(page)
    page.keyboard.press("a")
    row = page.locator(f"tr[data-case={number}]")
    expect(row.locator(".c-who")).to_have_attribute("title", "Ines Verbeek")
    expect(row).to_have_class(re.compile("is-current"))
    assert "/desk/queue/" in page.url


def test_filters_stand_in_the_address_and_are_kept_as_a_view(sign_in: SignIn, some_cases: list[int]):
    visitor = sign_in("investigator")
    page = at_the_queue(visitor)
    page.get_by_test_id("filter-open").click()
    visitor.shot("queue-filters")
    page.get_by_label("Score from").fill("1")
    page.locator("#f-due").select_option("today")
    page.get_by_test_id("filter-apply").click()
    page.wait_for_url(re.compile(r"score_from=1"))
    assert "score_to" not in page.url
    expect(page.get_by_test_id("filters")).to_contain_text("Score")
    page.get_by_test_id("save-view").click()
    page.get_by_test_id("view-name").fill("Due today")
    page.get_by_test_id("view-name").press("Control+Enter")
    view = page.get_by_test_id("views").get_by_role("link", name=re.compile("Due today"))
    expect(view).to_have_attribute("aria-current", "true")
    expect(view.locator(".d-count")).to_have_text(re.compile(r"^\d+\+?$"))
    page.get_by_role("link", name=re.compile("Remove the filter: Score")).click()
    page.wait_for_url(lambda url: "score_from" not in url)


def test_columns_that_sort_say_so_and_the_order_stands_in_the_address(sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"))
    for header in page.locator("[data-testid=queue-table] thead th:has(a)").all():
        assert header.get_attribute("aria-sort") in ("ascending", "descending", "none")
    page.get_by_role("link", name="Score", exact=True).click()
    page.wait_for_url(re.compile("sort=-score"))
    assert page.locator("th.c-score").get_attribute("aria-sort") == "descending"
    rows = numbers(page)
    page.reload()
    assert numbers(page) == rows


def test_a_search_answers_within_half_a_second(sign_in: SignIn, some_cases: list[int]):
    page = at_the_queue(sign_in("investigator"))
    took = page.evaluate(
        """async () => { const all = [];
          for (const text of ['4242', 'order-1', 'cus-queue-1', '123456', 'C-1', '4243', 'cus-2', '77', '9999', 'x']) {
            const at = performance.now();
            await fetch('/desk/queue/?q=' + text, { headers: { 'X-Requested-With': 'desk' } });
            all.push(performance.now() - at); }
          return all.sort((a, b) => a - b)[8]; }"""
    )
    assert took <= 500
