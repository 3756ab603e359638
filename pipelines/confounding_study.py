"""What adjusting for images leaves of a confounder that only images show, in simulated studies.

Images (generated, or cut from chips) -> a pattern in them moves treatment and outcome -> the pattern
measured in coarser images, or with another filter -> the bias that stays.
"""

from pathlib import Path
from typing import Literal

import xarray as xr
from pydantic import Field, model_validator

from eo_causal.estimate.pattern_study import estimate_pattern_study
from eo_causal.ingest.chip_files import ChipFileSettings, read_chip_file
from eo_causal.ingest.datasets import dataset_path
from eo_causal.report.confounding_study_report import (
    ConfoundingStudyReportSettings,
    SimulatedConfounding,
    write_confounding_study_report,
)
from eo_causal.run.config import DataSettings, PipelineConfig, study_yaml
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.pattern_study import (
    PatternStudySettings,
    complete_images,
    pattern_examples,
    simulate_pattern_study,
)


class StudyData(DataSettings):
    """Where images come from."""

    images: Literal["generated", "chips"] = Field(
        default="generated", description="random textures, or windows cut from the chips"
    )
    chips: ChipFileSettings | None = Field(default=None, description="a file of chips")
    band: str = Field(default="band_1", description="the band of the chips that is looked at")

    @model_validator(mode="after")
    def _chips_are_named(self) -> "StudyData":
        if self.images == "chips" and self.chips is None:
            raise ValueError("images: chips needs `chips` (a file of them)")
        return self


class Config(PipelineConfig):
    """Settings of simulated studies of confounders that images show."""

    data: StudyData = StudyData()
    study: PatternStudySettings
    report: ConfoundingStudyReportSettings = ConfoundingStudyReportSettings()

    @model_validator(mode="after")
    def _no_paper_mode(self) -> "Config":
        if self.mode == "paper":
            raise ValueError("mode: paper, with a trained filter, is not part of this study")
        return self


def run(config: Config, stage: Stages) -> None:
    """Simulated studies of adjusting for images, top to bottom."""
    images = _images(config.data, stage)
    units = stage("simulate", simulate_pattern_study, images, config.study)
    result = stage("estimate", estimate_pattern_study, units)
    examples = stage("examples", pattern_examples, images, config.study)
    study = SimulatedConfounding(
        title=config.title or "Adjusting for images: what is left",
        question=config.question or "How much of a confounder that images show do they take away?",
        settings=config.study, source=_source(config.data), units=units, result=result,
        examples=examples, ledger=stage.ledger(), warnings=stage.warnings(),
        provenance=provenance(config, stage), config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_confounding_study_report, study, config.report)


def _images(data: StudyData, stage: Stages) -> xr.DataArray | None:
    """The chips to cut windows from; None for generated images."""
    if data.images == "generated":
        return None
    assert data.chips is not None
    name = data.chips.dataset
    file = dataset_path(name, data.chips.file) if name else Path(data.chips.file)
    chip_set = stage("chips", read_chip_file, stage.inputs([file], data.lock), data.chips)
    return stage("images", complete_images, chip_set, data.band)


def _source(data: StudyData) -> str:
    if data.images == "generated":
        return "generated textures"
    assert data.chips is not None
    return f"random windows of the chips of {data.chips.dataset or Path(data.chips.file).name}"
