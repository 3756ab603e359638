"""Projections that take the treatment out of embeddings of images that already show it.

Images of before the treatment are better than any projection, whenever all units have them. The
temporal-difference projection is for studies in which some have; :class:`NullspaceProjection` is there
for comparison and is never a default, because it also removes the confounder.
"""

import warnings

import numpy as np

from eo_causal.audit.leakage import (
    Floats,
    Pairs,
    auc_of,
    check_units,
    out_of_fold_scores,
    units_with_pairs,
)
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

MIN_PAIRS = 20
LARGE_COSINE = 0.8
LARGE_DIFFERENCE = 0.2


class TemporalDifferenceProjection:
    """Remove the directions in which treated places changed otherwise than control places.

    D = z_post - z_pre, d = mean(D | W=1) - mean(D | W=0), P = I - d d'/|d|^2. With rank r > 1 the
    r - 1 leading eigenvectors of Cov(D | W=1) - Cov(D | W=0) are joined to d and orthonormalised. It
    assumes that the embeddings of both arms would have moved in parallel without treatment: not so
    where treated places were already changing.

    Parameters
    ----------
    rank : int
        Number of directions to remove.

    Attributes
    ----------
    direction_ : (feature,) array
        d / |d|.
    matrix_ : (feature, feature) array
        P, symmetric and idempotent, of rank features - rank.
    cosine_ : float
        Between what is removed and the direction in which the earlier images of the arms differ,
        mean(z_pre | W=1) - mean(z_pre | W=0): near 1, the confounder is removed too.
    n_pairs_ : (int, int)
        Control and treated units with both images.
    flags_ : tuple of str
        ``td_confounder_overlap``, or nothing.
    """

    def __init__(self, rank: int = 1) -> None:
        self.rank = rank

    def fit(
        self, z_pre: Floats, z_post: Floats, treatment: Floats
    ) -> "TemporalDifferenceProjection":
        """Learn the projection from the units with both images.

        Parameters
        ----------
        z_pre, z_post : (unit, feature) arrays
            Rows of NaN in ``z_pre`` are units without an earlier image.
        treatment : (unit,) array
            0 or 1.

        Raises
        ------
        DataError
            Fewer than 20 pairs in an arm, missing values, or images that did not change.
        ConfigError
            A rank that is not between 1 and features - 1.

        Warns
        -----
        EOCausalWarning
            ``TemporalDifferenceWarning``: the cosine is above .8, or the later images of units with
            and without an earlier one differ.
        """
        z_pre, z_post = np.asarray(z_pre, dtype=float), np.asarray(z_post, dtype=float)
        check_units(z_post, treatment)
        known = units_with_pairs(z_pre, z_post)
        if not 1 <= self.rank < z_post.shape[1]:
            raise ConfigError(
                f"rank is {self.rank}; embeddings of {z_post.shape[1]} features allow 1 to"
                f" {z_post.shape[1] - 1}.", rank=self.rank,
            )  # fmt: skip
        arms = [known & (treatment == arm) for arm in (0, 1)]
        self.n_pairs_ = (int(arms[0].sum()), int(arms[1].sum()))
        if min(self.n_pairs_) < MIN_PAIRS:
            raise DataError(
                f"{self.n_pairs_[0]} control and {self.n_pairs_[1]} treated units have images of before"
                f" and after; the projection needs {MIN_PAIRS} each. Find earlier images of more.",
                n_pairs=self.n_pairs_,
            )  # fmt: skip
        control, treated = (z_post[arm] - z_pre[arm] for arm in arms)
        difference = treated.mean(axis=0) - control.mean(axis=0)
        if not np.linalg.norm(difference) > 0:
            raise DataError("Images of before and after are the same. Is z_post another embedding?")
        spread = np.cov(treated, rowvar=False) - np.cov(control, rowvar=False)
        leading = np.linalg.eigh(spread)[1][:, ::-1][:, : self.rank - 1]
        self.direction_ = difference / np.linalg.norm(difference)
        self.matrix_ = _without(np.column_stack([self.direction_, leading]))
        confounding = z_pre[arms[1]].mean(axis=0) - z_pre[arms[0]].mean(axis=0)
        removed = confounding - confounding @ self.matrix_
        length = max(float(np.linalg.norm(confounding)), np.finfo(float).tiny)
        self.cosine_ = float(np.linalg.norm(removed)) / length
        self.flags_ = self._overlap_flags()
        _compare(z_post[known], z_post[~known])
        return self

    def transform(self, z: Floats) -> Floats:
        """(unit, feature) embeddings without the directions; for all units, paired or not."""
        return np.asarray(z @ self.matrix_)

    def _overlap_flags(self) -> tuple[str, ...]:
        if not self.cosine_ > LARGE_COSINE:
            return ()
        message = (
            f"what changed with the treatment looks like what led to it (cosine {self.cosine_:.2f}):"
            " the projection removes confounding information too. Use images of before the treatment."
        )
        warnings.warn(EOCausalWarning(message, "TemporalDifferenceWarning"), stacklevel=3)
        return ("td_confounder_overlap",)


class NullspaceProjection:
    """Remove, one after another, the directions that predict treatment best (INLP).

    P_0 = I; w_i of a ridge-logistic regression of treatment on z P_{i-1}, normalised; Q from the QR
    decomposition of all w; P_i = I - Q Q' (arXiv 2601.02400). Never a default: it cannot tell the
    treatment from the confounder, and removes both.

    Parameters
    ----------
    n_directions : int
        Most directions to remove.
    auc_pre : float, optional
        Out-of-fold AUC of images of before the treatment; removal stops when the AUC falls to it. The
        aim is never .5, which would be an image without confounder.
    tolerance : float
        Added to ``auc_pre``.

    Attributes
    ----------
    matrix_ : (feature, feature) array
        P.
    auc_ : list of float
        Out-of-fold AUC with 0, 1, ... directions removed.
    """

    def __init__(
        self, n_directions: int, auc_pre: float | None = None, tolerance: float = 0.01
    ) -> None:
        self.n_directions = n_directions
        self.auc_pre = auc_pre
        self.tolerance = tolerance

    def fit(self, z: Floats, treatment: Floats, folds: Pairs) -> "NullspaceProjection":
        """Learn the projection; ``folds`` (training, test) positions are for the AUC.

        Raises
        ------
        DataError
            Missing values, a treatment that is not 0 and 1.
        ConfigError
            Directions that are not between 1 and features - 1.
        """
        check_units(z, treatment)
        if not 1 <= self.n_directions < z.shape[1]:
            raise ConfigError(
                f"n_directions is {self.n_directions}; embeddings of {z.shape[1]} features allow 1 to"
                f" {z.shape[1] - 1}.", n_directions=self.n_directions,
            )  # fmt: skip
        enough = -np.inf if self.auc_pre is None else self.auc_pre + self.tolerance
        found: list[Floats] = []
        self.matrix_ = np.eye(z.shape[1])
        self.auc_ = [_auc(z, treatment, folds)]
        while len(found) < self.n_directions and self.auc_[-1] > enough:
            found.append(_direction(z @ self.matrix_, treatment) @ self.matrix_)
            self.matrix_ = _without(np.column_stack(found))
            self.auc_.append(_auc(z @ self.matrix_, treatment, folds))
        return self

    def transform(self, z: Floats) -> Floats:
        """(unit, feature) embeddings without the directions."""
        return np.asarray(z @ self.matrix_)


def _without(directions: Floats) -> Floats:
    """I - Q Q', Q an orthonormal basis of the columns."""
    basis = np.linalg.qr(directions)[0]
    return np.asarray(np.eye(len(directions)) - basis @ basis.T)


def _direction(z: Floats, treatment: Floats) -> Floats:
    """Weights of a ridge-logistic regression (C = 1), of length 1.

    One scale for all features: with a scale of its own, a feature that an earlier step removed would
    come back as amplified rounding error.
    """
    from sklearn.linear_model import LogisticRegression

    scale = z.std(axis=0).max()
    weight = LogisticRegression(C=1.0, max_iter=1000).fit(z / scale, treatment).coef_[0]
    return np.asarray(weight / np.linalg.norm(weight))


def _auc(z: Floats, treatment: Floats, folds: Pairs) -> float:
    return auc_of(out_of_fold_scores(z, treatment, folds), treatment)(np.ones(len(z)))


def _compare(paired: Floats, others: Floats) -> None:
    """Warn where units with and without an earlier image differ by more than chance explains."""
    from scipy.stats import norm

    if len(others) < 2:
        return
    spread = np.sqrt((paired.var(axis=0, ddof=1) + others.var(axis=0, ddof=1)) / 2)
    apart = np.abs(paired.mean(axis=0) - others.mean(axis=0))
    difference = np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 0)
    chance = norm.isf(0.025 / len(apart)) * np.sqrt(1 / len(paired) + 1 / len(others))
    largest = int(difference.argmax())
    if difference[largest] > max(LARGE_DIFFERENCE, chance):
        message = (
            f"{len(paired):,} units with and {len(others):,} without an image of before the treatment"
            f" differ (standardised difference {difference[largest]:.2f} in feature {largest}): what is"
            " learnt from the first may not hold for the second."
        )
        warnings.warn(EOCausalWarning(message, "TemporalDifferenceWarning"), stacklevel=3)
