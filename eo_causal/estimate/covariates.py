"""From a table of units to study units: treatment, outcome, covariates, and traps among these."""

import warnings

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.places import local_metres
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError, DataError, EOCausalWarning, LeakageError

Floats = NDArray[np.float64]


class CovariateSettings(Settings):
    """Which column is what."""

    treatment: str = Field(default="treatment", description="column of 0 and 1")
    outcome: str = Field(default="outcome", description="numeric column")
    covariates: tuple[str, ...] = Field(
        default=(), description="numeric columns from before treatment"
    )
    fixed_effects: tuple[str, ...] = Field(
        default=(), description="columns of labels; each becomes 0/1 columns"
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="covariates to leave out because treatment may have changed them"
    )
    cluster: str | None = Field(
        default=None,
        description="units whose errors depend on each other; null = units of one image",
    )
    drop_missing: bool = Field(
        default=False, description="leave out units without treatment or outcome; else an error"
    )


def study_units(units: pd.DataFrame, settings: CovariateSettings) -> StudyUnits:
    """Treatment, outcome, covariates and places of the units, checked.

    Missing covariates stay NaN: they are filled where models are trained, from the training part.

    Parameters
    ----------
    units : GeoDataFrame or DataFrame
        ``unit_id``, ``image_key``, the columns the settings name, and geometry in EPSG:4326 where
        units have places (see :func:`eo_causal.ingest.units.read_units`).
    settings : CovariateSettings

    Returns
    -------
    StudyUnits
        In the order of ``units``; clusters are those of ``settings.cluster``, else image keys.

    Raises
    ------
    ConfigError
        A column that is not there, or a covariate that is no number.
    DataError
        A treatment other than 0 or 1; infinite values; missing treatment or outcome, unless units
        without them are dropped.
    LeakageError
        Covariates that give the treatment away, all of them.

    Warns
    -----
    EOCausalWarning
        ``ConstantColumnWarning``, ``MissingUnitsWarning``.
    """
    chosen = tuple(name for name in settings.covariates if name not in settings.exclude)
    _check_columns(units, settings, chosen)
    kept = _complete(units, settings)
    treatment = _treatment(kept, settings.treatment)
    outcome = kept[settings.outcome].to_numpy(dtype=float)
    covariates = pd.DataFrame(kept[list(chosen)]).astype(float).reset_index(drop=True)
    _refuse_infinite(covariates.assign(**{settings.outcome: outcome}))
    _refuse_traps(covariates, treatment)
    covariates = _varying(_with_dummies(covariates, kept, settings))
    cluster = kept[settings.cluster or "image_key"]
    if cluster.isna().any():
        raise DataError(
            f"{settings.cluster}: {int(cluster.isna().sum())} units have no cluster. Fill the column,"
            " or choose another covariates.cluster.", n=int(cluster.isna().sum()),
        )  # fmt: skip
    places = _places(kept)
    table = pd.DataFrame({
        "unit_id": kept["unit_id"].to_numpy(dtype=object),
        "image_key": kept["image_key"].to_numpy(dtype=object),
        "treatment": treatment,
        "outcome": outcome,
        "cluster": cluster.astype(str).to_numpy(dtype=object),
        "easting": places[:, 0],
        "northing": places[:, 1],
    })  # fmt: skip
    missing = covariates.isna().sum()
    count(
        units=len(table),
        treated=int(treatment.sum()),
        covariates=covariates.shape[1],
        **{f"{name}_missing": int(n) for name, n in missing.items() if n},
    )
    return StudyUnits(table, covariates)


class SurveySettings(Settings):
    """Which column of a survey is what."""

    outcome: str = Field(default="outcome", description="numeric column")
    cluster: str | None = Field(
        default=None,
        description="units whose errors depend on each other; null = units of one image",
    )
    drop_missing: bool = Field(
        default=False, description="leave out units without outcome; else an error"
    )


def survey_units(units: pd.DataFrame, settings: SurveySettings) -> StudyUnits:
    """Units with an outcome and no treatment; see :func:`study_units`, whose errors it raises."""
    usual = CovariateSettings(
        treatment="nobody", outcome=settings.outcome, cluster=settings.cluster,
        drop_missing=settings.drop_missing,
    )  # fmt: skip
    found = study_units(units.assign(nobody=0.0), usual)
    return StudyUnits(found.table.assign(treatment=np.nan), found.covariates)


def find_traps(covariates: pd.DataFrame, treatment: Floats) -> dict[str, str]:
    """Columns that give the treatment away -> how.

    A column that is constant in one arm but not overall (a copy of the treatment, its opposite, a
    product with it), that is known in one arm only, or whose values in the two arms do not meet.
    """
    found = {}
    arms = {1: treatment == 1, 0: treatment == 0}
    for name, column in covariates.items():
        seen = {arm: column[rows].dropna().to_numpy() for arm, rows in arms.items()}
        empty = [arm for arm, values in seen.items() if not len(values)]
        if empty or column.nunique() < 2:
            if len(empty) == 1:
                found[str(name)] = f"is missing wherever treatment is {empty[0]}"
            continue
        constant = [arm for arm, values in seen.items() if np.ptp(values) == 0]
        if len(constant) == 2:
            found[str(name)] = "is the treatment"
        elif constant:
            arm = constant[0]
            found[str(name)] = f"is {seen[arm][0] + 0.0:g} wherever treatment is {arm}"
        elif seen[1].min() > seen[0].max() or seen[1].max() < seen[0].min():
            found[str(name)] = "separates the arms"
    return found


def _check_columns(
    units: pd.DataFrame, settings: CovariateSettings, chosen: tuple[str, ...]
) -> None:
    named = [settings.treatment, settings.outcome, *settings.covariates, *settings.fixed_effects]
    named += [settings.cluster] if settings.cluster else []
    absent = [name for name in named if name not in units.columns]
    if absent:
        raise ConfigError(
            f"covariates: the units have no column {', '.join(absent)}; they have"
            f" {', '.join(map(str, units.columns))}. Name it under units.numbers or units.labels.",
            columns=absent,
        )  # fmt: skip
    unknown = [name for name in settings.exclude if name not in settings.covariates]
    if unknown:
        raise ConfigError(
            f"covariates.exclude: {', '.join(unknown)} is no covariate. Correct the name.",
            columns=unknown,
        )  # fmt: skip
    words = [
        name
        for name in (settings.treatment, settings.outcome, *chosen)
        if not pd.api.types.is_numeric_dtype(units[name])
    ]
    if words:
        raise ConfigError(
            f"covariates: {', '.join(words)} is no number. Read it under units.numbers, or list labels"
            " under covariates.fixed_effects.", columns=words,
        )  # fmt: skip


def _complete(units: pd.DataFrame, settings: CovariateSettings) -> pd.DataFrame:
    """Units with treatment and outcome."""
    missing = units[[settings.treatment, settings.outcome]].isna().any(axis=1)
    n = int(missing.sum())
    if not n:
        return units
    first = units.loc[missing, "unit_id"].iloc[0]
    said = f"{n} of {len(units)} units have no {settings.treatment} or no {settings.outcome}"
    if not settings.drop_missing:
        raise DataError(
            f"{said} (first: {first}). Fill them, or set covariates.drop_missing: true.", n=n
        )
    warnings.warn(
        EOCausalWarning(f"{said} and were left out (first: {first}).", "MissingUnitsWarning"),
        stacklevel=3,
    )
    count(units_without_treatment_or_outcome=n)
    return units[~missing]


def _treatment(units: pd.DataFrame, name: str) -> Floats:
    values = units[name].to_numpy(dtype=float)
    wrong = values[(values != 0) & (values != 1)]
    if len(wrong):
        raise DataError(
            f"{name}: {len(wrong)} of {len(values)} units have a treatment that is neither 0 nor 1"
            f" (for example {wrong[0]:g}). Code it 0/1.", column=name, value=float(wrong[0]),
        )  # fmt: skip
    return values


def _refuse_infinite(columns: pd.DataFrame) -> None:
    infinite = columns.isin([np.inf, -np.inf]).sum()
    named = [str(name) for name, n in infinite.items() if n]
    if named:
        raise DataError(
            f"{', '.join(named)}: {int(infinite.sum())} values are infinite. Correct them, or leave them"
            " empty for missing.", columns=named,
        )  # fmt: skip


def _refuse_traps(covariates: pd.DataFrame, treatment: Floats) -> None:
    traps = find_traps(covariates, treatment)
    if traps:
        listed = "; ".join(f"{name} {why}" for name, why in traps.items())
        raise LeakageError(
            f"covariates give the treatment away: {listed}. Whatever was measured after treatment or made"
            f" from it must not be adjusted for: set covariates.exclude: [{', '.join(traps)}].",
            columns=list(traps),
        )  # fmt: skip


def _with_dummies(
    covariates: pd.DataFrame, units: pd.DataFrame, settings: CovariateSettings
) -> pd.DataFrame:
    """A 0/1 column for each label but the first; units without a label are a label of their own."""
    parts = [covariates]
    for name in settings.fixed_effects:
        labels = units[name].astype(object).where(units[name].notna(), "missing").astype(str)
        dummies = pd.get_dummies(labels, prefix=name, prefix_sep="=", dtype=float)
        parts.append(dummies.iloc[:, 1:].reset_index(drop=True))
    return pd.concat(parts, axis=1)


def _varying(covariates: pd.DataFrame) -> pd.DataFrame:
    """Columns with more than one value."""
    constant = [str(name) for name in covariates if covariates[name].nunique() < 2]
    if constant:
        warnings.warn(
            EOCausalWarning(
                f"covariates without variance were left out: {', '.join(constant)}.",
                "ConstantColumnWarning",
            ),
            stacklevel=3,
        )
        count(covariates_constant=len(constant))
    return covariates.drop(columns=constant)


def _places(units: pd.DataFrame) -> Floats:
    """(unit, 2) metres of the middles of the units; NaN without geometry."""
    if "geometry" not in units.columns:
        return np.full((len(units), 2), np.nan)
    middles = shapely.centroid(units["geometry"].to_numpy())
    return local_metres(shapely.get_x(middles), shapely.get_y(middles))
