"""One discriminated union of encoders: what a config may say, and what each name builds."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from eo_causal.encode import networks
from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.settings import EncoderSettings, build_encoder
from eo_causal.errors import ConfigError, EOCausalWarning

READ = TypeAdapter(EncoderSettings).validate_python
RANDOM = {"random_weights": True}
VIDEO = [{"name": "swin3d_t", **RANDOM}]  # test_video runs the others, which are slow
FRAMES = [
    {"name": "pixel_stats"},
    {"name": "random_features", "n_components": 3},
    {"name": "random_features", "n_components": None, "normalise": "none", "n_filters": 8},
    *({"name": name, "input_size": 64, **RANDOM} for name in ("resnet18", "swin_t", "swin_v2_t")),
    {"name": "resnet50", "input_size": 32, **RANDOM},
    {"name": "efficientnet_b0", "input_size": 64, **RANDOM},
    {"name": "efficientnet_lite0", "input_size": 64, **RANDOM},
    {"name": "efficientnet_lite0", "input_size": 64},
]


def built(options, seed=3):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = build_encoder(READ(options), seed)
    assert all(isinstance(item.message, EOCausalWarning) for item in caught)
    return encoder


@pytest.mark.parametrize("options", FRAMES + VIDEO, ids=lambda options: options["name"])
def test_every_encoder_runs_offline_and_alike_twice(random_chips, options, recwarn):
    chips = random_chips(n_units=4, size=16)
    first = built(options).fit(chips)
    found = embed(chips, first)
    networks._build.cache_clear()
    again = built(options).fit(chips)
    assert found.shape == (4, len(first.feature_names))
    assert found.dtype == np.float32
    assert len(set(first.feature_names)) == found.shape[1]
    assert np.ptp(found.values, axis=0).max() > 0
    np.testing.assert_array_equal(found.values, embed(chips, again).values)
    json.dumps(first.provenance(), allow_nan=False)


def test_vit_takes_224_px(random_chips, recwarn):
    chips = random_chips(n_units=1, size=16)
    encoder = built({"name": "vit_b_16", **RANDOM}).fit(chips)
    assert encoder.encode(to_batch(chips)).shape == (1, 768)
    with pytest.raises(ValidationError, match="224 px only"):
        READ({"name": "vit_b_16", "input_size": 96, **RANDOM})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet34"}, "resnet34"),
        ({"name": "pixel_stats", "n_filters": 3}, "n_filters"),
        ({"name": "resnet18", "weights_path": "a.pt"}, "give both"),
        ({"name": "resnet18", "weights_path": "a.pt", "sha256": "ab"}, "sha256"),
        ({"name": "resnet18", "rgb_bands": [0, 1, 2], "adapt": "mean"}, "exclude each other"),
        ({"name": "resnet18", "value_range": [1, 0]}, "does not rise"),
        ({"name": "vit_b_16", "pooling": "max"}, "no map to pool"),
        ({"name": "mvit_v2_s", "pooling": "both"}, "no map to pool"),
        ({"name": "pixel_stats", "scales": [32, 32]}, "twice"),
        ({"name": "random_features", "n_filters": 0}, "n_filters"),
        ({"name": "r3d_18", "sequence": {"pooling": "mean"}}, "sequence"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        READ(options)


def test_settings_are_read_from_plain_values():
    settings = READ({"name": "random_features", "sequence": {"pooling": "difference"}})
    assert (settings.n_filters, settings.width, settings.pooling) == (256, 5, "both")
    assert settings.n_components == 30
    assert READ(settings.model_dump(mode="json")) == settings


def test_normalising_every_image_by_itself_warns():
    with pytest.warns(EOCausalWarning, match="erases brightness and greenness"):
        build_encoder(READ({"name": "random_features", "normalise": "per_image"}), 0)


def test_a_network_without_weights_is_refused_with_the_ways_out():
    with pytest.raises(ConfigError, match=r"resnet18 needs weights_path.*random_features"):
        build_encoder(READ({"name": "resnet18"}), 0)


def test_choosing_an_encoder_needs_no_heavy_library():
    code = (
        "import sys, eo_causal.encode.store;"
        "print(sorted({'torch', 'torchvision', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
