"""Attention over frames: masks, dates, and nothing else."""

import math

import pytest
import torch

from eo_causal.encode.attention import SequenceNetwork, frame_code
from eo_causal.encode.small_networks import initialise

NAN = float("nan")


@pytest.fixture(scope="module")
def network():
    made = SequenceNetwork(2, outputs=3)
    initialise(made, torch.Generator().manual_seed(0))
    return made.eval()


def sequence(n=3, frames=4, size=13):
    values = torch.randn(n, frames, 2, size, size, generator=torch.Generator().manual_seed(1))
    years = (2015.0 + torch.arange(frames, dtype=torch.float64)).expand(n, frames).clone()
    return values, torch.ones(n, frames, dtype=torch.bool), years


def outputs(network, *inputs):
    with torch.no_grad():
        return network(*inputs)


def test_outputs_and_features_have_their_shapes(network):
    inputs = sequence()
    assert outputs(network, *inputs).shape == (3, 3)
    assert network.features(*inputs).shape == (3, 64)


def test_weights_are_a_distribution_over_frames(network):
    weights = network.pool(*sequence())[1]
    assert weights.shape == (3, 4)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    assert weights.min() > 0


def test_masked_frames_get_weight_0_and_change_nothing(network):
    values, frames, years = sequence()
    frames[1, 2], years[1, 2] = False, NAN
    weights = network.pool(values, frames, years)[1]
    assert weights[1, 2] == 0
    before = outputs(network, values, frames, years)
    values[1, 2] = 1e6
    assert torch.equal(before, outputs(network, values, frames, years))


def test_a_masked_frame_equals_no_frame(network):
    values, frames, years = sequence(n=2)
    frames[:, 3] = False
    full = outputs(network, values, frames, years)
    short = outputs(network, values[:, :3], frames[:, :3], years[:, :3])
    torch.testing.assert_close(full, short)


def test_masked_frames_do_not_move_batch_statistics(network):
    values, frames, years = sequence()
    frames[:, 0] = False
    made = SequenceNetwork(2)
    initialise(made, torch.Generator().manual_seed(0))
    other = SequenceNetwork(2)
    other.load_state_dict(made.state_dict())
    first = made.train()(values, frames, years)
    second = other.train()(values[:, 1:], frames[:, 1:], years[:, 1:])
    torch.testing.assert_close(first, second)


def test_order_of_storage_does_not_matter(network):
    values, frames, years = sequence()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        outputs(network, values, frames, years),
        outputs(network, values[:, order], frames, years[:, order]),
    )


def test_the_gaps_between_dates_matter(network):
    values, frames, years = sequence()
    later = years.clone()
    later[:, 3] += 5
    moved = outputs(network, values, frames, later)
    assert (moved - outputs(network, values, frames, years)).abs().max() > 1e-3


def test_position_code_by_hand():
    years = torch.tensor([[2015.25, 2017.5, NAN]], dtype=torch.float64)
    frames = torch.tensor([[True, True, False]])
    expected = [[[1.0, 0.0, 0.0], [0.0, -1.0, 2.25], [0.0, 0.0, 0.0]]]
    torch.testing.assert_close(
        frame_code(years, frames), torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_years_are_counted_from_the_first_valid_frame():
    years = torch.tensor([[2010.0, 2015.0, 2016.0]], dtype=torch.float64)
    code = frame_code(years, torch.tensor([[False, True, True]]))
    assert code[0, :, 2].tolist() == [0.0, 0.0, 1.0]


def test_the_day_of_the_year_is_a_circle():
    years = torch.tensor([[2015.0, 2016.0 - 1e-6]], dtype=torch.float64)
    code = frame_code(years, torch.ones(1, 2, dtype=torch.bool))
    assert math.dist(code[0, 0, :2].tolist(), code[0, 1, :2].tolist()) < 1e-4
