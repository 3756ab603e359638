"""From images and places to chips, and from chips to embeddings.

Scenes (GeoTIFF, JPEG 2000, STAC) or ready-made chips -> catalog -> chips through time around each
place -> frozen encoders -> tables and a page to look at.
"""

from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import pandas as pd
from pydantic import Field, model_validator

from eo_causal.encode.settings import EncoderSettings
from eo_causal.encode.store import embed_chips
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths
from eo_causal.ingest.chip_files import ChipFileSettings, read_chip_file
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import ChipSet
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.imagery import cut_scenes, find_scenes
from eo_causal.ingest.units import UnitSettings, grid_units, read_units
from eo_causal.report.embed_report import EmbedReportSettings, EmbedStudy, write_embed_report
from eo_causal.run.config import DataSettings, PipelineConfig, study_yaml
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.scenes import SceneSettings, read_country_truth, write_country


class EmbedData(DataSettings):
    """Images to cut chips from, or chips that come ready made."""

    simulate: SceneSettings | None = Field(default=None, description="simulate images and places")
    scenes: CatalogSettings | None = Field(default=None, description="which images")
    chips: ChipFileSettings | None = Field(default=None, description="ready-made chips instead")

    @model_validator(mode="after")
    def _one_source(self) -> "EmbedData":
        if (self.scenes is None) == (self.chips is None):
            raise ValueError("give `scenes` (images to cut) or `chips` (a file of them)")
        if self.simulate is not None and self.scenes is None:
            raise ValueError("`simulate` writes images; `scenes` must say how they are named")
        return self


class Config(PipelineConfig):
    """Settings of a chips-and-embeddings run."""

    data: EmbedData
    units: UnitSettings | None = Field(default=None, description="the places")
    chips: ChipSettings = ChipSettings()
    encoders: dict[str, EncoderSettings] = Field(
        min_length=1, description="name -> encoder; each gives one table of embeddings"
    )
    report: EmbedReportSettings = EmbedReportSettings()

    @model_validator(mode="after")
    def _places_are_named(self) -> "Config":
        named = self.units is not None and (self.units.file is None) != (self.units.grid is None)
        if self.units is not None and not named:
            raise ValueError("units: name a `file`, or a `grid`, not both")
        if self.data.scenes is not None and not named:
            raise ValueError("units: images are cut around places; name their `file` or a `grid`")
        kept = self.units.numbers if self.units else ()
        if self.report.outcome is not None and self.report.outcome not in kept:
            raise ValueError(f"report.outcome: {self.report.outcome} is not among units.numbers")
        return self


class Sources(NamedTuple):
    """What is there before any encoder."""

    chips: ChipSet
    catalog: pd.DataFrame | None
    units: geopandas.GeoDataFrame | None
    truth: dict[str, Any] | None


def run(config: Config, stage: Stages) -> None:
    """Chips and embeddings, top to bottom."""
    found = _cut(config, stage) if config.data.scenes else _ready_made(config, stage)
    embeddings = {
        name: stage(f"embed_{name}", embed_chips, found.chips.chips, settings)
        for name, settings in config.encoders.items()
    }
    study = EmbedStudy(
        title=config.title or "Chips and embeddings",
        question=config.question or "What do the images show around each place?",
        chip_set=found.chips, catalog=found.catalog, units=found.units, embeddings=embeddings,
        outcome_name=config.report.outcome or "", truth=found.truth, ledger=stage.ledger(),
        warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_embed_report, study, config.report)


def _cut(config: Config, stage: Stages) -> Sources:
    """Scenes and places, simulated or given, and the chips between them."""
    scenes, places = config.data.scenes, config.units
    assert scenes is not None
    assert places is not None
    root: Path | None = None
    truth = None
    if config.data.simulate is not None:
        folder = stage("simulate", write_country, config.data.simulate)
        truth = stage("truth", read_country_truth, folder)
        root, scenes = folder, scenes.below(folder)
    files = stage.inputs(catalog_paths(scenes, policy=stage.policy), config.data.lock)
    catalog = stage("catalog", find_scenes, files, config.data.scenes)
    units = _units(places, stage, root)
    chips = stage("chips", cut_scenes, catalog, files, units, config.chips)
    return Sources(chips, catalog, units, truth)


def _ready_made(config: Config, stage: Stages) -> Sources:
    """A file of chips, and what a table says about them."""
    settings = config.data.chips
    assert settings is not None
    file = dataset_path(settings.dataset, settings.file) if settings.dataset else settings.file
    chips = stage("chips", read_chip_file, stage.inputs([Path(file)], config.data.lock), settings)
    units = _units(config.units, stage, None) if config.units is not None else None
    return Sources(chips, None, units, None)


def _units(settings: UnitSettings, stage: Stages, root: Path | None) -> geopandas.GeoDataFrame:
    if settings.grid is not None:
        return stage("units", grid_units, settings.grid)
    assert settings.file is not None
    file = Path(settings.file) if root is None else root / settings.file
    if settings.dataset is not None:
        file = dataset_path(settings.dataset, settings.file)
    return stage("units", read_units, stage.inputs([file]), settings)
