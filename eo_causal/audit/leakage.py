"""Whether images show the treatment: how much better later images predict it than earlier ones.

With one image, "predicts treatment because of the confounder" and "predicts treatment because of the
treatment" cannot be told apart; the images of before the treatment are what tells them apart here
(arXiv 2205.00465, 2601.02400).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.audit.report import AuditReport
from eo_causal.core.random import generator
from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Pairs = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
Probe = Literal["linear", "boosting"]
LARGE_GAP = 0.05
LEVEL = 0.95
ROUNDING = 1e-12
FLAGS: dict[Probe, str] = {"linear": "leak_gap", "boosting": "nonlinear_leak"}


def leakage_gap(
    z_pre: Floats,
    z_post: Floats,
    treatment: Floats,
    groups: NDArray[Any],
    *,
    folds: Pairs,
    seed: int,
    probe: Probe = "linear",
    n_draws: int = 1000,
) -> AuditReport:
    """Out-of-fold AUC of treatment from images of before and after it, and their difference.

    The interval is the middle 95 % of a paired bootstrap over groups, with the predictions kept.
    To test a projection (see :mod:`eo_causal.audit.projections`), give the projected images as
    ``z_post`` and ``probe="boosting"``: a linear null space defeats linear probes only.

    Parameters
    ----------
    z_pre, z_post : (unit, feature) arrays
        Embeddings; rows of NaN in ``z_pre`` are units without an earlier image, which are left out.
    treatment : (unit,) array
        0 or 1.
    groups : (unit,) array
        What is drawn as a whole: the groups of the folds.
    folds : list of (training, test) positions
        Of ``Folds.pairs``.
    seed : int
        Seed of the run.
    probe : {"linear", "boosting"}
        Ridge-logistic regression with C = 1 on standardised features, or gradient-boosted trees.
    n_draws : int
        Bootstrap draws.

    Returns
    -------
    AuditReport
        ``warn`` when the gap is above .05 and its interval excludes 0, with flag ``leak_gap``
        (``nonlinear_leak`` of the boosting probe). Table: probe, auc_pre, auc_post, gap, lower,
        upper, n, n_left_out, n_groups, n_draws (those that held both arms).

    Raises
    ------
    DataError
        Shapes that differ, missing values, no unit with both images, a fold without both arms, or a
        single group.
    """
    check_units(z_post, treatment)
    known = units_with_pairs(z_pre, z_post)
    folds = _restricted(folds, known)
    z_pre, z_post, treatment = z_pre[known], z_post[known], treatment[known]
    before, after = (
        auc_of(out_of_fold_scores(z, treatment, folds, probe=probe, seed=seed), treatment)
        for z in (z_pre, z_post)
    )
    names, codes = np.unique(np.asarray(groups)[known], return_inverse=True)
    if len(names) < 2:
        raise DataError(
            "All units are of one group: an interval needs several. Use smaller blocks."
        )
    everyone = np.ones(len(treatment))
    gap = after(everyone) - before(everyone)
    draws = _drawn_gaps(before, after, codes, n_draws, seed)
    lower, upper = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    row = {
        "probe": probe, "auc_pre": before(everyone), "auc_post": after(everyone), "gap": gap,
        "lower": lower, "upper": upper, "n": len(treatment), "n_left_out": int((~known).sum()),
        "n_groups": len(names), "n_draws": len(draws),
    }  # fmt: skip
    shows = gap > LARGE_GAP and lower > 0
    text = (
        f"Images of after the treatment predict it with AUC {row['auc_post']:.3f}, images of before"
        f" with {row['auc_pre']:.3f} ({probe} probe, {row['n']:,} units): gap {gap:.3f}"
        f" [{lower:.3f}, {upper:.3f}]{', so the later images show the treatment' if shows else ''}."
    )
    flags = (FLAGS[probe],) if shows else ()
    return AuditReport("leakage_gap", "warn" if shows else "pass", text, pd.DataFrame([row]), flags)


def out_of_fold_scores(
    z: Floats, treatment: Floats, folds: Pairs, *, probe: Probe = "linear", seed: int = 0
) -> Floats:
    """Log odds of treatment of each unit, from models that did not see its fold.

    Parameters
    ----------
    z : (unit, feature) array
        Embedding, and covariates where there are any.
    treatment : (unit,) array
        0 or 1.
    folds : list of (training, test) positions
        Tests are a partition; of some units a test may hold none.
    probe : {"linear", "boosting"}
        As in :func:`leakage_gap`.
    seed : int
        For the trees.

    Raises
    ------
    DataError
        A fold learns from units of one arm only.
    """
    spread = z.std(axis=0)
    # what a projection has left of a feature is rounding error, which a scale of its own would amplify
    z = z[:, spread >= ROUNDING * spread.max()]
    scores = np.full(len(z), np.nan)
    for number, (training, test) in enumerate(folds):
        if len(np.unique(treatment[training])) < 2:
            raise DataError(
                f"Fold {number} learns from {len(training)} units of one arm only. Use fewer folds or"
                " larger blocks.", fold=number,
            )  # fmt: skip
        model = _model(probe, seed).fit(z[training], treatment[training])
        if len(test):
            scores[test] = model.decision_function(z[test])
    return scores


def auc_of(scores: Floats, treatment: Floats) -> Callable[[Floats], float]:
    """AUC of scores as a function of the units' weights: sorted once, cheap to evaluate often.

    AUC = P(score of a treated unit > score of a control) + P(equal)/2; NaN where the weights leave
    no unit of an arm.

    >>> auc_of(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1]))(np.ones(4))
    0.875
    """
    order = np.argsort(scores, kind="stable")
    treated = treatment[order] == 1
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)

    def auc(weight: Floats) -> float:
        ordered = weight[order]
        ones = np.add.reduceat(np.where(treated, ordered, 0), starts)
        zeros = np.add.reduceat(np.where(treated, 0, ordered), starts)
        total = float(ones.sum()) * float(zeros.sum())
        below = np.cumsum(zeros) - zeros / 2
        return float(ones @ below) / total if total else np.nan

    return auc


def check_units(z: Floats, treatment: Floats) -> None:
    """Every unit has an embedding, and both arms are there.

    Raises
    ------
    DataError
        Otherwise.
    """
    missing = int((~np.isfinite(z).all(axis=1)).sum())
    if len(z) != len(treatment) or missing:
        raise DataError(
            f"{len(treatment)} units have {len(z)} embeddings, {missing} of them with missing values."
            " Give one finite row a unit.", n_units=len(treatment), n_missing=missing,
        )  # fmt: skip
    if set(np.unique(treatment)) != {0, 1}:
        raise DataError(
            f"Treatment takes the values {np.unique(treatment)[:5].tolist()}; it must be 0 and 1, both"
            " present."
        )


def units_with_pairs(z_pre: Floats, z_post: Floats) -> NDArray[np.bool_]:
    """Units that have an image of before the treatment too.

    Raises
    ------
    DataError
        Shapes that differ, or no such unit.
    """
    if z_pre.shape != z_post.shape:
        raise DataError(
            f"Embeddings of before {z_pre.shape} and after {z_post.shape} differ in shape. Use one"
            " encoder, and rows of NaN for units without an earlier image."
        )
    known = np.isfinite(z_pre).all(axis=1)
    if not known.any():
        raise DataError("No unit has an image of before the treatment. Widen the period of images.")
    return np.asarray(known)


def _model(probe: Probe, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if probe == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    number = int(generator(seed, "leakage_probe").integers(2**31))
    return HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, random_state=number)


def _drawn_gaps(
    before: Callable[[Floats], float],
    after: Callable[[Floats], float],
    group: NDArray[np.intp],
    n_draws: int,
    seed: int,
) -> Floats:
    """(draw,): the gap when groups are drawn with replacement; draws without both arms left out."""
    random = generator(seed, "leakage_gap")
    n_groups = int(group.max()) + 1
    share = np.full(n_groups, 1 / n_groups)
    gaps = np.empty(n_draws)
    for draw in range(n_draws):
        weight = random.multinomial(n_groups, share)[group].astype(float)
        gaps[draw] = after(weight) - before(weight)
    return gaps[np.isfinite(gaps)]


def _restricted(folds: Pairs, known: NDArray[np.bool_]) -> Pairs:
    """Folds in terms of the positions among the known units only."""
    position = np.cumsum(known) - 1
    return [(position[a[known[a]]], position[b[known[b]]]) for a, b in folds]
