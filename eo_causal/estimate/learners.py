"""Penalised regressions that choose their penalty by predicting groups of units they have not seen.

All learners are fitted by ``fit(design, target, folds)``, where ``folds`` numbers the parts that the
penalty is chosen on, and answer with ``predict(design)``: a probability or a mean.
"""

from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
LOGISTIC_PENALTIES = tuple(np.logspace(1, -5, 13))
RIDGE_PENALTIES = tuple(np.logspace(2, -4, 25))
PATIENCE = 3
PATH_TOLERANCE = 1e-5
MAX_STEPS = 100


class Learner(Protocol):
    """What cross-fitting asks of a model."""

    penalty_: float

    def fit(self, design: Floats, target: Floats, folds: Positions) -> Self:
        """Learn from (unit, feature) and (unit,); ``folds`` (unit,) numbers parts for tuning."""

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability or mean."""


class RidgeLogistic:
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
            margin = coefficients[folds, 0] + (design * coefficients[folds, 1:]).sum(axis=1)
            loss = float(np.mean(np.logaddexp(0, margin) - smooth * margin))
            since += 1
            if loss < best:
                best, since = loss, 0
                self.penalty_, start = float(penalty), coefficients[-1:]
            if since == PATIENCE:
                break
        found = logistic_coefficients(design, smooth, weights[:, -1:], self.penalty_, start)[0]
        self.intercept_, self.coefficients_ = float(found[0]), found[1:]
        return self

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability of treatment."""
        return np.asarray(expit(self.intercept_ + design @ self.coefficients_))


class Ridge:
    """Linear regression with a ridge penalty, chosen by out-of-fold squared error.

    Minimises mean squared error + penalty |coefficients|^2; the intercept is free. All penalties
    come from one eigen-decomposition of a part's covariance.

    Parameters
    ----------
    penalties : sequence of float
    """

    def __init__(self, penalties: tuple[float, ...] = RIDGE_PENALTIES) -> None:
        self.penalties = penalties

    def fit(self, design: Floats, target: Floats, folds: Positions) -> Self:
        """Choose the penalty, then fit it on all units."""
        errors = np.zeros(len(self.penalties))
        for k in np.unique(folds):
            part = folds == k
            intercepts, path = _ridge_path(design[~part], target[~part], self.penalties)
            predicted = design[part] @ path + intercepts
            errors += ((target[part, None] - predicted) ** 2).sum(axis=0)
        chosen = int(errors.argmin())
        self.penalty_ = float(self.penalties[chosen])
        intercepts, path = _ridge_path(design, target, (self.penalty_,))
        self.intercept_, self.coefficients_ = float(intercepts[0]), path[:, 0]
        return self

    def predict(self, design: Floats) -> Floats:
        """(unit,) mean."""
        return np.asarray(self.intercept_ + design @ self.coefficients_)


class Boosting:
    """Gradient boosting of scikit-learn with its usual settings; nothing is tuned.

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

    def fit(self, design: Floats, target: Floats, folds: Positions) -> Self:
        """Fit on all units. Early stopping is off: it would split rows, not groups."""
        from sklearn import ensemble

        classes = {
            "classifier": ensemble.HistGradientBoostingClassifier,
            "regressor": ensemble.HistGradientBoostingRegressor,
        }
        self.model_: Any = classes[self.kind](early_stopping=False, random_state=self.seed)
        self.model_.fit(design, target)
        return self

    def predict(self, design: Floats) -> Floats:
        """(unit,) probability or mean."""
        if self.kind == "classifier":
            return np.asarray(self.model_.predict_proba(design)[:, 1])
        return np.asarray(self.model_.predict(design))


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
    full = np.column_stack([np.ones(len(design)), design])
    ridge = np.full(full.shape[1], penalty)
    ridge[0] = 0.0
    share = weights / weights.sum(axis=0)
    found = np.zeros((weights.shape[1], full.shape[1])) if start is None else start.copy()
    margin = full @ found.T
    for _ in range(MAX_STEPS):
        expected = expit(margin)
        gradient = (share * (expected - target[:, None])).T @ full + ridge * found
        curvature = share * expected * (1 - expected)
        hessian = np.stack([(full * column[:, None]).T @ full for column in curvature.T])
        step = np.linalg.solve(hessian + np.diag(ridge), gradient[..., None])[..., 0]
        change = full @ step.T
        largest = np.maximum(np.abs(change).max(axis=0), np.finfo(float).tiny)
        length = np.log1p(largest) / largest
        found -= length[:, None] * step
        margin -= length * change
        if not (gradient * step).sum(axis=1).max() > tolerance:
            break
    return found


def _ridge_path(
    design: Floats, target: Floats, penalties: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Intercepts (penalty,) and coefficients (feature, penalty)."""
    centre, level = design.mean(axis=0), float(target.mean())
    centred = design - centre
    values, vectors = np.linalg.eigh(centred.T @ centred / len(target))
    moment = vectors.T @ (centred.T @ (target - level)) / len(target)
    path = vectors @ (moment[:, None] / (np.maximum(values, 0)[:, None] + np.array(penalties)))
    return level - centre @ path, path
