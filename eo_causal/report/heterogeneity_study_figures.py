"""Figures of simulated studies of effect heterogeneity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.report.figures import BLUE, GREY, RED, clean, colour_map, new_figure, save_figure
from eo_causal.report.heterogeneity_figures import ONE_SIDED

WORLDS = {
    "change": "effect in the change", "last": "effect in the last level", "constant": "no heterogeneity",
}  # fmt: skip
METRICS = {"autoc": ("AUTOC", RED, -0.14), "qini": ("Qini", BLUE, 0.14)}
LEARNERS = {"dr": "DR", "t": "T", "x": "X", "r": "R", "causal_forest": "forest"}
MONTE_CARLO = 1.96
N_LINES = 80


def write_figures(study: Any, folder: Path) -> dict[str, Path]:
    """Every figure of the study: name -> SVG."""
    figures = {
        "choices": choices_figure(study.choices),
        "ratios": ratios_figure(study.cells),
        "worlds": worlds_figure(study.trials),
    }
    return {name: save_figure(figure, folder, name) for name, figure in figures.items()}


def words(name: Any) -> str:
    """A level of a choice as a reader would say it."""
    return LEARNERS.get(name, str(name).replace("_", " "))


def cell_label(data: str, encoder: Any, covariates: str, learner: str) -> str:
    """A cell of the grid in words."""
    parts = [words(data)] if pd.isna(encoder) else [words(data), words(encoder)]
    return ", ".join([*parts, *(["covariates"] if covariates == "yes" else []), words(learner)])


def choices_figure(choices: pd.DataFrame) -> Any:
    """What each choice adds to the ratio, with intervals: a panel a world."""
    rows = choices[(choices["baseline"] != "") & choices["estimate"].notna()]
    keys = ["choice", "level", "baseline"]
    terms = rows[keys].drop_duplicates().reset_index(drop=True)
    labels = [
        f"{prefix}{words(row.level)}\ninstead of {words(row.baseline)}"
        for row in terms.itertuples()
        for prefix in [f"{row.choice}: " if row.choice == "covariates" else ""]
    ]
    figure, axes = _panels(list(dict.fromkeys(rows["world"])), 1.3 + 0.55 * len(terms), labels)
    for axis, (_, own) in zip(axes, rows.groupby("world", sort=False), strict=True):
        for metric, (label, colour, shift) in METRICS.items():
            part = terms.merge(own[own["metric"] == metric], on=keys, how="left")
            at = np.arange(len(part)) + shift
            axis.hlines(at, part["lower"], part["upper"], color=colour, lw=2.5, alpha=0.4)
            axis.plot(part["estimate"], at, "o", color=colour, ms=5, label=label)
        axis.axvline(0, color=GREY, lw=0.8)
    figure.supxlabel(
        "added to the tested ratio, with 95 % interval over the repetitions", fontsize=10
    )
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return clean(figure)


def ratios_figure(cells: pd.DataFrame) -> Any:
    """Mean ratio of every cell of the grid with its Monte-Carlo interval: a panel a world."""
    keys = ["data", "encoder", "covariates", "learner"]
    order = list(dict.fromkeys(cells["data"]))
    terms = cells[keys].drop_duplicates()
    terms = terms.sort_values("data", key=lambda data: data.map(order.index), kind="stable")
    labels = [cell_label(*row) for row in terms.itertuples(index=False, name=None)]
    figure, axes = _panels(list(dict.fromkeys(cells["world"])), 1.2 + 0.27 * len(terms), labels)
    for axis, (_, own) in zip(axes, cells.groupby("world", sort=False), strict=True):
        for metric, (label, colour, shift) in METRICS.items():
            part = terms.merge(own[own["metric"] == metric], on=keys, how="left")
            at, half = np.arange(len(part)) + shift, MONTE_CARLO * part["std_error"]
            axis.hlines(
                at, part["ratio"] - half, part["ratio"] + half, color=colour, lw=2, alpha=0.4
            )
            axis.plot(part["ratio"], at, "o", color=colour, ms=4, label=label)
        axis.axvline(0, color=GREY, lw=0.8)
        axis.axvline(ONE_SIDED, color=GREY, lw=0.9, ls=":")
    figure.supxlabel(
        "tested ratio, mean over the repetitions (dotted: 5 %, one-sided)", fontsize=10
    )
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return clean(figure)


def worlds_figure(trials: dict[str, Any]) -> Any:
    """Brightness over the frames of units of the first trial, coloured by their true effect."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    effects = pd.concat([trial.units["effect"] for trial in trials.values()])
    low, high = np.quantile(effects, [0.02, 0.98])
    scale = ScalarMappable(Normalize(low, high), colour_map("roma_r"))
    figure = new_figure(9.0, 3.1)
    axes = np.atleast_1d(figure.subplots(1, len(trials), sharey=True))
    for axis, (world, trial) in zip(axes, trials.items(), strict=True):
        chips = trial.chips.isel(repetition=0, unit=slice(N_LINES), band=0)
        level = chips.mean(("y", "x")).compute().transpose("time", "unit").to_numpy()
        own = trial.units["effect"].to_numpy()[:N_LINES]
        frames = np.arange(1, len(level) + 1)
        for line, effect in zip(level.T, own, strict=True):
            axis.plot(frames, line, color=scale.to_rgba(effect), lw=0.9, alpha=0.85)
        axis.set_title(WORLDS[world], loc="left", fontsize=10)
        axis.set_xticks(frames)
    axes[0].set_ylabel("mean brightness of the image")
    figure.supxlabel("frame, oldest first", fontsize=10)
    figure.colorbar(scale, ax=axes.tolist(), label="true effect", shrink=0.9)
    return clean(figure)


def _panels(worlds: list[str], height: float, labels: list[str]) -> tuple[Any, Any]:
    """Panels side by side that share their rows."""
    figure = new_figure(3.6 + 2.2 * len(worlds), height)
    axes = np.atleast_1d(figure.subplots(1, len(worlds), sharey=True, sharex=True))
    for axis, world in zip(axes, worlds, strict=True):
        axis.set_title(WORLDS[world], loc="left", fontsize=10)
        axis.grid(axis="y", color="0.93", lw=0.8)
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=9)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure, axes
