"""Figures of simulated studies of confounders that images show."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

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

AXES = {
    "resolution": "full pixels along a pixel of the image that is adjusted for",
    "misspecification": "width of the true pattern (pixels)",
}
LINES = {
    "unadjusted": ("nothing", "difference_in_means", GREY, "s"),
    "Hájek": ("measured pattern", "hajek", BLUE, "o"),
    "AIPW": ("measured pattern", "aipw", INK, "D"),
}
AMOUNTS = ("little", "much")
MONTE_CARLO = 1.96
N_POINTS = 500


def write_figures(study: Any, folder: Path) -> dict[str, Path]:
    """Every figure of the study: name -> SVG."""
    kind, cases = study.settings.kind, study.settings.cases()
    figures = {
        "bias": bias_figure(study.result.bias, study.result.cases, AXES[kind]),
        "examples": examples_figure(study.examples, kind, [case.width for case in cases]),
        "scores": scores_figure(study.units, kind),
    }
    return {name: save_figure(figure, folder, name) for name, figure in figures.items()}


def case_label(kind: str, value: int) -> str:
    """A case in words, as a heading."""
    if kind == "misspecification":
        return f"pattern of {value} px"
    return "full resolution" if value == 1 else f"pooled {value} × {value}"


def bias_figure(bias: pd.DataFrame, cases: pd.DataFrame, label: str) -> Any:
    """Bias by case with Monte-Carlo intervals and what the law predicts; correlation beside it."""
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=[5, 3])
    for name, (adjusted, estimator, colour, mark) in LINES.items():
        rows = bias[(bias["adjusted_for"] == adjusted) & (bias["estimator"] == estimator)]
        left.errorbar(
            rows["value"], rows["bias"], MONTE_CARLO * rows["std_error"], color=colour, marker=mark,
            ms=5, lw=1.4, capsize=3, label=name,
        )  # fmt: skip
    left.plot(cases["value"], cases["predicted"], color=RED, ls="--", lw=1.6, zorder=3,
              label="law: (1 − ρ²) × unadjusted")  # fmt: skip
    left.axhline(0, color=GREY, lw=0.8)
    left.set_ylabel("bias of the effect (sd of the confounder)")
    left.legend(frameon=False, loc="best", fontsize=9)
    right.plot(cases["value"], cases["correlation"], "o-", color=INK, ms=5, lw=1.4)
    right.set_ylim(0, 1.04)
    right.set_ylabel("correlation ρ, measured with true pattern")
    values = cases["value"].to_list()
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(values, list(map(str, values)))
        axis.minorticks_off()
    figure.supxlabel(label, fontsize=10)
    figure.get_layout_engine().set(wspace=0.06)
    return clean(figure)


def examples_figure(examples: xr.Dataset, kind: str, widths: list[int]) -> Any:
    """Images as they are measured, below each a response; strokes mark the truth, rings what is found."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=4, foreground="white")]
    values = examples["value"].to_numpy().tolist()
    seen, response, true, measured = (
        examples[name].to_numpy() for name in ("seen", "response", "true_place", "measured_place")
    )
    n_examples, size = seen.shape[1], seen.shape[-1]
    ring = measured if kind == "resolution" else true  # of the response that is drawn
    figure = new_figure(1.9 * len(values) + 0.5, 3.75 * n_examples + 0.3)
    axes = figure.subplots(2 * n_examples, len(values), squeeze=False)
    for at, (value, width) in enumerate(zip(values, widths, strict=True)):
        limit = float(np.nanmax(np.abs(response[at])))
        axes[0, at].set_title(case_label(kind, value), fontsize=9)
        for example in range(n_examples):
            top, below = axes[2 * example : 2 * example + 2, at]
            low, high = np.percentile(seen[0, example], (1, 99))
            top.imshow(seen[at, example], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            below.imshow(response[at, example], cmap=colour_map("vik"), vmin=-limit, vmax=limit,
                         interpolation="nearest")  # fmt: skip
            row, column = true[at, example]
            top.plot(
                [column - width / 2, column + width / 2], [row + width / 2, row - width / 2],
                color=BLUE, lw=2.4, solid_capstyle="butt", path_effects=halo,
            )  # fmt: skip
            for axis, place in ((top, measured[at, example]), (below, ring[at, example])):
                axis.plot(*place[::-1], "o", ms=15, mfc="none", mec=RED, mew=1.6,
                          path_effects=halo if axis is top else None)  # fmt: skip
                axis.set(xticks=[], yticks=[], xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    for example, amount in zip(range(n_examples), AMOUNTS, strict=True):
        axes[2 * example, 0].set_ylabel(f"{amount} of the pattern", fontsize=9)
        axes[2 * example + 1, 0].set_ylabel("response", fontsize=9)
    return figure


def scores_figure(units: xr.Dataset, kind: str) -> Any:
    """What is measured against the true confounder, in the first repetition of every case."""
    first = units.isel(repetition=0, unit=slice(N_POINTS)).compute()
    values = first["value"].to_numpy().tolist()
    figure = new_figure(1.9 * len(values) + 0.5, 2.7)
    axes = figure.subplots(1, len(values), squeeze=False, sharex=True, sharey=True)[0]
    for axis, value in zip(axes, values, strict=True):
        case = first.sel(value=value)
        confounder, score = case["confounder"].to_numpy(), case["score"].to_numpy()
        treated = case["treatment"].to_numpy() == 1
        for chosen, colour, label in ((~treated, BLUE, "not treated"), (treated, RED, "treated")):
            axis.plot(confounder[chosen], score[chosen], "o", ms=3, alpha=0.45, mew=0, color=colour,
                      label=label)  # fmt: skip
        rho = float(np.corrcoef(confounder, score)[0, 1])
        axis.set_title(f"{case_label(kind, value)}\nρ = {rho:.2f}", fontsize=9)
    axes[0].set_ylabel("measured pattern (sd)")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right", handletextpad=0.1, borderpad=0)
    figure.supxlabel("true pattern U (sd)", fontsize=10)
    return clean(figure)
