"""Fit the models of all arms: which arms share features, and where the work runs."""

from dataclasses import dataclass
from itertools import batched

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count, track
from eo_causal.core.tasks import compute_tasks
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError
from eo_causal.estimate.balance import leading_components
from eo_causal.estimate.nuisance import (
    Features,
    Nuisance,
    NuisanceSettings,
    Study,
    fit_source,
    stitch,
)


@dataclass(frozen=True)
class Arm:
    """What models may see: a source of image features ("" = none), with or without covariates."""

    name: str
    source: str
    covariates: bool


def study_of(
    units: StudyUnits, folds: Folds, image_keys: list[str], arms: list[Arm],
    features: dict[str, Features],
) -> Study:  # fmt: skip
    """What the tasks of all arms share.

    Raises
    ------
    DataError
        Units without a chip, where an arm needs chips; lists them.
    """
    image_of_unit = units.image_of(np.asarray(image_keys, dtype=str))
    absent = units.table.loc[image_of_unit < 0, "unit_id"].tolist()
    if absent and any(arm.source in features for arm in arms):
        raise DataError(
            f"{len(absent)} of {len(units)} units have no chip (first: {absent[0]}). Leave them out"
            " under units.exclude, or widen the period of the imagery.", unit_ids=absent,
        )  # fmt: skip
    return Study(
        unit_id=units.table["unit_id"].to_numpy(dtype=object),
        treatment=units.treatment,
        outcome=units.outcome,
        covariates=units.covariates.to_numpy(dtype=float),
        image_of_unit=image_of_unit,
        n_images=len(image_keys),
        group=folds.group,
    )


def fit_arms(
    arms: list[Arm],
    study: Study,
    folds: Folds,
    features: dict[str, Features],
    predictions: dict[str, pd.DataFrame],
    settings: NuisanceSettings,
    seed: int,
) -> tuple[dict[str, list[Nuisance]], dict[str, pd.DataFrame]]:
    """Nuisances of every arm on every split, and leading components of its image features.

    One dask task a fold and source of features; arms that share a source share the task.
    """
    from dask.delayed import delayed

    sources = list(dict.fromkeys(arm.source for arm in arms if arm.source not in predictions))
    # traverse=False: else dask would load the chips that features hold before it hands them out
    shared = {name: delayed(features.get(name), traverse=False) for name in sources}
    common = delayed(study, traverse=False)
    fit, lead = delayed(fit_source, pure=False), delayed(leading_components, pure=False)
    seen = {name: [arm for arm in arms if arm.source == name] for name in sources}
    found: dict[str, list[Nuisance]] = {arm.name: [] for arm in arms}
    for split in track(range(folds.n_splits), "cross-fitting"):
        pairs = folds.pairs(split)
        tasks = [
            fit(name, shared[name], common, tuple(arm.covariates for arm in seen[name]), pair,
                (split, k), settings, seed)
            for name in sources for k, pair in enumerate(pairs)
        ]  # fmt: skip
        for name, fits in zip(sources, batched(compute_tasks(tasks), len(pairs)), strict=True):
            for arm, own in zip(seen[name], zip(*fits, strict=True), strict=True):
                found[arm.name].append(stitch(list(own), len(study.treatment)))
        for arm in arms:
            table = predictions.get(arm.source or "")
            if table is not None and split <= table["split"].max():
                found[arm.name].append(predicted(arm.name, table, study.unit_id, folds, split))
    n_fitted = sum(arm.source in sources for arm in arms) * folds.n_splits * folds.n_folds
    count(propensity_models=n_fitted, outcome_models=2 * n_fitted)
    images = [name for name in sources if name]
    leading = dict(
        zip(
            images,
            compute_tasks([lead(name, shared[name], common) for name in images]),
            strict=True,
        )
    )
    none = pd.DataFrame(index=range(len(study.treatment)))
    return found, {arm.name: leading.get(arm.source, none) for arm in arms}


def predicted(
    arm: str, table: pd.DataFrame, unit_id: NDArray[np.object_], folds: Folds, split: int
) -> Nuisance:
    """Finished predictions of one split, in the order of the units.

    Raises
    ------
    DataError
        Units without a prediction, or with one that is no number or no probability.
    """
    columns = ["propensity", "mu0", "mu1"]
    rows = table[table["split"] == split].set_index("unit_id")[columns].reindex(unit_id)
    values = rows.to_numpy(dtype=float)
    wrong = ~np.isfinite(values).all(axis=1) | (np.abs(values[:, 0] - 0.5) > 0.5)
    if wrong.any():
        ids = unit_id[wrong].tolist()
        raise DataError(
            f"{arm}: {len(ids)} of {len(unit_id)} units have no valid prediction in split {split}"
            f" (first: {ids[0]}). Predict all units on the folds of this study.", unit_ids=ids,
        )  # fmt: skip
    fold = folds.table["fold_of_unit"].to_numpy()[split]
    propensity, mu0, mu1 = values.T
    return Nuisance(propensity, mu0, mu1, fold)
