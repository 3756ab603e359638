"""How the land changed: areas, and intensity analysis of transitions.

Intensity analysis compares each observed rate with the rate a uniform process would have (Aldwaik
and Pontius 2012); quantity, exchange and shift split the change (Pontius and Santacruz 2014).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import CoverageError, DataError

Floats = NDArray[np.float64]
NOMINAL_KM2 = 1e-4
BLOCK_M = 1000.0


class IntensitySettings(Settings):
    """Which pixels and classes are compared."""

    pixel_area: Literal["ellipsoid", "nominal"] = Field(
        default="ellipsoid", description="nominal = 100 m2 a pixel, as published"
    )
    rate: Literal["default", "paper"] = Field(
        default="default", description="paper divides the uniform rate by the time span twice"
    )
    water: tuple[str, ...] = Field(
        default=("Water", "Snow/Ice"), description="classes left out of the transitions"
    )
    built: str = Field(default="Built_Area", description="class of the headline sentence")
    n_bootstrap: int = Field(default=200, ge=0, description="block-bootstrap samples")


@dataclass(frozen=True)
class IntensityResult:
    """Land-cover change.

    Attributes
    ----------
    area : DataFrame
        year, class, code, n_pixels, area_km2 over all valid pixels.
    interval : DataFrame
        Per interval: pixels compared, changed, rate S (% per year), uniform rate, active or
        dormant, Wilson interval (pixels taken as independent).
    category : DataFrame
        Per interval and class: gain and loss rates against S.
    transition : DataFrame
        Per interval and pair of classes: pixels, rate into the gaining class against the uniform
        rate.
    components : DataFrame
        Per interval: quantity, exchange and shift, pixels.
    pooled : dict
        Uniform rates, built area of the first and last year, undeclared pixels, bootstrap interval.
    text : str
        What changed, in two sentences.
    """

    area: pd.DataFrame
    interval: pd.DataFrame
    category: pd.DataFrame
    transition: pd.DataFrame
    components: pd.DataFrame
    pooled: dict[str, Any]
    text: str


def intensity_analysis(
    land_cover: xr.DataArray, settings: IntensitySettings, *, seed: int
) -> IntensityResult:
    """Areas and intensity analysis of annual class maps.

    Parameters
    ----------
    land_cover : DataArray (time, y, x)
        Codes, negative = invalid; attrs ``flag_values``, ``flag_meanings``, ``undeclared``;
        coordinate ``cell_area (y)``, m2.
    settings : IntensitySettings
        Pixel area, rate and classes left out.
    seed : int
        Seed of the run, for the block bootstrap.

    Raises
    ------
    DataError
        Fewer than two maps.
    CoverageError
        An interval without a pixel valid in both years.
    """
    if land_cover.sizes["time"] < 2:
        raise DataError(f"{land_cover.sizes['time']} land-cover map(s); a change needs two.")
    names = dict(
        zip(land_cover.attrs["flag_values"], land_cover.attrs["flag_meanings"], strict=True)
    )
    codes = np.array([code for code, name in names.items() if name not in settings.water])
    labels = [names[int(code)] for code in codes]
    years = land_cover.indexes["time"].year.to_numpy()
    maps = land_cover.to_numpy()
    positions = _positions(maps, codes)
    matrices = [
        transition_matrix(positions[t], positions[t + 1], len(codes)) for t in range(len(maps) - 1)
    ]
    spans = np.diff(years).astype(float)
    for t, matrix in enumerate(matrices):
        if not matrix.sum() > 0:
            raise CoverageError(f"no land pixel is valid in both {years[t]} and {years[t + 1]}.")
    uniform = uniform_rate(matrices, spans)
    shown = uniform / float(years[-1] - years[0]) if settings.rate == "paper" else uniform
    area = area_table(land_cover, names, years, settings)
    low, high = _block_interval(land_cover, positions, spans, settings, seed)
    built = area[area["class"] == settings.built].set_index("year")["area_km2"]
    pooled: dict[str, Any] = {
        "uniform_rate": uniform,
        "uniform_rate_paper": uniform / float(years[-1] - years[0]),
        "uniform_rate_interval": [low, high] if np.isfinite(low) else None,
        "rate_units": "% per year",
        "built_area_km2": {str(year): float(value) for year, value in built.items()},
        "undeclared_pixels": dict(land_cover.attrs.get("undeclared", {})),
        "pixel_area": settings.pixel_area,
        "n_pairs": int(sum(matrix.sum() for matrix in matrices)),
    }
    return IntensityResult(
        area=area,
        interval=_interval_table(matrices, years, spans, shown),
        category=_category_table(matrices, years, spans, labels),
        transition=_transition_table(matrices, years, spans, labels),
        components=_component_table(matrices, years, labels),
        pooled=pooled,
        text=_sentence(built, uniform, (low, high), settings),
    )


def transition_matrix(
    before: NDArray[np.int_], after: NDArray[np.int_], n_classes: int
) -> NDArray[np.int64]:
    """C_ij, pixels that went from class i to class j, over pixels valid (>= 0) in both maps."""
    both = (before >= 0) & (after >= 0)
    pairs = before[both].astype(np.int64) * n_classes + after[both]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def uniform_rate(matrices: list[NDArray[np.int64]], spans: Floats) -> float:
    """U = 100 sum(changed) / sum(total x duration), % per year (Aldwaik and Pontius 2012)."""
    changed = sum(int(matrix.sum() - np.trace(matrix)) for matrix in matrices)
    exposed = sum(float(matrix.sum()) * span for matrix, span in zip(matrices, spans, strict=True))
    return 100 * changed / exposed


def change_components(matrix: NDArray[np.int64]) -> dict[str, float]:
    """Quantity, exchange and shift, pixels; they add up to all change."""
    gain = matrix.sum(axis=0) - np.diag(matrix)
    loss = matrix.sum(axis=1) - np.diag(matrix)
    exchange = 2 * (np.minimum(matrix, matrix.T).sum(axis=1) - np.diag(matrix))
    quantity = np.abs(gain - loss)
    shift = 2 * np.minimum(gain, loss) - exchange
    return {
        "quantity": float(quantity.sum()) / 2,
        "exchange": float(exchange.sum()) / 2,
        "shift": float(shift.sum()) / 2,
    }


def area_table(
    land_cover: xr.DataArray,
    names: dict[int, str],
    years: NDArray[np.int_],
    settings: IntensitySettings,
) -> pd.DataFrame:
    """Area of every class and year over all valid pixels."""
    rows = []
    cells = land_cover["cell_area"].to_numpy() / 1e6
    for t, year in enumerate(years):
        one = land_cover.isel(time=t).to_numpy()
        for code, name in names.items():
            per_row = (one == code).sum(axis=1)
            n = int(per_row.sum())
            km2 = n * NOMINAL_KM2 if settings.pixel_area == "nominal" else float(per_row @ cells)
            rows.append(
                {
                    "year": int(year),
                    "class": name,
                    "code": int(code),
                    "n_pixels": n,
                    "area_km2": km2,
                }
            )
    return pd.DataFrame(rows)


def _positions(maps: NDArray[np.int_], codes: NDArray[np.int_]) -> NDArray[np.int16]:
    """Codes replaced by their position in ``codes``; -1 elsewhere."""
    table = np.full(int(max(codes.max(), maps.max())) + 2, -1, dtype=np.int16)
    table[codes] = np.arange(len(codes))
    return table[np.where(maps < 0, len(table) - 1, maps)]


def _interval_table(
    matrices: list[NDArray[np.int64]], years: NDArray[np.int_], spans: Floats, uniform: float
) -> pd.DataFrame:
    rows = []
    for t, (matrix, span) in enumerate(zip(matrices, spans, strict=True)):
        n, changed = int(matrix.sum()), int(matrix.sum() - np.trace(matrix))
        rate = 100 * changed / (n * span)
        low, high = wilson(changed, n)
        rows.append(
            {
                "from": int(years[t]),
                "to": int(years[t + 1]),
                "n_pixels": n,
                "n_changed": changed,
                "rate_percent_per_year": rate,
                "uniform_rate": uniform,
                "speed": "fast" if rate > uniform else "slow",
                "wilson_lower": 100 * low / span,
                "wilson_upper": 100 * high / span,
            }
        )
    return pd.DataFrame(rows)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share; pixels are taken as independent, which they are not."""
    z = 1.959963984540054
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(centre - half), float(centre + half)


def _category_table(
    matrices: list[NDArray[np.int64]], years: NDArray[np.int_], spans: Floats, labels: list[str]
) -> pd.DataFrame:
    rows = []
    for t, (matrix, span) in enumerate(zip(matrices, spans, strict=True)):
        rate = 100 * float(matrix.sum() - np.trace(matrix)) / (float(matrix.sum()) * span)
        for j, label in enumerate(labels):
            start, end, stay = int(matrix[j].sum()), int(matrix[:, j].sum()), int(matrix[j, j])
            gain = 100 * (end - stay) / (end * span) if end else 0.0
            loss = 100 * (start - stay) / (start * span) if start else 0.0
            rows.append(
                {
                    "from": int(years[t]),
                    "to": int(years[t + 1]),
                    "class": label,
                    "gain_percent_per_year": gain,
                    "loss_percent_per_year": loss,
                    "overall_rate": rate,
                    "gain_active": gain > rate,
                    "loss_active": loss > rate,
                }
            )
    return pd.DataFrame(rows)


def _transition_table(
    matrices: list[NDArray[np.int64]], years: NDArray[np.int_], spans: Floats, labels: list[str]
) -> pd.DataFrame:
    """R_ij = C_ij / C_i+ against W_j = gain_j / (all pixels not in j before), % per year."""
    rows = []
    for t, (matrix, span) in enumerate(zip(matrices, spans, strict=True)):
        start = matrix.sum(axis=1)
        for j, gaining in enumerate(labels):
            gain = int(matrix[:, j].sum() - matrix[j, j])
            others = int(start.sum() - start[j])
            uniform = 100 * gain / (others * span) if others else 0.0
            for i, losing in enumerate(labels):
                if i == j or not start[i]:
                    continue
                rate = 100 * int(matrix[i, j]) / (int(start[i]) * span)
                rows.append(
                    {
                        "from": int(years[t]),
                        "to": int(years[t + 1]),
                        "losing": losing,
                        "gaining": gaining,
                        "n_pixels": int(matrix[i, j]),
                        "rate_percent_per_year": rate,
                        "uniform_rate": uniform,
                        "targeted": rate > uniform,
                    }
                )
    return pd.DataFrame(rows)


def _component_table(
    matrices: list[NDArray[np.int64]], years: NDArray[np.int_], labels: list[str]
) -> pd.DataFrame:
    rows = [
        {"from": int(years[t]), "to": int(years[t + 1])} | change_components(matrix)
        for t, matrix in enumerate(matrices)
    ]
    return pd.DataFrame(rows)


def _block_interval(
    land_cover: xr.DataArray,
    positions: NDArray[np.int16],
    spans: Floats,
    settings: IntensitySettings,
    seed: int,
) -> tuple[float, float]:
    """95 % interval of U from resampling square blocks of about 1 km; NaN for too few blocks."""
    cell = float(np.sqrt(land_cover["cell_area"].mean()))
    size = max(1, round(BLOCK_M / cell))
    n_y, n_x = positions.shape[1] // size, positions.shape[2] // size
    if n_y * n_x < 4 or settings.n_bootstrap == 0:
        return float("nan"), float("nan")
    trimmed = positions[:, : n_y * size, : n_x * size]
    changed, exposed = np.zeros(n_y * n_x), np.zeros(n_y * n_x)
    for t, span in enumerate(spans):
        both = (trimmed[t] >= 0) & (trimmed[t + 1] >= 0)
        moved = both & (trimmed[t] != trimmed[t + 1])
        for total, mask, factor in ((changed, moved, 1.0), (exposed, both, float(span))):
            blocks = mask.reshape(n_y, size, n_x, size).sum(axis=(1, 3))
            total += blocks.ravel() * factor
    chosen = generator(seed, "land_cover").integers(
        0, len(changed), (settings.n_bootstrap, len(changed))
    )
    rates = 100 * changed[chosen].sum(axis=1) / exposed[chosen].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def _sentence(
    built: pd.Series, uniform: float, interval: tuple[float, float], settings: IntensitySettings
) -> str:
    text = f"On land {uniform:.2f}% of pixels change class per year"
    if np.isfinite(interval[0]):
        text += f" (95% {interval[0]:.2f} to {interval[1]:.2f} by 1 km blocks)"
    text += "; map error inflates such rates, exchange most of all."
    if len(built) > 1:
        text = (
            f"{settings.built.replace('_', ' ')} grew from {built.iloc[0]:.2f} km² in"
            f" {built.index[0]} to {built.iloc[-1]:.2f} km² in {built.index[-1]}"
            f" ({settings.pixel_area} pixel area, all valid pixels). {text}"
        )
    return text
