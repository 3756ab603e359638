"""Effects of a trial carried to places outside it, never without saying where it cannot speak."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.progress import count, track
from eo_causal.core.variance import interval
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.cate import EffectSettings, LearnerName, Nuisances, Rows, fit_effects

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
SUPPORT = ("in_support", "dissimilarity", "membership")


@dataclass(frozen=True)
class Transported:
    """Predicted effects of places, and their averages over areas.

    Attributes
    ----------
    places : DataFrame
        One row a place: unit_id, area, cate, std_error, lower, upper, in_support, dissimilarity,
        membership. Effects of places out of support are extrapolated: they are to be masked.
    areas : DataFrame
        One row an area: area, n, n_in_support, estimate (mean over the places in support; NaN where
        there are none), std_error, lower, upper, estimate_all (over all places).
    """

    places: pd.DataFrame
    areas: pd.DataFrame


def transport(
    learner: LearnerName,
    rows: Rows,
    nuisances: Nuisances,
    cluster: Positions,
    target_design: Floats,
    places: pd.DataFrame,
    support: pd.DataFrame | None,
    settings: EffectSettings,
    n_draws: int,
    level: float,
    random: np.random.Generator,
) -> Transported:
    """Learn effects from a whole trial and predict them elsewhere.

    Standard errors come from drawing the trial's clusters with replacement and fitting the model of
    effects anew, its penalty included, with the nuisances as they are. They say how well the trial
    knows the function from images to effects; not whether it is the same function elsewhere, and
    not what a penalty shrinks away: averages of areas like the trial cover as they say, those of
    areas far from its mean are pulled towards the trial's average effect and cover less.

    Parameters
    ----------
    learner : str
        See :func:`eo_causal.estimate.cate.fit_effects`.
    rows, nuisances : Rows, Nuisances
        Of all trial units; nuisances out of fold.
    cluster : (unit,) int array
        Codes of what was sampled or treated together.
    target_design : (place, feature) array
        Scaled and reduced as ``rows.design``, by the trial's numbers.
    places : DataFrame
        unit_id, area; one row a place.
    support : DataFrame or None
        in_support, dissimilarity, membership; one row a place, in the order of ``places``. None is
        refused.
    n_draws : int
        Of the bootstrap.
    level : float
        Of the intervals: normal, Student's t with fewer than 50 clusters.

    Raises
    ------
    DataError
        No support; tables that do not fit together; missing values of features, areas or support;
        fewer than two clusters.
    ConfigError
        Fewer than two draws.
    """
    known = _judged(support, len(places))
    _check(rows, cluster, target_design, places, n_draws)
    mask = known["in_support"].to_numpy(dtype=bool)
    cate = fit_effects(learner, rows, nuisances, settings, random).predict(target_design)
    code, names = pd.factorize(places["area"])
    total, squares = np.zeros(len(cate)), np.zeros(len(cate))
    of_areas = np.empty((n_draws, len(names)))
    for draw in track(range(n_draws), "bootstrap of effects", n_draws):
        taken = _clusters_with_replacement(cluster, random)
        model = fit_effects(learner, rows.take(taken), nuisances.take(taken), settings, random)
        moved = model.predict(target_design) - cate
        total += moved
        squares += moved**2
        of_areas[draw] = _means(moved, code, mask)
    error = np.sqrt(np.maximum(squares - total**2 / n_draws, 0) / (n_draws - 1))
    count(places_predicted=len(cate), places_out_of_support=int((~mask).sum()))
    ends = interval(0.0, 1.0, level, len(np.unique(cluster)))
    return Transported(
        pd.DataFrame({
            "unit_id": places["unit_id"].to_numpy(), "area": places["area"].to_numpy(),
            **_estimates("cate", cate, error, ends),
            **{name: known[name].to_numpy() for name in SUPPORT},
        }),
        pd.DataFrame({
            "area": names, "n": np.bincount(code), "n_in_support": np.bincount(code, mask).astype(int),
            **_estimates("estimate", _means(cate, code, mask), of_areas.std(axis=0, ddof=1), ends),
            "estimate_all": _means(cate, code, np.ones_like(mask)),
        }),
    )  # fmt: skip


def _estimates(
    name: str, values: Floats, error: Floats, ends: tuple[float, float]
) -> dict[str, Floats]:
    lower, upper = (values + end * error for end in ends)
    return {name: values, "std_error": error, "lower": lower, "upper": upper}


def _means(values: Floats, code: Positions, kept: NDArray[np.bool_]) -> Floats:
    """(area,) mean of the kept places; NaN where there are none."""
    number = np.bincount(code, kept)
    return np.bincount(code, np.where(kept, values, 0.0)) / np.where(number > 0, number, np.nan)


def _clusters_with_replacement(cluster: Positions, random: np.random.Generator) -> Positions:
    """Positions of the units of as many clusters as there are, each as often as it was drawn."""
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1
    times = np.bincount(random.integers(n_clusters, size=n_clusters), minlength=n_clusters)
    return np.repeat(np.arange(len(cluster)), times[code])


def _judged(support: pd.DataFrame | None, n: int) -> pd.DataFrame:
    """The support of all places, once there is one."""
    if support is None or not set(SUPPORT) <= set(support):
        raise DataError(
            "A map without a mask cannot be made: transport needs in_support, dissimilarity and"
            " membership of every place. Judge them with eo_causal.audit.support.support_of."
        )
    undecided = int(support["in_support"].isna().sum())
    if len(support) != n or undecided:
        raise DataError(
            f"support has {len(support)} rows, {undecided} of them undecided, for {n} places. Give each"
            " place True or False, in one order.", n=n,
        )  # fmt: skip
    return support


def _check(
    rows: Rows, cluster: Positions, target_design: Floats, places: pd.DataFrame, n_draws: int
) -> None:
    if n_draws < 2:
        raise ConfigError(f"{n_draws} bootstrap draws give no standard error. Set two or more.")
    if not {"unit_id", "area"} <= set(places) or places["area"].isna().any() or not len(places):
        raise DataError(
            f"{len(places)} places with the columns {', '.join(map(str, places.columns))}: each place"
            " needs unit_id and area. Where there is one area only, name it so for all."
        )
    wanted = (len(places), rows.design.shape[1])
    if target_design.shape != wanted:
        raise DataError(
            f"Features of target places have the shape {target_design.shape}, not {wanted}: (places,"
            " features of the trial). Scale and reduce them by the trial's numbers.",
            shape=target_design.shape,
        )
    wrong = ~np.isfinite(target_design).all(axis=1)
    if wrong.any():
        ids = places.loc[wrong, "unit_id"].tolist()
        raise DataError(
            f"{len(ids)} of {len(places)} target places miss features (places"
            f" {', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''}). Widen the period of"
            " their chips, or leave the places out.", unit_ids=ids,
        )  # fmt: skip
    if len(cluster) != len(rows.treatment) or len(np.unique(cluster)) < 2:
        raise DataError(
            f"{len(cluster)} cluster codes of {len(np.unique(cluster))} clusters for"
            f" {len(rows.treatment)} trial units: a standard error needs two or more. Name a finer"
            " cluster column.", n_clusters=len(np.unique(cluster)),
        )  # fmt: skip
