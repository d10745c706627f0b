"""Measures: each has a formula, and the pages show what the formula says of a handful of rows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from cases.models import Case, QualityReview
from fraudsite import worked
from fraudsite.dashboards import customers, fraud, overview, pages, rules, work
from fraudsite.figures import Span, Table, grained, interval, share, wilson
from fraudsite.measures import MEASURES
from tests.factories import LEAD, WORK, make_alert, make_case, make_queue, make_user
from tests.fraudsite.test_tallies import closed_case, judged, log, say

SPEC = (
    "touch",
    "handling",
    "decision",
    "rate",
    "false_positives",
    "rule_precision",
    "rule_share",
    "backlog",
    "inflow_ratio",
    "reopened",
    "disagreement",
    "contradicted",
    "blocked",
    "lost",
    "recovered",
    "wrongly_blocked",
)
READ = ("alerts.view_alert", "scoring.view_decision", "scoring.view_rule", "transactions.view_transaction")


def asked(rf, user, **query):
    request = rf.get("/desk/", query)
    request.user = user
    return request, Span.read(query)


def column(table: Table, title: str) -> list[str]:
    place = [each.title for each in table.columns].index(title)
    return [row[place].text for row in table.rows]


def cell(table: Table, title: str, row: int = 0):
    place = [each.title for each in table.columns].index(title)
    return table.rows[row][place]


def table_of(made: dict, key: str) -> Table:
    return next(each for each in [*made["tables"], *(plot.table for plot in made["plots"])] if each.key == key)


@pytest.mark.parametrize("key", SPEC)
def test_every_measure_of_the_desk_has_a_formula(key):
    assert len(MEASURES[key].formula) > 15
    assert MEASURES[key].name


def test_a_share_always_shows_its_counts():
    assert share(1, 4).note == "1 of 4"
    assert share(0, 0).text == "–"
    assert interval(9, 10).bar is not None


def test_an_interval_holds_the_share_and_stays_between_0_and_1():
    for part, whole in ((0, 5), (5, 5), (1, 100), (50, 100)):
        low, high = wilson(part, whole)
        assert 0 <= low <= part / whole <= high <= 1


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "days"), [("24h", 1), ("7d", 7), ("30d", 30), ("90d", 90), ("nonsense", 7)])
def test_a_range_is_read_from_the_address(key, days):
    span = Span.read({"range": key})
    assert timedelta(days=days - 1) < span.end - span.start <= timedelta(days=days, hours=1)
    assert span.end > timezone.now()
    assert key == "24h" or timezone.localtime(span.start).hour == 0


def test_own_days_are_both_included():
    span = Span.read({"since": "2026-11-01", "until": "2026-11-02"})
    assert span.end - span.start == timedelta(days=2)
    assert Span.read({"since": "2026-11-02", "until": "2026-11-01"}).key == "7d"


def test_a_range_is_read_as_days_with_hours_at_its_ends():
    span = Span.read({"range": "7d"})
    where, values = grained(span)
    assert "grain = 'd'" in where
    assert values[0] >= span.start and values[1] <= span.end


# --- what pages say ---------------------------------------------------------------------------------------------------


@pytest.fixture
def person(db):
    from tests.factories import make_close_reason

    make_close_reason()
    return make_user("ines", *WORK, *READ)


def test_the_desk_page_tells_each_measure(rf, person):
    for n, disposition in enumerate(("legitimate", "confirmed_fraud", "inconclusive")):
        closed_case(person, disposition, minutes=30 * (n + 1), customer=f"c{n}")
    make_case(make_alert("open"), queue=make_queue(person), opened_at=timezone.now() - timedelta(hours=30))
    worked.tally()
    made = work.build(*asked(rf, person, range="24h"))
    assert cell(table_of(made, "quality"), "False positives").note == "1 of 2"
    assert cell(table_of(made, "times"), "Due kept").note == "2 of 3"
    assert column(table_of(made, "backlog"), "1–3 d") == ["1"]
    assert column(table_of(made, "rates"), "Lease hours") == ["2.5"]
    assert column(table_of(made, "rates"), "Cases an hour") == ["1.2"]
    times = table_of(made, "times")
    assert (cell(times, "First touch p50").text, cell(times, "First touch p50").note) == ("10 min", "3")
    assert sum(int(n) for n in column(table_of(made, "flow"), "Closed")) == 3


def test_single_people_are_shown_to_leads_only(rf, person):
    closed_case(person)
    worked.tally()
    lead = make_user("maren", *LEAD, *READ)
    make_queue(lead)
    seen = {user: [t.key for t in work.build(*asked(rf, user, range="24h"))["tables"]] for user in (person, lead)}
    assert "people" not in seen[person]
    assert "people" in seen[lead]


def test_the_desk_page_counts_only_queues_of_the_person(rf, person):
    closed_case(person)
    worked.tally()
    stranger = make_user("stranger", *WORK)
    made = work.build(*asked(rf, stranger, range="24h"))
    assert all(not table.rows for table in made["tables"] if table.key in ("times", "quality", "backlog"))
    assert column(table_of(made, "outcomes"), "Closed") == ["–"] * 6


def test_reviews_of_the_range_give_the_disagreement(rf, person):
    cases = [closed_case(person, customer=f"c{n}") for n in range(2)]
    reviewer = make_user("tomas", *WORK)
    for case, finding in zip(cases, ("agree", "disagree"), strict=True):
        case.refresh_from_db()
        QualityReview.objects.create(
            case=case,
            queue=case.queue,
            decided_by=person,
            closed_at=case.closed_at,
            chosen_for="random",
            seed=0.1,
            reviewer=reviewer,
            finding=finding,
            reviewed_at=timezone.now(),
        )
    worked.tally()
    made = work.build(*asked(rf, person, range="24h"))
    assert cell(table_of(made, "quality"), "QA disagrees").note == "1 of 2"


def test_fraud_is_cut_by_channel_country_merchant_and_device(rf, person):
    first = judged("decline", 700, channel="atm", merchant="m-1", device="d-1", merchant_country="FR")
    second = judged("approve", 300, channel="ecommerce", merchant="m-2", device="d-1", merchant_country="DE")
    judged("approve", 100)
    say(first, "fraud")
    say(second, "fraud")
    worked.tally()
    made = fraud.build(*asked(rf, person, range="24h"))
    by_channel, by_device = table_of(made, "channel"), table_of(made, "device")
    assert column(by_channel, "Channel")[:2] == ["ATM", "Ecommerce"]
    assert column(by_channel, "Share of fraud")[:2] == ["70.0 %", "30.0 %"]
    assert column(by_device, "Fraud") == ["2"]
    assert column(by_device, "Caught") == ["70.0 %"]
    assert len(table_of(made, "merchant").rows) == 2
    assert column(table_of(made, "country"), "Place")[:2] == ["FR", "DE"]


def test_the_overview_counts_caught_missed_and_precision(rf, person):
    for outcome, amount, verdict in (
        ("decline", 700, "fraud"),
        ("approve", 300, "fraud"),
        ("review", 100, "legitimate"),
    ):
        say(judged(outcome, amount), verdict)
    worked.tally()
    made = overview.build(*asked(rf, person, range="24h"))
    figures = {each.measure.key: each for each in made["figures"]}
    assert figures["caught"].value == "70.0"
    assert figures["missed"].value == "3"
    assert (figures["alert_precision"].value, figures["alert_precision"].note) == ("50.0", "1 of 2 labelled")
    assert (figures["latency"].value, figures["latency"].unit) == ("9", "ms p50")
    assert sum(int(n) for n in column(table_of(made, "outcomes"), "Decline")) == 1


def test_customers_at_risk_come_held_first_with_their_open_case(rf, person):
    make_alert("calm", score=550, outcome="challenge")
    declined, held = make_alert("gone", score=990, outcome="decline"), make_alert("held", score=720, outcome="review")
    case = make_case(held, queue=make_queue(person))
    made = customers.build(*asked(rf, person))
    [table] = made["tables"]
    assert column(table, "Risk") == ["720", "990"]
    assert cell(table, "Open case").text == case.number
    assert cell(table, "Open case", 1).text == "none in your queues"
    assert str(declined.customer) in cell(table, "Customer", 1).href


def test_rules_page_without_hits_says_so(rf, person):
    made = rules.build(*asked(rf, person))
    assert made["tables"][0].rows == []


# --- the doors --------------------------------------------------------------------------------------------------------

ROLES = {
    "analyst": {"overview", "fraud", "customers", "rules", "desk"},
    "team_lead": {"overview", "fraud", "customers", "rules", "model", "desk"},
    "model_admin": {"overview", "fraud", "rules", "model"},
    "auditor": {"overview", "fraud", "customers", "rules", "model", "desk"},
    "platform_admin": {"overview"},
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_its_dashboards_and_no_other(client, db, role):
    from django.contrib.auth.models import Group

    from fraudsite.roles import seed_groups

    seed_groups()
    user = make_user(role)
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    for key in pages.DASHBOARDS:
        status = client.get("/desk/" if key == "overview" else f"/desk/dashboard/{key}/").status_code
        assert status == (200 if key in ROLES[role] else 403), key


@pytest.mark.parametrize("key", ["fraud", "customers", "rules", "desk"])
def test_a_page_asks_a_bounded_number_of_questions(client, person, key, django_assert_max_num_queries):
    for n in range(3):
        closed_case(person, customer=f"c{n}")
        say(judged("decline", 100, merchant=f"m{n}", device=f"d{n}"), "fraud")
    worked.tally()
    client.force_login(person)
    client.get("/desk/")
    with django_assert_max_num_queries(40):
        assert client.get(f"/desk/dashboard/{key}/?range=30d").status_code == 200


def test_the_payments_behind_a_figure_go_page_by_page(client, person, monkeypatch):
    from fraudsite.dashboards import payments

    monkeypatch.setattr(payments, "PAGE", 2)
    made = [judged("decline", 100 * n, channel="atm") for n in range(1, 6)]
    for payment in made:
        say(payment, "fraud")
    say(judged("approve", 100), "legitimate")
    worked.tally()
    client.force_login(person)
    address, seen = "/desk/dashboard/rows/?range=24h&verdict=fraud&channel=atm", []
    for _ in range(5):
        answer = client.get(address)
        seen += column(answer.context["tables"][0], "Payment")
        if not answer.context["more"]:
            break
        address = answer.context["more"]
    assert sorted(seen) == sorted(payment.external_id for payment in made)


@pytest.mark.parametrize("kind", ["alerts", "decisions", "labelled"])
def test_every_kind_of_row_can_be_listed(client, person, kind):
    alert = make_alert("cust", outcome="decline")
    log(alert.transaction)
    say(alert.transaction, "fraud")
    worked.tally()
    client.force_login(person)
    answer = client.get(f"/desk/dashboard/rows/?range=24h&kind={kind}&outcome=stopped")
    assert column(answer.context["tables"][0], "Payment") == [alert.transaction.external_id]
    assert Case.objects.count() == 0
