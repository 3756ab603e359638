"""Estimates along ever stricter removals of the treatment from the images."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.audit.leakage import Floats, Pairs, auc_of, check_units, out_of_fold_scores
from eo_causal.audit.report import AuditReport
from eo_causal.core.effect import Effect
from eo_causal.core.progress import track

Estimate = Callable[[Floats, Floats, Floats, Floats, Pairs], Effect]
NEAR_NAIVE = 0.05
OVERLAP = (0.02, 0.98)


def distillation_curve(
    levels: Mapping[str, Floats],
    estimate: Estimate,
    covariates: Floats,
    treatment: Floats,
    outcome: Floats,
    folds: Pairs,
    *,
    auc_pre: float,
    clip: float = 0.01,
) -> AuditReport:
    """The effect with each version of the embedding, and what propensities from it look like.

    Mild removal leaves the treatment in the images (overlap collapses, standard errors are too
    small); strict removal loses the confounder (the estimate returns to the naive one); moderate
    removal is best (arXiv 2601.02400).

    Parameters
    ----------
    levels : mapping
        Name -> (unit, feature) embedding, from none to strict.
    estimate : callable
        (embedding, covariates, treatment, outcome, folds) -> Effect.
    covariates : (unit, k) array
        Without missing values; k may be 0.
    treatment, outcome : (unit,) arrays
    folds : list of (training, test) positions
    auc_pre : float
        Out-of-fold AUC of treatment from images of before it: the reference.
    clip : float
        Propensities are clipped to [clip, 1 - clip] for the effective sample size.

    Returns
    -------
    AuditReport
        ``warn`` and ``over_distilled`` when a level's estimate is within 5 % of the difference in
        means while its AUC is below ``auc_pre``. Table, one row a level: level, estimate, std_error,
        auc, n_effective = (sum w)^2 / sum w^2 of inverse-propensity weights, share_outside (of
        propensities outside [.02, .98]), naive, over_distilled.

    Raises
    ------
    DataError
        Missing values, shapes that differ, or a fold without both arms.
    """
    naive = float(outcome[treatment == 1].mean() - outcome[treatment == 0].mean())
    rows = []
    for name, z in track(list(levels.items()), "distillation"):
        check_units(z, treatment)
        effect = estimate(z, covariates, treatment, outcome, folds)
        scores = out_of_fold_scores(np.column_stack([z, covariates]), treatment, folds)
        row: dict[str, Any] = {
            "level": name, "estimate": effect.estimate, "std_error": effect.std_error,
            **_overlap(scores, treatment, clip), "naive": naive,
        }  # fmt: skip
        near = abs(effect.estimate - naive) <= NEAR_NAIVE * abs(naive)
        rows.append(row | {"over_distilled": bool(near and row["auc"] < auc_pre)})
    table = pd.DataFrame(rows)
    lost = table.loc[table["over_distilled"], "level"].tolist()
    text = (
        f"Estimates over {len(table)} levels of removal lie between {table['estimate'].min():.3g} and"
        f" {table['estimate'].max():.3g} (naive {naive:.3g}; reference AUC {auc_pre:.3f})."
    )
    if lost:
        text += f" The confounder is lost at {', '.join(lost)}: do not use these estimates."
    flags = ("over_distilled",) if lost else ()
    return AuditReport("distillation_curve", "warn" if lost else "pass", text, table, flags)


def _overlap(scores: Floats, treatment: NDArray[Any], clip: float) -> dict[str, float]:
    from scipy.special import expit

    propensity = expit(scores)
    kept = np.clip(propensity, clip, 1 - clip)
    weight = np.where(treatment == 1, 1 / kept, 1 / (1 - kept))
    low, high = OVERLAP
    return {
        "auc": auc_of(scores, treatment)(np.ones(len(scores))),
        "n_effective": float(weight.sum() ** 2 / (weight**2).sum()),
        "share_outside": float(((propensity < low) | (propensity > high)).mean()),
    }
