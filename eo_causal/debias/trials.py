"""One map, many trials: each gets its own verdict and its effects side by side, from the same card."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.debias.base import FEW_CLUSTERS, SMALLEST_CLUSTERS
from eo_causal.debias.card import CalibrationCard
from eo_causal.debias.effect import compare_effects
from eo_causal.debias.regime import diagnose
from eo_causal.errors import DataError, EOCausalWarning

Floats = NDArray[np.float64]
Assignment = Literal["observed", "randomised"]
METHODS = ("naive", "lcc", "tweedie", "ppi")
FEWEST_TRIALS = 3


class TrialSettings(Settings):
    """A trial whose outcome is read from a map."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="how it is called in the results")
    treatment: str = Field(default="treatment", description="column of 0 and 1")
    cluster: str | None = Field(
        default=None, description="label column of what was treated as a whole"
    )
    pilot: str | None = Field(
        default=None, description="column of measured outcomes, empty where there is none"
    )
    assignment: Assignment = "observed"
    assume: Literal["R1", "R2"] | None = Field(
        default=None, description="regime to be taken as given; recorded as an assumption"
    )


@dataclass(frozen=True)
class TrialEffects:
    """What a map says of one trial.

    Attributes
    ----------
    name : str
    effects : DataFrame
        One row a method: see :func:`eo_causal.debias.effect.compare_effects`.
    verdict, evidence : str
        See :class:`eo_causal.debias.regime.Diagnosis`.
    diagnosis : DataFrame
        The numbers behind it.
    flags : tuple of str
    n, n_treated, n_pilot : int
    share_inside : float
        Of its places that lie in the map's area of applicability.
    """

    name: str
    effects: pd.DataFrame
    verdict: str
    evidence: str
    diagnosis: pd.DataFrame
    flags: tuple[str, ...]
    n: int
    n_treated: int
    n_pilot: int
    share_inside: float


def trial_effects(
    name: str,
    cells: pd.DataFrame,
    trial: pd.DataFrame,
    treatment: str,
    pilot: str | None,
    cluster: str | None,
    groups: pd.DataFrame | None,
    card: CalibrationCard,
    threshold: float | None,
    assignment: Assignment,
    assume: Literal["R1", "R2"] | None,
    *,
    seed: int,
) -> TrialEffects:
    """Effects of one trial on a map, and whether they should be corrected.

    Parameters
    ----------
    name : str
    cells : DataFrame
        ``unit_id``, a column a model of the card (``fold_0``, ...), and ``dissimilarity`` or, without a
        threshold, ``inside`` (0 or 1); one row a place.
    trial : DataFrame
        ``unit_id`` and the columns named below, in the order of ``cells``.
    treatment : str
        Column of 0 and 1.
    pilot : str or None
        Column of measured outcomes, NaN where there is none.
    cluster : str or None
        Column of what was treated or sampled together.
    groups : DataFrame or None
        Placebo groups, for observed assignment: ``outcome``, ``prediction``, ``group``.
    card : CalibrationCard
    threshold : float or None
        Dissimilarity up to which a place is inside the area of applicability, if its mean prediction is
        within the card's support.
    assignment : str
        ``randomised`` or ``observed``.
    assume : str or None
        ``R1`` or ``R2``, if the user insists.

    Raises
    ------
    DataError
        Places and cells that differ, a treatment other than 0 and 1, one arm.
    """
    if cells["unit_id"].astype(str).tolist() != trial["unit_id"].astype(str).tolist():
        raise DataError(f"trial {name}: its places are not those that were read from the map.")
    predictions = cells[[f"fold_{k}" for k in card.folds["fold"]]].to_numpy(dtype=float)
    treated = trial[treatment].to_numpy(dtype=float)
    codes = None if cluster is None else trial[cluster].to_numpy()
    measured = None if pilot is None else trial[pilot].to_numpy(dtype=float)
    table = pd.DataFrame({"prediction": predictions.mean(axis=1), "treatment": treated})
    if codes is not None:
        table["cluster"] = codes
    known = np.zeros(len(table), dtype=bool) if measured is None else np.isfinite(measured)
    labelled = table[known].assign(outcome=measured[known]) if measured is not None else None
    diagnosis = diagnose(
        card, table, pilot=labelled if known.any() else None,
        groups=groups if assignment == "observed" else None, assignment=assignment, assume=assume,
        seed=seed,
    )  # fmt: skip
    effects = compare_effects(
        predictions, treated, card, diagnosis, outcome=measured if known.any() else None,
        cluster=codes, units=card.units,
    )  # fmt: skip
    if threshold is None:
        inside = cells["inside"].to_numpy() == 1
    else:
        calibrated = table["prediction"].between(*card.mean_support).to_numpy()
        inside = (cells["dissimilarity"].to_numpy() <= threshold) & calibrated
    count(places=len(table), places_labelled=int(known.sum()), places_outside=int((~inside).sum()))
    return TrialEffects(
        name, effects, diagnosis.verdict, diagnosis.evidence, diagnosis.table,
        (*diagnosis.flags, *_few_clusters(name, codes)),
        len(table), int(treated.sum()), int(known.sum()), float(inside.mean()),
    )  # fmt: skip


def _few_clusters(name: str, codes: NDArray[Any] | None) -> tuple[str, ...]:
    """Warn, and flag, a trial whose clusters are too few for its standard errors."""
    n = np.inf if codes is None else len(np.unique(codes))
    if n >= SMALLEST_CLUSTERS:
        return ()
    text = (
        f"trial {name}: {n} clusters (limit {SMALLEST_CLUSTERS}): its standard errors are likely too"
        " small. Read its intervals as too narrow, and do not decide by a p-value near the bar."
    )
    warnings.warn(EOCausalWarning(text, FEW_CLUSTERS), stacklevel=3)
    return (FEW_CLUSTERS,)


def summary_of_trials(
    trials: tuple[TrialEffects, ...] | list[TrialEffects], truth: dict[str, float] | None
) -> pd.DataFrame:
    """How each method's estimates follow the true effects: slope and mean absolute error.

    Parameters
    ----------
    trials : sequence of TrialEffects
    truth : dict or None
        Name -> effect that measured outcomes would give; None where it is not known.

    Returns
    -------
    DataFrame
        ``method``, ``slope`` (NaN below three trials, or of equal truths), ``mae``, ``n``; no rows
        without truth. Trials of one map share its errors: they are no independent points.
    """
    rows = []
    for method in METHODS if truth else ():
        pairs = [
            (truth[trial.name], float(own["estimate"].iloc[0]))
            for trial in trials
            if truth is not None
            and trial.name in truth
            and len(own := trial.effects[trial.effects["method"] == method])
        ]
        if pairs:
            true, found = np.array(pairs).T
            enough = len(true) >= FEWEST_TRIALS and np.ptp(true) > 0
            slope = np.polyfit(true, found, 1)[0] if enough else np.nan
            mae = float(np.abs(found - true).mean())
            rows.append({"method": method, "slope": float(slope), "mae": mae, "n": len(true)})
    return pd.DataFrame(rows, columns=["method", "slope", "mae", "n"])
