"""The dashboards in a browser: tabs and range in the address, figures that lead to their rows, tables to take along."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from fraudsite.measures import MEASURES
from tests.browser.conftest import Visitor

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
WITH_FORMULA = (
    *("touch", "handling", "decision", "rate", "false_positives", "rule_precision", "rule_share", "backlog"),
    *("inflow_ratio", "reopened", "disagreement", "contradicted", "blocked", "lost", "recovered", "wrongly_blocked"),
)
TABS = ("overview", "fraud", "customers", "rules", "model", "desk")


def test_every_dashboard_is_drawn_without_sideways_scroll(sign_in: SignIn) -> None:
    lead, wide = sign_in("lead"), []
    for tab in TABS:
        lead.open("/desk/" if tab == "overview" else f"/desk/dashboard/{tab}/")
        lead.page.get_by_test_id(f"dashboard-{tab}").wait_for()
        for width in (1440, 1280):
            lead.page.set_viewport_size({"width": width, "height": 900})
            needed = lead.page.evaluate("document.documentElement.scrollWidth")
            wide += [(tab, width, needed)] if needed > width else []
            lead.shot(f"dashboard-{tab}-{width}")
    assert wide == []


def test_tabs_and_range_are_in_the_address(sign_in: SignIn) -> None:
    lead = sign_in("lead", "/desk/")
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


def test_every_measure_has_its_formula_and_the_keyboard_reaches_it(sign_in: SignIn) -> None:
    """M1: the measures of the desk, each with its formula in a tooltip."""
    lead, told = sign_in("lead"), set()
    for tab in ("desk", "rules", "overview", "fraud"):
        lead.open("/desk/" if tab == "overview" else f"/desk/dashboard/{tab}/")
        lead.page.evaluate("for (const part of document.querySelectorAll('main details')) part.open = true")
        for tip in lead.page.locator(f"[data-testid=dashboard-{tab}] .d-tip:visible").all():
            tip.focus()
            expect(tip).to_be_focused()
            told.add((tip.get_attribute("aria-label") or "").removeprefix("Formula: "))
    assert [key for key in WITH_FORMULA if MEASURES[key].formula not in told] == []


def test_a_figure_leads_to_its_rows_and_a_table_is_taken_as_csv(sign_in: SignIn) -> None:
    lead = sign_in("lead", "/desk/dashboard/desk/?range=90d")
    with lead.page.expect_download() as download:
        lead.page.get_by_test_id("export-backlog").click()
    assert download.value.suggested_filename.startswith("desk-backlog-")
    lead.open("/desk/?range=90d")
    link = lead.page.locator("[data-testid=figure-stopped] a")
    link.click()
    expect(lead.page.get_by_test_id("dashboard-rows")).to_be_visible()


def test_a_chart_has_a_table_as_its_twin(sign_in: SignIn) -> None:
    lead = sign_in("lead", "/desk/")
    plot = lead.page.get_by_test_id("plot-outcomes")
    plot.get_by_text("As a table").click()
    expect(plot.get_by_role("columnheader", name="Decline", exact=True)).to_be_visible()
