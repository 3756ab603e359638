"""From images and places to chips, and from chips to embeddings.

Scenes (GeoTIFF, JPEG 2000, STAC) or ready-made chips -> catalog -> chips through time around each
place -> frozen encoders -> tables and a page to look at.
"""

from pydantic import Field, model_validator

from eo_causal.encode.settings import EncoderName, EncoderSettings
from eo_causal.encode.store import embed_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.units import UnitSettings
from eo_causal.report.embed_report import EmbedReportSettings, EmbedStudy, write_embed_report
from eo_causal.run.config import PipelineConfig, study_yaml
from eo_causal.run.imagery import ImageryData, chip_stages, place_stage
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.scenes import SceneSettings, read_country_truth, write_country


class EmbedData(ImageryData):
    """Images, simulated or given, or chips that come ready made."""

    simulate: SceneSettings | None = Field(default=None, description="simulate images and places")

    @model_validator(mode="after")
    def _simulated_scenes(self) -> "EmbedData":
        if self.simulate is not None and self.scenes is None:
            raise ValueError("`simulate` writes images; `scenes` must say how they are named")
        return self


class Config(PipelineConfig):
    """Settings of a chips-and-embeddings run."""

    data: EmbedData
    units: UnitSettings | None = Field(default=None, description="the places")
    chips: ChipSettings = ChipSettings()
    encoders: dict[EncoderName, EncoderSettings] = Field(
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


def run(config: Config, stage: Stages) -> None:
    """Chips and embeddings, top to bottom."""
    root = truth = units = None
    if config.data.simulate is not None:
        root = stage("simulate", write_country, config.data.simulate)
        truth = stage("truth", read_country_truth, root)
    if config.units is not None:
        units = place_stage(config.units, stage, root)
    chip_set, catalog, _ = chip_stages(config.data, units, config.chips, stage, root)
    embeddings = {
        name: stage(f"embed_{name}", embed_chips, chip_set.chips, settings)
        for name, settings in config.encoders.items()
    }
    study = EmbedStudy(
        title=config.title or "Chips and embeddings",
        question=config.question or "What do the images show around each place?",
        chip_set=chip_set, catalog=catalog, units=units, embeddings=embeddings,
        outcome_name=config.report.outcome or "", truth=truth, ledger=stage.ledger(),
        warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_embed_report, study, config.report)
