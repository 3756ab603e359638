"""Wealth maps on disk: written in strips beside their calibration card, and read again for any trial."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.artefacts import sha256_file
from eo_causal.core.progress import count
from eo_causal.core.sources import InputFiles
from eo_causal.debias.card import CalibrationCard
from eo_causal.debias.card_files import read_card, write_card
from eo_causal.errors import CoverageError, DataError, IntegrityError

BANDS = ("prediction", "outcome_corrected", "std_error", "area_of_applicability")
USAGE = "averages only; not for targeting or ranking"
VALID_FOR = "contrasts in regime R1; see diagnose"
CARD, CARD_CURVES, FOLDS = "wealth_card.json", "wealth_card.nc", "wealth_folds.tif"
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class CorrectedMap:
    """A map with its card: all that a trial needs.

    Attributes
    ----------
    path : Path
        ``wealth.tif``; ``wealth_folds.tif`` and the card lie beside it.
    card : CalibrationCard
    tags : dict
        Of the file.
    """

    path: Path
    card: CalibrationCard
    tags: dict[str, str]

    @classmethod
    def open(cls, path: Path) -> "CorrectedMap":
        """Open a map and the card its tags name.

        Raises
        ------
        DataError
            The file is no map of this kind.
        IntegrityError
            The card, or the predictions of the folds, are not those the map was written with.
        """
        import rasterio

        with rasterio.open(path) as source:
            tags = dict(source.tags())
        if "card" not in tags:
            raise DataError(
                f"{path}: names no calibration card, so nothing can be corrected. Give a map that"
                " eo-causal wrote.", path=str(path),
            )  # fmt: skip
        card = read_card(path.with_name(tags["card"]), tags["card_sha256"])
        folds = path.with_name(FOLDS)
        if sha256_file(folds) != tags["folds_sha256"]:
            raise IntegrityError(
                f"{folds}: not the predictions that {path.name} was made of. Restore it, or make the"
                " map anew.", path=str(folds),
            )  # fmt: skip
        return cls(path, card, tags)


def wealth_at(found: CorrectedMap, places: geopandas.GeoDataFrame) -> pd.DataFrame:
    """What a map says at places: predictions of every model, bands 1, 2 and 4.

    Parameters
    ----------
    found : CorrectedMap
    places : GeoDataFrame
        ``unit_id``, points in EPSG:4326; a point reads the cell it lies in.

    Returns
    -------
    DataFrame
        ``unit_id``, ``fold_0``, ..., ``prediction``, ``outcome_corrected``, ``inside`` (the area of
        applicability), in the order of ``places``; NaN where the map is empty.

    Raises
    ------
    CoverageError
        Places beyond the map, or where it is empty.
    """
    import rasterio

    tables = []
    for path in (found.path, found.path.with_name(FOLDS)):
        with rasterio.open(path) as source:
            own = places.geometry.to_crs(source.crs)
            points = list(zip(own.x, own.y, strict=True))
            values = np.array(list(source.sample(points)), dtype=float)
            tables.append(pd.DataFrame(values, columns=source.descriptions))
    table = pd.concat(tables, axis=1).rename(columns={"area_of_applicability": "inside"})
    empty = table["prediction"].isna()
    if empty.any():
        first = places["unit_id"].to_numpy()[empty][0]
        raise CoverageError(
            f"{int(empty.sum())} of {len(places)} places lie where the map is empty (first: {first})."
            " Leave them out, or use a map that covers them.", n=int(empty.sum()),
        )  # fmt: skip
    count(places_read=len(table), places_outside_applicability=int((table["inside"] == 0).sum()))
    table.insert(0, "unit_id", places["unit_id"].to_numpy())
    return table.drop(columns="std_error")


def map_overview(
    path: Path, most_pixels: int
) -> tuple[NDArray[np.float32], tuple[float, float, float, float], bool]:
    """Bands (band, y, x) thinned to ``most_pixels`` a side; west, south, east, north; whether in metres."""
    import rasterio

    with rasterio.open(path) as source:
        step = max(1, -(-max(source.shape) // most_pixels))
        shape = (source.count, -(-source.height // step), -(-source.width // step))
        return source.read(out_shape=shape), tuple(source.bounds), source.crs.is_projected


def read_map_card(files: InputFiles) -> CalibrationCard:
    """The card of a map whose files (map, folds, card) are given, once all are those it names."""
    return CorrectedMap.open(_map_of(files)).card


def map_at(files: InputFiles, places: geopandas.GeoDataFrame) -> pd.DataFrame:
    """:func:`wealth_at` of the map among the files."""
    return wealth_at(CorrectedMap.open(_map_of(files)), places)


def _map_of(files: InputFiles) -> Path:
    return next(
        Path(name) for name in files.paths if Path(name).name not in (FOLDS, CARD, CARD_CURVES)
    )


def map_files(path: Path) -> list[Path]:
    """The files that belong to a map."""
    return [path, *(path.with_name(name) for name in (FOLDS, CARD, CARD_CURVES))]


def write_wealth_map(
    folder: Path,
    parts: list[xr.DataArray],
    card: CalibrationCard,
    threshold: float,
    *,
    run_id: str,
    units: str,
) -> dict[str, Any]:
    """Write ``wealth.tif``, ``wealth_folds.tif`` and the card.

    Parameters
    ----------
    folder : Path
    parts : list of DataArray (y, x, layer)
        Of :func:`eo_causal.ingest.cell_map.map_cells`, from the north; read strip by strip.
    card : CalibrationCard
    threshold : float
        Dissimilarity up to which a cell is inside the area of applicability.
    run_id, units : str
        Stored as tags.

    Returns
    -------
    dict
        ``n_cells``, ``n_mapped``, ``share_inside``, and the mean of prediction.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(name) for name in parts[0]["layer"].to_numpy()]
    models = [name for name in names if name.startswith("fold_")]
    folds = folder / FOLDS
    tags = {"run_id": run_id, "units": units, "software": "eo_causal"}
    _write(folds, parts, models, tags, lambda strip: strip[..., : len(models)], {})
    card_sha256 = write_card(card, folder / CARD)
    tags |= {
        "method": card.method, "sigma_source": card.sigma_source, "card": CARD,
        "card_sha256": card_sha256, "folds_sha256": sha256_file(folds), "usage": USAGE,
        "flags": json.dumps(list(card.flags)),
    }  # fmt: skip
    lower, upper = card.mean_support
    tally = {"cells": 0, "mapped": 0, "inside": 0, "total": 0.0}

    def layers(strip: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = strip.reshape(-1, strip.shape[-1])
        known = np.isfinite(flat).all(axis=1)
        result = np.full((len(flat), len(BANDS)), np.nan, dtype=np.float32)
        if known.any():
            predicted, unlike = flat[known, : len(models)].astype(float), flat[known, -1]
            best = recalibrated(card, predicted)
            raw = predicted.mean(axis=1)
            inside = (unlike <= threshold) & (raw >= lower) & (raw <= upper)
            result[known] = np.column_stack(
                [best, card.corrected(predicted), card.std_error(predicted), inside]
            )
            tally["inside"] += int(inside.sum())
            tally["total"] += float(best.sum())
        tally["cells"] += len(flat)
        tally["mapped"] += int(known.sum())
        return result.reshape(*strip.shape[:2], len(BANDS))

    _write(folder / "wealth.tif", parts, list(BANDS), tags, layers, {"valid_for": VALID_FOR})
    count(cells=int(tally["cells"]), cells_mapped=int(tally["mapped"]))
    mapped = max(int(tally["mapped"]), 1)
    return {
        "n_cells": int(tally["cells"]), "n_mapped": int(tally["mapped"]),
        "share_inside": tally["inside"] / mapped, "mean": tally["total"] / mapped,
    }  # fmt: skip


def recalibrated(card: CalibrationCard, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) best guess for a place: mean over models of a + b prediction, where the card recalibrates.

    Parameters
    ----------
    predicted : (n, model) array
    """
    a = card.folds["recalibration_intercept"].to_numpy(dtype=float)
    b = card.folds["recalibration_slope"].to_numpy(dtype=float)
    known = np.isfinite(a) & np.isfinite(b)
    return np.asarray((np.where(known, a, 0.0) + np.where(known, b, 1.0) * predicted).mean(axis=1))


def _write(
    path: Path,
    parts: list[xr.DataArray],
    names: list[str],
    tags: dict[str, str],
    layers_of: Any,
    tags_of_corrected: dict[str, str],
) -> None:
    """A COG, written strip by strip to a plain GeoTIFF beside it first."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    first, across, down = parts[0], parts[0].attrs["step"][0], parts[0].attrs["step"][1]
    projected = "northing" in first.coords
    vertical, horizontal = ("northing", "easting") if projected else ("latitude", "longitude")
    west = float(first[horizontal][0]) - across / 2
    north = float(first[vertical][0]) + down / 2
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": len(names), "crs": first.attrs["crs"],
        "height": sum(part.sizes["y"] for part in parts), "width": first.sizes["x"],
        "nodata": float("nan"), "transform": from_origin(west, north, across, down),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    plain = path.with_suffix(".strips.tif")
    with rasterio.Env(GDAL_PAM_ENABLED="NO"):
        with rasterio.open(plain, "w", **profile) as target:
            target.update_tags(**tags)
            for band, name in enumerate(names, start=1):
                target.set_band_description(band, name)
                target.set_band_unit(band, "1" if name == BANDS[3] else tags["units"])
            if tags_of_corrected:
                target.update_tags(2, **tags_of_corrected)
            for row, strip in _strips(parts):
                values = np.moveaxis(np.asarray(layers_of(strip), dtype=np.float32), -1, 0)
                window = ((row, row + values.shape[1]), (0, values.shape[2]))
                target.write(values, window=rasterio.windows.Window.from_slices(*window))
        copy(
            plain, path, driver="COG", compress="DEFLATE", predictor="YES", num_threads="1",
            overview_resampling="AVERAGE", blocksize=512,
        )  # fmt: skip
    plain.unlink()


def _strips(parts: list[xr.DataArray]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and values of strips of all parts, in order."""
    row = 0
    for part in parts:
        for start in range(0, part.sizes["y"], ROWS_AT_ONCE):
            strip = part.isel(y=slice(start, start + ROWS_AT_ONCE)).to_numpy()
            yield row, strip
            row += len(strip)
