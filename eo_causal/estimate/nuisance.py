"""Cross-fitted nuisances: propensity and outcome models that never predict a unit they have seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.estimate.learners import (
    Learner,
    OutcomeKind,
    PropensityKind,
    deal_groups,
    logistic_coefficients,
    outcome_learner,
    propensity_learner,
)
from eo_causal.estimate.preparation import check_features, design_matrix
from eo_causal.estimate.propensity import logit

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
Pair = tuple[Positions, Positions]
Features = Callable[[Positions], NDArray[np.floating]]
"""From positions of training chips to (chip, feature) values of all chips."""

RECALIBRATION_PENALTY = 1e-8


class NuisanceSettings(Settings):
    """Models of treatment and outcome, and how their penalties are chosen."""

    propensity: PropensityKind = Field(
        default="logistic",
        description="ridge logistic regression, gradient boosting, random forest",
    )
    outcome: OutcomeKind = Field(
        default="ridge",
        description="in each arm: ridge regression, gradient boosting, random forest",
    )
    n_components: int | None = Field(
        default=30, ge=1, description="principal components where there are more features"
    )
    inner_folds: int = Field(default=5, ge=2, description="parts of a training part, for tuning")
    recalibration: Literal["none", "isotonic", "logistic"] = Field(
        default="none", description="of propensities, learned out of fold inside the training part"
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="pulls propensities to 1/2; only to repeat a publication",
    )


@dataclass(frozen=True)
class Study:
    """What the models of all arms share: plain arrays that travel to workers.

    Attributes
    ----------
    unit_id : (unit,) array
    treatment, outcome : (unit,) array
    covariates : (unit, covariate) array
        NaN = missing.
    image_of_unit : (unit,) int array
        Position of each unit's image.
    n_images : int
    group : (unit,) int array
        What is kept together when penalties are chosen.
    """

    unit_id: NDArray[np.object_]
    treatment: Floats
    outcome: Floats
    covariates: Floats
    image_of_unit: Positions
    n_images: int
    group: Positions


@dataclass(frozen=True)
class FoldFit:
    """Predictions of one fold's models for its test units, at positions ``test``."""

    test: Positions
    propensity: Floats
    mu0: Floats
    mu1: Floats
    penalty: float
    n_features: int


@dataclass(frozen=True)
class Nuisance:
    """Out-of-fold predictions for all units of one split.

    Attributes
    ----------
    propensity, mu0, mu1 : (unit,) array
        Probability of treatment; mean outcome without and with treatment.
    fold : (unit,) int array
        Fold whose models predicted the unit.
    penalty : float
        Median penalty of the propensity models; NaN where they have none.
    n_features : int
        Columns of the design; 0 where it is not known.
    """

    propensity: Floats
    mu0: Floats
    mu1: Floats
    fold: Positions
    penalty: float = np.nan
    n_features: int = 0


def cross_fit(
    covariates: Floats,
    treatment: Floats,
    outcome: Floats,
    pairs: list[Pair],
    group: Positions,
    settings: NuisanceSettings | None = None,
    *,
    seed: int,
) -> Nuisance:
    """Out-of-fold nuisances of one split from a table of covariates.

    Parameters
    ----------
    covariates : (unit, covariate) array
        NaN = missing.
    treatment, outcome : (unit,) array
    pairs : list of (training, test)
        Positions; the tests are a partition (see :meth:`eo_causal.core.folds.Folds.pairs`).
    group : (unit,) int array
        What is kept together when penalties are chosen.
    """
    rows = np.arange(len(treatment))
    study = Study(rows.astype(object), treatment, outcome, covariates, rows, 0, group)
    chosen = settings or NuisanceSettings()
    parts = [
        fit_source("", None, study, (True,), pair, (0, k), chosen, seed)[0]
        for k, pair in enumerate(pairs)
    ]
    return stitch(parts, len(treatment))


def fit_source(
    name: str,
    features: Features | None,
    study: Study,
    with_covariates: tuple[bool, ...],
    pair: Pair,
    split_and_fold: tuple[int, int],
    settings: NuisanceSettings,
    seed: int,
) -> list[FoldFit]:
    """One fold of all arms that share one source of features; the task that runs on a worker.

    Parameters
    ----------
    name : str
        Of the source.
    features : callable or None
        None for arms without images.
    with_covariates : tuple of bool
        One entry an arm: whether its models see the covariates.

    Returns
    -------
    list of FoldFit
        One an arm.

    Raises
    ------
    DataError
        Units with missing or infinite features.
    """
    values = image_values(name, features, study, pair[0])
    fits = []
    for seen in with_covariates:
        covariates = study.covariates if seen else None
        design = design_matrix(
            values, study.image_of_unit, covariates, pair[0], settings.n_components
        )
        random = generator(seed, "nuisance", *split_and_fold)
        fits.append(fit_fold(design, study, pair, settings, random))
    return fits


def image_values(
    name: str, features: Features | None, study: Study, training: Positions
) -> Floats | None:
    """(image, feature) values of all images, learned from those of the training units only.

    Raises
    ------
    DataError
        Units with missing or infinite features.
    """
    import dask

    if features is None:
        return None
    with dask.config.set(scheduler="synchronous"):
        found = features(np.unique(study.image_of_unit[training]))
    return check_features(found, name, study.image_of_unit, study.n_images, study.unit_id)


def fit_fold(
    design: Floats,
    study: Study,
    pair: Pair,
    settings: NuisanceSettings,
    random: np.random.Generator,
) -> FoldFit:
    """Propensity and outcome models of one training part, and their predictions for its test part."""
    training, test = pair
    group, treatment = study.group[training], study.treatment[training]
    inner = deal_groups(group, treatment, settings.inner_folds, random)
    boosting_seed = int(random.integers(2**31))
    learner = _propensity_learner(settings, boosting_seed)
    propensity = learner.fit(design[training], treatment, inner).predict(design[test])
    if settings.recalibration != "none":
        raw = _out_of_fold(design[training], treatment, inner, settings, boosting_seed)
        propensity = recalibrate(raw, treatment, propensity, settings.recalibration)
    mean = {}
    for arm in (0, 1):
        rows, outcome = training[treatment == arm], study.outcome[training[treatment == arm]]
        parts = deal_groups(study.group[rows], outcome, settings.inner_folds, random)
        regression = outcome_learner(settings.outcome, boosting_seed).fit(
            design[rows], outcome, parts
        )
        mean[arm] = regression.predict(design[test])
    return FoldFit(test, propensity, mean[0], mean[1], learner.penalty_, design.shape[1])


def stitch(parts: list[FoldFit], n: int) -> Nuisance:
    """One vector of each prediction from the folds of a split, for ``n`` units."""
    found = {name: np.full(n, np.nan) for name in ("propensity", "mu0", "mu1")}
    fold = np.full(n, -1, dtype=np.intp)
    for number, part in enumerate(parts):
        fold[part.test] = number
        for name, values in found.items():
            values[part.test] = getattr(part, name)
    penalty = float(np.median([part.penalty for part in parts]))
    return Nuisance(
        found["propensity"], found["mu0"], found["mu1"], fold, penalty, parts[0].n_features
    )


def recalibrate(
    raw: Floats, treatment: Floats, propensity: Floats, how: Literal["isotonic", "logistic"]
) -> Floats:
    """Propensities by what out-of-fold propensities ``raw`` of training units turned out to mean.

    Parameters
    ----------
    raw, treatment : (training unit,) array
    propensity : (unit,) array
        To be mapped.
    """
    if how == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, treatment)
        return np.asarray(fitted.predict(propensity), dtype=float)
    ones = np.ones((len(raw), 1))
    level, slope = logistic_coefficients(
        logit(raw)[:, None], treatment, ones, RECALIBRATION_PENALTY
    )[0]
    return np.asarray(1 / (1 + np.exp(-(level + slope * logit(propensity)))))


def _propensity_learner(settings: NuisanceSettings, seed: int) -> Learner:
    return propensity_learner(settings.propensity, seed, settings.label_smoothing)


def _out_of_fold(
    design: Floats, treatment: Floats, inner: Positions, settings: NuisanceSettings, seed: int
) -> Floats:
    """Propensities of training units from models fitted to the other inner folds."""
    found = np.empty(len(treatment))
    for k in np.unique(inner):
        rest, part = inner != k, inner == k
        numbers = np.unique(inner[rest], return_inverse=True)[1]
        learner = _propensity_learner(settings, seed)
        found[part] = learner.fit(design[rest], treatment[rest], numbers).predict(design[part])
    return found
