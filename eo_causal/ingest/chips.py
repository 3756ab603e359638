"""Chips: a square of pixels through time around each place, cut in parallel and kept in Zarr."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import count, track
from eo_causal.core.storage import create_array, extend_array, read_value, write_value
from eo_causal.errors import CoverageError, DataError, ReadError
from eo_causal.ingest.chip_batch import Batch, BatchRecord, cut_batch
from eo_causal.ingest.chip_plan import ChipPlan, centres, plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.footprints import covered_fraction, overlap_table
from eo_causal.ingest.products import PRODUCTS, find_product
from eo_causal.ingest.quality import find_quality
from eo_causal.ingest.scene import Scene, scenes_of
from eo_causal.ingest.targets import is_geographic, short_crs

WAVE = 1000
METRES_A_DEGREE = 111_320.0


@dataclass(frozen=True)
class ChipSet:
    """Chips and the account of how they came to be.

    Attributes
    ----------
    chips : DataArray (unit, time, band, y, x) float32
        NaN = no value; lies on disk in blocks of units, in reading order: :func:`in_order` puts it
        in another. Coordinates ``unit_id``, ``image_key``, ``band``, ``datetime (unit, time)``
        (NaT = empty slot), ``datetime_end (unit, time)`` (of the last scene in it),
        ``fractional_year (unit, time)``, ``valid_fraction (unit, time)``,
        ``n_images (unit, time)``, ``unit_crs``, ``centre_easting``, ``centre_northing (unit)``,
        ``x`` and ``y`` (metres, or CRS units, from the middle of the chip).
    files : DataFrame
        One row a file: windows, reads, bytes, pixels masked by cause.
    failures : DataFrame
        One row a failed read: item_id, path, n_chips, reason.
    overlap : DataFrame
        Pairs of units whose chips share ground: unit_a, unit_b, share.
    """

    chips: xr.DataArray
    files: pd.DataFrame
    failures: pd.DataFrame
    overlap: pd.DataFrame


def cut_chips(
    catalog: pd.DataFrame,
    units: geopandas.GeoDataFrame,
    settings: ChipSettings,
    *,
    folder: Path,
) -> ChipSet:
    """Cut the chips of all units; one dask task a batch of neighbours, one chip an image key.

    Parameters
    ----------
    catalog : DataFrame
        Scenes, see :func:`eo_causal.ingest.catalog.read_catalog`.
    units : GeoDataFrame
        ``unit_id``, ``image_key``, geometry in EPSG:4326 (see
        :func:`eo_causal.ingest.units.read_units`).
    folder : Path
        Where the result is written, in the form of ``core.storage``.

    Raises
    ------
    CoverageError
        Places on no image, or without a usable date, or over the edge where that is an error.
    GeorefError
        Images of several grids with ``grid: native``.
    ReadError
        More reads failed than ``max_failed`` allows. As after any error, what lies in the folder
        is no result.
    DataError
        No usable scene; a scene whose quality band no rule can read, or that lacks one.
    """
    from dask.base import compute
    from dask.delayed import delayed

    scenes, bands = scenes_of(catalog, settings.bands)
    check_rules(scenes, settings)
    places = units.drop_duplicates("image_key", ignore_index=True)
    plan = plan_chips(places, scenes, len(bands), settings)
    store = folder / "chips"
    store.mkdir(parents=True)
    create_array(_template(plan, scenes, bands), store)
    cut = delayed(cut_batch, pure=False)
    jobs = (cut(batch, settings, str(store)) for batch in batches_of(plan, places, scenes, bands))
    records: list[BatchRecord] = []
    for wave in track(_waves(jobs), "cutting chips", -(-plan.n_batches // WAVE)):
        records += compute(*wave)
        failures = _failures(records, len(plan.pair_chip), settings)
    extend_array(_coordinates(plan, records, places, settings), store)
    kept = np.flatnonzero(~_unusable(plan, records, places, settings))
    _keep_units(store, kept, len(plan.positions))
    files = _file_table(records)
    _count(plan, records, scenes)
    ids = places["unit_id"].to_numpy()[plan.positions[kept]]
    overlap = overlap_table(plan.targets.take(kept), ids)
    for name, table in {"files": files, "failures": failures, "overlap": overlap}.items():
        (folder / name).mkdir()
        write_value(table, pd.DataFrame, folder / name)
    (folder / "value.json").write_text("{}")
    return ChipSet(read_value(xr.DataArray, store), files, failures, overlap)


def check_rules(scenes: list[Scene], settings: ChipSettings) -> None:
    """Every scene's numbers and quality codes have a known meaning, before any pixel is read."""
    for scene in scenes:
        find_product(scene.product, baseline=scene.baseline, offset_applied=scene.offset_applied)
        if scene.quality is not None:
            find_quality(settings.quality.rule, scene.quality_band, scene.product)
        elif settings.quality.rule is not None:
            raise DataError(
                f"{scene.item_id}: has no quality band for rule {settings.quality.rule}. Name it in"
                " data.quality_band, or leave quality.rule out.", item_id=scene.item_id,
            )  # fmt: skip


def in_order(chips: xr.DataArray, image_keys: Any) -> xr.DataArray:
    """Chips of the keys, in this order; the store keeps them in the order they were read.

    Raises
    ------
    CoverageError
        A key has no chip.
    """
    index = pd.Index(chips["image_key"].values.astype(str))
    positions = index.get_indexer(np.asarray(image_keys, dtype=str))
    missing = np.flatnonzero(positions < 0)
    if len(missing):
        raise CoverageError(
            f"{len(missing)} image keys have no chip (first: {np.asarray(image_keys)[missing[0]]}).",
            n_missing=len(missing),
        )
    return chips.isel(unit=positions)


def batches_of(
    plan: ChipPlan, places: geopandas.GeoDataFrame, scenes: list[Scene], bands: list[str]
) -> Iterator[Batch]:
    """The tasks of a plan, in the order of the store."""
    longitude = centres(places)[0][plan.positions]
    for start in range(0, len(plan.positions), plan.batch):
        end = min(start + plan.batch, len(plan.positions))
        pairs = slice(plan.starts[start], plan.starts[end])
        used, scene = np.unique(plan.pair_scene[pairs], return_inverse=True)
        yield Batch(
            start, plan.targets.take(np.arange(start, end)), longitude[start:end],
            plan.pair_chip[pairs] - start, scene, tuple(scenes[number] for number in used),
            len(bands), plan.n_slots, plan.periods,
        )  # fmt: skip


def _waves(jobs: Iterator[Any]) -> Iterator[list[Any]]:
    """Tasks in groups: a graph of hundreds of thousands stalls a scheduler."""
    wave = []
    for job in jobs:
        wave.append(job)
        if len(wave) == WAVE:
            yield wave
            wave = []
    if wave:
        yield wave


def _template(plan: ChipPlan, scenes: list[Scene], bands: list[str]) -> xr.DataArray:
    import dask.array as da

    height, width = plan.targets.size
    shape = (len(plan.positions), plan.n_slots, len(bands), height, width)
    chips = da.full(shape, np.nan, dtype=np.float32, chunks=(plan.chunk, *shape[1:]))
    across, down = plan.targets.step
    units = {PRODUCTS[scene.product].units for scene in scenes}
    products = sorted({scene.product for scene in scenes})
    return xr.DataArray(
        chips, dims=("unit", "time", "band", "y", "x"), name="chips",
        coords={
            "band": bands,
            "y": (height / 2 - 0.5 - np.arange(height)) * down,
            "x": (np.arange(width) + 0.5 - width / 2) * across,
        },
        attrs={
            "units": units.pop() if len(units) == 1 else "mixed", "product": ", ".join(products),
            "resolution": list(plan.targets.step),
        },
    )  # fmt: skip


def _coordinates(
    plan: ChipPlan,
    records: list[BatchRecord],
    places: geopandas.GeoDataFrame,
    settings: ChipSettings,
) -> xr.Dataset:
    """What is known of each unit and slot when all is read."""
    times = np.concatenate([record.times for record in records])
    easting, northing = plan.targets.centre
    own = places.iloc[plan.positions]
    names = np.array([short_crs(crs) for crs in plan.targets.crs])
    by_slot = ("unit", "time")
    coordinates: dict[str, Any] = {
        "unit_id": ("unit", own["unit_id"].to_numpy().astype(str)),
        "image_key": ("unit", own["image_key"].to_numpy().astype(str)),
        "unit_crs": ("unit", names[plan.targets.crs_index]),
        "centre_easting": ("unit", easting),
        "centre_northing": ("unit", northing),
        "datetime": (by_slot, times),
        "datetime_end": (by_slot, np.concatenate([record.ends for record in records])),
        "fractional_year": (by_slot, fractional_years(times)),
        "valid_fraction": (by_slot, np.concatenate([item.valid_fraction for item in records])),
        "n_images": (by_slot, np.concatenate([item.n_images for item in records])),
    }
    if plan.periods is not None:
        coordinates["time"] = ("time", plan.periods.to_numpy())
    inside = covered_fraction(places.iloc[plan.positions], plan.targets)
    if inside is not None:
        coordinates["inside"] = (("unit", "y", "x"), inside)
    attrs = {"largest_snap_pixels": plan.snap, "grid": settings.grid}
    return xr.Dataset(coords=coordinates, attrs=attrs)


def image_keys(chips: xr.DataArray) -> list[str]:
    """Keys of chips, in their order."""
    return list(map(str, chips["image_key"].to_numpy()))


def footprint_m(chips: xr.DataArray) -> float:
    """Width of a chip on the ground, the longer side; degrees are taken at the equator."""
    steps = chips.attrs.get("resolution") or [chips.attrs["resolution_m"]]
    width = max(chips.sizes["y"], chips.sizes["x"]) * max(map(float, steps))
    if "unit_crs" in chips.coords and is_geographic(str(chips["unit_crs"].to_numpy()[0])):
        return width * METRES_A_DEGREE
    return width


def fractional_years(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Year + (day of year - 1 + fraction of the day) / days of the year; NaT becomes NaN."""
    years = times.astype("datetime64[Y]")
    start = years.astype("datetime64[ns]")
    end = (years + np.timedelta64(1, "Y")).astype("datetime64[ns]")
    with np.errstate(invalid="ignore"):
        share = (times - start) / (end - start)
    number = np.where(np.isnat(times), np.nan, years.astype(np.int64) + 1970.0)
    return np.asarray(number + share, dtype=float)


def _failures(records: list[BatchRecord], n_pairs: int, settings: ChipSettings) -> pd.DataFrame:
    rows = [row for record in records for row in record.notes.failures]
    n_failed = sum(row["n_chips"] for row in rows)
    if n_failed > settings.max_failed * max(n_pairs, 1):
        raise ReadError(
            f"{n_failed:,} of {n_pairs:,} reads failed, more than max_failed ({settings.max_failed:g})"
            f" allows. First: {rows[0]['reason']}", n_failed=n_failed, failures=rows,
        )  # fmt: skip
    columns = ["item_id", "path", "n_chips", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"n_chips": "int64"})


def _unusable(
    plan: ChipPlan,
    records: list[BatchRecord],
    places: geopandas.GeoDataFrame,
    settings: ChipSettings,
) -> NDArray[np.bool_]:
    """Units to leave out, by what the settings say of empty ones and of the edge."""
    ids = places["unit_id"].to_numpy().astype(str)[plan.positions]
    over = np.zeros(len(ids), dtype=bool)
    if settings.edge != "keep":
        over = np.concatenate([record.on_image < 1 for record in records])
    if over.any() and settings.edge == "error":
        shown = ", ".join(sorted(ids[over])[:3])
        raise CoverageError(
            f"{int(over.sum()):,} of {len(ids):,} chips reach over the edge of all images (first:"
            f" {shown}). Make chips smaller, or say edge: keep or drop.", n_over=int(over.sum()),
        )  # fmt: skip
    empty = np.concatenate([np.isnat(record.times).all(axis=1) for record in records]) & ~over
    if empty.any() and settings.empty_unit == "error":
        shown = ", ".join(sorted(ids[empty])[:3])
        raise CoverageError(
            f"{int(empty.sum()):,} of {len(ids):,} units have no usable date (first: {shown}). Widen"
            " data.period, lower chips.min_valid_fraction, or say empty_unit: drop.",
            n_empty=int(empty.sum()),
        )  # fmt: skip
    count(units_empty=int(empty.sum()), units_over_the_edge=int(over.sum()))
    return empty | over


def _keep_units(store: Path, kept: NDArray[np.intp], n_units: int) -> None:
    """Write the store anew without the other units."""
    import shutil

    if len(kept) == n_units:
        return
    if len(kept) == 0:
        raise CoverageError("no unit is left: all are empty or over the edge. See chips.edge.")
    whole = store.with_name("all_chips")
    store.rename(whole)
    store.mkdir()
    write_value(read_value(xr.DataArray, whole).isel(unit=kept), xr.DataArray, store)
    shutil.rmtree(whole)


def _file_table(records: list[BatchRecord]) -> pd.DataFrame:
    total: dict[str, Counter[str]] = {}
    for record in records:
        for path, notes in record.notes.files.items():
            total.setdefault(path, Counter()).update(notes)
    causes = sorted({name for notes in total.values() for name in notes} - {"windows", "reads"})
    columns = ["windows", "reads", *causes]
    rows = [[Path(path).name, *(notes[name] for name in columns)] for path, notes in total.items()]
    table = pd.DataFrame(rows, columns=["file", *columns])
    return table.sort_values("file", ignore_index=True)


def _count(plan: ChipPlan, records: list[BatchRecord], scenes: list[Scene]) -> None:
    kept = sum(int((~np.isnat(record.times)).sum()) for record in records)
    count(
        units=len(plan.positions), scenes_used=len(np.unique(plan.pair_scene)),
        scenes_unused=len(scenes) - len(np.unique(plan.pair_scene)),
        reads=sum(notes["reads"] for record in records for notes in record.notes.files.values()),
        slots_used=kept, slots_empty=len(plan.positions) * plan.n_slots - kept,
        slots_emptied=sum(record.n_emptied for record in records),
        dates_beyond_max_slots=sum(record.n_dropped for record in records),
        reads_failed=sum(len(record.notes.failures) for record in records),
        units_off_all_images=int(plan.off.sum()),
    )  # fmt: skip


def chip_bearing(chips: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the middle of each chip, degrees."""
    from pyproj import Transformer

    easting, northing = chips["centre_easting"].values, chips["centre_northing"].values
    longitude, latitude = np.empty(len(easting)), np.empty(len(easting))
    names = chips["unit_crs"].values.astype(str)
    for crs in np.unique(names):
        here = names == crs
        transformer = Transformer.from_crs(str(crs), "EPSG:4326", always_xy=True)
        longitude[here], latitude[here] = transformer.transform(easting[here], northing[here])
    return longitude, latitude
