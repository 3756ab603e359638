"""Which design choices find effect heterogeneity: all of them on repeated trials, and one summary.

After the multivariate summary of arXiv 2407.11674: the tested ratio on dummies of the choices.
"""

from dataclasses import replace
from itertools import batched
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import count, counting, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.tasks import compute_tasks
from eo_causal.core.units import StudyUnits
from eo_causal.core.variance import interval, mean_std_error, ols_covariance, p_value
from eo_causal.errors import DataError
from eo_causal.estimate.arms import IMAGE, TABULAR, WITH_TABULAR
from eo_causal.estimate.heterogeneity import HeterogeneitySettings, estimate_heterogeneity
from eo_causal.estimate.nuisance import Features

Floats = NDArray[np.float64]
CHOICES = ("data", "images", "encoder", "covariates", "learner")
AT_BASELINE = "all at baseline"
CELL = ("world", "data", "encoder", "covariates", "learner", "metric")
NO_IMAGE = "no image"
BETWEEN = "/"
WAVE = 10
ALPHA = 0.05


class ChipFeatures(Protocol):
    """A frozen dataclass of chips that gives features for training positions: FoldFeatures."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def chips(self) -> xr.DataArray:
        """(repetition, unit, time, band, y, x)."""

    def __call__(self, training: NDArray[np.intp]) -> NDArray[Any]:
        """(chip, feature) of all chips; only those at ``training`` may be learned from."""


class GridSettings(Settings):
    """How every trial is analysed."""

    covariates: tuple[bool, ...] = Field(
        default=(False, True), min_length=1,
        description="whether models see the covariates beside the images; true also alone",
    )  # fmt: skip
    folds: FoldSettings = Field(
        default=FoldSettings(kind="image_key", n_splits=1),
        description="one split keeps the test exact; repetitions take the place of splits",
    )
    heterogeneity: HeterogeneitySettings = Field(
        default=HeterogeneitySettings(learners=("dr", "t"), n_draws=100),
        description="learners and tests; arms are those of the grid",
    )
    probability: float | None = Field(
        default=0.5, gt=0, lt=1, description="design probability of the trials; null = modelled"
    )

    @model_validator(mode="after")
    def _grid_names_the_arms(self) -> "GridSettings":
        if self.heterogeneity.arms is not None:
            raise ValueError("heterogeneity.arms: the grid names them; leave them out")
        return self


def estimate_grid(
    world: str,
    units: pd.DataFrame,
    covariates: list[str],
    features: dict[str, ChipFeatures],
    settings: GridSettings,
    *,
    seed: int,
) -> pd.DataFrame:
    """All design choices on all trials of one world; one dask task a repetition.

    Parameters
    ----------
    world : str
        Its name, for the table.
    units : DataFrame
        Of all repetitions: ``repetition``, the columns of study units, covariates and the true
        ``effect``.
    covariates : list of str
        Columns of ``units``.
    features : dict
        ``ENCODER/DATA`` -> features of the chips of all repetitions.
    settings : GridSettings

    Returns
    -------
    DataFrame
        world, repetition, data, encoder, covariates (yes, no), learner, metric (autoc, qini),
        estimate, std_error, ratio, p_value (one-sided, sequential), correlation (of predicted with
        true effects; NaN where effects do not differ). Of covariates alone ``data`` is "no image" and
        ``encoder`` is absent.

    Raises
    ------
    ConfigError, DataError
        As :func:`eo_causal.estimate.heterogeneity.estimate_heterogeneity`.
    """
    from dask.delayed import delayed

    # traverse=False: else dask would load the chips before it hands them to the tasks
    given = delayed(features, traverse=False)
    estimate = delayed(estimate_trial, pure=False)
    columns = [name for name in units if name != "repetition"]
    parts: list[pd.DataFrame] = []
    trials = [
        (int(r), own[columns].reset_index(drop=True)) for r, own in units.groupby("repetition")
    ]
    for wave in track(list(batched(trials, WAVE)), world):
        tasks = [estimate(number, own, covariates, given, settings, seed) for number, own in wave]
        for rates, counts in compute_tasks(tasks):
            parts.append(rates)
            count(trials=1, **counts)
    found = pd.concat(parts, ignore_index=True)
    found.insert(0, "world", world)
    return found


def estimate_trial(
    repetition: int,
    table: pd.DataFrame,
    covariates: list[str],
    features: dict[str, ChipFeatures],
    settings: GridSettings,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rates of one trial and what was counted; the task that runs on a worker.

    Encoders that draw at random draw anew in every repetition, so that the luck of one draw is not
    taken for what the encoder is worth.
    """
    import dask

    own_seed = int(generator(seed, "grid", repetition).integers(2**31))
    units = StudyUnits(table.drop(columns=[*covariates, "effect"]), table[covariates])
    with dask.config.set(scheduler="synchronous"), counting() as counts:
        own: dict[str, Features] = {
            name: replace(
                item, chips=item.chips.isel(repetition=repetition).compute(), seed=own_seed
            )
            for name, item in features.items()
        }
        folds = make_folds(units, settings.folds, None, 0.0, True, seed=own_seed)
        wanted = settings.heterogeneity.model_copy(
            update={"arms": arm_names(list(features), settings.covariates)}
        )
        found = estimate_heterogeneity(
            units, folds, table["image_key"].tolist(), own, {}, settings.probability, wanted,
            seed=own_seed,
        )  # fmt: skip
    effect = table["effect"].to_numpy()
    predicted = found.cate.groupby(["arm", "learner"], sort=False)["cate"]
    followed = predicted.agg(lambda cate: correlation(cate.to_numpy(), effect))
    rates = found.rates[["arm", "learner", "metric", "estimate", "std_error", "ratio", "p_value"]]
    rates = rates.join(followed.rename("correlation"), on=["arm", "learner"])
    choices = pd.DataFrame([choices_of(arm) for arm in rates.pop("arm")])
    choices.insert(0, "repetition", repetition)
    return pd.concat([choices, rates], axis=1), counts


def arm_names(images: list[str], covariates: tuple[bool, ...]) -> tuple[str, ...]:
    """Arms of the grid, images first: the first is what others are compared with."""
    arms = [
        f"{IMAGE}{name}{WITH_TABULAR if seen else ''}" for seen in covariates for name in images
    ]
    return (*arms, TABULAR) if any(covariates) else tuple(arms)


def choices_of(arm: str) -> dict[str, str | None]:
    """Data, encoder and covariates of an arm of the grid."""
    seen = "yes" if arm.endswith(TABULAR) else "no"
    if arm == TABULAR:
        return {"data": NO_IMAGE, "encoder": None, "covariates": seen}
    encoder, _, data = arm.removeprefix(IMAGE).removesuffix(WITH_TABULAR).partition(BETWEEN)
    return {"data": data, "encoder": encoder, "covariates": seen}


def correlation(predicted: Floats, effect: Floats) -> float:
    """Of predicted with true effects; 0 where predictions are constant, NaN where effects are."""
    if np.ptp(effect) == 0:
        return np.nan
    return 0.0 if np.ptp(predicted) == 0 else float(np.corrcoef(predicted, effect)[0, 1])


def cells(rates: pd.DataFrame) -> pd.DataFrame:
    """Means of every cell of the grid over its repetitions.

    Returns
    -------
    DataFrame
        world, data, encoder, covariates, learner, metric, n (repetitions), ratio (mean), std_error
        (Monte-Carlo, of the mean), rejected (share of p-values below .05), correlation (mean).
    """
    groups = rates.groupby(list(CELL), sort=False, dropna=False)
    table = pd.DataFrame({
        "n": groups["ratio"].size(), "ratio": groups["ratio"].mean(),
        "std_error": groups["ratio"].std() / np.sqrt(groups["ratio"].size()),
        "rejected": groups["p_value"].agg(lambda p: (p < ALPHA).mean()),
        "correlation": groups["correlation"].mean(),
    })  # fmt: skip
    return table.reset_index()


def rejections(rates: pd.DataFrame) -> pd.DataFrame:
    """Share of tests that find heterogeneity, over all rankings of a world and metric.

    Returns
    -------
    DataFrame
        world, metric, n (tests), rejected, std_error (rankings of one trial depend on one another).
    """
    rows = []
    for (world, metric), own in rates.groupby(["world", "metric"], sort=False):
        found = (own["p_value"] < ALPHA).to_numpy(dtype=float)
        error = mean_std_error(found, own["repetition"].to_numpy())
        rows.append({"world": world, "metric": metric, "n": len(own), "rejected": found.mean(),
                     "std_error": error})  # fmt: skip
    return pd.DataFrame(rows)


def choices_summary(rates: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """What each design choice adds to the tested ratio: least squares on dummies of the choices.

    Parameters
    ----------
    rates : DataFrame
        arm (or data, encoder, covariates), learner, metric, ratio; where there are several, world
        and repetition. Of arms, the images and whether covariates are seen are the choices.
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        world (where given), metric, choice, level, baseline, n (rankings with that level), estimate
        (added to the ratio of the baseline, the level that comes first), std_error, lower, upper,
        p_value. The row ``all at baseline`` holds the ratio with no choice changed. Errors are
        clustered by repetition; without repetitions rankings share their data and there are none
        (NaN). A level that always comes with one of an earlier choice has no estimate of its own
        (NaN). An absent choice (the encoder of no image) is counted as its baseline.

    Raises
    ------
    DataError
        Columns that are missing, or a ratio that is no number.

    Notes
    -----
    After the multivariate summary of arXiv 2407.11674; main effects only, so that a choice which pays
    only beside another shows its average.
    """
    absent = {"learner", "metric", "ratio"} - set(rates)
    if absent or not ({"arm", "data"} & set(rates)):
        raise DataError(
            f"rates have the columns {', '.join(map(str, rates))}; a summary of design choices needs"
            " arm (or data), learner, metric and ratio. Give the table of tested rates."
        )
    if not np.isfinite(rates["ratio"]).all():
        raise DataError(
            f"{int((~np.isfinite(rates['ratio'])).sum())} of {len(rates)} ratios are no number. Leave"
            " out rankings that were not tested."
        )
    table = rates if "data" in rates else rates.assign(**_choices_of_arms(rates["arm"]))
    keys = [name for name in ("world", "metric") if name in table]
    parts = []
    for names, own in table.groupby(keys, sort=False):
        part = _summary(own, level)
        for position, (key, name) in enumerate(zip(keys, names, strict=True)):
            part.insert(position, key, name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _choices_of_arms(arms: pd.Series) -> dict[str, list[str]]:
    images = [arm.removesuffix(TABULAR).removesuffix("+").removeprefix(IMAGE) for arm in arms]
    return {
        "images": [name or NO_IMAGE for name in images],
        "covariates": ["yes" if arm.endswith(TABULAR) else "no" for arm in arms],
    }


def _summary(rates: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The regression of one world and metric."""
    rows: list[dict[str, Any]] = [
        {"choice": AT_BASELINE, "level": "", "baseline": "", "n": len(rates)}
    ]
    columns, at = [np.ones(len(rates))], [0]
    for choice in [name for name in CHOICES if name in rates]:
        levels = list(dict.fromkeys(rates[choice].dropna()))
        for level in levels[1:]:
            dummy = (rates[choice] == level).to_numpy(dtype=float)
            design = np.column_stack([*columns, dummy])
            if np.linalg.matrix_rank(design) == design.shape[1]:
                columns.append(dummy)
                at.append(len(rows))
            rows.append({"choice": choice, "level": level, "baseline": levels[0],
                         "n": int(dummy.sum())})  # fmt: skip
    found = pd.DataFrame(rows)
    design, ratio = np.column_stack(columns), rates["ratio"].to_numpy(dtype=float)
    coefficients = np.linalg.lstsq(design, ratio)[0]
    found.loc[at, "estimate"] = coefficients
    found[["std_error", "lower", "upper", "p_value"]] = np.nan
    if "repetition" in rates:
        cluster = pd.factorize(rates["repetition"])[0]
        n_clusters = int(cluster.max()) + 1
        residual = ratio - design @ coefficients
        errors = np.sqrt(np.diag(ols_covariance(design, residual, "cluster", cluster=cluster)))
        for row, estimate, error in zip(at, coefficients, errors, strict=True):
            ends = interval(estimate, error, confidence, n_clusters)
            found.loc[row, ["std_error", "lower", "upper", "p_value"]] = [
                error, *ends, p_value(estimate, error, n_clusters),
            ]  # fmt: skip
    return found
