"""Do learned encoders see what they should? Repeated simulations (EO_CAUSAL_SIZE=full for all).

Rows C-16 and C-17 of the heterogeneity worlds, T21 (quintile loss), AU-V1 (IVL), determinism.
"""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eo_causal.encode.base import embed
from eo_causal.encode.ivl import choose_linear_alpha, fit_linear_ivl, instrument_basis
from eo_causal.encode.pixel_stats import PixelStats
from eo_causal.encode.random_features import RandomFeatures, RandomFeaturesSettings
from eo_causal.encode.train import ImageNetwork, TrainSettings
from eo_causal.simulate.heterogeneity import changing_brightness, perturbed_scenes

pytestmark = pytest.mark.statistics


def augmented_world(seed, share, n=2048, d=32):
    """World A6: confounded features, and augmentations in the null space of the label."""
    random = np.random.default_rng(seed)
    label = random.normal(size=d)
    confounder = random.normal(size=(n, d))
    features = confounder @ random.normal(size=(d, d)) + 0.1 * random.normal(size=(n, d))
    hidden = confounder @ random.normal(size=d)
    target = features @ label + hidden + 0.1 * random.normal(size=n)
    free = np.linalg.svd(label[None])[2][1:]
    free = free[random.permutation(d - 1)[: round(share * (d - 1))]]
    instruments = random.normal(size=(n, len(free)))
    return label, features, features + instruments @ free, target, instruments, random


def causal_errors(seed, share):
    """Normalised error of the label's coefficients: ERM, DA+ERM, DA+IV, IVL with chosen alpha."""
    label, plain, moved, target, instruments, random = augmented_world(seed, share)
    alpha = choose_linear_alpha(moved, target, instruments, random)
    basis = instrument_basis(instruments)
    found = [
        np.linalg.lstsq(plain, target, rcond=None)[0],
        np.linalg.lstsq(moved, target, rcond=None)[0],
        np.linalg.lstsq(basis.T @ moved, basis.T @ target, rcond=None)[0],
        fit_linear_ivl(moved, target, instruments, alpha),
    ]
    away = np.array([((item - label) ** 2).sum() for item in found])
    return away / (away + (label**2).sum())


@pytest.mark.parametrize(("share", "limit"), [(1.0, 0.06), (2 / 3, 0.08)], ids=["full", "part"])
def test_ivl_finds_the_label_behind_the_confounder(full_size, measured, share, limit):
    errors = [causal_errors(seed, share) for seed in range(32 if full_size else 16)]
    plain, augmented, instrumented, ivl = np.median(errors, axis=0)
    for name, value in zip(
        ("erm", "da_erm", "da_iv", "ivl"), (plain, augmented, instrumented, ivl), strict=True
    ):
        measured(f"ncer_{name}", value)
    assert plain > augmented > ivl
    assert instrumented > ivl
    assert ivl <= limit


def effects_by_ridge(embedding, units, seed):
    """Effects out of fold by a ridge T-learner on standardised features."""
    effects = np.empty(len(units))
    treated = units["treatment"].to_numpy() == 1
    outcome = units["outcome"].to_numpy()
    for training, rest in KFold(5, shuffle=True, random_state=seed).split(embedding):
        arms = []
        for arm in (treated, ~treated):
            rows = training[arm[training]]
            model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
            arms.append(model.fit(embedding[rows], outcome[rows]).predict(embedding[rest]))
        effects[rest] = arms[0] - arms[1]
    return effects


def effect_correlations(effect, seed, n):
    """Correlation of estimated with true effects: all frames, and the last frame alone."""
    world = changing_brightness(seed, n, effect, size=16)
    found = []
    for chips in (world.chips, world.chips.isel(time=[-1])):
        embedding = embed(chips, PixelStats().fit(chips)).to_numpy().astype(float)
        effects = effects_by_ridge(embedding, world.units, seed)
        found.append(np.corrcoef(effects, world.units["effect"])[0, 1])
    return found


@pytest.mark.parametrize("effect", ["change", "last"])
def test_a_sequence_beats_a_still_image_where_change_matters(full_size, measured, effect):
    """C-17, with the frozen baseline encoder."""
    pairs = [effect_correlations(effect, seed, 2000) for seed in range(10 if full_size else 1)]
    sequence, still = np.mean(pairs, axis=0)
    measured("sequence", sequence)
    measured("still", still)
    if effect == "change":
        assert sequence - still >= 0.2
    else:
        assert abs(sequence - still) <= 0.05


def test_attention_learns_a_change_that_a_still_network_cannot_see(full_size, measured):
    """Ideal features correlate .98 with the change; the last frame alone .44."""
    world = changing_brightness(0, 1000 if full_size else 400, size=12)
    change = world.units["change"].to_numpy()
    training, held_out = np.split(np.arange(len(change)), [len(change) * 3 // 4])
    found = {}
    for network, chips in (
        ("attention", world.chips),
        ("small_cnn", world.chips.isel(time=[-1])),
    ):
        settings = TrainSettings(network=network, epochs=15, learning_rate=3e-3)
        fitted = ImageNetwork(settings).fit(chips, change[training], training)
        predicted = fitted.predict(chips.isel(unit=held_out))
        found[network] = np.corrcoef(predicted, change[held_out])[0, 1]
        measured(network, found[network])
    assert found["attention"] > 0.9
    assert found["small_cnn"] < 0.6


def scale_features(world, size, n_filters, seed):
    """Frozen random features of the central footprint and of the whole scene."""
    length = world.chips.sizes["y"]
    found = []
    for side in (size, length):
        middle = slice((length - side) // 2, (length + side) // 2)
        chips = world.chips.isel(y=middle, x=middle)
        settings = RandomFeaturesSettings(n_filters=n_filters, n_components=None)
        encoder = RandomFeatures(settings, seed).fit(chips)
        found.append(embed(chips, encoder).to_numpy().astype(float))
    return found


def r_squared(features, outcome, seed):
    """Out of fold, of a 128-32-1 network on separately standardised and reduced blocks."""
    blocks, start = [], 0
    for number, block in enumerate(features):
        columns = list(range(start, start + block.shape[1]))
        blocks.append((str(number), make_pipeline(StandardScaler(), PCA(10)), columns))
        start += block.shape[1]
    network = MLPRegressor(
        hidden_layer_sizes=(128, 32), learning_rate_init=3e-3, alpha=1.0, early_stopping=True,
        n_iter_no_change=15, max_iter=1000, random_state=seed,
    )  # fmt: skip
    model = make_pipeline(ColumnTransformer(blocks), StandardScaler(), network)
    scaled = (outcome - outcome.mean()) / outcome.std()
    folds = KFold(5, shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, np.concatenate(features, axis=1), scaled, cv=folds)
    return 1 - np.mean((scaled - predicted) ** 2)


CASES = {
    "mixed": (("blob", "contrast", "edge"), True),
    "all": (("blob", "contrast", "edge", "rotation"), True),
    "contrast": (("contrast",), True),
    "blob": (("blob",), False),
    "edge": (("edge",), False),
}


def scale_scores(perturbations, seed, full_size):
    """R2 of both scales together, of the near one and of the far one."""
    n, size, n_filters = (500, 256, 32) if full_size else (250, 128, 32)
    world = perturbed_scenes(seed, n, perturbations, size=size)
    near, far = scale_features(world, 32, n_filters, seed)
    outcome = world.units["outcome"].to_numpy()
    return [r_squared(part, outcome, seed) for part in ([near, far], [near], [far])]


def test_two_scales_win_where_both_carry_signal(full_size, measured):
    """C-16: and lose little where one of them is noise."""
    for case in CASES if full_size else ("mixed", "blob"):
        perturbations, both = CASES[case]
        seeds = range(3 if full_size else 2)
        scores = [scale_scores(perturbations, seed, full_size) for seed in seeds]
        joined, near, far = np.mean(scores, axis=0)
        for name, value in (("joined", joined), ("near", near), ("far", far)):
            measured(f"{case}_{name}", value)
        assert joined >= max(near, far) - (0.0 if both else 0.08), case


def quintile_biases(truth, predicted):
    edges = np.quantile(truth, [0.2, 0.4, 0.6, 0.8])
    quintile = np.searchsorted(edges, truth, side="right")
    return np.array([(predicted - truth)[quintile == j].mean() for j in range(5)])


def test_the_quintile_loss_trades_accuracy_for_bias(full_size, measured):
    """T21: the extremes shrink less than under squared error, and the error grows."""
    world = changing_brightness(1, 2000 if full_size else 600, n_frames=2, size=12)
    chips, brightness = world.chips.isel(time=[-1]), world.units["start"] + world.units["change"]
    noise = np.random.default_rng(0).normal(0, 1.5, len(brightness))
    truth = (brightness + noise).to_numpy()
    training = np.arange(len(truth) * 2 // 3)
    held_out = np.arange(len(training), len(truth))
    found = {}
    for loss in ("mean_squared", "quintile_bias"):
        settings = TrainSettings(loss=loss, quintile_weight=15, epochs=15, learning_rate=3e-3)
        network = ImageNetwork(settings).fit(chips, truth[training], training)
        predicted = network.predict(chips.isel(unit=held_out))
        biases = quintile_biases(truth[held_out], predicted)
        error = np.mean((predicted - truth[held_out]) ** 2) / truth.var()
        found[loss] = (np.abs(biases).max() / truth.std(), error)
        measured(f"{loss}_worst_bias", found[loss][0])
        measured(f"{loss}_r_squared", 1 - error)
    assert found["quintile_bias"][0] < 0.8 * found["mean_squared"][0]
    assert found["quintile_bias"][1] > found["mean_squared"][1]


def hazy_chips(seed, n):
    """A label in the texture, and haze that goes with it in the training data's labels."""
    random = np.random.default_rng(seed)
    label, haze = random.normal(size=n), random.normal(size=n)
    texture = np.exp(0.5 * label)[:, None, None] * random.normal(size=(n, 12, 12))
    chips = changing_brightness(seed, n, n_frames=2, size=12).chips.isel(time=[0])
    values = (texture + haze[:, None, None])[:, None, None]
    return chips.copy(data=values.astype(np.float32)), label, haze


def test_an_ivl_network_does_not_read_the_haze(measured):
    chips, label, haze = hazy_chips(0, 400)
    fresh, true, unrelated = hazy_chips(1, 300)
    design = np.column_stack([true, unrelated, np.ones(300)])
    found = {}
    for name, changes in (
        ("plain", {}),
        ("ivl", {"loss": "ivl", "alpha": 0.3, "instruments": {"offset": 2.0}}),
    ):
        settings = TrainSettings(epochs=12, learning_rate=3e-3, batch_size=64, **changes)
        predicted = ImageNetwork(settings).fit(chips, label + haze).predict(fresh)
        slope = np.linalg.lstsq(design, predicted, rcond=None)[0][1]
        found[name] = (slope, np.corrcoef(predicted, true)[0, 1])
        measured(f"{name}_haze_slope", slope)
        measured(f"{name}_correlation", found[name][1])
    assert found["plain"][0] > 0.5
    assert abs(found["ivl"][0]) < 0.15
    assert found["ivl"][1] > found["plain"][1]


def weights_hash():
    from eo_causal.encode.train import ImageNetwork, TrainSettings
    from eo_causal.simulate.heterogeneity import changing_brightness

    world = changing_brightness(0, 60, size=10)
    settings = TrainSettings(network="attention", epochs=3, invariant_to=("flips",))
    network = ImageNetwork(settings).fit(world.chips, world.units["change"])
    return network.provenance()["weights_sha256"]


def test_another_process_trains_the_same_bytes():
    code = f"{inspect.getsource(weights_hash)}\nprint(weights_hash())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == weights_hash()
