"""Design matrices know their training part only."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from eo_causal.errors import DataError
from eo_causal.estimate.preparation import (
    check_features,
    design_matrix,
    fill_missing,
    principal_axes,
    standardise,
)


def test_scaling_is_by_training_rows():
    values = np.array([[0.0, 5], [2, 5], [10, 7]])
    found = standardise(values, np.array([0, 1]))
    assert found.tolist() == [[-1, 0], [1, 0], [9, 0]]


def test_missing_values_become_training_medians_with_a_column_that_says_so():
    covariates = np.array([[1.0, 1], [3, 1], [np.nan, 2], [100, 2]])
    found = fill_missing(covariates, np.array([0, 1, 2]))
    assert found.tolist() == [[1, 1, 0], [3, 1, 0], [2, 2, 1], [100, 2, 0]]


def test_a_column_missing_in_all_of_training_is_no_obstacle():
    covariates = np.array([[np.nan], [np.nan], [4.0]])
    design = design_matrix(None, np.arange(3), covariates, np.array([0, 1]), None)
    assert np.isfinite(design).all()


@pytest.mark.parametrize("shape", [(60, 12), (12, 60)])
def test_components_are_those_of_scikit_learn(shape):
    rows = np.random.default_rng(0).normal(size=shape)
    rows -= rows.mean(axis=0)
    axes = principal_axes(rows, 4)
    wanted = PCA(4, svd_solver="full").fit(rows).components_.T
    np.testing.assert_allclose(np.abs((axes * wanted).sum(axis=0)), 1, atol=1e-10)
    assert (axes[np.abs(axes).argmax(axis=0), range(4)] > 0).all()


def test_features_are_reduced_by_training_images_and_joined_by_image():
    random = np.random.default_rng(1)
    features, image_of_unit = random.normal(size=(30, 8)), random.integers(0, 30, 100)
    training = np.flatnonzero(image_of_unit < 20)
    design = design_matrix(features, image_of_unit, None, training, 3)
    images = np.unique(image_of_unit[training])
    scaler = StandardScaler().fit(features[images])
    wanted = PCA(3).fit(scaler.transform(features[images])).transform(scaler.transform(features))
    assert design.shape == (100, 3)
    np.testing.assert_allclose(np.abs(design), np.abs(wanted[image_of_unit]), atol=1e-8)


def test_few_features_stay_as_they_are():
    features = np.arange(8.0).reshape(4, 2)
    design = design_matrix(features, np.arange(4), None, np.arange(4), 2)
    np.testing.assert_allclose(design.std(axis=0), 1)


def test_units_with_missing_features_are_named():
    features = np.ones((3, 2))
    features[1, 0] = np.nan
    ids = np.array(["a", "b", "c"], dtype=object)
    with pytest.raises(
        DataError, match=r"features stats: 2 of 3 units .* \(units a, c\)"
    ) as caught:
        check_features(features, "stats", np.array([1, 0, 1]), 3, ids)
    assert caught.value.facts["unit_ids"] == ["a", "c"]
