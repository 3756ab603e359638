"""The report of simulated trials whose outcome is predicted: which correction follows the true effects."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.report.figures import GREY, clean, new_figure, save_figure
from eo_causal.report.html import KeyNumber, Page, Paragraph, Picture, Section, Table, render
from eo_causal.report.results import plain_rows, write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table
from eo_causal.report.wealth_figures import METHODS

UNITS = "1"
KEYS = {"naive": "naive", "lcc": "linear", "tweedie": "tweedie", "ppi": "ppi"}
PAPER = "arXiv 2508.01341"


class NetworkTrialsReportSettings(Settings):
    """What stands beside the numbers."""

    published_slope: dict[str, float] = Field(
        default={"naive": 0.5346, "lcc": 1.0068, "tweedie": 0.9947, "ppi": 0.9834},
        description=f"of estimate on effect over 50 trials, {PAPER}",
    )


@dataclass(frozen=True)
class NetworkTrialsStudy:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    trials : DataFrame
        One row a trial: name, truth, n, facts of its calibration, corrector, flags.
    effects : DataFrame
        name, truth, method (naive, lcc, tweedie, ppi), estimate, std_error, lower, upper.
    summary : DataFrame
        method, slope (of estimate on truth), mae, rmse, coverage, n.
    n_labels : int
        Measured units of each trial, for PPI.
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    trials: pd.DataFrame
    effects: pd.DataFrame
    summary: pd.DataFrame
    n_labels: int
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str


def write_network_trials_report(
    study: NetworkTrialsStudy, settings: NetworkTrialsReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``."""
    published = settings.published_slope
    answer = headline(study, published)
    write_results(folder, network_trials_results(study, published) | {"headline": answer})
    compared = study.summary.assign(published_slope=study.summary["method"].map(published))
    for name, table in (
        ("summary", compared), ("effects", study.effects), ("trials", study.trials)
    ):  # fmt: skip
        write_table(folder / "tables", name, table)
    picture = save_figure(effects_figure(study), folder / "figures", "effects")
    numbers = [
        KeyNumber(METHODS[row["method"]][1], f"{row['slope']:.2f}", "slope on the true effect")
        for row in plain_rows(study.summary)
    ]
    page = Page(
        title=study.title, question=study.question, answer=answer, numbers=numbers,
        sections=_sections(study, compared, picture),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def network_trials_results(
    study: NetworkTrialsStudy, published: dict[str, float]
) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    effects = dict(iter(study.effects.groupby("name", sort=False)))
    rows = {row["method"]: row for row in plain_rows(study.summary)}
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"],
        "trials": [_trial(row, effects[row["name"]]) for row in plain_rows(study.trials)],
        "summary": {
            method: {name: row[name] for name in ("slope", "mae", "n")} for method, row in rows.items()
        },
        "published": [
            {"quantity": f"slope of {METHODS[method][1]} estimates on effects", "published": slope,
             "here": rows[method]["slope"]}
            for method, slope in published.items() if method in rows
        ],
    }  # fmt: skip


def _trial(row: dict[str, Any], effects: pd.DataFrame) -> dict[str, Any]:
    found = {
        KEYS[own["method"]]: {
            "estimate": own["estimate"], "std_error": own["std_error"],
            "interval": [own["lower"], own["upper"]], "units": UNITS,
        }
        for own in plain_rows(effects)
    }  # fmt: skip
    flags = [flag for flag in (row["flags"] or "").split(", ") if flag]
    return {key: row[key] for key in ("name", "truth", "n")} | {
        "verdict": None, "flags": flags, **found
    }  # fmt: skip


def headline(study: NetworkTrialsStudy, published: dict[str, float]) -> list[str]:
    """The answer, in a few sentences."""
    rows = plain_rows(study.summary)
    slopes = ", ".join(_beside(row, published) for row in rows)
    errors = ", ".join(f"{METHODS[row['method']][1]} {row['mae']:.3f}" for row in rows)
    n = int(study.trials["n"].iloc[0])
    return [
        f"In {len(study.trials)} simulated trials of {n:,} units, slope of estimate on true effect:"
        f" {slopes}.",
        f"Mean absolute error: {errors}.",
    ]


def _beside(row: dict[str, Any], published: dict[str, float]) -> str:
    text = f"{METHODS[row['method']][1]} {row['slope']:.3f}"
    known = published.get(row["method"])
    return text if known is None else f"{text} (published {known:.4f})"


def effects_figure(study: NetworkTrialsStudy) -> Any:
    """Estimates against true effects, one panel a method."""
    figure = new_figure(11.0, 3.4)
    axes = figure.subplots(1, len(study.summary), sharex=True, sharey=True)
    ends = [study.effects["truth"].min(), study.effects["truth"].max()]
    for axis, row in zip(axes, study.summary.itertuples(), strict=True):
        own = study.effects[study.effects["method"] == row.method]
        colour, said = METHODS[row.method]
        axis.plot(ends, ends, ":", color=GREY, lw=0.9)
        axis.vlines(own["truth"], own["lower"], own["upper"], color=colour, alpha=0.35, lw=1.4)
        axis.plot(own["truth"], own["estimate"], "o", ms=3, color=colour)
        axis.set_title(f"{said}: slope {row.slope:.2f}", loc="left", fontsize=10)
        axis.set_xlabel("true effect")
    axes[0].set_ylabel("estimate")
    return clean(figure)


def _sections(study: NetworkTrialsStudy, compared: pd.DataFrame, picture: Path) -> list[Section]:
    return [
        Section("Estimates and true effects", [
            Picture(picture, "Each dot is a trial with its 95 % interval; on the dotted line estimates are"
                    " right."),
            Table(compared.assign(method=[METHODS[name][1] for name in compared["method"]]),
                  f"How estimates follow the effects, and what {PAPER} published"),
        ]),
        Section("How trials are simulated", [
            Paragraph("A confounder decides who is treated and adds to the outcome. The outcome is seen"
                      " only through a random network that is new in every trial, and a predictor learns"
                      " it back; so predictions are shrunken, but their errors do not know treatment"
                      " (regime R1). Effects weight by the true propensity (Horvitz-Thompson)."),
            Paragraph("Rows that train the predictor, rows that stop its training and rows that calibrate"
                      " it are three different parts; in the publication the last two are one. PPI (in its"
                      f" tuned form, PPI++) uses {study.n_labels} measured units of each trial, the"
                      " corrections none."),
            Paragraph("The mean prediction bends with the outcome, differently for every network. Linear"
                      " calibration takes it for a line, so a small bias stays in each trial and its"
                      " intervals hold the effect a little less often than 95 %."),
            Table(study.trials, "Trials and their calibration"),
        ]),
        Section("Data and counts", [*warning_blocks(study.warnings), ledger_block(study.ledger)]),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip
