"""Clusters of a trial's images as tables."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.cluster_study import cluster_study
from eo_causal.estimate.clusters import ClusterSettings


@pytest.fixture(scope="module")
def trial():
    """200 places of three units; places whose first feature is positive gain 2, the others nothing."""
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 4))
    features[:, 0] = np.where(random.random(200) < 0.5, -2, 2) + 0.3 * features[:, 0]
    keys = [f"k{number:03d}" for number in range(200)]
    place = np.repeat(np.arange(200), 3)
    treated = random.integers(0, 2, 200)[place].astype(float)
    outcome = 2 * treated * (features[place, 0] > 0) + random.normal(0, 0.5, 600)
    table = pd.DataFrame({
        "unit_id": [f"u{number}" for number in range(600)],
        "image_key": np.array(keys, dtype=object)[place], "treatment": treated, "outcome": outcome,
        "cluster": np.array(keys, dtype=object)[place], "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame(index=table.index))
    embedding = xr.DataArray(
        features.astype(np.float32), dims=("unit", "feature"),
        coords={"image_key": ("unit", keys), "feature": list("abcd")},
    )  # fmt: skip
    folds = make_folds(units, FoldSettings(n_splits=1), None, 0.0, True, seed=1)
    settings = AteSettings(
        randomised=True, design_probability=0.5, std_error="cluster", estimators=("aipw",)
    )
    ate = estimate_ate(units, folds, keys, {"x": lambda _: features}, {}, settings, seed=1)
    return units, folds, embedding, ate, features[place, 0]


def test_places_that_gain_and_places_that_do_not_are_told_apart(trial):
    units, folds, embedding, ate, feature = trial
    settings = ClusterSettings(n_draws=20, candidates=(1, 2))
    found = cluster_study(units, folds, embedding, ate, "image:x", settings, seed=3)
    assert found.clusters["estimate"].to_numpy() == pytest.approx([0, 2], abs=0.2)
    assert found.memberships["unit_id"].tolist() == units.table["unit_id"].tolist()
    right = (found.memberships["cluster_2"] > 0.5) == (feature > 0)
    assert right.mean() > 0.95
    assert found.implied.estimate == pytest.approx(ate.effect("image:x").estimate, abs=0.2)
    likelihood = found.candidates.set_index("n_clusters")["log_likelihood"]
    assert likelihood[2] > likelihood[1]
