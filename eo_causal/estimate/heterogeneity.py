"""For whom a treatment works better: all data arms and learners on the same folds, tested and compared.

An arm is what models may see, as in :mod:`eo_causal.estimate.arms`; a ranking is an arm with a learner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.core.variance import interval, p_value
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate import combine
from eo_causal.estimate.arms import choose_arms
from eo_causal.estimate.cate import EffectSettings, LearnerName
from eo_causal.estimate.effect_fits import FitPlan, NetworkPredictions, SplitFit, fit_all
from eo_causal.estimate.fit_arms import study_of
from eo_causal.estimate.interpret import calibration, effects_by_quantile
from eo_causal.estimate.nuisance import Features
from eo_causal.estimate.rate import combine_folds, evaluate, half_sample_draws, toc
from eo_causal.estimate.rate_summary import holm, over_splits

Floats = NDArray[np.float64]
Ranking = tuple[str, str]
Evaluation = tuple[Floats, Floats]
SHARES = np.arange(1, 21) / 20


class HeterogeneitySettings(Settings):
    """Which rankings are tried, and how they are tested."""

    arms: tuple[str, ...] | None = Field(
        default=None, description="tabular, image:NAME, image:NAME+tabular; null = all there are"
    )
    learners: tuple[LearnerName, ...] = Field(
        default=("dr",), min_length=1, description="t, x, r, dr or causal_forest (extra forest)"
    )
    n_components: int | None = Field(
        default=30, ge=1, description="principal components where there are more features"
    )
    effects: EffectSettings = EffectSettings()
    n_draws: int = Field(default=200, ge=20, description="half-samples of clusters for an error")
    n_groups: int = Field(default=4, ge=2, description="groups of units by predicted effect")
    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of intervals")


@dataclass(frozen=True)
class HeterogeneityResult:
    """What every ranking is worth, and what it says.

    Attributes
    ----------
    rates : DataFrame
        arm, learner, metric (autoc, qini), estimate, std_error, ratio, split_low, split_high (of the
        ratio), n_splits, p_value (one-sided, sequential), p_two_sided, p_adjusted (Holm, over all
        rankings of a metric).
    splits : DataFrame
        The sequential tests of every split: split, arm, learner and the columns of
        :func:`~eo_causal.estimate.rate.sequential_rate`.
    curves : DataFrame
        arm, learner, share, toc, lower, upper: targeting curves, within folds, mean over the splits.
    cate : DataFrame
        unit_id, arm, learner, cate, score: out of fold, means over the splits.
    calibration : DataFrame
        arm, learner, term (mean, slope), estimate, std_error, lower, upper, p_value: within folds,
        median over the splits. No rows where predictions hardly differ.
    groups : DataFrame
        arm, learner, group, n, predicted, effect, std_error, lower, upper: the same for units grouped
        by predicted effect.
    comparisons : DataFrame
        ranking_a, ranking_b, correlation (rank, of predicted effects), difference (of AUTOC),
        std_error, lower, upper, p_value.
    level : float
        Of the intervals.
    """

    rates: pd.DataFrame
    splits: pd.DataFrame
    curves: pd.DataFrame
    cate: pd.DataFrame
    calibration: pd.DataFrame
    groups: pd.DataFrame
    comparisons: pd.DataFrame
    level: float

    def of(self, arm: str, learner: str) -> pd.DataFrame:
        """Rows of ``cate`` of one ranking.

        Raises
        ------
        ConfigError
            There is no such ranking.
        """
        rows = self.cate[(self.cate["arm"] == arm) & (self.cate["learner"] == learner)]
        if not len(rows):
            known = self.rates[["arm", "learner"]].drop_duplicates()
            listed = ", ".join(f"{one} {other}" for one, other in known.itertuples(index=False))
            raise ConfigError(f"no ranking by {arm} {learner}; there are: {listed}.")
        return rows.reset_index(drop=True)


def estimate_heterogeneity(
    units: StudyUnits,
    folds: Folds,
    image_keys: list[str],
    features: dict[str, Features],
    networks: dict[str, NetworkPredictions],
    probability: float | None,
    settings: HeterogeneitySettings,
    *,
    seed: int,
) -> HeterogeneityResult:
    """Predicted effects of every ranking, their tests and their comparison.

    Parameters
    ----------
    units : StudyUnits
    folds : Folds
        See :func:`eo_causal.core.folds.make_folds`; at least three.
    image_keys : list of str
        Keys of the chips that features are of, in their order.
    features : dict
        Name -> callable from positions of training chips to (chip, feature) values of all chips.
    networks : dict
        Name -> predictions of networks trained on these folds.
    probability : float or None
        Known probability of treatment in a trial; None = modelled.
    settings : HeterogeneitySettings

    Raises
    ------
    ConfigError
        An arm that is not there, or fewer than three folds.
    DataError
        Units without an image or with missing features; folds of fewer than four clusters.

    Notes
    -----
    Tests are sequential: effects are learned on some folds and ranked on the next (arXiv 2405.05534).
    Splits are combined by the median; see :func:`eo_causal.estimate.rate_summary.over_splits`.
    """
    if folds.n_folds < 3:
        raise ConfigError(
            f"folds.n_folds is {folds.n_folds}; the sequential test of a ranking needs 3, because the"
            " first fold is only learned from.", n_folds=folds.n_folds,
        )  # fmt: skip
    pooled = {name: given.pooled for name, given in networks.items()}
    arms = choose_arms(settings.arms, units, features, pooled)
    study = study_of(units, folds, image_keys, arms, features)
    plan = FitPlan(settings.learners, probability, settings.n_components, settings.effects, seed)
    cluster = units.cluster
    fits = fit_all(arms, study, folds, features, networks, cluster, plan)
    n_steps = sum(len(fit.steps) for own in fits.values() for fit in own)
    count(rankings=len(fits), rate_folds=n_steps, units=len(units))
    tested = {ranking: _evaluated(own, settings.n_draws, seed) for ranking, own in fits.items()}
    splits = _each(tested, _tests)
    means = {
        ranking: (np.mean([f.score for f in own], axis=0), np.mean([f.effect for f in own], axis=0))
        for ranking, own in fits.items()
    }
    return HeterogeneityResult(
        rates=_rates(splits),
        splits=splits,
        curves=_each(fits, lambda own: _curve(own, cluster, settings, seed)),
        cate=_each(
            means,
            lambda own: pd.DataFrame(
                {"unit_id": units.table["unit_id"], "cate": own[1], "score": own[0]}
            ),
        ),
        calibration=_each(fits, lambda own: _calibrations(own, cluster, settings.level)),
        groups=_each(fits, lambda own: _groups(own, cluster, settings)),
        comparisons=_comparisons(tested, means, settings.level),
        level=settings.level,
    )


def ranking_of(result: HeterogeneityResult, arm: str, learner: str) -> pd.DataFrame:
    """Predicted effects of one ranking; see :meth:`HeterogeneityResult.of`."""
    return result.of(arm, learner)


def _each[Value](
    found: dict[Ranking, Value], table_of: Callable[[Value], pd.DataFrame]
) -> pd.DataFrame:
    """The tables of all rankings, with arm and learner as first columns."""
    tables = []
    for (arm, learner), value in found.items():
        table = table_of(value)
        table.insert(0, "learner", learner)
        table.insert(0, "arm", arm)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _calibrations(fits: list[SplitFit], cluster: NDArray[np.intp], level: float) -> pd.DataFrame:
    """Median over the splits; within folds, see :meth:`SplitFit.within`."""
    found = _of_splits(
        fits, lambda fit: calibration(fit.score, fit.within(fit.effect), cluster, level)
    )
    n_clusters = int(cluster.max()) + 1
    rows = []
    for term, part in found.groupby("term", sort=False) if len(found) else ():
        row = _combined(part, "estimate", level, n_clusters)
        p = p_value(row["estimate"], row["std_error"], n_clusters)
        if term == "slope":  # against predictions that are worth nothing
            p = p / 2 if row["estimate"] > 0 else 1 - p / 2
        rows.append({"term": term, **row, "p_value": p})
    return pd.DataFrame(rows)


def _groups(
    fits: list[SplitFit], cluster: NDArray[np.intp], settings: HeterogeneitySettings
) -> pd.DataFrame:
    """Median over the splits; units are grouped within folds."""
    level = settings.level
    found = _of_splits(
        fits,
        lambda fit: effects_by_quantile(
            fit.score, fit.within(fit.effect), cluster, settings.n_groups, level
        ),
    )
    rows = []
    for number, part in found.groupby("group") if len(found) else ():
        row = _combined(part, "effect", level, int(cluster.max()) + 1)
        size = {"n": round(part["n"].median()), "predicted": float(part["predicted"].median())}
        rows.append({"group": number, **size, **row})
    return pd.DataFrame(rows)


def _of_splits(fits: list[SplitFit], table_of: Callable[[SplitFit], pd.DataFrame]) -> pd.DataFrame:
    """Tables of all splits whose predictions differ enough, as those of a strong penalty may not."""
    tables = []
    for fit in fits:
        try:
            tables.append(table_of(fit))
        except DataError:
            count(splits_without_differences=1)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _combined(part: pd.DataFrame, name: str, level: float, n_clusters: int) -> dict[str, float]:
    estimate, error = combine.over_splits(part[name].to_numpy(), part["std_error"].to_numpy())
    lower, upper = interval(estimate, error, level, n_clusters)
    return {name: estimate, "std_error": error, "lower": lower, "upper": upper}


def _evaluated(fits: list[SplitFit], n_draws: int, seed: int) -> list[list[Evaluation]]:
    """Rates and half-samples of every split and step, on draws that all rankings share."""
    return [
        [
            evaluate(
                part, half_sample_draws(part.cluster, n_draws, generator(seed, "rate", split, step))
            )
            for step, part in enumerate(fit.steps)
        ]
        for split, fit in enumerate(fits)
    ]


def _tests(evaluated: list[list[Evaluation]]) -> pd.DataFrame:
    tables = [combine_folds(steps).assign(split=split) for split, steps in enumerate(evaluated)]
    return pd.concat(tables, ignore_index=True)


def _rates(splits: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (arm, learner), own in splits.groupby(["arm", "learner"], sort=False):
        found = over_splits([part for _, part in own.groupby("split")])
        found.insert(0, "learner", learner)
        found.insert(0, "arm", arm)
        rows.append(found)
    table = pd.concat(rows, ignore_index=True)
    adjusted = table.groupby("metric")["p_value"].transform(lambda p: holm(p.to_numpy()))
    table.insert(table.columns.get_loc("p_two_sided") + 1, "p_adjusted", adjusted)
    return table


def _curve(
    fits: list[SplitFit], cluster: NDArray[np.intp], settings: HeterogeneitySettings, seed: int
) -> pd.DataFrame:
    """Mean targeting curve of the splits, within folds; half-samples of the first give its band."""
    pairs = [(fit.within(fit.score), fit.within(fit.effect)) for fit in fits]
    mean = np.mean([toc(*pair, SHARES)["toc"] for pair in pairs], axis=0)
    draws = half_sample_draws(cluster, settings.n_draws, generator(seed, "curve"))
    score, effect = pairs[0]
    halves = [toc(score[kept], effect[kept], SHARES)["toc"] for kept in draws]
    error = np.std(halves, axis=0, ddof=1)
    ends = [interval(float(m), float(e), settings.level) for m, e in zip(mean, error, strict=True)]
    lower, upper = np.transpose(ends)
    return pd.DataFrame({"share": SHARES, "toc": mean, "lower": lower, "upper": upper})


def _comparisons(
    tested: dict[Ranking, list[list[Evaluation]]],
    means: dict[Ranking, tuple[Floats, Floats]],
    level: float,
) -> pd.DataFrame:
    """Pairs of rankings on the same half-samples, over the splits that both have."""
    from scipy.stats import spearmanr

    rows = []
    for first, second in combinations(tested, 2):
        tables = [
            combine_folds([
                (rate_a - rate_b, halves_a - halves_b)
                for (rate_a, halves_a), (rate_b, halves_b) in zip(*steps, strict=True)
            ])
            for steps in zip(tested[first], tested[second], strict=False)
        ]  # fmt: skip
        row = over_splits(tables).set_index("metric").loc["autoc"]
        lower, upper = interval(row["estimate"], row["std_error"], level)
        alike = spearmanr(means[first][1], means[second][1]).statistic
        rows.append({
            "ranking_a": " ".join(first), "ranking_b": " ".join(second), "correlation": alike,
            "difference": row["estimate"], "std_error": row["std_error"], "lower": lower,
            "upper": upper, "p_value": row["p_two_sided"],
        })  # fmt: skip
    columns = ["ranking_a", "ranking_b", "correlation", "difference", "std_error", "lower",
               "upper", "p_value"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
