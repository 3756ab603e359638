"""Worlds with chips: what their text promises."""

import numpy as np
import pytest

from eo_causal.errors import ConfigError
from eo_causal.simulate.confounding import clustered, null, tutorial


def slopes(target, *columns):
    design = np.column_stack([np.ones(len(target)), *columns])
    return np.linalg.lstsq(design, target, rcond=None)[0][1:]


def test_the_tutorial_follows_its_equations():
    units = tutorial(0, n=20_000, size=1).units
    found = slopes(units["outcome"], *(units[c] for c in ("treatment", "confounder", "x1", "x2")))
    np.testing.assert_allclose(found, [2, 1, 1, 1], atol=0.05)
    score = units["confounder"] + units["x1"] + units["x2"]
    near = units["treatment"][np.abs(score - 1) < 0.1]
    assert near.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)
    assert np.corrcoef(units["proxy"], units["confounder"])[0, 1] == pytest.approx(0.95, abs=0.01)


def test_only_the_red_band_shows_the_confounder():
    world = tutorial(1, n=500, size=8)
    assert world.chips.dims == ("unit", "time", "band", "y", "x")
    assert world.chips.shape == (500, 1, 3, 8, 8)
    means = world.chips.mean(["time", "y", "x"]).to_numpy()
    found = np.corrcoef(np.column_stack([world.units["confounder"], means]).T)[0, 1:]
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert np.abs(found[1:]).max() < 0.15
    red = world.chips.to_numpy()[:, 0, 0]
    np.testing.assert_allclose(red[:, -1] - red[:, 0], 0.1, atol=1e-6)
    assert (np.ptp(red, axis=2) == 0).all()


def test_chips_belong_to_units():
    world = clustered(0, n_images=50, n_each=4, size=2)
    units = world.study_units()
    assert len(units) == 200
    assert (
        units.image_of(world.chips["image_key"].values).tolist() == np.repeat(range(50), 4).tolist()
    )
    assert units.covariates.shape == (200, 0)
    assert units.coordinates is None


def test_units_of_an_image_are_alike():
    units = clustered(2, n_images=4000, n_each=5, size=1).units
    groups = units.groupby("image_key")
    assert groups["treatment"].nunique().eq(1).all()
    rest = units["outcome"] - units["treatment"]
    between = (
        rest.groupby(units["image_key"]).mean().var()
        - rest.groupby(units["image_key"]).var().mean() / 5
    )
    assert between == pytest.approx(0.5, abs=0.04)
    assert rest.var() == pytest.approx(1, abs=0.05)


def test_the_null_has_no_effect_and_no_pattern():
    world = null(0, n=20_000, size=1)
    units = world.units
    assert slopes(units["outcome"], units["treatment"], units["x1"]) == pytest.approx(
        [0, 0], abs=0.03
    )
    assert abs(np.corrcoef(units["treatment"], world.chips.to_numpy()[:, 0, 0, 0, 0])[0, 1]) < 0.03


def test_worlds_repeat_by_seed():
    first, again, other = (
        tutorial(3, n=50, size=2),
        tutorial(3, n=50, size=2),
        tutorial(4, n=50, size=2),
    )
    assert first.units.equals(again.units)
    assert first.chips.equals(again.chips)
    assert not first.units.equals(other.units)


def test_an_unknown_column_is_named():
    with pytest.raises(ConfigError, match="no column x3; it has unit_id"):
        null(0, n=20, size=1).study_units("x3")
