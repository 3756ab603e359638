"""Networks for treatment and outcomes: they learn both, out of fold, the same way everywhere."""

import pickle
import warnings

import dask
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.special import expit

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.core.units import StudyUnits
from eo_causal.encode.base import to_batch
from eo_causal.encode.joint import (
    JointNetwork,
    JointSettings,
    _seeded,
    cross_fit_network,
    cross_fit_sequence,
)
from eo_causal.encode.losses import joint
from eo_causal.encode.network_fit import NetworkFit
from eo_causal.encode.salience import pixel_gradient
from eo_causal.encode.small_networks import FilterTrunk, SparseFilterTrunk, single_filter
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

SQUARE = (slice(2, 6), slice(6, 10))
QUICK = JointSettings(epochs=4, learning_rate=5e-3, batch_size=16)
SHORT = QUICK.model_copy(update={"epochs": 1, "network": "single_filter", "filter_width": 4})


def settings(**changes):
    return JointSettings(**{**QUICK.model_dump(), **changes})


def make_study(n_images=160, n_each=1, frames=1, size=12, seed=0):
    """Chips of noise; the level of one square moves treatment and outcome. Effect 1 + level."""
    random = np.random.default_rng(seed)
    level = random.normal(size=n_images)
    values = random.normal(size=(n_images, frames, 2, size, size))
    values[..., SQUARE[0], SQUARE[1]] += 3 * level[:, None, None, None, None]
    keys = [f"key{i:03d}" for i in range(n_images)]
    years = np.broadcast_to(2015.5 + np.arange(frames), (n_images, frames)).copy()
    chips = xr.DataArray(
        values.astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", keys),
            "image_key": ("unit", keys),
            "band": ["red", "nir"],
            "fractional_year": (("unit", "time"), years),
        },
    )
    image = np.repeat(np.arange(n_images), n_each)
    own = level[image]
    treatment = (random.random(len(image)) < expit(1.5 * own)).astype(float)
    outcome = 10 + 5 * own + (1 + own) * treatment + 0.5 * random.normal(size=len(image))
    table = pd.DataFrame({
        "unit_id": [f"u{i:03d}" for i in range(len(image))],
        "image_key": np.array(keys, dtype=object)[image],
        "treatment": treatment, "outcome": outcome,
        "cluster": np.array(keys, dtype=object)[image], "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame(index=table.index))
    return chips, units, own


def folds_of(units, n_splits=1, n_folds=3):
    chosen = FoldSettings(kind="image_key", n_splits=n_splits, n_folds=n_folds)
    return make_folds(units, chosen, None, 0.0, False, seed=1)


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def fitted(study):
    chips, units, _ = study
    return JointNetwork(settings(epochs=8)).fit(chips, units.treatment, units.outcome)


@pytest.fixture(scope="module")
def cross_fitted(study):
    chips, units, _ = study
    with dask.config.set(scheduler="threads"):
        found = cross_fit_network(chips, units, folds_of(units), QUICK, seed=7)
        assert dask.config.get("scheduler") == "threads"
    return found


def test_the_joint_loss_by_hand():
    outputs = torch.tensor([[0.0, 1.0, 5.0], [np.log(3.0), 2.0, 4.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 3.0], [0.0, 2.5]], dtype=torch.float64)
    assignment = (np.log(2) + np.log(4)) / 2
    squared = ((5 - 3) ** 2 + (2 - 2.5) ** 2) / 2
    assert float(joint(outputs, target, 0.0, 1.0, 1.0)) == pytest.approx(assignment + squared)
    assert float(joint(outputs, target, 0.0, 2.0, 0.5)) == pytest.approx(
        2 * assignment + 0.5 * squared
    )
    smooth = (np.log(2) + 0.9 * np.log(4) + 0.1 * np.log(4 / 3)) / 2
    assert float(joint(outputs, target, 0.2, 1.0, 1.0)) == pytest.approx(smooth + squared)


def test_only_the_observed_arm_is_learned_from():
    outputs = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, 3.0], [0.0, -1.0]], dtype=torch.float64)
    gradient = torch.autograd.grad(joint(outputs, target, 0.0, 1.0, 1.0), outputs)[0]
    np.testing.assert_allclose(gradient.numpy(), [[-0.25, 0, -3], [0.25, 1, 0]])


@pytest.mark.parametrize("bands", [1, 3])
def test_gradients_through_the_maxima_alone_are_those_through_whole_maps(bands):
    dense, sparse = FilterTrunk(bands, 4, 3).double(), SparseFilterTrunk(bands, 4, 3).double()
    sparse.load_state_dict(dense.state_dict())
    images, factors = (
        torch.tensor(np.random.default_rng(0).normal(size=shape))
        for shape in ((6, bands, 9, 13), (6, 3))
    )
    results = []
    for trunk in (dense, sparse):
        pixels = images.clone().requires_grad_()
        values = trunk(pixels)
        asked = [pixels, trunk.filter.weight]
        results.append((values, *torch.autograd.grad((factors * values).sum(), asked)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_one_output_keeps_the_arithmetic_of_networks_on_disk():
    assert type(single_filter(1, outputs=1).trunk) is FilterTrunk
    assert type(single_filter(1, outputs=3).trunk) is SparseFilterTrunk


def test_propensity_and_outcomes_are_learned_in_their_own_units(fitted):
    chips, _, level = make_study(seed=1)
    found = fitted.predict(chips)
    assert list(found) == ["propensity", "mu0", "mu1"]
    assert np.corrcoef(found["propensity"], expit(1.5 * level))[0, 1] > 0.9
    truth = {"mu0": 10 + 5 * level, "mu1": 11 + 6 * level}
    for name, values in truth.items():
        assert np.corrcoef(found[name], values)[0, 1] > 0.9
        assert np.abs(found[name] - values).mean() < 2.5


@pytest.mark.parametrize("network", ["small_vit", "single_filter", "attention"])
def test_every_trunk_learns_both(network):
    chips, units, level = make_study(frames=2 if network == "attention" else 1)
    chosen = settings(network=network, filters=3, filter_width=4, epochs=6)
    found = JointNetwork(chosen).fit(chips, units.treatment, units.outcome).predict(chips)
    for name in found:
        assert np.corrcoef(found[name], level)[0, 1] > 0.6


def test_a_second_run_gives_the_same_bytes(study):
    chips, units, _ = study
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(JointNetwork(settings(epochs=2)).fit(chips, units.treatment, units.outcome))
    first, again = found
    assert again.provenance() == first.provenance()
    assert again.provenance()["name"] == "joint_network"
    pd.testing.assert_frame_equal(again.predict(chips), first.predict(chips), check_exact=True)


def test_a_fitted_network_can_be_pickled(study, fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(copy.predict(study[0]), fitted.predict(study[0]))


def test_weights_decide_between_the_parts(study):
    chips, units, _ = study
    found = {}
    for weight in (1e-3, 1.0):
        chosen = settings(treatment_weight=weight)
        network = JointNetwork(chosen).fit(chips, units.treatment, units.outcome)
        found[weight] = np.abs(network.predict(chips)["propensity"] - 0.5).mean()
    assert found[1e-3] < found[1.0]


def test_no_units_give_no_predictions(study, fitted):
    assert fitted.predict(study[0].isel(unit=slice(0, 0))).shape == (0, 3)


def test_the_gradient_is_of_the_treatment_logit(study, fitted):
    chips = study[0].isel(unit=slice(0, 8))
    gradient = pixel_gradient(fitted, to_batch(chips))
    place = (slice(None), 0, 1, 3, 7)
    up, down = chips.copy(deep=True), chips.copy(deep=True)
    up[place] += 0.05
    down[place] -= 0.05
    slope = (fitted.outputs(up) - fitted.outputs(down))[:, 0] / 0.1
    np.testing.assert_allclose(gradient[place], slope, rtol=0.1, atol=5e-3)


@pytest.mark.parametrize(
    ("treatment", "outcome", "message"),
    [
        (np.arange(160) % 3, np.arange(160), "a treatment of 0 and 1, not 2"),
        (np.ones(160), np.arange(160), "the treatment is constant"),
        (np.arange(160) % 2, np.zeros(160), "the outcome is constant"),
        (np.arange(160) % 2, np.r_[np.nan, np.arange(159)], r"the outcome of 1 .*first: key000"),
        (np.arange(159) % 2, np.arange(160), r"the treatment has shape \(159,\)"),
    ],
)
def test_bad_targets_are_named(treatment, outcome, message, study):
    with pytest.raises(DataError, match=message):
        JointNetwork(QUICK).fit(study[0], treatment, outcome)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"invariant_to": ("brightness",)}, "AugmentationWarning"),
        ({"label_smoothing": 0.05}, "LabelSmoothingWarning"),
    ],
)
def test_settings_that_move_propensities_warn_once(changes, code, study):
    chips, units, _ = study
    quick = settings(epochs=1, network="single_filter", filter_width=4, **changes)
    with pytest.warns(EOCausalWarning) as caught:
        JointNetwork(quick).fit(chips, units.treatment, units.outcome)
    assert [(item.message.code, item.filename) for item in caught] == [(code, __file__)]
    with warnings.catch_warnings(record=True) as caught, dask.config.set(scheduler="threads"):
        warnings.simplefilter("always")
        cross_fit_network(chips, units, folds_of(units), quick, seed=7)
    found = [item.filename for item in caught if item.message.code == code]
    assert found == [__file__]


def test_predictions_are_of_units_in_their_order(study, cross_fitted):
    _, units, level = study
    found = cross_fitted.predictions
    assert list(found) == ["split", "unit_id", "propensity", "mu0", "mu1"]
    assert found["unit_id"].tolist() == units.table["unit_id"].tolist()
    assert found["split"].eq(0).all()
    assert np.isfinite(found[["propensity", "mu0", "mu1"]]).all(axis=None)
    assert np.corrcoef(found["mu0"], level)[0, 1] > 0.8
    assert len(cross_fitted.networks) == 3
    assert cross_fitted.networks["weights_sha256"].nunique() == 3
    assert cross_fitted.history.groupby(["split", "fold"]).size().tolist() == [4, 4, 4]


def test_a_unit_does_not_move_its_own_prediction(study, cross_fitted):
    chips, units, _ = study
    folds = folds_of(units)
    test = folds.pairs(0)[1][1]
    changed = units.table.copy()
    changed.loc[test, "treatment"] = 1 - changed.loc[test, "treatment"]
    changed.loc[test, "outcome"] += 100
    other = cross_fit_network(chips, StudyUnits(changed, units.covariates), folds, QUICK, seed=7)
    for name in ("propensity", "mu0", "mu1"):
        before, after = (found.predictions[name].to_numpy() for found in (cross_fitted, other))
        np.testing.assert_array_equal(after[test], before[test])
        assert (np.delete(after, test) != np.delete(before, test)).all()


def test_schedulers_and_blocks_change_no_byte(study, cross_fitted):
    chips, units, _ = study
    with dask.config.set(scheduler="synchronous"):
        again = cross_fit_network(chips.chunk(unit=50), units, folds_of(units), QUICK, seed=7)
    pd.testing.assert_frame_equal(again.predictions, cross_fitted.predictions, check_exact=True)
    xr.testing.assert_identical(again.salience, cross_fitted.salience)
    other = cross_fit_network(chips, units, folds_of(units), QUICK, seed=8)
    assert not np.allclose(other.predictions["mu0"], cross_fitted.predictions["mu0"])


def test_each_split_is_trained_anew(study, cross_fitted):
    chips, units, _ = study
    folds = folds_of(units, n_splits=2)
    with counting() as counts:
        found = cross_fit_network(chips, units, folds, settings(n_splits=2, epochs=1), seed=7)
    assert counts == {"networks": 6, "epochs": 6}
    assert found.predictions["split"].tolist() == [0] * 160 + [1] * 160
    first, second = np.split(found.predictions["mu0"].to_numpy(), 2)
    assert not np.allclose(first, second)
    with pytest.raises(ConfigError, match=r"n_splits: 2 .* there are 1"):
        cross_fit_network(chips, units, folds_of(units), settings(n_splits=2), seed=7)


def test_salience_shows_extreme_places_and_points_at_the_pattern(study, cross_fitted):
    _, units, _ = study
    maps = cross_fitted.salience
    found = cross_fitted.predictions["propensity"].to_numpy()
    treated = units.treatment == 1
    assert maps["treated"].to_numpy().tolist() == [True] * 3 + [False] * 3
    expected = np.r_[np.sort(found[treated])[:-4:-1], np.sort(found[~treated])[:3]]
    np.testing.assert_array_equal(maps["propensity"], expected)
    assert maps["magnitude"].dims == maps["drawn"].dims == ("unit", "time", "y", "x")
    inside = maps["magnitude"][:, :, SQUARE[0], SQUARE[1]].mean()
    assert inside > 2 * maps["magnitude"].mean()
    assert maps["direction"][:, :, SQUARE[0], SQUARE[1]].mean() > 0
    assert abs(cross_fitted.salience_correlation) < 0.5


def test_maps_are_of_the_network_that_left_the_place_out(study, cross_fitted):
    chips, units, _ = study
    folds, maps = folds_of(units), cross_fitted.salience
    key = str(maps["image_key"].to_numpy()[0])
    unit = units.table.index[units.table["image_key"] == key][0]
    fold = int(folds.table["fold_of_unit"].to_numpy()[0, unit])
    training = folds.pairs(0)[fold][0]
    network = JointNetwork(_seeded(QUICK, 7, 0, fold)).fit(
        chips, units.treatment[training], units.outcome[training], training,
        folds.group[training],
    )  # fmt: skip
    gradient = pixel_gradient(network, to_batch(chips.isel(unit=[unit])))
    np.testing.assert_allclose(maps["direction"][0], gradient[0].mean(axis=1), rtol=1e-5)


def test_units_that_share_an_image_share_its_predictions():
    chips, units, _ = make_study(n_images=50, n_each=3)
    shuffled = chips.isel(unit=np.random.default_rng(1).permutation(50))
    found = cross_fit_network(shuffled, units, folds_of(units), settings(epochs=2), seed=7)
    spread = found.predictions.groupby(units.table["image_key"].to_numpy())["propensity"].nunique()
    assert spread.eq(1).all()
    keys = found.salience["image_key"].to_numpy()
    assert len(set(keys)) == 6


def test_units_at_one_place_are_shown_once():
    chips, units, level = make_study(n_images=60)
    places = np.column_stack([np.arange(60) * 1000.0, np.zeros(60)])
    highest = np.argsort(-np.where(units.treatment == 1, level, -9))[:10]
    places[highest] = [[0.2, 0.4]] * 5 + [[-0.3, 0.1]] * 5
    table = units.table.assign(easting=places[:, 0], northing=places[:, 1])
    found = cross_fit_network(
        chips, StudyUnits(table, units.covariates), folds_of(units), settings(epochs=3), seed=7
    )
    rows = table.set_index("image_key").loc[found.salience["image_key"].to_numpy()]
    assert rows[["easting", "northing"]].round().drop_duplicates().shape[0] == 6


def test_units_without_a_chip_are_listed(study):
    chips, units, _ = study
    with pytest.raises(DataError, match=r"2 of 160 units have no chip \(first: u003\)"):
        cross_fit_network(chips.drop_isel(unit=[3, 9]), units, folds_of(units), QUICK, seed=7)


def test_a_correlation_that_is_no_number_is_none(monkeypatch, tmp_path):
    chips, units, _ = make_study(n_images=40)
    quick = settings(epochs=1, network="single_filter", filter_width=4)
    monkeypatch.setattr("eo_causal.encode.joint.check_salience", lambda *_: float("nan"))
    found = cross_fit_network(chips, units, folds_of(units), quick, seed=7)
    assert found.salience_correlation is None
    write_value(found, NetworkFit, tmp_path)
    assert read_value(NetworkFit, tmp_path).salience_correlation is None


def test_a_fit_survives_the_disk(cross_fitted, tmp_path):
    write_value(cross_fitted, NetworkFit, tmp_path)
    back = read_value(NetworkFit, tmp_path)
    pd.testing.assert_frame_equal(back.predictions, cross_fitted.predictions)
    pd.testing.assert_frame_equal(back.networks, cross_fitted.networks)
    xr.testing.assert_identical(back.salience.compute(), cross_fitted.salience)
    assert back.salience_correlation == cross_fitted.salience_correlation


@pytest.fixture(scope="module")
def in_sequence(study):
    chips, units, _ = study
    with dask.config.set(scheduler="threads"):
        return cross_fit_sequence(chips, units, folds_of(units), SHORT, seed=7)


def test_all_units_but_those_of_the_first_fold_are_predicted_by_earlier_folds(study, in_sequence):
    _, units, _ = study
    folds = folds_of(units)
    steps = folds.sequence(0, 7)
    tested = np.concatenate([test for _, test in steps])
    first = np.setdiff1d(np.arange(len(units)), tested)
    assert list(in_sequence) == ["split", "unit_id", "propensity", "mu0", "mu1"]
    ids = units.table["unit_id"].to_numpy()
    assert set(in_sequence["unit_id"]) == set(ids[tested])
    assert len(in_sequence) == len(tested)
    assert in_sequence["split"].eq(0).all()
    assert np.isfinite(in_sequence[["propensity", "mu0", "mu1"]]).all(axis=None)
    np.testing.assert_array_equal(np.sort(steps[0][0]), first)  # only learned from


def test_own_and_later_outcomes_do_not_move_a_prediction_in_sequence(study, in_sequence):
    chips, units, _ = study
    folds = folds_of(units)
    (_, second), (_, last) = folds.sequence(0, 7)
    changed = units.table.copy()
    changed.loc[last, "treatment"] = 1 - changed.loc[last, "treatment"]
    changed.loc[last, "outcome"] += 100
    other = StudyUnits(changed, units.covariates)
    again = cross_fit_sequence(chips, other, folds, SHORT, seed=7)
    pd.testing.assert_frame_equal(again, in_sequence, check_exact=True)
    changed.loc[second, "outcome"] += 100
    moved = cross_fit_sequence(chips, StudyUnits(changed, units.covariates), folds, SHORT, seed=7)
    ids = units.table["unit_id"].to_numpy()
    before, after = (table.set_index("unit_id")["mu0"] for table in (in_sequence, moved))
    np.testing.assert_array_equal(after[ids[second]], before[ids[second]])
    assert (after[ids[last]] != before[ids[last]]).all()


def test_networks_in_sequence_are_the_same_bytes_on_any_scheduler(study, in_sequence):
    chips, units, _ = study
    folds = folds_of(units)
    with counting() as counts, dask.config.set(scheduler="synchronous"):
        again = cross_fit_sequence(chips.chunk(unit=50), units, folds, SHORT, seed=7)
    pd.testing.assert_frame_equal(again, in_sequence, check_exact=True)
    assert counts == {"networks": 2, "epochs": 2}


def test_a_sequence_of_more_splits_than_folds_have_is_refused(study):
    chips, units, _ = study
    with pytest.raises(ConfigError, match=r"n_splits: 2 .* there are 1"):
        cross_fit_sequence(chips, units, folds_of(units), settings(n_splits=2), seed=7)
