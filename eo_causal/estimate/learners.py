"""Penalised regressions that choose their penalty by predicting groups of units they have not seen.

All learners are fitted by ``fit(design, target, folds)``, where ``folds`` numbers the parts that the
penalty is chosen on, and answer with ``predict(design)``: a probability or a mean. What the models that
did not learn from a unit's fold predict is ``held_out``.
"""

from collections.abc import Iterator
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
Flags = NDArray[np.bool_]
PropensityKind = Literal["logistic", "boosting", "forest"]
OutcomeKind = Literal["ridge", "boosting", "forest"]
LOGISTIC_PENALTIES = tuple(np.logspace(1, -5, 13))
RIDGE_PENALTIES = tuple(np.logspace(2, -4, 25))
PATIENCE = 3
PATH_TOLERANCE = 1e-5
MAX_STEPS = 100
BLOCK = 8192
N_TREES, LEAST_LEAF = 100, 5


class Learner(Protocol):
    """What cross-fitting asks of a model."""

    penalty_: float

    def fit(self, design: Floats, target: Floats, folds: Positions) -> Self:
        """Learn from (unit, feature) and (unit,); ``folds`` (unit,) numbers parts for tuning."""

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability or mean."""

    def held_out(self, design: Floats, target: Floats, folds: Positions, seen: Flags) -> Floats:
        """(unit,) predictions by models that did not learn from the unit's fold.

        After :meth:`fit` on the rows ``seen`` (unit,) and their ``folds``; the penalty stays the one
        chosen there, as in the R-learner's own software (arXiv 1712.04912).
        """


class Regression(Learner, Protocol):
    """A learner of means that can weigh its units."""

    def fit(
        self, design: Floats, target: Floats, folds: Positions, weights: Floats | None = None
    ) -> Self:
        """Learn with ``weights`` (unit,) of the squared errors; None = all alike."""


class _Linear:
    """A linear model of all units beside one for each fold, which has not seen that fold."""

    intercept_: float
    coefficients_: Floats
    fold_models_: dict[int, tuple[float, Floats]]

    def held_out(self, design: Floats, target: Floats, folds: Positions, seen: Flags) -> Floats:
        """(unit,) predictions by models that did not learn from the unit's fold."""
        found = np.empty(len(design))
        whole = (self.intercept_, self.coefficients_)
        for k in np.unique(folds).tolist():
            intercept, coefficients = self.fold_models_.get(k, whole)
            part = folds == k
            found[part] = self._answer(intercept + design[part] @ coefficients)
        return found

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability or mean."""
        return self._answer(self.intercept_ + design @ self.coefficients_)

    def _answer(self, margin: Floats) -> Floats:
        return np.asarray(margin)


class RidgeLogistic(_Linear):
    """Logistic regression with a ridge penalty, chosen by out-of-fold log-loss.

    Minimises mean log-loss + penalty/2 |coefficients|^2; the intercept is free. Never chosen by
    AUC: a better prediction of treatment is not a better balance.

    Parameters
    ----------
    penalties : sequence of float
        From strong to weak. The search ends when three in turn have brought nothing.
    label_smoothing : float
        Targets are moved towards 1/2 by this share: W (1 - s) + s/2.
    """

    def __init__(
        self, penalties: tuple[float, ...] = LOGISTIC_PENALTIES, label_smoothing: float = 0.0
    ) -> None:
        self.penalties = penalties
        self.label_smoothing = label_smoothing

    def fit(self, design: Floats, target: Floats, folds: Positions) -> Self:
        """One warm-started path for all parts at once, then the chosen penalty on all units."""
        smooth = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        n_folds = int(folds.max()) + 1
        held_out = folds[:, None] == np.arange(n_folds)
        weights = np.column_stack([~held_out, np.ones(len(folds))]).astype(float)
        best, since = np.inf, 0
        coefficients: Floats | None = None
        for penalty in self.penalties:
            coefficients = logistic_coefficients(
                design, smooth, weights, penalty, coefficients, tolerance=PATH_TOLERANCE
            )
            copies = coefficients[:, 0] + design @ coefficients[:, 1:].T
            margin = np.take_along_axis(copies, folds[:, None], axis=1)[:, 0]
            loss = float(np.mean(np.logaddexp(0, margin) - smooth * margin))
            since += 1
            if loss < best:
                best, since = loss, 0
                self.penalty_, chosen = float(penalty), coefficients
            if since == PATIENCE:
                break
        found = logistic_coefficients(design, smooth, weights[:, -1:], self.penalty_, chosen[-1:])[
            0
        ]
        self.intercept_, self.coefficients_ = float(found[0]), found[1:]
        self.fold_models_ = {k: (float(row[0]), row[1:]) for k, row in enumerate(chosen[:-1])}
        return self

    def _answer(self, margin: Floats) -> Floats:
        return np.asarray(expit(margin))


class Ridge(_Linear):
    """Linear regression with a ridge penalty, chosen by out-of-fold squared error.

    Minimises mean squared error + penalty |coefficients|^2; the intercept is free. All penalties
    come from one eigen-decomposition of a part's covariance, and every part's covariance from one
    pass over the units: the moments of all minus those of a fold.

    Parameters
    ----------
    penalties : sequence of float
    """

    def __init__(self, penalties: tuple[float, ...] = RIDGE_PENALTIES) -> None:
        self.penalties = penalties

    def fit(
        self, design: Floats, target: Floats, folds: Positions, weights: Floats | None = None
    ) -> Self:
        """Choose the penalty, then fit it on all units; ``weights`` (unit,) of their squared errors."""
        names = np.unique(folds).tolist()
        given = np.ones(len(target)) if weights is None else weights
        centre, level = design.mean(axis=0), float(target.mean())
        parts = [
            _moments(design, target, given, np.flatnonzero(folds == k), centre, level)
            for k in names
        ]
        whole = np.sum(parts, axis=0)
        lines = [_ridge_path(whole - part, self.penalties) for part in parts]
        errors = [
            np.einsum("ip,ij,jp->p", line, part, line)
            for part, line in zip(parts, lines, strict=True)
        ]
        chosen = int(np.sum(errors, axis=0).argmin())
        self.penalty_ = float(self.penalties[chosen])

        def uncentred(line: Floats) -> tuple[float, Floats]:
            coefficients = line[1:-1]
            return float(level + line[0] - centre @ coefficients), coefficients

        self.fold_models_ = {
            k: uncentred(-line[:, chosen]) for k, line in zip(names, lines, strict=True)
        }
        final = _ridge_path(whole, (self.penalty_,))
        self.intercept_, self.coefficients_ = uncentred(-final[:, 0])
        return self


class _Refitted:
    """A learner whose held-out predictions take one more fit for each fold."""

    def held_out(self, design: Floats, target: Floats, folds: Positions, seen: Flags) -> Floats:
        """(unit,) predictions by models that did not learn from the unit's fold."""
        found = np.empty(len(design))
        for k in np.unique(folds):
            part = folds == k
            rest = seen & ~part
            found[part] = (
                self._again().fit(design[rest], target[rest], folds[rest]).predict(design[part])
            )
        return found

    def _again(self) -> Learner:
        raise NotImplementedError


class Boosting(_Refitted):
    """Gradient boosting of scikit-learn; nothing is tuned.

    A regressor has the library's usual settings. A classifier has sixty small trees: with the usual
    ones, log odds of 800 units with 30 features vary 2.2 times too much (with these 1.1 times), and
    inverse weights grow out of all proportion.

    Parameters
    ----------
    kind : str
        ``classifier`` or ``regressor``.
    seed : int
    """

    penalty_ = np.nan

    def __init__(self, kind: Literal["classifier", "regressor"], seed: int) -> None:
        self.kind = kind
        self.seed = seed

    def fit(
        self, design: Floats, target: Floats, folds: Positions, weights: Floats | None = None
    ) -> Self:
        """Fit on all units. Early stopping is off: it would split rows, not groups."""
        from sklearn import ensemble

        self.model_: Any = ensemble.HistGradientBoostingRegressor(
            early_stopping=False, random_state=self.seed
        )
        if self.kind == "classifier":
            self.model_ = ensemble.HistGradientBoostingClassifier(
                max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=self.seed
            )
        self.model_.fit(design, target, sample_weight=weights)
        return self

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability or mean."""
        if self.kind == "classifier":
            return np.asarray(self.model_.predict_proba(design)[:, 1])
        return np.asarray(self.model_.predict(design))

    def _again(self) -> Learner:
        return Boosting(self.kind, self.seed)


class FromSklearn(_Refitted):
    """Any regressor with the interface of scikit-learn; nothing is tuned.

    Parameters
    ----------
    model : estimator
        Never fitted itself: each fit takes a clone.
    """

    penalty_ = np.nan

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(
        self, design: Floats, target: Floats, folds: Positions, weights: Floats | None = None
    ) -> Self:
        """Fit a clone on all units.

        Raises
        ------
        ConfigError
            Weights, and a model that takes none.
        """
        from sklearn.base import clone
        from sklearn.utils.validation import has_fit_parameter

        self.model_: Any = clone(self.model)
        if weights is None:
            self.model_.fit(design, target)
            return self
        if not has_fit_parameter(self.model_, "sample_weight"):
            raise ConfigError(
                f"{type(self.model).__name__} takes no sample_weight, which the R-learner needs. Give"
                " another model, or use the DR-learner.", model=type(self.model).__name__,
            )  # fmt: skip
        self.model_.fit(design, target, sample_weight=weights)
        return self

    def predict(self, design: Floats) -> Floats:
        """(unit,) mean."""
        return np.asarray(self.model_.predict(design), dtype=float)

    def _again(self) -> Learner:
        return FromSklearn(self.model)


def outcome_learner(kind: OutcomeKind, seed: int) -> Regression:
    """The regression of this name."""
    if kind == "boosting":
        return Boosting("regressor", seed)
    return _forest(seed) if kind == "forest" else Ridge()


def propensity_learner(kind: PropensityKind, seed: int, label_smoothing: float = 0.0) -> Learner:
    """The model of treatment of this name; ``label_smoothing`` is of the logistic one only."""
    if kind == "boosting":
        return Boosting("classifier", seed)
    return _forest(seed) if kind == "forest" else RidgeLogistic(label_smoothing=label_smoothing)


def _forest(seed: int) -> FromSklearn:
    """A random forest; of a treatment its mean leaf is a probability."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(
        N_TREES, min_samples_leaf=LEAST_LEAF, max_features="sqrt", random_state=seed
    )
    return FromSklearn(model)


def deal_groups(
    group: Positions, share: Floats, n_folds: int, random: np.random.Generator
) -> Positions:
    """Deal whole groups into folds, so that all have a like mean of ``share``.

    Parameters
    ----------
    group : (unit,) int array
        Codes of what is kept together.
    share : (unit,) array
        What is to be spread evenly, for example the treatment.

    Returns
    -------
    (unit,) int array
        Numbers 0, 1, ... of at most ``n_folds`` folds.
    """
    names, code, size = np.unique(group, return_inverse=True, return_counts=True)
    mean = np.bincount(code, weights=share) / size
    order = np.lexsort([random.random(len(names)), mean])
    number = np.empty(len(names), dtype=np.intp)
    number[order] = np.arange(len(names)) % n_folds
    return number[code]


def logistic_coefficients(
    design: Floats,
    target: Floats,
    weights: Floats,
    penalty: float,
    start: Floats | None = None,
    tolerance: float = 1e-12,
) -> Floats:
    """Ridge logistic regression on several weighted copies of the units at once.

    Newton steps of length log(1 + r)/r, r = the largest change of a unit's margin: with a
    logistic loss such steps never overshoot, and they need no line search (Sun and Tran-Dinh 2019,
    damped step of order 2).

    Parameters
    ----------
    design : (unit, feature) array
        Without a column of ones.
    target : (unit,) array
        Within [0, 1].
    weights : (unit, copy) array
        Weight of a unit in each copy, 0 = left out.
    penalty : float
        Of mean log-loss + penalty/2 |coefficients|^2; the intercept is free.
    start : (copy, 1 + feature) array or None
        Where to begin.
    tolerance : float
        Of the mean log-loss, before the last step.

    Returns
    -------
    (copy, 1 + feature) array
        Intercept first.
    """
    n_features = design.shape[1]
    ridge = np.full(1 + n_features, penalty)
    ridge[0] = 0.0
    share = weights / weights.sum(axis=0)
    found = np.zeros((weights.shape[1], 1 + n_features)) if start is None else start.copy()
    margin = found[:, 0] + design @ found[:, 1:].T
    for _ in range(MAX_STEPS):
        expected = expit(margin)
        residual = share * (expected - target[:, None])
        gradient = np.column_stack([residual.sum(axis=0), residual.T @ design]) + ridge * found
        hessian = _weighted_products(design, share * expected * (1 - expected))
        step = np.linalg.solve(hessian + np.diag(ridge), gradient[..., None])[..., 0]
        change = step[:, 0] + design @ step[:, 1:].T
        largest = np.maximum(np.abs(change).max(axis=0), np.finfo(float).tiny)
        length = np.log1p(largest) / largest
        found -= length[:, None] * step
        margin -= length * change
        if not (gradient * step).sum(axis=1).max() > tolerance:
            break
    return found


def _blocks(n: int) -> Iterator[slice]:
    """Slices of rows that fit into a processor's cache; no copy of a design is ever whole."""
    return (slice(begin, begin + BLOCK) for begin in range(0, n, BLOCK))


def _weighted_products(design: Floats, weights: Floats) -> Floats:
    """(copy, 1 + feature, 1 + feature) products of [1, design], weighted by (unit, copy)."""
    size = 1 + design.shape[1]
    found = np.zeros((weights.shape[1], size, size))
    root = np.sqrt(weights)
    for rows in _blocks(len(design)):
        full = np.column_stack([np.ones(len(design[rows])), design[rows]])
        for copy, column in enumerate(root[rows].T):
            scaled = full * column[:, None]
            found[copy] += scaled.T @ scaled
    return found


def _moments(
    design: Floats, target: Floats, weights: Floats, part: Positions, centre: Floats, level: float
) -> Floats:
    """Weighted products of [1, design - centre, target - level] over the rows ``part``."""
    size = design.shape[1] + 2
    found = np.zeros((size, size))
    for block in _blocks(len(part)):
        rows = part[block]
        full = np.column_stack([np.ones(len(rows)), design[rows] - centre, target[rows] - level])
        full *= np.sqrt(weights[rows])[:, None]
        found += full.T @ full
    return found


def _ridge_path(moments: Floats, penalties: tuple[float, ...]) -> Floats:
    """(1 + feature + 1, penalty) residuals as sums of [1, design, target]: -intercept, -slopes, 1."""
    mean = moments[0, 1:] / moments[0, 0]
    covariance = moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance[:-1, :-1])
    shrunk = np.maximum(values, 0)[:, None] + np.array(penalties)
    slopes = vectors @ ((vectors.T @ covariance[:-1, -1])[:, None] / shrunk)
    intercepts = mean[-1] - mean[:-1] @ slopes
    return np.vstack([-intercepts, -slopes, np.ones(len(penalties))])
