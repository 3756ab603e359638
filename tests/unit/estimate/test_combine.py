"""Splits become one answer, arms are compared in pairs, errors follow the model that was asked for."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.units import StudyUnits
from eo_causal.core.variance import conley_std_error, mean_std_error
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.ate import Estimated
from eo_causal.estimate.combine import (
    UNADJUSTED,
    ErrorModel,
    differences_table,
    effects_table,
    over_splits,
)


def units_of(cluster, places=np.nan):
    n = len(cluster)
    names = [str(i) for i in range(n)]
    table = pd.DataFrame({
        "unit_id": names, "image_key": names, "cluster": cluster, "treatment": 0.0, "outcome": 0.0,
        "easting": places, "northing": places,
    })  # fmt: skip
    return StudyUnits(table, pd.DataFrame(index=range(n)))


def estimated(value, influence):
    centred = np.asarray(influence, float) - np.mean(influence)
    return Estimated(value, centred, len(centred), 3.0)


def test_median_and_error_by_hand():
    estimates, errors = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 1.0])
    assert over_splits(estimates, errors) == (2.0, pytest.approx(2.0))
    assert over_splits(estimates[:1], errors[:1]) == (1.0, 1.0)


def test_effects_report_the_range_of_splits():
    random = np.random.default_rng(0)
    parts = [estimated(value, random.normal(size=30)) for value in (1.0, 3.0, 2.0)]
    model = ErrorModel.of(units_of(list(map(str, range(30)))), "auto", None)
    effects, splits = effects_table({("tabular", "aipw"): parts}, model, 0.95)
    row = effects.iloc[0]
    assert (row["estimate"], row["split_low"], row["split_high"]) == (2, 1, 3)
    assert row["upper"] - row["estimate"] == pytest.approx(1.959964 * row["std_error"], rel=1e-6)
    assert row["errors"] == "independent units"
    assert 0 < row["p_value"] < 1
    assert splits["split"].tolist() == [0, 1, 2]
    assert splits["std_error"].iloc[1] == pytest.approx(mean_std_error(parts[1].influence))


def test_differences_use_paired_influences():
    """Two arms that share nearly all of their noise differ by little, and precisely."""
    random = np.random.default_rng(0)
    noise, small = random.normal(size=200), random.normal(size=200) / 100
    found = {
        (UNADJUSTED, "difference_in_means"): [estimated(5.0, random.normal(size=200))],
        ("a", "aipw"): [estimated(2.0, noise)],
        ("b", "aipw"): [estimated(1.9, noise + small)],
    }
    model = ErrorModel.of(units_of(list(map(str, range(200)))), "iid", None)
    table = differences_table(found, model, 0.95)
    assert table[["arm_a", "arm_b"]].to_numpy().tolist() == [
        ["a", "b"], ["a", UNADJUSTED], ["b", UNADJUSTED],
    ]  # fmt: skip
    assert table["estimate"].tolist() == pytest.approx([0.1, -3, -3.1])
    assert table["std_error"].iloc[0] == pytest.approx(mean_std_error(small))
    assert table["std_error"].iloc[1] > 0.05


def test_auto_clusters_where_units_share_one():
    shared = units_of([str(i // 3) for i in range(36)])
    model = ErrorModel.of(shared, "auto", None)
    assert (model.kind, model.n_clusters, model.label) == ("cluster", 12, "12 clusters")
    influence = np.random.default_rng(0).normal(size=12).repeat(3)
    assert model.std_error(influence) == pytest.approx(mean_std_error(influence, shared.cluster))
    assert ErrorModel.of(shared, "iid", None).std_error(influence) < model.std_error(influence)


def test_conley_needs_places_and_a_cutoff():
    names = list(map(str, range(30)))
    placed = units_of(names, np.arange(30) * 1000.0)
    model = ErrorModel.of(placed, "conley", 5.0)
    influence = np.random.default_rng(0).normal(size=30)
    wanted = conley_std_error(influence, placed.coordinates, 5000)
    assert model.std_error(influence) == pytest.approx(wanted)
    assert (model.label, model.n_clusters) == ("Conley, 5 km", None)
    with pytest.raises(ConfigError, match="cutoff_km"):
        ErrorModel.of(placed, "conley", None)
    with pytest.raises(DataError, match="a place for each unit"):
        ErrorModel.of(units_of(names), "conley", 5.0)


def test_nine_clusters_are_too_few():
    with pytest.raises(DataError, match="9 clusters are too few"):
        ErrorModel.of(units_of([str(i // 2) for i in range(18)]), "auto", None)
