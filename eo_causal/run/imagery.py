"""The first stages of every pipeline that starts from images: places, scenes, chips."""

from pathlib import Path
from typing import NamedTuple, Self

import geopandas
import pandas as pd
from pydantic import Field, model_validator

from eo_causal.core.sources import InputFiles
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths
from eo_causal.ingest.chip_files import ChipFileSettings, read_chip_file
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import ChipSet
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.imagery import cut_scenes, find_scenes
from eo_causal.ingest.units import UnitSettings, grid_units, read_units
from eo_causal.run.config import DataSettings
from eo_causal.run.stage import Stages


class ImageryData(DataSettings):
    """Images to cut chips from, or chips that come ready made."""

    scenes: CatalogSettings | None = Field(default=None, description="which images")
    chips: ChipFileSettings | None = Field(default=None, description="ready-made chips instead")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.scenes is None) == (self.chips is None):
            raise ValueError("give `scenes` (images to cut) or `chips` (a file of them)")
        return self

    @property
    def window(self) -> tuple[str | None, str | None]:
        """First and last date of the images, as far as the settings say."""
        if self.chips is not None:
            return self.chips.date, self.chips.date
        assert self.scenes is not None
        return self.scenes.period or (None, None)

    @property
    def date_format(self) -> str:
        """How dates are written: codes of strptime, or the date of ready-made chips."""
        if self.scenes is not None:
            return "%Y-%m-%d" if self.scenes.kind == "stac" else self.scenes.date_format
        assert self.chips is not None
        return self.chips.date


class Imagery(NamedTuple):
    """Chips, and the catalog and files of the scenes they were cut from (None for ready-made ones)."""

    chip_set: ChipSet
    catalog: pd.DataFrame | None
    files: InputFiles | None = None


def place_stage(
    settings: UnitSettings, stage: Stages, root: Path | None = None, name: str = "units"
) -> geopandas.GeoDataFrame:
    """The places of a study; their file lies below ``root`` where data were simulated."""
    if settings.grid is not None:
        return stage(name, grid_units, settings.grid)
    assert settings.file is not None
    file = Path(settings.file) if root is None else root / settings.file
    if settings.dataset is not None:
        file = dataset_path(settings.dataset, settings.file)
    return stage(name, read_units, stage.inputs([file]), settings)


def chip_stages(
    data: ImageryData,
    units: geopandas.GeoDataFrame | None,
    settings: ChipSettings,
    stage: Stages,
    root: Path | None = None,
    suffix: str = "",
) -> Imagery:
    """Scenes cut around the places, or a file of chips; ``suffix`` tells stages of one run apart."""
    if data.scenes is None:
        assert data.chips is not None
        name = data.chips.dataset
        file = dataset_path(name, data.chips.file) if name else Path(data.chips.file)
        inputs = stage.inputs([file], data.lock)
        return Imagery(stage(f"chips{suffix}", read_chip_file, inputs, data.chips), None)
    scenes = data.scenes if root is None else data.scenes.below(root)
    planned = root is not None and not Path(root).exists()  # a plan: nothing is simulated yet
    paths = [] if planned else catalog_paths(scenes, policy=stage.policy)
    files = stage.inputs(paths, data.lock)
    catalog = stage(f"catalog{suffix}", find_scenes, files, data.scenes)
    chips = stage(f"chips{suffix}", cut_scenes, catalog, files, units, settings)
    return Imagery(chips, catalog, files)
