"""The audits of a study that adjusts for images, each from what its pipeline has at hand."""

from typing import Annotated

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.audit.applicability import AreaOfApplicability, applicability_report
from eo_causal.audit.dates import Precision, date_guard, scenes_of_chips
from eo_causal.audit.leakage import leakage_gap
from eo_causal.audit.placebo import negative_controls
from eo_causal.audit.report import AuditReport, not_run
from eo_causal.audit.spatial import (
    SurrogateSettings,
    block_gap,
    residual_moran,
    surrogate_field_test,
)
from eo_causal.audit.support import support_of, support_report
from eo_causal.core.effect import Effect
from eo_causal.core.folds import Folds
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits

Floats = NDArray[np.float64]
MOST_COMPONENTS = 10
NO_PLACES = "units have no places; give them coordinates"


class DateSettings(Settings):
    """What images must be older than."""

    treatment_start: str = Field(description="first day of the treatment: YYYY, YYYY-MM or a date")
    announcement_date: str | None = Field(
        default=None, description="when the treatment became known, where that is earlier"
    )
    lag_days: Annotated[float, Field(ge=0)] = Field(
        default=0, description="days before it in which images may already show preparations"
    )
    allow_leakage: bool = Field(
        default=False, description="go on with images that are too late, and say so in red"
    )


def guard_chips(chips: xr.DataArray, settings: DateSettings, precision: Precision) -> AuditReport:
    """The date guard on the images of a study; see :func:`eo_causal.audit.dates.date_guard`."""
    return date_guard(
        scenes_of_chips(chips, precision), settings.treatment_start, settings.lag_days,
        settings.announcement_date, settings.allow_leakage,
    )  # fmt: skip


def image_leakage(
    units: StudyUnits, folds: Folds, before: xr.DataArray, after: xr.DataArray, *, seed: int
) -> AuditReport:
    """How much more of the treatment do images show that were taken since it began?

    Parameters
    ----------
    units : StudyUnits
    folds : Folds
        The first split is used.
    before, after : DataArray (unit, feature)
        Embeddings by one encoder, with ``image_key``.

    Returns
    -------
    AuditReport
        Of :func:`eo_causal.audit.leakage.leakage_gap`. A gap speaks for the study, whose images are
        those from before: it passes, and keeps its flag.
    """
    z_before, z_after = (rows_of_units(units, found) for found in (before, after))
    both = np.isfinite(z_before).all(axis=1) & np.isfinite(z_after).all(axis=1)
    z_before[~both] = np.nan
    z_after[~both] = 0.0
    found = leakage_gap(
        z_before, z_after, units.treatment, folds.group, folds=folds.pairs(0), seed=seed
    )
    if found.status != "warn":
        return found
    text = f"{found.text} This study uses images from before the treatment only."
    return AuditReport(found.name, "pass", text, found.table, found.flags)


def moved_controls(effects: dict[str, pd.DataFrame], arm: str) -> AuditReport:
    """Effects on outcomes that were fixed before the treatment; see :func:`negative_controls`.

    Parameters
    ----------
    effects : dict
        Outcome -> table of effects: arm, estimator, estimate, std_error, lower, upper, n.
    arm : str
        Of the headline, by AIPW.
    """
    found = {}
    for name, table in effects.items():
        row = table[(table["arm"] == arm) & (table["estimator"] == "aipw")].iloc[0]
        ends = (float(row["lower"]), float(row["upper"]))
        found[name] = Effect(
            float(row["estimate"]),
            float(row["std_error"]),
            ends,
            0.95,
            f"aipw, {arm}",
            int(row["n"]),
        )
    return negative_controls(found)


def spatial_audits(
    units: StudyUnits,
    nuisances: pd.DataFrame,
    parted: pd.DataFrame | None,
    arm: str,
    settings: SurrogateSettings,
    *,
    seed: int,
) -> tuple[AuditReport, ...]:
    """Do errors depend on their neighbours, and would a random field do as well as the treatment?

    Parameters
    ----------
    units : StudyUnits
    nuisances : DataFrame
        Out-of-fold ``propensity``, ``mu0``, ``mu1`` and ``aipw_score`` by ``arm``, in the order of the
        units.
    parted : DataFrame or None
        The same with folds that part neighbours; None where folds are no spatial blocks.
    arm : str
        Of the headline.
    """
    nuisance = nuisances[nuisances["arm"] == arm]
    places = units.coordinates
    if places is None:
        return (not_run("surrogate_field", NO_PLACES),)
    treatment, outcome = units.treatment, units.outcome
    propensity, mu0, mu1 = nuisance[["propensity", "mu0", "mu1"]].to_numpy(dtype=float).T
    controls = np.column_stack([propensity, mu0, mu1])
    controls = controls[:, controls.std(axis=0) > 0]
    audits = [
        surrogate_field_test(
            treatment, outcome, controls, places, settings,
            nuisance["aipw_score"].to_numpy(dtype=float), seed=seed,
        ),
        residual_moran(*_cluster_means(units, outcome - np.where(treatment == 1, mu1, mu0), places),
                       seed=seed),
    ]  # fmt: skip
    if parted is not None:
        random = parted.loc[parted["arm"] == arm, "propensity"].to_numpy(dtype=float)
        audits.append(block_gap(treatment, random, propensity))
    return tuple(audits)


def _cluster_means(units: StudyUnits, residual: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Residuals and places of clusters, within which errors may depend on one another anyway."""
    rows = (
        pd.DataFrame(np.column_stack([residual, places])).groupby(units.cluster).mean().to_numpy()
    )
    return rows[:, 0], rows[:, 1:]


def image_applicability(
    units: StudyUnits,
    folds: Folds,
    embedding: xr.DataArray,
    nuisances: pd.DataFrame,
    arm: str,
    *,
    seed: int,
) -> AuditReport:
    """Do treated places look like places that were not treated, and the other way round?

    Each arm's units are held against the area of applicability of the other arm's images (leading
    principal components of the embedding): outcomes of one arm are predicted by models of the
    other.

    Parameters
    ----------
    nuisances : DataFrame
        ``aipw_score`` by ``arm``, in the order of the units: averaged with and without those outside.
    arm : str
        Of the headline.
    """
    scores = nuisances.loc[nuisances["arm"] == arm, "aipw_score"].to_numpy(dtype=float)
    rows = pd.DataFrame(_components(rows_of_units(units, embedding)))
    fold = folds.table["fold_of_unit"].to_numpy()[0]
    treated = units.treatment == 1
    inside = np.zeros(len(units), dtype=bool)
    for own in (treated, ~treated):
        area = AreaOfApplicability.fit(rows[own], fold[own], seed=seed)
        inside[~own] = area.inside(rows[~own])
    return applicability_report(inside, scores)


def leading_component(units: StudyUnits, embedding: xr.DataArray) -> list[float]:
    """(unit,) first principal component of the images: a benchmark for what they cannot show."""
    found: list[float] = _components(rows_of_units(units, embedding))[:, 0].tolist()
    return found


def transport_support(
    units: StudyUnits, folds: Folds, embedding: xr.DataArray, elsewhere: xr.DataArray, *, seed: int
) -> pd.DataFrame:
    """Where the trial can speak: :func:`eo_causal.audit.support.support_of`, one row an image.

    Parameters
    ----------
    units, folds : StudyUnits, Folds
        Of the trial; the first split is used.
    embedding, elsewhere : DataArray (unit, feature)
        Of the trial's chips and of the target places', by one encoder.
    """
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    images, first = np.unique(image, return_index=True)
    fold = folds.table["fold_of_unit"].to_numpy()[0][first]
    trial = embedding.to_numpy().astype(float)[images]
    return support_of(trial, elsewhere.to_numpy().astype(float), fold, seed=seed)


def survey_area(
    units: StudyUnits, folds: Folds, embedding: xr.DataArray, head: xr.Dataset, *, seed: int
) -> AreaOfApplicability:
    """Where models of a survey apply: features count as much as they weigh in the predictions.

    Parameters
    ----------
    units, folds : StudyUnits, Folds
        Of the survey; the first split is used.
    embedding : DataArray (unit, feature)
    head : Dataset
        ``weight (fold, feature)`` of the linear models; absolute values times the features' spread are
        the importances.
    """
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    images, first = np.unique(image, return_index=True)
    names = embedding["feature"].to_numpy()
    rows = pd.DataFrame(embedding.to_numpy()[images].astype(float), columns=names)
    fold = folds.table["fold_of_unit"].to_numpy()[0][first]
    importance = np.abs(head["weight"].to_numpy()).mean(axis=0) * rows.std().to_numpy()
    return AreaOfApplicability.fit(rows, fold, importance, seed=seed)


def support_line(places: pd.DataFrame) -> AuditReport:
    """The line ``applicability`` of effects carried to ``places``: in_support, cate."""
    return support_report(places, places["cate"].to_numpy(dtype=float))


def rows_of_units(units: StudyUnits, embedding: xr.DataArray) -> Floats:
    """(unit, feature) features of each unit's image; NaN where it has none."""
    at = units.image_of(embedding["image_key"].to_numpy().astype(str))
    rows = embedding.to_numpy().astype(float)[np.maximum(at, 0)]
    rows[at < 0] = np.nan
    return rows


def _components(rows: Floats) -> Floats:
    """Leading principal components of standardised features, with their own variances."""
    spread = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    left, size, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray((left * size)[:, :MOST_COMPONENTS])
