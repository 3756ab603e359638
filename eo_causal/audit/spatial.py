"""Are errors spatially dependent? Surrogate fields, random against block folds, Moran's I."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.audit.report import AuditReport, Status
from eo_causal.core.display import show_p
from eo_causal.core.fields import draw_fields, exponential_correlation
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.variance import conley_std_error, mean_std_error, ols_covariance, p_value
from eo_causal.errors import DataError, DegenerateError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
Learner = Callable[[Floats, Floats, Floats], Floats]
RANGES = (0.02, 0.04, 0.08, 0.16, 0.32)
NOISE_SHARES = (0.0, 0.25, 0.5, 0.75)
FITTED_UNITS = 1000


class SurrogateSettings(Settings):
    """Random fields in the place of the treatment, and Conley errors beside them."""

    n_surrogates: Annotated[int, Field(ge=199)] = 199
    max_units: Annotated[int, Field(ge=50, le=5000)] = Field(
        default=3000, description="more units are thinned to one a cell of a grid"
    )
    cutoff_km: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Conley cutoff; default: 4 times the range fitted to the treatment",
    )
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


@dataclass(frozen=True)
class _Field:
    """Covariance fitted to a treatment: range in metres and share of white noise."""

    reach_m: float
    noise: float

    def correlation(self, places: Floats) -> Floats:
        """(n, n) between places."""
        result = (1 - self.noise) * exponential_correlation(places, self.reach_m)
        np.fill_diagonal(result, 1.0)
        return result


def surrogate_field_test(
    treatment: Floats,
    outcome: Floats,
    controls: Floats,
    coordinates_m: Floats,
    settings: SurrogateSettings,
    scores: Floats | None = None,
    *,
    seed: int,
) -> AuditReport:
    """Would a field as smooth as the treatment, but drawn at random, go with the outcome as well?

    Treatment and outcome are residualised on the controls. An exponential covariance is fitted to
    the treatment by profile likelihood over ranges of 0.02, 0.04, ..., 0.32 of the extent and
    shares of white noise, on 1,000 units at most, thinned to one a cell of a grid; Gaussian fields
    with it are drawn at the same places and residualised.
    p = (1 + number with |correlation| as large) / (S + 1). For a binary treatment the fields are
    cut at the treated share, and the covariance fitted is that of a field so cut.

    Parameters
    ----------
    treatment, outcome : (n,) array
        Finite.
    controls : (n, k) array
        Covariates without the intercept; k may be 0.
    coordinates_m : (n, 2) array
        Metres.
    settings : SurrogateSettings
        Number, thinning, Conley cutoff.
    scores : (n,) array, optional
        Whose mean is the effect (AIPW scores); its errors then stand beside the test, else those of
        least squares of the outcome on treatment and controls.
    seed : int
        Seed of the run.

    Returns
    -------
    AuditReport
        ``surrogate_field``. Table: check, n, cutoff_km, statistic, std_error, p_value, range_km,
        noise_share. Flag ``surrogate_disagrees`` where a Conley p is below alpha and the test's not.

    Raises
    ------
    DataError
        Missing values, all units at one place, or a treatment the controls leave nothing of.

    Notes
    -----
    Source: specification AU section 5. The noise share and the covariance of the cut field are
    added: without them a treatment that differs between neighbours is taken for rough, and the
    test rejects too often (11 to 16 % at a nominal 5 %, range 0.12, 150 draws).
    """
    columns = np.column_stack([treatment, outcome, coordinates_m, controls])
    incomplete = int((~np.isfinite(columns)).any(axis=1).sum())
    if incomplete:
        raise DataError(
            f"{incomplete} of {len(columns)} units lack a value or a place. Impute or leave them"
            " out.",
            n=incomplete,
        )
    kept = _thinned(coordinates_m, settings.max_units, generator(seed, "surrogates", "thin"))
    count(units_thinned_away=len(treatment) - len(kept))
    own = _surrogate_row(
        treatment[kept], outcome[kept], controls[kept], coordinates_m[kept],
        settings.n_surrogates, seed,
    )  # fmt: skip
    cutoff_m = 1000 * (settings.cutoff_km or 4 * own["range_km"])
    errors = _error_rows(treatment, outcome, controls, coordinates_m, cutoff_m, scores)
    return _surrogate_report(pd.DataFrame([*errors, own]), settings)


def _surrogate_row(
    treatment: Floats,
    outcome: Floats,
    controls: Floats,
    places: Floats,
    n_surrogates: int,
    seed: int,
) -> dict[str, Any]:
    n = len(treatment)
    design = np.column_stack([np.ones(n), controls])
    left, right = _residual(treatment, design), _residual(outcome, design)
    if not left.std() > 1e-10 * max(1.0, float(np.abs(treatment).max())):
        raise DataError("The controls determine the treatment. Leave out those that contain it.")
    share = float(treatment.mean()) if np.isin(treatment, (0, 1)).all() else None
    fitted = _thinned(places, FITTED_UNITS, generator(seed, "surrogates", "fit"))
    field = _fit_field(left[fitted], places[fitted], share)
    drawn = draw_fields(generator(seed, "surrogates"), field.correlation(places), n_surrogates)
    if share is not None:
        drawn = (drawn > np.quantile(drawn, 1 - share, axis=0)).astype(float)
    correlation = float(_correlation(left, right))
    others = _correlation(_residual(drawn, design), right)
    n_larger = int((np.abs(others) >= abs(correlation)).sum())
    return {
        "check": "surrogate field", "n": n, "statistic": correlation,
        "p_value": (1 + n_larger) / (n_surrogates + 1), "range_km": field.reach_m / 1000,
        "noise_share": field.noise,
    }  # fmt: skip


def _surrogate_report(table: pd.DataFrame, settings: SurrogateSettings) -> AuditReport:
    conley = table[table["check"] == "Conley"]
    own = table.iloc[-1]
    disagrees = bool((conley["p_value"] < settings.alpha).any() and own["p_value"] > settings.alpha)
    errors = ", ".join(
        f"p {show_p(row.p_value)} at {row.cutoff_km:.3g} km" for row in conley.itertuples()
    )
    text = (
        f"Among {settings.n_surrogates} random fields like the treatment (range"
        f" {own['range_km']:.3g} km, {own['noise_share']:.0%} noise, {own['n']} of"
        f" {table['n'].iloc[0]} units) the association with the outcome has p"
        f" {show_p(own['p_value'])}; Conley errors say {errors}."
    )
    if conley["p_value"].isna().any():
        text += " A Conley variance is negative: no error exists at that cutoff."
    if disagrees:
        text += " The Conley error is too small for fields this smooth: do not rely on it."
    status: Status = "warn" if disagrees or conley["p_value"].isna().any() else "pass"
    flags = ("surrogate_disagrees",) if disagrees else ()
    return AuditReport("surrogate_field", status, text, table, flags)


def _error_rows(
    treatment: Floats,
    outcome: Floats,
    controls: Floats,
    coordinates_m: Floats,
    cutoff_m: float,
    scores: Floats | None,
) -> list[dict[str, Any]]:
    """Errors of independent units, and Conley errors at the cutoff and at twice the cutoff."""
    if scores is None:
        design = np.column_stack([treatment, np.ones(len(treatment)), controls])
        estimate = float(np.linalg.lstsq(design, outcome, rcond=None)[0][0])
        residual = _residual(outcome, design)
        independent = ols_covariance(design, residual, "HC1")[0, 0] ** 0.5
    else:
        estimate, independent = float(scores.mean()), mean_std_error(scores)
    rows = [("independent", np.nan, independent)]
    for reach in (cutoff_m, 2 * cutoff_m):
        try:
            if scores is None:
                covariance = ols_covariance(
                    design, residual, "conley", coordinates_m=coordinates_m, cutoff_m=reach
                )
                error = covariance[0, 0] ** 0.5
            else:
                error = conley_std_error(scores, coordinates_m, reach)
        except DegenerateError:
            error = np.nan
        rows.append(("Conley", reach / 1000, error))
    return [
        {
            "check": check, "n": len(treatment), "cutoff_km": reach, "statistic": estimate,
            "std_error": error, "p_value": p_value(estimate, error),
        }
        for check, reach, error in rows
    ]  # fmt: skip


def _fit_field(values: Floats, places: Floats, share: float | None) -> _Field:
    """The range and noise share of largest profile likelihood (mean and variance maximised out)."""
    extent = float(np.ptp(places, axis=0).max())
    if not extent > 0:
        raise DataError("All units lie at one place. Give each its own, or leave out this audit.")
    candidates = [_Field(reach * extent, noise) for reach in RANGES for noise in NOISE_SHARES]

    def likelihood(field: _Field) -> float:
        correlation = field.correlation(places)
        if share is not None:
            correlation = _cut_correlation(correlation, share)
        return _profile_likelihood(values, correlation)

    return max(candidates, key=likelihood)


def _profile_likelihood(values: Floats, correlation: Floats) -> float:
    from scipy.linalg import solve_triangular

    n = len(values)
    factor = np.linalg.cholesky(correlation + 1e-8 * np.eye(n))
    both = solve_triangular(factor, np.column_stack([values, np.ones(n)]), lower=True)
    rest = both[:, 0] - both[:, 1] * (both[:, 0] @ both[:, 1]) / (both[:, 1] @ both[:, 1])
    return float(-n / 2 * np.log(rest @ rest / n) - np.log(np.diag(factor)).sum())


def _cut_correlation(correlation: Floats, share: float) -> Floats:
    """Correlation of 0/1 fields: Gaussian ones above their (1 - share) quantile.

    Cov = integral from 0 to rho of exp(-z^2/(1+t)) / (2 pi sqrt(1-t^2)) dt, with t = sin(angle).
    """
    from scipy.integrate import cumulative_simpson
    from scipy.special import ndtri

    angle = np.linspace(0, np.pi / 2, 1001)
    density = np.exp(-(ndtri(share) ** 2) / (1 + np.sin(angle)))
    total = cumulative_simpson(density, x=angle, initial=0)
    return np.asarray(np.interp(np.arcsin(correlation), angle, total / total[-1]))


def _thinned(places: Floats, most: int, random: np.random.Generator) -> Positions:
    """Positions of all units, or of one at random in each cell of the finest grid with few enough."""
    order = random.permutation(len(places))
    if len(places) <= most:
        return np.arange(len(places))
    side = float(np.ptp(places, axis=0).max()) / 1000
    first = order
    while len(first) > most:
        cell = np.floor(places[order] / side)
        first = np.unique(cell, axis=0, return_index=True)[1]
        side *= 1.1
    return np.sort(order[first])


def _residual(values: Floats, design: Floats) -> Floats:
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])


def _correlation(values: Floats, outcome: Floats) -> Floats:
    """Of each column (or of one vector) with the outcome; 0 where either is constant."""
    norm = np.linalg.norm(values, axis=0) * np.linalg.norm(outcome)
    return np.asarray(np.where(norm > 0, values.T @ outcome / np.where(norm > 0, norm, 1), 0.0))


def out_of_fold(
    learner: Learner,
    features: Floats,
    outcome: Floats,
    pairs: Sequence[tuple[Positions, Positions]],
) -> Floats:
    """(n,) predictions of each unit by a learner that did not see it.

    Parameters
    ----------
    learner : callable
        (training features, training outcome, test features) -> predictions.
    features : (n, k) array
    outcome : (n,) array
    pairs : sequence
        (training, test) positions; the tests are a partition (:meth:`Folds.pairs`).
    """
    predicted = np.full(len(outcome), np.nan)
    for training, test in pairs:
        predicted[test] = learner(features[training], outcome[training], features[test])
    return predicted


def block_gap(outcome: Floats, random: Floats, block: Floats, largest: float = 0.1) -> AuditReport:
    """How much of a model's skill is lost when neighbours of the test units do not train.

    A score below that of no skill (R2 0, AUC 0.5) counts as no skill: how far below it falls in
    blocks only says how much their means differ (by 0.12 for features of white noise).

    Parameters
    ----------
    outcome : (n,) array
        What was predicted; 0/1 is scored by AUC, anything else by R2.
    random, block : (n,) array
        Out-of-fold predictions with random folds (image keys) and with spatial blocks.
    largest : float
        A larger loss warns.

    Returns
    -------
    AuditReport
        ``block_gap``; flag ``block_gap``.

    Raises
    ------
    DataError
        A constant outcome or missing predictions.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    if not np.isfinite(np.stack([outcome, random, block])).all() or np.ptp(outcome) == 0:
        raise DataError("The block gap needs an outcome that varies and predictions for all units.")
    binary = bool(np.isin(outcome, (0, 1)).all())
    score, name, none = (roc_auc_score, "AUC", 0.5) if binary else (r2_score, "R2", 0.0)
    shuffled, blocked = float(score(outcome, random)), float(score(outcome, block))
    gap = max(shuffled, none) - max(blocked, none)
    text = (
        f"Out-of-fold {name} is {shuffled:.3f} with random folds and {blocked:.3f} with spatial"
        f" blocks (loss of skill {gap:.3f})."
    )
    wide = not gap <= largest
    if wide:
        text += " What random folds show is memory of neighbours; quote the blocks only."
    table = pd.DataFrame(
        {"check": ["random folds", "spatial blocks", "loss"], "score": name,
         "value": [shuffled, blocked, gap]}
    )  # fmt: skip
    flags = ("block_gap",) if wide else ()
    return AuditReport("block_gap", "warn" if wide else "pass", text, table, flags)


def residual_moran(
    residual: Floats,
    coordinates_m: Floats,
    n_neighbours: int = 8,
    n_permutations: int = 999,
    alpha: float = 0.05,
    *,
    seed: int,
) -> AuditReport:
    """Moran's I of residuals over their nearest neighbours, against permutations.

    Parameters
    ----------
    residual : (n,) array
        What a model left.
    coordinates_m : (n, 2) array
        Metres.
    n_neighbours : int
        Row-standardised weights to so many nearest units.
    n_permutations : int
        Random orders of the residuals; p = (1 + number with I as large) / (n_permutations + 1).
    alpha : float
        Level.
    seed : int
        Seed of the run.

    Returns
    -------
    AuditReport
        ``residual_moran``; flag ``residual_autocorrelation``.

    Raises
    ------
    DataError
        Fewer units than neighbours, missing values, or constant residuals.
    """
    from scipy.spatial import cKDTree

    n = len(residual)
    finite = np.isfinite(np.column_stack([residual, coordinates_m])).all()
    if n <= n_neighbours or not finite or np.ptp(residual) == 0:
        raise DataError(
            f"Moran's I needs more than {n_neighbours} units (got {n}) with residuals that vary and"
            " with places. Leave out units without either."
        )
    near = cKDTree(coordinates_m).query(coordinates_m, k=n_neighbours + 1)[1]
    itself_last = np.argsort(near == np.arange(n)[:, None], axis=1, kind="stable")
    others = np.take_along_axis(near, itself_last, axis=1)[:, :n_neighbours]
    own = _moran(residual, others)
    random = generator(seed, "moran")
    drawn = [_moran(random.permutation(residual), others) for _ in range(n_permutations)]
    p = (1 + sum(value >= own for value in drawn)) / (n_permutations + 1)
    depends = p < alpha
    text = (
        f"Moran's I of the residuals over {n_neighbours} neighbours is {own:.3f} (p {show_p(p)})."
    )
    if depends:
        text += " Errors of neighbours go together: use Conley errors and the surrogate-field test."
    table = pd.DataFrame(
        [{"check": "Moran's I", "n": n, "statistic": own, "expected": -1 / (n - 1), "p_value": p}]
    )
    flags = ("residual_autocorrelation",) if depends else ()
    return AuditReport("residual_moran", "warn" if depends else "pass", text, table, flags)


def _moran(values: Floats, neighbours: Positions) -> float:
    centred = values - values.mean()
    return float((centred[neighbours].mean(axis=1) @ centred) / (centred @ centred))
