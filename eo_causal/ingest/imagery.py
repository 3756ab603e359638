"""The reading stages of imagery studies: files to scenes, scenes and places to chips."""

from pathlib import Path

import geopandas
import pandas as pd
import xarray as xr

from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.errors import IntegrityError
from eo_causal.ingest.archive import is_archive, unpacked
from eo_causal.ingest.catalog import CatalogSettings, read_catalog
from eo_causal.ingest.cell_map import CellReader, CellSettings, map_cells
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import ChipSet, cut_chips


def find_scenes(
    files: InputFiles, settings: CatalogSettings, *, policy: SourcePolicy
) -> pd.DataFrame:
    """The catalog of a study: local files by name and hash, so that folders may move.

    Bands of a scene come in the order of ``settings.bands``. See :func:`read_catalog`.
    """
    scenes = read_catalog(files, settings, policy=policy)
    local = ~scenes["href"].str.contains("://")
    names = scenes["href"].map(lambda href: Path(href).name)
    scenes["href"] = scenes["href"].where(~local, names)
    rank = {band: position for position, band in enumerate(settings.bands)}
    order = scenes["band"].map(rank).fillna(len(rank))
    return scenes.assign(order=order).sort_values(
        ["item_id", "order"], kind="stable", ignore_index=True
    )[list(scenes.columns)]  # fmt: skip


def cut_scenes(
    scenes: pd.DataFrame,
    files: InputFiles,
    units: geopandas.GeoDataFrame,
    settings: ChipSettings,
    *,
    folder: Path,
) -> ChipSet:
    """Chips of the scenes of :func:`find_scenes`; see :func:`cut_chips`."""
    return cut_chips(located(scenes, files), units, settings, folder=folder)


def map_scenes(
    scenes: pd.DataFrame,
    files: InputFiles,
    part: int,
    settings: CellSettings,
    chips: ChipSettings,
    reader: CellReader,
) -> xr.DataArray:
    """One part of a map of the scenes of :func:`find_scenes`; see :func:`map_cells`."""
    return map_cells(located(scenes, files), part, settings, chips, reader)


def located(scenes: pd.DataFrame, files: InputFiles) -> pd.DataFrame:
    """Scenes whose local files have their paths again, found by content.

    Raises
    ------
    IntegrityError
        A file of the scenes is not among ``files``.
    """
    places: dict[str, str] = {}
    for name, digest in zip(files.paths, files.sha256, strict=True):
        path = Path(name)
        members = unpacked(path, digest) if is_archive(path) else {path: digest}
        places |= {found: str(member) for member, found in members.items()}
    used = scenes[(scenes["status"] == "ok") & ~scenes["href"].str.contains("://")]
    lost = used[~used["sha256"].isin(places)]
    if len(lost):
        raise IntegrityError(
            f"{lost['href'].iloc[0]}: not among the input files any more ({len(lost)} such bands). Run"
            " again with the same files.", path=lost["href"].iloc[0],
        )  # fmt: skip
    return scenes.assign(href=scenes["sha256"].map(places).fillna(scenes["href"]))
