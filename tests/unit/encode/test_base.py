"""Chips in and out of encoders: batches, normalisation, embeddings by block, refusals."""

import json

import dask
import numpy as np
import pytest

from eo_causal.encode.base import (
    Encoder,
    Normalisation,
    batches,
    check_chips,
    embed,
    frames_seen,
    to_batch,
)
from eo_causal.errors import DataError


class BandMeans(Encoder):
    """Mean of every band over all frames."""

    feature_names = ("first", "second")

    def encode(self, batch):
        return np.nanmean(batch.values, axis=(1, 3, 4)).astype(np.float32)

    def provenance(self):
        return {"name": "band_means"}


@pytest.fixture
def chips(random_chips):
    made = random_chips(n_units=7, n_frames=2, n_bands=2, size=4)
    made[1, 0] = np.nan
    made[2, :, 1, :2] = np.nan
    return made


def test_embeddings_of_blocks_equal_embeddings_in_memory(chips):
    whole = embed(chips, BandMeans())
    with dask.config.set(scheduler="synchronous"):
        blocks = embed(chips.chunk(unit=3, y=2), BandMeans())
        assert blocks.chunks == ((3, 3, 1), (2,))
        np.testing.assert_array_equal(blocks.to_numpy(), whole.to_numpy())
    assert whole.dims == ("unit", "feature")
    assert whole["feature"].values.tolist() == ["first", "second"]
    assert whole["unit_id"].values[6] == "unit-6"
    assert json.loads(whole.attrs["provenance"]) == {"name": "band_means"}


def test_no_units_give_an_empty_embedding(chips):
    assert embed(chips[:0], BandMeans()).shape == (0, 2)
    assert embed(chips[:0].chunk(), BandMeans()).compute().shape == (0, 2)


def test_units_without_finite_features_are_listed(chips):
    chips[4, :, 1] = np.nan
    chips[5] = np.nan
    with (
        pytest.warns(RuntimeWarning, match="empty slice"),
        pytest.raises(
            DataError,
            match=r"2 of 7 units have no finite feature second.*\(first: unit-4, unit-5\)",
        ) as caught,
    ):
        embed(chips, BandMeans())
    assert caught.value.facts["unit_ids"] == ["unit-4", "unit-5"]


def test_batches_keep_the_order_they_are_asked_for(chips):
    for made in (chips, chips.chunk(unit=2)):
        ids = [batch.unit_ids for batch in batches(made, np.array([5, 1, 0, 6]), size=2)]
        assert sum(ids, ()) == ("unit-5", "unit-1", "unit-0", "unit-6")


def test_a_dask_block_is_read_once_for_sorted_units(chips):
    reads = []

    def read(block):
        if block.size:
            reads.append(block.shape[0])
        return block

    lazy = chips.chunk(unit=4)
    lazy = lazy.copy(data=lazy.data.map_blocks(read, dtype=np.float32, meta=lazy.data._meta))
    with dask.config.set(scheduler="synchronous"):
        assert len(list(batches(lazy, np.array([0, 1, 3, 5]), size=1))) == 4
    assert reads == [4, 3]


def test_normalisation_is_that_of_the_valid_pixels_of_the_chosen_units(chips):
    units = np.array([6, 1, 2])
    expected = chips.isel(unit=units)
    for made in (chips, chips.chunk(unit=2)):
        found = Normalisation.fit(made, units)
        np.testing.assert_allclose(found.mean, expected.mean(("unit", "time", "y", "x")), rtol=1e-6)
        np.testing.assert_allclose(found.sd, expected.std(("unit", "time", "y", "x")), rtol=1e-5)
    scaled = found.apply(expected.to_numpy())
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.nanmean(scaled, axis=(0, 1, 3, 4)), 0, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(expected.to_numpy()))


def test_normalisation_keeps_digits_far_from_zero(make_chips):
    values = 1e4 + np.random.default_rng(0).normal(0, 1, (200, 1, 1, 8, 8)).astype(np.float32)
    found = Normalisation.fit(make_chips(values))
    assert found.sd[0] == pytest.approx(values.astype(float).std(), rel=1e-9)


def test_a_constant_band_is_not_divided_by_zero(make_chips):
    found = Normalisation.fit(make_chips(np.full((2, 1, 1, 3, 3), 5.0)))
    assert found.provenance() == {"mean": [5.0], "sd": [1.0]}


def test_a_band_without_valid_pixels_is_named(chips):
    chips[:, :, 1] = np.nan
    with pytest.raises(DataError, match="no valid pixel in band green"):
        Normalisation.fit(chips)


def test_a_frame_counts_when_it_has_a_date_and_a_pixel(chips):
    chips["fractional_year"][3, 1] = np.nan
    expected = np.ones((7, 2), dtype=bool)
    expected[1, 0] = expected[3, 1] = False
    np.testing.assert_array_equal(to_batch(chips).frames, expected)
    np.testing.assert_array_equal(frames_seen(chips), expected)
    np.testing.assert_array_equal(
        frames_seen(chips.chunk(unit=2), np.array([3, 1])), expected[[1, 3]]
    )


def test_what_are_no_chips_is_refused(chips):
    with pytest.raises(DataError, match=r"dimensions \('unit', 'time'"):
        check_chips(chips.isel(time=0))
    with pytest.raises(DataError, match="float32, not float64"):
        check_chips(chips.astype(float))
    with pytest.raises(DataError, match="lack the coordinates fractional_year"):
        check_chips(chips.drop_vars("fractional_year"))


def test_blocks_change_no_bit_of_the_normalisation(random_chips):
    data = random_chips(n_units=150, n_frames=3, n_bands=2, size=9)
    whole = Normalisation.fit(data)
    for size in (1, 7, 150):
        blocks = Normalisation.fit(data.chunk(unit=size))
        np.testing.assert_array_equal(blocks.mean, whole.mean)
        np.testing.assert_array_equal(blocks.sd, whole.sd)
