"""What goes with a large effect: image components, land cover and covariates of one ranking."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.drivers import Drivers, explain_effects

N_IMAGES, EACH = 80, 2
KEYS = [f"k{number:02d}" for number in range(N_IMAGES)]
N = N_IMAGES * EACH


@dataclasses.dataclass
class World:
    units: StudyUnits
    ranking: pd.DataFrame
    embedding: xr.DataArray
    shares: pd.DataFrame

    def explain(self, **changes):
        given = {
            "units": self.units, "ranking": self.ranking, "embedding": self.embedding,
            "shares": self.shares, "n_groups": 4, "level": 0.95,
        }  # fmt: skip
        return explain_effects(**{**given, **changes})


@pytest.fixture
def world():
    """The effect is 1 + the first feature, and 3 times the share of fields."""
    random = np.random.default_rng(0)
    image = np.repeat(np.arange(N_IMAGES), EACH)
    values = random.normal(size=(N_IMAGES, 3)) * [5, 1, 1]
    fields = random.uniform(0.2, 0.4, N_IMAGES)
    effect = 1 + 0.2 * values[image, 0] + 3 * fields[image]
    keys = np.array(KEYS, dtype=object)[image]
    table = pd.DataFrame({
        "unit_id": [f"u{number:03d}" for number in range(N)], "image_key": keys,
        "treatment": np.arange(N) % 2.0, "outcome": 0.0, "cluster": keys, "easting": np.nan,
        "northing": np.nan,
    })  # fmt: skip
    age = random.normal(size=N)
    age[[3, 8]] = np.nan
    units = StudyUnits(table, pd.DataFrame({"age": age, "schooling": effect * 2}))
    ranking = pd.DataFrame({
        "unit_id": table["unit_id"], "cate": effect,
        "score": effect + 0.05 * random.normal(size=N),
    })  # fmt: skip
    order = random.permutation(N_IMAGES)
    embedding = xr.DataArray(
        values[order].astype(np.float32), dims=("unit", "feature"),
        coords={"image_key": ("unit", np.array(KEYS)[order]),
                "feature": ["greener", "texture", "noise"]},
    )  # fmt: skip
    water = np.where(np.arange(N_IMAGES) == 0, 0.05, 0.0)
    shares = pd.DataFrame({
        "image_key": KEYS, "n_valid": 100, "forest": 1 - fields - water, "fields": fields,
        "water": water,
    })  # fmt: skip
    return World(units, ranking, embedding, shares)


def test_components_are_of_images_in_any_order_and_named(world):
    terms = world.explain().components.set_index("term")
    assert terms.index[0] == "intercept"
    assert terms.loc["intercept", "estimate"] == pytest.approx(world.ranking["score"].mean())
    greener = [name for name in terms.index if name.endswith(": greener")]
    assert len(terms) == 4
    assert [name.split(": ")[0] for name in terms.index[1:]] == ["1", "2", "3"]
    assert terms.loc[greener[0], "q_value"] < 1e-6


def test_a_component_with_the_effect_has_its_coefficient(world):
    """By hand: of one feature, the slope of the score per standard deviation of it."""
    one = world.embedding.isel(feature=[0])
    terms = world.explain(embedding=one).components.set_index("term")
    values = one.to_numpy()[:, 0].astype(float)
    by_key = pd.Series(values, index=one["image_key"].to_numpy())
    x = by_key.loc[world.units.table["image_key"]].to_numpy()
    slope = np.polyfit((x - x.mean()) / x.std(), world.ranking["score"], 1)[0]
    assert terms.loc["1: greener", "estimate"] == pytest.approx(slope)


def test_land_cover_is_per_ten_points_instead_of_the_largest_class(world):
    with counting() as counts:
        found = world.explain().land_cover
    assert found["term"].tolist() == ["intercept", "fields"]
    assert found["instead_of"].unique().tolist() == ["forest"]
    assert counts["classes_too_rare"] == 1  # water
    fields = np.repeat(world.shares["fields"].to_numpy(), EACH)
    slope = np.polyfit(fields / 0.1, world.ranking["score"], 1)[0]
    assert found["estimate"].iloc[1] == pytest.approx(slope)
    assert found["lower"].iloc[1] < 0.3 < found["upper"].iloc[1]


def test_dominant_classes_share_out_all_units(world):
    shares = world.shares.copy()
    shares.loc[:9, ["forest", "fields"]] = [0.1, 0.9]
    found = world.explain(shares=shares).dominant.set_index("class")
    assert found["n"].to_dict() == {"fields": 20, "forest": N - 20}
    cate = world.ranking["cate"].to_numpy()
    assert found.loc["fields", "cate"] == pytest.approx(cate[:20].mean())
    assert found.loc["forest", "cate"] == pytest.approx(cate[20:].mean())


def test_places_without_land_cover_are_left_out_and_counted(world):
    shares = world.shares.copy()
    shares.loc[[4, 5], ["forest", "fields", "water"]] = np.nan
    shares.loc[[4, 5], "n_valid"] = 0
    with counting() as counts:
        found = world.explain(shares=shares.drop(index=7))
    assert counts["units_without_land_cover"] == 6
    assert counts["units_described"] == N
    assert found.dominant["n"].sum() == N - 6
    rows = found.composition.groupby("variable")["n"].sum()
    assert rows.to_dict() == {
        "age": N,
        "fields": N - 6,
        "forest": N - 6,
        "schooling": N,
        "water": N - 6,
    }
    assert found.correlations.set_index("variable").loc["fields", "n"] == N - 6


def test_composition_and_correlations_follow_the_effect(world):
    found = world.explain()
    own = found.composition[found.composition["variable"] == "schooling"]
    assert own["group"].tolist() == [1, 2, 3, 4]
    assert own["mean"].is_monotonic_increasing
    rows = found.correlations.set_index("variable")
    assert rows.loc["schooling", "spearman"] == pytest.approx(1)
    assert abs(rows.loc["age", "spearman"]) < 0.3
    assert rows.loc["age", "n"] == N  # medians for what is missing


def test_without_a_map_there_is_nothing_of_land_cover(world):
    found = world.explain(shares=None)
    assert len(found.land_cover) == len(found.dominant) == 0
    assert found.composition["variable"].unique().tolist() == ["age", "schooling"]
    assert len(found.components) == 4


def test_without_covariates_and_a_map_components_remain(world):
    bare = StudyUnits(world.units.table, pd.DataFrame(index=range(N)))
    found = world.explain(units=bare, shares=None)
    assert len(found.composition) == len(found.correlations) == 0
    assert len(found.components) == 4


def test_one_effect_for_all_has_no_groups(world):
    found = world.explain(ranking=world.ranking.assign(cate=0.4))
    assert len(found.composition) == 0
    assert found.correlations["spearman"].isna().all()
    assert found.dominant["cate"].tolist() == pytest.approx([0.4])
    assert len(found.components) == 4  # of scores, whatever is predicted


def test_one_class_everywhere_is_no_driver(world):
    shares = world.shares.assign(forest=1.0, fields=0.0, water=0.0)
    found = world.explain(shares=shares)
    assert len(found.land_cover) == 0
    assert found.dominant["class"].tolist() == ["forest"]


def test_a_description_survives_the_disk(world, tmp_path):
    for number, shares in enumerate((world.shares, None)):
        found = world.explain(shares=shares)
        folder = tmp_path / str(number)
        folder.mkdir()
        write_value(found, Drivers, folder)
        back = read_value(Drivers, folder)
        pd.testing.assert_frame_equal(back.components, found.components)
        assert len(back.land_cover) == len(found.land_cover)
        pd.testing.assert_frame_equal(back.composition, found.composition)
