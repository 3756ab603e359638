"""Folds keep keys, clusters and shared ground on one side, are balanced, and repeat by seed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.folds import FoldSettings, check_separate, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError, LeakageError

NONE = pd.DataFrame({"unit_a": [], "unit_b": []}, dtype=str)


def study(n=200, seed=0, keys=None, cluster=None, places=None, treatment=None):
    random = np.random.default_rng(seed)
    keys = np.arange(n) if keys is None else keys
    places = np.full((n, 2), np.nan) if places is None else places
    table = pd.DataFrame(
        {
            "unit_id": [f"u{i}" for i in range(n)],
            "image_key": [f"k{key}" for key in keys],
            "treatment": random.integers(0, 2, n) if treatment is None else treatment,
            "outcome": random.normal(size=n),
            "cluster": [f"c{c}" for c in (keys if cluster is None else cluster)],
            "easting": places[:, 0],
            "northing": places[:, 1],
        }
    )
    return StudyUnits(table, pd.DataFrame(index=table.index))


def folds_of(units, overlap=NONE, footprint=0.0, randomised=False, seed=1, **settings):
    return make_folds(units, FoldSettings(**settings), overlap, footprint, randomised, seed=seed)


def scattered(n, seed=0, extent=100_000):
    return np.random.default_rng(seed).uniform(0, extent, (n, 2))


def nearest(places, some, others):
    return np.abs(places[some][:, None] - places[others][None]).max(axis=2).min()


def assert_partition(folds, n):
    for split in range(folds.n_splits):
        tests = [test for _, test in folds.pairs(split)]
        np.testing.assert_array_equal(np.sort(np.concatenate(tests)), np.arange(n))
        for training, test in folds.pairs(split):
            assert not set(training) & set(test)


def random_case(seed):
    """Units that share keys and clusters, and squares that overlap, in every mixture."""
    random = np.random.default_rng(seed)
    n = int(random.integers(150, 500))
    keys = random.integers(0, int(random.integers(60, n)), n)
    centre = scattered(keys.max() + 1, seed, extent=float(random.uniform(5e4, 3e5)))
    places = centre[keys] + random.uniform(-500, 500, (n, 2)) * random.integers(0, 2)
    footprint = float(random.uniform(200, 4000))
    apart = np.abs(centre[:, None] - centre[None]).max(axis=2)
    a, b = np.nonzero(np.triu(apart < footprint, 1))
    overlap = pd.DataFrame({"unit_a": [f"k{i}" for i in a], "unit_b": [f"k{i}" for i in b]})
    kind = ["spatial_block", "image_key", "cluster", "auto"][seed % 4]
    settings = {"kind": kind, "n_folds": int(random.integers(2, 7)), "n_splits": 2}
    if random.random() < 0.5:
        settings["buffer_m"] = float(random.uniform(0, 2) * footprint)
    cluster = (keys + random.integers(0, 2, n) * (random.random(n) < 0.02)) % 60
    units = study(n, seed, keys, cluster, places)
    return units, keys, np.stack([a, b], axis=1), overlap, footprint, settings


def folds_or_none(units, overlap, footprint, seed, settings):
    """None where dense ground is joined into few groups, or a wide buffer leaves nothing."""
    try:
        return folds_of(units, overlap, footprint, seed=seed, **settings)
    except DataError:
        return None


@pytest.mark.parametrize("seed", range(40))
def test_no_key_and_no_ground_is_ever_learned_and_tested(seed):
    units, keys, pairs, overlap, footprint, settings = random_case(seed)
    folds = folds_or_none(units, overlap, footprint, seed, settings)
    if folds is None:
        return
    assert_partition(folds, len(units))
    clusters = units.table["cluster"].to_numpy()
    for split in range(folds.n_splits):
        for training, test in folds.pairs(split):
            learned, tested = set(keys[training]), set(keys[test])
            assert not learned & tested
            for a, b in pairs:
                assert not (a in learned and b in tested)
                assert not (b in learned and a in tested)
            if folds.kind == "cluster":
                assert not set(clusters[training]) & set(clusters[test])


@pytest.mark.parametrize("seed", range(8))
def test_in_a_sequence_a_fold_is_tested_by_what_the_folds_before_it_taught(seed):
    units, _, _, overlap, footprint, settings = random_case(seed)
    folds = folds_or_none(units, overlap, footprint, seed, settings)
    if folds is None:
        return
    allowed = {tuple(test): set(training) for training, test in folds.pairs(1)}
    steps = folds.sequence(1, seed=9)
    assert len(steps) == folds.n_folds - 1
    seen = set(range(len(units))) - {unit for _, test in steps for unit in test}
    for training, test in steps:
        assert set(training) == seen & allowed[tuple(test)]
        seen |= set(test)
    assert len(seen) == len(units)


def test_some_random_cases_of_each_kind_are_possible():
    made = []
    for seed in range(40):
        units, _, _, overlap, footprint, settings = random_case(seed)
        folds = folds_or_none(units, overlap, footprint, seed, settings)
        made += [folds.kind] if folds else []
    assert set(made) == {"spatial_block", "image_key", "cluster"}
    assert pd.Series(made).value_counts().min() >= 4


def test_auto_takes_blocks_for_observed_treatment_with_places():
    placed, nowhere = study(places=scattered(200)), study()
    assert folds_of(placed).kind == "spatial_block"
    assert folds_of(placed, randomised=True).kind == "image_key"
    assert folds_of(nowhere).kind == "image_key"


def test_same_seed_same_folds_other_seed_others():
    units = study(places=scattered(200))
    first, again, other = (folds_of(units, seed=seed).table for seed in (1, 1, 2))
    assert first.identical(again)
    assert not first["fold_of_unit"].equals(other["fold_of_unit"])
    splits = first["fold_of_unit"].to_numpy()
    assert len(np.unique(splits, axis=0)) == len(splits)


def test_folds_do_not_depend_on_the_order_of_rows():
    units = study(300, keys=np.random.default_rng(5).integers(0, 90, 300))
    order = np.random.default_rng(6).permutation(300)
    shuffled = StudyUnits(units.table.iloc[order], units.covariates.iloc[order])
    first, second = (folds_of(u).table["fold_of_unit"].to_numpy() for u in (units, shuffled))
    np.testing.assert_array_equal(first[:, order], second)


def test_folds_are_balanced_by_units_not_by_groups():
    sizes = np.random.default_rng(7).geometric(0.05, 120)
    keys = np.repeat(np.arange(120), sizes)
    folds = folds_of(study(len(keys), keys=keys))
    for fold in folds.table["fold_of_unit"].to_numpy():
        loads = np.bincount(fold, minlength=5)
        assert np.ptp(loads) <= 0.02 * len(keys)


def test_training_is_all_but_the_test_fold_where_there_is_no_buffer():
    folds = folds_of(study())
    for training, test in folds.pairs(0):
        assert len(training) + len(test) == 200


def test_blocks_are_about_eight_a_fold_and_whole():
    places = scattered(3000)
    folds = folds_of(study(3000, places=places), footprint=500.0)
    assert 40 <= len(np.unique(folds.group)) <= 110
    fold = folds.table["fold_of_unit"].to_numpy()[0]
    assert all(len(np.unique(fold[folds.group == g])) == 1 for g in np.unique(folds.group))
    widths = [np.ptp(places[folds.group == g], axis=0).max() for g in np.unique(folds.group)]
    assert 7_000 < max(widths) < 18_000


def test_blocks_follow_the_units_not_the_empty_land_between_them():
    towns = np.array([[0, 0], [900_000, 0], [0, 900_000]])[np.arange(600) % 3]
    folds = folds_of(study(600, places=towns + scattered(600, extent=30_000)), footprint=300.0)
    assert len(np.unique(folds.group)) >= 40


def test_default_blocks_are_never_narrower_than_two_footprints():
    places = scattered(2000, extent=40_000)
    folds = folds_of(study(2000, places=places), footprint=3000.0, buffer_m=10.0)
    widths = [np.ptp(places[folds.group == g], axis=0).max() for g in np.unique(folds.group)]
    assert max(widths) > 5_000


@pytest.mark.parametrize("buffer", [None, 4000.0])
def test_the_buffer_keeps_training_away_from_test(buffer):
    places = scattered(1500, extent=200_000)
    with counting() as counts:
        folds = folds_of(study(1500, places=places), footprint=1500.0, buffer_m=buffer)
    left_out = []
    for split in range(folds.n_splits):
        for training, test in folds.pairs(split):
            assert nearest(places, training, test) >= (buffer or 1500.0)
            out = np.setdiff1d(np.arange(1500), np.concatenate([training, test]))
            assert all(nearest(places, [u], test) < (buffer or 1500.0) for u in out)
            left_out.append(len(out))
    assert counts["units_left_out_a_fold"] == round(np.mean(left_out)) > 0
    assert counts["fold_groups"] == len(np.unique(folds.group))


def test_footprints_side_by_side_share_no_ground():
    """Squares of 1 km whose centres are 1 km apart touch; nobody has to be left out."""
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2) * 1000
    folds = folds_of(study(900, places=grid), footprint=1000.0, block_km=5.0)
    for training, test in folds.pairs(0):
        assert len(training) + len(test) == 900


def test_dense_ground_is_not_joined_where_the_buffer_holds():
    places = scattered(1000, extent=50_000)
    folds = folds_of(study(1000, places=places), None, footprint=2000.0)
    assert folds.n_merged == 0
    with pytest.raises(DataError, match=r"1000 units are only \d group\(s\).*99\d .*overlap"):
        folds_of(study(1000, places=places), None, footprint=2000.0, kind="image_key")


def test_listed_overlap_is_kept_apart_even_beyond_the_buffer():
    """Footprints on another grid may overlap although the local distance is the width or more."""
    places = scattered(400)
    fold = folds_of(study(400, places=places)).table["fold_of_unit"].to_numpy()[0]
    a, b = np.flatnonzero(fold == 0)[0], np.flatnonzero(fold == 1)[0]
    overlap = pd.DataFrame({"unit_a": [f"k{a}", "elsewhere"], "unit_b": [f"k{b}", "k1"]})
    folds = folds_of(study(400, places=places), overlap)
    for k, other in ((0, b), (1, a)):
        training, test = folds.pairs(0)[k]
        assert other not in np.concatenate([training, test])


def test_overlapping_footprints_become_one_group():
    chain = pd.DataFrame({"unit_a": ["k0", "k1", "k7"], "unit_b": ["k1", "k2", "k8"]})
    with counting() as counts:
        folds = folds_of(study(), chain)
    assert folds.n_merged == counts["groups_merged"] == 3
    assert len(set(folds.group[:3])) == len(set(folds.group[7:9])) == 1
    assert len(np.unique(folds.group)) == 197


def test_places_decide_where_overlap_is_not_known():
    places = scattered(200, extent=1e7)
    places[[3, 4]] = places[0] + np.array([[600, 700], [1001, 0]])
    units = study(places=places)
    assert folds_of(units, None, 1000.0, randomised=True).n_merged == 2
    assert folds_of(units, NONE, 1000.0, randomised=True).n_merged == 0
    assert folds_of(units, None, 0.0, randomised=True).n_merged == 0


def test_clusters_join_their_keys_and_keys_their_clusters():
    keys, cluster = np.arange(200) // 2, np.arange(200) // 10
    keys[10] = keys[9]  # one image serves clusters 0 and 1
    folds = folds_of(study(keys=keys, cluster=cluster), kind="cluster")
    assert len(np.unique(folds.group)) == 19
    assert len(set(folds.group[:20])) == 1
    assert folds.n_merged == 0


def test_a_trial_without_places_cannot_have_blocks():
    with pytest.raises(DataError, match=r"place for each unit.*folds\.kind to image_key"):
        folds_of(study(), kind="spatial_block")


@pytest.mark.parametrize("n_folds", [5, 12])
def test_few_groups_are_refused_with_their_number(n_folds):
    keys = np.arange(200) % (max(10, n_folds) - 1)
    with pytest.raises(DataError, match=f"only {max(10, n_folds) - 1} group") as caught:
        folds_of(study(keys=keys), n_folds=n_folds)
    assert caught.value.facts["n_groups"] == max(10, n_folds) - 1


def test_an_arm_of_too_few_keys_is_refused_with_counts():
    keys = np.arange(200) // 2
    treated = np.isin(keys, [0, 1]).astype(int)  # two keys: each is missing where it is tested
    with pytest.raises(DataError, match=r"learns from [01] treated and \d\d control image keys"):
        folds_of(study(keys=keys, treatment=treated))


def test_a_buffer_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match=r"learns from 0 treated.*smaller folds\.buffer_m"):
        folds_of(study(places=scattered(200)), buffer_m=1e6, block_km=20)


@pytest.mark.parametrize("name", ["key", "ground"])
def test_folds_that_leak_are_refused_always(name):
    folds = folds_of(study(), n_splits=1)
    key = np.arange(200)
    fold = folds.table["fold_of_unit"].to_numpy()[0]
    a, b = np.flatnonzero(fold == 0)[0], np.flatnonzero(fold == 1)[0]
    check_separate(folds, key, np.array([[a, np.flatnonzero(fold == 0)[1]]]))
    pairs = np.array([[b, a]]) if name == "ground" else np.empty((0, 2), int)
    if name == "key":
        key[a] = key[b]
    with pytest.raises(LeakageError, match="Fold 0 of split 0 learns from and is tested on"):
        check_separate(folds, key, pairs)
    training = folds.table["training"].copy(data=np.ones((1, 5, 200), bool))
    broken = dataclasses.replace(folds, table=folds.table.assign(training=training))
    with pytest.raises(LeakageError, match="40 image"):
        check_separate(broken, np.arange(200), np.empty((0, 2), int))


def test_folds_are_a_value_that_can_be_stored(tmp_path):
    folds = folds_of(study(places=scattered(200)), footprint=300.0)
    write_value(folds, type(folds), tmp_path)
    again = read_value(type(folds), tmp_path)
    assert (again.kind, again.n_merged) == (folds.kind, folds.n_merged)
    for one, other in zip(folds.pairs(3), again.pairs(3), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="spatial_block"):
        FoldSettings(kind="row")
