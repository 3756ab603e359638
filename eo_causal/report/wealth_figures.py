"""Figures of a wealth map and its trials."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.report.figures import (
    BLUE,
    GREY,
    INK,
    RED,
    clean,
    colour_map,
    new_figure,
    save_figure,
)
from eo_causal.report.wealth_maps import map_overview

METHODS = {
    "naive": (INK, "naive"), "recalibrated": ("#8a6d1d", "recalibrated"), "lcc": (BLUE, "linear"),
    "tweedie": ("#3b7d4f", "Tweedie"), "ppi": ("#6b4c8a", "PPI"), "bounds": (GREY, "bounds"),
}  # fmt: skip
MOST_PIXELS = 1000


def write_figures(study: Any, map_path: Path, folder: Path) -> dict[str, Path]:
    """Every figure the study has content for: name -> SVG."""
    figures = {
        "quality": quality_figure(study.fit.predictions, study.card.choice),
        "map": map_figure(map_path, study.outcome_name),
    }
    if len(study.effects):
        figures["effects"] = effects_figure(study.effects, (study.truth or {}).get("trials", {}))
    return {name: save_figure(figure, folder, name) for name, figure in figures.items()}


def effects_figure(effects: pd.DataFrame, truth: dict[str, float]) -> Any:
    """One row a trial and method; the recommended one is filled."""
    figure = new_figure(8.0, 1.0 + 0.28 * len(effects))
    axis = figure.subplots()
    position, ticks, seen = 0.0, {}, set()
    for name, rows in effects.groupby("trial", sort=False):
        ticks[str(name).replace("_", " ")] = position + (len(rows) - 1) / 2
        if name in truth:
            ends = (position - 0.4, position + len(rows) - 0.6)
            label = None if "truth" in seen else "measured truth"
            axis.vlines(truth[name], *ends, color=RED, ls="--", lw=1.2, label=label)
            seen.add("truth")
        for row in rows.itertuples():
            colour, said = METHODS[row.method]
            axis.hlines(position, row.lower, row.upper, color=colour, lw=2.2, alpha=0.5)
            face = colour if row.recommended else "white"
            axis.plot(row.estimate, position, "o", color=colour, mfc=face, ms=5.5,
                      label=None if said in seen else said)  # fmt: skip
            seen.add(said)
            position += 1
        position += 0.8
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_yticks(list(ticks.values()), list(ticks))
    axis.invert_yaxis()
    axis.set_xlabel("effect")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return clean(figure)


def quality_figure(predictions: pd.DataFrame, choice: pd.DataFrame) -> Any:
    """Predictions against truth, and what each correction leaves by decile of the truth."""
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    truth, found = predictions["outcome"], predictions["outcome_pred"]
    left.scatter(truth, found, s=6, color=BLUE, alpha=0.35, lw=0)
    ends = np.array([truth.min(), truth.max()])
    slope, level = np.polyfit(truth, found, 1)
    left.plot(ends, ends, ":", color=GREY, lw=0.9, label="equal")
    left.plot(ends, level + slope * ends, color=RED, lw=1.3, label=f"slope {slope:.2f}")
    left.set_xlabel("measured")
    left.set_ylabel("predicted, out of fold")
    left.legend(frameon=False)
    for method, (colour, said) in METHODS.items():
        if method in choice:
            right.plot(choice["decile"], choice[method], "o-", ms=3.5, color=colour, label=said)
    right.axhline(0, color=GREY, lw=0.8)
    right.set_xlabel("decile of the truth")
    right.set_ylabel("mean of value less truth")
    right.legend(frameon=False)
    return clean(figure)


def map_figure(path: Path, outcome_name: str) -> Any:
    """The prediction of every cell, hatched outside the area of applicability."""
    bands, (west, south, east, north), metres = map_overview(path, MOST_PIXELS)
    values, inside = bands[0], bands[3]
    scale = 1000 if metres else 1
    figure = new_figure(8.0, 8.0 * (north - south) / (east - west) * 0.8 + 0.8)
    axis = figure.subplots()
    extent = (west / scale, east / scale, south / scale, north / scale)
    low, high = np.nanquantile(values, [0.02, 0.98])
    drawn = axis.imshow(
        values, extent=extent, cmap=colour_map("batlow"), vmin=low, vmax=high,
        interpolation="nearest",
    )  # fmt: skip
    outside = np.where(inside == 0, 1.0, np.nan)
    if np.isfinite(outside).any():
        axis.contourf(
            outside, levels=[0.5, 1.5], colors="none", hatches=["////"], extent=extent,
            origin="upper",
        )  # fmt: skip
    figure.colorbar(drawn, ax=axis, label=f"predicted {outcome_name}", shrink=0.8)
    axis.set_xlabel("easting (km)" if metres else "longitude (°E)")
    axis.set_ylabel("northing (km)" if metres else "latitude (°N)")
    axis.ticklabel_format(useOffset=False, style="plain")
    return figure
