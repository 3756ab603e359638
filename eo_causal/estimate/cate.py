"""Whom a treatment helps more: learners of conditional effects that share one set of nuisances.

Nuisances are out of fold inside the rows that a learner may learn from, so that the model of effects
never sees an outcome through a model that was fitted to it.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.learners import (
    FromSklearn,
    Learner,
    OutcomeKind,
    PropensityKind,
    Regression,
    deal_groups,
    outcome_learner,
    propensity_learner,
)
from eo_causal.estimate.propensity import clip

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
LearnerName = Literal["t", "x", "r", "dr", "causal_forest"]
ARMS = (0, 1)


class EffectSettings(Settings):
    """Models of effects, and of what they are corrected for."""

    final: OutcomeKind = Field(default="ridge", description="model of the effects")
    inner_folds: int = Field(
        default=5, ge=2, description="parts of a training part, for cross-fitting and tuning"
    )
    clip: float = Field(
        default=0.01, gt=0, lt=0.5, description="propensities are kept within [clip, 1 - clip]"
    )
    outcome: OutcomeKind = Field(default="ridge", description="model of the outcome in each arm")
    propensity: PropensityKind = Field(
        default="logistic", description="model of treatment, where no design probability is known"
    )
    n_trees: int = Field(default=500, ge=1, description="of the causal forest")


@dataclass(frozen=True)
class Rows:
    """What a learner may learn from.

    Attributes
    ----------
    design : (unit, feature) array
    treatment : (unit,) array
        0 or 1.
    outcome : (unit,) array
    group : (unit,) int array
        Codes of what is kept whole, for example image keys.
    """

    design: Floats
    treatment: Floats
    outcome: Floats
    group: Positions

    def take(self, positions: Positions) -> "Rows":
        """The rows at these positions, which may repeat."""
        return Rows(
            self.design[positions],
            self.treatment[positions],
            self.outcome[positions],
            self.group[positions],
        )


@dataclass(frozen=True)
class NuisanceModels:
    """Models fitted on all rows, for rows never seen.

    Attributes
    ----------
    treatment : Learner or float
        Model of the propensity, or the design probability of a trial.
    control, treated : Learner
        Models of the outcome in each arm.
    clip : float
        Propensities are kept within [clip, 1 - clip].
    """

    treatment: Learner | float
    control: Learner
    treated: Learner
    clip: float

    def propensity(self, design: Floats) -> Floats:
        """(unit,) probability of treatment."""
        if isinstance(self.treatment, float):
            return np.full(len(design), self.treatment)
        return clip(self.treatment.predict(design), self.clip)[0]


@dataclass(frozen=True)
class Nuisances:
    """Out-of-fold predictions for the rows they were learned from, and the models of all rows.

    Attributes
    ----------
    propensity, mu0, mu1 : (unit,) array
        Clipped probability of treatment; mean outcome without and with treatment.
    models : NuisanceModels
    """

    propensity: Floats
    mu0: Floats
    mu1: Floats
    models: NuisanceModels

    def score(self, rows: Rows) -> Floats:
        """(unit,) AIPW scores, whose mean given the features is the effect."""
        return aipw_scores(rows.treatment, rows.outcome, self.propensity, self.mu0, self.mu1)

    def take(self, positions: Positions) -> "Nuisances":
        """Predictions at these positions, which may repeat; the models stay."""
        return Nuisances(
            self.propensity[positions], self.mu0[positions], self.mu1[positions], self.models
        )

    def predict(self, design: Floats) -> tuple[Floats, Floats, Floats]:
        """Propensity, mu0 and mu1 (unit,) of rows that no model has seen."""
        models = self.models
        return (
            models.propensity(design),
            models.control.predict(design),
            models.treated.predict(design),
        )


class EffectModel(Protocol):
    """What every learner of effects ends in."""

    def predict(self, design: Floats) -> Floats:
        """(unit,) effects, in units of the outcome."""


def fit_nuisances(
    rows: Rows, probability: float | None, settings: EffectSettings, random: np.random.Generator
) -> Nuisances:
    """Propensity and outcome models, cross-fitted inside the rows.

    The same parts choose penalties and give the out-of-fold predictions (as the R-learner's own
    software does, arXiv 1712.04912): one number is learned from all rows, nothing from outside.

    Parameters
    ----------
    rows : Rows
    probability : float or None
        Known probability of treatment in a trial; then no propensity model is fitted.
    settings : EffectSettings
    random : Generator
        Deals the groups into parts.

    Raises
    ------
    DataError
        An arm that is absent when some part is left out.
    """
    folds = deal_groups(rows.group, rows.treatment, settings.inner_folds, random)
    seed = int(random.integers(2**31))
    control, mu0 = _cross_fit_arm(0, rows, folds, outcome_learner(settings.outcome, seed))
    treated, mu1 = _cross_fit_arm(1, rows, folds, outcome_learner(settings.outcome, seed))
    if probability is not None:
        models = NuisanceModels(float(probability), control, treated, settings.clip)
        return Nuisances(models.propensity(rows.design), mu0, mu1, models)
    treatment = propensity_learner(settings.propensity, seed)
    treatment.fit(rows.design, rows.treatment, folds)
    everyone = np.ones(len(folds), dtype=bool)
    raw = treatment.held_out(rows.design, rows.treatment, folds, everyone)
    propensity, clipped = clip(raw, settings.clip)
    count(propensities_clipped=int(clipped.sum()))
    models = NuisanceModels(treatment, control, treated, settings.clip)
    return Nuisances(propensity, mu0, mu1, models)


def fit_effects(
    name: LearnerName,
    rows: Rows,
    nuisances: Nuisances,
    settings: EffectSettings,
    random: np.random.Generator,
    model: Any = None,
) -> EffectModel:
    """A model of the effect given the features.

    With e the propensity, m = e mu1 + (1 - e) mu0 and out-of-fold nuisances:

    ===============  =========================================================================
    ``t``            mu1 - mu0, of outcome models fitted to the rows of each arm
    ``x``            e tau0 + (1 - e) tau1; tau1 learns Y - mu0 from the treated, tau0 learns
                     mu1 - Y from the controls (arXiv 1706.03461)
    ``r``            learns (Y - m)/(W - e) with weights (W - e)^2 (arXiv 1712.04912)
    ``dr``           learns the AIPW score (arXiv 2004.14497)
    ``causal_forest``  of econml, on Y - m and W - e (arXiv 1610.01271); its subsamples are of
                     rows, not of groups
    ===============  =========================================================================

    Parameters
    ----------
    name : str
    rows : Rows
    nuisances : Nuisances
        Of the same rows.
    settings : EffectSettings
    random : Generator
        Deals the groups into the parts that penalties are chosen on; seeds trees.
    model : estimator or None
        A regressor of scikit-learn in the place of the settings' model.

    Raises
    ------
    DataError
        Too few groups to leave a part out.
    ConfigError
        The causal forest without the extra ``forest``, or with a ``model``; a model without weights
        for the R-learner.
    """
    folds = deal_groups(rows.group, rows.treatment, settings.inner_folds, random)
    seed = int(random.integers(2**31))
    _check_parts(np.ones(len(folds), dtype=bool), folds, "")
    if name == "causal_forest":
        return _forest(rows, nuisances, settings.n_trees, seed, model)

    def regression(kind: OutcomeKind) -> Regression:
        return outcome_learner(kind, seed) if model is None else FromSklearn(model)

    if name == "t":
        control, treated = (
            _fit_arm(arm, rows, rows.outcome, folds, regression(settings.outcome)) for arm in ARMS
        )
        return _Difference(control, treated)
    if name == "x":
        imputed = nuisances.mu1 - rows.outcome, rows.outcome - nuisances.mu0
        control, treated = (
            _fit_arm(arm, rows, imputed[arm], folds, regression(settings.final)) for arm in ARMS
        )
        return _Blend(control, treated, nuisances.models)
    final = regression(settings.final)
    if name == "dr":
        return final.fit(rows.design, nuisances.score(rows), folds)
    outcome, treatment = _residuals(rows, nuisances)
    return final.fit(rows.design, outcome / treatment, folds, treatment**2)


@dataclass(frozen=True)
class _Difference:
    """Of the outcome models of two arms."""

    control: Learner
    treated: Learner

    def predict(self, design: Floats) -> Floats:
        return self.treated.predict(design) - self.control.predict(design)


@dataclass(frozen=True)
class _Blend:
    """Effects learned from each arm, weighted by the propensity."""

    control: Learner
    treated: Learner
    models: NuisanceModels

    def predict(self, design: Floats) -> Floats:
        share = self.models.propensity(design)
        return share * self.control.predict(design) + (1 - share) * self.treated.predict(design)


@dataclass(frozen=True)
class _Forest:
    forest: Any

    def predict(self, design: Floats) -> Floats:
        return np.asarray(self.forest.predict(design), dtype=float)[:, 0]


def _fit_arm(
    arm: int, rows: Rows, target: Floats, folds: Positions, learner: Regression
) -> Regression:
    """The learner, fitted to the rows of one arm."""
    seen = rows.treatment == arm
    _check_parts(seen, folds, "treated " if arm else "untreated ")
    return learner.fit(rows.design[seen], target[seen], folds[seen])


def _cross_fit_arm(
    arm: int, rows: Rows, folds: Positions, learner: Regression
) -> tuple[Regression, Floats]:
    """The outcome model of one arm, and its out-of-fold predictions for all rows."""
    _fit_arm(arm, rows, rows.outcome, folds, learner)
    seen = rows.treatment == arm
    return learner, learner.held_out(rows.design, rows.outcome, folds, seen)


def _residuals(rows: Rows, nuisances: Nuisances) -> tuple[Floats, Floats]:
    """Y - m and W - e."""
    share = nuisances.propensity
    mean = share * nuisances.mu1 + (1 - share) * nuisances.mu0
    return rows.outcome - mean, rows.treatment - share


def _forest(rows: Rows, nuisances: Nuisances, n_trees: int, seed: int, model: Any) -> EffectModel:
    if model is not None:
        raise ConfigError(
            f"causal_forest: it has no final model that {type(model).__name__} could replace. Leave"
            " the model out, or use another learner.", model=type(model).__name__,
        )  # fmt: skip
    try:
        from econml.grf import CausalForest
    except ImportError as error:
        raise ConfigError(
            "causal_forest needs econml. Install it: pip install 'eo-causal[forest]'.",
            extra="forest",
        ) from error
    outcome, treatment = _residuals(rows, nuisances)
    forest = CausalForest(n_estimators=n_trees, inference=False, n_jobs=1, random_state=seed)
    return _Forest(forest.fit(rows.design, treatment, outcome))


def _check_parts(seen: NDArray[np.bool_], folds: Positions, which: str) -> None:
    """Some of the rows ``seen`` remain when any part is left out."""
    size = np.bincount(folds[seen], minlength=int(folds.max()) + 1)
    if not (seen.sum() > size).all():
        raise DataError(
            f"all {int(seen.sum())} {which}units lie in groups of one of {len(size)} parts, so that"
            " nothing can be learned without that part. Give more units, or smaller groups.",
            n=int(seen.sum()), n_parts=len(size),
        )  # fmt: skip
