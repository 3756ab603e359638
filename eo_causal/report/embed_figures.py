"""Figures of chips and embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.report.figures import BLUE, GREY, INK, RED, clean, new_figure, save_figure

N_SHOWN = 6
N_DATES = 8
COLOURS = (("red", "green", "blue"), ("swir1", "nir", "green"), ("nir", "red", "green"))
MAX_CELLS = 24
MIN_UNITS = 5


def write_figures(study: Any, folder: Path) -> dict[str, Path]:
    """Every figure the study has content for: name -> SVG."""
    chips = study.chip_set.chips
    figures = {
        "chips": chips_figure(chips),
        "coverage": coverage_figure(chips),
        "where": where_figure(chips),
    }
    for name, embedding in study.embeddings.items():
        figures[f"embedding_{name}"] = embedding_figure(
            embedding, study.outcome, study.outcome_name
        )
    return {
        name: save_figure(figure, folder, name)
        for name, figure in figures.items()
        if figure is not None
    }


def shown_bands(names: list[str]) -> tuple[list[int], str]:
    """Positions of the bands shown as red, green and blue, and what to call the picture."""
    for wanted in COLOURS:
        if set(wanted) <= set(names):
            return [names.index(name) for name in wanted], ", ".join(wanted)
    if len(names) >= 3:
        return [0, 1, 2], ", ".join(names[:3])
    return [0, 0, 0], names[0]


def chips_figure(chips: xr.DataArray) -> Any:
    """Some places (rows) through time (columns); empty slots stay white, missing pixels grey."""
    chosen = np.unique(np.linspace(0, chips.sizes["unit"] - 1, N_SHOWN).round().astype(int))
    slots = np.unique(np.linspace(0, chips.sizes["time"] - 1, N_DATES).round().astype(int))
    part = chips.isel(unit=chosen, time=slots).compute()
    bands, _ = shown_bands(list(map(str, part["band"].to_numpy())))
    values = part.to_numpy()[:, :, bands]
    low, high = (np.nanpercentile(values, at, axis=(0, 1, 3, 4)) for at in (2, 98))
    figure = new_figure(1.35 * len(slots) + 0.6, 1.5 * len(chosen))
    axes = np.atleast_2d(figure.subplots(len(chosen), len(slots), squeeze=False))
    for row in range(len(chosen)):
        for column in range(len(slots)):
            axis = axes[row, column]
            axis.set_axis_off()
            time = part["datetime"].to_numpy()[row, column]
            if not np.isnat(time):
                axis.imshow(chip_picture(values[row, column], low, high), interpolation="nearest")
                axis.set_title(str(time)[:10], fontsize=7, color=GREY, pad=2)
    return figure


def chip_picture(
    image: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(y, x, 3) between 0 and 1; missing pixels light grey."""
    spread = np.maximum(high - low, 1e-9)[:, None, None]
    scaled = np.clip((image - low[:, None, None]) / spread, 0, 1)
    missing = np.isnan(image).any(axis=0)
    scaled[:, missing] = 0.85
    return np.moveaxis(scaled, 0, -1)


def coverage_figure(chips: xr.DataArray) -> Any:
    """How clear the used images are, and how many places are seen in each quarter of a year."""
    valid = chips["valid_fraction"].to_numpy()
    years = chips["fractional_year"].to_numpy()
    used = np.isfinite(years)
    figure = new_figure(9.0, 3.2)
    left, right = figure.subplots(1, 2)
    left.hist(valid[used], bins=np.linspace(0, 1, 21), color=BLUE, alpha=0.8)
    left.set_xlabel("valid share of a chip")
    left.set_ylabel("chips")
    quarters = np.floor(years[used] * 4) / 4
    at, number = np.unique(quarters, return_counts=True)
    right.bar(at, number / len(years), width=0.22, align="edge", color=BLUE, alpha=0.8)
    right.set_xlabel("year (quarters)")
    right.set_ylabel("images a place")
    right.xaxis.get_major_locator().set_params(integer=True)
    return clean(figure)


def where_figure(chips: xr.DataArray) -> Any:
    """Where chips are and how clear, in cells; cells of fewer than five places are not drawn."""
    if "centre_easting" not in chips.coords or len(np.unique(chips["unit_crs"])) > 1:
        return None
    easting, northing = (chips[f"centre_{name}"].to_numpy() for name in ("easting", "northing"))
    valid = np.where(
        np.isfinite(chips["fractional_year"].to_numpy()), chips["valid_fraction"].to_numpy(), np.nan
    )
    clear = pd.DataFrame(valid).mean(axis=1)
    n_cells = int(np.clip(np.sqrt(len(clear) / (2 * MIN_UNITS)), 1, MAX_CELLS))
    edges = [
        np.linspace(values.min(), np.nextafter(values.max(), np.inf), n_cells + 1)
        for values in (easting, northing)
    ]
    column = np.clip(np.digitize(easting, edges[0]) - 1, 0, n_cells - 1)
    row = np.clip(np.digitize(northing, edges[1]) - 1, 0, n_cells - 1)
    cell = pd.Series(row * n_cells + column)
    number = np.bincount(cell, minlength=n_cells**2)
    mean = clear.groupby(cell).mean().reindex(range(n_cells**2)).to_numpy()
    if not (number >= MIN_UNITS).any():
        return None
    mean = np.where(number >= MIN_UNITS, mean, np.nan).reshape(n_cells, n_cells)
    figure = new_figure(6.4, 4.4)
    axis = figure.subplots()
    projected = np.abs(easting).max() > 360
    scale, names = (
        (1000, ("easting (km)", "northing (km)")) if projected else (1, ("longitude", "latitude"))
    )
    drawn = axis.pcolormesh(
        edges[0] / scale, edges[1] / scale, mean, cmap="viridis", vmin=0, vmax=1
    )
    figure.colorbar(drawn, label="mean valid share", shrink=0.8)
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.set_aspect("equal")
    axis.ticklabel_format(useOffset=False, style="plain")
    return clean(figure)


def embedding_figure(
    embedding: xr.DataArray, outcome: NDArray[np.float64] | None, outcome_name: str
) -> Any:
    """The two main directions of an embedding, and how much of its variance the first ones hold."""
    places, share = principal(embedding)
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    if outcome is None:
        left.scatter(*places.T, s=12, color=INK, alpha=0.6, lw=0)
    else:
        drawn = left.scatter(*places.T, s=14, c=outcome, cmap="viridis", lw=0)
        figure.colorbar(drawn, ax=left, label=outcome_name)
    left.set_xlabel(f"first component ({share[0]:.0%})")
    left.set_ylabel(f"second component ({share[1]:.0%})")
    right.plot(np.arange(1, len(share) + 1), np.cumsum(share), "o-", color=RED, ms=3)
    right.set_ylim(0, 1.02)
    right.set_xlabel("components")
    right.set_ylabel("share of the variance")
    return clean(figure)


def principal(embedding: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First two components (unit, 2) of features, and the shares of variance of the first ten.

    Features are standardised, constant ones left out; components of an encoder are such a
    decomposition already and keep their own scale. The largest loading of each is positive.
    """
    features = embedding.to_numpy().astype(float)
    spread = features.std(axis=0)
    names = [str(name) for name in embedding["feature"].to_numpy()]
    scale = 1.0 if all("component" in name for name in names) else np.where(spread > 0, spread, 1)
    scaled = ((features - features.mean(axis=0)) / scale)[:, spread > 0]
    places, share = np.zeros((len(features), 2)), np.zeros(max(2, min(10, *scaled.shape)))
    if scaled.size and scaled.any():
        left, size, loading = np.linalg.svd(scaled, full_matrices=False)
        largest = loading[np.arange(len(loading)), np.abs(loading).argmax(axis=1)]
        found = (left * size * np.sign(largest))[:, :2]
        places[:, : found.shape[1]] = found
        shares = (size**2 / (size**2).sum())[:10]
        share[: len(shares)] = shares
    return places, share
