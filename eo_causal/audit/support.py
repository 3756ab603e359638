"""Where a trial can speak: places that look like those it was held in, judged in two ways."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.audit.applicability import AreaOfApplicability, applicability_report
from eo_causal.audit.report import AuditReport
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
MOST_COMPONENTS = 30
MEMBERSHIP_RANGE = (0.01, 0.99)


def support_of(
    trial: pd.DataFrame | Floats,
    target: pd.DataFrame | Floats,
    fold: Positions,
    *,
    seed: int,
) -> pd.DataFrame:
    """Does each target place lie where the trial has shown what its images mean?

    A place is in support when it is inside the area of applicability of the trial's features, all
    of them, *and* its membership score is within the range of the trial's own. The score is the
    probability of belonging to the trial, were both equally large: a ridge logistic model on
    leading principal components, learned and standardised in the trial. No model scores a trial
    unit of its training folds or a target place of its training parts, so that places of the
    trial's own law are outside as rarely as trial units.

    Parameters
    ----------
    trial : (unit, feature) DataFrame or array
        Embeddings of the trial's units.
    target : (place, feature) DataFrame or array
        Embeddings of target places by the same encoder, from chips of equal footprint, resolution
        and normalisation. A place with a missing feature is never in support.
    fold : (unit,) int array
        Folds of the trial that keep places whole.
    seed : int
        Seed of the run.

    Returns
    -------
    DataFrame
        in_support, dissimilarity (1 = mean distance between trial units), membership; one row a
        place, NaN where features are missing.

    Raises
    ------
    DataError
        Trial features that are missing or all alike, another encoder's features, a single fold, or
        fewer than two places with all features.

    Notes
    -----
    Area of applicability: Meyer and Pebesma 2021. Membership within the [.01, .99] quantiles of the
    trial's out-of-fold scores.
    """
    units, places = pd.DataFrame(trial), pd.DataFrame(target)
    if len(fold) != len(units):
        raise DataError(
            f"{len(fold)} folds for {len(units)} trial units. Give the fold of each unit.",
            n=len(fold),
        )
    known = np.isfinite(places.to_numpy(dtype=float)).all(axis=1)
    if known.sum() < 2:
        raise DataError(
            f"{known.sum()} of {len(places)} target places have all features; support needs two or"
            " more. Widen the period of their chips, or leave out the map.", n=int(known.sum()),
        )  # fmt: skip
    area = AreaOfApplicability.fit(units, fold, seed=seed)
    dissimilarity = area.transform(places)
    own, others = _components(units.to_numpy(float), places.to_numpy(float)[known])
    trial_score, target_score = _memberships(own, others, fold, seed)
    membership = np.full(len(places), np.nan)
    membership[known] = target_score
    lower, upper = np.quantile(trial_score, MEMBERSHIP_RANGE)
    alike = dissimilarity <= area.threshold
    member = (membership >= lower) & (membership <= upper)
    count(
        places_without_features=int((~known).sum()), places_unlike_the_trial=int((~alike).sum()),
        places_beyond_membership=int((~member).sum()),
    )  # fmt: skip
    return pd.DataFrame(
        {"in_support": alike & member, "dissimilarity": dissimilarity, "membership": membership}
    )


def support_report(support: pd.DataFrame, cate: Floats) -> AuditReport:
    """The line ``applicability``: the share of places out of support, and what they change.

    Parameters
    ----------
    support : DataFrame
        Of :func:`support_of`.
    cate : (place,) array
        Predicted effects, averaged with and without those out of support; NaN is left out.

    Raises
    ------
    DataError
        No place, or another number of effects.
    """
    if len(support) != len(cate):
        raise DataError(
            f"{len(cate)} effects for {len(support)} places. Give one for each place, in one order."
        )
    return applicability_report(support["in_support"].to_numpy(dtype=bool), cate, "target places")


def _components(trial: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Leading principal components by the trial's means and deviations, each of variance 1 there."""
    mean, spread = trial.mean(axis=0), trial.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(mean))
    rows, others = ((part - mean)[:, varies] / spread[varies] for part in (trial, target))
    _, size, axes = np.linalg.svd(rows, full_matrices=False)
    kept = size[:MOST_COMPONENTS] > 1e-8 * size[0]
    axes = axes[:MOST_COMPONENTS][kept].T * np.sqrt(len(rows)) / size[:MOST_COMPONENTS][kept]
    return rows @ axes, others @ axes


def _memberships(
    trial: Floats, target: Floats, fold: Positions, seed: int
) -> tuple[Floats, Floats]:
    """Out-of-fold P(trial) of units and of places; places are dealt into as many random parts."""
    from sklearn.linear_model import LogisticRegression

    names, fold = np.unique(fold, return_inverse=True)
    part = generator(seed, "membership").permutation(len(target)) % len(names)
    scores = np.empty(len(trial)), np.empty(len(target))
    for k in range(len(names)):
        units, places = trial[fold != k], target[part != k]
        belongs = np.repeat([1, 0], [len(units), len(places)])
        weight = np.where(belongs == 1, 1.0, len(units) / len(places))
        model = LogisticRegression(max_iter=1000)
        model.fit(np.concatenate([units, places]), belongs, sample_weight=weight)
        for score, rows, own in zip(scores, (trial, target), (fold == k, part == k), strict=True):
            if own.any():
                score[own] = model.predict_proba(rows[own])[:, 1]
    return scores
