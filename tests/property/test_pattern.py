"""Confounders that images show: what each estimator removes, and what coarse pixels or a wrong filter leave.

Rows C-1, C-3 and C-4 with EO_CAUSAL_SIZE=full at 100 repetitions of 500 images; in CI at 5. There a
target that says how large a mean may be is widened by what five repetitions add to its Monte-Carlo error.
"""

import numpy as np
import pytest
import xarray as xr

from eo_causal.estimate.pattern_study import estimate_pattern_study
from eo_causal.simulate.pattern_study import (
    MisspecificationSettings,
    ResolutionSettings,
    simulate_pattern_study,
)

pytestmark = pytest.mark.statistics
CHIPS = "imagery/uganda_yop/chips_trial_327x3x160x160.nc"
FULL, SMALL = 100, 5


@pytest.fixture(scope="module", params=["generated", "chips"])
def images(request):
    """None for generated fields; else the first band of the chips of a trial."""
    if request.param == "generated":
        return None
    path = request.getfixturevalue("data_folder") / CHIPS
    if not path.is_file():
        pytest.skip(f"{CHIPS} is not among the data sets")
    with xr.open_dataset(path) as file:
        return file["reflectance"][:, 0].rename(key="image").load()


@pytest.fixture(scope="module")
def resolution(images, full_size):
    settings = ResolutionSettings(kind="resolution", n_repetitions=FULL if full_size else SMALL)
    return estimate_pattern_study(simulate_pattern_study(images, settings, seed=1))


@pytest.fixture(scope="module")
def misspecification(images, full_size):
    widths = (2, 4, 16, 32) if full_size else (2, 32)
    settings = MisspecificationSettings(
        kind="misspecification", n_repetitions=FULL if full_size else SMALL, widths=widths
    )
    return estimate_pattern_study(simulate_pattern_study(images, settings, seed=2))


@pytest.fixture
def extra(full_size):
    """What a mean over fewer repetitions may lie farther off: three more standard errors."""

    def of(sd):
        return 0.0 if full_size else 3 * sd * (SMALL**-0.5 - FULL**-0.5)

    return of


def bias(study, adjusted_for, estimator, name="bias"):
    table = study.bias
    rows = (table["adjusted_for"] == adjusted_for) & (table["estimator"] == estimator)
    return table[rows].set_index("value")[name]


def test_what_is_known_of_the_confounder_decides_the_bias(resolution, extra, measured):
    """C-1, k = 8, n = 500; standard deviations of one study: .07, .14, .11, .011."""
    naive = bias(resolution, "nothing", "difference_in_means")[1]
    weighted = bias(resolution, "known propensity", "horvitz_thompson")
    hajek = bias(resolution, "true pattern", "hajek")[1]
    aipw, rmse = (bias(resolution, "true pattern", "aipw", name)[1] for name in ("bias", "rmse"))
    measured("naive", naive)
    measured("horvitz_thompson_true_e", weighted[1])
    measured("hajek", hajek)
    measured("aipw", aipw)
    measured("aipw_rmse", rmse)
    assert 0.6 <= naive <= 1.0
    assert abs(weighted[1]) < 0.03 + extra(0.13)
    assert abs(hajek) < 0.05 + extra(0.11)
    assert abs(aipw) < 0.02
    assert rmse < 0.03


def test_a_wrong_filter_leaves_what_the_law_says(misspecification, images, extra, measured):
    """C-3: within .10 of (1 - rho^2) x naive; of a pattern of two pixels .51 +- .08 (chips)."""
    law = misspecification.cases.set_index("value")["predicted"]
    for estimator in ("hajek", "aipw"):
        left = bias(misspecification, "measured pattern", estimator)
        for value in left.index:
            measured(f"{estimator}_{value}", left[value])
            measured(f"law_{value}", law[value])
        assert (left - law).abs().max() <= 0.10
        if images is not None:
            assert left[2] == pytest.approx(0.51, abs=0.08 + extra(0.08))


def test_coarser_pixels_leave_ever_more(resolution, measured):
    """C-4: non-decreasing in the pooling factor; at most .15 at two, at least .5 at eight pixels."""
    for estimator in ("hajek", "aipw"):
        left = bias(resolution, "measured pattern", estimator)
        for value in left.index:
            measured(f"{estimator}_{value}", left[value])
        assert (np.diff(left) >= 0).all()
        assert left[2] <= 0.15
        assert left[8] >= 0.5
