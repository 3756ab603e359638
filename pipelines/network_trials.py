"""Do corrections of a shrunken map follow true effects? Simulated trials (arXiv 2508.01341).

An outcome seen through a random network -> a predictor of it, new in every trial -> effects without
correction, corrected, and with a few labels, beside the truth.
"""

from pydantic import Field, model_validator

from eo_causal.debias.card import CardSettings
from eo_causal.encode.tabular import MlpSettings, MlpTrainer
from eo_causal.report.network_trials_report import (
    NetworkTrialsReportSettings,
    NetworkTrialsStudy,
    write_network_trials_report,
)
from eo_causal.run.config import PipelineConfig, study_yaml
from eo_causal.run.manifest import provenance
from eo_causal.run.network_trials import NetworkTrialSettings, network_trials
from eo_causal.run.stage import Stages


class Config(PipelineConfig):
    """Settings of simulated trials whose outcome is predicted from a network's features."""

    study: NetworkTrialSettings = NetworkTrialSettings()
    predictor: MlpSettings = Field(default=MlpSettings(), description="one a trial")
    card: CardSettings = Field(default=CardSettings(), description="how predictions are calibrated")
    report: NetworkTrialsReportSettings = NetworkTrialsReportSettings()

    @model_validator(mode="after")
    def _no_paper_mode(self) -> "Config":
        if self.mode == "paper":
            raise ValueError("mode: paper would calibrate on the rows that stopped the training")
        return self


def run(config: Config, stage: Stages) -> None:
    """The study, top to bottom."""
    trainer = MlpTrainer(config.predictor)
    found = stage("trials", network_trials, config.study, config.card, trainer)
    study = NetworkTrialsStudy(
        title=config.title or "One map, many trials",
        question=config.question or "Do corrected maps give the true effects?",
        trials=found.trials, effects=found.effects, summary=found.summary,
        n_labels=config.study.n_labels, ledger=stage.ledger(), warnings=stage.warnings(),
        provenance=provenance(config, stage), config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_network_trials_report, study, config.report)
