"""Panel double machine learning: a treatment that changes within units, flexible covariates.

Y_it = theta D_it + g(X_it) + alpha_i + U_it; D_it = m(X_it) + gamma_i + V_it (arXiv 2409.01266, Clarke
and Polselli 2312.08174). Both are predicted out of fold, unit effects are taken out by differences
or by unit means, and theta is the slope of one residual on the other.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from pydantic import Field, model_validator

from eo_causal.core.effect import Effect
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.variance import interval, p_value
from eo_causal.errors import ConfigError, DataError, LeakageError

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Approach = Literal["fd_exact", "cre_general", "cre_normal", "wg_approx"]
Learner = Literal["lasso", "boosting"]
FEWEST_UNITS = 10


class PanelSettings(Settings):
    """How unit effects are removed and what predicts."""

    approach: Approach = Field(
        default="fd_exact", description="first differences, unit means (cre), or demeaning (wg)"
    )
    learner: Learner = "boosting"
    n_folds: Annotated[int, Field(ge=2)] = 5
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @model_validator(mode="after")
    def _no_trees_with_means(self) -> "PanelSettings":
        if self.approach == "cre_normal" and self.learner == "boosting":
            raise ValueError(
                "trees_with_cre_normal: trees cut the mean of the treatment into steps and bias the"
                " effect; use learner: lasso, or approach: cre_general"
            )
        return self


@dataclass(frozen=True)
class PanelEffect:
    """One fit.

    Attributes
    ----------
    effect : Effect
        Errors clustered by group.
    r2_outcome, r2_treatment : float
        Out of fold, of what the learner was fed.
    n_dropped : int
        First periods and periods after a gap, which have no difference.
    """

    effect: Effect
    r2_outcome: float
    r2_treatment: float
    n_dropped: int

    def __str__(self) -> str:
        fits = f"R2 out of fold: outcome {self.r2_outcome:.2f}, treatment {self.r2_treatment:.2f}"
        return f"{self.effect}; {fits}; {self.effect.n} rows used, {self.n_dropped} dropped"


@dataclass(frozen=True)
class PanelRange:
    """The same panel through every family of learners.

    Attributes
    ----------
    fits : dict
        Learner to :class:`PanelEffect`.
    """

    fits: dict[str, PanelEffect]

    @property
    def flags(self) -> tuple[str, ...]:
        """``learner_disagreement``: estimates lie more than two of the larger errors apart."""
        table = self.to_frame()
        apart = float(np.ptp(table["estimate"]))
        return () if apart <= 2 * table["std_error"].max() else ("learner_disagreement",)

    def to_frame(self) -> pd.DataFrame:
        """One row a learner: the columns of :meth:`Effect.to_frame`, both R2, rows dropped."""
        rows = [
            fit.effect.to_frame().assign(
                learner=learner, r2_outcome=fit.r2_outcome, r2_treatment=fit.r2_treatment,
                n_dropped=fit.n_dropped,
            )
            for learner, fit in self.fits.items()
        ]  # fmt: skip
        return pd.concat(rows, ignore_index=True)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.fits.values()), *self.flags])


@dataclass(frozen=True)
class _Fed:
    """What the learner is fed: rows of outcome and treatment, and the features of each."""

    outcome: Floats
    treatment: Floats
    for_outcome: Floats
    for_treatment: Floats
    group: Codes
    unit: Codes


def panel_dml(
    table: pd.DataFrame,
    covariates: list[str],
    settings: PanelSettings,
    group: str | None = None,
    *,
    seed: int,
) -> PanelEffect:
    """Effect of a treatment that changes over time, by cross-fitted residuals.

    Parameters
    ----------
    table : DataFrame
        ``unit_id``, ``time`` (whole numbers), ``outcome``, ``treatment`` and the covariates.
    covariates : list of str
    settings : PanelSettings
    group : str, optional
        Column of spatial blocks that folds and errors keep together; units by default.

    Raises
    ------
    DataError
        Missing, infinite or non-numeric values, a unit twice in a period or in two groups, fewer
        than 10 groups, a treatment that never changes within a unit.
    LeakageError
        Outcome or treatment among the covariates.
    """
    ordered = _checked(table, covariates, group)
    fed, n_dropped = _feed(ordered, covariates, settings.approach, group)
    _refuse_rows(fed, n_dropped)
    fold = _folds(fed.group, settings.n_folds, seed)
    outcome = _predict(fed.for_outcome, fed.outcome, fold, fed.group, settings.learner)
    treatment = _predict(fed.for_treatment, fed.treatment, fold, fed.group, settings.learner)
    fits = _r2(fed.outcome, outcome), _r2(fed.treatment, treatment)
    if settings.approach == "cre_general":
        treatment = treatment + _unit_means(fed.treatment - treatment, fed.unit)
    u, v = fed.outcome - outcome, fed.treatment - treatment
    size = float(v @ v)
    theta = float(v @ u) / size
    sums = np.bincount(fed.group, v * (u - theta * v))
    error = float(np.sqrt((sums**2).sum())) / size
    n_groups = len(sums)
    count(rows_used=len(u), rows_dropped=n_dropped, groups=n_groups)
    method = f"panel DML, {settings.approach}, {settings.learner}, {n_groups} clusters"
    effect = Effect(
        theta, error, interval(theta, error, settings.level, n_groups), settings.level, method,
        len(u), p_value=p_value(theta, error, n_groups),
    )  # fmt: skip
    return PanelEffect(effect, *fits, n_dropped)


def panel_dml_range(
    table: pd.DataFrame,
    covariates: list[str],
    settings: PanelSettings,
    group: str | None = None,
    *,
    seed: int,
) -> PanelRange:
    """Effect by every family of learners on the same folds; ``settings.learner`` is not read.

    A learner that cannot represent the truth gives a confident wrong answer (products of covariates
    and trees, for example), so that one family alone is not to be believed.

    Raises
    ------
    DataError, LeakageError
        As :func:`panel_dml`.
    ConfigError
        Approach ``cre_normal``, which leaves the lasso alone.
    """
    if settings.approach == "cre_normal":
        raise ConfigError(
            "approach is cre_normal, which trees may not enter (trees_with_cre_normal), so there is no"
            " second family of learners. Use cre_general or fd_exact.", approach=settings.approach,
        )  # fmt: skip
    families = get_args(Learner)
    each = [settings.model_copy(update={"learner": learner}) for learner in families]
    fits = [panel_dml(table, covariates, one, group, seed=seed) for one in each]
    return PanelRange(dict(zip(families, fits, strict=True)))


def _checked(table: pd.DataFrame, covariates: list[str], group: str | None) -> pd.DataFrame:
    """Sorted by unit and time."""
    _refuse_columns(table, covariates, group)
    names = ["unit_id", "time", "outcome", "treatment", *covariates, *([group] if group else [])]
    ordered = table[list(dict.fromkeys(names))].sort_values(
        ["unit_id", "time"], kind="stable", ignore_index=True
    )
    twice = ordered.duplicated(["unit_id", "time"])
    if twice.any():
        row = ordered[twice].iloc[0]
        raise DataError(
            f"unit {row['unit_id']} has several rows in period {row['time']} ({int(twice.sum())} such"
            " rows). Keep one.", n=int(twice.sum()),
        )  # fmt: skip
    changes = ordered.groupby("unit_id")["treatment"].nunique()
    if not (changes > 1).any():
        raise DataError(
            "the treatment is constant over time in every unit, so no unit can be compared with itself."
            " Use a cross-sectional estimator."
        )
    if group:
        places = ordered.drop_duplicates(["unit_id", group])
        moved = places.loc[places["unit_id"].duplicated(), "unit_id"].unique()
        if len(moved):
            raise DataError(
                f"{len(moved)} units lie in more than one {group} (unit {moved[0]}), so that folds would"
                " cut them. Give each unit one.", n=len(moved),
            )  # fmt: skip
    return ordered


def _refuse_columns(table: pd.DataFrame, covariates: list[str], group: str | None) -> None:
    """Columns that are absent, incomplete, no numbers, or that give the answer away."""
    numbers = ["time", "outcome", "treatment", *covariates]
    names = ["unit_id", *numbers, *([group] if group else [])]
    absent = [name for name in names if name not in table.columns]
    if absent or not covariates:
        said = f"no column {', '.join(absent)}" if absent else "no covariates"
        raise DataError(f"the panel has {said}. Name columns that it has.", columns=absent)
    known = [name for name in covariates if name in ("outcome", "treatment")]
    if known:
        raise LeakageError(f"{known[0]} is among the covariates. Leave it out.", columns=known)
    texts = [name for name in numbers if not is_numeric_dtype(table[name])]
    if texts:
        raise DataError(
            f"{texts[0]} holds {table[texts[0]].dtype}, not numbers. Recode it; number periods 0, 1, 2.",
            columns=texts,
        )  # fmt: skip
    missing = table[names].replace([np.inf, -np.inf], np.nan).isna().sum()
    if missing.any():
        listed = ", ".join(f"{name} ({n})" for name, n in missing.items() if n)
        raise DataError(
            f"the panel has missing or infinite values: {listed}. Fill or remove these rows."
        )


def _feed(
    table: pd.DataFrame, covariates: list[str], approach: Approach, group: str | None
) -> tuple[_Fed, int]:
    unit = np.asarray(pd.factorize(table["unit_id"])[0], dtype=np.intp)
    block = np.asarray(pd.factorize(table[group or "unit_id"])[0], dtype=np.intp)
    y, d = (table[name].to_numpy(dtype=float) for name in ("outcome", "treatment"))
    x = table[covariates].to_numpy(dtype=float)
    if approach == "fd_exact":
        time = table["time"].to_numpy()
        follows = np.flatnonzero((np.diff(unit) == 0) & (np.diff(time) == 1))
        features = np.column_stack([x[follows + 1], x[follows]])
        changes = [values[follows + 1] - values[follows] for values in (y, d)]
        rows = follows + 1
        fed = _Fed(changes[0], changes[1], features, features, _codes(block[rows]), unit[rows])
        return fed, len(table) - len(rows)
    means = np.column_stack([_unit_means(column, unit) for column in x.T])
    if approach == "wg_approx":
        y, d = (v - _unit_means(v, unit) + v.mean() for v in (y, d))
        within = x - means + x.mean(axis=0)
        return _Fed(y, d, within, within, block, unit), 0
    general = np.column_stack([x, means])
    own = general if approach == "cre_general" else np.column_stack([general, _unit_means(d, unit)])
    return _Fed(y, d, general, own, block, unit), 0


def _refuse_rows(fed: _Fed, n_dropped: int) -> None:
    n_groups = len(np.unique(fed.group))
    if n_groups < FEWEST_UNITS:
        raise DataError(
            f"{n_groups} groups are too few; {FEWEST_UNITS} are the least ({n_dropped} rows have no"
            " period just before them). Number the periods without gaps, or use cre_general.",
            n=n_groups, n_dropped=n_dropped,
        )  # fmt: skip
    for name, values in (("outcome", fed.outcome), ("treatment", fed.treatment)):
        if not np.ptp(values) > 1e-9 * np.abs(values).max():
            raise DataError(
                f"the {name} is {values[0]:g} in all {len(values)} rows that are compared (changes"
                f" between periods with fd_exact), so nothing is left to explain. Check the {name}.",
                column=name,
            )  # fmt: skip


def _codes(values: Codes) -> Codes:
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.intp)


def _unit_means(values: Floats, unit: Codes) -> Floats:
    """Mean of each row's unit."""
    return (np.bincount(unit, values) / np.bincount(unit))[unit]


def _folds(group: Codes, n_folds: int, seed: int) -> Codes:
    """(row,) fold; groups are dealt in random order."""
    n_groups = int(group.max()) + 1
    order = generator(seed, "panel", "folds").permutation(n_groups)
    fold = np.empty(n_groups, dtype=np.intp)
    fold[order] = np.arange(n_groups) % n_folds
    return fold[group]


def _predict(
    features: Floats, target: Floats, fold: Codes, group: Codes, learner: Learner
) -> Floats:
    """Out-of-fold predictions."""
    found = np.empty(len(target))
    for number in np.unique(fold):
        test = fold == number
        model = _model(learner, group[~test])
        found[test] = model.fit(features[~test], target[~test]).predict(features[test])
    return found


def _model(learner: Learner, group: Codes) -> Any:
    """Lasso on standardised features, penalty by grouped cross-validation; or boosted trees.

    Sixty small trees keep the bias of world A4 below .03 at a quarter of the cost of the library's usual
    settings, whose larger trees follow noise: -.04 where its functions bend. Early stopping is off: it
    would split rows, not units.
    """
    if learner == "boosting":
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.2, max_leaf_nodes=8, early_stopping=False, random_state=0
        )
    from sklearn.linear_model import LassoCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = list(GroupKFold(5).split(group, groups=group))
    return make_pipeline(StandardScaler(), LassoCV(alphas=50, cv=parts))


def _r2(target: Floats, predicted: Floats) -> float:
    return float(1 - ((target - predicted) ** 2).sum() / ((target - target.mean()) ** 2).sum())
