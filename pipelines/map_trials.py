"""Trials whose outcome is read from a map that exists, or from published predictions.
(arXiv 2508.01341)

A map with its card and places with treatment -> a verdict and effects for every trial. Or a table of held-out
predictions with what was measured -> how corrections fare in trials without treatment on these places.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from eo_causal.debias.card import CardSettings
from eo_causal.debias.pseudo_trials import PseudoTrialSettings, pseudo_trials
from eo_causal.debias.trials import TrialSettings, summary_of_trials, trial_effects
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.prediction_tables import PredictionSettings, read_predictions
from eo_causal.ingest.units import UnitSettings
from eo_causal.report.map_trials_report import (
    MapTrialsReportSettings,
    MapTrialsStudy,
    write_map_trials_report,
)
from eo_causal.report.wealth_maps import map_at, map_files, read_map_card
from eo_causal.run.config import DataSettings, PipelineConfig, study_yaml
from eo_causal.run.imagery import place_stage
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages


class MapData(DataSettings):
    """A map with its card, or predictions."""

    map: Path | None = Field(
        default=None, description="wealth.tif of a run; its folds and card lie beside it"
    )
    predictions: PredictionSettings | None = Field(
        default=None, description="a table of held-out predictions instead"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "MapData":
        if (self.map is None) == (self.predictions is None):
            raise ValueError("give `map` (a map with its card) or `predictions` (a table)")
        return self


class MapTrial(TrialSettings):
    """A trial and its places."""

    units: UnitSettings = Field(description="its places, with their treatment among `numbers`")


class Config(PipelineConfig):
    """Settings of trials on a map."""

    data: MapData
    card: CardSettings = Field(
        default=CardSettings(), description="how predictions are calibrated; a map has its card"
    )
    trials: tuple[MapTrial, ...] = Field(default=(), description="on a map")
    pseudo_trials: PseudoTrialSettings | None = Field(default=None, description="on predictions")
    report: MapTrialsReportSettings = MapTrialsReportSettings()

    @model_validator(mode="after")
    def _trials_of_the_source(self) -> "Config":
        if self.mode == "paper":
            raise ValueError("mode: paper is not offered here; see one_map_many_trials")
        if self.data.map is not None and (not self.trials or self.pseudo_trials):
            raise ValueError("a map needs `trials`, and makes no `pseudo_trials`")
        if self.data.predictions is not None and (self.trials or self.pseudo_trials is None):
            raise ValueError("predictions need `pseudo_trials`, and hold no `trials`")
        names = [trial.name for trial in self.trials]
        if len(set(names)) < len(names):
            raise ValueError(f"trials: names must differ, not {names}")
        return self


def run(config: Config, stage: Stages) -> None:
    """The trials, top to bottom."""
    predictions = pseudo = None
    trials: tuple[Any, ...] = ()
    if config.data.predictions is not None:
        own = config.data.predictions
        file = dataset_path(own.dataset, own.file) if own.dataset else Path(own.file)
        predictions = stage("predictions", read_predictions, stage.inputs([file]), own)
        pseudo = stage("pseudo_trials", pseudo_trials, predictions, config.pseudo_trials, config.card,
                       config.report.units)  # fmt: skip
        card = pseudo.card
    else:
        assert config.data.map is not None
        files = stage.inputs(map_files(config.data.map), config.data.lock)
        card = stage("card", read_map_card, files)
        trials = tuple(_trial(trial, files, card, stage) for trial in config.trials)
    summary = stage("summary", summary_of_trials, trials, None)
    study = MapTrialsStudy(
        title=config.title or "Trials on a map",
        question=config.question or "What do trials find on this map?",
        card=card, trials=trials, summary=summary, predictions=predictions, pseudo=pseudo,
        ledger=stage.ledger(), warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_map_trials_report, study, config.report)


def _trial(trial: MapTrial, files: Any, card: Any, stage: Stages) -> Any:
    places = place_stage(trial.units, stage, name=f"places_{trial.name}")
    cells = stage(f"cells_{trial.name}", map_at, files, places)
    return stage(f"trial_{trial.name}", trial_effects, trial.name, cells, places, trial.treatment,
                 trial.pilot, trial.cluster, None, card, None, trial.assignment, trial.assume)  # fmt: skip
