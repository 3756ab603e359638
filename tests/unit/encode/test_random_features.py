"""Random features against a convolution, bit for bit over batches, and the rule for holes."""

import pickle

import numpy as np
import pytest
from scipy.signal import correlate

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.random_features import (
    BLOCK,
    RandomFeatures,
    RandomFeaturesSettings,
    convolve_and_pool,
)
from eo_causal.encode.settings import build_encoder
from eo_causal.errors import DataError


def fitted(chips, seed=1, **settings):
    return RandomFeatures(RandomFeaturesSettings(**settings), seed).fit(chips)


def test_features_equal_a_convolution_rectified_both_ways(random_chips):
    chips = random_chips(n_units=2, n_bands=4, size=30)  # 784 patches: a full block and a part
    assert BLOCK < 26**2
    encoder = fitted(chips, n_filters=6, width=5, bias=-0.2)
    filters = encoder.filters(4).astype(float)
    image = encoder.preparation.apply(chips.values[:, 0])[1].astype(float)
    outputs = np.array([correlate(image, one, mode="valid")[0] for one in filters]) - 0.2
    positive, negative = np.maximum(outputs, 0), np.maximum(-outputs, 0)
    expected = np.concatenate(
        [half.reshape(6, -1).mean(axis=1) for half in (positive, negative)]
        + [half.reshape(6, -1).max(axis=1) for half in (positive, negative)]
    )
    found = embed(chips, encoder)
    np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-6)
    assert found["feature"].values[[0, 6, 12, 23]].tolist() == [
        "filter_1_positive_mean", "filter_1_negative_mean", "filter_1_positive_max",
        "filter_6_negative_max",
    ]  # fmt: skip


@pytest.mark.parametrize("pooling", ["mean", "max", "both"])
def test_batches_change_no_bit(random_chips, pooling):
    chips = random_chips(n_units=7, size=17)
    encoder = fitted(chips, n_filters=32, pooling=pooling)
    whole = encoder.encode(to_batch(chips))
    assert whole.shape == (7, 128 if pooling == "both" else 64)
    for size in (1, 3, 7):
        parts = [
            encoder.encode(to_batch(chips[start : start + size])) for start in range(0, 7, size)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_half_that_is_always_zero_is_zero(make_chips):
    image = np.ones((1, 6, 6), np.float32)
    filters = np.array([1.0, -1.0], np.float32).reshape(2, 1, 1, 1)
    found = convolve_and_pool(image, filters, 0.5, ("mean", "max"))
    np.testing.assert_allclose(found, [1.5, 0, 0, 0.5, 1.5, 0, 0, 0.5])


def test_filters_are_scaled_to_keep_the_variance(random_chips):
    chips = random_chips(n_bands=3)
    filters = fitted(chips, n_filters=2000).filters(3)
    assert filters.std() == pytest.approx(1 / np.sqrt(75), rel=0.02)
    plain = fitted(chips, n_filters=2000, scale=False).filters(3)
    np.testing.assert_allclose(plain, filters * np.sqrt(75), rtol=1e-6)


def test_the_seed_decides_the_filters(random_chips):
    chips = random_chips()
    first, again, other = (fitted(chips, seed, n_filters=4) for seed in (1, 1, 2))
    values = [encoder.encode(to_batch(chips)) for encoder in (first, again, other)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2])


def test_invalid_pixels_have_the_mean_of_their_band(random_chips):
    chips = random_chips(n_units=3)
    holed = chips.copy()
    holed.values[1, 0, 2, 5:9, 5:9] = np.nan
    encoder = fitted(holed, n_filters=8)
    filled = holed.copy()
    filled.values[1, 0, 2, 5:9, 5:9] = encoder.preparation.normalisation_.mean[2]
    np.testing.assert_allclose(
        encoder.encode(to_batch(holed)), encoder.encode(to_batch(filled)), atol=1e-6
    )
    np.testing.assert_array_equal(
        encoder.encode(to_batch(holed))[[0, 2]], encoder.encode(to_batch(chips))[[0, 2]]
    )


def test_normalisation_is_that_of_the_training_units(random_chips):
    chips = random_chips(n_units=6)
    chips.values[3:] *= 10
    encoder = RandomFeatures().fit(chips, np.array([0, 1, 2]))
    assert encoder.preparation.normalisation_.mean == pytest.approx([0.3] * 3, rel=0.05)


def test_small_chips_are_refused(random_chips):
    chips = random_chips(size=4)
    with pytest.raises(DataError, match="4 x 4 px are smaller than filters of 5 px"):
        fitted(chips).encode(to_batch(chips))


def test_sequences_need_a_pooling(random_chips):
    chips = random_chips(n_frames=2)
    with pytest.raises(DataError, match=r"have 2 frames; one is needed"):
        fitted(chips).encode(to_batch(chips))


def test_an_encoder_travels_light(random_chips):
    chips = random_chips()
    encoder = fitted(chips, n_filters=4)
    whole = encoder.encode(to_batch(chips))
    sent = pickle.dumps(encoder)
    assert len(sent) < 3000
    np.testing.assert_array_equal(pickle.loads(sent).encode(to_batch(chips)), whole)


def test_components_are_fitted_on_training_units(random_chips):
    chips = random_chips(n_units=40, size=12)
    encoder = build_encoder(RandomFeaturesSettings(n_filters=64), seed=1)
    found = embed(chips, encoder.fit(chips, np.arange(35)))
    assert found.shape == (40, 30)
    with pytest.raises(DataError, match=r"30 components need more than 20 units.*at most 19"):
        build_encoder(RandomFeaturesSettings(), seed=1).fit(chips, np.arange(20))


def test_provenance_is_complete(random_chips):
    provenance = fitted(random_chips(), seed=7, n_filters=4).provenance()
    assert provenance["seed"] == 7
    assert provenance["width"] == 5
    assert provenance["normalisation"]["bands"] == ["red", "green", "blue"]
    assert len(provenance["normalisation"]["constants"]["mean"]) == 3
