"""All arms in one call: tables, refusals, the same bytes on any scheduler."""

import dataclasses
import warnings

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.errors import ConfigError, DataError, EOCausalWarning, LeakageError
from eo_causal.estimate.arms import AteResult, AteSettings, estimate_ate
from eo_causal.estimate.ate import aipw, difference_in_means
from eo_causal.estimate.nuisance import NuisanceSettings

SETTINGS = AteSettings()


@dataclasses.dataclass(frozen=True)
class LazyMeans:
    """Band means of chips that are read by dask inside the task; notes what dask handed over."""

    chips: xr.DataArray

    def __call__(self, training):
        assert self.chips.chunks is not None
        return self.chips.mean(["time", "y", "x"]).compute().to_numpy()


@pytest.fixture(scope="module")
def run(world, folds):
    def estimate(
        settings=SETTINGS, features=None, predictions=None, covariates=("x1", "x2"), **more
    ):
        units = more.get("units", world.study_units(*covariates))
        keys = more.get("keys", world.chips["image_key"].values.tolist())
        return estimate_ate(units, folds, keys, features or {}, predictions or {}, settings, seed=5)

    return estimate


@pytest.fixture(scope="module")
def result(run, world):
    means = world.chips.mean(["time", "y", "x"]).to_numpy()
    return run(features={"means": lambda training: means})


def test_all_arms_are_estimated_and_images_remove_their_share(result):
    assert result.arms["arm"].tolist() == ["tabular", "image:means", "image:means+tabular"]
    found = {arm: result.effect(arm).estimate for arm in result.arms["arm"]}
    plain = result.effect("unadjusted", "difference_in_means")
    assert plain.estimate > 3.5
    assert 2.5 < found["tabular"] < plain.estimate
    assert found["image:means+tabular"] == pytest.approx(2, abs=0.4)
    assert len(result.effects) == 1 + 3 * 4
    assert result.effects["std_error"].gt(0).all()
    assert result.splits.groupby(["arm", "estimator"]).size().eq(2).all()
    low, high = result.effect("tabular").interval
    assert low < found["tabular"] < high


def test_difference_between_arms_is_precise(result):
    table = result.differences.set_index(["arm_a", "arm_b", "estimator"])
    row = table.loc["tabular", "image:means+tabular", "aipw"]
    parts = [result.effect(arm) for arm in ("tabular", "image:means+tabular")]
    assert row["estimate"] == pytest.approx(parts[0].estimate - parts[1].estimate, abs=0.05)
    assert row["lower"] > 0
    assert ("image:means+tabular", "unadjusted", "hajek") in table.index


def test_tables_say_what_was_balanced(result, world):
    rows = result.arms.set_index("arm").loc["image:means+tabular"]
    assert rows["n_features"] == 5
    assert rows["largest_smd_after"] < rows["largest_smd_before"]
    assert 0.8 < rows["calibration_slope"] < 1.25
    assert rows["auc"] > 0.8
    names = result.balance.groupby("arm")["variable"].agg(list)
    assert names["tabular"] == ["x1", "x2"]
    assert names["image:means"][2:] == [f"means component {k}" for k in (1, 2, 3)]
    n_units = result.overlap.groupby("arm")["n"].sum()
    assert n_units.eq(len(world.units)).all()
    assert result.calibration.groupby("arm")["n"].sum().eq(len(world.units)).all()


def test_nuisance_table_gives_the_first_split_again(result, world):
    rows = result.nuisance[result.nuisance["arm"] == "image:means"]
    assert rows["unit_id"].tolist() == world.units["unit_id"].tolist()
    units = world.study_units()
    parts = [rows[name].to_numpy() for name in ("propensity", "mu0", "mu1")]
    found = aipw(units.treatment, units.outcome, *parts)
    splits = result.splits.set_index(["split", "arm", "estimator"])
    assert splits.loc[(0, "image:means", "aipw"), "estimate"] == pytest.approx(found.estimate)
    assert rows["aipw_score"].mean() == pytest.approx(found.estimate)


def test_a_result_survives_storage(result, tmp_path):
    write_value(result, AteResult, tmp_path)
    again = read_value(AteResult, tmp_path)
    for field in dataclasses.fields(AteResult):
        if field.name != "level":
            pd.testing.assert_frame_equal(getattr(result, field.name), getattr(again, field.name))


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_any_scheduler_gives_the_same_bytes(run, world, scheduler):
    features = {"means": LazyMeans(world.chips.chunk(unit=100))}
    settings = AteSettings(arms=("image:means+tabular",))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        found = run(settings, features)
        assert dask.config.get("scheduler") == scheduler
    wanted = run(settings, features)
    pd.testing.assert_frame_equal(found.nuisance, wanted.nuisance, check_exact=True)
    pd.testing.assert_frame_equal(found.effects, wanted.effects, check_exact=True)


def test_what_was_done_is_counted(run):
    with counting() as counts:
        run(AteSettings(estimators=("aipw",)))
    assert counts["units"] == 400
    assert counts["propensity_models"] == 10
    assert counts["outcome_models"] == 20
    assert counts["propensities"] == 800
    assert 0 <= counts["propensities_clipped"] < 16


def test_finished_predictions_are_an_arm(run, world, result):
    table = pd.concat([
        result.nuisance[result.nuisance["arm"] == "tabular"].assign(split=split) for split in (0, 1)
    ]).sample(frac=1, random_state=0)  # fmt: skip
    found = run(predictions={"network": table}, covariates=())
    assert found.arms["arm"].tolist() == ["image:network"]
    splits = result.splits.set_index(["split", "arm", "estimator"])["estimate"]
    assert found.splits["estimate"].iloc[-1] == pytest.approx(splits[0, "tabular", "overlap"])
    short = table.drop(table.index[table["unit_id"] == "unit_00007"])
    with pytest.raises(DataError, match=r"image:network: 1 of 400 .* \(first: unit_00007\)"):
        run(predictions={"network": short}, covariates=())


def test_a_known_probability_takes_the_place_of_models(run, world):
    settings = AteSettings(randomised=True, design_probability=0.5, estimators=("hajek",))
    with pytest.warns(EOCausalWarning) as caught:  # this world is no trial
        found = run(settings.model_copy(update={"estimators": ("hajek", "aipw")}))
    assert {warning.message.code for warning in caught} == {"TrialShiftWarning"}
    units = world.study_units()
    plain = difference_in_means(units.treatment, units.outcome)
    assert found.effect("tabular", "hajek").estimate == pytest.approx(plain.estimate)
    assert found.nuisance["propensity"].eq(0.5).all()
    assert found.arms["auc"].iloc[0] > 0.7


def test_label_smoothing_warns(run):
    settings = AteSettings(nuisance=NuisanceSettings(label_smoothing=0.05))
    with pytest.warns(EOCausalWarning, match="label_smoothing"):
        run(settings)


def test_a_leak_that_only_models_find_is_refused(run, world):
    """Two columns that add up to the treatment, neither of which gives it away."""
    units = world.study_units("x1")
    leaking = units.covariates.assign(x2=2 * units.treatment - units.covariates["x1"])
    with pytest.raises(LeakageError, match=r"tabular: .* tell most: x2, x1"):
        run(units=dataclasses.replace(units, covariates=leaking))


def test_units_without_a_chip_are_named(run, world):
    keys = world.chips["image_key"].values.tolist()
    with pytest.raises(DataError, match=r"1 of 400 units have no chip \(first: unit_00399\)"):
        run(features={"means": lambda training: np.ones((399, 2))}, keys=keys[:-1])


def test_units_with_missing_features_are_named(run, world):
    values = world.chips.mean(["time", "y", "x"]).to_numpy().copy()
    values[3, 1] = np.nan
    with pytest.raises(DataError, match=r"features means: 1 of 400 units .*unit_00003"):
        run(features={"means": lambda training: values})


@pytest.mark.parametrize(
    ("settings", "covariates", "message"),
    [
        ({"arms": ("image:other",)}, ("x1",), "image:other; there are: tabular"),
        ({"arms": ("tabular",)}, (), "tabular; there are: none"),
        ({}, (), "nothing to adjust for"),
    ],
)
def test_arms_that_are_not_there_are_refused(run, settings, covariates, message):
    with pytest.raises(ConfigError, match=message):
        run(AteSettings(**settings), covariates=covariates)


def test_a_probability_needs_a_trial():
    with pytest.raises(ValueError, match="set randomised: true"):
        AteSettings(design_probability=0.5)


def test_an_unknown_effect_lists_the_known_ones(result):
    with pytest.raises(ConfigError, match="unadjusted difference_in_means, tabular aipw"):
        result.effect("tabular", "matching")


def test_spatial_blocks_and_errors_over_space(world):
    """Blocks are shifted with every split; groups of the first need not be those of the others."""
    units = world.study_units("x1", "x2")
    places = np.random.default_rng(0).uniform(0, 50_000, (len(units), 2))
    table = units.table.assign(easting=places[:, 0], northing=places[:, 1])
    placed = dataclasses.replace(units, table=table)
    folds = make_folds(placed, FoldSettings(n_splits=3), None, 500.0, False, seed=1)
    assert folds.kind == "spatial_block"
    settings = AteSettings(std_error="conley", cutoff_km=2)
    found = estimate_ate(placed, folds, [], {}, {}, settings, seed=1)
    assert found.effects["errors"].eq("Conley, 2 km").all()
    assert found.effect("tabular").estimate == pytest.approx(2.85, abs=0.5)


def test_permuted_treatment_is_quiet(world):
    """No effect, no warning: propensities that hardly vary are not called miscalibrated."""
    units = world.study_units("x1", "x2")
    random = np.random.default_rng(0)
    table = units.table.assign(treatment=random.permutation(units.treatment))
    shuffled = dataclasses.replace(units, table=table)
    folds = make_folds(shuffled, FoldSettings(n_splits=1), None, 0.0, True, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_ate(shuffled, folds, [], {}, {}, SETTINGS, seed=1).effect("tabular")
    assert abs(found.estimate) < 2.5 * found.std_error
