"""Components equal scikit-learn's, fitted on training units; scales see their own footprints."""

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.pixel_stats import PixelStats, PixelStatsSettings
from eo_causal.encode.scales import MultiScale, Reduced, centred, join_scales
from eo_causal.encode.settings import build_encoder
from eo_causal.errors import DataError


def test_components_equal_scikit_learn_fitted_on_training_units(random_chips):
    chips = random_chips(n_units=30, size=9)
    training = np.arange(0, 30, 2)
    plain = embed(chips, PixelStats().fit(chips)).values.astype(float)
    pipeline = make_pipeline(StandardScaler(), PCA(5, svd_solver="full")).fit(plain[training])
    encoder = Reduced(PixelStats(), 5).fit(chips, training)
    found = embed(chips, encoder)
    np.testing.assert_allclose(found.values, pipeline.transform(plain), atol=1e-5)
    assert found["feature"].values.tolist() == [f"component_{number}" for number in range(1, 6)]


def test_fitting_and_embedding_at_once_is_the_same(random_chips):
    chips = random_chips(n_units=12, size=16)
    settings = PixelStatsSettings(scales=(8, 16), n_components=3)
    apart = embed(chips, build_encoder(settings, 0).fit(chips, np.arange(3, 12)))
    at_once = build_encoder(settings, 0).fit_embed(chips, np.arange(3, 12)[::-1])
    xr.testing.assert_identical(at_once, apart)


def test_batches_change_no_bit(random_chips):
    chips = random_chips(n_units=7, size=9)
    encoder = Reduced(PixelStats(), 3).fit(chips)
    whole = encoder.encode(to_batch(chips))
    for size in (1, 3, 7):
        parts = [
            encoder.encode(to_batch(chips[start : start + size])) for start in range(0, 7, size)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_too_many_components_are_refused(random_chips):
    with pytest.raises(DataError, match=r"4 components need more than 4 units.*at most 3"):
        Reduced(PixelStats(), 4).fit(random_chips(n_units=4))


def test_scales_see_centred_footprints(random_chips):
    chips = random_chips(n_units=6, size=16)
    encoder = MultiScale({4: PixelStats(), 16: PixelStats()}).fit(chips)
    found = embed(chips, encoder)
    inner = chips[..., 6:10, 6:10]
    np.testing.assert_array_equal(
        found.values[:, :24], embed(inner, PixelStats().fit(inner)).values
    )
    np.testing.assert_array_equal(
        found.values[:, 24:], embed(chips, PixelStats().fit(chips)).values
    )
    assert found["feature"].values[[0, 24]].tolist() == ["4px_red_mean", "16px_red_mean"]


def test_every_scale_is_reduced_by_itself(random_chips):
    chips = random_chips(n_units=12, size=16)
    settings = PixelStatsSettings(scales=(8, 16), n_components=3)
    encoder = build_encoder(settings, seed=0).fit(chips, np.arange(10))
    found = embed(chips, encoder).values
    assert found.shape == (12, 6)
    training = found[:10]
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-5)
    for part in (training[:, :3], training[:, 3:]):
        np.testing.assert_allclose(np.cov(part.T), np.diag(part.var(axis=0, ddof=1)), atol=1e-4)


def test_footprints_lie_in_the_middle():
    assert centred(16, 4) == slice(6, 10)
    assert centred(16, 5) == slice(5, 10)
    assert centred(5, 5) == slice(0, 5)
    with pytest.raises(DataError, match="8 px does not fit in chips of 5 px"):
        centred(5, 8)


def test_separate_chips_are_joined_by_unit(random_chips):
    near, far = random_chips(n_units=4, size=8), random_chips(n_units=4, size=20, seed=1)
    parts = {
        name: embed(chips, PixelStats().fit(chips))
        for name, chips in (("near", near), ("far", far))
    }
    joined = join_scales(parts)
    assert isinstance(joined, xr.DataArray)
    assert joined.shape == (4, 48)
    assert joined["feature"].values[24] == "far_red_mean"
    np.testing.assert_array_equal(joined.values[:, :24], parts["near"].values)
    with pytest.raises(DataError, match="'far' holds other units"):
        join_scales({"near": parts["near"], "far": parts["far"][::-1]})


def test_provenance_holds_both_scales_and_the_constants(random_chips):
    chips = random_chips(n_units=6, size=16)
    settings = PixelStatsSettings(scales=(8, 16), n_components=2)
    provenance = build_encoder(settings, seed=0).fit(chips).provenance()
    assert set(provenance["scales"]) == {"8", "16"}
    inner = provenance["scales"]["8"]
    assert inner["encoder"]["name"] == "pixel_stats"
    assert 0 < inner["explained_variance"] <= 1
    assert len(inner["constants_sha256"]) == 64
    assert inner["constants_sha256"] != provenance["scales"]["16"]["constants_sha256"]
