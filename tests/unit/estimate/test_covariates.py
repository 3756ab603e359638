"""Tables of units become study units, or say why not."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, DataError, EOCausalWarning, LeakageError
from eo_causal.estimate.covariates import CovariateSettings, find_traps, study_units

SETTINGS = CovariateSettings(covariates=("age",))


def table(**changes):
    columns = {
        "unit_id": list("abcdef"),
        "image_key": ["1", "1", "2", "2", "3", "3"],
        "treatment": [1.0, 0, 1, 0, 1, 0],
        "outcome": [1.0, 2, 3, 4, 5, 6],
        "age": [20.0, 30, np.nan, 25, 40, 50],
    }
    return pd.DataFrame(columns | changes)


def test_columns_become_study_units():
    with counting() as counts:
        found = study_units(table(), SETTINGS)
    assert found.treatment.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.outcome.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.cluster.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.isnan(found.covariates["age"].iloc[2])
    assert found.coordinates is None
    assert counts == {"units": 6, "treated": 3, "covariates": 1, "age_missing": 1}


def test_another_cluster_column_is_taken():
    found = study_units(table(village=[7, 7, 7, 8, 8, 8]), CovariateSettings(cluster="village"))
    assert found.cluster.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.covariates.shape == (6, 0)


def test_places_are_metres_of_points_and_of_the_middles_of_polygons():
    points = [shapely.Point(30 + i / 100, 0) for i in range(5)]
    shapes = [*points, shapely.box(30.04, -0.01, 30.06, 0.01)]
    units = geopandas.GeoDataFrame(table(), geometry=shapes, crs="EPSG:4326")
    found = study_units(units, SETTINGS).coordinates
    steps = np.diff(found[:, 0])
    np.testing.assert_allclose(steps, 1113.2, atol=0.5)
    np.testing.assert_allclose(found[:, 1], 0, atol=1)


def test_labels_become_dummies_without_the_first():
    units = table(district=["x", "x", "y", "y", None, "z"])
    found = study_units(units, CovariateSettings(fixed_effects=("district",)))
    assert list(found.covariates) == ["district=x", "district=y", "district=z"]
    assert found.covariates["district=y"].tolist() == [0, 0, 1, 1, 0, 0]


def test_traps_are_named_all_at_once():
    treatment = np.array([1.0, 1, 1, 0, 0, 0])
    x = np.array([1.0, 2, 3, 4, 5, 6])
    columns = pd.DataFrame({
        "copy": treatment,
        "opposite": 5 - 4 * treatment,
        "product": treatment * x,
        "other_product": (1 - treatment) * x + 7 * treatment,
        "shifted": x + 10 * treatment,
        "treated_only": np.where(treatment == 1, x, np.nan),
        "fine": [1.0, 5, 3, 4, 2, 6],
        "constant": np.ones(6),
    })  # fmt: skip
    found = find_traps(columns, treatment)
    assert found == {
        "copy": "is the treatment",
        "opposite": "is the treatment",
        "product": "is 0 wherever treatment is 0",
        "other_product": "is 7 wherever treatment is 1",
        "shifted": "separates the arms",
        "treated_only": "is missing wherever treatment is 0",
    }


def test_traps_are_an_error_with_the_remedy_and_excluding_them_helps():
    units = table(copy=[1.0, 0, 1, 0, 1, 0], product=[3.0, 0, 4, 0, 5, 0])
    names = ("copy", "age", "product")
    with pytest.raises(LeakageError, match=r"covariates.exclude: \[copy, product\]") as caught:
        study_units(units, CovariateSettings(covariates=names))
    assert caught.value.facts["columns"] == ["copy", "product"]
    found = study_units(units, CovariateSettings(covariates=names, exclude=("copy", "product")))
    assert list(found.covariates) == ["age"]


def test_a_district_that_is_treated_as_a_whole_is_no_trap():
    units = table(district=["x", "y", "x", "y", "z", "y"])
    found = study_units(units, CovariateSettings(fixed_effects=("district",)))
    assert found.covariates.shape[1] == 2


def test_constant_columns_are_listed():
    units = table(zone=np.full(6, 3.0))
    with pytest.warns(EOCausalWarning, match="without variance were left out: zone"):
        found = study_units(units, CovariateSettings(covariates=("zone", "age")))
    assert list(found.covariates) == ["age"]


def test_missing_outcomes_are_an_error_or_counted():
    units = table(outcome=[1.0, np.nan, 3, 4, 5, 6])
    with pytest.raises(
        DataError, match=r"1 of 6 units have no treatment or no outcome \(first: b\)"
    ):
        study_units(units, SETTINGS)
    chosen = CovariateSettings(covariates=("age",), drop_missing=True)
    with counting() as counts, pytest.warns(EOCausalWarning, match="were left out"):
        found = study_units(units, chosen)
    assert found.table["unit_id"].tolist() == list("acdef")
    assert len(found.covariates) == 5
    assert counts["units_without_treatment_or_outcome"] == 1


def test_treatment_is_0_or_1():
    with pytest.raises(DataError, match=r"neither 0 nor 1 \(for example 2\). Code it 0/1"):
        study_units(table(treatment=[1.0, 2, 1, 0, 1, 0]), SETTINGS)


def test_infinite_values_are_refused():
    with pytest.raises(DataError, match="age: 1 values are infinite"):
        study_units(table(age=[20.0, 30, np.inf, 25, 40, 50]), SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"covariates": ("agee",)}, "no column agee; they have unit_id"),
        ({"covariates": ("unit_id",)}, "unit_id is no number"),
        ({"covariates": ("age",), "exclude": ("x0",)}, "exclude: x0 is no covariate"),
    ],
)
def test_wrong_columns_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        study_units(table(), CovariateSettings(**settings))


def test_units_without_a_cluster_are_refused():
    units = table(village=["a", "a", None, "b", "b", "b"])
    with pytest.raises(DataError, match="village: 1 units have no cluster"):
        study_units(units, CovariateSettings(cluster="village"))
