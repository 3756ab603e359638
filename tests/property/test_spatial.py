"""Spatial inference and applicability: sizes and shares measured on worlds with known truth."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from eo_causal.audit.applicability import AreaOfApplicability
from eo_causal.audit.placebo import placebo_rank
from eo_causal.audit.spatial import SurrogateSettings, block_gap, out_of_fold, surrogate_field_test
from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.random import generator
from eo_causal.core.units import StudyUnits
from eo_causal.simulate.spatial import independent_fields, noise_fields

pytestmark = pytest.mark.statistics
EXTENT = 100_000.0


def rejections(n_reps, reach, **world):
    """Shares of p <= 0.05: independent errors, Conley at four ranges, surrogate field."""
    settings = SurrogateSettings(cutoff_km=4 * reach * EXTENT / 1000)
    found = []
    for seed in range(n_reps):
        drawn = independent_fields(seed, 300, reach, **world)
        report = surrogate_field_test(
            drawn.treatment, drawn.outcome, np.empty((300, 0)), drawn.places * EXTENT, settings,
            seed=seed,
        )  # fmt: skip
        found.append(report.table["p_value"].to_numpy()[[0, 1, 3]] <= 0.05)
    return np.mean(found, axis=0)


def limit(share, n_reps):
    """What a true share can show in n_reps draws, at two standard errors."""
    return share + 2 * np.sqrt(share * (1 - share) / n_reps)


@pytest.mark.parametrize("reach", [0.02, 0.12])
def test_surrogate_fields_keep_their_size(reach, full_size, measured):
    """AU-P1: size at most 0.08 where independent errors reject 0.3 or more (range 0.12)."""
    n_reps = 600 if full_size else 60
    independent, conley, surrogate = rejections(n_reps, reach)
    measured(f"range {reach}: independent", independent)
    measured(f"range {reach}: Conley", conley)
    measured(f"range {reach}: surrogate field", surrogate)
    assert surrogate <= (0.08 if full_size else limit(0.08, n_reps))
    if reach == 0.12:
        assert independent >= (0.3 if full_size else 0.3 - 2 * np.sqrt(0.3 * 0.7 / n_reps))


@pytest.mark.parametrize(
    "world", [{"noise": 0.5}, {"binary": True}, {"binary": True, "noise": 0.5}, {"clumps": 25}]
)
def test_noise_cuts_and_clumps_do_not_make_it_reject(world, full_size, measured):
    n_reps = 200 if full_size else 25
    surrogate = rejections(n_reps, 0.12, **world)[2]
    measured(f"{world}: surrogate field", surrogate)
    assert surrogate <= limit(0.08, n_reps)


def folds_of(places, kind, seed):
    n = len(places)
    names = [f"u{i}" for i in range(n)]
    table = pd.DataFrame(
        {"unit_id": names, "image_key": names, "cluster": names, "treatment": np.arange(n) % 2,
         "outcome": 0.0, "easting": places[:, 0], "northing": places[:, 1]}
    )  # fmt: skip
    units = StudyUnits(table, pd.DataFrame(index=table.index))
    settings = FoldSettings(kind=kind, n_splits=1, block_km=25)
    return make_folds(units, settings, None, 0.0, False, seed=seed)


def gap_of(seed, smooth):
    world = noise_fields(seed, smooth=smooth)

    def forest(features, outcome, new):
        model = RandomForestRegressor(60, max_features=4, random_state=0)
        return model.fit(features, outcome).predict(new)

    random, block = (
        out_of_fold(
            forest, world.features, world.outcome,
            folds_of(world.places * EXTENT, kind, seed).pairs(0),
        )
        for kind in ("image_key", "spatial_block")
    )  # fmt: skip
    return block_gap(world.outcome, random, block)


def test_the_gap_warns_of_memory_of_neighbours_only(full_size, measured):
    """AU-P2: noise fields warn, features that are independent over space do not."""
    n_reps = 20 if full_size else 3
    smooth = [gap_of(seed, True) for seed in range(n_reps)]
    white = [gap_of(seed, False) for seed in range(n_reps)]
    for number, name in ((0, "random folds"), (1, "spatial blocks")):
        measured(f"R2, {name}", np.mean([report.table["value"][number] for report in smooth]))
    measured("loss, white features", np.mean([report.table["value"][2] for report in white]))
    assert all(report.flags == ("block_gap",) for report in smooth)
    assert all(report.flags == () for report in white)


def test_placebo_ranks_have_their_size(measured):
    """AU-R1: 0.05 +- 0.015 with 19 placebos, 4,000 draws; 9 placebos refuse a 5 % claim."""
    draws = generator(1, "placebo ranks").standard_normal((4000, 20))
    found = [placebo_rank(row[0], row[1:]) for row in draws]
    size = np.mean([report.status == "pass" for report in found])
    measured("size, 19 placebos", size)
    assert size == pytest.approx(0.05, abs=0.015)
    assert all(placebo_rank(row[0], row[1:10]).flags == ("placebo_floor",) for row in draws[:100])


def applicability_of(seed, shifts):
    """World W13: share inside, and RMSE inside and outside, for each shift of the first feature."""
    random = generator(seed, "applicability")
    rows = random.standard_normal((500, 4))

    def truth(values):
        return np.sin(2 * values[:, 0]) + 0.5 * values[:, 1]

    forest = RandomForestRegressor(100, random_state=seed)
    forest.fit(rows, truth(rows) + random.normal(0, 0.2, 500))
    importance = forest.feature_importances_ / forest.feature_importances_.max()
    fold = random.permutation(np.arange(500) % 5)
    area = AreaOfApplicability.fit(pd.DataFrame(rows), fold, importance, seed=seed)
    found = []
    for shift in shifts:
        new = random.standard_normal((1000, 4)) + shift * np.eye(4)[0]
        error = (forest.predict(new) - truth(new)) ** 2
        inside = area.inside(pd.DataFrame(new))
        parts = [
            np.sqrt(error[part].mean()) if part.any() else np.nan for part in (inside, ~inside)
        ]
        found.append([inside.mean(), *parts])
    return found


def test_the_area_shrinks_with_the_shift_and_errors_lie_outside(measured):
    """AU-A1, and A1 of the wealth-map specification: eight seeds of W13."""
    shifts = (0, 1, 2, 3, 5)
    found = np.array([applicability_of(seed, shifts) for seed in range(8)])
    share, inside, outside = np.nanmean(found, axis=0).T
    for number, shift in enumerate(shifts):
        measured(f"shift {shift}: share inside", share[number])
        measured(f"shift {shift}: RMSE inside / outside", inside[number] / outside[number])
    assert (np.diff(found[:, :, 0], axis=1) < 0).all()
    np.testing.assert_allclose(share, [0.94, 0.86, 0.61, 0.28, 0.01], atol=0.05)
    ratio = inside / outside
    assert ratio[0] <= 0.40
    assert (ratio[1:4] <= 1 / 3).all()
