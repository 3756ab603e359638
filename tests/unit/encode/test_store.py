"""Embeddings as a stage: counts, dask, training units, keys."""

import inspect
import json

import cloudpickle
import dask
import numpy as np
import pytest
import xarray as xr

from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.encode.pixel_stats import PixelStatsSettings
from eo_causal.encode.random_features import RandomFeaturesSettings
from eo_causal.encode.store import FoldFeatures, embed_chips, embed_elsewhere, embedding_key
from eo_causal.errors import DataError

SETTINGS = RandomFeaturesSettings(n_filters=16, n_components=4)


@pytest.fixture
def chips(random_chips):
    made = random_chips(n_units=9, n_frames=2, size=12)
    made.values[2, 1] = np.nan
    made.values[3, 0, 1, 0, :5] = np.nan
    return made


def test_what_was_encoded_is_counted(chips):
    with counting() as counts:
        embed_chips(chips, SETTINGS, seed=0)
    assert counts == {
        "units_encoded": 9,
        "frames_used": 17,
        "frames_empty": 1,
        "pixels_invalid": 5,
    }


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_blocks_and_schedulers_give_the_same_features(chips, scheduler):
    plain = SETTINGS.model_copy(update={"n_components": None})
    with dask.config.set(scheduler=scheduler):
        lazy = embed_chips(chips.chunk(unit=4), plain, seed=5)
        assert lazy.chunks == ((4, 4, 1), (64,))
        whole = embed_chips(chips, plain, seed=5)
        np.testing.assert_allclose(lazy.compute().values, whole.values, atol=1e-6)
        reduced = embed_chips(chips.chunk(unit=4), SETTINGS, seed=5)
    np.testing.assert_allclose(reduced, embed_chips(chips, SETTINGS, seed=5), atol=1e-4)


@pytest.mark.parametrize("lazy", [False, True])
def test_all_units_with_too_few_frames_are_listed_before_anything_is_encoded(random_chips, lazy):
    chips = random_chips(n_units=150, n_frames=2, size=6)
    chips.values[[3, 149], 1] = np.nan
    settings = PixelStatsSettings()
    with pytest.raises(DataError, match=r"2 of 150 units have fewer than the 2 .*unit-3, unit-149"):
        embed_chips(chips.chunk(unit=50) if lazy else chips, settings, seed=0)


def test_an_embedding_survives_the_disk(chips, tmp_path):
    embedding = embed_chips(chips, SETTINGS, seed=5)
    write_value(embedding, xr.DataArray, tmp_path)
    back = read_value(xr.DataArray, tmp_path)
    np.testing.assert_array_equal(back.values, embedding.values)
    assert json.loads(back.attrs["provenance"])["n_components"] == 4
    assert back["unit_id"].values.tolist() == embedding["unit_id"].values.tolist()


def test_only_training_units_are_learned_from(chips):
    changed = chips.copy()
    changed.values[8] += 100
    training = list(range(8))
    first, second = (embed_chips(item, SETTINGS, training, seed=5) for item in (chips, changed))
    np.testing.assert_array_equal(first.values[:8], second.values[:8])
    assert not np.allclose(first.values[8], second.values[8])
    everything = embed_chips(changed, SETTINGS, seed=5)
    assert not np.allclose(everything.values[:8], first.values[:8], atol=1e-3)


def test_features_of_a_fold_depend_on_its_training_units(chips):
    features = FoldFeatures(chips, SETTINGS, seed=5)
    part = features(np.arange(6))
    assert part.shape == (9, 4)
    np.testing.assert_array_equal(part, embed_chips(chips, SETTINGS, list(range(6)), seed=5).values)
    assert not np.allclose(part, features(np.arange(3, 9)))


def test_an_encoder_that_learns_nothing_encodes_once(chips, monkeypatch):
    features = FoldFeatures(chips.isel(time=[0]), PixelStatsSettings(), seed=5)
    first = features(np.arange(6))
    monkeypatch.setattr("eo_causal.encode.store.FoldFeatures._fitted", None)
    np.testing.assert_array_equal(features(np.arange(3, 9)), first)
    plain = embed_chips(chips.isel(time=[0]), PixelStatsSettings(), seed=5)
    np.testing.assert_array_equal(first, plain.values)


@pytest.mark.parametrize("settings", [SETTINGS, PixelStatsSettings()])
def test_features_travel_to_workers_with_chips_that_stay_on_disk(chips, settings, tmp_path):
    write_value(chips.isel(time=[0]).chunk(unit=3), xr.DataArray, tmp_path)
    features = FoldFeatures(read_value(xr.DataArray, tmp_path), settings, seed=5)
    sent = cloudpickle.loads(cloudpickle.dumps(features))
    np.testing.assert_array_equal(sent(np.arange(6)), features(np.arange(6)))


def test_the_key_names_chips_and_encoder(chips):
    provenance = json.loads(embed_chips(chips, SETTINGS, seed=5).attrs["provenance"])
    other = json.loads(embed_chips(chips, SETTINGS, seed=6).attrs["provenance"])
    keys = {
        embedding_key("a", provenance),
        embedding_key("b", provenance),
        embedding_key("a", other),
    }
    assert len(keys) == 3
    assert embedding_key("a", provenance) == embedding_key("a", dict(reversed(provenance.items())))


def test_the_stage_is_annotated_for_the_cache():
    assert inspect.signature(embed_chips).return_annotation is xr.DataArray
    assert inspect.signature(embed_chips).parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY


def placed(chips, step=30.0):
    """Chips that know where their pixels lie."""
    n_rows, n_columns = chips.sizes["y"], chips.sizes["x"]
    return chips.assign_coords(y=-np.arange(n_rows) * step, x=np.arange(n_columns) * step)


def test_other_places_are_encoded_by_what_the_study_has_taught(random_chips):
    chips, others = placed(random_chips(n_units=9, size=12)), placed(random_chips(seed=3, size=12))
    both = placed(xr.concat([chips, others], "unit"))
    expected = FoldFeatures(both, SETTINGS, 5)(np.arange(9))[9:]
    found = embed_elsewhere(chips, others * 1, SETTINGS, seed=5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("size", "step"), [(10, 30.0), (12, 10.0)])
def test_chips_of_another_footprint_are_refused(random_chips, size, step):
    chips, others = placed(random_chips(size=12)), placed(random_chips(size=size), step)
    with pytest.raises(DataError, match=r"differ along y: 12 values from 0\.0 to -330\.0"):
        embed_elsewhere(chips, others, SETTINGS, seed=0)
