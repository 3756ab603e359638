"""Bands, sizes, precision and running of frozen networks."""

import numpy as np
import pytest
import torch
from torch import nn

from eo_causal.encode.image import ImageSettings
from eo_causal.encode.networks import (
    BandChoice,
    NetworkKind,
    check_size,
    chosen_precision,
    embedding_names,
    freeze,
    frozen_network,
    run_network,
)
from eo_causal.errors import ConfigError


class Tiny(nn.Module):
    """One convolution, a map to pool, a classifier."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 7)

    def forward(self, images):
        return self.fc(self.avgpool(self.first(images)).flatten(1))


KIND = NetworkKind("fc", 2)


def frozen(n_bands=3, **options):
    settings = ImageSettings(name="resnet18", random_weights=True, **options)
    return freeze(Tiny(), KIND, settings, 0, n_bands, "float32")


@pytest.mark.parametrize(
    ("bands", "rgb", "adapt", "expected"),
    [
        (("blue", "green", "red"), None, None, (2, 1, 0)),
        (("B1", "B2", "B3"), None, None, (0, 1, 2)),
        (("nir", "red", "green", "blue"), ("red", "green", "blue"), None, (1, 2, 3)),
        (("nir", "red", "green", "blue"), (3, 2, 0), None, (3, 2, 0)),
        (("nir", "red"), (0, 1, 1), None, (0, 1, 1)),
        (("a", "b", "c", "d"), None, "mean", (0, 1, 2, 3)),
    ],
)
def test_bands_are_chosen_by_name_or_place(bands, rgb, adapt, expected):
    assert BandChoice(rgb, adapt)(bands) == expected


def test_bands_that_cannot_be_chosen_are_refused():
    with pytest.raises(ConfigError, match=r"takes 3 bands, the chips have 2 .*adapt: mean"):
        BandChoice(None, None)(("red", "nir"))
    for wrong in ((0, 1, 5), ("red", "green", "nir"), (0, 1, -1)):
        with pytest.raises(ConfigError, match="not three of the bands red, green"):
            BandChoice(wrong, None)(("red", "green"))


def test_the_widened_first_layer_sees_the_mean_of_grey_bands():
    plain, wide = frozen(), frozen(5, adapt="mean")
    assert wide.first.weight.shape == (2, 5, 1, 1)
    grey = torch.rand(2, 1, 4, 4)
    with torch.inference_mode():
        expected = plain(grey.repeat(1, 3, 1, 1))
        torch.testing.assert_close(wide(grey.repeat(1, 5, 1, 1)), expected)


def test_the_classifier_is_gone_and_the_map_is_pooled_both_ways():
    images = torch.rand(3, 3, 5, 4)
    network = frozen()
    with torch.inference_mode():
        maps = network.first(images)
        expected = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        torch.testing.assert_close(network(images), expected)
        torch.testing.assert_close(frozen(pooling="max")(images), expected[:, 2:])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_network_is_built_once_and_leaves_the_global_generator_alone():
    settings = ImageSettings(name="resnet18", random_weights=True)
    before = torch.random.get_rng_state()
    kind = NetworkKind("fc", 512)
    first, again = (frozen_network("resnet18", kind, settings, 0, 3, "float32") for _ in range(2))
    assert first is again
    assert torch.equal(torch.random.get_rng_state(), before)


def test_names_say_what_was_pooled():
    assert embedding_names("tiny", KIND, None) == (
        "tiny_mean_1", "tiny_mean_2", "tiny_max_1", "tiny_max_2",
    )  # fmt: skip
    token = NetworkKind("heads", 1, has_map=False)
    assert embedding_names("vit", token, None) == ("vit_token_1",)


def test_coarsening_needs_permission():
    assert not check_size(224, 224, 224, allow=False)
    assert check_size(35, 35, 224, allow=False)
    assert check_size(351, 351, 224, allow=True)
    with pytest.raises(
        ConfigError, match=r"351 x 200 px would be resized to 224 .*allow_coarsening"
    ):
        check_size(351, 200, 224, allow=False)


def test_precision_is_a_choice_or_what_the_machine_can():
    assert chosen_precision("float32") == "float32"
    assert chosen_precision("bfloat16") == "bfloat16"
    assert chosen_precision("auto") in ("float32", "bfloat16")


def test_the_last_chunk_is_filled_up_and_threads_are_limited(monkeypatch):
    monkeypatch.setenv("EO_CAUSAL_TORCH_THREADS", "1")
    seen = []

    class Spy(Tiny):
        def forward(self, images):
            seen.append(tuple(images.shape))
            return images.flatten(1)

    images = torch.rand(5, 3, 2, 2)
    found = run_network(Spy(), lambda part: images[part], 5, chunk=4)
    np.testing.assert_array_equal(found, images.flatten(1).numpy())
    assert seen == [(4, 3, 2, 2)] * 2
    assert torch.get_num_threads() == 1
