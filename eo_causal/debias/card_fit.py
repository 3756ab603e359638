"""How a calibration card is made: a fit of each model, resampled by cluster, and the choice of a correction."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from eo_causal.core.artefacts import sha256_json
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.debias.base import SIGMA_SOURCE_TRAIN, check_training, warn_of
from eo_causal.debias.card import N_REPLICATE_NODES, CalibrationCard, CardSettings
from eo_causal.debias.choose import choose_among
from eo_causal.debias.pairs import Floats, Pairs, check_lines, check_pairs, lines
from eo_causal.debias.tweedie import TweedieCorrection
from eo_causal.errors import DataError, EOCausalWarning


def fit_card(
    truth: ArrayLike,
    prediction: ArrayLike,
    fold: ArrayLike,
    *,
    unit_ids: ArrayLike,
    cluster: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    settings: CardSettings,
    units: str,
    seed: int,
    training_ids: Mapping[int, ArrayLike] | None = None,
) -> CalibrationCard:
    """Calibrate a map, once; warns of every flag.

    Parameters
    ----------
    truth, prediction : (n,) array
        Measured values, and predictions of a model that did not learn from them.
    fold : (n,) array of int
        Which model made the prediction. A map of a single model has one number.
    unit_ids : (n,) array
        Names of the places.
    cluster : (n,) array, optional
        Labels; whole clusters are resampled.
    weight : (n,) array, optional
        Sampling weights.
    settings : CardSettings
    units : str
        Unit of truth and prediction.
    seed : int
        Seed of the run.
    training_ids : mapping, optional
        Fold -> names of the places that its model learned from.

    Raises
    ------
    DataError, DegenerateError
        As :func:`eo_causal.debias.pairs.check_pairs`, for every fold; a slope that is not above 0 in a
        resample or a half of a fold's pairs.
    LeakageError
        A model learned from its own calibration pairs.
    """
    pairs = check_pairs(truth, prediction, weight, cluster, settings.min_calibration)
    folds, names = np.asarray(fold), np.asarray(unit_ids)
    if folds.shape != pairs.truth.shape or names.shape != pairs.truth.shape:
        raise DataError(
            f"{len(pairs.truth)} pairs, folds of shape {folds.shape}, unit_ids of shape {names.shape}."
            " Give one value a row."
        )
    labels = [int(label) for label in np.unique(folds)]
    for label in labels:
        if training_ids is not None:
            check_training(names[folds == label], training_ids[label])
    parts = [_checked_part(pairs, folds == label, settings.min_calibration) for label in labels]
    fits = [settings.tweedie().fit_pairs(part) for part in parts]
    choice = choose_among(parts, settings.tweedie(), seed=seed)
    held_out = choice.residual.assign(
        fold=np.repeat(labels, [len(part.truth) for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
    )
    rows = [
        _fold_row(label, fit, held_out[held_out["fold"] == label])
        for label, fit in zip(labels, fits, strict=True)
    ]
    flags = [flag for fit in fits for flag in fit.flags_]
    source = "calibration" if settings.sigma is None else settings.sigma_source
    if source == "train":
        flags.append(SIGMA_SOURCE_TRAIN)
        text = (
            f"sigma {settings.sigma:g} comes from training residuals, which are smaller than those of new"
            " places; corrections are too weak. Leave sigma out, so that calibration pairs decide."
        )
        warnings.warn(EOCausalWarning(text, SIGMA_SOURCE_TRAIN), stacklevel=2)
    for fit in fits:
        warn_of(fit.facts_)
    count(calibration_pairs=len(pairs.truth), calibration_folds=len(labels))
    ids = [str(name) for name in names]
    training = None
    if training_ids is not None:
        training = sha256_json(
            {str(k): sorted(map(str, np.asarray(v))) for k, v in training_ids.items()}
        )
    method: Any = choice.method if settings.corrector == "auto" else settings.corrector
    return CalibrationCard(
        method, units, seed, source, settings, pd.DataFrame(rows),
        _curves(labels, parts, fits, settings, seed), choice.curves, choice.gain, choice.std_error,
        sha256_json(sorted(ids)), training,
        sha256_json(sorted(zip(ids, folds.tolist(), strict=True))), None, tuple(dict.fromkeys(flags)),
    )  # fmt: skip


def _checked_part(pairs: Pairs, rows: NDArray[np.bool_], min_calibration: int) -> Pairs:
    part = pairs.rows(np.flatnonzero(rows))
    return check_pairs(part.truth, part.prediction, part.weight, part.cluster, min_calibration)


def _fold_row(label: int, fit: TweedieCorrection, held_out: pd.DataFrame) -> dict[str, Any]:
    facts: dict[str, Any] = asdict(fit.facts_)
    del facts["flags"]
    lower, upper = facts.pop("support")
    covariance = facts.pop("slope_covariance")
    weight = held_out["weight"].to_numpy()
    return {
        "fold": label,
        **facts,
        "intercept_variance": covariance[0][0],
        "slope_variance": covariance[1][1],
        "intercept_slope_covariance": covariance[0][1],
        "support_lower": lower,
        "support_upper": upper,
        "recalibration_intercept": fit.recalibration_[0],
        "recalibration_slope": fit.recalibration_[1],
        "tweedie_noise_variance": fit.noise_variance_,
        "bandwidth": fit.bandwidth_,
        **{
            f"held_out_rms_{name}": float(
                np.sqrt(weight @ held_out[name].to_numpy() ** 2 / weight.sum())
            )
            for name in ("lcc", "tweedie")
        },
    }


def _curves(
    labels: list[int], parts: list[Pairs], fits: list[TweedieCorrection], settings: CardSettings,
    seed: int,
) -> xr.Dataset:  # fmt: skip
    """Curves of all folds, and those of resampled pairs."""
    drawn = [
        _replicates(part, fit, settings.n_replicates, generator(seed, "card_replicates", label))
        for label, part, fit in zip(labels, parts, fits, strict=True)
    ]
    curves = [fit.curve_ for fit in fits]
    return xr.Dataset(
        {
            "start": ("fold", [curve.grid.start for curve in curves]),
            "step": ("fold", [curve.grid.step for curve in curves]),
            "tweedie": (("fold", "node"), np.stack([curve.values for curve in curves])),
            "tail": (("fold", "line"), np.array([curve.tail for curve in curves])),
            "replicate_tweedie": (("fold", "replicate", "basis"), np.stack([d[0] for d in drawn])),
            "replicate_lcc": (("fold", "replicate", "line"), np.stack([d[1] for d in drawn])),
        },
        {"fold": labels, "line": ["intercept", "slope"]},
    )


def _replicates(
    pairs: Pairs, fit: TweedieCorrection, n: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], Floats]:
    """Both corrections of resampled clusters: slopes, noise, bandwidth and density anew.

    Whether to recalibrate, the grid and the support stay those of the fit.
    """
    support, applied = fit.curve_.support, fit.recalibration_ != (0.0, 1.0)
    places = np.linspace(*support, N_REPLICATE_NODES)
    tables = np.empty((n, N_REPLICATE_NODES + 2), dtype=np.float32)
    linear = np.empty((n, 2))
    members = _members(pairs)
    for number in range(n):
        drawn = random.integers(len(members), size=len(members))
        again = pairs.rows(np.concatenate([members[k] for k in drawn]))
        line = lines(again)
        check_lines(line)
        linear[number] = -line.intercept / line.slope, 1 / line.slope
        curve = fit.curve_of(again, applied, fit.curve_.grid, support)
        within = np.interp(places, curve.grid.nodes, curve.values)
        tables[number] = np.concatenate([within, curve.tail])
    return tables, linear


def _members(pairs: Pairs) -> list[NDArray[np.intp]]:
    """Rows of each cluster; each row alone where there are none."""
    codes = np.arange(len(pairs.truth)) if pairs.cluster is None else pairs.cluster
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
