"""Figures of a study that adjusts for images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.report.embed_figures import chip_picture, shown_bands
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

MARKS = ("o", "s", "D", "^", "v", "P")
COLOURS = (INK, BLUE, RED, "#3b7d4f", "#8a6d1d", "#6b4c8a")
ESTIMATORS = {
    "difference_in_means": "difference in means", "aipw": "AIPW", "hajek": "Hájek",
    "horvitz_thompson": "Horvitz–Thompson", "overlap": "overlap weights",
    "trimmed_aipw": "trimmed AIPW",
}  # fmt: skip
MAX_VARIABLES = 16
GOOD_BALANCE = 0.1


def write_figures(study: Any, folder: Path) -> dict[str, Path]:
    """Every figure the study has content for: name -> SVG."""
    found, arm = study.result, study.arm
    truth = (study.truth or {}).get("ate")
    figures = {
        "effects": effects_figure(found.effects, truth),
        "overlap": overlap_figure(found.overlap, arm),
        "balance": balance_figure(found.balance, arm),
        "calibration": calibration_figure(found.calibration),
        "places": places_figure(study.chips, study.nuisance),
    }
    if study.bounds is not None and len(study.bounds):
        figures["bounds"] = bounds_figure(study.bounds, truth)
    if study.network is not None and study.network.salience.sizes["unit"]:
        figures["salience"] = salience_figure(study.chips, study.network.salience)
    return {
        name: save_figure(figure, folder, name)
        for name, figure in figures.items()
        if figure is not None
    }


def arm_label(arm: str) -> str:
    """``image:pixel_stats+tabular`` as a reader would say it."""
    parts = [part.removeprefix("image:") for part in arm.split("+")]
    words = ["covariates" if part == "tabular" else part.replace("_", " ") for part in parts]
    return " + ".join(words)


def effects_figure(effects: pd.DataFrame, truth: float | None) -> Any:
    """Estimates with intervals: one row an arm, one mark an estimator."""
    estimators = list(dict.fromkeys(effects["estimator"]))
    figure = new_figure(8.0, 1.1 + 0.2 * len(effects) + 0.25 * effects["arm"].nunique())
    axis = figure.subplots()
    position, ticks = 0.0, {}
    for arm, rows in effects.groupby("arm", sort=False):
        ticks[arm_label(str(arm))] = position + (len(rows) - 1) / 2
        for row in rows.itertuples():
            at = estimators.index(row.estimator) % len(COLOURS)
            axis.hlines(position, row.lower, row.upper, color=COLOURS[at], lw=2, alpha=0.5)
            axis.plot(row.estimate, position, MARKS[at], color=COLOURS[at], ms=5)
            position += 1
        position += 0.8
    for at, name in enumerate(estimators):
        place = at % len(COLOURS)
        axis.plot([], [], MARKS[place], color=COLOURS[place], label=ESTIMATORS.get(name, name))
    axis.set_yticks(list(ticks.values()), list(ticks))
    axis.invert_yaxis()
    axis.axvline(0, color=GREY, lw=0.8)
    if truth is not None:
        axis.axvline(truth, color=RED, lw=1.2, ls="--", label="true effect")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_xlabel("average treatment effect, with interval")
    return clean(figure)


def overlap_figure(overlap: pd.DataFrame, arm: str) -> Any:
    """Propensities of treated and untreated units, mirrored."""
    part = overlap[overlap["arm"] == arm]
    if not len(part):
        return None
    figure = new_figure(8.0, 3.2)
    axis = figure.subplots()
    for treated, sign, colour, label in (
        (True, 1, RED, "treated"),
        (False, -1, BLUE, "not treated"),
    ):
        rows = part[part["treated"] == treated]
        axis.bar(
            rows["low"], sign * rows["n"], rows["high"] - rows["low"], align="edge", color=colour,
            alpha=0.75, label=label,
        )  # fmt: skip
    axis.axhline(0, color=INK, lw=0.8)
    axis.set_xlim(0, 1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axis.set_xlabel("propensity, predicted out of fold")
    axis.set_ylabel("units")
    axis.legend(frameon=False)
    return clean(figure)


def balance_figure(balance: pd.DataFrame, arm: str) -> Any:
    """Standardised mean differences before and after weighting, the largest first."""
    part = balance[balance["arm"] == arm]
    if not len(part):
        return None
    order = part["smd_before"].abs().sort_values(ascending=False).index[:MAX_VARIABLES]
    part = part.loc[order]
    figure = new_figure(8.0, 1.1 + 0.26 * len(part))
    axis = figure.subplots()
    at = np.arange(len(part))
    before, after = part["smd_before"].abs(), part["smd_after"].abs()
    axis.hlines(at, before, after, color=GREY, lw=1, alpha=0.6)
    axis.plot(before, at, "o", color=RED, ms=5, label="before")
    axis.plot(after, at, "o", color=BLUE, ms=5, label="after weighting")
    axis.axvline(GOOD_BALANCE, color=GREY, lw=0.8, ls=":")
    axis.set_yticks(at, [str(name).replace("_", " ") for name in part["variable"]])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("absolute standardised mean difference")
    axis.legend(frameon=False)
    return clean(figure)


def calibration_figure(calibration: pd.DataFrame) -> Any:
    """Predicted propensity against the treated share, one line an arm."""
    if not len(calibration):
        return None
    figure = new_figure(8.0, 3.8)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    for number, (arm, rows) in enumerate(calibration.groupby("arm", sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        label = arm_label(str(arm))
        axis.plot(rows["predicted"], rows["observed"], "o-", ms=4, color=colour, label=label)
    axis.set_aspect("equal")
    axis.set_xlabel("predicted propensity")
    axis.set_ylabel("treated share")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.05, 0.5))
    return clean(figure)


def places_figure(chips: xr.DataArray, nuisance: pd.DataFrame, n_shown: int = 5) -> Any:
    """Images of the places that were most and least likely to be treated."""
    if not len(nuisance):
        return None
    likely = nuisance.drop_duplicates("image_key").sort_values("propensity", kind="stable")
    rows = {
        "least likely\nto be treated": likely.head(n_shown),
        "most likely\nto be treated": likely.tail(n_shown)[::-1],
    }
    keys = np.concatenate([part["image_key"].to_numpy() for part in rows.values()])
    images, low, high = shown_images(chips, keys)
    figure = new_figure(1.5 * n_shown + 1, 3.7)
    axes = figure.subplots(2, n_shown, squeeze=False)
    for row, (label, part) in enumerate(rows.items()):
        for column in range(n_shown):
            axis = axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column >= len(part):
                axis.set_axis_off()
                continue
            image = images[row * len(part) + column]
            axis.imshow(chip_picture(image, low, high), interpolation="nearest")
            axis.set_title(f"e = {part['propensity'].iloc[column]:.2f}", fontsize=8, color=GREY)
        axes[row, 0].set_ylabel(label, fontsize=9)
    return figure


def shown_images(
    chips: xr.DataArray, keys: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Last valid frame of each key in three bands (key, 3, y, x), and the range to show."""
    position = pd.Index(chips["image_key"].to_numpy().astype(str)).get_indexer(keys.astype(str))
    bands, _ = shown_bands(list(map(str, chips["band"].to_numpy())))
    values = chips.isel(unit=position).compute().to_numpy()[:, :, bands]
    seen = np.isfinite(values).any(axis=(2, 3, 4))
    last = seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)
    images = values[np.arange(len(values)), last]
    low, high = (np.nanpercentile(images, at, axis=(0, 2, 3)) for at in (2, 98))
    return images, low, high


def bounds_figure(bounds: pd.DataFrame, truth: float | None) -> Any:
    """What remains of the effect when hidden confounding of strength Lambda is allowed."""
    figure = new_figure(6.4, 3.4)
    axis = figure.subplots()
    axis.fill_between(
        bounds["lambda"], bounds["interval_lower"], bounds["interval_upper"], color=BLUE, alpha=0.15,
        lw=0, label="with sampling error",
    )  # fmt: skip
    axis.fill_between(
        bounds["lambda"], bounds["lower"], bounds["upper"], color=BLUE, alpha=0.45, lw=0,
        label="bounds",
    )  # fmt: skip
    axis.axhline(0, color=GREY, lw=0.8)
    if truth is not None:
        axis.axhline(truth, color=RED, lw=1.2, ls="--", label="true effect")
    axis.set_xlabel("Λ: how far a hidden confounder may move the odds of treatment")
    axis.set_ylabel("average treatment effect")
    axis.legend(frameon=False, loc="upper left")
    return clean(figure)


def salience_figure(chips: xr.DataArray, salience: xr.Dataset, of: str = "propensity") -> Any:
    """Images, and which pixels move their propensity, or effect, up (red) or down (blue)."""
    keys = salience["image_key"].to_numpy()
    images, low, high = shown_images(chips, keys)
    direction = salience["drawn"].to_numpy()[:, -1]
    limit = float(np.quantile(np.abs(direction), 0.99)) or 1.0
    figure = new_figure(1.5 * len(keys) + 1, 3.7)
    axes = figure.subplots(2, len(keys), squeeze=False)
    for column in range(len(keys)):
        for axis in axes[:, column]:
            axis.set_axis_off()
        axes[0, column].imshow(chip_picture(images[column], low, high), interpolation="nearest")
        axes[1, column].imshow(
            direction[column], cmap=colour_map("vik"), vmin=-limit, vmax=limit,
            interpolation="nearest",
        )  # fmt: skip
        axes[0, column].set_title(_said_of(salience, column, of), fontsize=8, color=GREY)
    return figure


def _said_of(salience: xr.Dataset, position: int, of: str) -> str:
    value = float(salience[of].to_numpy()[position])
    if of == "effect":
        return f"predicted effect\n{value:+.2f}"
    treated = bool(salience["treated"].to_numpy()[position])
    return f"{'treated' if treated else 'not treated'}\ne = {value:.2f}"
