"""A scene: the files of one acquisition that together hold the wanted bands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.errors import CoverageError, DataError, GeorefError


@dataclass(frozen=True)
class SceneFile:
    """One file of a scene.

    Attributes
    ----------
    path : str
    bands : tuple of int
        Numbers in the file, from 1.
    positions : tuple of int
        Where they go on the band axis of the chips.
    """

    path: str
    bands: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """One acquisition.

    Attributes
    ----------
    item_id : str
    time : numpy datetime64
        Middle of the acquisition or period, UTC.
    end : numpy datetime64
        When the period ends; the time of the acquisition where it is none.
    product, baseline, offset_applied
        What its numbers mean (see :func:`eo_causal.ingest.products.find_product`).
    crs : str
        WKT.
    transform : 6 floats
        North up.
    shape : (int, int)
    files : tuple of SceneFile
    quality : SceneFile or None
        The file that says which pixels are usable.
    quality_band : str
        Name of its band.
    """

    item_id: str
    time: np.datetime64
    end: np.datetime64
    product: str
    baseline: str | None
    offset_applied: bool | None
    crs: str
    transform: tuple[float, ...]
    shape: tuple[int, int]
    files: tuple[SceneFile, ...]
    quality: SceneFile | None
    quality_band: str = ""


def scenes_of(catalog: pd.DataFrame, bands: tuple[str, ...] = ()) -> tuple[list[Scene], list[str]]:
    """Scenes of a catalog in the order of their ids, and the names of their bands.

    Parameters
    ----------
    catalog : DataFrame
        Of :func:`eo_causal.ingest.catalog.read_catalog`; rows whose status is not ok are left out.
    bands : tuple of str
        Which bands, in which order; those of the first scene by default.

    Raises
    ------
    CoverageError
        No usable scene.
    DataError
        A scene lacks a band or has it twice, has no date, or is no file on this computer.
    GeorefError
        Bands of one scene lie on different grids.
    """
    usable = catalog[catalog["status"] == "ok"]
    data = usable[usable["role"] == "data"]
    if data.empty:
        raise CoverageError(
            f"none of the {len(catalog)} rows of the catalog is a usable data band."
        )
    if not bands:
        first = data[data["item_id"] == data["item_id"].min()]
        bands = tuple(map(str, first["band"]))
    rows, masks = _by_item(data), _by_item(usable[usable["role"] == "quality"])
    scenes = [
        _scene(item_id, rows[item_id], masks.get(item_id, [None])[0], bands)
        for item_id in sorted(rows)
    ]
    return scenes, list(bands)


def _by_item(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Rows of each scene, in the order of the table; one pass, because there may be many."""
    items: dict[str, list[Any]] = {}
    for row in table.itertuples(index=False):
        items.setdefault(str(row.item_id), []).append(row)
    return items


def _scene(item_id: str, rows: list[Any], mask: Any, bands: tuple[str, ...]) -> Scene:
    found = {str(row.band): row for row in rows}
    missing = [band for band in bands if band not in found]
    if missing:
        raise DataError(
            f"{item_id}: lacks band {', '.join(missing)}; it has {', '.join(found)}. Choose others in"
            " bands.", item_id=item_id, missing=missing,
        )  # fmt: skip
    wanted = [found[band] for band in bands]
    first = wanted[0]
    if len({(row.href, row.band_index) for row in wanted}) < len(wanted) or len(found) < len(rows):
        raise DataError(
            f"{item_id}: some of the bands {', '.join(str(row.band) for row in rows)} are one and the"
            " same. Give each scene its own id, and each of its bands one name.", item_id=item_id,
        )  # fmt: skip
    if first.transform is None:
        raise DataError(
            f"{item_id}: {first.href} is no file on this computer. Download it.", item_id=item_id
        )
    if pd.isna(first.datetime):
        raise DataError(f"{item_id}: has no date. Give a pattern that finds it.", item_id=item_id)
    odd = next((row for row in wanted if not _same_grid(row, first)), None)
    if odd is not None:
        raise GeorefError(
            f"{item_id}: bands {first.band} and {odd.band} lie on different grids. Choose bands of one"
            " grid.", item_id=item_id,
        )  # fmt: skip
    start, end = first.datetime, first.datetime_end
    middle = start if pd.isna(end) else start + (end - start) / 2
    quality, quality_band = None, ""
    if mask is not None:
        quality = SceneFile(str(mask.href), (int(mask.band_index),), (0,))
        quality_band = str(mask.band)
    return Scene(
        item_id, np.datetime64(middle, "ns"), np.datetime64(start if pd.isna(end) else end, "ns"),
        str(first.product), _text(first.baseline),
        None if pd.isna(first.offset_applied) else bool(first.offset_applied), str(first.crs),
        tuple(map(float, first.transform)), (int(first.rows), int(first.columns)), _files(wanted),
        quality, quality_band,
    )  # fmt: skip


def _files(wanted: list[Any]) -> tuple[SceneFile, ...]:
    places: dict[str, list[tuple[int, int]]] = {}
    for position, row in enumerate(wanted):
        places.setdefault(str(row.href), []).append((int(row.band_index), position))
    return tuple(
        SceneFile(path, tuple(band for band, _ in pairs), tuple(place for _, place in pairs))
        for path, pairs in places.items()
    )


def _same_grid(row: Any, other: Any) -> bool:
    if (row.rows, row.columns) != (other.rows, other.columns):
        return False
    one, two = tuple(row.transform), tuple(other.transform)
    return one == two or bool(np.allclose(one, two, rtol=1e-9, atol=0))


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)
