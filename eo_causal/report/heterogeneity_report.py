"""The report of a study of effect heterogeneity: results.json, tables, maps, figures and one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.audit.report import AuditReport, audit_block
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.encode.network_fit import NetworkFit
from eo_causal.estimate.arms import AteResult
from eo_causal.estimate.cluster_study import ClusterStudy
from eo_causal.estimate.drivers import Drivers
from eo_causal.estimate.heterogeneity import HeterogeneityResult
from eo_causal.estimate.heterogeneity_grid import choices_summary
from eo_causal.ingest.class_shares import LandCoverClasses
from eo_causal.report.audit_section import audit_results, branded, registration_callouts
from eo_causal.report.confounding_report import ate_results
from eo_causal.report.heterogeneity_figures import write_figures
from eo_causal.report.heterogeneity_sections import headline, key_numbers, sections
from eo_causal.report.html import Page, render
from eo_causal.report.maps import rasterised, write_cog
from eo_causal.report.results import plain_rows, write_results
from eo_causal.report.tables import write_table

FEWEST_RANKINGS = 4
MAP_NOTE = (
    "Effects carried from a trial by images. Cells without a value look unlike the trial, so that it"
    " cannot speak of them. A prediction for an average, not for one place."
)


class HeterogeneityReportSettings(Settings):
    """How the report looks."""

    arm: str | None = Field(
        default=None, description="of the headline; the images of the last encoder by default"
    )
    learner: str | None = Field(default=None, description="of the headline; the first by default")
    units: str = Field(default="outcome units", description="what the outcome is measured in")


@dataclass(frozen=True)
class Elsewhere:
    """Effects at places outside the trial, by one encoder.

    Attributes
    ----------
    where : DataFrame
        unit_id, longitude, latitude, area; in the order of ``places``.
    places, areas : DataFrame
        Of :class:`eo_causal.estimate.transport.Transported`.
    cell_m : float
        Cell of the map.
    """

    where: pd.DataFrame
    places: pd.DataFrame
    areas: pd.DataFrame
    cell_m: float

    @property
    def table(self) -> pd.DataFrame:
        """``places`` with longitude and latitude."""
        return self.places.assign(
            longitude=self.where["longitude"].to_numpy(), latitude=self.where["latitude"].to_numpy()
        )

    @property
    def supported(self) -> float:
        """Share of the places that look like the trial."""
        return float(self.places["in_support"].mean())


@dataclass(frozen=True)
class HeterogeneityStudy:
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
    ate : AteResult
        Average effects.
    result : HeterogeneityResult
        All rankings.
    ranking : (arm, learner)
        Of the headline.
    cate : DataFrame
        ``cate`` and ``score`` of the units by that ranking.
    drivers : Drivers
    land_cover : LandCoverClasses or None
        Which map of classes was read.
    shares : DataFrame or None
        What it says of each footprint.
    elsewhere : dict
        Encoder -> effects outside the trial; the last one is in the headline.
    network : NetworkFit or None
    clusters : ClusterStudy or None
    audits : dict
        Line of the audit block -> its audits.
    design, truth, ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    treatment_name: str
    outcome_name: str
    units: StudyUnits
    chips: xr.DataArray
    failures: pd.DataFrame
    ate: AteResult
    result: HeterogeneityResult
    ranking: tuple[str, str]
    cate: pd.DataFrame
    drivers: Drivers
    land_cover: LandCoverClasses | None
    shares: pd.DataFrame | None
    elsewhere: dict[str, Elsewhere]
    network: NetworkFit | None
    clusters: ClusterStudy | None
    audits: dict[str, tuple[AuditReport, ...]]
    design: dict[str, Any]
    truth: dict[str, Any] | None
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @property
    def block(self) -> pd.DataFrame:
        """The seven lines."""
        return audit_block(self.audits)

    @property
    def groups(self) -> pd.DataFrame:
        """Effects by group of predicted effect, of the headline."""
        return self.own(self.result.groups)

    @property
    def choices(self) -> pd.DataFrame:
        """What images, covariates and learners add to the tested ratio; no rows for few rankings."""
        if len(self.result.rates) < 2 * FEWEST_RANKINGS:
            return pd.DataFrame()
        found = choices_summary(self.result.rates)
        return found[["metric", "choice", "level", "baseline", "n", "estimate"]]

    @property
    def headline_elsewhere(self) -> Elsewhere:
        """Effects outside the trial by the encoder of the headline."""
        return list(self.elsewhere.values())[-1]

    @property
    def map_label(self) -> str:
        """Of the colours of the map."""
        return f"predicted effect on {self.outcome_name}"

    @property
    def cate_by_image(self) -> pd.DataFrame:
        """``image_key`` and mean predicted effect of its units."""
        keys = self.units.table[["unit_id", "image_key"]]
        joined = self.cate.merge(keys, on="unit_id")
        return joined.groupby("image_key", as_index=False)["cate"].mean()

    @property
    def map_agreement(self) -> dict[str, float | None]:
        """Pairs of encoders -> rank correlation of their maps."""
        return map_agreement(self.elsewhere)

    def own(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the ranking of the headline, without its names."""
        if not len(table):
            return table
        arm, learner = self.ranking
        rows = table[(table["arm"] == arm) & (table["learner"] == learner)]
        return rows.drop(columns=["arm", "learner"]).reset_index(drop=True)

    def rate(self, metric: str) -> Any:
        """The row of ``rates`` of the headline."""
        return self.own(self.result.rates).set_index("metric").loc[metric]


def write_heterogeneity_report(
    study: HeterogeneityStudy, settings: HeterogeneityReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``.

    No coordinate of a study unit leaves the stage cache; those of places outside the trial do, in
    the maps.
    """
    answer = headline(study, settings.units)
    write_results(folder, heterogeneity_results(study, settings.units) | {"headline": answer})
    registration = study.audits["registration"][0]
    for name, table in _tables(study).items():
        write_table(folder / "tables", name, branded(table, registration))
    for name, elsewhere in study.elsewhere.items():
        _write_map(folder / "maps" / f"effect_{name}.tif", elsewhere, study, settings.units)
    pictures = write_figures(study, folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer,
        numbers=key_numbers(study, settings.units), sections=sections(study, pictures),
        callouts=registration_callouts(registration),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def heterogeneity_results(study: HeterogeneityStudy, units: str) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    lines = {row["line"]: row for row in audit_results(study.block)}
    calibration = {
        row["term"]: _quantity(row, "1")
        for row in study.own(study.result.calibration).to_dict("records")
    }
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"],
        "effect": {"ate": ate_results(study.ate, units)},
        "rate": _rates(study, units),
        "cate": {
            "ranking": ranking_key(*study.ranking),
            "calibration": calibration,
            "groups": plain_rows(study.groups),
            "drivers": plain_rows(study.drivers.components),
            "land_cover": plain_rows(study.drivers.land_cover),
        },
        "transport": _transport(study, units),
        "leakage": lines["leakage"], "spatial": lines["spatial"],
        "audit": audit_results(study.block), "design": study.design, "truth": _truth(study),
    }  # fmt: skip


def ranking_key(arm: str, learner: str) -> str:
    """``<arm>/<encoder>/<learner>``, for example ``image+tabular/sequence/dr``.

    >>> ranking_key("image:sequence+tabular", "dr"), ranking_key("tabular", "t")
    ('image+tabular/sequence/dr', 'tabular/none/t')
    """
    source, _, rest = arm.partition("+")
    kind, _, encoder = source.partition(":")
    return f"{kind}{'+' + rest if rest else ''}/{encoder or 'none'}/{learner}"


def _rates(study: HeterogeneityStudy, units: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in study.result.rates.to_dict("records"):
        found.setdefault(ranking_key(row["arm"], row["learner"]), {})[row["metric"]] = {
            "estimate": row["estimate"], "std_error": row["std_error"], "ratio": row["ratio"],
            "p_value": row["p_value"], "p_adjusted": row["p_adjusted"], "units": units,
            "split_range": [row["split_low"], row["split_high"]], "n_splits": row["n_splits"],
            "method": "sequential over folds, half-samples of clusters, median of the splits",
        }  # fmt: skip
    return found


def _transport(study: HeterogeneityStudy, units: str) -> dict[str, Any] | None:
    if not study.elsewhere:
        return None
    found: dict[str, Any] = {
        name: {
            "n_places": len(each.places), "share_in_support": each.supported,
            "areas": {
                str(row["area"]): {
                    "n_places": row["n"], "n_in_support": row["n_in_support"],
                    "average": _quantity(row, units), "average_of_all_places": row["estimate_all"],
                }
                for row in each.areas.to_dict("records")
            },
        }
        for name, each in study.elsewhere.items()
    }  # fmt: skip
    return {"encoders": found, "rank_correlation": study.map_agreement}


def map_agreement(elsewhere: dict[str, Elsewhere]) -> dict[str, float | None]:
    """Rank correlation of predicted effects between encoders, over places that both support."""
    from itertools import combinations

    from scipy.stats import spearmanr

    found: dict[str, float | None] = {}
    for one, other in combinations(elsewhere, 2):
        first, second = elsewhere[one].places, elsewhere[other].places
        both = (first["in_support"] & second["in_support"]).to_numpy(dtype=bool)
        ranks = first["cate"].to_numpy()[both], second["cate"].to_numpy()[both]
        varies = both.sum() > 2 and all(np.ptp(values) > 0 for values in ranks)
        found[f"{one} {other}"] = float(spearmanr(*ranks).statistic) if varies else None
    return found


def _truth(study: HeterogeneityStudy) -> dict[str, Any] | None:
    """Of a simulated study: the mean effect, and how close predictions come to each unit's."""
    truth = study.truth
    if truth is None:
        return None
    found: dict[str, Any] = {"ate": truth["ate"], "modifier": truth["modifier"]}
    true = study.cate["unit_id"].map(truth["effects"])
    found["correlation"] = float(np.corrcoef(true, study.cate["cate"])[0, 1])
    places = study.headline_elsewhere.places if study.elsewhere else pd.DataFrame({"unit_id": []})
    kinds = places["unit_id"].map(truth["kinds"])
    if len(places) and kinds.notna().all():
        found |= _truth_elsewhere(places, (kinds == "same").to_numpy(), truth)
    return {name: value for name, value in found.items() if value is not None}


def _truth_elsewhere(
    places: pd.DataFrame, same: NDArray[np.bool_], truth: dict[str, Any]
) -> dict[str, float | None]:
    """Was the mask right, and are effects where it shows them?"""
    inside = places["in_support"].to_numpy(dtype=bool)
    own = places[inside & same]
    there = own["unit_id"].map(truth["elsewhere_effects"])
    return {
        "other_kind_out_of_support": float((~inside[~same]).mean()) if (~same).any() else None,
        "same_kind_out_of_support": float((~inside[same]).mean()) if same.any() else None,
        "correlation_elsewhere": float(np.corrcoef(there, own["cate"])[0, 1]) if len(own) > 2 else None,
    }  # fmt: skip


def _quantity(row: dict[Any, Any], units: str) -> dict[str, Any] | None:
    """None where there is nothing to average."""
    if not np.isfinite(row["estimate"]):
        return None
    return {
        "estimate": row["estimate"], "std_error": row["std_error"],
        "interval": [row["lower"], row["upper"]], "units": units,
    }  # fmt: skip


def _tables(study: HeterogeneityStudy) -> dict[str, pd.DataFrame]:
    found, drivers = study.result, study.drivers
    tables = {
        "rates": found.rates, "rates_by_split": found.splits, "targeting_curves": found.curves,
        "cate": found.cate, "calibration": found.calibration, "groups": found.groups,
        "comparisons": found.comparisons, "effects": study.ate.effects, "arms": study.ate.arms,
        "drivers": drivers.components, "land_cover_effects": drivers.land_cover,
        "land_cover_dominant": drivers.dominant, "composition": drivers.composition,
        "correlations": drivers.correlations, "audit": study.block, "design_choices": study.choices,
    }  # fmt: skip
    if study.clusters is not None:
        tables |= {
            "clusters": study.clusters.clusters, "cluster_candidates": study.clusters.candidates,
            "cluster_memberships": study.clusters.memberships,
        }  # fmt: skip
    if study.shares is not None:
        tables["land_cover_shares"] = study.shares
    for name, each in study.elsewhere.items():
        tables |= {f"transport_{name}": each.table, f"areas_{name}": each.areas}
    if study.network is not None:
        tables |= {"networks": study.network.networks, "training": study.network.history}
    tables |= {
        audit.name: audit.table
        for audits in study.audits.values()
        for audit in audits
        if len(audit.table)
    }
    return {name: table for name, table in tables.items() if len(table)}


def _write_map(path: Path, elsewhere: Elsewhere, study: HeterogeneityStudy, units: str) -> None:
    """One COG an encoder; effects and errors only where the trial can speak."""
    table = elsewhere.table
    inside = table["in_support"].to_numpy(dtype=bool)
    for name in ("cate", "std_error", "lower", "upper"):
        table[name] = np.where(inside, table[name], np.nan)
    layers = rasterised(
        table,
        {
            "cate": (units, f"predicted effect of {study.treatment_name} on {study.outcome_name}"),
            "std_error": (units, "standard error of the predicted effect"),
            "lower": (units, "lower end of the interval"),
            "upper": (units, "upper end of the interval"),
            "in_support": ("1", "1 = looks like the trial, 0 = no prediction"),
            "dissimilarity": ("1", "distance to the nearest place of the trial, 1 = mean distance"),
        },
        elsewhere.cell_m,
    )
    write_cog(path, layers, run_id=study.provenance["run_id"], note=MAP_NOTE)
