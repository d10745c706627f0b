"""The map of places: dots inside the drawing, round degrees, an honest scale."""

from datetime import UTC, datetime, timedelta

import pytest

from cases.places import HEIGHT, WIDTH, Place, distance_km, drawn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GENT, LISBON = (51.054, 3.717), (38.722, -9.139)


def place(n, at, spot):
    lat, lon = spot
    return Place(n, NOW - timedelta(hours=at), lat, lon, "1.00 EUR")


def map_of(places, chosen):
    found = drawn(places, chosen)
    assert found is not None
    return found


def test_nothing_to_draw_without_coordinates():
    assert drawn([], 1) is None


def test_dots_lie_inside_and_the_shown_payment_is_marked():
    found = map_of([place(3, 0, LISBON), place(2, 1, GENT), place(1, 2, GENT)], 3)
    assert [(len(dot.payments), dot.is_chosen) for dot in found.dots] == [(2, False), (1, True)]
    assert all(0 < dot.x < WIDTH and 0 < dot.y < HEIGHT for dot in found.dots)
    gent, lisbon = found.dots
    assert gent.x > lisbon.x and gent.y < lisbon.y
    assert found.way.startswith(f"M{gent.x} {gent.y}")
    assert "3 payments with coordinates at 2 places" in found.words


def test_the_way_is_measured_along_the_sphere():
    assert distance_km(place(1, 0, GENT), place(2, 0, LISBON)) == pytest.approx(1685, abs=15)


def test_grid_lines_are_round_degrees_with_their_hemisphere():
    found = map_of([place(2, 0, LISBON), place(1, 1, GENT)], 2)
    assert {line["text"] for line in found.parallels} >= {"40°N", "45°N", "50°N"}
    assert any(line["text"].endswith("W") for line in found.meridians)
    south = map_of([place(1, 0, (-33.9, 151.2))], 1)
    assert all(line["text"].endswith("S") for line in south.parallels)
    assert 0 < south.scale_width < WIDTH and south.scale_words.endswith(" km")


@pytest.mark.parametrize("spot", [(0.0, 0.0), (89.9, 179.9), (-89.9, -179.9), (51.0, 3.0)])
def test_one_place_alone_is_drawn_anywhere(spot):
    found = map_of([place(1, 0, spot)], 1)
    assert found.dots[0].is_chosen and not found.way
