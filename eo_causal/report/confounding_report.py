"""The report of a study that adjusts for images: results.json, tables, figures and one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.audit.report import AuditReport, audit_block
from eo_causal.core.display import show_number, show_p
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.encode.network_fit import NetworkFit
from eo_causal.estimate.arms import AteResult
from eo_causal.estimate.ate import Estimator
from eo_causal.report.audit_section import (
    audit_results,
    audit_table_block,
    branded,
    registration_callouts,
)
from eo_causal.report.confounding_figures import ESTIMATORS, write_figures
from eo_causal.report.html import (
    Block,
    Callout,
    KeyNumber,
    Level,
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

LEVELS: dict[str, Level] = {"pass": "pass", "warn": "warning", "fail": "fail", "not_run": "open"}
ASSUMPTIONS = (
    "Consistency, no interference: one unit's treatment does not move another unit's outcome.",
    "Ignorability given images and covariates: what moved both the decision and the outcome is a"
    " function of the covariates and of the pixels, at this resolution and in this footprint.",
    "A proxy is not the confounder: an image feature that correlates ρ with it leaves about 1 − ρ² of"
    " the confounding that only the image could remove.",
    "Overlap: places that look alike were both treated and not treated.",
    "Time order: images are from before the treatment.",
    "What an encoder cannot tell apart (its pooling, its augmentations) it cannot adjust for.",
)
DEPARTURES = pd.DataFrame(
    [
        ("estimator", "Hájek", "AIPW: right when either model is"),
        ("folds", "2, by unit (here by place)", "5 x 5, by place: images shared between folds are memorised"),
        ("standard error", "spread of the fold estimates", "influence values, clustered"),
        ("propensities", "clipped at 0.001, labels smoothed by 0.05", "clipped at 0.01, labels as they"
         " are: smoothing pulls the effect towards the naive difference"),
    ],
    columns=["what", "publication", "default"],
)  # fmt: skip
CAPTIONS = {
    "effects": "Estimates with intervals: every set of adjustment variables with every estimator.",
    "overlap": "Propensities of the headline arm, predicted by models that did not see the unit.",
    "balance": "Differences between treated and untreated units in standard deviations, before and"
    " after weighting. The dotted line is 0.1.",
    "calibration": "Among units with a predicted propensity, the share that was treated.",
    "places": "Places whose images and covariates say treated most and least (propensity e).",
    "salience": "What moves the propensity: pixels that raise it are red, pixels that lower it blue.",
    "bounds": "Bounds on the effect when a hidden confounder may move the odds of treatment by Λ.",
}


class ConfoundingReportSettings(Settings):
    """How the report looks."""

    arm: str | None = Field(
        default=None, description="of the headline; the last encoder with the covariates by default"
    )
    estimator: Estimator = Field(default="aipw", description="of the headline")
    units: str = Field(default="outcome units", description="what the outcome is measured in")


@dataclass(frozen=True)
class ConfoundingStudy:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    treatment_name, outcome_name : str
        Columns.
    units : StudyUnits
    chips : DataArray (unit, time, band, y, x)
    failures : DataFrame
        Reads that failed.
    result : AteResult
    arm, estimator : str
        Of the headline.
    audits : dict
        Line of the audit block -> its audits.
    bounds : DataFrame or None
        lambda, lower, upper, interval_lower, interval_upper of the marginal sensitivity model.
    network : NetworkFit or None
        Of the end-to-end network: predictions, salience maps, history.
    design : dict
        Hash, strategy, estimand, registration, as results.json holds them.
    truth : dict or None
        Of a simulated study.
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    treatment_name: str
    outcome_name: str
    units: StudyUnits
    chips: xr.DataArray
    failures: pd.DataFrame
    result: AteResult
    arm: str
    estimator: str
    audits: dict[str, tuple[AuditReport, ...]]
    bounds: pd.DataFrame | None
    network: NetworkFit | None
    design: dict[str, Any]
    truth: dict[str, Any] | None
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @property
    def nuisance(self) -> pd.DataFrame:
        """Out-of-fold predictions of the headline arm, with the units' image keys."""
        found = self.result.nuisance
        keys = self.units.table[["unit_id", "image_key"]]
        return found[found["arm"] == self.arm].merge(keys, on="unit_id", how="left")

    @property
    def block(self) -> pd.DataFrame:
        """The seven lines."""
        return audit_block(self.audits)

    def effect(self, arm: str, estimator: str) -> Any:
        """One row of the effects, None where there is none."""
        effects = self.result.effects
        rows = effects[(effects["arm"] == arm) & (effects["estimator"] == estimator)]
        return next(rows.itertuples(), None)


def write_confounding_report(
    study: ConfoundingStudy, settings: ConfoundingReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``; no coordinate of a place leaves the stage cache."""
    answer = headline(study, settings.units)
    write_results(folder, confounding_results(study, settings.units) | {"headline": answer})
    found = study.result
    tables = {
        "effects": found.effects, "arms": found.arms, "differences": found.differences,
        "balance": found.balance, "calibration": found.calibration, "overlap": found.overlap,
        "nuisance": found.nuisance, "splits": found.splits, "audit": study.block,
    }  # fmt: skip
    tables |= {audit.name: audit.table for audit in _audits(study) if len(audit.table)}
    if study.bounds is not None:
        tables["bounds"] = study.bounds
    if study.network is not None:
        tables |= {"networks": study.network.networks, "training": study.network.history}
    registration = study.audits["registration"][0]
    for name, table in tables.items():
        write_table(folder / "tables", name, branded(table, registration))
    pictures = write_figures(study, folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer,
        numbers=key_numbers(study, settings.units), sections=_sections(study, pictures),
        callouts=registration_callouts(registration),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def confounding_results(study: ConfoundingStudy, units: str) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    found = study.result
    arms = {row["arm"]: row for row in plain_rows(found.arms)}
    overlap = ("clipped_share", "ess_treated", "ess_control", "auc", "calibration_slope")
    balance = ("largest_smd_before", "largest_smd_after")
    lines = {row["line"]: row for row in audit_results(study.block)}
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"], "effect": {"ate": ate_results(found, units)},
        "overlap": {arm: {name: row[name] for name in overlap} for arm, row in arms.items()},
        "balance": {arm: {name: row[name] for name in balance} for arm, row in arms.items()},
        **{
            line: lines[line]
            | {"checks": {audit.name: plain_rows(audit.table) for audit in study.audits[line]}}
            for line in ("leakage", "sensitivity", "spatial")
        },
        "audit": audit_results(study.block),
        "design": study.design, "truth": study.truth,
    }  # fmt: skip


def ate_results(found: AteResult, units: str) -> dict[str, dict[str, Any]]:
    """Average effects as results.json holds them: arm -> estimator -> quantity."""
    ate: dict[str, dict[str, Any]] = {}
    for row in found.effects.to_dict("records"):
        ate.setdefault(row["arm"], {})[row["estimator"]] = {
            "estimate": row["estimate"], "std_error": row["std_error"],
            "interval": [row["lower"], row["upper"]], "units": units, "p_value": row["p_value"],
            "method": f"{row['estimator']}, {row['estimand']}, median of the splits",
        }  # fmt: skip
    return ate


def headline(study: ConfoundingStudy, units: str) -> list[str]:
    """The answer, in a few sentences."""
    row = study.effect(study.arm, study.estimator)
    treated = int(study.units.treatment.sum())
    sentences = [
        f"Adjusted for {_said(study.arm)}, {study.treatment_name} changed {study.outcome_name} by"
        f" {show_number(row.estimate)} {units} on average (95 % interval {show_number(row.lower)} to"
        f" {show_number(row.upper)}; {ESTIMATORS[row.estimator]}, {len(study.units):,} units, {treated:,}"
        f" of them treated; p {show_p(row.p_value)})."
    ]
    plain = _unadjusted(study)
    if plain is not None:
        rest = [
            f"with {_said(arm)} {show_number(other.estimate)}"
            for arm in study.result.arms["arm"]
            if arm != study.arm and (other := study.effect(arm, study.estimator)) is not None
        ]
        listed = "".join(f"; {text}" for text in rest)
        sentences.append(f"Not adjusted, the difference is {show_number(plain.estimate)}{listed}.")
    return [*sentences, audit_sentence(study.block)]


def audit_sentence(block: pd.DataFrame) -> str:
    """Which lines of the audit block stand how."""
    words = {"fail": "failed", "warn": "warned", "pass": "passed", "not_run": "were not run"}
    parts = []
    for status, said in words.items():
        lines = [
            str(line).replace("_", " ") for line in block.loc[block["status"] == status, "line"]
        ]
        if lines:
            parts.append(f"{len(lines)} {said} ({', '.join(lines)})")
    return f"Of seven audits, {'; '.join(parts)}."


def key_numbers(study: ConfoundingStudy, units: str) -> list[KeyNumber]:
    """The row of large numbers."""
    row = study.effect(study.arm, study.estimator)
    arm = study.result.arms.set_index("arm").loc[study.arm]
    numbers = [
        KeyNumber(
            "effect", show_number(row.estimate),
            f"{show_number(row.lower)} to {show_number(row.upper)} {units}",
        ),
        KeyNumber("units", f"{len(study.units):,}", f"{study.units.table['image_key'].nunique():,} places"),
        KeyNumber("effective units", f"{arm['ess_treated']:,.0f} + {arm['ess_control']:,.0f}",
                  "treated + not, after weighting"),
        KeyNumber("clipped", f"{arm['clipped_share']:.1%}", "of the propensities"),
        KeyNumber("largest imbalance", show_number(arm["largest_smd_after"]),
                  f"sd; {show_number(arm['largest_smd_before'])} before weighting"),
    ]  # fmt: skip
    if study.truth is not None:
        numbers.append(KeyNumber("true effect", show_number(study.truth["ate"]), "simulated"))
    return numbers


def _sections(study: ConfoundingStudy, pictures: dict[str, Path]) -> list[Section]:
    found = study.result

    def shown(*names: str) -> list[Block]:
        return [Picture(pictures[name], CAPTIONS[name]) for name in names if name in pictures]

    loud, details = audit_details(study.audits)
    effects = found.effects.drop(columns=["n", "n_effective", "split_low", "split_high"])
    sections = [
        Section("Effects", [*loud, *shown("effects"), Table(effects, "Median over the splits"),
                            *_differences(found, study.estimator)]),
        Section("Audits", [audit_table_block(study.block)]),
        Section("What the answer assumes", [Paragraph(text) for text in ASSUMPTIONS]),
        Section("Overlap and balance", [
            *shown("overlap", "balance", "calibration"),
            Table(found.arms, "Propensity models: out-of-fold quality, effective sample, imbalance"),
        ]),
        Section("What the images say", [*shown("places", "salience"), *network_blocks(study.network)]),
        Section("Audits in detail", [*shown("bounds"), *details]),
        Section("Data and counts", _data_blocks(study)),
    ]  # fmt: skip
    if study.provenance["mode"] == "paper":
        sections.insert(1, Section("As published, and what the default does instead", [
            Table(DEPARTURES, "arXiv 2301.12985 and its software; augmentation is not repeated")]))  # fmt: skip
    return [*sections, *run_sections(study.provenance, study.config_text)]


def audit_details(
    audits: dict[str, tuple[AuditReport, ...]],
) -> tuple[list[Block], list[Block]]:
    """Failed audits, to be said loudly; and every audit with its table."""
    loud: list[Block] = []
    details: list[Block] = []
    for line, several in audits.items():
        for audit in several:
            name = audit.name.replace("_", " ")
            if audit.status == "fail":
                loud.append(Callout("fail", name, audit.text))
            title = line.replace("_", " ")
            own = title if audit.name == line else f"{title}: {name}"
            details.append(Callout(LEVELS[audit.status], own, audit.text))
            if len(audit.table):
                details.append(Table(audit.table))
    return loud, details


def _differences(found: AteResult, estimator: str) -> list[Block]:
    if not len(found.differences):
        return []
    rows = found.differences[found.differences["estimator"] == estimator]
    caption = "Differences between sets of adjustment variables, from paired influence values"
    return [Table(rows.drop(columns="estimator"), caption)]


def network_blocks(network: NetworkFit | None) -> list[Block]:
    """What end-to-end networks are, and whether their maps may be read; nothing without them."""
    if network is None:
        return []
    correlation = network.salience_correlation
    known = "unknown" if correlation is None else f"{correlation:.2f}"
    text = (
        f"Salience maps correlate {known} with those of the same network with random weights; from 0.5"
        " on they show the images more than the network."
    )
    return [Paragraph(text), Table(network.networks, "Networks, one a fold")]


def _data_blocks(study: ConfoundingStudy) -> list[Block]:
    blocks = warning_blocks(study.warnings)
    if len(study.failures):
        blocks.append(Table(study.failures, "Reads that failed, after all retries"))
    covariates = study.units.covariates
    if covariates.shape[1]:
        rows = {
            "covariate": list(covariates.columns), "mean": covariates.mean().to_numpy(),
            "sd": covariates.std().to_numpy(), "missing": covariates.isna().sum().to_numpy(),
        }  # fmt: skip
        blocks.append(Table(pd.DataFrame(rows), "Covariates"))
    blocks.append(ledger_block(study.ledger))
    return blocks


def _audits(study: ConfoundingStudy) -> list[AuditReport]:
    return [audit for audits in study.audits.values() for audit in audits]


def _unadjusted(study: ConfoundingStudy) -> Any:
    effects = study.result.effects
    rows = effects[effects["estimator"] == "difference_in_means"]
    return next(rows.itertuples(), None)


def _said(arm: str) -> str:
    """An arm in words."""
    parts = {"tabular": "the covariates", "image": "the images"}
    words = [
        parts.get(part) or f"the images ({part.removeprefix('image:').replace('_', ' ')})"
        for part in arm.split("+")
    ]
    return " and ".join(words)
