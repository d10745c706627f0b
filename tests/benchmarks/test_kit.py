"""The benchmarks' own tools must be right, or every figure is wrong."""

import json
import multiprocessing
import os
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks import calibration, crowd, ground, report
from benchmarks.client import Address
from benchmarks.feeder import Sheets
from benchmarks.kit import medians, percentiles, table
from benchmarks.processes import Accounts
from transactions import codes, facts, schema


def test_percentiles_are_values_that_were_measured():
    assert percentiles(range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([0.003], 1000) == {"p50": 3, "p95": 3, "p99": 3, "max": 3}
    assert percentiles([])["p99"] is None


def test_medians_go_into_nested_figures():
    rows = [{"a": 1, "cpu": {"web": each}, "name": "x"} for each in (1.0, 9.0, 2.0)]
    assert medians(rows) == {"a": 1, "cpu": {"web": 2.0}, "name": "x"}


def test_a_table_aligns_its_columns():
    assert table([("web", 12.0), ("postgres", 3.25)], ("process", "MiB")).splitlines()[1:] == [
        "web         12",
        "postgres  3.25",
    ]


def test_a_process_is_charged_for_its_children_and_not_for_those_with_a_name_of_their_own():
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    child = multiprocessing.get_context("fork").Process(target=_burn, args=(ready, stop))
    both, alone = Accounts({"we": os.getpid()}), Accounts({"we": os.getpid()})
    child.start()
    try:
        named = Accounts({"we": os.getpid(), "child": child.pid or 0})
        assert ready.wait(20)
        used, together = named.used(), both.used()["we"]
        assert used["child"] >= 0.3
        assert together >= used["child"] > used["we"]
        assert named.memory("VmRSS")["child"] > 1
    finally:
        stop.set()
        child.join(20)
    assert alone.used()["we"] >= 0.3, "a child that ended is still paid for"


def _burn(ready, stop):
    while time.process_time() < 0.35:
        sum(range(10_000))
    ready.set()
    stop.wait(20)


@pytest.mark.parametrize(("name", "fields"), [("minimal", 8), ("full", 40)])
def test_the_payloads_have_the_fields_they_claim_and_are_taken_by_the_schema(name, fields):
    payload = crowd.Payload(name)
    assert payload.fields == fields
    picks, rng = crowd.draw(50, np.random.default_rng(1)), np.random.default_rng(2)
    sheet = payload.sheet(picks, rng)
    payload.stamp(sheet, 7, datetime(2026, 11, 20, 10, 59, 30, tzinfo=UTC), span=timedelta(minutes=49))
    now = datetime(2026, 11, 21, tzinfo=UTC)
    payments = [schema.decode(row.tobytes(), now=now) for row in sheet]
    assert len({payment.external_id for payment in payments}) == 50
    times = [payment.occurred_at for payment in payments]
    assert (times[0].minute, times[1] - times[0], times[-1] - times[0]) == (
        59,
        timedelta(minutes=1),
        timedelta(minutes=49),
    )
    assert [payment.amount.value for payment in payments] == picks.amount.tolist()
    assert payments[0].customer.id == f"cus-{picks.customer[0]:05}"


def test_what_is_filled_in_is_what_the_payload_would_have_become():
    from transactions.columns import columns_of

    payload, rng = crowd.Payload("full"), np.random.default_rng(3)
    picks = crowd.draw(20, rng)
    sheet = payload.sheet(picks, rng)
    payload.stamp(sheet, 0, datetime(2026, 11, 20, 10, tzinfo=UTC))
    sent = columns_of(
        [schema.decode(row.tobytes(), now=datetime(2026, 11, 21, tzinfo=UTC)) for row in sheet], base="EUR"
    )
    made = crowd.facts(picks, crowd.Keys(), "full")
    for name in ("customer", "account", "card", "merchant", "terminal", "device", "ip", "amount", "mcc", "channel"):
        assert (sent.facts[name] == made[name]).all(), name
    assert np.allclose(sent.facts["lat"], made["lat"]) and np.allclose(sent.facts["lon"], made["lon"])


def test_each_body_of_a_sheet_is_sent_as_new_payments_on_the_crowds_clock():
    clock = datetime(2026, 1, 1, tzinfo=UTC)
    sheets = Sheets.make("minimal", lines=10, count=1, connections=2, seed=1, clock=clock)
    first, second = ([json.loads(line) for line in sheets.next(shard).splitlines()] for shard in (0, 1))
    assert not {row["external_id"] for row in first} & {row["external_id"] for row in second}
    assert {int(row["customer"]["id"][4:]) % 2 for row in first} == {0}, "each connection has its own customers"
    step = [datetime.fromisoformat(rows[0]["occurred_at"]) for rows in (first, second)]
    assert timedelta(seconds=5) < step[1] - step[0] < timedelta(seconds=6)


def test_a_threshold_stops_the_share_that_was_asked_for():
    scores = np.arange(1000)
    assert (scores >= calibration.lowest(scores, 0.005)).mean() == pytest.approx(0.005)
    assert calibration.lowest(scores, 0.0) == 1000


def test_only_this_machine_is_spoken_to():
    assert Address.of("http://localhost:80/x?y=1", {}).path == "/x?y=1"
    with pytest.raises(SystemExit, match="this machine only"):
        Address.of("http://203.0.113.7/x", {})


def test_the_page_has_a_maker_for_each_of_its_tables(tmp_path):
    text = report.PAGE.read_text()
    assert {block[2] for block in report.BLOCK.finditer(text)} == report.TABLES.keys()
    (tmp_path / "nothing").mkdir()
    assert report.fill(text, report.Found(tmp_path / "nothing")) == text  # what was measured at other times stays
    row = {"per_second": 5, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "cpu_us": {"all": 10.0, "web": 10.0}}
    arms = {"minimal, 1 at once, judged": row | {"p50_to_kept": 1.1, "cpu_to_kept": 1.2}}
    (tmp_path / "decisions.json").write_text(json.dumps({"medians": arms}))
    filled = report.fill(text, report.Found(tmp_path))
    assert "1 / 2 / 3 ms, **5/s**" in filled
    assert report.fill(filled, report.Found(tmp_path)) == filled


def test_the_crowd_is_as_large_as_it_is_said_to_be():
    picks = crowd.draw(200_000, np.random.default_rng(1))
    assert (crowd.CUSTOMERS, crowd.MERCHANTS, crowd.DEVICES) == (50_000, 10_000, 60_000)
    assert len(np.unique(picks.customer)) > 48_000 and picks.device.max() >= 59_000
    assert codes.CURRENCY.code("EUR") == crowd.facts(picks, crowd.Keys(), "minimal")["currency"][0]
    assert facts.FACTS.names


def test_every_rule_of_the_benchmarks_speaks_of_features_there_are():
    assert ground.usable_rules() == list(ground.MORE_RULES)
