"""Figures of an impact study; plain matplotlib figures, the same bytes for the same numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

INK = "#1b2a41"
BLUE = "#2a7ab0"
RED = "#b5442e"
GREY = "0.55"


def save_figure(figure: Any, folder: Path, name: str) -> Path:
    """Write ``name.svg`` and ``name.png`` without clock or random ids; returns the SVG."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 10}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    return folder / f"{name}.svg"


def new_figure(width: float, height: float) -> Any:
    """A figure that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def placebo_time_figure(table: pd.DataFrame, effect: float, units: str) -> Any:
    """Placebo effects by date, with the headline beside them."""
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=[3, 1], sharey=True)
    good = table[table["mean"].notna()]
    months = pd.to_datetime(good["month"]).to_numpy()
    if "lower" in good:
        left.vlines(months, good["lower"], good["upper"], color=BLUE, alpha=0.35, lw=3)
    left.plot(months, good["mean"], "o", color=BLUE, ms=4, label="placebo date")
    left.axhline(effect, color=RED, lw=1.4, label="effect at the intervention")
    left.axhline(0, color=GREY, lw=0.8)
    left.set_ylabel(f"average effect ({units})")
    left.legend(frameon=False, loc="best")
    right.hist(good["mean"], bins=12, orientation="horizontal", color=BLUE, alpha=0.5)
    right.axhline(effect, color=RED, lw=1.4)
    right.set_xlabel("placebos")
    return clean(figure)


def placebo_space_figure(table: pd.DataFrame, impact: str, units: str) -> Any:
    """Effect of every zone at the real date, largest on top."""
    good = table[table["mean"].notna()].sort_values("mean", key=abs)
    figure = new_figure(7.0, 0.9 + 0.34 * len(good))
    axis = figure.subplots()
    for position, row in enumerate(good.itertuples()):
        colour = RED if row.zone == impact else BLUE
        axis.hlines(position, row.lower, row.upper, color=colour, lw=3, alpha=0.45)
        axis.plot(row.mean, position, "o", color=colour, ms=5)
    axis.set_yticks(range(len(good)), [str(zone).replace("_", " ") for zone in good["zone"]])
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_xlabel(f"average effect ({units})")
    return clean(figure)


def breakpoints_figure(
    zones: xr.Dataset,
    breaks: dict[str, list[str]],
    candidates: pd.DataFrame,
    sensor_changes: Sequence[str],
    scale: float,
    units: str,
) -> Any:
    """Each searched zone: candidate dates thin, reported breaks bold, sensor changes dotted."""
    figure = new_figure(9.0, 2.6 * len(breaks))
    axes = np.atleast_1d(figure.subplots(len(breaks), 1, sharex=True))
    for axis, (zone, months) in zip(axes, breaks.items(), strict=True):
        series = zones["kd490"].sel(zone=zone)
        axis.plot(zones["time"], series * scale, color=INK, lw=0.9)
        mine = candidates[(candidates["zone"] == zone) & (candidates["method"] != "consensus")]
        for month in sorted(set(mine["month"])):
            axis.axvline(np.datetime64(month), color=BLUE, lw=0.7, alpha=0.5)
        for month in sensor_changes:
            axis.axvline(np.datetime64(month), color=GREY, lw=1.2, ls=":")
        for month in months:
            axis.axvline(np.datetime64(month), color=RED, lw=1.8)
            axis.annotate(
                month, (np.datetime64(month), 1), xycoords=("data", "axes fraction"),
                xytext=(3, -10), textcoords="offset points", color=RED, fontsize=9,
            )  # fmt: skip
        axis.set_title(zone.replace("_", " "), loc="left", fontsize=10)
        axis.set_ylabel(units)
    return clean(figure)


def quality_figure(zones: xr.Dataset, min_valid: float | None) -> Any:
    """Share of valid cells per zone and month."""
    names = [str(name) for name in zones["zone"].to_numpy()]
    figure = new_figure(9.0, 1.0 + 0.38 * len(names))
    axis = figure.subplots()
    import matplotlib.dates

    time = matplotlib.dates.date2num(zones["time"].to_numpy())
    edges = np.append(time, 2 * time[-1] - time[-2])
    mesh = axis.pcolormesh(
        edges, np.arange(len(names) + 1), zones["valid_fraction"], cmap=colour_map("davos"),
        vmin=0, vmax=1, rasterized=True,
    )  # fmt: skip
    axis.xaxis_date()
    axis.set_yticks(np.arange(len(names)) + 0.5, [name.replace("_", " ") for name in names])
    axis.invert_yaxis()
    label = "valid share of cells"
    if min_valid is not None:
        label += f"\n(months below {min_valid:.0%} are missing)"
    figure.colorbar(mesh, ax=axis, label=label)
    return figure


def climatology_figure(zones: xr.Dataset, intervention: str, scale: float, units: str) -> Any:
    """Month-of-year means before and after the intervention, by zone."""
    names = [str(name) for name in zones["zone"].to_numpy()]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(9.0, 2.4 * rows)
    axes = np.atleast_1d(
        figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    ).ravel()
    start = np.datetime64(intervention)
    for axis, zone in zip(axes, names, strict=False):
        series = zones["kd490"].sel(zone=zone).to_series() * scale
        for label, part, colour in (
            ("before", series[series.index < start], BLUE),
            ("after", series[series.index >= start], RED),
        ):
            means = part.groupby(part.index.month).mean()
            axis.plot(means.index, means, "o-", ms=3, lw=1.2, color=colour, label=label)
        axis.set_title(zone.replace("_", " "), loc="left", fontsize=10)
        axis.set_xticks([1, 4, 7, 10], ["Jan", "Apr", "Jul", "Oct"])
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[0].legend(frameon=False)
    axes[0].set_ylabel(units)
    return clean(figure)


def zone_map_figure(
    background: xr.DataArray | None, zone_frame: Any, coastline: Any, impact: str, label: str
) -> Any:
    """Zones over a map layer, with coastline or land where it is given."""
    from matplotlib.patheffects import withStroke

    west, south, east, north = zone_frame.total_bounds
    margin = 0.12 * max(east - west, north - south)
    tall = (north - south + 2 * margin) / (east - west + 2 * margin)
    figure = new_figure(8.0, min(8.0, max(3.2, 7.0 * tall + 0.8)))
    axis = figure.subplots()
    axis.set_facecolor("#eceff3")
    if background is not None:
        low, high = (float(value) for value in background.quantile([0.02, 0.98]))
        mesh = axis.pcolormesh(
            background["longitude"], background["latitude"], background, cmap=colour_map("davos_r"),
            vmin=low, vmax=high, shading="nearest", rasterized=True,
        )  # fmt: skip
        figure.colorbar(mesh, ax=axis, label=label, shrink=0.85)
    halo = withStroke(linewidth=3, foreground="white")
    if coastline is not None:
        coastline.plot(ax=axis, facecolor="#d9d4c7", edgecolor="0.25", lw=0.8)
    for zone, geometry in zip(zone_frame["zone"], zone_frame.geometry, strict=True):
        colour = RED if zone == impact else BLUE
        axis.plot(*geometry.exterior.xy, color=colour, lw=1.8)
        x, y = geometry.bounds[0], geometry.bounds[3]
        axis.annotate(
            str(zone).replace("_", " "), (x, y), xytext=(2, 3), textcoords="offset points",
            color=colour, fontsize=9, fontweight="bold", path_effects=[halo],
        )  # fmt: skip
    axis.set_xlim(west - margin, east + margin)
    axis.set_ylim(south - margin, north + margin)
    axis.set_aspect(1 / np.cos(np.deg2rad((south + north) / 2)))
    axis.set_xlabel("longitude (°E)")
    axis.set_ylabel("latitude (°N)")
    return figure


def difference_map_figure(difference: xr.DataArray, zone_frame: Any, units: str) -> Any:
    """Mean after minus mean before in every cell; descriptive."""
    figure = new_figure(8.0, 5.0)
    axis = figure.subplots()
    axis.set_facecolor("#eceff3")
    limit = float(abs(difference).quantile(0.98))
    mesh = axis.pcolormesh(
        difference["longitude"], difference["latitude"], difference, cmap=colour_map("vik"),
        vmin=-limit, vmax=limit, shading="nearest", rasterized=True,
    )  # fmt: skip
    figure.colorbar(mesh, ax=axis, label=f"after minus before ({units})", shrink=0.85)
    for geometry in zone_frame.geometry:
        axis.plot(*geometry.exterior.xy, color=INK, lw=1.2)
    axis.set_aspect(1 / np.cos(np.deg2rad(float(difference["latitude"].mean()))))
    axis.set_xlabel("longitude (°E)")
    axis.set_ylabel("latitude (°N)")
    return figure


def land_cover_figure(area: pd.DataFrame, classes: Sequence[str]) -> Any:
    """Area of each class by year, km2; one small panel a class because sizes differ widely."""
    columns = min(3, len(classes))
    rows = -(-len(classes) // columns)
    figure = new_figure(9.0, 2.1 * rows)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis, name in zip(axes, classes, strict=False):
        mine = area[area["class"] == name]
        axis.plot(mine["year"], mine["area_km2"], "o-", color=RED if "uilt" in name else BLUE, ms=3)
        axis.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axis.set_ylim(0, 1.08 * max(float(mine["area_km2"].max()), 1e-6))
        axis.set_ylabel("km²")
    for axis in axes[len(classes) :]:
        axis.set_visible(False)
    return clean(figure)


def colour_map(name: str) -> Any:
    """A perceptually even colour map of cmcrameri."""
    from cmcrameri import cm

    return getattr(cm, name)


def clean(figure: Any) -> Any:
    """The figure without frames on top and right."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure
