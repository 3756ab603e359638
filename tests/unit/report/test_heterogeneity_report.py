"""The report of effect heterogeneity: keys, null where nothing is known, masks, and odd studies."""

import dataclasses
import json

import dask
import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr

from eo_causal.audit.report import AuditReport, not_run
from eo_causal.core.effect import Effect
from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.cate import EffectSettings
from eo_causal.estimate.drivers import explain_effects
from eo_causal.estimate.elsewhere import CarrySettings, effects_elsewhere
from eo_causal.estimate.heterogeneity import HeterogeneitySettings, estimate_heterogeneity
from eo_causal.report import heterogeneity_figures as figures
from eo_causal.report.heterogeneity_report import (
    MAP_NOTE,
    Elsewhere,
    HeterogeneityReportSettings,
    HeterogeneityStudy,
    heterogeneity_results,
    map_agreement,
    ranking_key,
    write_heterogeneity_report,
)
from eo_causal.report.heterogeneity_sections import headline, key_numbers, sections
from eo_causal.report.results import read_schema

N_IMAGES, EACH, N_PLACES = 60, 2, 24
KEYS = [f"k{number:02d}" for number in range(N_IMAGES)]
SETTINGS = HeterogeneitySettings(
    arms=("tabular", "image:sequence"), n_draws=20, effects=EffectSettings(inner_folds=2)
)


def embedding(keys, values):
    return xr.DataArray(
        values.astype(np.float32), dims=("unit", "feature"),
        coords={"image_key": ("unit", keys), "feature": [f"f{k}" for k in range(values.shape[1])]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def study():
    """A small trial whose effect is 1 + the first feature, carried to places of two areas."""
    random = np.random.default_rng(0)
    values, there = random.normal(size=(N_IMAGES, 3)), random.normal(size=(N_PLACES, 3))
    image = np.repeat(np.arange(N_IMAGES), EACH)
    effect = 1 + values[image, 0]
    treatment = random.permutation(np.arange(N_IMAGES) % 2)[image].astype(float)
    keys = np.array(KEYS, dtype=object)[image]
    ids = [f"u{number:03d}" for number in range(len(image))]
    table = pd.DataFrame({
        "unit_id": ids, "image_key": keys, "treatment": treatment,
        "outcome": effect * treatment + 0.3 * random.normal(size=len(image)), "cluster": keys,
        "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame({"age": random.normal(size=len(image))}))
    chosen = FoldSettings(kind="image_key", n_splits=2, n_folds=3)
    folds = make_folds(units, chosen, None, 0.0, True, seed=1)
    features = {"sequence": lambda training: values}
    with dask.config.set(scheduler="synchronous"):
        ate = estimate_ate(
            units, folds, KEYS, features, {},
            AteSettings(arms=("tabular",), randomised=True, design_probability=0.5), seed=1,
        )  # fmt: skip
        found = estimate_heterogeneity(units, folds, KEYS, features, {}, 0.5, SETTINGS, seed=1)
    cate = found.of("image:sequence", "dr")
    trial = embedding(KEYS, values)
    shares = pd.DataFrame(
        {"image_key": KEYS, "n_valid": 9, "forest": random.uniform(size=N_IMAGES)}
    )
    shares["fields"] = 1 - shares["forest"]
    names = [f"p{number:02d}" for number in range(N_PLACES)]
    where = pd.DataFrame({
        "unit_id": names, "longitude": 33 + 0.004 * (np.arange(N_PLACES) % 6),
        "latitude": 1.2 - 0.004 * (np.arange(N_PLACES) // 6),
        "area": np.where(np.arange(N_PLACES) < 12, "north", "south"),
    })  # fmt: skip
    support = pd.DataFrame({"in_support": np.arange(N_PLACES) % 3 > 0, "dissimilarity": 0.4,
                            "membership": 0.5})  # fmt: skip
    carried = effects_elsewhere(
        units, folds, trial, embedding(names, there), where, support, 0.5, SETTINGS,
        CarrySettings(n_draws=20), seed=1,
    )  # fmt: skip
    chips = xr.DataArray(
        random.uniform(size=(N_IMAGES, 1, 3, 4, 4)).astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={"image_key": ("unit", KEYS), "band": ["red", "nir", "green"]},
    )  # fmt: skip
    registration = not_run("registration", "Not frozen.")
    return HeterogeneityStudy(
        title="For whom?", question="Where?", treatment_name="offered", outcome_name="outcome",
        units=units, chips=chips, failures=pd.DataFrame(columns=["item_id"]), ate=ate, result=found,
        ranking=("image:sequence", "dr"), cate=cate,
        drivers=explain_effects(units, cate, trial, shares, 4, 0.95), land_cover=None, shares=shares,
        elsewhere={"sequence": Elsewhere(where, carried.places, carried.areas, 400.0)},
        network=None, clusters=None,
        audits={"registration": (registration,)},
        design={
            "hash": "0" * 64, "strategy": "rct", "estimand": {"quantity": "ATE", "population": "all"},
            "registration": {"status": "not_run", "text": "Not frozen."},
        },
        truth={
            "ate": 1.0, "modifier": "the feature", "effects": dict(zip(ids, effect, strict=True)),
            "elsewhere_effects": dict(zip(names, 1 + there[:, 0], strict=True)),
            "kinds": dict.fromkeys(names, "same"),
        },
        ledger=pd.DataFrame({"stage": ["chips"], "what": ["places"], "n": [60]}), warnings=[],
        provenance={"pipeline": "rct_heterogeneity", "mode": "default", "run_id": "0" * 12,
                    "seed": 1, "versions": {"eo_causal": "0"}, "inputs": {"a.tif": "0"}},
        config_text="pipeline: rct_heterogeneity\n",
    )  # fmt: skip


@pytest.fixture
def written(study, tmp_path, monkeypatch):
    """Everything but the pictures."""
    monkeypatch.setattr(
        "eo_causal.report.heterogeneity_report.write_figures", lambda study, folder: {}
    )

    def write(**changes):
        changed = dataclasses.replace(study, **changes)
        write_heterogeneity_report(changed, HeterogeneityReportSettings(), folder=tmp_path)
        results = json.loads((tmp_path / "results.json").read_text())
        jsonschema.validate(results, read_schema())
        return results, (tmp_path / "report.html").read_text()

    return write


def elsewhere_with(study, **columns):
    own = study.elsewhere["sequence"]
    return {"sequence": dataclasses.replace(own, places=own.places.assign(**columns))}


@pytest.mark.parametrize(
    ("arm", "learner", "key"),
    [
        ("tabular", "t", "tabular/none/t"),
        ("image:sequence", "dr", "image/sequence/dr"),
        ("image:sequence+tabular", "causal_forest", "image+tabular/sequence/causal_forest"),
        ("image:network", "network", "image/network/network"),
    ],
)
def test_ranking_keys_are_arm_encoder_learner(arm, learner, key):
    assert ranking_key(arm, learner) == key


def test_results_repeat_the_tables(study):
    found = heterogeneity_results(study, "points")
    assert list(found["rate"]) == ["tabular/none/dr", "image/sequence/dr"]
    rates = study.result.rates.set_index(["arm", "metric"])
    for metric in ("autoc", "qini"):
        row, own = rates.loc[("image:sequence", metric)], found["rate"]["image/sequence/dr"][metric]
        assert own["estimate"] == row["estimate"]
        assert own["split_range"] == [row["split_low"], row["split_high"]]
        assert (own["p_adjusted"], own["n_splits"], own["units"]) == (
            row["p_adjusted"],
            2,
            "points",
        )
    assert found["cate"]["ranking"] == "image/sequence/dr"
    assert [row["group"] for row in found["cate"]["groups"]] == [1, 2, 3, 4]
    assert found["cate"]["drivers"][0]["q_value"] is None
    slope = study.own(study.result.calibration).set_index("term").loc["slope"]
    assert found["cate"]["calibration"]["slope"]["estimate"] == slope["estimate"]


def test_results_satisfy_the_schema(written, study):
    results, _ = written()
    assert results["transport"]["rank_correlation"] == {}
    areas = results["transport"]["encoders"]["sequence"]["areas"]
    assert {name: area["n_in_support"] for name, area in areas.items()} == {"north": 8, "south": 8}
    own = study.elsewhere["sequence"].places
    inside = own["in_support"] & (own["area"] == "north")
    assert areas["north"]["average"]["estimate"] == pytest.approx(own["cate"][inside].mean())


def test_the_truth_is_compared_with_what_was_predicted(study):
    found = heterogeneity_results(study, "1")["truth"]
    true = study.cate["unit_id"].map(study.truth["effects"])
    assert found["correlation"] == pytest.approx(np.corrcoef(true, study.cate["cate"])[0, 1])
    assert found["same_kind_out_of_support"] == pytest.approx(1 / 3)
    assert "other_kind_out_of_support" not in found  # there is no place of another kind
    assert heterogeneity_results(dataclasses.replace(study, truth=None), "1")["truth"] is None


def test_maps_have_no_value_where_the_trial_cannot_speak(written, study, tmp_path):
    written()
    own = study.elsewhere["sequence"].places
    with rasterio.open(tmp_path / "maps" / "effect_sequence.tif") as source:
        layers = dict(zip(source.descriptions, source.read(), strict=True))
        assert source.tags()["note"] == MAP_NOTE
        assert source.tags()["run_id"] == "0" * 12
        units = dict(zip(source.descriptions, source.units, strict=True))
    assert units["cate"] == "outcome units"
    outside = layers["in_support"] == 0
    assert outside.sum() == 8
    for name in ("cate", "std_error", "lower", "upper"):
        np.testing.assert_array_equal(np.isnan(layers[name]), ~(layers["in_support"] == 1))
    found = np.sort(layers["cate"][np.isfinite(layers["cate"])])
    np.testing.assert_allclose(found, np.sort(own["cate"][own["in_support"]]), rtol=1e-6)
    assert np.isfinite(layers["dissimilarity"][outside]).all()


def test_tables_are_written_and_places_of_units_are_not(written, tmp_path):
    written()
    names = {path.stem for path in (tmp_path / "tables").glob("*.csv")}
    assert names == {
        "rates", "rates_by_split", "targeting_curves", "cate", "calibration", "groups", "comparisons",
        "effects", "arms", "drivers", "land_cover_effects", "land_cover_dominant", "composition",
        "correlations", "audit", "land_cover_shares", "transport_sequence",
        "areas_sequence",
    }  # fmt: skip
    for name in names - {"transport_sequence"}:
        columns = set(pd.read_csv(tmp_path / "tables" / f"{name}.csv").columns)
        assert not columns & {"longitude", "latitude", "easting", "northing"}, name


def test_without_places_elsewhere_there_is_no_map(written, tmp_path):
    results, page = written(elsewhere={})
    assert results["transport"] is None
    assert not (tmp_path / "maps").exists()
    assert "Outside the trial" not in page
    assert not any("outside the trial" in sentence for sentence in results["headline"])


def test_without_land_cover_nothing_is_said_of_it(written, study):
    drivers = dataclasses.replace(
        study.drivers, land_cover=pd.DataFrame(), dominant=study.drivers.dominant.head(0)
    )
    results, page = written(drivers=drivers, shares=None)
    assert results["cate"]["land_cover"] == []
    assert "ten percentage points" not in page


def test_no_place_like_the_trial_is_no_average(written, study):
    own = study.elsewhere["sequence"]
    areas = own.areas.assign(n_in_support=0, estimate=np.nan, std_error=np.nan, lower=np.nan,
                             upper=np.nan)  # fmt: skip
    nothing = dataclasses.replace(own, places=own.places.assign(in_support=False), areas=areas)
    results, _ = written(elsewhere={"sequence": nothing})
    found = results["transport"]["encoders"]["sequence"]
    assert found["share_in_support"] == 0
    assert found["areas"]["north"]["average"] is None
    (sentence,) = (text for text in results["headline"] if "outside the trial" in text)
    assert "0% look like it" in sentence
    assert "Average predicted effects" not in sentence


def test_predictions_without_differences_have_no_groups_and_no_calibration(written, study):
    flat = dataclasses.replace(study.result, groups=pd.DataFrame(), calibration=pd.DataFrame())
    results, _ = written(result=flat)
    assert results["cate"]["groups"] == []
    assert results["cate"]["calibration"] == {}
    assert not any("quarter" in sentence for sentence in results["headline"])


def test_a_design_that_changed_brands_every_table(written, tmp_path):
    changed = AuditReport(
        "registration", "warn", "outcome changed.", pd.DataFrame({"key": ["outcome"]}), ("changed",)
    )
    _, page = written(audits={"registration": (changed,)})
    assert "Changed after registration" in page
    for path in (tmp_path / "tables").glob("*.csv"):
        assert pd.read_csv(path)["changed_after_registration"].eq("outcome").all(), path


def test_a_ranking_that_finds_nothing_is_not_called_a_finding(study):
    found = dataclasses.replace(study, ranking=("tabular", "dr"))
    assert "Effects are not shown to differ with" in headline(found, "points")[1]
    assert "Effects differ with what sequence DR" in headline(study, "points")[1]
    assert "over 2 splits" in headline(study, "points")[1]
    assert "2 rankings tried" in headline(study, "points")[1]


def test_one_ranking_on_one_split_is_said_so(study):
    rates = study.own(study.result.rates).assign(arm="image:sequence", learner="dr", n_splits=1)
    only = dataclasses.replace(study, result=dataclasses.replace(study.result, rates=rates))
    sentence = headline(only, "points")[1]
    assert "tried" not in sentence
    assert "splits" not in sentence


def test_the_average_is_said_with_its_interval(study):
    plain = study.ate.effect("unadjusted", "difference_in_means")
    assert isinstance(plain, Effect)
    text = headline(study, "points")[0]
    assert f"{plain.estimate:.4g}" in text
    assert "120 units, 60 of them treated" in text


def test_key_numbers_and_sections_follow_what_is_there(study):
    labels = [number.label for number in key_numbers(study, "points")]
    assert labels == ["average effect", "units", "AUTOC ratio", "p, one-sided", "like the trial",
                      "true average"]  # fmt: skip
    titles = [section.title for section in sections(study, {})]
    assert titles[:5] == ["Do effects differ?", "Audits", "What goes with a large effect",
                          "Outside the trial", "Average effects"]  # fmt: skip
    less = dataclasses.replace(study, elsewhere={}, truth=None)
    assert len(key_numbers(less, "points")) == 4
    assert "Outside the trial" not in [section.title for section in sections(less, {})]


def test_maps_of_encoders_are_compared_where_both_may_speak(study):
    own = study.elsewhere["sequence"]
    places = own.places.assign(cate=-own.places["cate"], in_support=np.arange(N_PLACES) % 2 == 0)
    other = dataclasses.replace(own, places=places)
    assert map_agreement({"a": own, "b": own, "c": other}) == pytest.approx(
        {"a b": 1.0, "a c": -1.0, "b c": -1.0}
    )
    flat = dataclasses.replace(own, places=own.places.assign(cate=0.4))
    assert map_agreement({"a": own, "flat": flat}) == {"a flat": None}
    nowhere = dataclasses.replace(own, places=own.places.assign(in_support=False))
    assert map_agreement({"a": own, "nowhere": nowhere}) == {"a nowhere": None}
    assert map_agreement({"a": own}) == {}


def test_the_map_draws_crosses_for_places_unlike_the_trial(study):
    table = study.elsewhere["sequence"].table
    crosses, dots = figures.map_figure(table, "effect").axes[0].collections[:2]
    assert (len(crosses.get_offsets()), len(dots.get_offsets())) == (8, 16)
    nowhere = figures.map_figure(table.assign(in_support=False), "effect").axes[0]
    assert len(nowhere.collections[1].get_offsets()) == 0
    flat = figures.map_figure(table.assign(cate=0.4), "effect").axes[0].collections[1]
    assert flat.norm.vmin < 0.4 < flat.norm.vmax


def test_figures_show_every_ranking(study):
    axis = figures.rates_figure(study.result.rates).axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["covariates DR", "sequence DR"]
    (headline_curve, *_) = (
        line for line in figures.curves_figure(study.result.curves, study.ranking).axes[0].lines
        if line.get_label() == "sequence DR"
    )  # fmt: skip
    own = study.own(study.result.curves)
    np.testing.assert_allclose(headline_curve.get_ydata(), own["toc"])


def test_figures_of_what_is_absent_are_none(study):
    nothing = pd.DataFrame()
    assert figures.groups_figure(nothing, study.cate, None) is None
    assert figures.terms_figure(nothing, "effect") is None
    assert figures.composition_figure(nothing) is None


def test_terms_that_are_sure_are_filled(study):
    terms = study.drivers.components
    filled, open_ = figures.terms_figure(terms, "effect").axes[0].lines[:2]
    sure = (terms["q_value"][1:] < 0.1).sum()
    assert (len(filled.get_xdata()), len(open_.get_xdata())) == (sure, 3 - sure)


def test_few_places_are_shown_once_more_rather_than_not_at_all(study):
    few = study.cate_by_image.head(3)
    figure = figures.places_figure(study.chips, few)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 6
    titles = [axis.get_title() for axis in shown]
    assert titles[0] == f"{few['cate'].max():+.2f}"
    assert titles[3] == f"{few['cate'].min():+.2f}"
