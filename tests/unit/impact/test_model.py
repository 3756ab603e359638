"""Bad series are refused with the facts a user needs; odd ones are repaired, and said so."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.errors import ConfigError, DataError, EOCausalWarning, TimeAxisError
from eo_causal.impact.model import build_model


def with_value(frame, row, column, value):
    changed = frame.copy()
    changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def refused(error, series, settings, **changes):
    outcome, controls = series
    with pytest.raises(error) as caught:
        build_model(outcome, controls, settings.model_copy(update=changes))
    return caught.value


def test_control_with_missing_months(complete, settings):
    outcome, controls = complete
    error = refused(DataError, (outcome, with_value(controls, 3, "x2", np.nan)), settings)
    assert error.facts == {"control": "x2", "n_missing": 1}
    assert "2000-04" in error.message
    assert "roles.fill" in error.message


def test_irregular_time_names_the_first_wrong_date(complete, settings):
    keep = np.arange(300) != 100
    error = refused(TimeAxisError, [part[keep] for part in complete], settings)
    assert error.facts["date"].startswith("2008-06-01")


def test_duplicate_time(complete, settings):
    rows = [*range(50), 49, *range(50, 300)]
    error = refused(TimeAxisError, [part.iloc[rows] for part in complete], settings)
    assert error.facts["date"].startswith("2004-02-01")


def test_unsorted_time_is_sorted_and_said(complete, settings):
    shuffled = [part.iloc[::-1] for part in complete]
    with pytest.warns(EOCausalWarning, match="not sorted") as caught:
        model = build_model(*shuffled, settings)
    assert caught[0].message.code == "TimeAxisWarning"
    np.testing.assert_array_equal(model.observed, complete[0].to_numpy())


def test_constant_outcome_and_constant_control(complete, settings):
    outcome, controls = complete
    assert "constant (2)" in refused(DataError, (outcome * 0 + 2, controls), settings).message
    error = refused(DataError, (outcome, controls.assign(x2=7.0)), settings)
    assert "'x2' is constant" in error.message


@pytest.mark.parametrize("month", ["1999-12", "2000-01", "2025-01"])
def test_intervention_outside_the_series(complete, settings, month):
    error = refused(ConfigError, complete, settings, intervention=month)
    assert "2000-01 to 2024-12" in error.message
    assert month in error.message


def test_post_period_that_ends_before_it_starts(complete, settings):
    with pytest.raises(ConfigError, match="post ends 2019-06"):
        build_model(*complete, settings, post_end="2019-06-01")


def test_too_few_months_for_the_coefficients(complete, settings):
    short = [part.iloc[222:] for part in complete]
    error = refused(DataError, short, settings)
    assert error.facts == {"n_pre": 18, "n_needed": 20}


def test_short_series_warns(complete, settings):
    with pytest.warns(EOCausalWarning, match="only 30 observed") as caught:
        build_model(*[part.iloc[210:] for part in complete], settings)
    assert caught[0].message.code == "ShortSeriesWarning"


@pytest.mark.parametrize("factor", [1.0, -250.0])
def test_outcome_among_the_controls(complete, settings, factor):
    outcome, controls = complete
    error = refused(DataError, (outcome, controls.assign(copy=factor * outcome + 3)), settings)
    assert error.facts == {"control": "copy"}
    assert "outcome itself" in error.message


def test_collinear_controls_warn(complete, settings):
    outcome, controls = complete
    noise = np.random.default_rng(0).normal(0, 1e-5, len(outcome))
    with pytest.warns(EOCausalWarning, match="collinear") as caught:
        build_model(outcome, controls.assign(twin=controls["x1"] + noise), settings)
    assert caught[0].message.code == "CollinearityWarning"


def test_gap_at_the_intervention(complete, settings):
    outcome, controls = complete
    hole = outcome.mask((outcome.index >= "2020-02") & (outcome.index <= "2020-04"))
    error = refused(TimeAxisError, (hole, controls), settings)
    assert error.facts["n_missing"] == 3
    assert "impact.allow_event_gap" in error.message
    build_model(hole, controls, settings.model_copy(update={"allow_event_gap": True}))
    far = outcome.mask((outcome.index >= "2010-02") & (outcome.index <= "2010-08"))
    assert len(build_model(far, controls, settings).pre_rows) == 233


def test_mostly_missing_pre_period_warns(complete, settings):
    outcome, controls = complete
    sparse = outcome.mask(outcome.index.month % 2 == 0).mask(outcome.index < "2003-06")
    with pytest.warns(EOCausalWarning, match="of the pre periods are missing") as caught:
        build_model(sparse, controls, settings)
    assert caught[0].message.code == "MissingDataWarning"


def test_infinite_and_all_missing_outcomes(complete, settings):
    outcome, controls = complete
    infinite = outcome.copy()
    infinite.iloc[5] = np.inf
    assert "infinite" in refused(DataError, (infinite, controls), settings).message
    unseen = outcome.mask(outcome.index >= "2020-01")
    error = refused(DataError, (unseen, controls), settings, allow_event_gap=True)
    assert "no post period" in error.message


def test_log_scale_needs_positive_values(complete, settings):
    outcome, controls = complete
    error = refused(DataError, (outcome - 5, controls), settings, scale="log")
    assert "positive" in error.message
    assert error.facts["date"].startswith("2000-01")


def test_different_time_axes(complete, settings):
    outcome, controls = complete
    error = refused(DataError, (outcome.iloc[1:], controls), settings)
    assert error.facts == {"n_outcome": 299, "n_controls": 300}


def test_annual_series_need_no_season(settings):
    years = pd.date_range("1960-01-01", periods=60, freq="YS")
    random = np.random.default_rng(1)
    outcome = pd.Series(random.normal(size=60), years)
    model = build_model(
        outcome,
        pd.DataFrame(index=years),
        settings.model_copy(update={"season": "none", "intervention": "2010-01"}),
    )
    assert model.coefficients == ("intercept",)
    assert (len(model.pre_rows), len(model.scored_rows)) == (50, 10)


def test_standardisation_uses_observed_pre_months_only(series, settings):
    outcome, controls = series
    later = outcome.index >= "2020-01"
    chosen = settings.model_copy(update={"allow_event_gap": True})
    first = build_model(outcome, controls, chosen)
    second = build_model(outcome + 100 * later, controls, chosen)
    np.testing.assert_array_equal(first.outcome, second.outcome)
    before = outcome[~later].dropna()
    assert first.centre == pytest.approx(before.mean(), rel=1e-12)
    assert first.spread == pytest.approx(before.std(ddof=1), rel=1e-12)
    x1 = controls["x1"][~later]
    column = first.design[:240, first.coefficients.index("x1")]
    np.testing.assert_allclose(column, (x1 - x1.mean()) / x1.std(ddof=1), rtol=1e-10)
