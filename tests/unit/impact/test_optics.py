"""Depth of light: published formulas by hand, and changes per draw."""

import dataclasses

import numpy as np
import pytest

from eo_causal.errors import ConfigError, DataError, EOCausalWarning
from eo_causal.impact.fit import fit_impact
from eo_causal.impact.model import ImpactSettings
from eo_causal.impact.optics import DepthSettings, depth_change, euphotic_depth
from eo_causal.simulate.series import local_level_series


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("kd490", 4.6 / 0.05),
        ("morel_kdpar1", 4.6 / (0.0864 + 0.884 * 0.05 - 0.00137 / 0.05)),
        ("morel_kdpar2", 4.6 / (0.0665 + 0.874 * 0.05 - 0.00121 / 0.05)),
    ],
)
def test_depths_by_hand(method, expected):
    assert float(euphotic_depth(0.05, method)) == pytest.approx(expected, rel=1e-12)


def test_depths_that_do_not_exist_are_missing():
    assert np.isnan(euphotic_depth([0.0, -1.0, np.nan])).all()
    assert np.isnan(euphotic_depth(0.012, "morel_kdpar1"))
    assert np.isfinite(euphotic_depth(0.012))


@pytest.mark.parametrize("method", ["lee2007", "secchi"])
def test_methods_that_need_more_than_kd490(method):
    with pytest.raises(ConfigError, match="from Kd490 alone") as caught:
        euphotic_depth(0.05, method)
    assert ("absorption" in caught.value.message) == (method == "lee2007")


@pytest.fixture(scope="module")
def impact():
    frame = local_level_series(7)
    settings = ImpactSettings(intervention="2020-01")
    return fit_impact(frame["y"] / 100, frame.drop(columns="y"), settings, seed=1)


def test_change_is_a_difference_of_depths_per_draw(impact):
    found = depth_change(impact, DepthSettings())
    paths = impact.draws["counterfactual"].to_numpy()[0]
    observed = impact.series["response"].to_numpy()[240:].mean()
    change = 4.6 / observed - 4.6 / paths.mean(axis=1)
    assert found.change.estimate == pytest.approx(change.mean(), rel=1e-12)
    assert found.change.interval == pytest.approx(np.quantile(change, [0.025, 0.975]))
    assert found.observed == pytest.approx(4.6 / observed)
    assert (found.change.units, found.n_invalid) == ("m", 0)


def test_curvature_separates_the_two_averages(impact):
    """1/x is convex: the mean of depths lies above the depth of the mean."""
    of_mean, monthly = (
        depth_change(impact, DepthSettings(average=name)) for name in ("of_mean", "monthly")
    )
    assert monthly.observed > of_mean.observed
    assert "mean of monthly depths" in monthly.text


def test_all_methods_stand_in_the_table(impact):
    table = depth_change(impact, DepthSettings(method="morel_kdpar1")).table.set_index("method")
    assert list(table.index) == ["kd490", "morel_kdpar1", "morel_kdpar2"]
    assert (table["change_m"] < 0).all()
    assert (table["lower_m"] < table["change_m"]).all()


def test_water_without_a_depth_is_refused(impact):
    wrong = dataclasses.replace(impact, series=impact.series * 0 - 1)
    with pytest.raises(DataError, match="Are the units right"):
        depth_change(wrong, DepthSettings())


def test_impossible_months_are_counted_and_said():
    frame = local_level_series(7, effect=0.0)
    settings = ImpactSettings(intervention="2020-01")
    clear = (frame["y"] - frame["y"].mean()) / 100 + 0.02
    result = fit_impact(clear, frame.drop(columns="y"), settings, seed=1)
    share = float((result.draws["counterfactual"] <= 0).mean())
    assert share > 0.001
    with pytest.warns(EOCausalWarning, match="of_mean") as caught:
        found = depth_change(result, DepthSettings(average="monthly"))
    assert caught[0].message.code == "DepthWarning"
    assert found.n_invalid == pytest.approx(share * result.draws["counterfactual"].size)
    assert f"{found.n_invalid:,} drawn depths" in found.text
