"""Area of applicability: hand values, the W13 world, exact search, storage."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from eo_causal.audit import applicability
from eo_causal.audit.applicability import AreaOfApplicability, applicability_report
from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.errors import DataError


def rows_of(values):
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(np.shape(values)[1])])


def normal(n, k, seed=0):
    return rows_of(np.random.default_rng(seed).normal(size=(n, k)))


def test_dissimilarity_by_hand():
    # sd 1 and mean 1 in both features, weights 1 and 2: corners at (-1, -2), (1, -2), (-1, 2), (1, 2)
    rows = rows_of([[0.0, 0.0], [2, 0], [0, 2], [2, 2]])
    area = AreaOfApplicability.fit(rows, np.array([0, 0, 1, 1]), np.array([1.0, 2.0]), seed=0)
    assert area.mean_distance == pytest.approx((2 * 2 + 2 * 4 + 2 * np.sqrt(20)) / 6, rel=1e-6)
    # the nearest row of the other fold is the one above or below, 4 away, for each
    assert area.threshold == pytest.approx(4 / area.mean_distance, rel=1e-6)
    found = area.transform(rows_of([[2.0, 3.0], [0, 0], [1, 1], [np.nan, 0]]))
    expected = np.array([2.0, 0, np.sqrt(5), np.nan]) / area.mean_distance
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert area.inside(rows_of([[2.0, 3.0], [2, 9], [np.nan, 0]])).tolist() == [True, False, False]


def test_the_threshold_leaves_out_far_training_rows():
    rows = normal(300, 3)
    rows.iloc[0] = 40.0
    area = AreaOfApplicability.fit(rows, np.arange(300) % 5, seed=0)
    weighted = area.training.to_numpy(float)
    own = np.array(
        [np.linalg.norm(weighted[np.arange(300) % 5 != i % 5] - weighted[i], axis=1).min()
         for i in range(300)]
    ) / area.mean_distance  # fmt: skip
    lower, upper = np.quantile(own, [0.25, 0.75])
    assert own[0] > upper + 1.5 * (upper - lower)
    assert area.threshold == pytest.approx(own[own <= upper + 1.5 * (upper - lower)].max())
    assert area.mean_distance == pytest.approx(pdist(weighted).mean(), rel=1e-6)


@pytest.mark.parametrize("n_features", [3, 8, 9, 40])
def test_blocked_search_equals_a_tree(n_features, monkeypatch):
    random = np.random.default_rng(1)
    rows, others = random.normal(size=(120, n_features)), random.normal(size=(500, n_features))
    others[3] = rows[5]
    monkeypatch.setattr(applicability, "PAIRS_AT_ONCE", 500 * 7)
    expected = cKDTree(others).query(rows)
    for search in (applicability._nearest, applicability._nearest_by_blocks):
        distance, which = search(rows, others)
        np.testing.assert_allclose(distance, expected[0], atol=1e-12)
        np.testing.assert_array_equal(which, expected[1])
    assert applicability._mean_distance(others) == pytest.approx(pdist(others).mean(), rel=1e-6)


def test_unimportant_and_constant_features_do_not_count():
    rows = normal(100, 3)
    rows["f2"] = 7.0
    with counting() as counts:
        area = AreaOfApplicability.fit(rows, np.arange(100) % 2, np.array([1.0, 0, 1]), seed=0)
    assert counts["constant_features"] == 1
    moved = rows.assign(f1=99.0, f2=1e6)
    np.testing.assert_allclose(area.transform(moved), 0, atol=1e-6)


def test_scale_of_features_does_not_matter():
    rows, new = normal(100, 4), normal(30, 4, seed=2)
    scale = np.array([1, 1e-4, 1e5, 3])
    one, other = (
        AreaOfApplicability.fit(r, np.arange(100) % 4, seed=0) for r in (rows, rows * scale)
    )
    np.testing.assert_allclose(one.transform(new), other.transform(new * scale), rtol=1e-4)


def test_many_rows_become_medoids_that_are_rows():
    rows = normal(1500, 12)
    with counting() as counts:
        area = AreaOfApplicability.fit(rows, np.arange(1500) % 5, most_rows=150, seed=3)
    again = AreaOfApplicability.fit(rows, np.arange(1500) % 5, most_rows=150, seed=3)
    assert area.training.equals(again.training)
    assert 75 < len(area.training) <= 150
    assert area.n_rows == 1500
    assert counts["rows_without_medoid"] == 1500 - len(area.training)
    weighted = ((rows - rows.mean()) / rows.std(ddof=0)).to_numpy()
    assert cKDTree(weighted).query(area.training.to_numpy(float))[0].max() < 1e-5
    full = AreaOfApplicability.fit(rows, np.arange(1500) % 5, seed=3)
    new = normal(500, 12, seed=9)
    assert area.inside(new).mean() == pytest.approx(full.inside(new).mean(), abs=0.1)


def test_an_area_can_be_stored(tmp_path):
    area = AreaOfApplicability.fit(normal(60, 5), np.arange(60) % 3, n_components=5, seed=0)
    write_value(area, AreaOfApplicability, tmp_path)
    again = read_value(AreaOfApplicability, tmp_path)
    new = normal(20, 5, seed=4)
    np.testing.assert_array_equal(area.transform(new), again.transform(new))
    assert again.n_components == 5
    assert again.training.dtypes.unique().tolist() == [np.dtype("float32")]


def test_bad_input_is_refused():
    rows, fold = normal(20, 2), np.arange(20) % 2
    with pytest.raises(DataError, match="1 of 20 training rows"):
        AreaOfApplicability.fit(rows.mask(rows == rows.iloc[3, 1]), fold, seed=0)
    with pytest.raises(DataError, match="0 of 0 training rows"):
        AreaOfApplicability.fit(rows[:0], fold[:0], seed=0)
    with pytest.raises(DataError, match="at least two folds"):
        AreaOfApplicability.fit(rows, np.zeros(20, int), seed=0)
    for importance in ([-1.0, 1.0], [0.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(DataError, match="Importances"):
            AreaOfApplicability.fit(rows, fold, np.array(importance), seed=0)
    with pytest.raises(DataError, match="rows are alike"):
        AreaOfApplicability.fit(rows * 0 + 1, fold, seed=0)
    area = AreaOfApplicability.fit(rows, fold, seed=0)
    with pytest.raises(DataError, match="Embed both with one encoder"):
        area.transform(rows[["f1", "f0"]])


def test_no_new_row_has_no_dissimilarity():
    for k in (2, 12):
        rows = normal(20, k)
        area = AreaOfApplicability.fit(rows, np.arange(20) % 2, seed=0)
        assert len(area.transform(rows[:0])) == 0


def test_the_report_shows_averages_with_and_without():
    inside, values = np.array([True] * 8 + [False] * 2), np.array([1.0] * 7 + [np.nan, 10, 10])
    report = applicability_report(inside, values, "villages")
    assert (report.status, report.flags) == ("warn", ("outside_applicability",))
    assert report.table["n"].tolist() == [10, 8, 2]
    assert report.table["average"].tolist() == pytest.approx([3, 1, 10])
    assert "20.0% of 10 villages" in report.text
    assert "3 with them and 1 without" in report.text


def test_the_report_passes_when_few_lie_outside():
    report = applicability_report(np.array([True] * 96 + [False] * 4))
    assert (report.status, report.flags) == ("pass", ())
    assert report.table["average"].isna().all()
    everyone = applicability_report(np.ones(3, bool), np.ones(3))
    assert np.isnan(everyone.table["average"][2])
    with pytest.raises(DataError, match="no units to judge"):
        applicability_report(np.ones(0, bool))
