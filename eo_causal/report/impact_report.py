"""The report of an impact study: results.json, tables, figures, maps, posterior and one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.audit.report import AuditReport, audit_block
from eo_causal.core.display import show_p, show_units
from eo_causal.core.effect import Effect
from eo_causal.core.settings import Settings
from eo_causal.impact.breakpoints import BreakpointResult
from eo_causal.impact.check import CheckResult
from eo_causal.impact.counterfactual import ImpactResult
from eo_causal.impact.landcover import IntensityResult
from eo_causal.impact.optics import DepthResult
from eo_causal.impact.published import PublishedSettings
from eo_causal.report import impact_figures, impact_sections
from eo_causal.report.audit_section import audit_results, branded, registration_callouts
from eo_causal.report.html import KeyNumber, Page, render
from eo_causal.report.impact_audit import impact_audits
from eo_causal.report.maps import write_cog
from eo_causal.report.results import quantity, write_results
from eo_causal.report.tables import write_table


class ReportSettings(Settings):
    """How numbers are shown."""

    display_scale: float = Field(
        default=1.0, gt=0, description="100 shows attenuation in 1e-2 m-1, as published tables do"
    )


_IN_UNITS = ("drift", "sd", "mean", "effect", "effect_minus_drift", "minimum_detectable_effect")


@dataclass(frozen=True)
class ImpactStudy:
    """Everything a report is made of.

    Attributes
    ----------
    title, question : str
        Heading and causal question.
    impact_zone : str
        Name of the impact zone.
    zones : Dataset (zone, time)
        Series, m-1.
    zone_frame : GeoDataFrame or None
        Zone geometries.
    breaks, impact, checks, depth
        Results of the study.
    land_cover : IntensityResult or None
    layers : Dataset (y, x) or None
        Descriptive map layers: mean before, after, difference, valid count.
    coastline : GeoDataFrame or None
        Background lines.
    comparison : DataFrame or None
        Published beside computed numbers.
    published : PublishedSettings or None
        Where the published numbers come from.
    mode : str
        ``default`` or ``paper``.
    truth : dict or None
        Known truth of a simulated study, in m-1.
    data_tables : dict
        Name -> table about the input data: raster_check, harmonisation, sensor_changes.
    sensor_changes : tuple of str
        Months in which the product changed sensors.
    design : dict
        Hash, strategy, estimand and registration, as results.json holds them.
    registration : AuditReport
        Whether the design is the one that was frozen.
    ledger : DataFrame
        What each stage read, used, skipped, failed.
    warnings : list of dict
        Stage, code, message.
    provenance : dict
        Run id, versions, input hashes.
    config_text : str
        The resolved config.
    """

    title: str
    question: str
    impact_zone: str
    zones: xr.Dataset
    zone_frame: geopandas.GeoDataFrame | None
    breaks: BreakpointResult
    impact: ImpactResult
    checks: tuple[CheckResult, ...]
    depth: DepthResult
    land_cover: IntensityResult | None
    layers: xr.Dataset | None
    coastline: geopandas.GeoDataFrame | None
    comparison: pd.DataFrame | None
    published: PublishedSettings | None
    mode: str
    truth: dict[str, Any] | None
    data_tables: dict[str, pd.DataFrame]
    sensor_changes: tuple[str, ...]
    design: dict[str, Any]
    registration: AuditReport
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @property
    def audits(self) -> pd.DataFrame:
        """The seven lines of the audit block."""
        source = self.impact.settings.intervention_source
        return audit_block(impact_audits(self.checks, source, self.design, self.registration))


def write_impact_report(study: ImpactStudy, settings: ReportSettings, *, folder: Path) -> None:
    """Write every output of an impact study below ``folder``."""
    scale = settings.display_scale
    units = display_units(scale, study.impact.units)
    shown = show_units(units)
    answer = headline(study, scale, shown)
    results = impact_results(study, scale, units) | {"headline": answer}
    write_results(folder, results)
    _write_tables(study, folder / "tables", scale)
    pictures = impact_figures.write_figures(study, folder / "figures", scale, shown)
    if study.layers is not None:
        note = "Descriptive means, not causal effects."
        run_id = str(study.provenance["run_id"])
        write_cog(
            folder / "maps" / "kd490_before_after.tif", study.layers, run_id=run_id, note=note
        )
    if study.impact.draws is not None:
        write_posterior(study.impact.draws, folder / "posterior.nc")
    page = Page(
        title=study.title,
        question=study.question,
        answer=answer,
        numbers=key_numbers(study, scale, shown),
        sections=impact_sections.all_sections(study, pictures, scale, shown),
        callouts=registration_callouts(study.registration),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def display_units(scale: float, units: str) -> str:
    """Units after multiplying by the display scale."""
    if scale == 1:
        return units
    return {100.0: f"1e-2 {units}", 1000.0: f"1e-3 {units}"}.get(scale, f"{1 / scale:g} {units}")


def headline(study: ImpactStudy, scale: float, units: str) -> list[str]:
    """The answer in a few sentences; claims causation only when nothing speaks against it."""
    impact = study.impact
    average, relative = impact.average.scaled(scale, units), impact.relative
    failed = [check.name.replace("_", " ") for check in study.checks if check.passed is False]
    direction = "rose" if average.estimate > 0 else "fell"
    month = impact.diagnostics["intervention"][:7]
    first = (
        f"From {month} on attenuation {direction} by {_pm(average)} {units}, or"
        f" {relative.estimate:+.1%}{_interval(relative, percent=True)} against what the model expects"
        " without the intervention"
    )
    if impact.method == "ucm_mle":
        first += f" (z-test p {show_p(impact.p_value)}, published method)."
    else:
        first += f" (posterior probability of a change in this direction {1 - impact.p_value:.2%})."
    if impact.settings.scale == "log":
        first += " On the log scale the relative effect compares geometric means."
    sentences = [first, study.depth.text.split(" Method:")[0]]
    if failed:
        sentences.append(
            f"This is an association with the date, not a proven effect: these checks failed: "
            f"{', '.join(failed)}."
        )
    elif not study.checks:
        sentences.append("No check was run; read this as an association with the date.")
    else:
        n_passed = sum(check.passed is True for check in study.checks)
        sentences.append(
            f"{n_passed} of {len(study.checks)} checks passed and none failed; the assumptions below"
            " still decide whether this is an effect of the intervention."
        )
    if study.registration.status == "warn":
        sentences.append("The design was changed after it was registered.")
    known = true_average(study)
    if known is not None:
        sentences.append(
            f"Simulated data: the true average effect is {known * scale:.3g} {units}, the estimate"
            f" {average.estimate:.3g}{_interval(average)} {units}."
        )
    return sentences


def true_average(study: ImpactStudy) -> float | None:
    """True average effect in a simulated impact zone, m-1; None where the study asks another date."""
    truth = study.truth
    if truth is None or truth["intervention"] != study.impact.settings.intervention:
        return None
    return float(truth["zones"].get(study.impact_zone, 0.0))


def key_numbers(study: ImpactStudy, scale: float, units: str) -> list[KeyNumber]:
    """The row of large numbers."""
    average = study.impact.average.scaled(scale, units)
    label = "p (tail area)" if study.impact.method != "ucm_mle" else "p (z-test)"
    numbers = [
        KeyNumber(f"average effect ({units})", f"{average.estimate:.3g}", _interval(average)),
        KeyNumber(
            "relative effect", f"{study.impact.relative.estimate:+.1%}",
            _interval(study.impact.relative, percent=True),
        ),
        KeyNumber("euphotic depth (m)", f"{study.depth.change.estimate:+.1f}", _interval(study.depth.change)),
        KeyNumber(label, f"{study.impact.p_value:.4f}", f"{study.impact.average.n} months after"),
    ]  # fmt: skip
    known = true_average(study)
    if known is not None:
        numbers.append(KeyNumber(f"truth ({units})", f"{known * scale:.3g}", "simulated"))
    return numbers


def impact_results(study: ImpactStudy, scale: float, units: str) -> dict[str, Any]:
    """results.json of an impact study, report units."""
    impact = study.impact
    by_name = {check.name: check for check in study.checks}
    check_scale = 1.0 if impact.settings.scale == "log" else scale  # log ratios stay as they are
    results: dict[str, Any] = {
        "pipeline": study.provenance["pipeline"],
        "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"],
        "effect": {
            "average": quantity(impact.average.scaled(scale, units)),
            "cumulative": quantity(impact.cumulative.scaled(scale, units)),
            "relative": quantity(impact.relative),
            "p_value": impact.p_value,
        },
        "breakpoints": study.breaks.breaks,
        "raw_difference_in_differences": quantity(
            study.breaks.raw_difference_in_differences[0].scaled(scale, units)
        ),
        "placebo_in_time": _placebo(by_name.get("placebo_in_time"), check_scale),
        "placebo_in_space": _placebo(by_name.get("placebo_in_space"), check_scale),
        "euphotic_depth": {
            "change": quantity(study.depth.change),
            "observed": study.depth.observed,
            "counterfactual": study.depth.counterfactual,
        },
        "land_cover": None if study.land_cover is None else study.land_cover.pooled,
        "checks": {
            check.name: {"passed": check.passed, "text": check.text} for check in study.checks
        },
        "diagnostics": impact.diagnostics,
        "audit": audit_results(study.audits),
        "design": study.design,
        "warnings": [item["code"] for item in study.warnings],
        "truth": None,
    }
    if study.comparison is not None:
        results["published"] = study.comparison.to_dict(orient="records")
    known = true_average(study)
    if known is not None:
        results["truth"] = {"average": known * scale, "units": units}
    return results


def write_posterior(draws: xr.Dataset, path: Path) -> None:
    """Posterior draws as NetCDF; equal draws give equal bytes.

    Written through netCDF4 itself: xarray's writer orders dimensions by hash, and text of variable
    length leaves addresses in the file.
    """
    import netCDF4

    with netCDF4.Dataset(path, "w") as target:
        for dimension in ("chain", "draw", "time", "covariate"):
            target.createDimension(dimension, draws.sizes[dimension])
        names = np.char.encode(draws["covariate"].to_numpy().astype(str), "utf-8")
        target.createDimension("text", names.dtype.itemsize)
        label = target.createVariable("covariate", "S1", ("covariate", "text"))
        label[:] = names.view("S1").reshape(len(names), -1)
        label._Encoding = "utf-8"
        days = draws["time"].to_numpy().astype("datetime64[D]").astype(np.int64)
        time = target.createVariable("time", "i8", ("time",))
        time.units, time.calendar = "days since 1970-01-01", "proleptic_gregorian"
        time[:] = days
        for name, variable in draws.data_vars.items():
            stored = target.createVariable(
                str(name), "f8", tuple(map(str, variable.dims)), zlib=True, complevel=4
            )
            stored[:] = variable.to_numpy()
        target.setncatts(dict(draws.attrs))


def _placebo(check: CheckResult | None, scale: float) -> dict[str, Any] | None:
    """A placebo summary with its effects in report units."""
    if check is None:
        return None
    scaled = {name: value * scale for name, value in check.summary.items() if name in _IN_UNITS}
    ends = check.summary.get("effect_interval")
    if ends is not None:
        scaled["effect_interval"] = [end * scale for end in ends]
    return check.summary | scaled


def _write_tables(study: ImpactStudy, folder: Path, scale: float) -> None:
    tables = {
        "summary": study.impact.table,
        "monthly": study.impact.series,
        "annual": impact_sections.annual_means(study.impact.series),
        "zones": study.zones["kd490"].to_series().unstack("zone").rename(columns=str),
        "breakpoint_candidates": study.breaks.candidates,
        "breakpoint_statistics": study.breaks.statistics,
        "breakpoint_search": study.breaks.search,
        "euphotic_depth": study.depth.table,
        "ledger": study.ledger,
        "audit": study.audits,
    }
    tables |= study.data_tables
    tables |= {f"check_{check.name}": check.table for check in study.checks if len(check.table)}
    if study.comparison is not None:
        tables["published"] = study.comparison
    if study.land_cover is not None:
        for name in ("area", "interval", "category", "transition", "components"):
            tables[f"land_cover_{name}"] = getattr(study.land_cover, name)
    for name, table in tables.items():
        write_table(folder, name, branded(table, study.registration))


def _pm(effect: Effect) -> str:
    return f"{abs(effect.estimate):.3g}{_interval(effect, sign=1 if effect.estimate > 0 else -1)}"


def _interval(effect: Effect, *, percent: bool = False, sign: int = 1) -> str:
    if effect.interval is None:
        return ""
    low, high = sorted(end * sign for end in effect.interval)
    shown = f"{low:.1%} to {high:.1%}" if percent else f"{low:.3g} to {high:.3g}"
    return f" ({effect.level:.0%} interval {shown})"
