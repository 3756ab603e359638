"""The report of simulated trials: which design choices find that effects differ."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.estimate.heterogeneity_grid import (
    ALPHA,
    AT_BASELINE,
    NO_IMAGE,
    cells,
    choices_summary,
    rejections,
)
from eo_causal.report.heterogeneity_study_figures import MONTE_CARLO, WORLDS, words, write_figures
from eo_causal.report.html import KeyNumber, Page, Paragraph, Picture, Section, Table, render
from eo_causal.report.results import plain_rows, write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table

CAPTIONS = {
    "choices": "What each design choice adds to the tested ratio, all other choices held: least squares on"
    " dummies of the choices within each world, errors clustered by repetition.",
    "ratios": "Every cell of the grid: mean ratio over the repetitions with its 95 % Monte-Carlo interval.",
    "worlds": "What images show and what the effect follows: brightness over the frames of some units of the"
    " first trial, coloured by their true effects.",
}
NAMES = {"autoc": "AUTOC", "qini": "Qini"}
NO_BREAK = "\N{NO-BREAK SPACE}"
METHOD = "least squares on design choices, clustered by repetition"


class HeterogeneityStudyReportSettings(Settings):
    """How the report looks."""

    metric: Literal["autoc", "qini"] = Field(
        default="autoc", description="of the sentences and key numbers; tables have both"
    )


@dataclass(frozen=True)
class SimulatedHeterogeneity:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    settings : TrialStudySettings
    trials : dict
        World -> its chips and units (RepeatedTrials).
    rates : dict
        World -> rates of every ranking (see ``estimate_grid``).
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    settings: Any
    trials: dict[str, Any]
    rates: dict[str, pd.DataFrame]
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @functools.cached_property
    def every(self) -> pd.DataFrame:
        """Rates of all worlds."""
        return pd.concat(self.rates.values(), ignore_index=True)

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """Means of the cells of the grid."""
        return cells(self.every)

    @functools.cached_property
    def choices(self) -> pd.DataFrame:
        """The multivariate summary."""
        return choices_summary(self.every)

    @functools.cached_property
    def rejections(self) -> pd.DataFrame:
        """Shares of tests that find something."""
        return rejections(self.every)

    def found(self, world: str, metric: str) -> pd.Series:
        """Share of tests that find heterogeneity by kind of data, images alone."""
        rows = self.every[(self.every["world"] == world) & (self.every["metric"] == metric)]
        rows = rows[(rows["covariates"] == "no") | rows["encoder"].isna()]
        return (rows["p_value"] < ALPHA).groupby(rows["data"], sort=False).mean()


def write_heterogeneity_study_report(
    study: SimulatedHeterogeneity, settings: HeterogeneityStudyReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``."""
    answer = headline(study, settings.metric)
    write_results(folder, study_results(study) | {"headline": answer})
    tables = {
        "choices": study.choices, "cells": study.cells, "rejections": study.rejections,
        "rates": study.every,
    }  # fmt: skip
    for name, table in tables.items():
        write_table(folder / "tables", name, table)
    pictures = write_figures(study, folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer,
        numbers=key_numbers(study, settings.metric), sections=_sections(study, pictures),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def study_results(study: SimulatedHeterogeneity) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    cases = []
    for row in plain_rows(study.cells):
        half = MONTE_CARLO * row.pop("std_error")
        ratio = {"estimate": row["ratio"], "interval": [row["ratio"] - half, row["ratio"] + half],
                 "units": "1", "method": "mean over repetitions"}  # fmt: skip
        cases.append(row | {"ratio": ratio})
    choices = []
    for row in plain_rows(study.choices):
        lower, upper = row.pop("lower"), row.pop("upper")
        values = {name: row.pop(name) for name in ("estimate", "std_error", "p_value")}
        known = values["estimate"] is not None
        ratio = {**values, "interval": [lower, upper], "units": "1", "method": METHOD}
        choices.append(row | {"ratio": ratio if known else None})
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"],
        "study": {
            "kind": "heterogeneity", "n_units": study.settings.n_units,
            "n_repetitions": study.settings.n_repetitions, "worlds": list(study.rates),
            "cases": cases, "choices": choices, "rejections": plain_rows(study.rejections),
        },
    }  # fmt: skip


def headline(study: SimulatedHeterogeneity, metric: str) -> list[str]:
    """The answer, in a few sentences."""
    settings = study.settings
    sentences = [
        f"In each world, {settings.n_repetitions:,} simulated trials of {settings.n_units:,} units; a test"
        f" finds heterogeneity where its one-sided p-value of {NAMES[metric]} is below {ALPHA:g}."
    ]
    for world in study.rates:
        found = ", ".join(
            f"{'covariates alone' if data == NO_IMAGE else words(data)} in {_percent(share)}"
            for data, share in study.found(world, metric).items()
        )
        if world == "constant":
            row = study.rejections.set_index(["world", "metric"]).loc[world, metric]
            sentences.append(
                f"Where effects do not differ, {_percent(row['rejected'])} of {row['n']:,.0f} tests find"
                f" something all the same (Monte-Carlo error {_percent(row['std_error'])};"
                f" {_percent(ALPHA)} are due)."
            )
        else:
            sentences.append(f"{WORLDS[world].capitalize()}: {found} find it.")
    return sentences + _of_data(study, metric)


def key_numbers(study: SimulatedHeterogeneity, metric: str) -> list[KeyNumber]:
    """The row of large numbers: what the kinds of data add."""
    numbers = []
    for row in _data_rows(study, metric).itertuples():
        numbers.append(
            KeyNumber(WORLDS[row.world], _with_interval(row).partition(NO_BREAK)[0],
                      f"ratio: {words(row.level)} instead of {words(row.baseline)}")
        )  # fmt: skip
    table = study.rejections[study.rejections["metric"] == metric].set_index("world")
    if "constant" in table.index:
        numbers.append(KeyNumber("found where there is none",
                                 _percent(table.loc["constant", "rejected"]), "5 % are due"))  # fmt: skip
    trials = sum(rates["repetition"].nunique() for rates in study.rates.values())
    return [*numbers, KeyNumber("trials", f"{trials:,}", f"of {study.settings.n_units:,} units")]


def _data_rows(study: SimulatedHeterogeneity, metric: str) -> pd.DataFrame:
    """What the last kind of data named in the settings adds to the first, in every world."""
    rows = study.choices[(study.choices["choice"] == "data") & (study.choices["metric"] == metric)]
    images = rows[(rows["level"] != NO_IMAGE) & rows["estimate"].notna()]
    return (
        images[images["level"] == "sequence"] if (images["level"] == "sequence").any() else images
    )


def _of_data(study: SimulatedHeterogeneity, metric: str) -> list[str]:
    parts = [
        f"{_with_interval(row)} ({WORLDS[row.world]})"
        for row in _data_rows(study, metric).itertuples()
        if row.level == "sequence"
    ]
    if not parts:
        return []
    baseline = words(_data_rows(study, metric)["baseline"].iloc[0])
    return [f"Instead of a {baseline}, a sequence adds to the tested ratio: {'; '.join(parts)}."]


def _sections(study: SimulatedHeterogeneity, pictures: dict[str, Path]) -> list[Section]:
    shown = {name: Picture(path, CAPTIONS[name]) for name, path in pictures.items()}
    added = [
        Table(added_table(study.choices, metric), f"Added to the ratio of {name}, with 95 % interval; the"
              " first row is the ratio with no choice changed.")
        for metric, name in NAMES.items()
    ]  # fmt: skip
    every = [
        Table(world_table(study.cells, world), f"{WORLDS[world].capitalize()}. Ratios: means over the"
              " repetitions; found: share of p-values below 0.05; correlation: of predicted with true effects.")
        for world in study.rates
    ]  # fmt: skip
    often = study.rejections.replace({"world": WORLDS, "metric": NAMES})
    return [
        Section("Which choices find it", [shown["choices"], *added]),
        Section("Every combination", [shown["ratios"], *every]),
        Section("The worlds", [shown["worlds"], *map(Paragraph, _design(study))]),
        Section("How often anything is found", [
            Table(often, "Share of p-values below 0.05 over all rankings of a world; std error: rankings of"
                         " one trial depend on one another."),
        ]),
        Section("Data and counts", [*warning_blocks(study.warnings), ledger_block(study.ledger)]),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip


def added_table(choices: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The summary of one metric in words: a row a level, a column a world."""
    own = choices[choices["metric"] == metric]
    columns = {
        WORLDS[world]: [_with_interval(row) for row in rows.itertuples()]
        for world, rows in own.groupby("world", sort=False)
    }
    first = own[own["world"] == own["world"].iloc[0]]
    names = {
        "choice": first["choice"].tolist(),
        "level": [words(level) for level in first["level"]],
        "instead_of": [words(level) for level in first["baseline"]],
    }
    return pd.DataFrame(names | columns)


def world_table(table: pd.DataFrame, world: str) -> pd.DataFrame:
    """The cells of one world: both metrics in a row, what is empty left out."""
    own = table[table["world"] == world]
    keys = ["data", "encoder", "covariates", "learner"]
    autoc, qini = (own[own["metric"] == metric].reset_index(drop=True) for metric in NAMES)
    wide = autoc[keys].map(lambda value: None if pd.isna(value) else words(value))
    wide["AUTOC ratio"], wide["found"] = autoc["ratio"], autoc["rejected"]
    wide["Qini ratio"], wide["found by Qini"] = qini["ratio"], qini["rejected"]
    wide["correlation"] = autoc["correlation"]
    return wide.dropna(axis="columns", how="all")


def _with_interval(row: Any) -> str:
    if pd.isna(row.estimate):
        return "–"
    sign = "" if row.choice == AT_BASELINE else "+"
    middle, low, high = (round(value, 2) + 0.0 for value in (row.estimate, row.lower, row.upper))
    text = f"{middle:{sign}.2f} [{low:.2f}, {high:.2f}]"  # + 0.0: never -0
    return text.replace("-", "−").replace(" ", NO_BREAK)


def _design(study: SimulatedHeterogeneity) -> list[str]:
    settings = study.settings
    return [
        f"Images of {settings.size_pixels} × {settings.size_pixels} pixels in {settings.n_frames} frames:"
        " brightness goes from a, N(0, 2²), to a + c, c ~ N(0, 1), with noise N(0, 0.1²) in each frame, round"
        " a texture that stays. Treatment: a coin. Outcome: 0.3 a + W τ + N(0, 1).",
        "Effects τ: 0.75 + 0.5 c (in the change), 0.75 + 0.5 (a + c)/√5 (in the last level), 0.75 (none)."
        " A repetition has the same images, treatments and errors in every world.",
        f"The covariate is a + N(0, {settings.survey_error:g}²): what a survey says of the first level."
        " Beside the last image it says something of the change, too.",
        "Tests are sequential: effects are learned on some folds and ranked on the next (arXiv 2405.05534)."
        " The grid and its summary follow arXiv 2407.11674, on simulated trials.",
    ]


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", f"{NO_BREAK}%")
