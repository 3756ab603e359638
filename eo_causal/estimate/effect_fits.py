"""Effects of all units by every data arm and learner: what is fitted where, and what comes back."""

from dataclasses import dataclass
from itertools import batched

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.tasks import compute_tasks
from eo_causal.errors import DataError
from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.cate import EffectSettings, LearnerName, Rows, fit_effects, fit_nuisances
from eo_causal.estimate.fit_arms import Arm
from eo_causal.estimate.nuisance import Features, Pair, Study, image_values
from eo_causal.estimate.preparation import design_matrix
from eo_causal.estimate.propensity import clip
from eo_causal.estimate.rate import SequentialFold

Floats = NDArray[np.float64]
NETWORK = "network"
"""The learner of an arm whose predictions come from a network."""


@dataclass(frozen=True)
class NetworkPredictions:
    """Out-of-fold predictions of a network on the folds of a study.

    Attributes
    ----------
    pooled : DataFrame
        ``split``, ``unit_id``, ``propensity``, ``mu0``, ``mu1``: by networks of all other folds.
    sequential : DataFrame
        The same by networks of the folds before (:meth:`eo_causal.core.folds.Folds.sequence`); the
        units of each split's first fold have none.
    """

    pooled: pd.DataFrame
    sequential: pd.DataFrame


@dataclass(frozen=True)
class FitPlan:
    """What every task needs to know.

    Attributes
    ----------
    learners : tuple of str
    probability : float or None
        Known probability of treatment.
    n_components : int or None
        Principal components of the features of an arm.
    settings : EffectSettings
    seed : int
        Of the run.
    """

    learners: tuple[LearnerName, ...]
    probability: float | None
    n_components: int | None
    settings: EffectSettings
    seed: int


@dataclass(frozen=True)
class PartFit:
    """What models of one training part say of its test units.

    Attributes
    ----------
    score : (test,) array
        Doubly robust.
    effects : dict
        Learner -> (test,) predicted effects.
    """

    score: Floats
    effects: dict[str, Floats]


@dataclass(frozen=True)
class SplitFit:
    """One arm and learner on one split.

    Attributes
    ----------
    score, effect : (unit,) array
        By models of the other folds.
    fold : (unit,) int array
        Fold whose models those are.
    steps : list of SequentialFold
        By models of the folds before: what the test of a ranking needs.
    """

    score: Floats
    effect: Floats
    fold: NDArray[np.intp]
    steps: list[SequentialFold]

    def within(self, values: Floats) -> Floats:
        """Values less their mean in the fold, plus the mean of all.

        Models of different folds learn from one another's outcomes, so that their levels go against
        those of the scores; within a fold they do not.
        """
        mean = np.bincount(self.fold, values) / np.bincount(self.fold)
        away = values - mean[self.fold]
        away[np.abs(away) <= 1e-12 * np.abs(values)] = 0.0  # equal values stay equal
        return np.asarray(away + values.mean())


def fit_all(
    arms: list[Arm],
    study: Study,
    folds: Folds,
    features: dict[str, Features],
    networks: dict[str, NetworkPredictions],
    cluster: NDArray[np.intp],
    plan: FitPlan,
) -> dict[tuple[str, str], list[SplitFit]]:
    """(arm, learner) -> one fit a split. One dask task a source of features and training part."""
    from dask.delayed import delayed

    sources = list(dict.fromkeys(arm.source for arm in arms if arm.source not in networks))
    # traverse=False: else dask would load the chips that features hold before it hands them out
    shared = {name: delayed(features.get(name), traverse=False) for name in sources}
    common, plans = delayed(study, traverse=False), delayed(plan, traverse=False)
    fit = delayed(fit_part, pure=False)
    seen = {name: [arm for arm in arms if arm.source == name] for name in sources}
    found: dict[tuple[str, str], list[SplitFit]] = {
        (arm.name, learner): []
        for arm in arms
        for learner in ((NETWORK,) if arm.source in networks else plan.learners)
    }
    n_parts = 0
    for split in track(range(folds.n_splits), "effects"):
        pairs, steps = folds.pairs(split), folds.sequence(split, plan.seed)
        parts = [*pairs, *steps]
        tasks = [
            fit(name, shared[name], common, tuple(arm.covariates for arm in seen[name]), pair,
                (split, number), plans)
            for name in sources for number, pair in enumerate(parts)
        ]  # fmt: skip
        n_parts += sum(len(seen[name]) for name in sources) * len(parts)
        for name, fits in zip(sources, batched(compute_tasks(tasks), len(parts)), strict=True):
            for arm, own in zip(seen[name], zip(*fits, strict=True), strict=True):
                for learner in plan.learners:
                    found[arm.name, learner].append(_joined(own, pairs, steps, learner, cluster))
        for arm in arms:
            if arm.source in networks and split <= networks[arm.source].pooled["split"].max():
                given = networks[arm.source]
                found[arm.name, NETWORK].append(
                    _of_network(given, study, pairs, steps, split, cluster, plan)
                )
    count(parts_fitted=n_parts, effect_models=n_parts * len(plan.learners))
    return found


def fit_part(
    name: str,
    features: Features | None,
    study: Study,
    with_covariates: tuple[bool, ...],
    pair: Pair,
    split_and_part: tuple[int, int],
    plan: FitPlan,
) -> list[PartFit]:
    """All arms of one source on one training part; the task that runs on a worker."""
    training, test = pair
    values = image_values(name, features, study, training)
    fits = []
    for seen in with_covariates:
        covariates = study.covariates if seen else None
        design = design_matrix(values, study.image_of_unit, covariates, training, plan.n_components)
        rows = rows_of(study, design, training)
        random = generator(plan.seed, "effects", *split_and_part)
        nuisances = fit_nuisances(rows, plan.probability, plan.settings, random)
        propensity, mu0, mu1 = nuisances.predict(design[test])
        score = aipw_scores(study.treatment[test], study.outcome[test], propensity, mu0, mu1)
        effects: dict[str, Floats] = {
            learner: fit_effects(learner, rows, nuisances, plan.settings, random).predict(
                design[test]
            )
            for learner in plan.learners
        }
        fits.append(PartFit(score, effects))
    return fits


def rows_of(study: Study, design: Floats, positions: NDArray[np.intp]) -> Rows:
    """What may be learned from the units at ``positions``."""
    return Rows(
        design[positions], study.treatment[positions], study.outcome[positions],
        study.group[positions],
    )  # fmt: skip


def _joined(
    fits: tuple[PartFit, ...],
    pairs: list[Pair],
    steps: list[Pair],
    learner: str,
    cluster: NDArray[np.intp],
) -> SplitFit:
    score, effect = np.full((2, len(cluster)), np.nan)
    for fit, (_, test) in zip(fits, pairs, strict=False):
        score[test], effect[test] = fit.score, fit.effects[learner]
    later = [
        SequentialFold(fit.score, fit.effects[learner], cluster[test])
        for fit, (_, test) in zip(fits[len(pairs) :], steps, strict=True)
    ]
    return SplitFit(score, effect, _folds_of(pairs, len(cluster)), later)


def _folds_of(pairs: list[Pair], n: int) -> NDArray[np.intp]:
    fold = np.empty(n, dtype=np.intp)
    for number, (_, test) in enumerate(pairs):
        fold[test] = number
    return fold


def _of_network(
    given: NetworkPredictions,
    study: Study,
    pairs: list[Pair],
    steps: list[Pair],
    split: int,
    cluster: NDArray[np.intp],
    plan: FitPlan,
) -> SplitFit:
    score, effect = _scored(given.pooled, study, pairs, split, plan)
    later_score, later_effect = _scored(given.sequential, study, steps, split, plan)
    later = [
        SequentialFold(later_score[test], later_effect[test], cluster[test]) for _, test in steps
    ]
    return SplitFit(score, effect, _folds_of(pairs, len(cluster)), later)


def _scored(
    table: pd.DataFrame, study: Study, pairs: list[Pair], split: int, plan: FitPlan
) -> tuple[Floats, Floats]:
    """Scores and effects of all units, NaN where no pair tests them."""
    tested = np.concatenate([test for _, test in pairs])
    columns = ["propensity", "mu0", "mu1"]
    rows = table[table["split"] == split].set_index("unit_id")[columns].reindex(study.unit_id)
    propensity, mu0, mu1 = rows.to_numpy(dtype=float).T
    absent = tested[~np.isfinite(mu0 + mu1 + propensity)[tested]]
    if len(absent):
        raise DataError(
            f"a network: {len(absent)} of {len(tested)} tested units have no prediction in split"
            f" {split} (first: {study.unit_id[absent[0]]}). Predict on the folds of this study.",
            unit_ids=study.unit_id[absent].tolist(),
        )  # fmt: skip
    used = clip(propensity, plan.settings.clip)[0]
    if plan.probability is not None:
        used = np.full(len(used), plan.probability)
    return aipw_scores(study.treatment, study.outcome, used, mu0, mu1), mu1 - mu0
