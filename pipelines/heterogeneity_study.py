"""Which design choices find that effects differ? Simulated trials with images (after arXiv 2407.11674).

Trials whose effects follow the change, the last level, or nothing of what images show -> every kind of
data, encoder, learner and set of covariates -> what each choice adds to the tested ratio.
"""

import pandas as pd
from pydantic import Field, field_validator, model_validator

from eo_causal.encode.settings import EncoderSettings
from eo_causal.encode.store import FoldFeatures
from eo_causal.estimate.heterogeneity_grid import (
    BETWEEN,
    GridSettings,
    estimate_grid,
)
from eo_causal.report.heterogeneity_study_report import (
    HeterogeneityStudyReportSettings,
    SimulatedHeterogeneity,
    write_heterogeneity_study_report,
)
from eo_causal.run.config import PipelineConfig, study_yaml
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.heterogeneity import Followed
from eo_causal.simulate.heterogeneity_study import (
    COVARIATE,
    RepeatedTrials,
    TrialStudySettings,
    simulate_trials,
)


class Config(PipelineConfig):
    """Settings of simulated trials whose effects are looked for in images."""

    worlds: tuple[Followed, ...] = Field(
        default=("change", "last", "constant"), min_length=1,
        description="what the effect follows: the change of brightness, its last level, neither",
    )  # fmt: skip
    study: TrialStudySettings = TrialStudySettings()
    encoders: dict[str, dict[str, EncoderSettings]] = Field(
        min_length=1,
        description="encoder -> data (single image, sequence, ...) -> settings; the first is compared with",
    )
    estimate: GridSettings = GridSettings()
    report: HeterogeneityStudyReportSettings = HeterogeneityStudyReportSettings()

    @field_validator("worlds")
    @classmethod
    def _distinct(cls, worlds: tuple[Followed, ...]) -> tuple[Followed, ...]:
        if len(set(worlds)) != len(worlds):
            raise ValueError(f"{list(worlds)} names a world twice")
        return worlds

    @model_validator(mode="after")
    def _no_paper_mode(self) -> "Config":
        if self.mode == "paper":
            raise ValueError("mode: paper needs the data of arXiv 2407.11674, which are not public")
        return self


def run(config: Config, stage: Stages) -> None:
    """Simulated trials, top to bottom; every world is a stage of its own."""
    trials: dict[str, RepeatedTrials] = {}
    rates: dict[str, pd.DataFrame] = {}
    for world in config.worlds:
        trials[world] = stage(f"trials_{world}", simulate_trials, world, config.study)
        features = {
            f"{encoder}{BETWEEN}{data}": FoldFeatures(trials[world].chips, settings, config.seed)
            for encoder, choices in config.encoders.items()
            for data, settings in choices.items()
        }
        rates[world] = stage(f"estimate_{world}", estimate_grid, world, trials[world].units,
                             [COVARIATE], features, config.estimate)  # fmt: skip
    study = SimulatedHeterogeneity(
        title=config.title or "Which design choices find that effects differ?",
        question=config.question or "What does a sequence of images find that a single one misses?",
        settings=config.study, trials=trials, rates=rates, ledger=stage.ledger(),
        warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_heterogeneity_study_report, study, config.report)
