"""Places of a study in metres: one local projection, so that distances are never in degrees."""

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import DataError

FARTHEST_KM = 5000.0


def local_metres(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Easting and northing round the middle of a study, azimuthal equidistant on WGS 84.

    Distances from the middle are exact. Between two places at angle c from it they are true to a
    factor between 1 and c/sin(c): 1.001 at 500 km, 1.004 at 1,000 km, 1.11 at 5,000 km. They are
    never too short.

    Parameters
    ----------
    longitude, latitude : (n,) array
        Degrees; the study may lie across the antimeridian.

    Returns
    -------
    (n, 2) array
        Easting and northing in metres.

    Raises
    ------
    DataError
        A place that is none, or places so far apart that no plane holds them.
    """
    from pyproj import Transformer

    outside = ~((np.abs(longitude) <= 360) & (np.abs(latitude) <= 90))
    if outside.any() or not len(longitude):
        first = int(np.argmax(outside)) if len(longitude) else None
        raise DataError(
            f"{int(outside.sum())} of {len(longitude)} places have no longitude and latitude in"
            f" degrees (first: row {first}). Give each a point in EPSG:4326, or leave them out.",
            n=int(outside.sum()),
        )
    middle = _middle(longitude, latitude)
    if middle is None:
        raise DataError("The places lie all round the earth. Study each continent by itself.")
    local = f"+proj=aeqd +lon_0={middle[0]:.6f} +lat_0={middle[1]:.6f} +datum=WGS84 +units=m"
    to_local = Transformer.from_crs("EPSG:4326", local, always_xy=True)
    places = np.stack(to_local.transform(longitude, latitude), axis=1)
    farthest = float(np.hypot(places[:, 0], places[:, 1]).max()) / 1000
    if not farthest <= FARTHEST_KM:
        raise DataError(
            f"A place lies {farthest:,.0f} km from the middle of the study: beyond"
            f" {FARTHEST_KM:,.0f} km one plane stretches distances by more than 11 %. Study each"
            " continent by itself.",
            farthest_km=farthest,
        )
    return places


def _middle(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Longitude and latitude of the mean direction; None where the places have none."""
    east, north = np.radians(longitude), np.radians(latitude)
    vectors = [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)]
    x, y, z = (float(part.mean()) for part in vectors)
    if np.hypot(np.hypot(x, y), z) < 1e-6:
        return None
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
