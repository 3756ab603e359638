"""Frozen video networks: smallest inputs, repeated last frames, date order, refusals."""

import numpy as np
import pytest

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.video import SMALLEST, VideoEncoder, VideoSettings
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

PADDED = "fewer than 8 valid frames"


def made(name="swin3d_t", seed=0, **options):
    with pytest.warns(EOCausalWarning, match="random weights"):
        return VideoEncoder(VideoSettings(name=name, random_weights=True, **options), seed)


def test_short_sequences_repeat_their_last_valid_frame(random_chips):
    long = random_chips(n_units=2, n_frames=8, size=16)
    long.values[:, 3:] = long.values[:, 2:3]
    with pytest.warns(EOCausalWarning, match=f"2 of 2 units have {PADDED}"):
        short = made(normalise="none").fit(long[:, :3])
    whole = made(normalise="none").fit(long)
    np.testing.assert_array_equal(short.encode(to_batch(long[:, :3])), whole.encode(to_batch(long)))
    provenance = short.provenance()
    assert (provenance["n_frames"], provenance["input_size"]) == (8, [64, 64])
    assert provenance["n_training_units_padded"] == 2
    assert whole.provenance()["n_training_units_padded"] == 0


def test_frames_are_seen_in_date_order_without_the_empty_ones(random_chips):
    chips = random_chips(n_units=1, n_frames=9, size=16)
    mixed = chips.isel(time=[4, 0, 8, 1, 2, 3, 5, 6, 7]).copy()
    mixed.values[:, 2] = np.nan
    encoder = made(normalise="none").fit(chips)
    left = chips.copy()
    left.values[:, 8] = chips.values[:, 7]  # what repeating the last valid frame gives
    np.testing.assert_array_equal(encoder.encode(to_batch(mixed)), encoder.encode(to_batch(left)))


def test_batches_change_no_bit(random_chips):
    chips = random_chips(n_units=3, n_frames=8, size=16)
    encoder = made().fit(chips)
    whole = embed(chips, encoder).values
    assert whole.shape == (3, 1536)
    for unit in range(3):
        np.testing.assert_array_equal(
            encoder.encode(to_batch(chips[unit : unit + 1]))[0], whole[unit]
        )


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v2_s"])
def test_networks_run_at_their_smallest_input(random_chips, name):
    chips = random_chips(n_units=1, n_frames=2, size=16)
    with pytest.warns(EOCausalWarning, match="fewer than (8|16) valid frames"):
        encoder = made(name).fit(chips)
    found = encoder.encode(to_batch(chips))
    assert found.shape == (1, len(encoder.feature_names))
    assert np.isfinite(found).all()
    assert (encoder.n_frames_, encoder.size_[0]) == SMALLEST[name]


def test_a_network_of_one_size_refuses_more(random_chips):
    with pytest.raises(ConfigError, match="takes 16 frames, the chips have 17"):
        made("mvit_v2_s").fit(random_chips(n_units=1, n_frames=17, size=8))
    with pytest.raises(ConfigError, match="230 x 230 px would be resized to 224 px"):
        made("mvit_v2_s").fit(random_chips(n_units=1, n_frames=2, size=230))


def test_units_without_a_frame_are_listed(random_chips):
    chips = random_chips(n_units=3, n_frames=8, size=8)
    chips.values[1] = np.nan
    with pytest.warns(EOCausalWarning, match=f"1 of 3 units have {PADDED}"):
        encoder = made().fit(chips)
    with pytest.raises(DataError, match=r"1 of 3 units have no valid frame \(first: unit-1"):
        encoder.encode(to_batch(chips))
