"""What did a programme do that was not randomised, with images as proxy for what planners saw?
(arXiv 2301.12985)

Scenes or ready-made chips from before the treatment -> encoders -> propensities and outcome models,
cross-fitted by place -> average effects in several ways -> audits -> report.
"""

from typing import Any

import geopandas
from pydantic import Field, model_validator

from eo_causal.audit.dates import precision_of
from eo_causal.audit.report import AuditReport, not_run
from eo_causal.audit.sensitivity import SensitivitySettings, sensitivity_pack
from eo_causal.audit.spatial import SurrogateSettings
from eo_causal.audit.study import (
    DateSettings,
    guard_chips,
    image_applicability,
    image_leakage,
    leading_component,
    spatial_audits,
)
from eo_causal.core.folds import Folds, FoldSettings, make_folds
from eo_causal.core.settings import Period
from eo_causal.core.units import StudyUnits, units_with_images
from eo_causal.encode.joint import JointSettings, cross_fit_network
from eo_causal.encode.settings import EncoderName, EncoderSettings
from eo_causal.encode.store import FoldFeatures, embed_chips
from eo_causal.estimate.arms import AteResult, AteSettings, estimate_ate
from eo_causal.estimate.covariates import CovariateSettings, study_units
from eo_causal.estimate.learner_range import learner_pairs
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import footprint_m, image_keys
from eo_causal.ingest.units import UnitSettings
from eo_causal.report.confounding_report import (
    ConfoundingReportSettings,
    ConfoundingStudy,
    write_confounding_report,
)
from eo_causal.run.config import CausalConfig, study_yaml
from eo_causal.run.design import Design
from eo_causal.run.image_design import image_design
from eo_causal.run.imagery import ImageryData, chip_stages, place_stage
from eo_causal.run.manifest import provenance
from eo_causal.run.placebos import placebo_stages
from eo_causal.run.stage import Stages
from eo_causal.simulate.aid import AidSettings, read_aid_truth, write_aid_country

PARTS = {"robustness_value": "rv", "e_value": "evalue", "marginal": "msm", "divergence": "itb"}


class ConfoundingData(ImageryData):
    """Images, simulated or given, or chips that come ready made."""

    simulate: AidSettings | None = Field(default=None, description="simulate an aid programme")
    period_after: Period | None = Field(
        default=None,
        description="scenes since the treatment, only to see what they would give away",
    )

    @model_validator(mode="after")
    def _cut_here(self) -> "ConfoundingData":
        if self.scenes is None and (self.simulate or self.period_after):
            raise ValueError("`simulate` and `period_after` need `scenes`, not ready-made chips")
        return self


class AuditSettings(DateSettings):
    """What is asked of the estimate."""

    negative_outcomes: tuple[str, ...] = Field(
        default=(), description="columns measured before the treatment, which it cannot have moved"
    )
    learner_range: bool = Field(
        default=True, description="repeat the headline by nine pairs of learners"
    )
    surrogates: SurrogateSettings = SurrogateSettings()
    sensitivity: SensitivitySettings = SensitivitySettings()


class Config(CausalConfig):
    """Settings of a study that adjusts for images."""

    data: ConfoundingData
    units: UnitSettings
    study: CovariateSettings = CovariateSettings()
    chips: ChipSettings = ChipSettings()
    encoders: dict[EncoderName, EncoderSettings] = Field(
        min_length=1, description="name -> encoder; the last one is in the headline"
    )
    network: JointSettings | None = Field(
        default=None, description="a network trained end to end in every fold: arm image:network"
    )
    folds: FoldSettings = FoldSettings()
    estimate: AteSettings = AteSettings()
    audit: AuditSettings
    report: ConfoundingReportSettings = ConfoundingReportSettings()

    @property
    def encoder(self) -> str:
        """The encoder of the headline."""
        return list(self.encoders)[-1]

    @property
    def arm(self) -> str:
        """The arm of the headline: its encoder, with covariates where there are any."""
        with_covariates = self.study.covariates or self.study.fixed_effects
        return self.report.arm or f"image:{self.encoder}{'+tabular' if with_covariates else ''}"

    @property
    def outcome_support(self) -> tuple[float, float] | None:
        """Least and largest value that the outcome can have."""
        return self.audit.sensitivity.support

    @model_validator(mode="after")
    def _headline_is_there(self) -> "Config":
        if self.report.estimator not in self.estimate.estimators:
            raise ValueError(
                f"report.estimator: {self.report.estimator} is not among estimate.estimators"
            )
        known = self.estimate.arms
        if known is not None and self.arm not in known:
            raise ValueError(f"report.arm: {self.arm} is not among estimate.arms: {list(known)}")
        return self

    @property
    def effective(self) -> "Config":
        """The settings that compute: in paper mode those of the publication."""
        if self.mode == "default":
            return self
        nuisance = self.estimate.nuisance.model_copy(update={"label_smoothing": 0.05})
        return self.model_copy(update={
            "folds": self.folds.model_copy(update={"n_folds": 2, "n_splits": 1}),
            "estimate": self.estimate.model_copy(update={"clip": 0.001, "nuisance": nuisance}),
            "report": self.report.model_copy(update={"estimator": "hajek"}),
        })  # fmt: skip

    def causal_design(self, name: str) -> Design:
        """See :meth:`CausalConfig.causal_design`."""
        asked = [PARTS.get(part, part) for part in self.audit.sensitivity.parts]
        bounded = self.outcome_support is not None
        return image_design(self.effective, name, [p for p in asked if bounded or p != "manski"])


def run(config: Config, stage: Stages) -> None:
    """The study, top to bottom."""
    config = config.effective
    root = truth = None
    if config.data.simulate is not None:
        root = stage("simulate", write_aid_country, config.data.simulate)
        truth = stage("truth", read_aid_truth, root)
    places = place_stage(config.units, stage, root)
    chip_set = chip_stages(config.data, places, config.chips, stage, root).chip_set
    chips, known_to = chip_set.chips, precision_of(config.data.date_format)
    dates = stage("dates", guard_chips, chips, config.audit, known_to)

    keys = stage("image_keys", image_keys, chips)
    everyone = stage("study_units", study_units, places, config.study)
    units = stage("units_with_images", units_with_images, everyone, keys)
    footprint = stage("footprint", footprint_m, chips)
    folds = stage("folds", make_folds, units, config.folds, chip_set.overlap, footprint,
                  config.estimate.randomised)  # fmt: skip
    features = {
        name: FoldFeatures(chips, settings, config.seed)
        for name, settings in config.encoders.items()
    }
    network = None
    if config.network is not None:
        network = stage("network", cross_fit_network, chips, units, folds, config.network)
    predictions = {"network": network.predictions} if network else {}
    result = stage("estimate", estimate_ate, units, folds, keys, features, predictions,
                   config.estimate)  # fmt: skip

    embedding = stage("embed", embed_chips, chips, config.encoders[config.encoder])
    after = _images_after(config, places, stage, root)
    audits = {
        "leakage": (dates, *_leakage(units, folds, embedding, after, stage)),
        "spatial": _spatial(config, units, keys, features, result, stage),
        "measurement_error": (
            not_run("measurement_error", "the outcome is a survey, not a map with errors of its own."),
        ),
        "placebo": placebo_stages(config.audit.negative_outcomes, config.arm, config.study,
                                  config.estimate, places, units, folds, keys, features, stage),
        "registration": (stage.registration,),
    }  # fmt: skip
    without = {"the images": "tabular", "the covariates": f"image:{config.encoder}"}
    leading = stage("leading_component", leading_component, units, embedding)
    learners = None
    if config.audit.learner_range and config.arm != "image:network":
        learners = stage("learner_pairs", learner_pairs, units, folds, keys, features, config.arm,
                         config.estimate)  # fmt: skip
    sensitivity = stage("sensitivity", sensitivity_pack, units, result.nuisance, config.arm, without,
                        config.audit.sensitivity, leading, learners)  # fmt: skip
    applicable = stage("applicability", image_applicability, units, folds, embedding,
                       result.nuisance, config.arm)  # fmt: skip
    audits |= {"sensitivity": sensitivity.reports, "applicability": (applicable,)}

    study = ConfoundingStudy(
        title=config.title or "Images as confounders",
        question=config.question or "What did the programme do?",
        treatment_name=config.study.treatment, outcome_name=config.study.outcome, units=units,
        chips=chips, failures=chip_set.failures, result=result, arm=config.arm,
        estimator=config.report.estimator, audits=audits, bounds=sensitivity.bounds,
        network=network, design=stage.design, truth=truth, ledger=stage.ledger(),
        warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_confounding_report, study, config.report)


def _images_after(config: Config, places: geopandas.GeoDataFrame, stage: Stages, root: Any) -> Any:
    """The embedding of images since the treatment, None where they are not asked for."""
    data = config.data
    if data.period_after is None:
        return None
    assert data.scenes is not None
    scenes = data.scenes.model_copy(update={"period": data.period_after})
    later = data.model_copy(update={"scenes": scenes})
    settings = config.chips.model_copy(update={"empty_unit": "drop"})
    chips = chip_stages(later, places, settings, stage, root, "_after").chip_set.chips
    return stage("embed_after", embed_chips, chips, config.encoders[config.encoder])


def _leakage(
    units: StudyUnits, folds: Folds, before: Any, after: Any, stage: Stages
) -> tuple[AuditReport, ...]:
    if after is None:
        return (not_run("leakage_gap", "no images from after the treatment (data.period_after)."),)
    return (stage("leakage", image_leakage, units, folds, before, after),)


def _spatial(
    config: Config,
    units: StudyUnits,
    keys: list[str],
    features: dict[str, FoldFeatures],
    result: AteResult,
    stage: Stages,
) -> tuple[AuditReport, ...]:
    """With folds in blocks, also against folds that part neighbours."""
    nuisance = None
    observed = config.folds.kind == "auto" and not config.estimate.randomised
    if observed or config.folds.kind == "spatial_block":
        settings = config.folds.model_copy(update={"kind": "image_key", "n_splits": 1})
        parted = stage("folds_random", make_folds, units, settings, None, 0.0, True)
        only = config.estimate.model_copy(update={"arms": (config.arm,), "estimators": ("aipw",)})
        found = stage("estimate_random", estimate_ate, units, parted, keys, features, {}, only)
        nuisance = found.nuisance
    return stage("spatial", spatial_audits, units, result.nuisance, nuisance, config.arm,
                 config.audit.surrogates)  # fmt: skip
