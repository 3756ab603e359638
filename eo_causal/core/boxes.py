"""How far two boxes in degrees lie apart."""

from eo_causal.core.settings import Bounds


def box_distance_km(first: Bounds, second: Bounds) -> float:
    """Shortest way between two boxes on WGS 84, km; 0 where they touch.

    Parameters
    ----------
    first, second : tuple
        West, south, east, north in degrees.
    """
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    latitudes = _nearest((first[1], first[3]), (second[1], second[3]))
    ways = []
    for turn in (-360, 0, 360):  # the shorter way may lead across the antimeridian
        longitudes = _nearest((first[0], first[2]), (second[0] + turn, second[2] + turn))
        ways.append(geod.inv(longitudes[0], latitudes[0], longitudes[1], latitudes[1])[2])
    return float(min(ways)) / 1000


def _nearest(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Nearest numbers of two ranges; of those shared, the one farthest from zero.

    Meridians are closest there.
    """
    if first[1] < second[0]:
        return first[1], second[0]
    if second[1] < first[0]:
        return first[0], second[1]
    shared = max(max(first[0], second[0]), min(first[1], second[1]), key=abs)
    return shared, shared
