"""For whom did a randomised programme work better, in a way that images show? (arXiv 2407.11674)

Sequences of images from before the treatment -> encoders -> effects predicted out of fold -> tests of
their ranking -> what goes with a large effect -> effects elsewhere, with the places where the trial
cannot speak marked -> report.
"""

from typing import Any

import geopandas
from pydantic import Field, model_validator

from eo_causal.audit.dates import precision_of
from eo_causal.audit.report import AuditReport, not_run
from eo_causal.audit.spatial import SurrogateSettings
from eo_causal.audit.study import (
    DateSettings,
    guard_chips,
    spatial_audits,
    support_line,
    transport_support,
)
from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import units_with_images
from eo_causal.encode.joint import JointSettings, cross_fit_network, cross_fit_sequence
from eo_causal.encode.settings import EncoderName, EncoderSettings
from eo_causal.encode.store import FoldFeatures, embed_chips, embed_elsewhere
from eo_causal.estimate.arms import IMAGE, TABULAR, WITH_TABULAR, AteSettings, estimate_ate
from eo_causal.estimate.cluster_study import cluster_study
from eo_causal.estimate.clusters import ClusterSettings
from eo_causal.estimate.covariates import CovariateSettings, study_units
from eo_causal.estimate.drivers import explain_effects
from eo_causal.estimate.effect_fits import NETWORK, NetworkPredictions
from eo_causal.estimate.elsewhere import CarrySettings, effects_elsewhere
from eo_causal.estimate.heterogeneity import (
    HeterogeneitySettings,
    estimate_heterogeneity,
    ranking_of,
)
from eo_causal.ingest.chip_files import ChipFileSettings
from eo_causal.ingest.chip_places import chip_places
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import footprint_m, image_keys
from eo_causal.ingest.class_shares import LandCoverClasses, class_shares
from eo_causal.ingest.units import UnitSettings
from eo_causal.report.heterogeneity_report import (
    Elsewhere,
    HeterogeneityReportSettings,
    HeterogeneityStudy,
    write_heterogeneity_report,
)
from eo_causal.run.config import CausalConfig, study_yaml
from eo_causal.run.design import Design
from eo_causal.run.image_design import image_design
from eo_causal.run.imagery import ImageryData, chip_stages, place_stage
from eo_causal.run.manifest import provenance
from eo_causal.run.placebos import placebo_stages
from eo_causal.run.stage import Stages
from eo_causal.simulate.programme import (
    ProgrammeSettings,
    read_programme_truth,
    write_programme,
)


class TrialData(ImageryData):
    """Images, simulated or given, or chips that come ready made."""

    simulate: ProgrammeSettings | None = Field(
        default=None, description="simulate a randomised programme"
    )

    @model_validator(mode="after")
    def _cut_here(self) -> "TrialData":
        if self.scenes is None and self.simulate:
            raise ValueError("`simulate` needs `scenes`, not ready-made chips")
        return self


class TransportSettings(CarrySettings):
    """Places outside the trial, of which a map is wanted."""

    units: UnitSettings | None = Field(
        default=None, description="places to cut from the images of the trial; or a grid"
    )
    chips: ChipFileSettings | None = Field(default=None, description="ready-made chips instead")
    area: str | None = Field(
        default=None, description="label column of the places that names areas to average over"
    )
    cell_m: float | None = Field(
        default=None, gt=0, description="cell of the map; the grid's spacing, or a footprint"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "TransportSettings":
        if (self.units is None) == (self.chips is None):
            raise ValueError("give `units` (places to cut) or `chips` (a file of them)")
        if self.area and (self.units is None or self.area not in self.units.labels):
            raise ValueError(f"area: {self.area} must be among the labels of transport.units")
        return self


class AuditSettings(DateSettings):
    """What is asked of the answer."""

    negative_outcomes: tuple[str, ...] = Field(
        default=(), description="columns measured before the treatment, which it cannot have moved"
    )
    surrogates: SurrogateSettings = SurrogateSettings()


class Config(CausalConfig):
    """Settings of a trial whose effects are asked to differ with what images show."""

    data: TrialData
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
    estimate: AteSettings = AteSettings(randomised=True)
    heterogeneity: HeterogeneitySettings = HeterogeneitySettings()
    clusters: ClusterSettings | None = Field(
        default=None, description="sort images into clusters of like effect"
    )
    land_cover: LandCoverClasses | None = None
    transport: TransportSettings | None = None
    audit: AuditSettings
    report: HeterogeneityReportSettings = HeterogeneityReportSettings()

    @property
    def encoder(self) -> str:
        """The encoder of the headline."""
        return list(self.encoders)[-1]

    @property
    def ranking(self) -> tuple[str, str]:
        """Arm and learner of the headline."""
        arm = self.report.arm or f"{IMAGE}{self.encoder}"
        usual = NETWORK if arm == f"{IMAGE}{NETWORK}" else self.heterogeneity.learners[0]
        return arm, self.report.learner or usual

    @property
    def outcome_support(self) -> None:
        """Bounds of the outcome are not needed in a trial."""

    @model_validator(mode="after")
    def _is_a_trial(self) -> "Config":
        if not self.estimate.randomised:
            raise ValueError("estimate.randomised must be true: this pipeline reads trials")
        if self.mode == "paper":
            raise ValueError(
                "mode: paper is not offered: the publication's ranking has no valid test"
            )
        if self.design.strategy != "rct":
            raise ValueError(f"design.strategy is {self.design.strategy}; a trial's is rct")
        if self.folds.n_folds < 3:
            raise ValueError("folds.n_folds must be 3 at least: the first is only learned from")
        arm, learner = self.ranking
        known = self.heterogeneity.arms or self._all_arms()
        if arm not in known:
            raise ValueError(f"report.arm: {arm} is not among the arms: {', '.join(known)}")
        if learner not in (*self.heterogeneity.learners, NETWORK):
            raise ValueError(f"report.learner: {learner} is not among heterogeneity.learners")
        return self

    def _all_arms(self) -> list[str]:
        tabular = bool(self.study.covariates or self.study.fixed_effects)
        images = [f"{IMAGE}{name}" for name in self.encoders]
        both = [f"{arm}{WITH_TABULAR}" for arm in images] if tabular else []
        network = [f"{IMAGE}{NETWORK}"] if self.network is not None else []
        return [*([TABULAR] if tabular else []), *images, *both, *network]

    def causal_design(self, name: str) -> Design:
        """See :meth:`CausalConfig.causal_design`."""
        return image_design(self, name, [])


def run(config: Config, stage: Stages) -> None:
    """The study, top to bottom."""
    root = truth = None
    if config.data.simulate is not None:
        root = stage("simulate", write_programme, config.data.simulate)
        truth = stage("truth", read_programme_truth, root)
    places = place_stage(config.units, stage, root)
    chip_set = chip_stages(config.data, places, config.chips, stage, root).chip_set
    chips, known_to = chip_set.chips, precision_of(config.data.date_format)
    dates = stage("dates", guard_chips, chips, config.audit, known_to)

    keys = stage("image_keys", image_keys, chips)
    everyone = stage("study_units", study_units, places, config.study)
    units = stage("units_with_images", units_with_images, everyone, keys)
    footprint = stage("footprint", footprint_m, chips)
    folds = stage("folds", make_folds, units, config.folds, chip_set.overlap, footprint, True)
    features = {
        name: FoldFeatures(chips, settings, config.seed)
        for name, settings in config.encoders.items()
    }
    probability = config.estimate.design_probability
    ate = stage("estimate", estimate_ate, units, folds, keys, features, {}, config.estimate)
    network, predictions = _network(config, chips, units, folds, stage)
    found = stage("heterogeneity", estimate_heterogeneity, units, folds, keys, features,
                  predictions, probability, config.heterogeneity)  # fmt: skip

    embedding = stage("embed", embed_chips, chips, config.encoders[config.encoder])
    ranking = stage("ranking", ranking_of, found, *config.ranking)
    shares = _land_cover(config, places, stage, root)
    drivers = stage("drivers", explain_effects, units, ranking, embedding, shares,
                    config.heterogeneity.n_groups, config.heterogeneity.level)  # fmt: skip
    elsewhere = _elsewhere(config, chips, units, folds, footprint, stage, root)

    arm = f"{IMAGE}{config.encoder}"
    clusters = None
    if config.clusters is not None:
        clusters = stage(
            "clusters", cluster_study, units, folds, embedding, ate, arm, config.clusters
        )
    audits = {
        "leakage": (dates,),
        "spatial": stage("spatial", spatial_audits, units, ate.nuisance, None, arm,
                         config.audit.surrogates),
        "measurement_error": (
            not_run("measurement_error", "the outcome is a survey, not a map with errors of its own."),
        ),
        "placebo": placebo_stages(config.audit.negative_outcomes, arm, config.study, config.estimate,
                                  places, units, folds, keys, features, stage),
        "sensitivity": (
            not_run("sensitivity", "treatment was assigned at random: no hidden confounder is feared."),
        ),
        "applicability": _applicability(config, elsewhere, stage),
        "registration": (stage.registration,),
    }  # fmt: skip
    study = HeterogeneityStudy(
        title=config.title or "For whom did it work?",
        question=config.question or "Do effects differ in a way that images show?",
        treatment_name=config.study.treatment, outcome_name=config.study.outcome, units=units,
        chips=chips, failures=chip_set.failures, ate=ate, result=found, ranking=config.ranking,
        cate=ranking, drivers=drivers, land_cover=config.land_cover, shares=shares,
        elsewhere=elsewhere, network=network, clusters=clusters, audits=audits,
        design=stage.design, truth=truth, ledger=stage.ledger(), warnings=stage.warnings(),
        provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_heterogeneity_report, study, config.report)


def _network(
    config: Config, chips: Any, units: Any, folds: Any, stage: Stages
) -> tuple[Any, dict[str, NetworkPredictions]]:
    """The fit of the end-to-end network, and its predictions by all other and by earlier folds."""
    if config.network is None:
        return None, {}
    settings = config.network.model_copy(update={"explain": "effect"})
    fit = stage("network", cross_fit_network, chips, units, folds, settings)
    sequential = stage("network_sequence", cross_fit_sequence, chips, units, folds, settings)
    return fit, {"network": NetworkPredictions(fit.predictions, sequential)}


def _land_cover(config: Config, places: geopandas.GeoDataFrame, stage: Stages, root: Any) -> Any:
    if config.land_cover is None:
        return None
    data = ImageryData(scenes=config.land_cover.scenes, roots=config.data.roots)
    codes = chip_stages(data, places, config.land_cover.chips, stage, root, "_land_cover")
    return stage("land_cover", class_shares, codes.chip_set.chips, config.land_cover)


def _elsewhere(
    config: Config, chips: Any, units: Any, folds: Any, footprint: float, stage: Stages, root: Any
) -> dict[str, Elsewhere]:
    """Encoder -> effects at other places; empty without such places."""
    settings = config.transport
    if settings is None:
        return {}
    places, data = None, config.data
    if settings.units is not None:
        places = place_stage(settings.units, stage, root, "units_elsewhere")
    else:
        data = config.data.model_copy(update={"chips": settings.chips, "scenes": None})
    others = chip_stages(data, places, config.chips, stage, root, "_elsewhere").chip_set.chips
    where = stage("places_elsewhere", chip_places, others, places, settings.area)
    grid = settings.units.grid.spacing_m if settings.units and settings.units.grid else None
    cell = settings.cell_m or grid or footprint
    found = {}
    for name, encoder in config.encoders.items():
        trial = stage(f"embed_{name}", embed_chips, chips, encoder)
        target = stage(f"embed_{name}_elsewhere", embed_elsewhere, chips, others, encoder)
        support = stage(f"support_{name}", transport_support, units, folds, trial, target)
        carried = stage(f"transport_{name}", effects_elsewhere, units, folds, trial, target, where,
                        support, config.estimate.design_probability, config.heterogeneity,
                        CarrySettings(learner=settings.learner, n_draws=settings.n_draws))  # fmt: skip
        found[name] = Elsewhere(where, carried.places, carried.areas, cell)
    return found


def _applicability(
    config: Config, elsewhere: dict[str, Elsewhere], stage: Stages
) -> tuple[AuditReport, ...]:
    if not elsewhere:
        return (not_run("applicability", "no places outside the trial are named (transport)."),)
    return (stage("applicability", support_line, elsewhere[config.encoder].places),)
