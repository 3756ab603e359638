"""Which chips share ground, and how much of each pixel a polygon covers."""

import functools

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.ingest.targets import Targets, is_geographic, outline, wrapped

COLUMNS = ["unit_a", "unit_b", "share"]


def overlap_table(targets: Targets, unit_ids: NDArray[np.object_]) -> pd.DataFrame:
    """Pairs of units whose footprints overlap.

    Returns
    -------
    DataFrame
        unit_a, unit_b, and ``share``: the part of one footprint that lies in the other. Between
        two UTM zones it is measured on their bounds in the first one's zone.
    """
    width, height = targets.size[1] * targets.step[0], targets.size[0] * targets.step[1]
    parts = []
    for number, crs in enumerate(targets.crs):
        own = np.flatnonzero(targets.crs_index == number)
        near = own if len(targets.crs) == 1 else np.arange(len(targets))
        box = outline(targets.take(near), crs) if len(near) > len(own) else _bounds(targets, own)
        parts.append(_pairs(box, own, near, targets.crs_index, width, height))
    first, second, share = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((second, first))
    table = {"unit_a": unit_ids[first[order]], "unit_b": unit_ids[second[order]]}
    return pd.DataFrame({**table, "share": share[order]}, columns=COLUMNS)


def _bounds(targets: Targets, own: NDArray[np.intp]) -> NDArray[np.float64]:
    width, height = targets.size[1] * targets.step[0], targets.size[0] * targets.step[1]
    west, north = targets.west[own], targets.north[own]
    return np.stack([west, north - height, west + width, north], axis=1)


def _pairs(
    box: NDArray[np.float64],
    own: NDArray[np.intp],
    near: NDArray[np.intp],
    zone: NDArray[np.intp],
    width: float,
    height: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Overlapping pairs with the first in ``own``; pairs between zones are found in the lower."""
    from scipy.spatial import cKDTree

    finite = np.isfinite(box).all(axis=1)
    box, near = box[finite], near[finite]
    centre = np.stack(
        [(box[:, 0] + box[:, 2]) / 2 / width, (box[:, 1] + box[:, 3]) / 2 / height], 1
    )
    pairs = cKDTree(centre).query_pairs(1.5 if len(near) > len(own) else 1.0, p=np.inf,
                                        output_type="ndarray")  # fmt: skip
    one, other = box[pairs[:, 0]], box[pairs[:, 1]]
    across = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    down = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    first, second = near[pairs[:, 0]], near[pairs[:, 1]]
    meet = (across > 1e-6 * width) & (down > 1e-6 * height)
    home = zone[own[0]] if len(own) else -1
    meet &= np.minimum(zone[first], zone[second]) == home
    share = np.minimum(across * down / (width * height), 1.0)
    return first[meet], second[meet], share[meet]


def covered_fraction(
    places: geopandas.GeoDataFrame, targets: Targets
) -> NDArray[np.float32] | None:
    """(unit, y, x): share of each pixel inside the unit's polygon; None when all are points."""
    if (places.geometry.geom_type == "Point").all():
        return None
    import shapely
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    result = np.zeros((len(places), *targets.size), dtype=np.float32)
    for number, crs in enumerate(targets.crs):
        here = np.flatnonzero(targets.crs_index == number)
        shapes = places.geometry.iloc[here].to_crs(crs)
        for position, shape in zip(here, shapes, strict=True):
            west, north = targets.west[position], targets.north[position]
            if is_geographic(crs):
                shape = shapely.transform(shape, functools.partial(_beside, west=west))
            raster = NumPyRasterSource(
                np.zeros(targets.size), xmin=west, ymax=north,
                xmax=west + targets.size[1] * targets.step[0],
                ymin=north - targets.size[0] * targets.step[1], srs_wkt=crs,
            )  # fmt: skip
            one = geopandas.GeoDataFrame(geometry=[shape], crs=crs)
            found = exact_extract(raster, one, ["cell_id", "coverage"], output="pandas")
            if len(found):
                result[position].flat[found["cell_id"][0]] = found["coverage"][0]
    return result


def _beside(places: NDArray[np.float64], west: float) -> NDArray[np.float64]:
    """Corners of a polygon in degrees, on the same side of the antimeridian as a footprint."""
    return np.stack([wrapped(places[:, 0], west), places[:, 1]], axis=1)
