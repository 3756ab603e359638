"""The report of a wealth map: results.json, maps with their card, tables, figures and one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.display import show_number
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.debias.base import FOLDS_OPTIMISTIC, calibration_facts
from eo_causal.debias.card import CalibrationCard, CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.trials import TrialEffects, summary_of_trials
from eo_causal.estimate.outcome import OutcomeFit
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
from eo_causal.report.results import plain_rows, write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table
from eo_causal.report.wealth_figures import write_figures
from eo_causal.report.wealth_maps import write_wealth_map

BANNER = (
    "Values of this map are for averages over many places. Corrected values are further from the truth of"
    " a single place than the prediction is: do not rank places or choose whom to help with them."
)
VERDICTS = {
    "none": "do not correct: report the map's own contrast",
    "lcc": "correct by linear calibration",
    "tweedie": "correct by Tweedie's formula",
    "bounds": "report the bounds of both",
    "collect-labels": "undecided: measure more places of the trial",
}
FACTS = ("r2", "slope", "inverse_slope", "noise_sd", "n", "tie_share", "rmse")


class WealthReportSettings(Settings):
    """How the report looks."""

    units: str = Field(default="index points", description="what the outcome is measured in")


@dataclass(frozen=True)
class WealthStudy:
    """Everything the report is made of.

    Attributes
    ----------
    title, question, outcome_name : str
    fit : OutcomeFit
    quality : DataFrame
        Of :func:`quality_table`.
    card : CalibrationCard
    parts : list of DataArray (y, x, layer)
        The map, from the north.
    threshold : float
        Dissimilarity up to which a cell is inside the area of applicability.
    trials : tuple of TrialEffects
    summary : DataFrame
        Of :func:`eo_causal.debias.trials.summary_of_trials`.
    truth : dict or None
        Of a simulated country.
    failures, ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    outcome_name: str
    fit: OutcomeFit
    quality: pd.DataFrame
    card: CalibrationCard
    parts: list[xr.DataArray]
    threshold: float
    trials: tuple[TrialEffects, ...]
    summary: pd.DataFrame
    truth: dict[str, Any] | None
    failures: pd.DataFrame
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @property
    def effects(self) -> pd.DataFrame:
        """Of all trials and methods: ``trial`` and the columns of ``TrialEffects.effects``."""
        tables = [trial.effects.assign(trial=trial.name) for trial in self.trials]
        if not tables:
            return pd.DataFrame()
        found = pd.concat(tables, ignore_index=True)
        return found[["trial", *[name for name in found if name != "trial"]]]


def quality_table(fit: OutcomeFit, random: OutcomeFit) -> pd.DataFrame:
    """How good predictions are: by spatial blocks, and by random folds, which flatter.

    Returns
    -------
    DataFrame
        ``folds`` (blocks, random), ``r2``, ``slope`` (k, of prediction on truth) and ``slope_error``,
        ``inverse_slope`` (b, of truth on prediction), ``noise_sd``, ``n``, ``tie_share``, ``rmse``,
        ``flag`` (``folds_optimistic`` where the slopes differ by more than two errors).
    """
    rows = []
    for name, found in (("blocks", fit), ("random", random)):
        table = found.predictions
        facts = calibration_facts(table["outcome"], table["outcome_pred"], cluster=table["cluster"])
        rows.append({
            "folds": name, "r2": facts.r2, "slope": facts.slope, "slope_error": facts.slope_error,
            "inverse_slope": facts.inverse_slope, "noise_sd": float(np.sqrt(facts.noise_variance)),
            "n": facts.n, "tie_share": facts.tie_share, "rmse": facts.rmse,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    apart = table["slope"].iloc[1] - table["slope"].iloc[0]
    error = float(np.hypot(*table["slope_error"]))
    count(units_judged=int(table["n"].iloc[0]))
    return table.assign(flag=["", FOLDS_OPTIMISTIC if apart > 2 * error else ""])


def fit_survey_card(
    fit: OutcomeFit, settings: CardSettings, units: str, *, seed: int
) -> CalibrationCard:
    """The card of the survey's models; see :func:`eo_causal.debias.card_fit.fit_card`."""
    pairs = fit.calibration
    return fit_card(
        pairs["outcome"], pairs["outcome_pred"], pairs["fold"], unit_ids=pairs["unit_id"],
        cluster=pairs["cluster"], settings=settings, units=units, seed=seed,
    )  # fmt: skip


def placebo_groups(
    fit: OutcomeFit, places: geopandas.GeoDataFrame, region: str | None
) -> pd.DataFrame | None:
    """``outcome``, ``prediction``, ``group`` of surveyed places; None without regions."""
    if region is None:
        return None
    table = fit.predictions
    group = places.set_index("unit_id")[region].reindex(table["unit_id"]).to_numpy()
    return pd.DataFrame({
        "outcome": table["outcome"], "prediction": table["outcome_pred"], "group": group,
    })  # fmt: skip


def summary_of_study(
    trials: tuple[TrialEffects, ...], truth: dict[str, Any] | None
) -> pd.DataFrame:
    """:func:`~eo_causal.debias.trials.summary_of_trials` of a country with its truth."""
    return summary_of_trials(trials, None if truth is None else truth["trials"])


def verdict_of_all(trials: tuple[TrialEffects, ...]) -> str:
    """The one verdict of all trials, or that they differ."""
    verdicts = list(dict.fromkeys(trial.verdict for trial in trials))
    if not verdicts:
        return "no trials"
    return verdicts[0] if len(verdicts) == 1 else "differs between trials"


def write_wealth_report(
    study: WealthStudy, settings: WealthReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``."""
    facts = write_wealth_map(
        folder / "maps", study.parts, study.card, study.threshold,
        run_id=study.provenance["run_id"], units=settings.units,
    )  # fmt: skip
    answer = headline(study, settings.units)
    write_results(folder, wealth_results(study, settings.units, facts) | {"headline": answer})
    for name, table in _tables(study).items():
        if len(table):
            write_table(folder / "tables", name, table)
    pictures = write_figures(study, folder / "maps" / "wealth.tif", folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer,
        numbers=_numbers(study, facts), sections=_sections(study, pictures, facts),
        callouts=[Callout("warning", "For averages only", BANNER)],
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def wealth_results(study: WealthStudy, units: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"],
        "quality": {
            row["folds"]: {name: row[name] for name in (*FACTS, "slope_error")} | {"flag": row["flag"]}
            for row in plain_rows(study.quality)
        },
        "regime": {
            "verdict": verdict_of_all(study.trials),
            "evidence": {trial.name: trial.evidence for trial in study.trials},
            "corrector": study.card.method,
        },
        "trials": [trial_results(trial, study.truth, units) for trial in study.trials],
        "summary": {row["method"]: {"slope": row["slope"], "mae": row["mae"], "n": row["n"]}
                    for row in plain_rows(study.summary)},
        "map": facts | {"units": units, "flags": list(study.card.flags)},
        "truth": study.truth,
    }  # fmt: skip


def trial_results(trial: TrialEffects, truth: dict[str, Any] | None, units: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": trial.name, "n": trial.n, "n_treated": trial.n_treated, "n_pilot": trial.n_pilot,
        "verdict": trial.verdict, "share_inside": trial.share_inside, "flags": list(trial.flags),
    }  # fmt: skip
    if truth is not None and trial.name in truth["trials"]:
        found["truth"] = truth["trials"][trial.name]
    for row in plain_rows(trial.effects):
        name = {"lcc": "linear"}.get(row["method"], row["method"])
        found[name] = {
            "estimate": row["estimate"], "std_error": row["std_error"],
            "std_error_map_fixed": row["std_error_map_fixed"],
            "interval": [row["lower"], row["upper"]], "units": units,
            "recommended": row["recommended"],
        }  # fmt: skip
    return found


def headline(study: WealthStudy, units: str) -> list[str]:
    """The answer, in a few sentences."""
    blocks = study.quality.iloc[0]
    sentences = [
        f"Predicted out of fold by blocks, {study.outcome_name} correlates"
        f" {np.sqrt(blocks['r2']):.2f} with what was measured at {int(blocks['n']):,} places; differences"
        f" on the map are {blocks['slope']:.2f} of the true ones, so that effects which reach the image"
        f" through {study.outcome_name} come out too small by 1 − {blocks['slope']:.2f}."
    ]
    known = (study.truth or {}).get("trials", {})
    sentences += [trial_sentence(trial, units, known.get(trial.name)) for trial in study.trials]
    return sentences


def trial_sentence(trial: TrialEffects, units: str, truth: float | None) -> str:
    """The verdict and the recommended effect of a trial."""
    naive = trial.effects.set_index("method").loc["naive"]
    best = trial.effects[trial.effects["recommended"]]
    text = (
        f"{trial.name.replace('_', ' ').capitalize()}: {VERDICTS[trial.verdict]}. The map's own contrast is"
        f" {show_number(naive['estimate'])} {units}"
    )
    if len(best) and best["method"].iloc[0] != "naive":
        row = best.iloc[0]
        value = "" if not np.isfinite(row["estimate"]) else f"{show_number(row['estimate'])} "
        text += f", recommended {value}({show_number(row['lower'])} to {show_number(row['upper'])})"
    else:
        text += f" ({show_number(naive['lower'])} to {show_number(naive['upper'])})"
    return text + ("." if truth is None else f"; the truth is {show_number(truth)}.")


def trial_blocks(trial: TrialEffects) -> list[Block]:
    """The verdict of a trial with its evidence, and its effects."""
    decided = trial.verdict in ("none", "lcc", "tweedie")
    said = f"{trial.name.replace('_', ' ')}: {VERDICTS[trial.verdict]}"
    caption = (
        f"{trial.n} places, {trial.n_treated} treated, {trial.n_pilot} measured;"
        f" {trial.share_inside:.0%} like the survey"
    )
    return [
        Callout("info" if decided else "warning", said, trial.evidence),
        Table(trial.effects, caption),
    ]


def _numbers(study: WealthStudy, facts: dict[str, Any]) -> list[KeyNumber]:
    blocks, random = study.quality.iloc[0], study.quality.iloc[1]
    return [
        KeyNumber("R², by blocks", f"{blocks['r2']:.2f}", f"{random['r2']:.2f} by random folds"),
        KeyNumber("slope on the truth", f"{blocks['slope']:.2f}", "1 = no shrinkage"),
        KeyNumber("map", f"{facts['n_mapped']:,}", f"of {facts['n_cells']:,} cells"),
        KeyNumber("like the survey", f"{facts['share_inside']:.0%}", "of the cells of the map"),
        KeyNumber("offered correction", {"lcc": "linear", "tweedie": "Tweedie"}[study.card.method],
                  "by held-out deciles"),
    ]  # fmt: skip


def _sections(
    study: WealthStudy, pictures: dict[str, Path], facts: dict[str, Any]
) -> list[Section]:
    def shown(name: str, caption: str) -> list[Block]:
        return [Picture(pictures[name], caption)] if name in pictures else []

    trials = [block for trial in study.trials for block in trial_blocks(trial)]
    card = study.card.folds[["fold", "n", "r2", "slope", "inverse_slope", "held_out_rms_lcc",
                             "held_out_rms_tweedie"]]  # fmt: skip
    return [
        Section("Trials on the map", [
            *shown("effects", "Effects with intervals that hold the map's uncertainty; the"
                   " recommended one is filled."),
            *trials, *([Table(study.summary, "How estimates follow the true effects: slope and mean"
                              " absolute error")] if len(study.summary) else [])]),
        Section("The map", [
            *shown("map", "Predicted outcome of every cell; hatched: unlike the survey."),
            Paragraph(f"Bands: prediction, corrected value for averages, its error as a reading of one"
                      f" place, area of applicability. {facts['share_inside']:.0%} of the cells look like"
                      " surveyed places."), Callout("warning", "For averages only", BANNER)]),
        Section("How good predictions are", [
            *shown("quality", "Left: predicted against measured, out of fold. Right: what is left after"
                   " each correction by decile of the truth; 0 is ideal."),
            Table(study.quality, "Out of fold: k is the slope of prediction on truth, b of truth on"
                  " prediction")]),
        Section("The map's card", [
            Paragraph("Trained on the survey's images, out of fold; each fold's model is calibrated on the"
                      " next fold. Intended: averages and contrasts of many places, with the verdict of each"
                      " contrast. Forbidden: ranking or targeting of places, group means corrected after"
                      " averaging, places unlike the survey."),
            Table(card, "Calibration of the models"),
            Table(study.card.choice, "Held-out curves behind the choice of the correction")]),
        Section("Data and counts", [
            *warning_blocks(study.warnings),
            *([Table(study.failures, "Reads that failed")] if len(study.failures) else []),
            ledger_block(study.ledger)]),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip


def _tables(study: WealthStudy) -> dict[str, pd.DataFrame]:
    tables = {
        "predictions": study.fit.predictions, "calibration": study.fit.calibration,
        "quality": study.quality, "effects": study.effects, "summary": study.summary,
        "card": study.card.folds, "card_choice": study.card.choice,
    }  # fmt: skip
    return tables | {f"diagnosis_{trial.name}": trial.diagnosis for trial in study.trials}
