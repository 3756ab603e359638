"""The report of trials on a map or on published predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.debias.base import calibration_facts
from eo_causal.debias.card import CalibrationCard
from eo_causal.debias.pseudo_trials import PseudoTrials
from eo_causal.debias.trials import TrialEffects
from eo_causal.report.figures import (
    GREY,
    clean,
    colour_map,
    new_figure,
    save_figure,
)
from eo_causal.report.html import (
    Block,
    Callout,
    KeyNumber,
    Page,
    Paragraph,
    Picture,
    Section,
    Table,
    render,
)
from eo_causal.report.maps import write_cog
from eo_causal.report.results import plain_rows, write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table
from eo_causal.report.wealth_figures import METHODS, effects_figure
from eo_causal.report.wealth_report import (
    BANNER,
    VERDICTS,
    trial_blocks,
    trial_results,
    trial_sentence,
    verdict_of_all,
)

DRIVERS = {
    "outcome": "what was measured decides: the map's errors do not know the rule (regime R1)",
    "prediction": "what the map shows decides (regime R2)",
}


class MapTrialsReportSettings(Settings):
    """How the report looks."""

    units: str = Field(
        default="index points", description="of published predictions; a map knows its own"
    )
    cell_degrees: float = Field(default=0.5, gt=0, description="cells of the maps of predictions")


@dataclass(frozen=True)
class MapTrialsStudy:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    card : CalibrationCard
    trials : tuple of TrialEffects
        On a map.
    summary : DataFrame
        Of the trials, where truth is known.
    predictions : DataFrame or None
        Published ones, with ``outcome``, ``prediction``, ``longitude``, ``latitude``.
    pseudo : PseudoTrials or None
        Trials without treatment on them.
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    card: CalibrationCard
    trials: tuple[TrialEffects, ...]
    summary: pd.DataFrame
    predictions: pd.DataFrame | None
    pseudo: PseudoTrials | None
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str


def write_map_trials_report(
    study: MapTrialsStudy, settings: MapTrialsReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``."""
    answer = headline(study, study.card.units)
    write_results(folder, map_trials_results(study, study.card.units) | {"headline": answer})
    pictures: dict[str, Path] = {}
    if study.trials:
        table = pd.concat([t.effects.assign(trial=t.name) for t in study.trials], ignore_index=True)
        write_table(folder / "tables", "effects", table)
        pictures["effects"] = save_figure(effects_figure(table, {}), folder / "figures", "effects")
    if study.pseudo is not None:
        for name in ("trials", "summary", "verdicts"):
            found = getattr(study.pseudo, name)
            if len(found):
                write_table(folder / "tables", name, found)
        figure = pseudo_figure(study.pseudo.trials)
        pictures["pseudo"] = save_figure(figure, folder / "figures", "pseudo_trials")
    if study.predictions is not None:
        layers = prediction_cells(study.predictions, settings)
        write_cog(folder / "maps" / "predictions.tif", layers, run_id=study.provenance["run_id"],
                  note=BANNER)  # fmt: skip
        pictures["map"] = save_figure(cells_figure(layers), folder / "figures", "map")
    write_table(folder / "tables", "card", study.card.folds)
    page = Page(
        title=study.title, question=study.question, answer=answer, numbers=_numbers(study),
        sections=_sections(study, pictures),
        callouts=[Callout("warning", "For averages only", BANNER)],
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def map_trials_results(study: MapTrialsStudy, units: str) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    found: dict[str, Any] = {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"], "quality": _quality(study),
    }  # fmt: skip
    if study.pseudo is None:
        return found | {
            "regime": {
                "verdict": verdict_of_all(study.trials),
                "evidence": {trial.name: trial.evidence for trial in study.trials},
                "corrector": study.card.method,
            },
            "trials": [trial_results(trial, None, units) for trial in study.trials],
            "summary": {},
        }
    pseudo = study.pseudo
    shares = {
        str(driver): {row["verdict"]: row["share"] for row in plain_rows(part)}
        for driver, part in pseudo.verdicts.groupby("driver", sort=False)
    }
    return found | {
        "regime": {
            "verdict": "differs between trials", "corrector": study.card.method,
            "evidence": {driver: f"{DRIVERS[driver]}: {share}" for driver, share in shares.items()},
        },
        "trials": [_pseudo_trial(row, units) for row in plain_rows(pseudo.trials)],
        "summary": {
            str(driver): {row["method"]: {"slope": row["slope"], "mae": row["mae"], "n": row["n"]}
                          for row in plain_rows(part)}
            for driver, part in pseudo.summary.groupby("driver", sort=False)
        },
        "verdicts": shares,
    }  # fmt: skip


def _pseudo_trial(row: dict[str, Any], units: str) -> dict[str, Any]:
    found = {
        "name": f"{row['driver']}_{row['trial']}", "truth": row["truth"], "n": row["n"],
        "verdict": row["verdict"] or None,
    }  # fmt: skip
    for method, name in (("naive", "naive"), ("lcc", "linear"), ("tweedie", "tweedie")):
        error, value = row[f"std_error_{method}"], row[method]
        found[name] = {
            "estimate": value, "std_error": error, "units": units,
            "interval": [value - 1.96 * error, value + 1.96 * error],
        }  # fmt: skip
    return found


def _quality(study: MapTrialsStudy) -> dict[str, Any]:
    if study.predictions is None:
        mean = study.card.folds.mean(numeric_only=True)
        names = ("r2", "slope", "inverse_slope", "noise_variance", "tie_share")
        return {"card": {name: float(mean[name]) for name in names}}
    facts = calibration_facts(study.predictions["outcome"], study.predictions["prediction"])
    return {"all": {
        "r2": facts.r2, "slope": facts.slope, "slope_error": facts.slope_error,
        "inverse_slope": facts.inverse_slope, "noise_sd": float(np.sqrt(facts.noise_variance)),
        "n": facts.n, "tie_share": facts.tie_share, "rmse": facts.rmse, "flag": ", ".join(facts.flags),
    }}  # fmt: skip


def headline(study: MapTrialsStudy, units: str) -> list[str]:
    """The answer, in a few sentences."""
    if study.pseudo is None:
        return [trial_sentence(trial, units, None) for trial in study.trials]
    quality = _quality(study)["all"]
    sentences = [
        f"Held-out predictions of {quality['n']:,} places have r² {quality['r2']:.3f} and a slope of"
        f" {quality['slope']:.3f} on the truth, that of truth on prediction is"
        f" {quality['inverse_slope']:.3f}."
    ]
    by = study.pseudo.summary.set_index(["driver", "method"])["slope"]
    for driver in dict.fromkeys(study.pseudo.summary["driver"]):
        slopes = ", ".join(
            f"{METHODS[method][1]} {by[driver, method]:.2f}"
            for method in ("naive", "lcc", "tweedie")
        )
        own = study.pseudo.verdicts
        shares = "; ".join(
            f"{VERDICTS[row.verdict]} {row.share:.0%}"
            for row in own[own["driver"] == driver].itertuples()
        )
        text = f"Where {DRIVERS[driver]}: slope of estimate on truth {slopes}."
        sentences.append(text + (f" Verdicts from pilots: {shares}." if shares else ""))
    return sentences


def _numbers(study: MapTrialsStudy) -> list[KeyNumber]:
    quality = next(iter(_quality(study).values()))
    n_trials = len(study.trials or (study.pseudo.trials if study.pseudo else ()))
    return [
        KeyNumber("r²", f"{quality['r2']:.2f}", "of predictions on held-out places"),
        KeyNumber("slope on the truth", f"{quality['slope']:.2f}", "1 = no shrinkage"),
        KeyNumber("offered correction", {"lcc": "linear", "tweedie": "Tweedie"}[study.card.method],
                  "by held-out deciles"),
        KeyNumber("trials", str(n_trials), ""),
    ]  # fmt: skip


def _sections(study: MapTrialsStudy, pictures: dict[str, Path]) -> list[Section]:
    def shown(name: str, caption: str) -> list[Block]:
        return [Picture(pictures[name], caption)] if name in pictures else []

    blocks: list[Block] = shown(
        "effects",
        "Effects with intervals that hold the map's uncertainty; the recommended one is filled.",
    )
    for trial in study.trials:
        blocks += trial_blocks(trial)
    if study.pseudo is not None:
        blocks += [
            *shown("pseudo", "Each dot is a trial without treatment: what the map says against what was"
                   " measured. Left: correct. Right: correcting overshoots."),
            Table(study.pseudo.summary, "How estimates follow the measured contrasts"),
            Table(study.pseudo.verdicts, "Verdicts from pilots"),
            Paragraph("Arms differ although nothing was done to the places. These are contrasts, not"
                      " effects."),
        ]  # fmt: skip
    quality = pd.DataFrame(list(_quality(study).values()))
    return [
        Section("Trials", blocks),
        *([Section("Where predictions err", shown("map", "Means of predictions and of their errors in"
                   " cells."))] if "map" in pictures else []),
        Section("The card", [Table(quality, "Quality of the predictions"),
                             Table(study.card.choice, "Held-out curves behind the offered correction")]),
        Section("Data and counts", [*warning_blocks(study.warnings), ledger_block(study.ledger)]),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip


def pseudo_figure(trials: pd.DataFrame) -> Any:
    """Estimates against measured contrasts, one panel a driver."""
    drivers = list(dict.fromkeys(trials["driver"]))
    figure = new_figure(4.5 * len(drivers), 3.9)
    axes = np.atleast_1d(figure.subplots(1, len(drivers), sharey=True))
    for axis, driver in zip(axes, drivers, strict=True):
        rows = trials[trials["driver"] == driver]
        ends = [rows["truth"].min(), rows["truth"].max()]
        axis.plot(ends, ends, ":", color=GREY, lw=0.9)
        for method in ("naive", "lcc", "tweedie"):
            colour, said = METHODS[method]
            axis.plot(rows["truth"], rows[method], "o", ms=3.5, color=colour, alpha=0.7, label=said)
        axis.set_title(f"driven by the {driver}", loc="left", fontsize=10)
        axis.set_xlabel("measured contrast")
    axes[0].set_ylabel("contrast on the map")
    axes[0].legend(frameon=False)
    return clean(figure)


def prediction_cells(table: pd.DataFrame, settings: MapTrialsReportSettings) -> xr.Dataset:
    """Means of predictions and of prediction less truth in cells of longitude and latitude."""
    step = settings.cell_degrees
    west = np.floor(table["longitude"].min() / step) * step
    north = np.ceil(table["latitude"].max() / step) * step
    column = np.floor((table["longitude"].to_numpy() - west) / step).astype(np.intp)
    row = np.floor((north - table["latitude"].to_numpy()) / step).astype(np.intp)
    shape = (max(int(row.max()) + 1, 2), max(int(column.max()) + 1, 2))
    cell = row * shape[1] + column
    number = np.bincount(cell, minlength=shape[0] * shape[1])
    error = (table["prediction"] - table["outcome"]).to_numpy()
    layers = {}
    for name, values, said in (
        ("prediction", table["prediction"].to_numpy(), "mean prediction"),
        ("error", error, "mean of prediction less truth"),
    ):
        total = np.bincount(cell, values, len(number))
        mean = np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)
        layers[name] = (
            ("y", "x"),
            mean.reshape(shape),
            {"units": settings.units, "long_name": said},
        )
    return xr.Dataset(
        layers,
        coords={
            "latitude": ("y", north - (np.arange(shape[0]) + 0.5) * step),
            "longitude": ("x", west + (np.arange(shape[1]) + 0.5) * step),
        },
    )


def cells_figure(layers: xr.Dataset) -> Any:
    """Prediction and error side by side."""
    figure = new_figure(9.0, 4.4)
    for axis, (name, colours) in zip(
        figure.subplots(1, 2), (("prediction", "batlow"), ("error", "vik")), strict=True
    ):
        values = layers[name]
        reach = float(np.nanquantile(np.abs(values), 0.98))
        low = -reach if name == "error" else float(np.nanquantile(values, 0.02))
        high = reach if name == "error" else float(np.nanquantile(values, 0.98))
        drawn = axis.pcolormesh(
            layers["longitude"], layers["latitude"], values, cmap=colour_map(colours), vmin=low,
            vmax=high, shading="nearest", rasterized=True,
        )  # fmt: skip
        figure.colorbar(drawn, ax=axis, label=values.attrs["long_name"], shrink=0.8)
        axis.set_aspect(1)
        axis.set_xlabel("longitude (°E)")
        axis.set_ylabel("latitude (°N)")
    return clean(figure)
