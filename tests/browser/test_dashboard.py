"""The dashboards in a browser: tabs and range in the address, figures that lead to their rows, tables to take along."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor

pytestmark = pytest.mark.slow
TABS = ("overview", "fraud", "customers", "rules", "model", "desk")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1440])
def test_every_dashboard_is_drawn_without_sideways_scroll(
    sign_in: Callable[..., Visitor], theme: str, width: int
) -> None:
    lead = sign_in("lead", color_scheme=theme)
    lead.page.set_viewport_size({"width": width, "height": 900})
    for tab in TABS:
        lead.open("/desk/" if tab == "overview" else f"/desk/dashboard/{tab}/")
        lead.page.get_by_test_id(f"dashboard-{tab}").wait_for()
        lead.shot(f"dashboard-{tab}-{width}-{theme}")
        wide, seen = lead.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= seen, tab


def test_tabs_and_range_are_in_the_address(sign_in: Callable[..., Visitor]) -> None:
    lead = sign_in("lead")
    lead.page.get_by_test_id("range-30d").click()
    expect(lead.page).to_have_url(re.compile("range=30d"))
    lead.page.get_by_test_id("tab-desk").click()
    expect(lead.page).to_have_url(re.compile(r"/dashboard/desk/\?range=30d"))
    expect(lead.page.get_by_test_id("range-30d")).to_have_attribute("aria-current", "true")
    lead.page.get_by_test_id("range-custom").click()
    lead.page.get_by_label("First day").fill("2026-11-01")
    lead.page.get_by_label("Last day").fill("2026-11-03")
    lead.page.get_by_role("button", name="Show", exact=True).click()
    expect(lead.page).to_have_url(re.compile("since=2026-11-01&until=2026-11-03"))
    expect(lead.page.get_by_test_id("dashboard-desk")).to_contain_text("1 Nov 2026 to 3 Nov 2026")


def test_every_formula_is_reached_by_keyboard(sign_in: Callable[..., Visitor]) -> None:
    lead = sign_in("lead")
    lead.open("/desk/dashboard/desk/")
    for tip in lead.page.locator("[data-testid=dashboard-desk] .d-tip:visible").all():
        tip.focus()
        expect(tip).to_be_focused()
        assert len((tip.get_attribute("aria-label") or "").removeprefix("Formula: ")) > 10


def test_a_figure_leads_to_its_rows_and_a_table_is_taken_as_csv(sign_in: Callable[..., Visitor]) -> None:
    lead = sign_in("lead")
    lead.open("/desk/dashboard/desk/?range=90d")
    with lead.page.expect_download() as download:
        lead.page.get_by_test_id("export-backlog").click()
    assert download.value.suggested_filename.startswith("desk-backlog-")
    lead.open("/desk/?range=90d")
    link = lead.page.locator("[data-testid=figure-stopped] a")
    link.click()
    expect(lead.page.get_by_test_id("dashboard-rows")).to_be_visible()


def test_a_chart_has_a_table_as_its_twin(sign_in: Callable[..., Visitor]) -> None:
    lead = sign_in("lead")
    plot = lead.page.get_by_test_id("plot-outcomes")
    plot.get_by_text("As a table").click()
    expect(plot.get_by_role("columnheader", name="Decline", exact=True)).to_be_visible()
