"""Predict an outcome from images where nobody measured it: out of fold, with units kept for calibration.

Folds have three roles. Model f is tested on fold f, calibrated on the next one and trained on the rest, so
that what a correction learns from is predicted by the same model that it corrects (arXiv 2508.01341).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.tasks import compute_tasks
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.learners import OutcomeKind, Ridge, deal_groups, outcome_learner
from eo_causal.estimate.preparation import check_features, principal_axes

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


class OutcomeSettings(Settings):
    """The model that reads an outcome from images."""

    model: OutcomeKind = Field(
        default="ridge", description="ridge regression (needed for maps), boosting or random forest"
    )
    n_components: int | None = Field(
        default=100, ge=1, description="principal components where there are more features"
    )
    inner_folds: int = Field(default=5, ge=2, description="parts of a training part, for tuning")


@dataclass(frozen=True)
class OutcomeFit:
    """Predictions out of fold, and the models as numbers.

    Attributes
    ----------
    predictions : DataFrame
        unit_id, outcome, outcome_pred, fold, cluster; one row a unit, by the model that was tested on
        it.
    calibration : DataFrame
        unit_id, outcome, outcome_pred, fold, cluster; the calibration units of each fold's model,
        predicted by it. ``fold`` is the model's.
    head : Dataset
        ``weight (fold, feature)`` and ``intercept (fold)``: a ridge model as one linear function of
        raw features. Without variables for other models.
    """

    predictions: pd.DataFrame
    calibration: pd.DataFrame
    head: xr.Dataset


@dataclass(frozen=True)
class OutcomeStudy:
    """What the tasks share: (image, feature) values, and of each unit its image, outcome and group."""

    values: Floats
    image_of_unit: Positions
    outcome: Floats
    group: Positions


@dataclass(frozen=True)
class FoldModel:
    """What one fold's model says: of the tested and the calibration units, and itself as numbers."""

    tested: Floats
    calibrated: Floats
    weight: Floats | None
    intercept: float


def predict_outcome(
    units: StudyUnits,
    folds: Folds,
    embedding: xr.DataArray,
    settings: OutcomeSettings,
    *,
    seed: int,
) -> OutcomeFit:
    """Cross-fitted predictions of the outcome from images, on the first split of the folds.

    Parameters
    ----------
    units : StudyUnits
        With an outcome; treatment is not read.
    folds : Folds
        At least three; spatial blocks, or predictions look better than they are elsewhere.
    embedding : DataArray (unit, feature)
        Of the chips, with ``image_key``. What a frozen encoder normalises by may come from all of them;
        no outcome does.
    settings : OutcomeSettings

    Raises
    ------
    ConfigError
        Fewer than three folds.
    DataError
        Units with missing features; a model without units to learn from.
    """
    from dask.delayed import delayed

    if folds.n_folds < 3:
        raise ConfigError(
            f"folds.n_folds is {folds.n_folds}; testing, calibration and training need 3 at least.",
            n_folds=folds.n_folds,
        )
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    ids = units.table["unit_id"].to_numpy(dtype=object)
    values = check_features(
        embedding.to_numpy(), "the embedding", image, embedding.sizes["unit"], ids
    )
    study = OutcomeStudy(values, image, units.outcome, folds.group)
    roles = fold_roles(folds)
    common = delayed(study, traverse=False)
    fit = delayed(fit_model, pure=False)
    fits = compute_tasks(
        [fit(common, role, fold, settings, seed) for fold, role in enumerate(roles)]
    )
    tested = [
        _rows(units, test, f.tested, k) for k, ((_, test, _), f) in enumerate(_zip(roles, fits))
    ]
    kept = [
        _rows(units, own, f.calibrated, k) for k, ((_, _, own), f) in enumerate(_zip(roles, fits))
    ]
    order = np.concatenate([test for _, test, _ in roles]).argsort()
    count(
        models=len(fits),
        units_predicted=len(order),
        units_trained_on=round(np.mean([len(training) for training, _, _ in roles])),
    )
    return OutcomeFit(
        pd.concat(tested, ignore_index=True).iloc[order].reset_index(drop=True),
        pd.concat(kept, ignore_index=True),
        _head(fits, embedding),
    )


def fold_roles(folds: Folds) -> list[tuple[Positions, Positions, Positions]]:
    """(training, test, calibration) positions of each fold of the first split.

    The next fold calibrates; units near either, as far as the folds keep a buffer, do not train.
    """
    pairs = folds.pairs(0)
    roles = []
    for fold, (training, test) in enumerate(pairs):
        next_training, calibration = pairs[(fold + 1) % len(pairs)]
        roles.append((np.intersect1d(training, next_training), test, calibration))
    return roles


def fit_model(
    study: OutcomeStudy,
    role: tuple[Positions, Positions, Positions],
    fold: int,
    settings: OutcomeSettings,
    seed: int,
) -> FoldModel:
    """One fold's model; the task that runs on a worker.

    Raises
    ------
    DataError
        No unit to learn from.
    """
    training, test, calibration = role
    if len(np.unique(study.group[training])) < 2:
        raise DataError(
            f"fold {fold}: {len(training)} units are left to learn from, between the tested and the"
            " calibration blocks. Narrow folds.buffer_m, or use smaller blocks.", fold=fold,
        )  # fmt: skip
    values, image = study.values, study.image_of_unit
    mean, scale, axes = _basis(values, np.unique(image[training]), settings.n_components)
    design = ((values - mean) / scale) @ axes
    random = generator(seed, "outcome", fold)
    target = study.outcome[training]
    parts = deal_groups(study.group[training], target, settings.inner_folds, random)
    learner = outcome_learner(settings.model, int(random.integers(2**31)))
    fitted = learner.fit(design[image[training]], target, parts)
    weight, intercept = None, np.nan
    if isinstance(fitted, Ridge):
        weight = (axes @ fitted.coefficients_) / scale
        intercept = float(fitted.intercept_ - mean @ weight)
    return FoldModel(
        fitted.predict(design[image[test]]), fitted.predict(design[image[calibration]]),
        weight, intercept,
    )  # fmt: skip


def apply_head(head: xr.Dataset, embedding: xr.DataArray) -> xr.DataArray:
    """Predictions of every fold's model at other places.

    Parameters
    ----------
    head : Dataset
        Of :class:`OutcomeFit`.
    embedding : DataArray (unit, feature)
        By the encoder the models learned from; numpy or dask.

    Returns
    -------
    DataArray (unit, fold)
        In units of the outcome.

    Raises
    ------
    ConfigError
        The model is not linear, or other features.
    """
    if "weight" not in head:
        raise ConfigError(
            "maps need outcome.model: ridge; the model that was fitted is not linear."
        )
    ours, theirs = head["feature"].to_numpy().tolist(), embedding["feature"].to_numpy().tolist()
    if ours != theirs:
        raise ConfigError(
            f"the model knows {len(ours)} features, the embedding has {len(theirs)} or others. Embed"
            " with the encoder that the model learned from.", n=len(theirs),
        )  # fmt: skip
    values = embedding.data @ head["weight"].to_numpy().T + head["intercept"].to_numpy()
    kept = {n: item.variable for n, item in embedding.coords.items() if item.dims == ("unit",)}
    return xr.DataArray(values, dims=("unit", "fold"), coords=kept, name="outcome_pred")


@dataclass(frozen=True)
class OutcomeLayers:
    """Predictions of every fold's model as layers of a map: ``fold_0``, ``fold_1``, ..."""

    head: xr.Dataset

    @property
    def layers(self) -> tuple[str, ...]:
        """One a model."""
        return tuple(f"fold_{number}" for number in range(self.head.sizes["fold"]))

    def __call__(self, embedding: xr.DataArray) -> Floats:
        """(unit, model) predictions; see :func:`apply_head`."""
        return apply_head(self.head, embedding).to_numpy()


def _basis(
    values: Floats, images: Positions, n_components: int | None
) -> tuple[Floats, Floats, Floats]:
    """Mean, scale and (feature, component) axes of the training images; constant features are 0."""
    part = values[images]
    mean, scale = part.mean(axis=0), part.std(axis=0)
    constant = ~(scale > 1e-10 * np.abs(mean))
    scale = np.where(constant, 1.0, scale)
    axes = np.eye(values.shape[1])
    if n_components is not None and values.shape[1] > n_components:
        axes = principal_axes(np.where(constant, 0.0, (part - mean) / scale), n_components)
    axes[constant] = 0.0
    return mean, scale, axes


def _zip(
    roles: list[tuple[Positions, Positions, Positions]], fits: list[FoldModel]
) -> list[tuple[tuple[Positions, Positions, Positions], FoldModel]]:
    return list(zip(roles, fits, strict=True))


def _rows(units: StudyUnits, positions: Positions, predicted: Floats, fold: int) -> pd.DataFrame:
    table = units.table.iloc[positions][["unit_id", "outcome", "cluster"]]
    return table.assign(outcome_pred=predicted, fold=fold).reset_index(drop=True)


def _head(fits: list[FoldModel], embedding: xr.DataArray) -> xr.Dataset:
    if any(fit.weight is None for fit in fits):
        return xr.Dataset()
    weights = np.stack([fit.weight for fit in fits if fit.weight is not None])
    intercepts = [fit.intercept for fit in fits]
    return xr.Dataset(
        {"weight": (("fold", "feature"), weights), "intercept": ("fold", intercepts)},
        coords={"feature": embedding["feature"].to_numpy()},
    )
