"""Figures of a study of effect heterogeneity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.report.confounding_figures import (
    arm_label,
    effects_figure,
    salience_figure,
    shown_images,
)
from eo_causal.report.embed_figures import chip_picture
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

ONE_SIDED = 1.645  # 5 % of a standard normal
N_SHOWN = 5
MAX_TERMS = 14


def write_figures(study: Any, folder: Path) -> dict[str, Path]:
    """Every figure the study has content for: name -> SVG."""
    found, drivers = study.result, study.drivers
    truth = study.truth or {}
    figures = {
        "rates": rates_figure(found.rates),
        "curves": curves_figure(found.curves, study.ranking),
        "groups": groups_figure(study.groups, study.cate, truth.get("effects")),
        "effects": effects_figure(study.ate.effects, truth.get("ate")),
        "components": terms_figure(drivers.components, "effect of one sd of a component"),
        "land_cover": terms_figure(drivers.land_cover, cover_label(drivers.land_cover)),
        "composition": composition_figure(drivers.composition),
        "places": places_figure(study.chips, study.cate_by_image),
    }
    if study.network is not None and study.network.salience.sizes["unit"]:
        figures["salience"] = salience_figure(study.chips, study.network.salience, "effect")
    if study.elsewhere:
        figures["map"] = map_figure(study.headline_elsewhere.table, study.map_label)
    return {
        name: save_figure(figure, folder, name)
        for name, figure in figures.items()
        if figure is not None
    }


def ranking_label(arm: str, learner: str) -> str:
    """An arm and learner as a reader would say it."""
    names = {"dr": "DR", "t": "T", "x": "X", "r": "R", "causal_forest": "forest", "network": ""}
    return f"{arm_label(arm)} {names.get(learner, learner)}".strip()


def rates_figure(rates: pd.DataFrame) -> Any:
    """The tested ratio of every ranking, median and range over the splits."""
    rankings = rates[["arm", "learner"]].drop_duplicates().itertuples(index=False)
    labels = {tuple(row): position for position, row in enumerate(rankings)}
    figure = new_figure(8.0, 1.3 + 0.42 * len(labels))
    axis = figure.subplots()
    for metric, shift, colour, label in (
        ("autoc", -0.13, RED, "AUTOC"),
        ("qini", 0.13, BLUE, "Qini"),
    ):
        rows = rates[rates["metric"] == metric]
        at = [labels[key] + shift for key in zip(rows["arm"], rows["learner"], strict=True)]
        axis.hlines(at, rows["split_low"], rows["split_high"], color=colour, lw=2.5, alpha=0.35)
        axis.plot(rows["ratio"], at, "o", color=colour, ms=5, label=label)
    axis.axvline(0, color=GREY, lw=0.8)
    axis.axvline(ONE_SIDED, color=GREY, lw=0.9, ls=":")
    axis.set_yticks(list(labels.values()), [ranking_label(*key) for key in labels])
    axis.invert_yaxis()
    axis.set_xlabel("test ratio: median and range over the splits (dotted: 5 %, one-sided)")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return clean(figure)


def curves_figure(curves: pd.DataFrame, ranking: tuple[str, str]) -> Any:
    """Targeting curves: the headline with its band, the others thin."""
    figure = new_figure(8.0, 3.4)
    axis = figure.subplots()
    label: str | None = "other rankings"
    for key, rows in curves.groupby(["arm", "learner"], sort=False):
        share = 100 * rows["share"]
        if key == ranking:
            axis.fill_between(share, rows["lower"], rows["upper"], color=RED, alpha=0.15, lw=0)
            axis.plot(share, rows["toc"], color=RED, lw=2, label=ranking_label(*key), zorder=3)
        else:
            axis.plot(share, rows["toc"], color=BLUE, lw=0.9, alpha=0.6, label=label)
            label = None
    axis.axhline(0, color=GREY, lw=0.8)
    axis.set_xlabel("treated first, % of units by predicted effect")
    axis.set_ylabel("gain over treating at random")
    axis.legend(frameon=False)
    return clean(figure)


def groups_figure(groups: pd.DataFrame, cate: pd.DataFrame, truth: dict[str, float] | None) -> Any:
    """Effects of units grouped by their predicted effect; of a simulated study, true effects beside."""
    if not len(groups):
        return None
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    ends = [groups[["predicted", "lower"]].min().min(), groups[["predicted", "upper"]].max().max()]
    left.plot(ends, ends, color=GREY, lw=0.8, ls=":", label="as predicted")
    left.vlines(groups["predicted"], groups["lower"], groups["upper"], color=RED, lw=2.5, alpha=0.4)
    left.plot(groups["predicted"], groups["effect"], "o", color=RED, ms=6, label="found")
    left.axhline(0, color=GREY, lw=0.8)
    left.set_xlabel("predicted effect, mean of the group")
    left.set_ylabel("effect in the group")
    left.legend(frameon=False)
    if truth is None:
        right.hist(cate["cate"], bins=30, color=BLUE, alpha=0.8)
        right.set_xlabel("predicted effect, out of fold")
        right.set_ylabel("units")
    else:
        effects = np.array([truth[name] for name in cate["unit_id"]])
        right.plot([effects.min(), effects.max()], [effects.min(), effects.max()], ":", color=GREY)
        right.scatter(effects, cate["cate"], s=8, color=BLUE, alpha=0.4, lw=0)
        right.set_xlabel("true effect (simulated)")
        right.set_ylabel("predicted, out of fold")
    return clean(figure)


def cover_label(land_cover: pd.DataFrame) -> str:
    """What coefficients of land cover mean."""
    base = f" instead of {land_cover['instead_of'].iloc[0]}" if len(land_cover) else ""
    return f"effect of ten percentage points{base}".replace("_", " ")


def terms_figure(terms: pd.DataFrame, label: str) -> Any:
    """Coefficients of a projection with intervals; those that survive q < .1 are filled."""
    if not len(terms):
        return None
    rows = terms[terms["term"] != "intercept"].head(MAX_TERMS)
    figure = new_figure(8.0, 1.0 + 0.32 * len(rows))
    axis = figure.subplots()
    at = np.arange(len(rows))
    axis.hlines(at, rows["lower"], rows["upper"], color=BLUE, lw=2.5, alpha=0.4)
    sure = (rows["q_value"] < 0.1).to_numpy()
    axis.plot(rows["estimate"][sure], at[sure], "o", color=BLUE, ms=6)
    axis.plot(rows["estimate"][~sure], at[~sure], "o", mfc="white", color=BLUE, ms=6)
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_yticks(at, [str(name).replace("_", " ") for name in rows["term"]])
    axis.invert_yaxis()
    axis.set_xlabel(label)
    return clean(figure)


def composition_figure(composition: pd.DataFrame) -> Any:
    """Means of land cover and covariates by group of predicted effect, a panel a variable."""
    if not len(composition):
        return None
    names = list(dict.fromkeys(composition["variable"]))
    columns = min(4, len(names))
    n_rows = -(-len(names) // columns)
    figure = new_figure(2.3 * columns, 2.0 * n_rows)
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        rows = composition[composition["variable"] == name]
        axis.vlines(rows["group"], rows["lower"], rows["upper"], color=INK, lw=2, alpha=0.4)
        axis.plot(rows["group"], rows["mean"], "o-", color=INK, ms=4, lw=1)
        axis.set_title(str(name).replace("_", " "), loc="left", fontsize=9)
        axis.set_xticks(rows["group"].to_numpy())
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[0].set_ylabel("mean")
    figure.supxlabel("group by predicted effect, 1 = smallest", fontsize=9)
    return clean(figure)


def places_figure(chips: xr.DataArray, cate: pd.DataFrame) -> Any:
    """Images of the places with the largest and the smallest predicted effects."""
    ordered = cate.sort_values("cate", kind="stable")
    rows = {
        "largest\npredicted effect": ordered.tail(N_SHOWN)[::-1],
        "smallest\npredicted effect": ordered.head(N_SHOWN),
    }
    keys = np.concatenate([part["image_key"].to_numpy() for part in rows.values()])
    images, low, high = shown_images(chips, keys)
    figure = new_figure(1.5 * N_SHOWN + 1, 3.7)
    axes = figure.subplots(2, N_SHOWN, squeeze=False)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    for row, (label, part) in enumerate(rows.items()):
        for column, effect in enumerate(part["cate"]):
            image = images[row * len(part) + column]
            axes[row, column].imshow(chip_picture(image, low, high), interpolation="nearest")
            axes[row, column].set_title(f"{effect:+.2f}", fontsize=8, color=GREY)
        axes[row, 0].set_ylabel(label, fontsize=9)
    return figure


def map_figure(table: pd.DataFrame, label: str) -> Any:
    """Effects at places outside the trial; where the trial cannot speak there is a cross."""
    figure = new_figure(8.0, 5.2)
    axis = figure.subplots()
    inside = table["in_support"].to_numpy(dtype=bool)
    known = table[inside]
    middle = float(known["cate"].median()) if inside.any() else 0.0
    reach = float(np.quantile(np.abs(known["cate"] - middle), 0.98)) if inside.any() else 1.0
    size = float(np.clip(16_000 / max(len(table), 1), 14, 40))
    outside = table[~inside]
    axis.scatter(
        outside["longitude"], outside["latitude"], s=size, marker="x", color="0.55", lw=0.8,
        label="unlike the trial: not to be read",
    )  # fmt: skip
    drawn = axis.scatter(
        known["longitude"], known["latitude"], s=size, c=known["cate"], cmap=colour_map("roma_r"),
        vmin=middle - max(reach, 1e-9), vmax=middle + max(reach, 1e-9), lw=0,
        label="like the trial",
    )  # fmt: skip
    figure.colorbar(drawn, ax=axis, label=label, shrink=0.85)
    axis.set_aspect(1 / np.cos(np.deg2rad(float(table["latitude"].mean()))))
    axis.ticklabel_format(useOffset=False)
    axis.locator_params(nbins=4, axis="x")
    axis.set_xlabel("longitude (°E)")
    axis.set_ylabel("latitude (°N)")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return clean(figure)
