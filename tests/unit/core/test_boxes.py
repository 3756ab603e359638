"""Distances between boxes, against degrees of known length."""

import pytest

from eo_causal.core.boxes import box_distance_km

BOX = (10.0, -1.0, 11.0, 1.0)
DEGREE = 111.319  # km along the equator


@pytest.mark.parametrize(
    ("other", "km"),
    [
        ((12, -1, 13, 0.0), DEGREE * 0.99986),  # nearest at latitude 1, where meridians are closer
        ((8, -1, 9, 1), DEGREE * 0.99986),
        ((10, 2, 11, 3), 110.576),  # one degree of latitude near the equator
        ((11, 1, 12, 2), 0),
        ((10.2, -0.5, 10.5, 0.5), 0),
    ],
)
def test_the_shortest_way_between_edges(other, km):
    assert box_distance_km(BOX, other) == pytest.approx(km, rel=1e-4, abs=1e-6)
    assert box_distance_km(other, BOX) == pytest.approx(km, rel=1e-4, abs=1e-6)


def test_the_shortest_way_may_cross_the_antimeridian():
    found = box_distance_km((178, 0, 179.5, 0.001), (-179.5, 0, -178, 0.001))
    assert found == pytest.approx(DEGREE, rel=1e-4)
