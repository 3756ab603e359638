"""The design block: what every strategy needs, what contradicts it, and a hash of content."""

import json

import numpy as np
import pandas as pd
import pytest

from eo_causal.errors import DesignError, EOCausalWarning
from eo_causal.run.design import Design, DesignText, block_hash, canonical, design_hash
from eo_causal.run.design_data import check_design_data

SHARED = {
    "id": "roads", "version": "1", "question": "Did the road help?",
    "estimand": {"quantity": "ATE", "population": "villages", "horizon": "2015"},
    "units": {"geometry": "point", "id": "village", "crs": "EPSG:4326", "resolution_m": 30},
    "time": {"start": "2008", "end": "2015", "freq": "year"},
    "treatment": {
        "name": "road", "kind": "binary", "column": "road", "start_date": "2012-03",
        "assignment": "observed",
    },
    "outcome": {"name": "wealth", "source": "survey", "units": "sd", "support": [-3, 3]},
    "confounders": {
        "tabular": ["slope"],
        "imagery": {"bands": ["red", "nir"], "window": ["2009", "2011"], "encoder": "resnet18"},
    },
    "excluded": {"post_treatment": ["traffic"], "colliders": []},
    "inference": {"se": "conley", "cutoff_km": 50.5, "folds": "spatial_block", "alpha": 0.05},
    "sensitivity": ["rv", "evalue", "rosenbaum", "msm", "manski"],
    "placebos": ["in_time", "in_space", "negative_outcome"],
}  # fmt: skip
PANEL = {
    "unit": "village", "time": "year", "comparison": "never_treated", "anticipation_periods": 1,
    "approach": "fd_exact",
}  # fmt: skip
SPECIFIC = {
    "rct": {"p_treat": 0.5, "strata": ["region"], "cluster": None},
    "conditional_exogeneity": {"overlap": "clip 0.01"},
    "did": PANEL,
    "panel_dml": PANEL,
    "bsts": {
        "intervention_date": "2012-03", "pre": ["2008-01", "2012-02"],
        "post": ["2012-03", "2015-12"], "controls": [{"name": "far", "distance_km": 60}],
        "exclusion_buffer_km": 20, "placebo_units": ["bay"],
    },
    "rdd": {"running": "distance", "cutoff": 5, "bandwidth": 2, "kernel": "triangular"},
    "iv": {"instrument": "old_railway", "monotonicity": "increasing"},
}  # fmt: skip


def block(strategy, **changes):
    """A valid block; changes are dotted keys with __ for the dot."""
    made = json.loads(json.dumps(SHARED)) | {
        "strategy": strategy,
        "design_specific": json.loads(json.dumps(SPECIFIC[strategy])),
    }
    if strategy == "rct":
        made["treatment"]["assignment"] = "randomised"
    for key, value in changes.items():
        *path, last = key.split("__")
        target = made
        for part in path:
            target = target[part]
        target[last] = value
    return made


@pytest.mark.parametrize("strategy", SPECIFIC)
def test_a_valid_design_of_every_strategy_passes(strategy):
    design = Design(**block(strategy))
    assert design.strategy == strategy
    assert canonical(design)["design_specific"].items() <= SPECIFIC[strategy].items()


@pytest.mark.parametrize("strategy", SPECIFIC)
def test_every_field_of_a_strategy_is_required_and_none_may_be_added(strategy):
    for key in SPECIFIC[strategy]:
        less = block(strategy)
        del less["design_specific"][key]
        with pytest.raises(DesignError, match=rf"design_specific\.{key} is missing"):
            Design(**less)
    with pytest.raises(DesignError, match=r"design_specific\.magic is .*no such key"):
        Design(**block(strategy, design_specific__magic=1))


@pytest.mark.parametrize(
    ("strategy", "changes", "key", "words"),
    [
        ("rct", {"treatment__assignment": "observed"}, "treatment.assignment", "randomised"),
        ("rct", {"design_specific__p_treat": 1.0}, "design_specific.p_treat", "less than 1"),
        ("rct", {"design_specific__p_treat": 0}, "design_specific.p_treat", "greater than 0"),
        ("rct", {"estimand__quantity": "LATE"}, "estimand.quantity", "strategy iv"),
        ("conditional_exogeneity", {"confounders": {}}, "confounders", "at least one"),
        ("conditional_exogeneity", {"confounders__imagery__window": ["2009", "2012-03"]},
         "confounders.imagery.window", "End it earlier"),
        ("conditional_exogeneity", {"confounders__imagery__window": ["2009", "2012"]},
         "confounders.imagery.window", "2012-03-01"),
        ("conditional_exogeneity", {"treatment__announcement_date": "2011-12-31"},
         "confounders.imagery.window", "2011-12-31"),
        ("conditional_exogeneity", {"confounders__imagery__window": ["2012", "2009"]},
         "confounders.imagery.window", "before it begins"),
        ("conditional_exogeneity", {"excluded__colliders": ["slope"]}, "confounders.tabular",
         "slope"),
        ("conditional_exogeneity", {"confounders__tabular": ["wealth"]}, "confounders.tabular",
         "outcome"),
        ("panel_dml", {"design_specific__approach": "magic"}, "design_specific.approach",
         "cre_general"),
        ("did", {"design_specific__time": "village"}, "design_specific.time", "unit"),
        ("bsts", {"design_specific__post": ["2012-02", "2015"]}, "design_specific.post",
         "overlaps pre"),
        ("bsts", {"design_specific__pre": ["2008", "2012-03"]}, "design_specific.pre",
         "before the intervention"),
        ("bsts", {"design_specific__exclusion_buffer_km": 61}, "design_specific.controls",
         "'far'.*inside the buffer"),
        ("rdd", {"design_specific__kernel": "boxy"}, "design_specific.kernel", "triangular"),
        ("rdd", {"design_specific__running": "wealth"}, "design_specific.running", "outcome"),
        ("iv", {"confounders__tabular": ["old_railway"]}, "design_specific.instrument",
         "confounders"),
        ("iv", {"outcome__source": "map"}, "outcome.map_version", "source: map"),
        ("iv", {"outcome__support": None}, "outcome.support", "manski"),
        ("iv", {"outcome__support": [3, -3]}, "outcome.support", "least value stands first"),
        ("iv", {"design_specific": None}, "design_specific", "valid dictionary"),
        ("iv", {"inference__cutoff_km": None}, "inference.cutoff_km", "conley"),
        ("iv", {"treatment__start_date": "May"}, "treatment.start_date", "'May'.*YYYY-MM"),
        ("iv", {"treatment__start_date": "2012-13"}, "treatment.start_date", "no date"),
        ("iv", {"version": "1-2"}, "version", "1-2"),
        ("iv", {"typo": 1}, "typo", "no such key"),
    ],
)  # fmt: skip
def test_what_contradicts_a_design_is_named(strategy, changes, key, words):
    with pytest.raises(DesignError, match=words) as caught:
        Design(**block(strategy, **changes))
    assert caught.value.facts["key"] == key
    assert caught.value.message.startswith(f"design.{key} is ")
    assert "\n" not in caught.value.message


def test_an_unknown_strategy_lists_those_there_are():
    with pytest.raises(DesignError, match=r"design\.strategy is 'guess'.*'panel_dml'"):
        Design(**block("iv") | {"strategy": "guess"})


def test_late_is_for_instruments_and_a_map_says_whether_its_error_counts():
    assert Design(**block("iv", estimand__quantity="LATE")).estimand.quantity == "LATE"
    result = {"estimate": 1.0, "n": 10}
    on_map = {"outcome__source": "map", "outcome__map_version": "v2"}
    with pytest.raises(DesignError, match="map_uncertainty_included"):
        Design(**block("iv", **on_map, result=result))
    Design(**block("iv", **on_map, result=result | {"map_uncertainty_included": False}))


def test_images_may_reach_the_day_before_the_treatment_and_no_further():
    Design(**block("conditional_exogeneity", confounders__imagery__window=["2009", "2012-02-29"]))
    with pytest.raises(DesignError, match=r"imagery\.window"):
        Design(
            **block("conditional_exogeneity", confounders__imagery__window=["2009", "2012-03-01"])
        )


def test_the_hash_is_of_content_not_of_writing():
    design = Design(**block("rdd"))
    backwards = dict(reversed(block("rdd").items()))
    written = block("rdd", design_specific__cutoff=5.0, design_specific__bandwidth="2.0")
    assert design_hash(design) == design_hash(Design(**backwards))
    assert design_hash(design) == design_hash(Design(**written))
    assert design_hash(design) == block_hash(json.loads(json.dumps(canonical(design), indent=4)))
    zero, minus = (Design(**block("rdd", design_specific__cutoff=cut)) for cut in (0, -0.0))
    assert design_hash(zero) == design_hash(minus)
    later = Design(**block("rdd"), registered_at="2026-01-01", result={"estimate": 1.0, "n": 3})
    assert design_hash(later) == design_hash(design)


def test_the_hash_is_sha_256_of_utf_8_json_with_sorted_keys_and_no_white_space():
    block = {"b": [1.0, 0.1, -0.0], "a": "é", "result": 3, "registered_at": "now"}
    # printf '{"a":"é","b":[1,0.1,0]}' | sha256sum
    assert block_hash(block) == "bd3a8ec19e69e92d966639b42f63279ccbdccc18b92a8ba2e93ae186adbdd93b"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "rails"}, {"version": "2"}, {"question": "Why?"}, {"estimand__population": "towns"},
        {"units__resolution_m": 31}, {"time__end": "2016"}, {"treatment__start_date": "2012-04"},
        {"outcome__units": "dollars"}, {"confounders__tabular": ["slope", "rain"]},
        {"confounders__imagery__window": ["2009", "2010"]}, {"excluded__colliders": ["price"]},
        {"inference__alpha": 0.1}, {"inference__cutoff_km": None, "inference__se": "iid"},
        {"sensitivity": ["rv"]}, {"placebos": []}, {"design_specific__overlap": "clip 0.02"},
    ],
)  # fmt: skip
def test_any_changed_value_changes_the_hash(changes):
    strategy = "conditional_exogeneity"
    first, second = Design(**block(strategy)), Design(**block(strategy, **changes))
    assert design_hash(first) != design_hash(second)


def test_what_is_typed_is_joined_to_what_the_settings_say():
    text = DesignText.model_validate(
        {"strategy": "rct", "population": "schools", "design_specific": {"p_treat": "0.5"}}
    )
    derived = {key: SHARED[key] for key in ("units", "outcome")} | {
        "treatment": SHARED["treatment"] | {"assignment": "randomised"},
        "design_specific": {"strata": [], "cluster": None},
        "estimand": {"horizon": "3 years"},
    }
    design = text.complete("trial", "Why?", derived)
    assert (design.id, design.version, design.question) == ("trial", "1", "Why?")
    assert design.estimand.model_dump() == {
        "quantity": "ATE", "population": "schools", "horizon": "3 years",
    }  # fmt: skip
    assert design.design_specific.p_treat == 0.5
    twice = derived | {"design_specific": {"strata": [], "cluster": None, "p_treat": 0.4}}
    with pytest.raises(DesignError, match=r"p_treat is '0.5'.*settings \(0.4\)"):
        text.complete("trial", None, twice)


def years(road):
    villages = np.repeat(["a", "b"], 3)
    return pd.DataFrame({"village": villages, "year": [1, 2, 3] * 2, "road": road})


@pytest.mark.parametrize("strategy", ["did", "panel_dml"])
def test_a_panel_needs_untreated_periods_and_a_treatment_that_changes(strategy):
    design = Design(**block(strategy))
    check_design_data(design, years([0, 0, 1, 0, 0, 0]))
    for road, words in (([1] * 6, "untreated"), ([1, 1, 1, 0, 0, 0], "constant over time")):
        with pytest.raises(DesignError, match=words) as caught:
            check_design_data(design, years(road))
        assert caught.value.facts["key"] == "treatment.column"
    with pytest.raises(DesignError, match="'village': the data have no such column"):
        check_design_data(design, years([0, 0, 1, 0, 0, 0]).drop(columns="village"))


def test_a_discontinuity_needs_its_cutoff_inside_and_units_on_both_sides():
    running = pd.DataFrame({"distance": np.linspace(0, 10, 201)})
    check_design_data(Design(**block("rdd")), running)
    for changes, key in (
        ({"design_specific__cutoff": 10}, "design_specific.cutoff"),
        ({"design_specific__cutoff": -1}, "design_specific.cutoff"),
        ({"design_specific__bandwidth": 0.94}, "design_specific.bandwidth"),
    ):
        with pytest.raises(DesignError) as caught:
            check_design_data(Design(**block("rdd", **changes)), running)
        assert caught.value.facts["key"] == key


def test_a_weak_instrument_warns_with_the_f_of_the_first_stage():
    random = np.random.default_rng(0)
    slope, old_railway, noise = random.standard_normal((3, 400))
    table = pd.DataFrame({"slope": slope, "old_railway": old_railway})
    design = Design(**block("iv"))
    check_design_data(design, table.assign(road=old_railway + slope + noise))
    weak = table.assign(road=0.05 * old_railway + slope + noise)
    with pytest.warns(EOCausalWarning, match="first-stage F") as caught:
        check_design_data(design, weak)
    import statsmodels.api

    fit = statsmodels.api.OLS(
        weak["road"], statsmodels.api.add_constant(weak[["slope", "old_railway"]])
    ).fit()
    assert f"{fit.tvalues['old_railway'] ** 2:.1f}" in str(caught[0].message)
