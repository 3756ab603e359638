"""Losses: values by hand, and what each does with odd batches."""

import numpy as np
import pytest
import torch

from eo_causal.encode.losses import log_loss, mean_squared, quintile_bias, quintile_edges

TARGET = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_squared_error_by_hand():
    assert float(mean_squared(tensor([1.0, 3.0]), tensor([0.0, 1.0]))) == 2.5


def test_cross_entropy_by_hand():
    found = log_loss(tensor([0.0, np.log(3.0)]), tensor([1.0, 0.0]))
    assert float(found) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_cross_entropy_of_a_huge_logit_is_finite():
    assert float(log_loss(tensor([1e4]), tensor([0.0]))) == pytest.approx(1e4)


def test_quintile_edges_by_hand():
    np.testing.assert_allclose(quintile_edges(TARGET), [-2, -1.2, -0.4, 0.4, 1.2, 2])


def test_quintile_bias_is_the_hand_example():
    prediction = torch.zeros(5, dtype=torch.float64)
    found = quintile_bias(prediction, tensor(TARGET), quintile_edges(TARGET), 2.0)
    assert float(found) == pytest.approx(10.0)


def test_quintile_bias_of_weight_0_is_the_squared_error():
    random = np.random.default_rng(0)
    prediction, target = tensor(random.normal(size=50)), tensor(random.normal(size=50))
    found = quintile_bias(prediction, target, quintile_edges(target.numpy()), 0.0)
    assert float(found) == float(mean_squared(prediction, target))


def test_bias_is_averaged_within_a_quintile_before_it_is_squared():
    target = tensor([0.0, 0.0, 9.0, 9.0])
    edges = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 9.0])
    found = quintile_bias(tensor([1.0, -1.0, 9.0, 9.0]), target, edges, 100.0)
    assert float(found) == pytest.approx(0.5)


def test_a_quintile_without_a_row_is_left_out():
    prediction = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss = quintile_bias(prediction, tensor([-2.0, -1.9]), quintile_edges(TARGET), 2.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((4 + 1.9**2) / 2 + 2 * 1.95**2)
    assert bool(torch.isfinite(prediction.grad).all())


def test_targets_beyond_the_training_range_belong_to_the_outer_quintiles():
    edges = quintile_edges(TARGET)
    found = quintile_bias(tensor([0.0, 0.0]), tensor([-9.0, 9.0]), edges, 1.0)
    assert float(found) == pytest.approx(81 + 81)


def test_gradient_pulls_on_the_worst_quintile_only():
    prediction = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    plain, extra = [
        torch.autograd.grad(
            quintile_bias(prediction, tensor(TARGET), quintile_edges(TARGET), weight), prediction
        )[0]
        for weight in (0.0, 3.0)
    ]
    np.testing.assert_allclose((extra - plain).numpy(), [3 * 2 * 2.0, 0, 0, 0, 0])
