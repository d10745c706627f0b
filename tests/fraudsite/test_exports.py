"""Tables as CSV: plain numbers, shares with counts, nothing that a spreadsheet would run; who took one is kept."""

from __future__ import annotations

import csv
import io

import pytest

from cases.models import Sighting
from fraudsite import exports
from fraudsite.dashboards import pages
from fraudsite.figures import Cell, Column, Table, count, money, share, text
from tests.factories import make_case, make_queue, make_user


def parsed(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(exports.as_csv(table).removeprefix("\ufeff"))))


def table(*cells: Cell, columns: list[Column]) -> Table:
    return Table("t", "T", columns, [list(cells)])


def test_a_share_is_three_columns():
    found = parsed(
        table(text("Cards"), share(1, 3), columns=[Column("Queue"), Column("Kept", parts=("kept", "closed"))])
    )
    assert found == [["Queue", "Kept, %", "Kept: kept", "Kept: closed"], ["Cards", "33.33", "1", "3"]]


@pytest.mark.parametrize("text_", ["=1+1", "+49", "-cmd", "@sum", "\tx", "=HYPERLINK(1)"])
def test_what_a_spreadsheet_would_run_is_text(text_):
    assert parsed(table(Cell("x", text_), columns=[Column("A")]))[1][0].startswith("'")


def test_numbers_stay_numbers_and_amounts_lose_their_commas():
    found = parsed(table(count(1200), money(-123456, "EUR"), columns=[Column("N"), Column("EUR")]))
    assert found[1] == ["1200", "-1234.56"]


# --- the door ---------------------------------------------------------------------------------------------------------

READER = ("cases.view_case", "cases.work_case", "alerts.view_alert", "scoring.view_decision", "scoring.view_rule")


@pytest.mark.django_db
def test_an_export_is_written_down_with_table_and_range(client):
    user = make_user("ines", *READER)
    make_case(queue=make_queue(user))
    client.force_login(user)
    answer = client.get("/desk/dashboard/desk/export/backlog/?range=24h")
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    assert "Cards,1,0,0,0,0,1" in answer.content.decode()
    [seen] = Sighting.objects.filter(act="exported")
    assert (seen.actor, seen.data["table"], seen.data["range"]) == (user, "backlog", "range=24h")


@pytest.mark.django_db
def test_who_may_not_see_a_page_cannot_take_its_tables(client):
    client.force_login(make_user("stranger"))
    for found in pages.DASHBOARDS.values():
        expected = 404 if found.key == "overview" else 403
        assert client.get(f"/desk/dashboard/{found.key}/export/backlog/").status_code == expected
    assert client.get("/desk/dashboard/rows/?format=csv").status_code == 403
    assert not Sighting.objects.exists()


@pytest.mark.django_db
def test_a_table_that_is_not_shown_is_not_exported(client):
    client.force_login(make_user("ines", *READER))
    assert client.get("/desk/dashboard/desk/export/people/").status_code == 404
    assert client.get("/desk/dashboard/desk/export/nothing/").status_code == 404
