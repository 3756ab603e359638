"""The Uganda youth-opportunities trial: plain arithmetic, its traps, and the confounding code on a trial."""

import warnings

import numpy as np
import pytest
import xarray as xr

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles
from eo_causal.encode.base import embed
from eo_causal.encode.pixel_stats import PixelStats
from eo_causal.errors import DataError, LeakageError
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.ate import difference_in_means
from eo_causal.estimate.covariates import CovariateSettings, study_units
from eo_causal.ingest.units import UnitSettings, read_units

FOLDER = "imagery/causalimages_uganda"
ALL = tuple(f"x{number}" for number in range(7))
POST_TREATMENT = ("x0", "x2", "x4", "x6")
COLUMNS = {"treatment": "w", "outcome": "y", "covariates": ALL}


@pytest.fixture(scope="module")
def table(data_folder):
    path = data_folder / FOLDER / "observations.csv"
    if not path.is_file():
        pytest.skip(f"{FOLDER} is not in EO_CAUSAL_DATA")
    settings = UnitSettings(
        file=str(path), unit_id=None, longitude="lon", latitude="lat", image_key="image_key",
        numbers=("w", "y", *ALL),
    )  # fmt: skip
    return read_units(InputFiles((str(path),), ("",)), settings)


@pytest.fixture(scope="module")
def units(table):
    return study_units(table, CovariateSettings(**COLUMNS, exclude=POST_TREATMENT))


@pytest.fixture(scope="module")
def statistics(data_folder):
    """Image keys, and 24 statistics of the 35 px images."""
    with np.load(data_folder / FOLDER / "images_327x35x35x3_uint8.npz") as stored:
        images, keys = stored["images"].astype(np.float32), stored["image_key"].astype(str)
    empty = np.zeros((len(keys), 1))
    chips = xr.DataArray(
        np.moveaxis(images, 3, 1)[:, None], dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", keys), "image_key": ("unit", keys), "band": ["b1", "b2", "b3"],
            "datetime": (("unit", "time"), empty.astype("datetime64[ns]")),
            "fractional_year": (("unit", "time"), empty + 1970),
        },
    )  # fmt: skip
    return keys.tolist(), embed(chips, PixelStats().fit(chips)).to_numpy()


def test_traps_are_named_and_only_those(table):
    """C-22 and R7."""
    with pytest.raises(LeakageError, match="x0 is the treatment; x2 is 0 wherever") as caught:
        study_units(table, CovariateSettings(**COLUMNS))
    assert caught.value.facts["columns"] == list(POST_TREATMENT)


def test_missing_covariates_are_counted_not_dropped(table):
    """R8."""
    with counting() as counts:
        found = study_units(table, CovariateSettings(**COLUMNS, exclude=POST_TREATMENT))
    assert len(found) == 2082
    assert counts["x3_missing"] == 7


def test_plain_arithmetic(units, measured):
    """C-11."""
    found = difference_in_means(units.treatment, units.outcome)
    assert (len(units), int(units.treatment.sum()), len(set(units.cluster))) == (2082, 825, 327)
    assert found.estimate == pytest.approx(0.7415, abs=1e-3)
    assert found.effect().std_error == pytest.approx(0.0615, abs=1e-3)
    clustered = found.effect(units.cluster)
    assert clustered.std_error == pytest.approx(0.0755, abs=1e-3)
    measured("std_error_clustered", clustered.std_error)


@pytest.mark.parametrize("seed", [0, 1])
def test_adjustment_leaves_a_trial_where_it_is(units, statistics, measured, seed):
    """C-12: image statistics, folds by image key, propensities estimated."""
    keys, values = statistics
    assert values.shape == (327, 24)
    folds = make_folds(units, FoldSettings(kind="image_key"), None, 0.0, True, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_ate(
            units, folds, keys, {"pixel_stats": lambda training: values}, {},
            AteSettings(randomised=True), seed=seed,
        )  # fmt: skip
    plain = found.effect("unadjusted", "difference_in_means")
    for arm in ("image:pixel_stats", "image:pixel_stats+tabular"):
        effect = found.effect(arm)
        measured(arm, effect.estimate)
        measured(f"{arm}_std_error", effect.std_error)
        assert effect.estimate == pytest.approx(0.7415, abs=0.1)
        assert effect.std_error <= 1.15 * plain.std_error


def test_permuted_treatment_is_not_predicted(units, statistics, measured):
    """C-8 on real images, folds by image key."""
    keys, values = statistics
    shuffled = units.table.assign(treatment=np.random.default_rng(0).permutation(units.treatment))
    shuffled = type(units)(shuffled, units.covariates)
    folds = make_folds(shuffled, FoldSettings(kind="image_key"), None, 0.0, True, seed=0)
    found = estimate_ate(
        shuffled, folds, keys, {"pixel_stats": lambda training: values}, {},
        AteSettings(arms=("image:pixel_stats",), randomised=True), seed=0,
    )  # fmt: skip
    measured("auc", found.arms["auc"].iloc[0])
    assert found.arms["auc"].iloc[0] == pytest.approx(0.5, abs=0.05)
    effect = found.effect("image:pixel_stats")
    assert abs(effect.estimate) < 2 * effect.std_error


def test_rows_must_not_be_split_within_an_image(units):
    """A plain row split does not exist: folds that part an image are refused."""
    folds = make_folds(units, FoldSettings(kind="image_key", n_splits=1), None, 0.0, True, seed=0)
    table = folds.table.copy(deep=True)
    fold = np.random.default_rng(0).integers(0, 5, len(units))
    table["fold_of_unit"].values[0] = fold
    table["training"].values[0] = fold != np.arange(5)[:, None]
    parted = type(folds)(table, "image_key", 0)
    with pytest.raises((LeakageError, DataError), match="image key"):
        estimate_ate(units, parted, [], {}, {}, AteSettings(), seed=0)
