"""One Kd490 record from several harmonised sensors, and how far it could be off as a whole."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.core.random import generator
from eo_causal.ingest.harmonise import (
    Floats,
    Harmonisation,
    check_sensors,
    compose,
    covariances,
    logarithm,
    observed,
)


def harmonise(sensors: Mapping[str, xr.DataArray], harmonisation: Harmonisation) -> xr.Dataset:
    """Bring all sensors to the reference's scale and merge them.

    Where several sensors saw a cell-month the result is their mean in ln Kd490, weighted by the
    inverse of each sensor's noise variance, or the first one of ``priority``. It is a geometric
    value; no smearing factor is applied.

    Parameters
    ----------
    sensors : mapping of str to DataArray (time, ...)
        m-1, the ones the lines were fitted on or longer records of the same sensors.
    harmonisation : Harmonisation
        From :func:`eo_causal.ingest.harmonise.fit_harmonisation`.

    Returns
    -------
    Dataset (time, ...)
        ``kd490`` (m-1); ``shared_sd`` (m-1), Kd490 times the standard error of the correction of
        that cell-month, an error that all cells and months share; ``n_sensors``. Lazy where the
        sensors are.
    """
    seen = _stack(sensors, harmonisation)
    corrected = _correct(seen, harmonisation.table, harmonisation.settings.reference)
    weights = _weights(corrected, harmonisation)
    kd490 = _merge(corrected, weights)
    variance = _shared_variance(corrected, weights, harmonisation)
    shared_sd = kd490 * variance**0.5
    result = xr.Dataset(
        {
            "kd490": kd490.assign_attrs(units="m-1", long_name="harmonised diffuse attenuation"),
            "shared_sd": shared_sd.assign_attrs(
                units="m-1", long_name="standard error of the correction, shared by all cells"
            ),
            "n_sensors": observed(corrected).sum("sensor").astype(np.int8),
        }
    )
    return result.assign_attrs(reference=harmonisation.settings.reference)


def harmonisation_draws(
    sensors: Mapping[str, xr.DataArray],
    harmonisation: Harmonisation,
    *,
    seed: int,
    n_draws: int = 50,
) -> Iterator[xr.DataArray]:
    """The merged record under ``n_draws`` plausible corrections, one after the other.

    Run the downstream estimate on each draw, then :func:`combine_draws`.

    Yields
    ------
    DataArray (time, ...)
        Kd490 in m-1.
    """
    seen = _stack(sensors, harmonisation)
    reference = harmonisation.settings.reference
    fitted = _correct(seen, harmonisation.table, reference)
    weights = _weights(fitted, harmonisation)
    for table in coefficient_draws(harmonisation, seed=seed, n_draws=n_draws):
        yield _merge(_correct(seen, table, reference), weights).assign_attrs(units="m-1")


def coefficient_draws(
    harmonisation: Harmonisation, *, seed: int, n_draws: int
) -> Iterator[pd.DataFrame]:
    """The table of lines with ``intercept`` and ``slope`` of every edge redrawn.

    Draws are normal with the jackknife covariance, independent between edges.
    """
    random = generator(seed, "harmonisation")
    table = harmonisation.table
    means = table[["intercept", "slope"]].to_numpy(dtype=float)
    edges = list(zip(means, covariances(table), strict=True))
    for _ in range(n_draws):
        drawn = [random.multivariate_normal(mean, spread, method="eigh") for mean, spread in edges]
        yield table.assign(intercept=[a for a, _ in drawn], slope=[b for _, b in drawn])


def combine_draws(estimates: Floats, variances: Floats) -> tuple[float, float]:
    """Mean estimate and total variance over K draws.

    Total = mean variance within draws + (1 + 1/K) times the variance between them (Rubin 1987).

    Parameters
    ----------
    estimates, variances : (draw,) arrays
        The downstream estimate and its variance on each draw.
    """
    between = float(np.var(estimates, ddof=1))
    within = float(np.mean(variances))
    return float(np.mean(estimates)), within + (1 + 1 / len(estimates)) * between


def correction(harmonisation: Harmonisation, sensor: str, z: Floats) -> tuple[Floats, Floats]:
    """ln Kd490 of one sensor on the reference's scale, and its standard error.

    Parameters
    ----------
    sensor : str
        Whose values they are.
    z : (n,) array
        ln Kd490 as the sensor saw it.

    Returns
    -------
    (array, array)
        Both in ln Kd490; the error is that of the whole path along the tree.
    """
    seen = xr.DataArray(np.asarray(z)[None], dims=("sensor", "value"), coords={"sensor": [sensor]})
    corrected = _correct(seen, harmonisation.table, harmonisation.settings.reference)
    variance = _shared_variance(corrected, xr.ones_like(corrected), harmonisation)
    return corrected[0].to_numpy(), (variance**0.5).to_numpy()


def _stack(sensors: Mapping[str, xr.DataArray], harmonisation: Harmonisation) -> xr.DataArray:
    """ln Kd490 (sensor, time, ...) over the months of all sensors."""
    check_sensors(sensors, harmonisation.settings)
    logs = [logarithm(cube).drop_attrs() for cube in sensors.values()]
    return xr.concat(logs, dim=pd.Index(list(sensors), name="sensor"), join="outer")


def _correct(seen: xr.DataArray, table: pd.DataFrame, reference: str) -> xr.DataArray:
    lines = compose(table, reference)
    pairs = [lines[name] for name in seen["sensor"].to_numpy()]
    intercept = xr.DataArray([a for a, _ in pairs], dims="sensor")
    slope = xr.DataArray([b for _, b in pairs], dims="sensor")
    return (intercept + slope * seen).transpose(*seen.dims)


def _weights(corrected: xr.DataArray, harmonisation: Harmonisation) -> xr.DataArray:
    """Share of each sensor in each cell-month; NaN where none saw it."""
    settings = harmonisation.settings
    valid = observed(corrected)
    names = [str(name) for name in corrected["sensor"].to_numpy()]
    if settings.combine == "priority":
        order = [*settings.priority, settings.reference, *harmonisation.table["sensor"]]
        ranked = valid.sel(sensor=list(dict.fromkeys(order)))
        first = (ranked & (ranked.cumsum("sensor") == 1)).sel(sensor=names)
        return first.where(valid.any("sensor")).astype(np.float64)
    noise = _noise_variances(harmonisation)
    floor = max(noise.values()) * 1e-12 or 1.0
    precision = [1 / max(noise[name], floor) for name in names]
    raw = valid * xr.DataArray(precision, dims="sensor")
    total = raw.sum("sensor")
    return (raw / total.where(total > 0)).transpose(*corrected.dims)


def _noise_variances(harmonisation: Harmonisation) -> dict[str, float]:
    """Noise variance of each sensor on the reference's scale.

    The residual variance of an edge, s^2 = var_y + b^2 var_x, is split by the noise ratio.
    """
    table, settings = harmonisation.table, harmonisation.settings
    lines = compose(table, settings.reference)
    square = table["residual_sd"] ** 2 / (settings.noise_ratio + table["slope"] ** 2)
    noise = {
        str(sensor): lines[sensor][1] ** 2 * float(value)
        for sensor, value in zip(table["sensor"], square, strict=True)
    }
    direct = table["reference"] == settings.reference
    noise[settings.reference] = settings.noise_ratio * float(square[direct].mean())
    return noise


def _merge(corrected: xr.DataArray, weights: xr.DataArray) -> xr.DataArray:
    mean = (weights * corrected).sum("sensor", min_count=1)
    kd490 = xr.apply_ufunc(np.exp, mean, dask="allowed")
    return kd490.rename("kd490")


def _shared_variance(
    corrected: xr.DataArray, weights: xr.DataArray, harmonisation: Harmonisation
) -> xr.DataArray:
    """Variance of merged z from the lines alone: the sum over edges of g' V g.

    An edge moves all sensors beyond it: dz/da = B and dz/db = B z_edge, with B the composed slope
    of the edge's reference and z_edge the value on the scale of the edge's own sensor.
    """
    table = harmonisation.table
    lines = compose(table, harmonisation.settings.reference)
    beyond = _beyond(table)
    parents = dict(zip(table["sensor"], table["reference"], strict=True))
    variance = xr.zeros_like(corrected.isel(sensor=0, drop=True)).fillna(0.0)
    for (sensor, parent), spread in zip(parents.items(), covariances(table), strict=True):
        reached = [name for name in corrected["sensor"].to_numpy() if name in beyond[sensor]]
        if not reached:
            continue
        share = weights.sel(sensor=reached) * lines[parent][1]
        on_edge = (corrected.sel(sensor=reached) - lines[sensor][0]) / lines[sensor][1]
        on_a, on_b = share.sum("sensor"), (share * on_edge).sum("sensor")
        crossed = 2 * spread[0, 1] * on_a * on_b
        variance = variance + spread[0, 0] * on_a**2 + crossed + spread[1, 1] * on_b**2
    return variance.clip(min=0.0)


def _beyond(table: pd.DataFrame) -> dict[str, set[str]]:
    """Each sensor with all that are joined through it."""
    beyond = {str(sensor): {str(sensor)} for sensor in table["sensor"]}
    for sensor, parent in zip(table["sensor"][::-1], table["reference"][::-1], strict=True):
        if parent in beyond:
            beyond[parent] |= beyond[sensor]
    return beyond
