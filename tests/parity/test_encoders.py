"""Frozen encoders against the libraries whose definitions they follow."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from eo_causal.encode.base import embed
from eo_causal.encode.image import (
    LITE0_SHA256,
    EfficientNetLite0Settings,
    ImageEncoder,
    packaged_weights,
)
from eo_causal.encode.random_features import RandomFeatures, RandomFeaturesSettings
from eo_causal.encode.weights import read_weights


def chips_of(values, bands):
    """One frame a unit."""
    return xr.DataArray(
        values[:, None], dims=("unit", "time", "band", "y", "x"), name="chips",
        coords={
            "unit_id": ("unit", [str(number) for number in range(len(values))]),
            "band": list(bands),
            "fractional_year": (("unit", "time"), np.full((len(values), 1), 2020.0)),
        },
    )  # fmt: skip


def test_random_features_equal_torchgeo():
    with warnings.catch_warnings(record=True):  # its imports warn
        warnings.simplefilter("always")
        models = pytest.importorskip("torchgeo.models")
    settings = RandomFeaturesSettings(
        n_filters=256, width=3, bias=-1, scale=False, pooling="mean", normalise="none",
        n_components=None,
    )  # fmt: skip
    images = np.random.default_rng(0).standard_normal((5, 6, 64, 64)).astype(np.float32)
    chips = chips_of(images, "abcdef")
    ours = RandomFeatures(settings, seed=4).fit(chips)
    theirs = models.RCF(in_channels=6, features=512, kernel_size=3, bias=-1.0)
    theirs.weights.copy_(torch.from_numpy(ours.filters(6).copy()))
    expected = theirs(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(embed(chips, ours).values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [224, 225])
def test_efficientnet_lite0_equals_its_published_code(size):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        published = pytest.importorskip("efficientnet_lite_pytorch")
    network = published.EfficientNet.from_name("efficientnet-lite0", image_size=size).eval()
    network.load_state_dict(read_weights(packaged_weights(), LITE0_SHA256), strict=True)
    images = np.random.default_rng(1).random((2, 3, size, size)).astype(np.float32)
    chips = chips_of(images, ("red", "green", "blue"))
    mean, sd = (np.array(part, np.float32).reshape(3, 1, 1) for part in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ))  # fmt: skip
    with torch.inference_mode():
        maps = network.extract_features(torch.from_numpy((images - mean) / sd))
    expected = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1).numpy()
    encoder = ImageEncoder(EfficientNetLite0Settings(input_size=size, precision="float32"))
    found = embed(chips, encoder.fit(chips)).values
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
