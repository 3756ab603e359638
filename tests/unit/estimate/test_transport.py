"""Effects elsewhere: errors of the bootstrap, averages of areas, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.progress import counting
from eo_causal.core.variance import mean_std_error
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate import transport as module
from eo_causal.estimate.cate import EffectSettings, Rows, fit_effects, fit_nuisances
from eo_causal.estimate.transport import Transported, transport

SETTINGS = EffectSettings()
PLACES = pd.DataFrame(
    {"unit_id": [f"p{i}" for i in range(6)], "area": ["north", "south", "north", "east", "south", "north"]}
)  # fmt: skip
SUPPORT = pd.DataFrame({
    "in_support": [True, True, True, False, False, False],
    "dissimilarity": [0.1, 0.2, 0.3, 0.4, 0.5, np.nan],
    "membership": [0.6, 0.5, 0.4, 0.3, 0.2, np.nan],
})  # fmt: skip


class MeanScore:
    """The average effect of its rows, times the first feature of a place."""

    def __init__(self, name, rows, nuisances, settings, random):
        self.mean = nuisances.score(rows).mean()

    def predict(self, design):
        return self.mean * design[:, 0]


def trial(seed=0, n_clusters=60, size=4):
    """Rows whose outcome shares noise in clusters, with their nuisances."""
    random = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), size)
    design = random.normal(size=(n_clusters, 2))[cluster]
    treatment = (cluster % 2).astype(float)
    outcome = design[:, 0] * treatment + random.normal(size=n_clusters)[cluster]
    rows = Rows(design, treatment, outcome + random.normal(size=len(cluster)), cluster)
    return rows, fit_nuisances(rows, 0.5, SETTINGS, np.random.default_rng(1)), cluster


def carried(
    study, target=None, support=SUPPORT, places=PLACES, n_draws=20, level=0.95, learner="dr"
):
    rows, nuisances, cluster = study
    design = np.linspace(-1, 1, 2 * len(places)).reshape(-1, 2) if target is None else target
    return transport(
        learner, rows, nuisances, cluster, design, places, support, SETTINGS, n_draws, level,
        np.random.default_rng(5),
    )  # fmt: skip


def test_errors_are_those_of_whole_clusters(monkeypatch):
    """The bootstrap of a mean of scores is the clustered error of that mean."""
    monkeypatch.setattr(module, "fit_effects", MeanScore)
    rows, nuisances, cluster = trial()
    target = np.array([[1.0, 0], [3, 0], [2, 0], [-1, 0], [5, 0], [0, 0]])
    found = carried((rows, nuisances, cluster), target, n_draws=2000)
    score = nuisances.score(rows)
    error = mean_std_error(score, cluster)
    assert error > 1.4 * mean_std_error(score)
    np.testing.assert_allclose(found.places["cate"], score.mean() * target[:, 0])
    np.testing.assert_allclose(
        found.places["std_error"], error * np.abs(target[:, 0]), rtol=0.05, atol=1e-12
    )
    half = 1.959964 * found.places["std_error"]
    np.testing.assert_allclose(found.places["upper"] - found.places["cate"], half, rtol=1e-6)
    np.testing.assert_allclose(found.places["cate"] - found.places["lower"], half, rtol=1e-6)


def test_areas_average_their_supported_places(monkeypatch):
    monkeypatch.setattr(module, "fit_effects", MeanScore)
    study = trial(n_clusters=20)
    target = np.array([[1.0, 0], [3, 0], [2, 0], [-1, 0], [5, 0], [9, 0]])
    found = carried(study, target, level=0.9)
    areas, mean = found.areas.set_index("area"), study[1].score(study[0]).mean()
    assert areas.index.tolist() == ["north", "south", "east"]
    assert areas["n"].tolist() == [3, 2, 1]
    assert areas["n_in_support"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(areas["estimate"], mean * np.array([1.5, 3, np.nan]))
    np.testing.assert_allclose(areas["estimate_all"], mean * np.array([4, 4, -1]))
    per_place = found.places["std_error"][0]  # of the average effect itself
    np.testing.assert_allclose(areas["std_error"], per_place * np.array([1.5, 3, np.nan]))
    width = (areas["upper"] - areas["lower"]) / areas["std_error"] / 2
    np.testing.assert_allclose(width[:2], 1.729133, rtol=1e-6)  # t, 19 d.f.
    assert areas.loc["east", ["lower", "upper"]].isna().all()


def test_the_effect_of_each_place_is_the_learners_and_carries_its_support():
    study = trial()
    found = carried(study)
    assert isinstance(found, Transported)
    assert found.places.columns.tolist() == [
        "unit_id", "area", "cate", "std_error", "lower", "upper", "in_support", "dissimilarity",
        "membership",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(found.places[["unit_id", "area"]], PLACES)
    pd.testing.assert_frame_equal(found.places[SUPPORT.columns.tolist()], SUPPORT)
    model = fit_effects("dr", study[0], study[1], SETTINGS, np.random.default_rng(5))
    target = np.linspace(-1, 1, 12).reshape(-1, 2)
    np.testing.assert_allclose(found.places["cate"], model.predict(target))
    assert (found.places["std_error"] > 0).all()


def test_rows_of_tables_are_matched_by_order_not_by_index():
    study = trial()
    wanted = carried(study)
    numbered = PLACES.set_index(np.arange(6) + 40)
    other = carried(study, places=numbered, support=SUPPORT.set_index(np.arange(6)[::-1]))
    pd.testing.assert_frame_equal(wanted.places, other.places)
    pd.testing.assert_frame_equal(wanted.areas, other.areas)


@pytest.mark.parametrize("learner", ["t", "x", "r", "dr"])
def test_every_learner_is_uncertain(learner):
    """Also the T-learner, which has no final stage: its outcome models are fitted anew."""
    found = carried(trial(), learner=learner)
    assert (found.places["std_error"] > 0.02).all()
    assert found.places["cate"].corr(pd.Series(np.linspace(-1, 0.8, 6))) > 0.99


def test_what_is_predicted_is_counted():
    with counting() as counts:
        carried(trial())
    assert counts["places_predicted"] == 6
    assert counts["places_out_of_support"] == 3


def test_a_map_without_a_mask_is_refused():
    study = trial()
    for support in (None, SUPPORT[["in_support"]]):
        with pytest.raises(
            DataError, match=r"A map without a mask cannot be made: .*support\.support_of"
        ):
            carried(study, support=support)
    with pytest.raises(DataError, match="5 rows, 0 of them undecided, for 6 places"):
        carried(study, support=SUPPORT[1:])
    open_ones = SUPPORT.astype({"in_support": object}).replace({"in_support": {False: None}})
    with pytest.raises(DataError, match="6 rows, 3 of them undecided"):
        carried(study, support=open_ones)


def test_bad_input_is_refused():
    rows, nuisances, cluster = trial()
    target = np.zeros((6, 2))
    with pytest.raises(ConfigError, match="1 bootstrap draws give no standard error"):
        carried((rows, nuisances, cluster), n_draws=1)
    with pytest.raises(DataError, match="each place needs unit_id and area"):
        carried((rows, nuisances, cluster), target, places=PLACES[["unit_id"]])
    with pytest.raises(DataError, match="each place needs unit_id and area"):
        carried((rows, nuisances, cluster), places=PLACES.replace({"area": {"east": None}}))
    with pytest.raises(DataError, match=r"shape \(6, 3\), not \(6, 2\)"):
        carried((rows, nuisances, cluster), np.zeros((6, 3)))
    target[[1, 4], 1] = np.nan
    with pytest.raises(
        DataError, match=r"2 of 6 target places miss features \(places p1, p4\)"
    ) as e:
        carried((rows, nuisances, cluster), target)
    assert e.value.facts["unit_ids"] == ["p1", "p4"]
    with pytest.raises(DataError, match="240 cluster codes of 1 clusters for 240 trial units"):
        carried((rows, nuisances, cluster * 0))
    with pytest.raises(DataError, match="239 cluster codes"):
        carried((rows, nuisances, cluster[1:]))
