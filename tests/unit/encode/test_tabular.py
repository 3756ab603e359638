"""The small network on features: it learns, stops, repeats itself, and refuses what it cannot use."""

import numpy as np
import pytest
import torch

from eo_causal.encode.tabular import Mlp, MlpSettings, MlpTrainer, train_mlp
from eo_causal.errors import ConvergenceError, DataError

QUICK = MlpSettings(hidden=(16, 8), epochs=150, patience=20, learning_rate=1e-2)


@pytest.fixture(scope="module")
def rows():
    """400 rows: 3 features, a target bent in the first, on a scale of its own."""
    random = np.random.default_rng(1)
    features = random.standard_normal((400, 3)).astype(np.float32)
    return features, 50 + 10 * np.abs(features[:, 0]) + random.standard_normal(400)


@pytest.fixture(scope="module")
def fitted(rows):
    return train_mlp(*rows, QUICK, seed=3)


def test_it_learns_what_a_line_cannot(rows, fitted):
    random = np.random.default_rng(2)
    features = random.standard_normal((500, 3)).astype(np.float32)
    truth = 50 + 10 * np.abs(features[:, 0])
    error = fitted.predict(features) - truth
    assert error.std() < 0.4 * truth.std()
    assert abs(error.mean()) < 1


def test_prediction_is_the_network_that_torch_would_apply():
    weight = np.array([[1, -1], [2, 0]], dtype=np.float32)
    last = np.array([[1, 1]], dtype=np.float32)
    network = Mlp(((weight, np.float32([0, -1])), (last, np.float32([0.5]))), 10.0, 2.0, 0, 0.0)
    # relu(3 - 1) + relu(6 - 1) + 0.5 = 7.5; relu(-2) + relu(-1) + 0.5 = 0.5
    found = network.predict(np.float32([[3, 1], [0, 2]]))
    assert found.tolist() == [25.0, 11.0]
    assert found.dtype == np.float64


def test_the_same_seed_gives_the_same_bytes_whatever_torch_drew_before(rows, fitted):
    torch.manual_seed(99)
    again = MlpTrainer(QUICK)(*rows, seed=3)
    other = train_mlp(*rows, QUICK, seed=4)
    assert again.predict(rows[0]).tobytes() == fitted.predict(rows[0]).tobytes()
    assert other.predict(rows[0]).tobytes() != fitted.predict(rows[0]).tobytes()


def test_training_leaves_torch_s_own_random_numbers_alone(rows):
    before = torch.get_rng_state()
    train_mlp(*rows, MlpSettings(epochs=2), seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_epoch_s_weights_are_kept(rows):
    """More epochs never raise the loss of the epoch that stays; patience ends the search."""
    short, long = (
        train_mlp(*rows, QUICK.model_copy(update={"epochs": n}), seed=3) for n in (10, 150)
    )
    assert long.validation_loss < short.validation_loss
    noise = np.random.default_rng(5).standard_normal(400)
    stopped, longer = (
        train_mlp(rows[0], noise, QUICK.model_copy(update={"epochs": n}), seed=3)
        for n in (150, 300)
    )
    assert stopped.epoch < 100
    assert stopped.predict(rows[0]).tobytes() == longer.predict(rows[0]).tobytes()


def test_units_of_the_target_do_not_matter(rows, fitted):
    features, target = rows
    scaled = train_mlp(features, 1000 * target - 7, QUICK, seed=3)
    assert scaled.predict(features) == pytest.approx(1000 * fitted.predict(features) - 7, rel=1e-3)


@pytest.mark.parametrize(
    ("features", "target", "message"),
    [
        (np.zeros((5, 2)), np.zeros(4), r"shape \(5, 2\) and a target of shape \(4,\)"),
        (np.zeros(5), np.zeros(5), r"shape \(5,\)"),
        (np.full((20, 2), np.nan), np.arange(20.0), "20 of 20 rows"),
        (np.zeros((20, 2)), np.r_[np.inf, np.arange(19.0)], "1 of 20 rows"),
        (np.zeros((20, 2)), np.full(20, 3.0), "The target is 3 in all training rows"),
        (np.zeros((4, 2)), np.arange(4.0), "4 rows leave 3 for training and 1 for validation"),
    ],
)
def test_rows_that_teach_nothing_are_refused(features, target, message):
    with pytest.raises(DataError, match=message):
        train_mlp(features.astype(np.float32), target, QUICK, seed=1)


def test_a_loss_that_is_no_number_is_named(rows):
    settings = MlpSettings(learning_rate=1e18)
    with pytest.raises(ConvergenceError, match="Lower learning_rate"):
        train_mlp(*rows, settings, seed=1)
