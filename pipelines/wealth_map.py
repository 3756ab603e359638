"""A wealth map from imagery and a survey, with what any number of trials need to use it without bias.
(arXiv 2508.01341)

Scenes and surveyed places -> embedding -> wealth predicted out of fold -> calibration card -> map in cells
-> for every trial a verdict and its effects with and without correction -> report.
"""

from typing import Any

from pydantic import Field, model_validator

from eo_causal.audit.applicability import DissimilarityLayer
from eo_causal.audit.study import survey_area
from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import units_with_images
from eo_causal.debias.card import CardSettings
from eo_causal.debias.trials import TrialSettings, trial_effects
from eo_causal.encode.cells import EmbeddedCells
from eo_causal.encode.settings import EncoderSettings
from eo_causal.encode.store import embed_chips
from eo_causal.estimate.covariates import SurveySettings, survey_units
from eo_causal.estimate.outcome import OutcomeLayers, OutcomeSettings, predict_outcome
from eo_causal.ingest.cell_map import CellSettings, cells_at
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import footprint_m, image_keys
from eo_causal.ingest.imagery import map_scenes
from eo_causal.ingest.units import UnitSettings
from eo_causal.report.wealth_report import (
    WealthReportSettings,
    WealthStudy,
    fit_survey_card,
    placebo_groups,
    quality_table,
    summary_of_study,
    write_wealth_report,
)
from eo_causal.run.config import PipelineConfig, study_yaml
from eo_causal.run.imagery import ImageryData, chip_stages, place_stage
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.wealth import WealthSettings, read_wealth_truth, write_wealth_country


class WealthData(ImageryData):
    """Images, simulated or given."""

    simulate: WealthSettings | None = Field(default=None, description="simulate a country")

    @model_validator(mode="after")
    def _cut_here(self) -> "WealthData":
        if self.scenes is None:
            raise ValueError("a map needs `scenes`; ready-made chips cover no ground")
        return self


class MapTrial(TrialSettings):
    """A trial and its places."""

    units: UnitSettings = Field(description="its places, with their treatment among `numbers`")


class Config(PipelineConfig):
    """Settings of a wealth map."""

    data: WealthData
    units: UnitSettings
    survey: SurveySettings = SurveySettings()
    chips: ChipSettings = ChipSettings()
    encoder: EncoderSettings
    folds: FoldSettings = FoldSettings(n_splits=1)
    outcome: OutcomeSettings = OutcomeSettings()
    card: CardSettings = CardSettings()
    map: CellSettings = CellSettings()
    region: str | None = Field(
        default=None, description="label column of the survey: placebo groups for observed trials"
    )
    trials: tuple[MapTrial, ...] = ()
    report: WealthReportSettings = WealthReportSettings()

    @model_validator(mode="after")
    def _can_be_mapped(self) -> "Config":
        if self.mode == "paper":
            raise ValueError("mode: paper is not offered here; see one_map_many_trials")
        if self.outcome.model != "ridge":
            raise ValueError(
                "outcome.model: a map needs ridge; trees leave ties and are not stored"
            )
        names = [trial.name for trial in self.trials]
        if len(set(names)) < len(names):
            raise ValueError(f"trials: names must differ, not {names}")
        if self.region and self.region not in self.units.labels:
            raise ValueError(f"region: {self.region} must be among units.labels")
        return self


def run(config: Config, stage: Stages) -> None:
    """The map and its trials, top to bottom."""
    root = truth = None
    if config.data.simulate is not None:
        root = stage("simulate", write_wealth_country, config.data.simulate)
        truth = stage("truth", read_wealth_truth, root)
    places = place_stage(config.units, stage, root)
    imagery = chip_stages(config.data, places, config.chips, stage, root)
    chips = imagery.chip_set.chips
    keys = stage("image_keys", image_keys, chips)
    everyone = stage("survey_units", survey_units, places, config.survey)
    units = stage("units_with_images", units_with_images, everyone, keys)
    footprint = stage("footprint", footprint_m, chips)
    folds = stage(
        "folds", make_folds, units, config.folds, imagery.chip_set.overlap, footprint, False
    )
    parted = config.folds.model_copy(
        update={"kind": "image_key", "block_km": None, "buffer_m": None}
    )
    mixed = stage(
        "folds_random", make_folds, units, parted, imagery.chip_set.overlap, footprint, False
    )

    embedding = stage("embed", embed_chips, chips, config.encoder)
    fit = stage("outcome", predict_outcome, units, folds, embedding, config.outcome)
    random = stage("outcome_random", predict_outcome, units, mixed, embedding, config.outcome)
    quality = stage("quality", quality_table, fit, random)
    card = stage("card", fit_survey_card, fit, config.card, config.report.units)
    area = stage("area", survey_area, units, folds, embedding, fit.head)

    reader = EmbeddedCells(
        chips, config.encoder, config.seed, (OutcomeLayers(fit.head), DissimilarityLayer(area))
    )
    parts = [
        stage(f"map_{part}", map_scenes, imagery.catalog, imagery.files, part, config.map, config.chips,
              reader)
        for part in range(config.map.n_parts)
    ]  # fmt: skip
    groups = stage("placebo_groups", placebo_groups, fit, places, config.region)
    trials = tuple(_trial(own, parts, groups, card, area, stage, root) for own in config.trials)
    summary = stage("summary", summary_of_study, trials, truth)
    study = WealthStudy(
        title=config.title or "A wealth map and its trials",
        question=config.question or "What do trials find on one map?",
        outcome_name=config.survey.outcome, fit=fit, quality=quality, card=card, parts=parts,
        threshold=area.threshold, trials=trials, summary=summary, truth=truth,
        failures=imagery.chip_set.failures, ledger=stage.ledger(), warnings=stage.warnings(),
        provenance=provenance(config, stage), config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_wealth_report, study, config.report)


def _trial(
    own: MapTrial, parts: Any, groups: Any, card: Any, area: Any, stage: Stages, root: Any
) -> Any:
    """One trial on the map."""
    places = place_stage(own.units, stage, root, f"places_{own.name}")
    cells = stage(f"cells_{own.name}", cells_at, parts, places)
    return stage(f"trial_{own.name}", trial_effects, own.name, cells, places, own.treatment, own.pilot,
                 own.cluster, groups, card, area.threshold, own.assignment, own.assume)  # fmt: skip
