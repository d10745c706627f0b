"""Geometry of charts, by tables."""

import pytest

from alerts import charts


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (5, ["0", "2", "4", "6"]),
        (15, ["0", "5", "10", "15"]),
        (2400, ["0", "1k", "2k", "3k"]),
    ],
)
def test_the_grid_ends_at_a_round_number_not_below_the_most(most, labels):
    grid, top = charts.grid_to(most)
    assert [mark.text for mark in grid] == labels
    assert top >= most


def test_columns_stack_from_the_ground_without_overlap():
    chart = charts.stacked([{"review": 3, "decline": 2}], ["14:00"], ("challenge", "review", "decline"), every=1)
    low, high = chart.bars
    assert (low.series, high.series) == ("review", "decline")
    assert low.y + low.height == pytest.approx(chart.bottom - 1)
    assert high.y + high.height < low.y
    assert high.y >= charts.TOP


def test_everything_across_is_within_the_plot():
    names = [f"{hour:02}:00" for hour in range(24)]
    chart = charts.stacked([{"review": hour} for hour in range(24)], names, ("review",), every=4)
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 for bar in chart.bars)
    assert all(0 <= tick.at <= 100 for tick in chart.ticks)


def test_a_histogram_shows_one_beside_ten_thousand():
    chart = charts.histogram([10_000, 0, 1], ["a", "b", "c"], ["approve"] * 3, axis=["0", "50", "100"])
    many, one = chart.bars
    assert many.height == charts.PLOT
    assert one.height >= 2


def test_a_line_without_values_is_empty_and_flat_zeroes_lie_on_the_ground():
    assert charts.line([], [], every=1).line == ""
    assert charts.line([0, 0], ["a", "b"], every=1).line == "M0.00 100.0 L100.00 100.0"
