"""Map cells by way of an embedding: the same numbers as places of the study get, wherever they are read."""

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.audit.applicability import AreaOfApplicability, DissimilarityLayer
from eo_causal.encode.cells import EmbeddedCells
from eo_causal.encode.pixel_stats import PixelStatsSettings
from eo_causal.encode.random_features import RandomFeaturesSettings
from eo_causal.encode.store import embed_chips
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.outcome import OutcomeLayers, apply_head

SETTINGS = RandomFeaturesSettings(n_filters=16, n_components=4)


@pytest.fixture
def chips(random_chips):
    return random_chips(n_units=20, size=12)


@pytest.fixture
def elsewhere(random_chips):
    return random_chips(n_units=7, size=12, seed=5)


def head_of(embedding):
    """Two linear models."""
    random = np.random.default_rng(0)
    n = embedding.sizes["feature"]
    return xr.Dataset(
        {
            "weight": (("fold", "feature"), random.normal(size=(2, n))),
            "intercept": ("fold", [1, -2]),
        },
        coords={"feature": embedding["feature"].to_numpy()},
    )


def area_of(embedding):
    names = embedding["feature"].to_numpy()
    rows = pd.DataFrame(embedding.to_numpy(), columns=names)
    return AreaOfApplicability.fit(rows, np.arange(len(rows)) % 2, seed=0)


@pytest.fixture
def made(chips):
    embedding = embed_chips(chips, SETTINGS, seed=3)
    head, area = head_of(embedding), area_of(embedding)
    reader = EmbeddedCells(chips, SETTINGS, 3, (OutcomeLayers(head), DissimilarityLayer(area)))
    return reader, embedding, head, area


def test_layers_are_those_of_all_readers_in_their_order(made):
    reader, _, head, area = made
    assert reader.layers == ("fold_0", "fold_1", "dissimilarity")
    turned = EmbeddedCells(
        reader.chips, SETTINGS, 3, (DissimilarityLayer(area), OutcomeLayers(head))
    )
    assert turned.layers == ("dissimilarity", "fold_0", "fold_1")
    np.testing.assert_array_equal(turned(reader.chips)[:, [1, 2, 0]], reader(reader.chips))


def test_cells_of_the_study_read_what_its_embedding_says(made, chips):
    reader, embedding, head, area = made
    found = reader(chips)
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found[:, :2], apply_head(head, embedding), rtol=1e-5, atol=1e-5)
    names = embedding["feature"].to_numpy()
    distance = area.transform(pd.DataFrame(embedding.to_numpy(), columns=names))
    np.testing.assert_allclose(found[:, 2], distance, atol=1e-4)
    assert found[:, 2] == pytest.approx(0, abs=1e-4)  # each is its own nearest training row


def test_models_are_a_weighted_sum_of_features(made, chips):
    reader, embedding, head, _ = made
    by_hand = [
        [float(head["intercept"][k] + head["weight"].values[k] @ row) for k in (0, 1)]
        for row in embedding.to_numpy().astype(float)
    ]
    np.testing.assert_allclose(reader(chips)[:, :2], by_hand, rtol=1e-5, atol=1e-5)


def test_a_cell_does_not_depend_on_what_is_read_with_it(made, elsewhere):
    reader = made[0]
    whole = reader(elsewhere).astype(np.float32)  # as maps hold it
    for part in (slice(0, 1), slice(3, 6)):
        alone = reader(elsewhere.isel(unit=part)).astype(np.float32)
        np.testing.assert_array_equal(alone, whole[part])


def test_the_encoder_is_fitted_on_the_study_alone(made, elsewhere):
    """Brighter cells are seen as brighter, not as normal."""
    reader = made[0]
    once, brighter = reader(elsewhere), reader(elsewhere + 1)
    assert (brighter[:, 2] > 3 * once[:, 2]).all()
    other = EmbeddedCells(elsewhere, SETTINGS, 3, reader.readers)
    assert not np.allclose(other(elsewhere), once, atol=1e-3)


def test_a_seed_decides_what_an_encoder_draws(made, elsewhere):
    reader = made[0]
    again, other = (
        EmbeddedCells(reader.chips, SETTINGS, seed, reader.readers)(elsewhere) for seed in (3, 4)
    )
    np.testing.assert_array_equal(again, reader(elsewhere))
    assert not np.allclose(other, again, atol=1e-3)


def test_a_worker_reads_the_same(made, elsewhere):
    reader = made[0]
    before = reader(elsewhere)
    for state in (reader, EmbeddedCells(reader.chips, SETTINGS, 3, reader.readers)):
        there = cloudpickle.loads(cloudpickle.dumps(state))
        np.testing.assert_array_equal(there(elsewhere), before)


def test_invalid_pixels_of_a_cell_are_left_out(chips):
    settings = PixelStatsSettings()
    embedding = embed_chips(chips, settings, seed=0)
    reader = EmbeddedCells(chips, settings, 0, (OutcomeLayers(head_of(embedding)),))
    holed = chips.copy()
    holed.values[0, 0, :, 0, 0] = np.nan
    found = reader(holed)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[1:], reader(chips)[1:])
    assert not np.array_equal(found[0], reader(chips)[0])


def test_a_head_of_other_features_is_refused(made, chips):
    _, embedding, head, _ = made
    fewer = EmbeddedCells(chips, SETTINGS, 3, (OutcomeLayers(head.isel(feature=slice(0, 3))),))
    with pytest.raises(ConfigError, match="knows 3 features"):
        fewer(chips)
    with pytest.raises(ConfigError, match=r"outcome\.model: ridge"):
        EmbeddedCells(chips, SETTINGS, 3, (OutcomeLayers(xr.Dataset(coords=head.coords)),))(chips)
    other = DissimilarityLayer(area_of(embedding.isel(feature=slice(0, 3))))
    with pytest.raises(DataError, match="Embed both with one encoder"):
        EmbeddedCells(chips, SETTINGS, 3, (other,))(chips)
