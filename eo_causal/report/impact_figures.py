"""All figures of an impact study, written once and named."""

from pathlib import Path
from typing import Any

from eo_causal.impact.plot import plot_impact
from eo_causal.report import figures


def write_figures(study: Any, folder: Path, scale: float, units: str) -> dict[str, Path]:
    """Draw what the study has data for; returns figure name -> SVG path."""
    impact = study.impact
    drawn: dict[str, Any] = {
        "impact": plot_impact(impact.series * scale, units, impact.diagnostics["intervention"]),
        "breakpoints": figures.breakpoints_figure(
            study.zones,
            study.breaks.breaks,
            study.breaks.candidates,
            study.sensor_changes,
            scale,
            units,
        ),
        "climatology": figures.climatology_figure(
            study.zones, impact.diagnostics["intervention"], scale, units
        ),
    }
    by_name = {check.name: check for check in study.checks}
    if impact.settings.scale == "log":
        check_scale, check_units = 1.0, "log ratio"
    else:
        check_scale, check_units = scale, units
    placebo = by_name.get("placebo_in_time")
    if placebo is not None and "mean" in placebo.table:
        drawn["placebo_in_time"] = figures.placebo_time_figure(
            _scaled(placebo.table, check_scale),
            placebo.summary["effect"] * check_scale,
            check_units,
        )
    space = by_name.get("placebo_in_space")
    if space is not None and space.summary["n"] >= 2:
        drawn["placebo_in_space"] = figures.placebo_space_figure(
            _scaled(space.table, check_scale), study.impact_zone, check_units
        )
    if "valid_fraction" in study.zones:
        drawn["data_quality"] = figures.quality_figure(study.zones, None)
    if study.zone_frame is not None:
        background = None if study.layers is None else study.layers["mean_before"] * scale
        drawn["zone_map"] = figures.zone_map_figure(
            background, study.zone_frame, study.coastline, study.impact_zone,
            f"mean Kd490 before ({units})",
        )  # fmt: skip
    if study.layers is not None and study.zone_frame is not None:
        drawn["difference_map"] = figures.difference_map_figure(
            study.layers["difference"] * scale, study.zone_frame, units
        )
    if study.land_cover is not None:
        area = study.land_cover.area
        drawn["land_cover"] = figures.land_cover_figure(area, _visible_classes(area))
    return {name: figures.save_figure(figure, folder, name) for name, figure in drawn.items()}


def _visible_classes(area: Any) -> list[str]:
    """Classes that ever cover a thousandth of the map; the others stand in the table."""
    largest = area.groupby("class", sort=False)["area_km2"].max()
    total = area.groupby("year")["area_km2"].sum().max()
    return [str(name) for name in largest.index[largest >= total / 1000]]


def _scaled(table: Any, scale: float) -> Any:
    columns = [name for name in ("mean", "sd", "lower", "upper") if name in table]
    return table.assign(**{name: table[name] * scale for name in columns})
