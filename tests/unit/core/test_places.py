"""Places in metres: distances as on the ellipsoid, and studies too wide for a plane refused."""

import numpy as np
import pytest
from pyproj import Geod

from eo_causal.core.places import local_metres
from eo_causal.errors import DataError

EARTH = Geod(ellps="WGS84")


def apart(places, one, other):
    return float(np.hypot(*(places[one] - places[other])))


@pytest.mark.parametrize("middle", [(8.0, 9.5), (-179.99, -17.0), (12.0, 78.0)])
def test_distances_of_a_country_are_those_on_the_ellipsoid(middle):
    random = np.random.default_rng(0)
    longitude = middle[0] + random.uniform(-3, 3, 40)
    latitude = middle[1] + random.uniform(-3, 3, 40)
    places = local_metres(longitude, latitude)
    for i in range(1, 40):
        truth = EARTH.inv(longitude[0], latitude[0], longitude[i], latitude[i])[2]
        assert apart(places, 0, i) == pytest.approx(truth, rel=1.5e-3)


def test_the_antimeridian_parts_nobody():
    places = local_metres(np.array([179.9, -179.9]), np.array([0.0, 0.0]))
    assert apart(places, 0, 1) == pytest.approx(22_264, rel=1e-3)


def test_east_and_north_are_the_columns():
    places = local_metres(np.array([30.0, 30.0, 31.0]), np.array([0.0, 1.0, 0.0]))
    assert places[1, 1] - places[0, 1] == pytest.approx(110_574, rel=1e-3)
    assert places[2, 0] - places[0, 0] == pytest.approx(111_320, rel=1e-3)
    assert abs(places[1, 0] - places[0, 0]) < 100


def test_a_continent_is_stretched_never_shrunk_and_less_than_told():
    random = np.random.default_rng(1)
    longitude, latitude = random.uniform(-15, 45, 60), random.uniform(-30, 32, 60)
    places = local_metres(longitude, latitude)
    ratio = []
    for i in range(60):
        for j in range(i):
            truth = EARTH.inv(longitude[i], latitude[i], longitude[j], latitude[j])[2]
            ratio.append(apart(places, i, j) / truth)
    assert 0.9999 < min(ratio) < max(ratio) < 1.11


def test_one_place_is_the_middle():
    np.testing.assert_allclose(local_metres(np.array([5.0]), np.array([50.0])), 0, atol=0.1)


def test_two_continents_are_refused():
    with pytest.raises(DataError, match=r"7,\d\d\d km.*each continent by itself"):
        local_metres(np.array([-70.0, 60.0]), np.array([0.0, 0.0]))
    with pytest.raises(DataError, match="all round the earth"):
        local_metres(np.array([-90.0, 90.0]), np.array([0.0, 0.0]))


def test_metres_and_missing_places_are_no_degrees():
    with pytest.raises(DataError, match=r"2 of 3 places .* row 1\)"):
        local_metres(np.array([1.0, np.nan, 500_000.0]), np.array([2.0, 1.0, 4_000_000.0]))
    with pytest.raises(DataError, match="0 of 0"):
        local_metres(np.array([]), np.array([]))
