"""Small networks: shapes on any chip, what they can see, their own random numbers."""

import pytest
import torch
from torch import nn

from eo_causal.encode.small_networks import (
    Dropout,
    FilterTrunk,
    initialise,
    position_code,
    single_filter,
    small_cnn,
    small_vit,
)


def ready(network, seed=0):
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def run(network, images):
    n = len(images)
    frames, years = torch.ones(n, 1, dtype=torch.bool), torch.full((n, 1), 2015.5)
    return network(images[:, None], frames, years)


def images(n, bands, height, width, seed=0):
    return torch.randn(n, bands, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", [small_cnn, small_vit, single_filter])
@pytest.mark.parametrize("size", [(8, 8), (33, 35), (16, 47)])
@pytest.mark.parametrize("bands", [1, 4])
def test_networks_run_on_any_chip(make, size, bands):
    network = ready(make(bands, outputs=2)).eval()
    with torch.no_grad():
        found = run(network, images(4, bands, *size))
    assert found.shape == (4, 2)
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("make", [small_cnn, small_vit])
def test_default_heads_are_a_logit_and_two_outcomes(make):
    assert make(3).head.out_features == 3


def test_features_are_what_the_head_sees():
    network = ready(small_cnn(2)).eval()
    chips = images(3, 2, 20, 20)[:, None]
    with torch.no_grad():
        features = network.features(chips, None, None)
        torch.testing.assert_close(network.head(features), network(chips, None, None))
    assert features.shape == (3, 64)


def test_convolution_blocks_are_as_published():
    network = small_cnn(3)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [item.out_channels for item in convolutions] == [32, 32, 32]
    assert {item.kernel_size for item in convolutions} == {(5, 5)}
    assert {item.stride for item in convolutions} == {(2, 2)}
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 3


def test_transformer_is_as_published():
    network = small_vit(3)
    assert network.trunk.embed.kernel_size == (16, 16)
    assert len(network.trunk.blocks) == 4
    assert network.width == 256
    assert {item.share for item in network.modules() if isinstance(item, Dropout)} == {0.1}


def test_convolutional_features_hold_the_maximum_and_the_mean():
    network = ready(small_cnn(1)).eval()
    flat, spot = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    spot[..., 30:34, 30:34] = 8.0
    with torch.no_grad():
        change = (network.trunk(spot) - network.trunk(flat)).abs()[0]
    assert change[:32].max() > 10 * change[32:].max()


def test_single_filter_is_the_maximum_of_one_convolution():
    trunk = FilterTrunk(1, width=2)
    with torch.no_grad():
        trunk.filter.weight.copy_(torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]))
        trunk.filter.bias.zero_()
        image = torch.tensor([[[[1.0, 5.0, 0.0], [2.0, 3.0, 1.0], [0.0, 0.0, 4.0]]]])
        found = trunk.eval()(image)
    assert float(found) == pytest.approx(7.0, rel=1e-4)


def test_single_filter_starts_with_one_filter_of_width_8():
    network = single_filter(2)
    assert network.trunk.filter.weight.shape == (1, 2, 8, 8)
    assert network.head.out_features == 1


def fresh(seed):
    with torch.device("meta"):
        network = small_vit(1)
    return ready(network.to_empty(device="cpu"), seed)


def test_weights_depend_on_their_seed_and_nothing_else():
    before = torch.get_rng_state()
    first, second, other = [fresh(seed).state_dict() for seed in (7, 7, 8)]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_draws_from_its_own_generator():
    before = torch.get_rng_state()
    chips = images(2, 1, 16, 16)
    first, second = [run(fresh(7).train(), chips) for _ in range(2)]
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_initial_weights_keep_the_scale_of_their_inputs():
    network = ready(small_cnn(3))
    weight = network.trunk.blocks[0].weight
    assert weight.abs().max() <= 1 / 75**0.5
    assert weight.std().item() == pytest.approx(1 / 75**0.5 / 3**0.5, rel=0.05)
    assert torch.equal(network.trunk.blocks[2].weight, torch.ones(32))
    assert torch.equal(network.trunk.blocks[0].bias, torch.zeros(32))


def test_dropout_keeps_the_mean_and_stops_in_evaluation():
    dropout = Dropout(0.25)
    dropout.generator = torch.Generator().manual_seed(0)
    values = torch.ones(20_000)
    dropped = dropout.train()(values)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(dropout.eval()(values), values)


def test_position_codes_differ_between_all_places():
    code = position_code(5, 7, 64).flatten(1).T
    assert code.shape == (35, 64)
    distance = torch.cdist(code, code) + torch.eye(35) * 9
    assert distance.min() > 0.5


def test_the_transformer_knows_where_things_are():
    network = ready(small_vit(1)).eval()
    image = torch.zeros(1, 1, 48, 48)
    image[..., :16, :16] = 3.0
    with torch.no_grad():
        moved = network.trunk(torch.roll(image, 32, dims=-1))
        assert (network.trunk(image) - moved).abs().max() > 1e-3
