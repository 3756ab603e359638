"""Frozen image networks: weights from files, bands, resizing, precision, batches."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from eo_causal.encode import image, networks
from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.image import (
    RGB_NOTE,
    EfficientNetLite0Settings,
    ImageEncoder,
    ImageSettings,
    packaged_weights,
    resize,
)
from eo_causal.errors import ConfigError, DataError, EOCausalWarning


@pytest.fixture
def encoder():
    """A random ResNet18 for chips of 64 px."""

    def make(seed=0, **options):
        settings = ImageSettings(name="resnet18", random_weights=True, input_size=64, **options)
        with pytest.warns(EOCausalWarning, match="resnet18 has random weights"):
            return ImageEncoder(settings, seed)

    return make


@pytest.fixture
def trained(tmp_path):
    """A ResNet18 and its saved state dict."""
    network = resnet18(weights=None).eval()
    path = tmp_path / "resnet18.safetensors"
    save_file(network.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return network, {"weights_path": path, "sha256": sha256}


def test_the_embedding_is_that_of_the_network_in_the_file(random_chips, trained):
    network, where = trained
    chips = random_chips(n_units=3, size=64)
    settings = ImageSettings(
        name="resnet18",
        input_size=64,
        normalise="none",
        pooling="mean",
        precision="float32",
        **where,
    )
    encoder = ImageEncoder(settings).fit(chips)
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        expected = network(torch.from_numpy(chips.values[:, 0])).numpy()
    np.testing.assert_allclose(embed(chips, encoder).values, expected, rtol=1e-4, atol=1e-5)
    provenance = encoder.provenance()
    assert provenance["weights"] == {"kind": "file", "sha256": where["sha256"]}
    assert str(where["weights_path"].parent) not in str(provenance)


def test_a_changed_file_is_refused(random_chips, trained):
    _, where = trained
    wrong = ImageSettings(name="resnet18", input_size=64, **where | {"sha256": "1" * 64})
    chips = random_chips(size=64)
    with pytest.raises(ConfigError, match="has sha256"):
        ImageEncoder(wrong).fit(chips).encode(to_batch(chips))


def test_batches_change_no_bit(random_chips, encoder):
    chips = random_chips(n_units=7)
    made = encoder().fit(chips)
    whole = made.encode(to_batch(chips))
    for size in (1, 3, 7):
        parts = [made.encode(to_batch(chips[start : start + size])) for start in range(0, 7, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_seed_decides_random_weights_and_nothing_travels(random_chips, encoder):
    chips = random_chips(n_units=2)
    first, other = encoder(1).fit(chips), encoder(2).fit(chips)
    whole = first.encode(to_batch(chips))
    assert not np.allclose(whole, other.encode(to_batch(chips)))
    sent = pickle.dumps(first)
    assert len(sent) < 5000
    networks._build.cache_clear()
    np.testing.assert_array_equal(pickle.loads(sent).encode(to_batch(chips)), whole)
    assert first.provenance()["weights"] == {"kind": "random", "seed": 1}


def test_any_number_of_bands_goes_through_the_mean_of_the_first_layer(random_chips, encoder):
    chips = random_chips(n_units=2, n_bands=5)
    assert embed(chips, encoder(adapt="mean").fit(chips)).shape == (2, 1024)
    with pytest.raises(ConfigError, match="takes 3 bands, the chips have 5"):
        encoder().fit(chips)


def test_chosen_bands_are_the_ones_that_are_seen(random_chips, encoder):
    chips = random_chips(n_units=2, n_bands=5)
    three = chips.isel(band=[4, 0, 2])
    named = encoder(rgb_bands=("swir1", "red", "blue")).fit(chips)
    np.testing.assert_array_equal(
        embed(chips, named).values, embed(three, encoder(rgb_bands=(0, 1, 2)).fit(three)).values
    )
    assert named.provenance()["normalisation"]["bands"] == ["swir1", "red", "blue"]


def test_chips_are_not_coarsened_unasked(random_chips, encoder):
    chips = random_chips(n_units=1, size=80)
    with pytest.raises(ConfigError, match="80 x 80 px would be resized to 64 px"):
        encoder().fit(chips)
    with pytest.warns(EOCausalWarning, match="80 x 80 px are resized to 64 px"):
        made = encoder(allow_coarsening=True).fit(chips)
    assert made.encode(to_batch(chips)).shape == (1, 1024)
    assert made.provenance()["chip_size"] == [80, 80]
    assert made.provenance()["input_size"] == 64


def test_resizing_is_bilinear_and_averages_where_it_shrinks():
    ramp = torch.arange(8.0).repeat(1, 1, 8, 1)
    shrunk = resize(ramp, (4, 4))[0, 0, 0]
    torch.testing.assert_close(shrunk[1:3], torch.tensor([2.5, 4.5]))
    grown = resize(ramp, (8, 16))[0, 0, 0]
    torch.testing.assert_close(grown[:4], torch.tensor([0, 0.25, 0.75, 1.25]))


def test_bfloat16_points_the_same_way(random_chips, encoder):
    chips = random_chips(n_units=2, size=64)
    full, half = (
        embed(chips, encoder(precision=name).fit(chips)).values for name in ("float32", "bfloat16")
    )
    cosine = (full * half).sum(axis=1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() >= 0.999
    assert not np.array_equal(full, half)


def test_imagenet_constants_apply_to_values_in_the_stated_range(random_chips, encoder):
    chips = random_chips(n_units=2, size=64)
    bright = chips.copy(data=(chips.values * 255).astype(np.float32))
    first = encoder(normalise="imagenet", precision="float32").fit(chips)
    scaled = encoder(normalise="imagenet", precision="float32", value_range=(0, 255)).fit(bright)
    np.testing.assert_allclose(
        embed(chips, first).values, embed(bright, scaled).values, rtol=1e-3, atol=1e-4
    )
    seen = first.preparation.apply(chips.values[:, 0])
    expected = (chips.values[0, 0, 1] - 0.456) / 0.224
    np.testing.assert_allclose(seen[0, 1], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"means 76\.\d.*value_range \[0\.0, 1\.0\]"):
        encoder(normalise="imagenet").fit(bright)
    five = random_chips(n_bands=5, size=64)
    with pytest.raises(ConfigError, match="constants of 3 bands; 5 are used"):
        encoder(normalise="imagenet", adapt="mean").fit(five)


def test_packaged_weights_are_named_by_hash_and_their_origin(random_chips):
    encoder = ImageEncoder(EfficientNetLite0Settings(input_size=64)).fit(random_chips())
    provenance = encoder.provenance()
    assert provenance["weights"]["sha256"].startswith("57934424")
    assert provenance["note"] == RGB_NOTE
    assert provenance["normalisation"]["normalise"] == "imagenet"
    assert "site-packages" not in str(provenance)


def test_absent_package_is_refused_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(image.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed.*eo-causal\[weights\].*random_features"):
        packaged_weights()
